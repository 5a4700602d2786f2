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

from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim import serf_layer as layer
from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    Effect,
    Emit,
    Exchange,
    JoinFinished,
    Reply,
    RequestRefused,
    Send,
    SerfNews,
    Then,
)
from swimsim.inputs import (
    Announce,
    Announced,
    AnnounceLeave,
    Answer,
    AnswerInternal,
    AnswersEnd,
    Ask,
    AskQuery,
    Erased,
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    FireEvent,
    ForceLeave,
    GossipTick,
    HealthChange,
    Input,
    InternalQuery,
    Join,
    JoinNext,
    KeyringAnswered,
    Leave,
    LeaveSettled,
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
    SayFarewell,
    SerfRequest,
    SetTags,
    Start,
    SuspicionTimeout,
    Tell,
    UpdateMeta,
    WitnessState,
)
from swimsim.member import SUSPECT, peer
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
from swimsim.serf import reconnect
from swimsim.serf.reconnect import Reconnect
from swimsim.serf_layer import Serf
from swimsim.swim import awareness, broadcast, membership, probe, push_pull
from swimsim.swim.broadcast import Broadcasts, Lanes
from swimsim.swim.membership import Membership, MembershipInput
from swimsim.swim.probe import Probe
from swimsim.swim.push_pull import AntiEntropy
from swimsim.terms import U32, Address, Micros, NodeId


class Upkeep(Struct, frozen=True, gc=False):
    """What seldom changes. Apart, so that most steps need not visit the parts of it."""

    anti_entropy: AntiEntropy
    reconnect: Reconnect
    rng: Rng  # for the phases of the tickers


class Node(Struct, frozen=True, gc=False):
    """All that one member knows. Make one with ``create``."""

    config: Config
    membership: Membership
    probe: Probe
    broadcasts: Broadcasts
    upkeep: Upkeep
    health: int = 0  # local health score, 0 is healthy
    serf: Serf | None = None  # None: Serf's layer is off

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
        Upkeep(AntiEntropy(for_anti_entropy), Reconnect(for_reconnect), seed),
        serf=layer.create(rng.mix(seed)) if config.serf else None,
    )


def step(node: Node, now: Micros, input: Input) -> Step:
    """What the node is after ``input`` happened to it at ``now``, and what it wants done.

    ``now`` is whole microseconds of any clock that never goes back. Total: every input in
    every state has a defined result.
    """
    done = _TRANSITIONS[type(input)](node, now, input)
    node, effects = done
    if not effects:
        return done
    has_room = False
    for effect in effects:
        if type(effect) is Then:
            return _settle(node, now, effects)
        if type(effect) is Send and effect.piggyback:
            has_room = True
    if has_room and (node.broadcasts.queue or node.serf is not None):
        return _load(node, now, effects)
    return node, effects


def with_table(node: Node, members: Members) -> Node:
    """The same node holding an equal table in another object; changes nothing it will do."""
    return replace(node, membership=replace(node.membership, members=members))


def reseeded(node: Node, seed: Rng) -> Node:
    """The same node with another source of randomness from here on."""
    fresh = create(node.name, node.address, node.config, seed=seed)
    old, new = node.upkeep, fresh.upkeep
    return replace(
        node,
        probe=replace(node.probe, rng=fresh.probe.rng),
        broadcasts=replace(node.broadcasts, rng=fresh.broadcasts.rng),
        upkeep=Upkeep(
            replace(old.anti_entropy, rng=new.anti_entropy.rng),
            replace(old.reconnect, rng=new.reconnect.rng),
            new.rng,
        ),
        serf=None if node.serf is None else layer.reseeded(node.serf, rng.mix(new.rng)),
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
    return _load(node, now, tuple(settled))


def _load(node: Node, now: Micros, effects: tuple[Effect, ...]) -> Step:
    """Let broadcasts ride on the packets that take some, as far as there is room."""
    loaded: list[Effect] = []
    finished: tuple[Effect, ...] = ()
    for effect in effects:
        if type(effect) is Send and effect.piggyback and _has_news(node):
            node, send, done = _load_packet(node, effect)
            loaded.append(send)
            finished += done
        else:
            loaded.append(effect)
    if finished:
        node, more = _settle(node, now, finished)
        loaded += more
    return node, tuple(loaded)


def _has_news(node: Node) -> bool:
    """Whether anything waits that could ride on a packet."""
    if node.broadcasts.queue:
        return True
    return node.serf is not None and any(lane.queue for lane in node.serf.lanes)


def _load_packet(node: Node, send: Send) -> tuple[Node, Send, tuple[Effect, ...]]:
    config = node.config
    if not config.piggyback:
        return node, send, ()
    room = broadcast.room_beside(send.messages[0], config)
    members, serf = node.membership.members, node.serf
    n = len(members.records)
    if serf is None:
        broadcasts, messages, finished = broadcast.take(node.broadcasts, room, n, config)
    else:
        known = layer.known(serf, members)
        broadcasts, lanes, messages, finished = broadcast.load(
            node.broadcasts, serf.lanes, room, n, known, config
        )
        node = _with_lanes(node, lanes)
    if not messages:
        return node, send, finished
    loaded = Send(send.to, send.messages + messages, send.crc)
    return replace(node, broadcasts=broadcasts), loaded, finished


def _with_lanes(node: Node, lanes: Lanes) -> Node:
    if node.serf is None or lanes is node.serf.lanes:
        return node
    one, two, three = lanes
    return replace(node, serf=replace(node.serf, lanes=(one, two, three)))


def _on_membership(node: Node, now: Micros, input: MembershipInput) -> Step:
    state, effects = membership.step(node.membership, now, input, node.config)
    if state is not node.membership:
        node = replace(node, membership=state)
    if not effects or node.serf is None:
        return node, effects
    return _tell_serf(node, now, effects)


def _on_suspect(node: Node, now: Micros, news: Suspect) -> Step:
    """The same, without a detour: while news of a suspect spreads, most of what comes is that."""
    state, effects = membership.suspect(node.membership, now, news, node.config)
    if state is node.membership:
        return node, effects
    node = replace(node, membership=state)
    return (node, effects) if node.serf is None else _tell_serf(node, now, effects)


def _on_probe(node: Node, now: Micros, input: probe.ProbeInput) -> Step:
    state, effects = probe.step(node.probe, now, input, node.membership, node.health, node.config)
    if state is node.probe:
        return node, effects
    if node.serf is None:
        return replace(node, probe=state), effects
    before, node = node.probe.round, replace(node, probe=state)
    if state.round is before:
        return node, effects
    return _on_round(node, now, input, before, effects)


def _on_round(
    node: Node,
    now: Micros,
    input: probe.ProbeInput,
    before: probe.Round | None,
    effects: tuple[Effect, ...],
) -> Step:
    """Note when a round begins, for its round-trip time; learn from the ack of a direct ping."""
    serf, round_ = node.serf, node.probe.round
    assert serf is not None
    if isinstance(input, Ack) and before is not None and before.direct and input.payload:
        known = node.members.get(before.target)
        if not node.config.coordinates or known is None or known.status > SUSPECT:
            return node, effects
        serf, learnt = layer.probed(serf, before.target, now, input.payload)
        return replace(node, serf=serf), effects + learnt
    if round_ is not None and (before is None or before.seq_no != round_.seq_no):
        node = replace(node, serf=replace(serf, pinged=now))
    return node, effects


def _on_announce(node: Node, now: Micros, input: Announce) -> Step:
    state, effects = broadcast.announce(
        node.broadcasts, now, input.message, input.notify, node.config
    )
    return replace(node, broadcasts=state), effects


def _on_gossip_tick(node: Node, now: Micros, input: GossipTick) -> Step:
    known, serf = node.membership, node.serf
    state, lanes, effects = broadcast.gossip(
        node.broadcasts,
        () if serf is None else serf.lanes,
        now,
        known.me.name,
        known.members,
        known.departed,
        0 if serf is None else layer.known(serf, known.members),
        node.config,
    )
    node = replace(node, broadcasts=state)
    return node if serf is None else _with_lanes(node, lanes), effects


def _on_push_pull(node: Node, now: Micros, input: push_pull.PushPullInput) -> Step:
    known = node.membership
    state, effects = push_pull.step(
        node.upkeep.anti_entropy, input, known.me.name, known.members, known.suspicions, node.config
    )
    node = replace(node, upkeep=replace(node.upkeep, anti_entropy=state))
    if node.serf is None:
        return node, effects
    return _tell_serf(node, now, _with_user_state(node, effects))


def _with_user_state(node: Node, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """Push/pulls carry Serf's state as it is before anything of the peer's is taken in."""
    assert node.serf is not None
    carried: list[Effect] = []
    for effect in effects:
        match effect:
            case Exchange(request=PushPull() as said):
                carried.append(replace(effect, request=_with_state(node, node.serf, said)))
            case Reply(response=PushPull() as said):
                carried.append(replace(effect, response=_with_state(node, node.serf, said)))
            case _:
                carried.append(effect)
    return tuple(carried)


def _with_state(node: Node, serf: Serf, said: PushPull) -> PushPull:
    return replace(said, user=layer.local_state(serf, node.membership, node.config))


def _tell_serf(node: Node, now: Micros, effects: tuple[Effect, ...]) -> Step:
    """Have Serf's layer follow at once what the owner is told of the membership."""
    told: list[Effect] = []
    for effect in effects:
        told.append(effect)
        if type(effect) is Emit and layer.concerns(effect.event):
            node, more = _on_serf(node, now, effect.event)
            told += more
    return node, tuple(told)


def _on_serf(node: Node, now: Micros, input: SerfNews) -> Step:
    """What is Serf's business; nobody's when its layer is off."""
    if node.serf is None:
        if isinstance(input, SerfRequest):
            return node, (Emit(RequestRefused(input.request, "Serf's layer is off")),)
        return node, ()
    serf, effects = layer.step(node.serf, now, input, node.membership, node.config)
    if serf is not node.serf:
        node = replace(node, serf=serf)
    return node, effects


def _on_tell(node: Node, now: Micros, input: Tell) -> Step:
    """Something for one of Serf's lanes: have the gossip ticker empty it."""
    node, effects = _on_serf(node, now, input)
    broadcasts, ticking = broadcast.wake(node.broadcasts, now, node.config)
    return replace(node, broadcasts=broadcasts), effects + ticking


def _on_announced(node: Node, now: Micros, input: Announced) -> Step:
    on_it = _on_serf if isinstance(input.message, User) else _on_membership
    return on_it(node, now, input)


def _on_restore(node: Node, now: Micros, input: Restore) -> Step:
    node, effects = _on_membership(node, now, input)
    node, more = _on_serf(node, now, input)
    return node, effects + more


def _on_join(node: Node, now: Micros, input: Join) -> Step:
    serf = node.serf
    if serf is None:
        return _on_push_pull(node, now, input)
    known = node.membership
    if known.leaving or known.intent is not None:
        reason = "Serf can't Join after Leave or Shutdown"
        failures = tuple((address, reason) for address in input.addresses)
        return node, (Emit(JoinFinished(0, failures)),)
    node, _ = _on_serf(node, now, input)
    return _on_push_pull(node, now, input)


def _on_reconnect(node: Node, now: Micros, input: reconnect.ReconnectInput) -> Step:
    before = node.upkeep.reconnect
    state, effects = reconnect.step(before, now, input, node.members, node.config)
    if state is not before:
        node = replace(node, upkeep=replace(node.upkeep, reconnect=state))
    if node.serf is None or not effects:
        return node, effects
    return node, _with_user_state(node, effects)


def _on_health(node: Node, now: Micros, input: HealthChange) -> Step:
    score, effects = awareness.step(node.health, input, node.config)
    if score == node.health:
        return node, effects
    return replace(node, health=score), effects


def _on_start(node: Node, now: Micros, input: Start) -> Step:
    """Announce oneself, or settle into a known group, and set every ticker going."""
    config = node.config
    node, effects = _on_membership(node, now, input)
    if node.serf is not None:
        node, more = _on_serf(node, now, input)
        effects += more
    n = len(node.members)
    rng_ = node.upkeep.rng
    probe_phase, rng_ = _phase(rng_, config.probe_interval, config)
    gossip_phase, rng_ = _phase(rng_, config.gossip_interval, config)
    reconnect_phase, rng_ = _phase(rng_, max(1, config.reconnect_interval), config)
    prober, ticking = probe.start(node.probe, now, probe_phase, n)
    effects += ticking
    anti_entropy = node.upkeep.anti_entropy
    if config.push_pull_interval:
        settled = input.members is not None and not input.fresh
        period = push_pull.period(n, config) if settled else config.push_pull_interval
        wait, rng_ = _phase(rng_, period, config)
        anti_entropy = replace(anti_entropy, armed=settled)
        effects += (After(wait, PushPullTick()),)
    reconnecting = replace(node.upkeep.reconnect, origin=now + reconnect_phase)
    node = replace(
        node,
        probe=prober,
        broadcasts=replace(node.broadcasts, origin=now + gossip_phase),
        upkeep=Upkeep(anti_entropy, reconnecting, rng_),
    )
    return node, effects


def _phase(rng_: Rng, period: Micros, config: Config) -> tuple[Micros, Rng]:
    return rng.below(rng_, period) if config.stagger else (0, rng_)


def _on_received(node: Node, now: Micros, input: Received) -> Step:
    """Messages are taken in the order in which they lie in the packet.

    memberlist's order differs (an alive first, then the newest first); nothing may depend on
    it (spec memberlist.md, 6.18).
    """
    effects: tuple[Effect, ...] = ()
    for message in input.messages:
        if transition := _TRANSITIONS.get(type(message)):
            node, more = transition(node, now, message)
        elif type(message) is Ping:
            more = _on_ping(node, message, input.source)
        elif type(message) is IndirectPing:
            node, more = _on_indirect_ping(node, now, message, input.source)
        else:
            raise TypeError(f"expected a message, got {message!r}")
        if more:
            effects += more
    return node, effects


def _on_ping(node: Node, ping: Ping, source: Address) -> tuple[Effect, ...]:
    """Ack it; with Serf's layer on, an ack also tells where this node is in its space."""
    if node.serf is None or not node.config.coordinates:
        return probe.answer(ping, source, node.membership.me)
    return probe.answer(ping, source, node.membership.me, layer.coordinate(node.serf))


def _on_indirect_ping(node: Node, now: Micros, ask: IndirectPing, source: Address) -> Step:
    """The acks go to where it says, or, since older peers do not say, to where it came from."""
    if not (ask.source.host and ask.source.port):
        ask = replace(ask, source=source)
    return _on_probe(node, now, ask)


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


_TRANSITIONS: dict[type[Input | Message | News], Callable[[Node, Micros, Any], Step]] = {
    Received: _on_received,
    ExchangeRequested: _on_exchange_requested,
    Exchanged: _on_exchanged,
    ExchangeFailed: _on_push_pull,
    Start: _on_start,
    Join: _on_join,
    JoinNext: _on_push_pull,
    PushPullTick: _on_push_pull,
    Leave: _on_membership,
    LeaveTimeout: _on_membership,
    UpdateMeta: _on_membership,
    SuspicionTimeout: _on_membership,
    ProbeFailed: _on_membership,
    RoundEnded: _on_membership,
    Announced: _on_announced,
    LeaveSettled: _on_membership,
    SayFarewell: _on_membership,
    Alive: _on_membership,
    Suspect: _on_suspect,
    Dead: _on_membership,
    ProbeTick: _on_probe,
    ProbeNext: _on_probe,
    ProbeTimeout: _on_probe,
    RelayTimeout: _on_probe,
    Ack: _on_probe,
    Nack: _on_probe,
    GossipTick: _on_gossip_tick,
    ReconnectTick: _on_reconnect,
    Lost: _on_reconnect,
    Regained: _on_reconnect,
    Announce: _on_announce,
    HealthChange: _on_health,
    User: _on_serf,
    AnnounceLeave: _on_serf,
    WitnessState: _on_serf,
    FireEvent: _on_serf,
    AskQuery: _on_serf,
    RespondQuery: _on_serf,
    SetTags: _on_serf,
    ForceLeave: _on_serf,
    ManageKeys: _on_serf,
    Restore: _on_restore,
    KeyringAnswered: _on_serf,
    PruneDue: _on_serf,
    ReapDue: _on_serf,
    RequestTimeout: _on_serf,
    QueryTimeout: _on_serf,
    QueueCheck: _on_serf,
    Tell: _on_tell,
    Erased: _on_serf,
    Ask: _on_serf,
    Answer: _on_serf,
    AnswersEnd: _on_serf,
    InternalQuery: _on_serf,
    AnswerInternal: _on_serf,
}
