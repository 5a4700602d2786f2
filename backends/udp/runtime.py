"""The loop that carries one node: inputs in, effects out.

    async with Runtime("web-1", bind="10.0.0.5:7946") as node:
        await node.join(["10.0.0.1"])
        print([str(member.peer.address) for member in node.members])
        node.event("deploy", b"v1")
        async for answer in node.query("load", acks=False):
            print(answer.node, answer.payload)
        async for happened in node.events(UserEventReceived):
            ...

With ``config=SERF`` it is a member of a cluster of Serf agents, tags, events, queries and all.

The runtime owns time and sockets and decides nothing. Everything happens in one event loop, and
``step`` runs to its end before anything else happens, so a node is never seen half-way. Hundreds
of runtimes may share a loop and a process.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from itertools import count
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload
from weakref import WeakSet

from msgspec.structs import replace

from backends.udp import addresses
from backends.udp.clock import HEARTBEAT, Clock
from backends.udp.events import Events, EventT, JoinError
from backends.udp.requests import Requests
from backends.udp.transport import SocketAddress, Transport
from backends.udp.verbs import SerfVerbs
from swimsim import node as protocol
from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    ChangeKeyring,
    Effect,
    Emit,
    Event,
    Exchange,
    JoinFinished,
    LeaveFinished,
    Reply,
    Send,
    UpdateFinished,
    no_keyring,
)
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    Input,
    Join,
    KeyringAnswered,
    Leave,
    Received,
    Restore,
    Start,
    UpdateMeta,
)
from swimsim.member import SUSPECT, Member, Peer, peer
from swimsim.messages import (
    Ack,
    Alive,
    IndirectPing,
    Message,
    Ping,
    PushPull,
    Response,
    User,
)
from swimsim.node import Node, Step
from swimsim.rng import Rng
from swimsim.swim.membership import is_allowed
from swimsim.terms import SECOND, Address, Micros, NodeId
from swimsim.wire import (
    Envelope,
    ErrorReply,
    Keyring,
    KeyringError,
    Limits,
    StreamMessage,
    WireError,
    keyring,
    packet,
    serf,
)

NONCE = 12  # bytes
LEAVE_TIMEOUT: Micros = 5 * SECOND
LIMITS = Limits(nodes=131_072, stream=20 << 20, decompressed=20 << 20)
"""memberlist's limits admit streams that take minutes and half a gigabyte to take in. These are
for a hundred thousand members, whose push/pull has some 15 MB."""


SERF: Config = replace(LAN, serf=True)
"""The settings of a Serf agent in a local network."""

E = TypeVar("E", JoinFinished, LeaveFinished)


class Journal(Protocol):
    """Stands where ``swimsim.node.step`` would stand, and keeps what happens."""

    def step(self, node: Node, now: Micros, input: Input) -> Step:
        """Do the same."""


class Runtime(SerfVerbs):
    """One member of a real cluster.

    ``bind`` is ``host:port`` (port 0: any free one), ``advertise`` what others are told when that
    differs, with the port that was bound unless it names another; the rest as in
    ``swimsim.wire.Envelope``. ``tags`` are Serf's and stand in place of ``meta``. ``restore``
    is what an earlier life remembered. ``save_keyring`` keeps a ring that the cluster changed,
    before the change is acknowledged; it runs in a thread and may raise OSError. ``listener`` is
    called with every event, in the midst of things: it must not ask anything of the node; what
    it raises is reported, and costs nothing else.
    ``seed`` is all of the node's randomness; by default the system provides it. Raises
    ValueError for what no member can be.

    A runtime lives once: after ``stop``, or a start that failed, make another.
    """

    def __init__(
        self,
        name: str,
        *,
        bind: str = "0.0.0.0",
        advertise: str | None = None,
        config: Config = LAN,
        meta: bytes = b"",
        tags: Mapping[str, str] | None = None,
        restore: Restore | None = None,
        keyring: Keyring | None = None,
        save_keyring: Callable[[Keyring], None] | None = None,
        label: bytes = b"",
        verify_incoming: bool = True,
        verify_outgoing: bool = True,
        compress: bool = True,
        seed: Rng | None = None,
        clock: Clock | None = None,
        journal: Journal | None = None,
        listener: Callable[[Event], None] | None = None,
    ) -> None:
        if not name:
            raise ValueError("the name is empty")
        self._name = NodeId(name)
        self._bind = addresses.parse(bind)
        self._advertise = None if advertise is None else addresses.parse(advertise, 0)
        if tags is not None or (config.serf and not meta):
            meta = serf.encode_tags(dict(sorted((tags or {}).items())), config.vsn[5])
        self._meta = UpdateMeta(meta).meta
        self._restore = restore
        self._save_keyring = save_keyring
        self.envelope = Envelope(
            label=label,
            keyring=keyring,
            verify_incoming=verify_incoming,
            verify_outgoing=verify_outgoing,
            compress=compress,
            limits=LIMITS,
        )
        self._config = replace(config, encrypted=keyring is not None, label_size=len(label))
        self._seed = int.from_bytes(os.urandom(8), "big") if seed is None else seed
        self._clock = clock or Clock()
        self._step = protocol.step if journal is None else journal.step
        self.counters: Counter[str] = Counter()
        self.node: Node | None = None  # None: not started
        self._transport = Transport(
            self.envelope,
            self._nonce,
            config.stream_timeout,
            self._on_packet,
            self._on_stream,
            self._on_error,
            self.counters,
        )
        self._timers: list[tuple[Micros, int, Input]] = []
        self._order = count()
        self._wake: asyncio.TimerHandle | None = None
        self._alarm: Micros = 0  # when ``_wake`` rings
        self._replies: dict[int, asyncio.Future[Response | None]] = {}
        self._exchanges = count(1)
        self._listeners: WeakSet[Events[Any]] = WeakSet()
        self._listener = listener
        self._requests = Requests(self.feed)
        self._joining = asyncio.Lock()
        self._rekeying = asyncio.Lock()
        self._changing = asyncio.Lock()  # starts, or stops
        self._begun = self._stopped = False
        self._port = 0  # the one that is bound
        self._bound = Address(b"", 0)

    # --- life ----------------------------------------------------------------------------

    async def start(self) -> Self:
        """Open the sockets and begin to live. Raises OSError; a failed start leaves nothing."""
        if self._begun:
            raise RuntimeError("a runtime starts once")
        self._begun = True
        async with self._changing:
            try:
                bound = await self._transport.open(*self._bind)
                address = await self._advertised(bound)
                if self._stopped:
                    raise RuntimeError("the node was stopped before it had started")
                self.node = protocol.create(
                    self._name, address, self._config, seed=self._seed, meta=self._meta
                )
                if self._restore is not None:
                    self.feed(self._restore)
                self.feed(Start())
            except BaseException:
                await self._end()
                raise
        return self

    async def stop(self) -> None:
        """End at once, without a word to the others; again, it does nothing."""
        self._begun = self._stopped = True
        async with self._changing:
            await self._end()

    async def _end(self) -> None:
        self.node = None
        self._stopped = True
        if self._wake is not None:
            self._wake.cancel()
        self._timers.clear()
        for listener in self._listeners:
            listener.put(None)
        self._listeners.clear()
        self._requests.stop()
        for reply in self._replies.values():
            reply.cancel()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _advertised(self, bound: SocketAddress) -> Address:
        host, self._port = bound
        self._bound = addresses.from_socket(host, self._port)
        port = self._port
        if self._advertise is not None:
            host, port = self._advertise
        if host in addresses.WILDCARDS:
            host = addresses.own_address(host)
        address, *_ = await addresses.look_up(host, port or self._port)
        return address

    # --- what its owner may ask ----------------------------------------------------------

    @property
    def name(self) -> NodeId:
        """Its name."""
        return self._name

    @property
    def me(self) -> Peer:
        """What it says of itself; raises RuntimeError before the start."""
        return self._running().membership.me

    @property
    def address(self) -> Address:
        """Where others reach it; raises RuntimeError before the start."""
        return self._running().address

    @property
    def bound(self) -> Address:
        """Where it listens, with the port that was taken when 0 was asked for."""
        return self._bound

    @property
    def members(self) -> list[Member]:
        """Who is alive or suspected, itself included, sorted by name."""
        present = (member for member in self.known if member.status <= SUSPECT)
        return sorted(present, key=lambda member: member.peer.name)

    @property
    def known(self) -> list[Member]:
        """Every record it holds, of the dead and of those who left as well."""
        return list(self._running().members)

    @property
    def health(self) -> int:
        """The local health score; 0 is healthy."""
        return self._running().health

    async def join(
        self, targets: Iterable[str], *, replay: bool = False, quiet: bool = False
    ) -> int:
        """Exchange states with each of these addresses; how many of them answered.

        With ``replay`` the user events that they remember are told; ``quiet`` joins without
        saying so, as somebody does who was there before.

        Each is ``host``, ``host:port`` or ``name/host:port``, where the port is this node's own
        unless it is given. Names are looked up, and may have several addresses. Raises
        ``JoinError`` when nobody answered, and ``AddressError``.
        """
        self._running()
        places = [addresses.parse(each.rpartition("/")[2], self._port) for each in targets]
        found: dict[Address, None] = {}
        told: list[tuple[str, str]] = []
        for host, port in places:
            try:
                found.update(dict.fromkeys(await addresses.look_up(host, port)))
            except OSError as error:
                told.append((host, error.strerror or str(error)))
        async with self._joining:
            if self._running().upkeep.anti_entropy.joining is not None:
                await self._event(JoinFinished, None)  # of a join that was cancelled
            request = Join(tuple(found), ignore_old=not replay, quiet=quiet)
            finished = await self._event(JoinFinished, request)
        told += [(str(address), reason) for address, reason in finished.failures]
        if told and not finished.contacted:
            raise JoinError(told)
        return finished.contacted

    async def leave(self, timeout: Micros = LEAVE_TIMEOUT) -> bool:
        """Say farewell; whether it was said often enough before ``timeout``. Then ``stop``."""
        finished = await self._event(LeaveFinished, Leave(timeout))
        await self._transport.flush()
        return not finished.timed_out

    async def update_meta(self, meta: bytes) -> None:
        """Carry this metadata from now on; returns when the news has been sent often enough.

        Raises ValueError when it is too long.
        """
        self._running()
        said = self.events(UpdateFinished)
        self.feed(UpdateMeta(meta))
        mine = self._running().membership.incarnation
        async for event in said:
            assert isinstance(event, UpdateFinished)
            if event.incarnation >= mine:  # an earlier update ends when this one displaces it
                return
        raise RuntimeError("the node was stopped")

    @overload
    def events(self) -> Events[Event]: ...
    @overload
    def events(self, *kinds: type[EventT]) -> Events[EventT]: ...

    def events(self, *kinds: type[Any]) -> Events[Any]:
        """Everything that the node reports, or all of these kinds, from now until it stops.

        Whoever reads too slowly misses the oldest ones; ``counters`` says how many.
        """
        events: Events[Any] = Events(kinds)
        if self._stopped:
            events.put(None)
        else:
            self._listeners.add(events)
        return events

    def now(self) -> Micros:
        """The node's clock, by which its deadlines are."""
        return self._clock.now()

    async def _event(self, kind: type[E], request: Input | None) -> E:
        """Feed a request and wait for the event that ends it."""
        self._running()
        events = self.events(kind)
        if request is not None:
            self.feed(request)
        async for event in events:
            assert isinstance(event, kind)
            return event
        raise RuntimeError("the node was stopped")

    def _running(self) -> Node:
        if self.node is None:
            raise RuntimeError("the node does not run")
        return self.node

    # --- the loop ------------------------------------------------------------------------

    def feed(self, input: Input) -> None:
        """Let something happen to the node, and carry out what it asks, in order."""
        now = self._clock.now()
        self._happen(now, input)
        self._set_alarm(now)

    def _happen(self, now: Micros, input: Input) -> None:
        if self.node is None:
            return
        self.node, effects = self._step(self.node, now, input)
        for effect in effects:
            try:
                self._perform(now, effect)
            except Exception as error:  # the timers that follow are the node's pulse
                self._on_error(error)

    def _perform(self, now: Micros, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case After(delay, input):
                heappush(self._timers, (now + delay, next(self._order), input))
            case Emit(event):
                self._requests.hear(event)
                if self._listener is not None:
                    self._listener(event)
                for listener in self._listeners:
                    self.counters["events missed"] += listener.put(event)
            case Exchange():
                self._transport.spawn(self._exchange(effect))
            case Reply(exchange, response):
                reply = self._replies.get(exchange)
                if reply is not None and not reply.done():
                    reply.set_result(response)
            case ChangeKeyring() if self.envelope.keyring is None:
                self._happen(now, no_keyring(effect))
            case ChangeKeyring():
                self._transport.spawn(self._rekey(effect))

    def _set_alarm(self, now: Micros) -> None:
        """Wake when the next timer is due, and at every heartbeat for the clock's sake."""
        if self.node is None:
            return
        due = now + HEARTBEAT
        if self._timers:
            due = min(due, self._timers[0][0])
        if self._wake is not None:
            if self._alarm <= due:
                return
            self._wake.cancel()
        self._alarm = due
        wait = max(0, due - now) / SECOND
        self._wake = asyncio.get_running_loop().call_later(wait, self._on_alarm)

    def _on_alarm(self) -> None:
        """A timer is due; but first what has come is heard, or a late loop would accuse others.

        Where many nodes share a loop that is busy, the answer to a probe may lie there unread
        when its deadline has passed.
        """
        self._alarm = 0  # until the end of this, no other is set
        self._transport.hear()
        self._wake = None
        now = self._clock.now()
        while self._timers and self._timers[0][0] <= now:
            _, _, input = heappop(self._timers)
            try:
                self._happen(now, input)
            except Exception as error:
                self._on_error(error)
        self._set_alarm(now)

    def _on_error(self, error: BaseException) -> None:
        """An input that the node, or the runtime, fails on costs no more than that input."""
        self.counters["internal errors"] += 1
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"swimsim: node {self._name!r} failed on an input", "exception": error}
        )

    # --- keys ----------------------------------------------------------------------------

    async def _rekey(self, change: ChangeKeyring) -> None:
        """Change the ring, kept first and used then, and say how it went."""
        error = ""
        async with self._rekeying:
            ring = self.envelope.keyring
            assert ring is not None
            try:
                changed = _changed(ring, change)
                if changed is not ring and self._save_keyring is not None:
                    await asyncio.to_thread(self._save_keyring, changed)
                self.envelope = self._transport.envelope = replace(self.envelope, keyring=changed)
                ring = changed
            except (KeyringError, OSError) as failure:
                error = str(failure)
        texts = tuple(b64encode(key).decode() for key in ring.keys)
        listed = (texts, texts[0]) if change.operation == "list" else ((), "")
        self.feed(KeyringAnswered(change.ltime, change.query_id, change.operation, error, *listed))

    # --- packets -------------------------------------------------------------------------

    def _nonce(self) -> bytes | None:
        return os.urandom(NONCE) if self.envelope.outgoing is not None else None

    def _send(self, send: Send) -> None:
        to = addresses.to_socket(send.to)
        if to is None:
            self.counters["packets not sent"] += 1
            return
        try:
            data = packet.encode(send.messages, self.envelope, crc=send.crc, nonce=self._nonce())
        except ValueError:  # about somebody whose name is longer than any packet
            self.counters["packets not sent"] += 1
            return
        for message in send.messages:
            self.counters[f"{type(message).__name__.lower()} sent"] += 1
        self._transport.send(data, to)

    def _on_packet(self, data: bytes, source: SocketAddress) -> None:
        try:
            read = packet.decode(data, self.envelope)
        except WireError as error:
            self.counters[f"packets refused, {error.what}"] += 1
            return
        for refusal in read.refusals:
            self.counters[f"messages refused, {refusal.what}"] += 1
        origin = addresses.from_socket(*source)
        messages = tuple(map(self._with_port, read.messages))
        if not is_allowed(origin, self._config):
            messages = tuple(each for each in messages if not isinstance(each, Alive))
        for message in messages:
            self.counters[f"{type(message).__name__.lower()} received"] += 1
        if messages:
            try:
                self.feed(Received(origin, messages))
            except Exception as error:
                self._on_error(error)

    def _with_port(self, message: Message) -> Message:
        """The message; where it lacks the port of whom it is about, that is this node's own.

        Nodes of protocol version 1 know of no ports (spec memberlist.md, section 4).
        """
        match message:
            case Alive(incarnation, about) if not about.address.port:
                return Alive(incarnation, self._placed(about))
            case IndirectPing(target_address=Address(host, 0)):
                return replace(message, target_address=Address(host, self._port))
            case _:
                return message

    def _placed(self, about: Peer) -> Peer:
        if about.address.port:
            return about
        return peer(about.name, Address(about.address.host, self._port), about.meta, about.vsn)

    # --- streams -------------------------------------------------------------------------

    async def _on_stream(self, request: StreamMessage, source: SocketAddress) -> Response | None:
        """What to answer to a request, when the node has said it."""
        origin = addresses.from_socket(*source)
        if isinstance(request, User):
            self.feed(Received(origin, (request,)))
            return None
        if not isinstance(request, Ping | PushPull):
            self.counters["streams refused, unknown-type"] += 1
            return None
        if isinstance(request, PushPull):
            request = self._with_ports(request)
        exchange = next(self._exchanges)
        reply = self._replies[exchange] = asyncio.get_running_loop().create_future()
        try:
            self.feed(ExchangeRequested(exchange, origin, request))
            response: Response | None = await reply
            return response
        finally:
            del self._replies[exchange]

    def _with_ports(self, said: PushPull) -> PushPull:
        if all(member.peer.address.port for member in said.states):
            return said
        placed = (replace(each, peer=self._placed(each.peer)) for each in said.states)
        return replace(said, states=tuple(placed))

    async def _exchange(self, effect: Exchange) -> None:
        """Carry out one exchange and tell the node how it ended."""
        try:
            reply = await self._transport.exchange(effect.to, effect.request, effect.timeout)
            match effect.request, reply:
                case PushPull(), PushPull():
                    reply = self._with_ports(reply)
                case Ping(), Ack():
                    pass
                case _, ErrorReply(text):
                    raise OSError(f"refused: {text}")
                case _:
                    raise OSError("an unexpected reply")
            self.feed(Exchanged(effect.exchange, reply))
        except TimeoutError:
            failure = "timed out"
        except OSError as error:
            failure = os.strerror(error.errno).lower() if error.errno else str(error)
        except WireError as error:
            failure = str(error)
        except Exception as error:  # the node cannot take this in; the exchange must end even so
            self._on_error(error)
            failure = f"failed on the reply: {error}"
        else:
            self.counters["exchanges done"] += 1
            return
        self.counters["exchanges failed"] += 1
        self.feed(ExchangeFailed(effect.exchange, failure))


def _changed(ring: Keyring, change: ChangeKeyring) -> Keyring:
    """The ring after a change; raises ``KeyringError``."""
    match change.operation:
        case "install":
            return keyring.add(ring, change.key)
        case "use":
            return keyring.use(ring, change.key)
        case "remove":
            return keyring.remove(ring, change.key)
        case "list":
            return ring
