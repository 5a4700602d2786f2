"""Probe round: ping a member, have k others ping it, report it if all is silence.

SWIM 3.1 and 4.3, Lifeguard IV-A; the timing is memberlist's (spec memberlist.md, 6.2 to 6.6).
A ticker fires once every probe interval. A tick begins a round: it pings the next member and
sets two times, the *timeout*, when silence makes it ask helpers, and the *deadline*, when
silence fails the round. The deadline is stretched by poor local health; the ticker is not, so
ticks may fall on a running round. One of them is kept, and the next round follows the old one
at once.

``seq_no`` names a round: a timer or an ack with any other is stale. The members are walked in
the order of a keyed permutation of their slots (``rng.permute_page``): all once a round of
the list, in an order that differs for each node and each time, of which only the next few are
held in memory. A member that joins takes a slot at the end, which is a random place in
everybody's order.

The same module answers pings, and pings on behalf of others (a relay).
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, assert_never

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import Config
from swimsim.effects import After, Effect, Exchange, Reply, Send, Then
from swimsim.inputs import (
    ExchangeRequested,
    HealthChange,
    ProbeFailed,
    ProbeNext,
    ProbeTick,
    ProbeTimeout,
    RelayTimeout,
    RoundEnded,
)
from swimsim.member import ALIVE, DEAD, SUSPECT, Member, Peer
from swimsim.members import Members
from swimsim.messages import (
    CRC_SINCE,
    NACK_SINCE,
    STREAM_PING_SINCE,
    Ack,
    IndirectPing,
    Nack,
    Ping,
    Suspect,
)
from swimsim.rng import Rng
from swimsim.terms import U32, Address, Incarnation, Micros, NodeId, SeqNo

ProbeInput: TypeAlias = (
    ProbeTick | Ack | ProbeTimeout | Nack | ProbeNext | IndirectPing | RelayTimeout
)


class Group(Protocol):
    """What the prober reads of the membership."""

    @property
    def me(self) -> Peer:
        """What this node says of itself."""
        ...

    @property
    def members(self) -> Members:
        """Everybody it knows of."""
        ...


class Round(Struct, frozen=True, gc=False):
    """The round in flight."""

    seq_no: SeqNo
    target: NodeId
    incarnation: Incarnation  # of the target's record when the round began
    deadline: Micros
    direct: bool = True  # no helper has been asked yet
    nacks_due: int = 0  # helpers that were asked for a nack and have not sent it
    nack_count: int = 0  # helpers that were asked for a nack
    stream_acked: bool = False  # the target answered over a stream


class Relay(Struct, frozen=True, gc=False):
    """A ping sent on behalf of another member."""

    requester: Address
    seq_no: SeqNo  # the requester's
    nack: bool  # a nack is wanted and has not been sent


class Probe(Struct, frozen=True, gc=False):
    """The prober: its ticker, its walk over the members, the round in flight, the relays."""

    rng: Rng
    seq_no: SeqNo = 0  # the last one used; rises by one for each ping
    tick: Micros = 0  # when the next ``ProbeTick`` is due
    grid: Micros = 0  # the last ``tick`` of the ticker's own; every interval from it is another
    round: Round | None = None  # None between rounds
    key: int = 0  # of the permutation in use
    bits: int = 0  # it permutes ``[0, 2**bits)``
    cursor: int = 1  # how far the walk has come; past the end at first
    page: int = 0  # the walk around the cursor (``rng.permute_page``), anew every ``rng.PAGE``
    relays: Map[SeqNo, Relay] = Map()  # by this node's own sequence number

    @property
    def kept(self) -> bool:
        """Whether a tick fell on the running round; the next is due as that ends."""
        return self.tick != self.grid


Step: TypeAlias = tuple[Probe, tuple[Effect, ...]]


def start(state: Probe, now: Micros, stagger: Micros, n: int) -> Step:
    """Set the ticker going at ``now + stagger``, in the middle of a walk over ``n`` members."""
    tick = now + stagger
    if n > 1:
        key, rng_ = rng.draw(state.rng)
        bits = (n - 1).bit_length()
        cursor, rng_ = rng.below(rng_, 1 << bits)
        page = rng.permute_page(key, bits, cursor - cursor % rng.PAGE)
        state = replace(state, rng=rng_, key=key, bits=bits, cursor=cursor, page=page)
    return replace(state, tick=tick, grid=tick), (After(stagger, ProbeTick(tick)),)


def step(
    state: Probe,
    now: Micros,
    input: ProbeInput,
    group: Group,
    health: int,
    config: Config,
) -> Step:
    """Advance the prober by one input. A stale input changes nothing."""
    if type(input) is Ack:  # the three of every round first: a match is slow to say no
        return _on_ack(state, now, input.seq_no, health)
    if type(input) is ProbeTick:
        if input.at != state.tick:
            return state, ()
        if state.round is not None:
            return _on_tick(state, state.round, now, group, health, config)
        return _begin(state, now, group, health, config)
    if type(input) is ProbeTimeout:
        round_ = state.round
        if round_ is None or round_.seq_no != input.seq_no or not round_.direct:
            return state, ()
        return _ask_helpers(state, round_, now, group, config)
    match input:
        case ProbeNext(checked):
            return _begin(state, now, group, health, config, checked)
        case Nack(seq_no):
            round_ = state.round
            if round_ is None or round_.seq_no != seq_no or round_.nacks_due == 0:
                return state, ()
            return replace(state, round=replace(round_, nacks_due=round_.nacks_due - 1)), ()
        case IndirectPing():
            return _relay(state, input, group.me, config)
        case RelayTimeout(seq_no):
            return _relay_overdue(state, seq_no, config)
        case _:
            assert_never(input)


def answer(ping: Ping, source: Address, me: Peer, payload: bytes = b"") -> tuple[Effect, ...]:
    """Ack a ping that is meant for this node, to where it says, or to where it came from."""
    if ping.target != me.name and ping.target:
        return ()
    to = ping.source if ping.source.host and ping.source.port else source
    return (Send(to, (Ack(ping.seq_no, payload),), piggyback=True),)


def answer_stream(input: ExchangeRequested, ping: Ping, me: Peer) -> tuple[Effect, ...]:
    """The same over a stream, where the reply takes the way the ping came."""
    meant = ping.target == me.name or not ping.target
    return (Reply(input.exchange, Ack(ping.seq_no) if meant else None),)


def stream_acked(state: Probe, seq_no: SeqNo) -> Probe:
    """The target answered over a stream: a success, but known only at the round's deadline."""
    if state.round is None or state.round.seq_no != seq_no:
        return state
    return replace(state, round=replace(state.round, stream_acked=True))


def _on_tick(
    state: Probe, round_: Round, now: Micros, group: Group, health: int, config: Config
) -> Step:
    """End the round whose time is up, and begin the next one."""
    if now < round_.deadline:  # the tick is kept until the round is over
        state = replace(state, tick=round_.deadline)
        return state, (After(round_.deadline - now, ProbeTick(round_.deadline)),)
    asked: tuple[Effect, ...] = ()
    if round_.direct:  # a probe timeout as long as the round: helpers are asked in vain
        state, asked = _ask_helpers(state, round_, now, group, config)
        assert state.round is not None
        round_ = state.round
    verdict = _verdict(round_, health, config)
    # Health first: it stretches the round that begins now.
    return replace(state, round=None), (*asked, *verdict, Then(ProbeNext(0)))


def _verdict(round_: Round, health: int, config: Config) -> tuple[Effect, ...]:
    """What a round that reached its deadline says of the target, and of this node."""
    if round_.stream_acked:
        return (Then(HealthChange(-1)),) if health else ()
    missed = round_.nacks_due if round_.nack_count else 1
    if config.failed_probe_is_one:
        missed = 1 + round_.nacks_due
    return (Then(HealthChange(missed)), Then(ProbeFailed(round_.target, round_.incarnation)))


def _begin(
    state: Probe, now: Micros, group: Group, health: int, config: Config, checked: int = 0
) -> Step:
    """Ping the next member and set the times; without anybody to ping, just the next tick."""
    me = group.me
    state, cursor, target = _next_target(state, me.name, group.members, config, checked)
    if type(target) is ProbeNext:  # the list is through: let the long gone be forgotten
        return replace(state, cursor=cursor), (Then(RoundEnded()), Then(target))
    interval = config.probe_interval
    tick = now + interval - (now - state.grid) % interval
    after = After(tick - now, ProbeTick(tick))
    if target is None:
        return replace(state, cursor=cursor, tick=tick, grid=tick), (after,)
    seq_no = (state.seq_no + 1) & U32
    stretch = health + 1
    deadline = now + interval * stretch
    if deadline == tick:  # as a rule: one object for both is less memory to visit
        deadline = tick
    timeout = config.probe_timeout * (stretch if config.scale_probe_timeout else 1)
    peer = target.peer
    round_ = Round(seq_no, peer.name, target.incarnation, deadline)
    ping = Ping(seq_no, peer.name, me.address, me.name)
    if target.status == SUSPECT and config.buddy_system:
        accusation = Suspect(target.incarnation, peer.name, me.name)
        send = Send(peer.address, (ping, accusation), crc=peer.vsn[1] >= CRC_SINCE)
    else:
        send = Send(peer.address, (ping,), piggyback=True)
    state = replace(state, cursor=cursor, seq_no=seq_no, tick=tick, grid=tick, round=round_)
    if now + timeout >= deadline:
        return state, (send, after)
    return state, (send, After(timeout, ProbeTimeout(seq_no)), after)


def _next_target(
    state: Probe, me: NodeId, members: Members, config: Config, checked: int
) -> tuple[Probe, int, Member | ProbeNext | None]:
    """The next member of the walk that is neither this node nor gone, and the cursor after it.

    ``ProbeNext`` when the list is through and must begin anew, None when all were checked and
    nobody is to be probed in this tick. Beginning anew counts as a check, so groups of two or
    three members skip some ticks, as memberlist's do (spec P30).
    """
    n = len(members.records)
    if not checked and members.present <= 1 and not members.others_present(me):
        return state, 1 << state.bits, ProbeNext(max(1, n))  # a walk in vain
    if config.probe_order == "random":
        return _random_target(state, me, members, checked)
    records = members.records
    bits, cursor = state.bits, state.cursor
    lane, mask = 2 * bits + 1, (1 << bits) - 1
    while checked < n:
        if cursor >> bits:
            key, rng_ = rng.draw(state.rng)
            bits = (n - 1).bit_length()
            return replace(state, rng=rng_, key=key, bits=bits), 0, ProbeNext(checked + 1)
        place = cursor % rng.PAGE
        if not place:
            state = replace(state, page=rng.permute_page(state.key, bits, cursor))
        slot = state.page >> place * lane & mask
        cursor += 1
        if slot < n:
            member = records[slot]
            if member.status < DEAD and member.peer.name != me:
                return state, cursor, member
            checked += 1
    return state, cursor, None


def _random_target(
    state: Probe, me: NodeId, members: Members, checked: int
) -> tuple[Probe, int, Member | ProbeNext | None]:
    """Any member at all; the list counts as through after as many picks as it is long."""
    if state.cursor >= len(members.records) and not checked:
        return state, 0, ProbeNext(1)

    def present(member: Member) -> bool:
        return member.status < DEAD and member.peer.name != me

    chosen, rng_ = members.sample(state.rng, 1, present)
    return replace(state, rng=rng_), state.cursor + 1, chosen[0] if chosen else None


def _on_ack(state: Probe, now: Micros, seq_no: SeqNo, health: int) -> Step:
    """The round succeeded, or one that this node relays did."""
    round_ = state.round
    if round_ is not None and round_.seq_no == seq_no:
        if now > round_.deadline:  # too late; the tick that says so is late itself
            return state, ()
        state = replace(state, round=None)
        better: tuple[Effect, ...] = (Then(HealthChange(-1)),) if health else ()
        if state.kept:
            return state, (*better, Then(ProbeNext(0)))
        return state, better
    relay = state.relays.get(seq_no)
    if relay is None:
        return state, ()
    state = replace(state, relays=state.relays.delete(seq_no))
    return state, (Send(relay.requester, (Ack(relay.seq_no),), piggyback=True),)


def _ask_helpers(state: Probe, round_: Round, now: Micros, group: Group, config: Config) -> Step:
    """Have k others ping the target, and try a stream; whoever answers first will do."""
    me, members = group.me, group.members
    target = members.get(round_.target)
    if target is None:  # forgotten meanwhile
        return replace(state, round=replace(round_, direct=False)), ()
    peer = target.peer

    def can_help(member: Member) -> bool:
        return member.status == ALIVE and member.peer.name not in (me.name, round_.target)

    helpers, rng_ = members.sample(state.rng, config.indirect_checks, can_help)
    effects: list[Effect] = []
    nacks = 0
    for helper in helpers:
        nack = config.lha_probe and helper.peer.vsn[1] >= NACK_SINCE
        nacks += nack
        ask = IndirectPing(round_.seq_no, round_.target, peer.address, nack, me.address, me.name)
        effects.append(Send(helper.peer.address, (ask,), piggyback=True))
    left = round_.deadline - now
    if config.stream_ping and peer.vsn[1] >= STREAM_PING_SINCE and left > 0:
        ping = Ping(round_.seq_no, round_.target, me.address, me.name)
        effects.append(Exchange(round_.seq_no, peer.address, ping, left))
    asked = replace(round_, direct=False, nacks_due=nacks, nack_count=nacks)
    return replace(state, rng=rng_, round=asked), tuple(effects)


def _relay(state: Probe, ask: IndirectPing, me: Peer, config: Config) -> Step:
    """Ping the target under a sequence number of this node's own."""
    seq_no = (state.seq_no + 1) & U32
    relay = Relay(ask.source, ask.seq_no, ask.nack)
    ping = Ping(seq_no, ask.target, me.address, me.name)
    wait = _nack_time(config) if ask.nack else config.probe_timeout
    return replace(state, seq_no=seq_no, relays=state.relays.set(seq_no, relay)), (
        Send(ask.target_address, (ping,), piggyback=True),
        After(wait, RelayTimeout(seq_no)),
    )


def _relay_overdue(state: Probe, seq_no: SeqNo, config: Config) -> Step:
    """Send the nack that was asked for, and forget the relay after a whole probe timeout."""
    relay = state.relays.get(seq_no)
    if relay is None:
        return state, ()
    nack = (Send(relay.requester, (Nack(relay.seq_no),), piggyback=True),) if relay.nack else ()
    left = config.probe_timeout - _nack_time(config)
    if relay.nack and left:
        quiet = replace(relay, nack=False)
        state = replace(state, relays=state.relays.set(seq_no, quiet))
        return state, (*nack, After(left, RelayTimeout(seq_no)))
    return replace(state, relays=state.relays.delete(seq_no)), nack


def _nack_time(config: Config) -> Micros:
    return config.probe_timeout * config.nack_percent // 100
