"""One member, and what it does with whatever happens to it.

    step(node, now, input) -> (node, effects)

``Node`` is an immutable value: all that one member knows. ``step`` hands the input to the
mechanism it concerns, lets the mechanisms tell each other what they must (``Then``) until
nobody has anything more to say, and fills the packets that go out with broadcasts. It reads
no clock, draws no random number of its own and changes nothing in place; the same three
arguments give the same answer on every machine.

This is the only module that knows all mechanisms. Each has its own state, a field of
``Node``, and its own random stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import LAN, Config
from swimsim.effects import After, Effect, Emit, RequestRefused, Send, Then
from swimsim.inputs import (
    Announce,
    Announced,
    AnnounceLeave,
    AskQuery,
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    FireEvent,
    ForceLeave,
    GossipTick,
    HealthChange,
    Input,
    Join,
    JoinNext,
    KeyringAnswered,
    Leave,
    LeaveTimeout,
    Lost,
    ManageKeys,
    News,
    ProbeFailed,
    ProbeNext,
    ProbeTick,
    ProbeTimeout,
    PruneDue,
    PushPullTick,
    QueryTimeout,
    QueueCheck,
    ReapDue,
    Received,
    ReconnectTick,
    Regained,
    RelayTimeout,
    RequestTimeout,
    RespondQuery,
    Restore,
    RoundEnded,
    SerfRequest,
    SetTags,
    Start,
    SuspicionTimeout,
    UpdateMeta,
    WitnessState,
)
from swimsim.member import peer
from swimsim.members import Members
from swimsim.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushPull,
    Suspect,
    User,
)
from swimsim.rng import Rng
from swimsim.serf import intents, reconnect
from swimsim.serf.intents import Intents
from swimsim.serf.reconnect import Reconnect
from swimsim.swim import awareness, broadcast, membership, probe, push_pull
from swimsim.swim.broadcast import Broadcasts
from swimsim.swim.membership import Membership, MembershipInput
from swimsim.swim.probe import Probe
from swimsim.swim.push_pull import AntiEntropy
from swimsim.terms import U32, Address, Micros, NodeId


class Node(Struct, frozen=True, gc=False):
    """All that one member knows. Make one with ``create``."""

    config: Config
    membership: Membership
    probe: Probe
    broadcasts: Broadcasts
    anti_entropy: AntiEntropy
    reconnect: Reconnect
    intents: Intents
    rng: Rng  # for the phases of its tickers
    health: int = 0  # local health score, 0 is healthy

    @property
    def name(self) -> NodeId:
        """The member's name."""
        return self.membership.me.name

    @property
    def address(self) -> Address:
        """Where the member listens."""
        return self.membership.me.address

    @property
    def members(self) -> Members:
        """Every member it knows of, itself included."""
        return self.membership.members


Step: TypeAlias = tuple[Node, tuple[Effect, ...]]


def create(
    name: NodeId, address: Address, config: Config = LAN, *, seed: Rng, meta: bytes = b""
) -> Node:
    """A node that has not started: feed it ``Start`` and, unless it is alone, ``Join``.

    ``seed`` is all of its randomness; derive it from the run's seed and the name
    (``rng.seed``), so that one more node changes nobody else's.
    """
    for_probe, seed = rng.fork(seed)
    for_gossip, seed = rng.fork(seed)
    for_anti_entropy, seed = rng.fork(seed)
    for_reconnect, seed = rng.fork(seed)
    return Node(
        config,
        Membership(peer(name, address, meta, config.vsn)),
        Probe(for_probe),
        Broadcasts(for_gossip),
        AntiEntropy(for_anti_entropy),
        Reconnect(for_reconnect),
        Intents(),
        seed,
    )


def step(node: Node, now: Micros, input: Input) -> Step:
    """What the node is after ``input`` happened to it at ``now``, and what it wants done.

    ``now`` is whole microseconds of any clock that never goes back. Total: every input in
    every state has a defined result.
    """
    node, effects = _TRANSITIONS[type(input)](node, now, input)
    for effect in effects:
        if type(effect) is Then or (
            type(effect) is Send and effect.piggyback and node.broadcasts.queue
        ):
            return _settle(node, now, effects)
    return node, effects


def with_table(node: Node, members: Members) -> Node:
    """The same node holding an equal table in another object; changes nothing it will do."""
    return replace(node, membership=replace(node.membership, members=members))


def reseeded(node: Node, seed: Rng) -> Node:
    """The same node with another source of randomness from here on."""
    fresh = create(node.name, node.address, node.config, seed=seed)
    return replace(
        node,
        rng=fresh.rng,
        probe=replace(node.probe, rng=fresh.probe.rng),
        broadcasts=replace(node.broadcasts, rng=fresh.broadcasts.rng),
        anti_entropy=replace(node.anti_entropy, rng=fresh.anti_entropy.rng),
        reconnect=replace(node.reconnect, rng=fresh.reconnect.rng),
    )


def fingerprint(node: Node) -> int:
    """64 bits of all that the node is; different, but for chance, where nodes are different."""
    known, queue = node.membership, node.broadcasts
    return rng.seed(
        node.rng,
        node.health,
        known.members.digest,
        known.members.slots_digest,
        repr((known.me, known.incarnation, known.leaving, known.waiting)),
        repr(sorted(known.suspicions.items())),
        repr(sorted(known.departed.items())),
        repr(replace(node.probe, relays=Map())),
        repr(sorted(node.probe.relays.items())),
        repr(replace(queue, named=Map())),
        repr(node.anti_entropy),
        repr(replace(node.reconnect, lost=Map())),
        repr(sorted(node.reconnect.lost.items())),
        node.intents.clock,
        repr(sorted(node.intents.said.items())),
    )


def _settle(node: Node, now: Micros, effects: tuple[Effect, ...]) -> Step:
    """Handle every ``Then`` in place, then load the packets with broadcasts."""
    pending = list(reversed(effects))
    settled: list[Effect] = []
    while pending:
        effect = pending.pop()
        if type(effect) is Then:
            node, more = _TRANSITIONS[type(effect.news)](node, now, effect.news)
            pending.extend(reversed(more))
        else:
            settled.append(effect)
    finished: tuple[Effect, ...] = ()
    for place, effect in enumerate(settled):
        if type(effect) is Send and effect.piggyback and node.broadcasts.queue:
            node, settled[place], done = _load(node, effect)
            finished += done
    if finished:
        node, more = _settle(node, now, finished)
        settled.extend(more)
    return node, tuple(settled)


def _load(node: Node, send: Send) -> tuple[Node, Send, tuple[Effect, ...]]:
    """Let broadcasts ride on a packet, as far as there is room."""
    config = node.config
    if not config.piggyback:
        return node, send, ()
    room = broadcast.room_beside(send.messages[0], config)
    n = len(node.membership.members.records)
    broadcasts, messages, finished = broadcast.take(node.broadcasts, room, n, config)
    if not messages:
        return node, send, finished
    loaded = Send(send.to, send.messages + messages, send.crc)
    return replace(node, broadcasts=broadcasts), loaded, finished


def _on_membership(node: Node, now: Micros, input: MembershipInput) -> Step:
    state, effects = membership.step(node.membership, now, input, node.config)
    if state is node.membership:
        return node, effects
    return replace(node, membership=state), effects


def _on_probe(node: Node, now: Micros, input: probe.ProbeInput) -> Step:
    state, effects = probe.step(node.probe, now, input, node.membership, node.health, node.config)
    if state is node.probe:
        return node, effects
    return replace(node, probe=state), effects


def _on_broadcast(node: Node, now: Micros, input: broadcast.BroadcastInput) -> Step:
    known = node.membership
    state, effects = broadcast.step(
        node.broadcasts, now, input, known.me.name, known.members, known.departed, node.config
    )
    return replace(node, broadcasts=state), effects


def _on_push_pull(node: Node, now: Micros, input: push_pull.PushPullInput) -> Step:
    known = node.membership
    state, effects = push_pull.step(
        node.anti_entropy, input, known.me.name, known.members, known.suspicions, node.config
    )
    return replace(node, anti_entropy=state), effects


def _on_reconnect(node: Node, now: Micros, input: reconnect.ReconnectInput) -> Step:
    state, effects = reconnect.step(node.reconnect, now, input, node.members, node.config)
    if state is node.reconnect:
        return node, effects
    return replace(node, reconnect=state), effects


def _on_health(node: Node, now: Micros, input: HealthChange) -> Step:
    score, effects = awareness.step(node.health, input, node.config)
    if score == node.health:
        return node, effects
    return replace(node, health=score), effects


def _on_start(node: Node, now: Micros, input: Start) -> Step:
    """Announce oneself, or settle into a known group, and set every ticker going."""
    config = node.config
    node, effects = _on_membership(node, now, input)
    n = len(node.members)
    probe_phase, node = _phase(node, config.probe_interval)
    gossip_phase, node = _phase(node, config.gossip_interval)
    reconnect_phase, node = _phase(node, max(1, config.reconnect_interval))
    prober, ticking = probe.start(node.probe, now, probe_phase, n)
    node = replace(
        node,
        probe=prober,
        broadcasts=replace(node.broadcasts, origin=now + gossip_phase),
        reconnect=replace(node.reconnect, origin=now + reconnect_phase),
    )
    if not config.push_pull_interval:
        return node, (*effects, *ticking)
    settled = input.members is not None
    wait, node = _phase(node, push_pull.period(n, config) if settled else config.push_pull_interval)
    node = replace(node, anti_entropy=replace(node.anti_entropy, armed=settled))
    return node, (*effects, *ticking, After(wait, PushPullTick()))


def _phase(node: Node, period: Micros) -> tuple[Micros, Node]:
    if not node.config.stagger:
        return 0, node
    phase, rng_ = rng.below(node.rng, period)
    return phase, replace(node, rng=rng_)


def _on_received(node: Node, now: Micros, input: Received) -> Step:
    """Messages are taken in the order in which they lie in the packet.

    memberlist's order differs (an alive first, then the newest first); nothing may depend on
    it (spec memberlist.md, 6.18).
    """
    messages, source = input.messages, input.source
    if len(messages) == 1:
        return _on_message(node, now, messages[0], source)
    effects: tuple[Effect, ...] = ()
    for message in messages:
        node, more = _on_message(node, now, message, source)
        if more:
            effects += more
    return node, effects


def _on_message(node: Node, now: Micros, message: Message, source: Address) -> Step:
    if type(message) is Ping:
        return node, probe.answer(message, source, node.membership.me)
    if type(message) is IndirectPing and not (message.source.host and message.source.port):
        message = replace(message, source=source)  # older peers do not say where they are
    return _TRANSITIONS[type(message)](node, now, message)


def _on_exchange_requested(node: Node, now: Micros, input: ExchangeRequested) -> Step:
    if isinstance(input.request, Ping):
        return node, probe.answer_stream(input, input.request, node.membership.me)
    return _on_push_pull(node, now, input)


def _on_exchanged(node: Node, now: Micros, input: Exchanged) -> Step:
    """What the reply must be follows from the exchange's number; any other is a failure."""
    exchange, response = input.exchange, input.response
    if exchange <= U32:
        if isinstance(response, Ack) and response.seq_no == exchange:
            return replace(node, probe=probe.stream_acked(node.probe, exchange)), ()
        return node, ()
    if isinstance(response, PushPull):
        return _on_push_pull(node, now, input)
    return _on_push_pull(node, now, ExchangeFailed(exchange, "the reply is no push/pull"))


def _on_intents(node: Node, now: Micros, input: intents.IntentInput) -> Step:
    state, effects = intents.step(node.intents, input, node.name, node.members, node.config)
    if state is node.intents:
        return node, effects
    return replace(node, intents=state), effects


def _on_serf_request(node: Node, now: Micros, input: SerfRequest) -> Step:
    return node, (Emit(RequestRefused(input.request, "not yet")),)


def _ignore(node: Node, now: Micros, input: Input) -> Step:
    return node, ()


_TRANSITIONS: dict[type[Input | Message | News], Callable[[Node, Micros, Any], Step]] = {
    Received: _on_received,
    ExchangeRequested: _on_exchange_requested,
    Exchanged: _on_exchanged,
    ExchangeFailed: _on_push_pull,
    Start: _on_start,
    Join: _on_push_pull,
    JoinNext: _on_push_pull,
    PushPullTick: _on_push_pull,
    Leave: _on_membership,
    LeaveTimeout: _on_membership,
    UpdateMeta: _on_membership,
    SuspicionTimeout: _on_membership,
    ProbeFailed: _on_membership,
    RoundEnded: _on_membership,
    Announced: _on_membership,
    Alive: _on_membership,
    Suspect: _on_membership,
    Dead: _on_membership,
    ProbeTick: _on_probe,
    ProbeNext: _on_probe,
    ProbeTimeout: _on_probe,
    RelayTimeout: _on_probe,
    Ack: _on_probe,
    Nack: _on_probe,
    IndirectPing: _on_probe,
    GossipTick: _on_broadcast,
    ReconnectTick: _on_reconnect,
    Lost: _on_reconnect,
    Regained: _on_reconnect,
    Announce: _on_broadcast,
    HealthChange: _on_health,
    User: _on_intents,
    AnnounceLeave: _on_intents,
    WitnessState: _on_intents,
    FireEvent: _on_serf_request,
    AskQuery: _on_serf_request,
    RespondQuery: _on_serf_request,
    SetTags: _on_serf_request,
    ForceLeave: _on_serf_request,
    ManageKeys: _on_serf_request,
    Restore: _ignore,
    KeyringAnswered: _ignore,
    PruneDue: _ignore,
    ReapDue: _ignore,
    RequestTimeout: _ignore,
    QueryTimeout: _ignore,
    QueueCheck: _ignore,
}
