"""A few nodes under one clock, whose network and timers a test holds in its hand.

Everything that is on its way (packets, both legs of a stream, timers) lies in ``pending``. A
test lets it happen in time (``run``), in any order (``deliver``), twice, or never (``drop``).
After every step of every node its invariants are checked, and what holds from one step to the
next. So a test that only drives a world is a test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, TypeAlias

from swimsim import invariants, rng, serf_view
from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    ChangeKeyring,
    Effect,
    Emit,
    Event,
    Exchange,
    Joined,
    Reply,
    Send,
    Then,
    no_keyring,
)
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    Input,
    Received,
    Start,
)
from swimsim.member import ALIVE, DEAD, Status
from swimsim.members import Members
from swimsim.messages import Ack, IndirectPing, Message, Nack, Ping, packet_size
from swimsim.node import Node, create, step
from swimsim.terms import MS, Address, Micros, NodeId
from tests.builders import at, group

Kind: TypeAlias = Literal["timer", "packet", "request", "reply", "timeout"]
Watcher: TypeAlias = Callable[["World", str, Node, Input, Node, tuple[Effect, ...]], None]


class Due(NamedTuple):
    """Something on its way."""

    time: Micros
    order: int  # among equals, first come first served
    kind: Kind
    host: str  # where it will happen
    life: int  # of the process that it is meant for; 0: whichever is there
    input: Input


class Stream(NamedTuple):
    """A stream exchange under way."""

    client: str
    life: int
    exchange: int
    server: str


class World:
    """Hosts by a letter, each with an address; on a host lives at most one node.

    ``latency`` is that of packets and of each leg of a stream. ``watchers`` are called after
    every step. ``owners_only`` also checks that nobody but its owner raises an incarnation;
    a test that forges messages switches it off.
    """

    def __init__(
        self,
        hosts: str,
        config: Config = LAN,
        *,
        seed: int = 0,
        latency: Micros = MS,
        settled: bool = True,
        owners_only: bool = True,
    ) -> None:
        self.now: Micros = 0
        self.config = config
        self.seed = seed
        self.latency = latency
        self.owners_only = owners_only
        self.nodes: dict[str, Node] = {}
        self.lives: Counter[str] = Counter()
        self.pending: list[Due] = []
        self.streams: dict[int, Stream] = {}
        self.lost_packets: set[tuple[str, str]] = set()  # (from, to) that loses all packets
        self.lost_streams: set[tuple[str, str]] = set()
        self.watchers: list[Watcher] = []
        self.told: list[tuple[Micros, str, Event]] = []
        self.sent: list[tuple[Micros, str, Send]] = []
        self.spoken: Counter[NodeId] = Counter()  # the highest incarnation that owners used
        self.seen: Counter[str] = Counter()  # what happened, for tests that want it reached
        self._order = 0
        self._opened = 0
        for host in hosts:
            self.spawn(host, members=group(hosts, vsn=config.vsn) if settled else None)

    # --- processes ----------------------------------------------------------------------

    def spawn(
        self,
        host: str,
        *,
        name: str = "",
        members: Members | None = None,
        config: Config | None = None,
        meta: bytes = b"",
    ) -> None:
        """Start a node on ``host``, named like it if not otherwise."""
        self.kill(host)
        self.lives[host] += 1
        for member in members or ():
            self.spoken[member.peer.name] |= member.incarnation
        seed = rng.seed(self.seed, host, self.lives[host])
        name_ = NodeId(name or host)
        self.nodes[host] = create(name_, at(host), config or self.config, seed=seed, meta=meta)
        self.feed(host, Start(members))

    def kill(self, host: str) -> None:
        """The process ends without a word."""
        self.nodes.pop(host, None)

    # --- the network --------------------------------------------------------------------

    def cut(self, *groups: str, streams: bool = True) -> None:
        """No packet passes between hosts of different groups, and no stream either."""
        for one in groups:
            for other in groups:
                if one != other:
                    pairs = {(a, b) for a in one for b in other}
                    self.lost_packets |= pairs
                    if streams:
                        self.lost_streams |= pairs

    def heal(self) -> None:
        """Everything passes again."""
        self.lost_packets.clear()
        self.lost_streams.clear()

    def host_at(self, address: Address) -> str | None:
        """The host that has this address."""
        return next((host for host, node in self.nodes.items() if node.address == address), None)

    # --- time ---------------------------------------------------------------------------

    def run(self, duration: Micros) -> None:
        """Let everything that is due happen, in order of time."""
        until = self.now + duration
        while self.pending:
            due = min(self.pending)
            if due.time > until:
                break
            self.deliver(due)
        self.now = until

    def deliver(self, due: Due) -> None:
        """Let this happen, now or when it is due, whichever is later."""
        self.pending.remove(due)
        self.now = max(self.now, due.time)
        if due.kind == "request":
            self._request(due)
        elif due.kind in ("reply", "timeout"):
            self._end(due)
        elif due.host in self.nodes and due.life in (0, self.lives[due.host]):
            self.feed(due.host, due.input)

    def drop(self, due: Due) -> None:
        """A packet or a leg of a stream is lost; timers never are."""
        if due.kind in ("packet", "request", "reply"):
            self.pending.remove(due)

    def repeat(self, due: Due) -> None:
        """A packet arrives twice."""
        if due.kind == "packet":
            self._push(due.time, "packet", due.host, due.life, due.input)

    def feed(self, host: str, input: Input) -> None:
        """Give one node one input, check what must hold, and carry out what it asks."""
        before = self.nodes[host]
        after, effects = step(before, self.now, input)
        self.nodes[host] = after
        self._check(before, after, effects)
        self._note(before, input, after, effects)
        for watcher in self.watchers:
            watcher(self, host, before, input, after, effects)
        for effect in effects:
            match effect:
                case Send(to, messages):
                    self.sent.append((self.now, host, effect))
                    self._send(host, to, messages)
                case After(delay, later):
                    assert delay >= 0
                    self._push(self.now + delay, "timer", host, self.lives[host], later)
                case Exchange():
                    self._open(host, effect)
                case Reply(exchange, response):
                    self._reply(exchange, response)
                case ChangeKeyring():
                    self._push(self.now, "timer", host, self.lives[host], no_keyring(effect))
                case Emit(event):
                    self.told.append((self.now, host, event))

    # --- what one asks of it ------------------------------------------------------------

    def status(self, observer: str, name: str) -> Status | None:
        """What one believes of another."""
        known = self.nodes[observer].members.get(NodeId(name))
        return None if known is None else known.status

    def all_alive(self) -> bool:
        """Whether everybody here believes everybody here alive, in its current incarnation."""
        return all(
            (known := observer.members.get(node.name)) is not None
            and known.status == ALIVE
            and known.incarnation == node.membership.incarnation
            for observer in self.nodes.values()
            for node in self.nodes.values()
        )

    def events(self, kind: type[Event], *, by: str = "") -> list[Event]:
        """What owners were told, of one kind, by one host or all."""
        return [event for _, host, event in self.told if type(event) is kind and by in ("", host)]

    def messages(self, kind: type[Message], *, by: str = "") -> list[Message]:
        """What was sent, of one kind, by one host or all."""
        return [
            message
            for _, host, send in self.sent
            if by in ("", host)
            for message in send.messages
            if type(message) is kind
        ]

    # --- how it works -------------------------------------------------------------------

    def _push(self, time: Micros, kind: Kind, host: str, life: int, input: Input) -> None:
        self._order += 1
        self.pending.append(Due(time, self._order, kind, host, life, input))

    def _send(self, host: str, to: Address, messages: tuple[Message, ...]) -> None:
        dest = self.host_at(to)
        if dest is not None and (host, dest) not in self.lost_packets:
            packet = Received(self.nodes[host].address, messages)
            self._push(self.now + self.latency, "packet", dest, 0, packet)

    def _open(self, host: str, effect: Exchange) -> None:
        dest = self.host_at(effect.to)
        self._opened += 1
        name = self._opened
        self.streams[name] = Stream(host, self.lives[host], effect.exchange, dest or "")
        late = ExchangeFailed(name, "timed out")
        self._push(self.now + effect.timeout, "timeout", host, 0, late)
        if dest is None:
            refused = ExchangeFailed(name, "refused")
            self._push(self.now + self.latency, "reply", host, 0, refused)
        elif (host, dest) not in self.lost_streams:
            request = ExchangeRequested(name, self.nodes[host].address, effect.request)
            self._push(self.now + self.latency, "request", dest, 0, request)

    def _request(self, due: Due) -> None:
        assert isinstance(due.input, ExchangeRequested)
        if due.host in self.nodes and due.input.exchange in self.streams:
            self.feed(due.host, due.input)

    def _reply(self, name: int, response: object) -> None:
        stream = self.streams.get(name)
        if stream is None or (stream.server, stream.client) in self.lost_streams:
            return
        answer: Input = ExchangeFailed(name, "closed")
        if response is not None:
            answer = Exchanged(name, response)
        self._push(self.now + self.latency, "reply", stream.client, 0, answer)

    def _end(self, due: Due) -> None:
        """The exchange is over for the client, under its own name for it."""
        assert isinstance(due.input, Exchanged | ExchangeFailed)
        stream = self.streams.pop(due.input.exchange, None)
        if stream is None or self.lives[stream.client] != stream.life:
            return
        if stream.client not in self.nodes:
            return
        if isinstance(due.input, Exchanged):
            self.feed(stream.client, Exchanged(stream.exchange, due.input.response))
        else:
            self.feed(stream.client, ExchangeFailed(stream.exchange, due.input.reason))

    def _check(self, before: Node, after: Node, effects: tuple[Effect, ...]) -> None:
        invariants.check(after)
        assert not any(isinstance(effect, Then) for effect in effects)
        for effect in effects:
            if isinstance(effect, Send):
                assert effect.messages
                assert packet_size(effect.messages, False, after.config) <= (
                    after.config.packet_size + 2
                )
        clocks = zip(serf_view.clocks(before), serf_view.clocks(after), strict=True)
        assert all(one <= other for one, other in clocks), "clocks never go back"
        me, said = after.name, after.membership.incarnation
        assert said >= before.membership.incarnation, "one's own incarnation never falls"
        self.spoken[me] = max(self.spoken[me], said)
        for member in after.members:
            name = member.peer.name
            if self.owners_only:
                assert member.incarnation <= self.spoken[name], "only the owner raises it"
            known = before.members.get(name)
            if known is None or known == member or known.peer.address != member.peer.address:
                continue
            assert member.incarnation >= known.incarnation, "incarnations never fall"
            if known.status >= DEAD:
                assert member.status == ALIVE, "the gone do nothing but return"
                assert member.incarnation > known.incarnation, "and only in a higher incarnation"

    def _note(self, before: Node, input: Input, after: Node, effects: tuple[Effect, ...]) -> None:
        """Count the cases that are rare."""
        seen = self.seen
        for effect in effects:
            if isinstance(effect, Emit):
                seen[type(effect.event).__name__] += 1
                if isinstance(effect.event, Joined):
                    known = before.members.get(effect.event.peer.name)
                    if known is not None and known.status >= DEAD:
                        moved = known.peer.address != effect.event.peer.address
                        seen["reclaimed" if moved else "rejoined"] += 1
            if isinstance(effect, Send):
                head = effect.messages[0]
                if isinstance(head, Nack | IndirectPing):
                    seen[type(head).__name__] += 1
                if isinstance(head, Ack) and len(before.probe.relays) > len(after.probe.relays):
                    seen["relayed ack"] += 1
                seen["buddy ping"] += isinstance(head, Ping) and effect.crc
        seen["kept tick"] += after.probe.kept and not before.probe.kept
        seen["stream ping"] += isinstance(input, Exchanged) and isinstance(input.response, Ack)
        seen["failed exchange"] += isinstance(input, ExchangeFailed)
        seen["forgotten"] += len(after.members) < len(before.members)
        seen["confirmed"] += any(
            len(running.accusers) > 1 for running in after.membership.suspicions.values()
        )
        if after.health != before.health:
            seen["worse health" if after.health > before.health else "better health"] += 1
        if after is before and not effects:
            seen["changed nothing"] += 1


def alive_names(node: Node) -> set[str]:
    """Whom a node believes alive."""
    return {member.peer.name for member in node.members if member.status == ALIVE}


def together(worlds: Iterable[World]) -> Counter[str]:
    """What happened in any of these."""
    total: Counter[str] = Counter()
    for world in worlds:
        total.update(world.seen)
    return total
