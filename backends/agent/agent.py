"""One agent: a node, and all that a ``serf agent`` is around it.

``Agent`` is what the RPC server, the handlers and an operator's script are in front of: it has
``Surface``. What the node reports goes one way, in this order (spec serf.md, 2.15): snapshot, log
and counters at once; then the coalescer; then handlers and streams.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from backends.agent import files, filters
from backends.agent.config import Plan, seconds
from backends.agent.handlers import Handlers
from backends.agent.history import History
from backends.agent.logs import Log
from backends.agent.snapshot import CLOCKS, Snapshot
from backends.agent.subscription import Subscription
from backends.agent.surface import (
    AgentError,
    AgentEvent,
    Answer,
    KeyAction,
    KeyReport,
    MemberEvent,
    MemberKind,
    QueryRequest,
    Question,
    UserMessage,
)
from backends.agent.telemetry import Metrics
from backends.udp import Answers, JoinError, RequestError, Runtime
from backends.udp.addresses import AddressError
from swimsim import serf_view
from swimsim.effects import (
    Cleared,
    Counted,
    Event,
    HealthChanged,
    MemberChanged,
    MergeRefused,
    NameContested,
    Noted,
    QueryAcked,
    QueryReceived,
    Refuted,
    Suspected,
    UserEventReceived,
)
from swimsim.member import Peer
from swimsim.serf import coalesce
from swimsim.serf.coalesce import Coalescer, MembersChanged, Told
from swimsim.serf.messages import STATUS_ALIVE, STATUS_NONE, Coordinate, MemberInfo
from swimsim.serf.metadata import tags_of
from swimsim.terms import LamportTime, NodeId

_KINDS = dict(zip(coalesce.KINDS, get_args(MemberKind), strict=True))
TICK_S = 0.5  # how often clocks are looked at for the snapshot

_WORDS = {
    "join": "Join",
    "leave": "Leave",
    "failed": "Failed",
    "update": "Update",
    "reap": "Reap",
}
_COUNTED = {"join": "join", "leave": "left", "failed": "failed", "update": "update"}
_KEY_WORDS = {
    "install": "installation",
    "use": "primary key change",
    "remove": "removal",
    "list": "listing",
}


class Ended(NamedTuple):
    """Why an agent ends, and with which status."""

    status: int


class AnswerFeed:
    """What comes back to a query, as the surface has it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def __aiter__(self) -> AnswerFeed:
        return self

    async def __anext__(self) -> Answer:
        said = await anext(self._answers)
        if isinstance(said, QueryAcked):
            return Answer(said.node, None, True)
        return Answer(said.node, said.payload, False)

    def close(self) -> None:
        """Ask for no more."""
        self._answers.close()


class Agent:
    """A node as its operator has it. ``begin`` it and ``end`` it; ``ending`` says when."""

    def __init__(self, plan: Plan, log: Log, tags: Mapping[str, str]) -> None:
        self.plan = plan
        self.log = log
        self.metrics = Metrics()
        self.history = History()
        self.snapshot: Snapshot | None = None
        self.handlers: Handlers | None = None
        self.ending: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.accused: dict[str, int] = {}  # how often a member was suspected
        self.accusers: dict[str, int] = {}  # how often it suspected somebody
        self._first_tags = dict(tags)
        self._runtime: Runtime | None = None
        self._streams: dict[Subscription[AgentEvent], tuple[filters.EventFilter, ...]] = {}
        self._coalescer = Coalescer()
        self._flushing: asyncio.TimerHandle | None = None
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Task[None] | None = None

    # --- life ----------------------------------------------------------------------------

    async def begin(self, runtime: Runtime, snapshot: Snapshot | None) -> None:
        """Start the node; raises OSError when its address is taken."""
        self._runtime, self.snapshot = runtime, snapshot
        timeout = seconds(self.plan.settings.handler_timeout)
        self.handlers = Handlers(self, self.plan.scripts, timeout)
        await runtime.start()
        self.spawn(self._listen())
        self.spawn(self._tick())
        if snapshot is not None:
            self.spawn(snapshot.run())
        self.log("INFO", "agent: Serf agent starting")

    def heard(self, event: Event) -> None:
        """An event of the node; to be its listener."""
        self._events.put_nowait(event)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside, until the end."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log("ERR", f"agent: internal error: {type(error).__name__}: {error}")

    async def end(self) -> None:
        """Stop everything, without a word to the others; what was said before is kept."""
        self.log("INFO", "agent: requesting serf shutdown")
        if self._leaving is None or not self._leaving.done():
            self.log("WARN", "serf: Shutdown without a Leave")
        while not self._events.empty():
            self._take(self._events.get_nowait())
        self._tell(coalesce.flush(self._coalescer).told)
        if self._flushing is not None:
            self._flushing.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.handlers is not None:
            await self.handlers.stop()
        self._note_clocks()
        if self.snapshot is not None:
            await self.snapshot.close()
        if self._runtime is not None:
            await self._runtime.stop()
        for stream in list(self._streams):
            stream.close()
        self.log("INFO", "agent: shutdown complete")

    def stop(self, status: int) -> None:
        """Have the process end, soon."""
        if not self.ending.done():
            self.ending.set_result(Ended(status))

    @property
    def runtime(self) -> Runtime:
        """The node's."""
        assert self._runtime is not None
        return self._runtime

    # --- what the node reports -----------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            self._take(await self._events.get())

    def _take(self, event: Event) -> None:
        match event:
            case MemberChanged(kind, peer, flap):
                self._on_member(kind, peer, flap)
            case UserEventReceived(ltime, name):
                self._remember_clock("event-clock", ltime)
                self.count("serf.events")
                self.count(f"serf.events.{name}")
            case QueryReceived(ltime, _, name):
                self._remember_clock("query-clock", ltime)
                self.count("serf.queries")
                self.count(f"serf.queries.{name}")
            case NameContested(lost=True):
                self.log("WARN", "agent: Serf shutdown detected, quitting")
                self.stop(0)
            case Noted(level, text):
                self.log(level, text)
            case Counted(metric):
                self.count(metric)
            case _:
                self._on_swim(event)
        if isinstance(event, MemberChanged | UserEventReceived | QueryReceived):
            self._coalesce(event)

    def _on_member(self, kind: str, peer: Peer, flap: bool) -> None:
        host = str(peer.address).rpartition(":")[0].strip("[]")
        where = "" if kind in ("update", "reap") else f" {host}"
        self.log("INFO", f"serf: EventMember{_WORDS[kind]}: {shown(peer.name)}{where}")
        if kind in _COUNTED:
            self.count(f"serf.member.{_COUNTED[kind]}")
        if flap:
            self.count("serf.member.flap")
        if self.snapshot is not None:
            match kind:
                case "join":
                    self.snapshot.joined(peer.name, str(peer.address))
                case "failed":
                    self.snapshot.failed(peer.name, str(peer.address))
                case "leave" | "reap":
                    self.snapshot.left(peer.name)
            self._note_clocks()
        if kind == "reap":
            self.accused.pop(peer.name, None)
            self.accusers.pop(peer.name, None)

    def _on_swim(self, event: Event) -> None:
        match event:
            case Suspected(node, incarnation, source):
                self.log("INFO", f"memberlist: suspect: {node}, {incarnation} (says {source})")
                self.accused[node] = self.accused.get(node, 0) + 1
                self.accusers[source] = self.accusers.get(source, 0) + 1
            case Cleared(node, incarnation):
                self.log("INFO", f"memberlist: alive after all: {node}, incarnation {incarnation}")
            case Refuted(incarnation):
                text = f"refuted a suspicion of this node, incarnation {incarnation}"
                self.log("WARN", f"memberlist: {text}")
            case MergeRefused(reason):
                self.log("WARN", f"memberlist: a peer's state was refused: {reason}")
            case HealthChanged(score):
                self.log("DEBUG", f"memberlist: local health score {score}")
                self.metrics.gauge("memberlist.health.score", score)
            case _:
                self.log("TRACE", f"memberlist: {type(event).__name__}")

    def _remember_clock(self, clock: str, time: LamportTime) -> None:
        if self.snapshot is not None:
            self.snapshot.reached(clock, time)

    def _note_clocks(self) -> None:
        node = self._runtime.node if self._runtime is not None else None
        if self.snapshot is None or node is None:
            return
        member, *_ = serf_view.clocks(node)
        self.snapshot.reached(CLOCKS[0], max(0, member - 1))
        self.snapshot.called(node.membership.incarnation)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._note_clocks()

    # --- to handlers and streams ---------------------------------------------------------

    def _coalesce(self, event: Event | None) -> None:
        now = self.runtime.now()
        config = self.plan.config
        self._coalescer, told, due = coalesce.step(self._coalescer, now, event, config)
        self._tell(told)
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if due is not None:
            loop = asyncio.get_running_loop()
            self._flushing = loop.call_later(seconds(due - now), self._coalesce, None)

    def _tell(self, told: Sequence[Told]) -> None:
        for each in told:
            event = self._surfaced(each)
            if event is None:
                continue
            kind = "query" if isinstance(event, Question) else "user-event"
            name = event.kind if isinstance(event, MemberEvent) else f"{kind}: {event.name}"
            self.log("INFO", f"agent: Received event: {shown(name)}")
            if self.handlers is not None:
                self.handlers.handle(event)
            for stream, wanted in list(self._streams.items()):
                if any(each.lets_pass(event) for each in wanted):
                    stream.put(event)

    def _surfaced(self, event: Told) -> AgentEvent | None:
        match event:
            case MembersChanged(kind, peers):
                return MemberEvent(_KINDS[kind], tuple(map(self._info, peers)))
            case UserEventReceived(ltime, name, payload, coalesced):
                return UserMessage(ltime, name, payload, coalesced)
            case QueryReceived(ltime, query_id, name, payload, deadline=deadline):
                left = seconds(deadline - self.runtime.now())
                expires = asyncio.get_running_loop().time() + left
                return Question(ltime, query_id, name, payload, expires)
            case _:
                return None

    def _info(self, peer: Peer) -> MemberInfo:
        node = self.runtime.node
        info = None if node is None else serf_view.member(node, peer.name)
        if info is not None and info.address == peer.address:
            return info
        tags = tuple(tags_of(peer.meta).items())
        return MemberInfo(peer.name, peer.address, peer.vsn, STATUS_NONE, tags)

    # --- the surface ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its node's name."""
        return self.plan.name

    def members(self) -> Sequence[MemberInfo]:
        """Everybody it knows."""
        return self.runtime.roster

    def event(self, name: str, payload: bytes | None, coalesce: bool) -> None:
        """Send a user event."""
        text = (payload or b"").decode(errors="replace")
        told = f"{name}. Coalesced: {str(coalesce).lower()}. Payload: {_quoted(text)}"
        self.log("DEBUG", f"agent: Requesting user event send: {told}")
        try:
            self.runtime.event(name, payload, coalesce=coalesce)
        except RequestError as error:
            self.log("WARN", f"agent: failed to send user event: {error}")
            raise AgentError(str(error)) from None

    def query(self, request: QueryRequest) -> AnswerFeed:
        """Ask the cluster."""
        text = _quoted((request.payload or b"").decode(errors="replace"))
        self.log("DEBUG", f"agent: Requesting query send: {request.name}. Payload: {text}")
        if request.name.startswith("_serf_") and (request.name != "_serf_ping" or request.payload):
            raise AgentError("Queries cannot contain the '_serf_' prefix")
        try:
            answers = self.runtime.query(
                request.name,
                request.payload or None if request.name == "_serf_ping" else request.payload,
                nodes=request.nodes,
                tags=request.tags,
                acks=request.acks,
                relay_factor=request.relay_factor,
                timeout=request.timeout_ns // 1000,
            )
        except RequestError as error:
            self.log("WARN", f"agent: failed to start user query: {error}")
            raise AgentError(str(error)) from None
        return AnswerFeed(answers)

    def respond(self, ltime: LamportTime, query_id: int, payload: bytes) -> None:
        """Answer a ``Question``."""
        try:
            self.runtime.respond(ltime, query_id, payload)
        except RequestError as error:
            raise AgentError(str(error)) from None

    async def join(self, addresses: Sequence[str], replay: bool) -> int:
        """Join; how many addresses answered."""
        self.log("INFO", f"agent: joining: [{' '.join(addresses)}] replay: {str(replay).lower()}")
        try:
            joined = await self.join_quietly(addresses, False, replay=replay)
        except AgentError as error:
            self.log("WARN", f"agent: error joining: {error}")
            raise
        self.log("INFO", f"agent: joined: {joined} nodes")
        return joined

    async def join_quietly(
        self, addresses: Sequence[str], quiet: bool, *, replay: bool = False
    ) -> int:
        """Join without a line of log; ``quiet``: as one who was there before."""
        if self._leaving is not None:
            raise AgentError("Serf can't Join after Leave or Shutdown")
        try:
            return await self.runtime.join(addresses, replay=replay, quiet=quiet)
        except JoinError as error:
            raise AgentError(_failures(error.failures)) from None
        except AddressError as error:
            raise AgentError(_failures([("", str(error))])) from None

    async def leave(self) -> None:
        """Say farewell."""
        self.log("INFO", "agent: requesting graceful leave from Serf")
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._farewell())
        elif not self._leaving.done():
            raise AgentError("Leave already in progress")
        await asyncio.shield(self._leaving)

    async def _farewell(self) -> None:
        if self.snapshot is not None:
            await self.snapshot.leave()
        if not await self.runtime.leave(self.plan.config.broadcast_timeout):
            self.log("WARN", "serf: timeout while waiting for graceful leave")

    def shutdown(self) -> None:
        """End the process, soon, with status 0."""
        self.stop(0)

    async def force_leave(self, node: str, prune: bool, force: bool = False) -> None:
        """Make a failed member a left one."""
        self.log("INFO", f"agent: Force leaving node{' (prune)' if prune else ''}: {node}")
        try:
            await self.runtime.force_leave(node, prune=prune, force=force)
        except RequestError as error:
            self.log("WARN", f"agent: failed to remove node: {error}")
            raise AgentError(str(error)) from None

    def tags(self) -> Mapping[str, str]:
        """Its own tags."""
        if self._runtime is None or self._runtime.node is None:
            return self._first_tags
        return self._runtime.tags

    async def set_tags(self, tags: Mapping[str, str], delete: Sequence[str]) -> None:
        """Delete, then set."""
        wanted = {name: text for name, text in self.tags().items() if name not in delete}
        await self.replace_tags({**wanted, **tags})

    async def replace_tags(self, wanted: Mapping[str, str]) -> None:
        """Carry these tags, and no others; keep them in the tags file if there is one."""
        before = dict(self.tags())
        path = self.plan.settings.tags_file
        if path:
            files.write_tags(Path(path), wanted)
        try:
            await self.runtime.set_tags(wanted)
        except RequestError as error:
            if path and dict(self.tags()) == before:
                files.write_tags(Path(path), before)
            raise AgentError(str(error)) from None

    async def keys(self, action: KeyAction, key: str = "") -> KeyReport:
        """Have all members install, use, remove or list keys."""
        self.log("INFO", f"agent: Initiating key {_KEY_WORDS[action].removeprefix('key ')}")
        try:
            report = await self.runtime.keys(action, key)
        except RequestError as error:
            raise AgentError(str(error)) from None
        return KeyReport(
            report.nodes,
            report.responses,
            report.errors,
            dict(report.messages),
            dict(report.keys),
            dict(report.primary_keys),
            report.error,
        )

    def stats(self) -> Mapping[str, Mapping[str, str]]:
        """What ``info`` shows."""
        serf = {} if self.runtime.node is None else dict(serf_view.stats(self.runtime.node))
        serf["encrypted"] = str(self.runtime.envelope.keyring is not None).lower()
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
        return {
            "agent": {"name": self.name},
            "runtime": {
                "os": platform.system().lower(),
                "arch": machine or platform.machine(),
                "version": f"python{platform.python_version()}",
                "max_procs": str(len(os.sched_getaffinity(0))),
                "goroutines": str(len(asyncio.all_tasks())),
                "cpu_count": str(os.cpu_count() or 1),
            },
            "serf": serf,
            "tags": dict(self.tags()),
            "event_handlers": {} if self.handlers is None else self.handlers.listed(),
        }

    def coordinate(self, node: str) -> Coordinate | None:
        """Where a member is."""
        return self.runtime.coordinate(node)

    def stream(self, filters_: str) -> Subscription[AgentEvent]:
        """The events that these filters let pass."""
        wanted = filters.parse(filters_)
        stream: Subscription[AgentEvent] = Subscription(
            on_drop=lambda: self.log("WARN", "agent.ipc: Dropping event to a slow reader"),
            on_close=self._forget_stream,
        )
        self._streams[stream] = wanted
        return stream

    def _forget_stream(self, stream: Subscription[AgentEvent]) -> None:
        self._streams.pop(stream, None)

    def monitor(self, level: str) -> Subscription[str]:
        """Log lines."""
        return self.log.monitor(level)

    def why(self, member: str) -> Sequence[str]:
        """Why it believes what it believes of a member."""
        lines = self.history.why(NodeId(member), self.runtime.now())
        if not lines:
            raise AgentError(f"no member of the name {member!r} was ever heard of")
        return lines

    def count(self, key: str, amount: float = 1) -> None:
        """Count for telemetry."""
        self.metrics.count(key, amount)

    def sample(self, key: str, value: float) -> None:
        """One measurement for telemetry."""
        self.metrics.sample(key, value)

    @property
    def alive(self) -> int:
        """How many members are, itself included."""
        return sum(each.status == STATUS_ALIVE for each in self.members())


def _failures(failures: Sequence[tuple[str, str]]) -> str:
    """What became of a join, as Serf says it (spec serf.md, 5.5)."""
    lines = []
    for where, reason in failures:
        if not where:
            lines.append(f"\t* {reason}")
        elif ":" in where:
            host = where.rpartition(":")[0].strip("[]")
            cause = "i/o timeout" if "timed out" in reason else f"connect: {reason}"
            lines.append(f"\t* Failed to join {host}: dial tcp {where}: {cause}")
        else:
            lines.append(f"\t* Failed to resolve {where}: {reason}")
    errors = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
    return "\n".join([f"{errors} occurred:", *lines, "\n"])


def shown(name: str) -> str:
    """A stranger's word in one line of log: what cannot be printed is escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def _quoted(text: str) -> str:
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'
