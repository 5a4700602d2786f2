"""One step of one node: dispatch, cascades, piggyback, purity, totality."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from swimsim import invariants, rng
from swimsim import node as node_
from swimsim.config import LAN, SWIM_2002, Config
from swimsim.effects import (
    After,
    Effect,
    Emit,
    Exchange,
    Failed,
    HealthChanged,
    Joined,
    JoinFinished,
    LeaveFinished,
    Left,
    Refuted,
    Reply,
    Send,
    Suspected,
    Then,
    Updated,
    UpdateFinished,
)
from swimsim.fingerprint import fingerprint
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    GossipTick,
    Input,
    Join,
    Leave,
    LeaveTimeout,
    News,
    ProbeTick,
    ProbeTimeout,
    PushPullTick,
    Received,
    RelayTimeout,
    Start,
    SuspicionTimeout,
    UpdateMeta,
)
from swimsim.member import ALIVE, DEAD, SUSPECT, Status
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
    packet_size,
    size,
)
from swimsim.node import Node, create, reseeded, step, with_table
from swimsim.terms import MS, SECOND, U32, Address, NodeId
from tests.builders import (
    VSN,
    A,
    B,
    C,
    D,
    E,
    at,
    events,
    fed,
    group,
    of_type,
    record,
    settled,
    table,
    who,
)
from tests.world import Watcher, World

NOW = 10 * SECOND
PUNCTUAL = replace(LAN, stagger=False)
TOGETHER = settled(A, "ABCD", PUNCTUAL, now=NOW)


def packet(*messages: Message, source: str = B) -> Received:
    return Received(at(source), messages)


def heard(node: Node, *messages: Message, now: int = NOW) -> tuple[Node, tuple[Effect, ...]]:
    return step(node, now, packet(*messages))


# --- dispatch ---------------------------------------------------------------------------


def test_whatever_can_happen_has_a_transition() -> None:
    known = set(node_._TRANSITIONS)
    assert set(get_args(Input)) <= known
    assert set(get_args(News)) <= known
    assert set(get_args(Message)) - known == {Ping, IndirectPing}  # these need their source
    assert known <= {*get_args(Input), *get_args(News), *get_args(Message)}


def test_what_is_no_message_is_refused() -> None:
    node = create(A, at(A), LAN, seed=1)
    with pytest.raises(TypeError, match="expected a message, got 'odd'"):
        step(node, 0, Received(at("B"), (Ping(1, A, at("B"), B), "odd")))  # type: ignore[arg-type]


def test_a_fresh_node_knows_nobody() -> None:
    fresh = create(A, at(A), LAN, seed=1, meta=b"m")
    assert (fresh.name, fresh.address, len(fresh.members), fresh.health) == (A, at(A), 0, 0)
    assert fresh.membership.me == who(A, b"m")
    invariants.check(fresh)


def test_every_mechanism_has_a_stream_of_its_own() -> None:
    fresh = create(A, at(A), LAN, seed=1)
    upkeep = fresh.upkeep
    mechanisms = (upkeep, fresh.probe, fresh.broadcasts, upkeep.anti_entropy, upkeep.reconnect)
    assert len({1, *(mechanism.rng for mechanism in mechanisms)}) == 6
    assert create(A, at(A), LAN, seed=1) == fresh
    assert create(A, at(A), LAN, seed=2).probe.rng != fresh.probe.rng


def test_everything_that_makes_a_state_an_input_or_an_effect_is_frozen() -> None:
    found = [Struct]
    for kind in found:
        found += [sub for sub in kind.__subclasses__() if sub.__module__.startswith("swimsim.")]
    assert len(found) > 60
    thawed = [kind.__qualname__ for kind in found[1:] if not kind.__struct_config__.frozen]
    assert thawed == []


def test_an_application_message_has_no_reader_yet() -> None:
    assert heard(TOGETHER, User(b"hello")) == (TOGETHER, ())


def test_an_empty_packet_is_nothing() -> None:
    assert heard(TOGETHER) == (TOGETHER, ())


# --- the start --------------------------------------------------------------------------


def test_a_node_that_starts_announces_itself_and_sets_its_tickers_going() -> None:
    node, effects = step(create(A, at(A), PUNCTUAL, seed=1), NOW, Start())
    assert effects == (
        After(200 * MS, GossipTick()),
        Emit(Joined(who(A), 1)),
        After(0, ProbeTick(NOW)),
        After(0, PushPullTick()),
    )
    assert node.members == group("A")
    assert [item.message for item in node.broadcasts.queue] == [Alive(1, who(A))]
    assert not node.upkeep.anti_entropy.armed, "its first exchange is a whole period away"
    invariants.check(node)


def test_a_node_that_wakes_in_a_settled_group_has_nothing_to_announce() -> None:
    members = group("ABCD")
    node, effects = step(create(A, at(A), PUNCTUAL, seed=1), NOW, Start(members))
    assert effects == (After(0, ProbeTick(NOW)), After(0, PushPullTick()))
    assert node.members is members
    assert node.broadcasts.queue == ()
    assert node.upkeep.anti_entropy.armed
    invariants.check(node)


def test_a_group_that_has_only_just_formed_exchanges_states_as_late_as_after_a_join() -> None:
    node, effects = step(create(A, at(A), PUNCTUAL, seed=1), NOW, Start(group("ABCD"), fresh=True))
    assert not node.upkeep.anti_entropy.armed
    node, effects = step(node, NOW, PushPullTick())
    assert effects == (After(PUNCTUAL.push_pull_interval, PushPullTick()),)


def test_without_anti_entropy_there_is_no_tick_of_it() -> None:
    config = replace(PUNCTUAL, push_pull_interval=0)
    for members in (None, group("ABCD")):
        _, effects = step(create(A, at(A), config, seed=1), NOW, Start(members))
        _, wanted = step(create(A, at(A), PUNCTUAL, seed=1), NOW, Start(members))
        assert effects == tuple(e for e in wanted if e != After(0, PushPullTick()))


def phases(config: Config, members: str, seed: int) -> dict[str, int]:
    """When the tickers of a node first fire."""
    start = Start(group(members, vsn=config.vsn) if members else None)
    node, effects = step(create(A, at(A), config, seed=seed), NOW, start)
    waits = {type(e.input).__name__: e.delay for e in effects if isinstance(e, After)}
    return {
        **waits,
        "grid": node.probe.grid - NOW,
        "gossip": node.broadcasts.origin - NOW,
        "reconnect": node.upkeep.reconnect.origin - NOW,
    }


@given(st.integers(0, rng.MASK))
def test_tickers_start_at_random_phases_of_their_periods(seed: int) -> None:
    many = "".join(chr(code) for code in range(ord("A"), ord("A") + 40))  # a period of 60 s
    for members, period in (("", 30), ("ABCD", 30), (many, 60)):
        found = phases(LAN, members, seed)
        assert 0 <= found["ProbeTick"] < SECOND
        assert found["grid"] == found["ProbeTick"]
        assert 0 <= found["gossip"] < 200 * MS
        assert 0 <= found["reconnect"] < 30 * SECOND
        assert 0 <= found["PushPullTick"] < period * SECOND


def test_in_a_large_settled_group_exchanges_are_spread_over_the_longer_period() -> None:
    many = "".join(chr(code) for code in range(ord("A"), ord("A") + 40))
    drawn = [phases(LAN, many, seed)["PushPullTick"] / SECOND for seed in range(100)]
    assert 50 < max(drawn) < 60
    assert max(phases(LAN, "", seed)["PushPullTick"] for seed in range(100)) < 30 * SECOND


def test_phases_differ_from_node_to_node_and_from_ticker_to_ticker() -> None:
    drawn = [phases(LAN, "ABCD", seed) for seed in range(400)]
    assert len({found["ProbeTick"] for found in drawn}) > 390
    periods = {"ProbeTick": 1, "gossip": 0.2, "PushPullTick": 30, "reconnect": 30}
    shares = {
        ticker: [found[ticker] / (period * SECOND) for found in drawn]
        for ticker, period in periods.items()
    }
    assert all(abs(sum(share) / 400 - 0.5) < 0.05 for share in shares.values())
    for one, other in combinations(shares.values(), 2):
        assert sum(abs(x - y) < 0.01 for x, y in zip(one, other, strict=True)) < 20


# --- cascades ---------------------------------------------------------------------------


def silence() -> tuple[Node, Node, tuple[Effect, ...]]:
    """A node before and after the tick that ends a round in which nobody answered."""
    begun, _ = step(TOGETHER, NOW, ProbeTick(NOW))
    asked, _ = step(begun, NOW + 500 * MS, ProbeTimeout(1))
    ended, effects = step(asked, NOW + SECOND, ProbeTick(NOW + SECOND))
    return asked, ended, effects


def test_silence_is_a_suspicion_worse_health_and_the_next_round_in_one_step() -> None:
    before, node, effects = silence()
    assert before.probe.round is not None
    assert node.probe.round is not None
    target, then = before.probe.round.target, node.probe.round.target
    accusation = Suspect(1, target, A)
    assert effects == (
        Emit(HealthChanged(2)),  # two helpers, no nack
        After(200 * MS, GossipTick()),
        After(24 * SECOND, SuspicionTimeout(target, NOW + SECOND)),
        Emit(Suspected(target, 1, A)),
        Send(at(then), (Ping(2, then, at(A), A), accusation)),  # the news rides on the next ping
        After(500 * MS, ProbeTimeout(2)),
        After(SECOND, ProbeTick(NOW + 2 * SECOND)),
    )
    assert node.health == 2
    assert node.members[target].status == SUSPECT
    assert node.probe.round.deadline == NOW + SECOND + 3 * SECOND, "stretched by the new health"
    assert [item.transmits for item in node.broadcasts.queue] == [1]
    invariants.check(node)


def test_an_accusation_in_a_ping_is_refuted_in_the_ack() -> None:
    """Lifeguard IV-C: the buddy system. Messages are taken in order, packets loaded at the end."""
    node, effects = heard(TOGETHER, Ping(9, A, at(B), B), Suspect(1, A, B))
    assert effects == (
        Send(at(B), (Ack(9), Alive(2, who(A)))),
        After(200 * MS, GossipTick()),
        Emit(HealthChanged(1)),
        Emit(Refuted(2)),
    )
    assert node.members[A] == record(A, 2)


def test_news_that_comes_in_goes_out_on_the_same_packets_ack() -> None:
    _, effects = heard(TOGETHER, Alive(2, who(C)), Ping(9, A, at(B), B))
    assert Send(at(B), (Ack(9), Alive(2, who(C)))) in effects


def test_messages_are_taken_in_their_order() -> None:
    node, _ = heard(TOGETHER, Suspect(1, C, B), Alive(2, who(C)), Suspect(2, C, B), Dead(2, C, B))
    assert node.members[C] == record(C, 2, DEAD)
    node, _ = heard(TOGETHER, Dead(2, C, B), Suspect(2, C, B), Alive(2, who(C)), Suspect(1, C, B))
    assert node.members[C] == record(C, 2, DEAD)


def test_a_farewell_that_has_been_sent_is_over() -> None:
    """From the queue to the owner in one step: the fourth packet that carries it finishes it."""
    node, effects = step(TOGETHER, NOW, Leave(5 * SECOND))
    assert events(effects) == [Left(A, 1, A)]
    told = []
    for sequence in range(1, 6):
        node, effects = heard(node, Ping(sequence, A, at(B), B))
        told.append((Dead(1, A, A) in of_type(Send, effects)[0].messages, events(effects)))
    assert told == [
        (True, []),
        (True, []),
        (True, []),
        (True, [LeaveFinished(timed_out=False)]),
        (False, []),
    ]
    assert step(node, NOW + 5 * SECOND, LeaveTimeout()) == (node, ())


def test_a_farewell_by_gossip_is_over_after_two_ticks() -> None:
    node, _ = step(TOGETHER, NOW, Leave(5 * SECOND))
    node, first = step(node, NOW + 200 * MS, GossipTick())
    assert events(first) == []
    node, second = step(node, NOW + 400 * MS, GossipTick())
    assert events(second) == [LeaveFinished(timed_out=False)]
    assert [type(effect) for effect in second] == [Send, Emit]


def test_who_has_left_still_answers_probes_and_exchanges() -> None:
    """6.14: until it is shut down, showing itself as left."""
    node, _ = fed(TOGETHER, NOW, Leave(0), LeaveTimeout())
    _, effects = heard(node, Ping(9, A, at(B), B))
    assert of_type(Send, effects)[0].messages[0] == Ack(9)
    _, effects = step(node, NOW, ExchangeRequested(1, at(B), PushPull(False, ())))
    assert effects == (Reply(1, PushPull(False, node.members)),)
    _, effects = step(node, NOW, ProbeTick(NOW))
    assert isinstance(of_type(Send, effects)[0].messages[0], Ping)
    for news in (Suspect(9, A, B), Dead(9, A, B), Alive(9, who(A)), Alive(9, who(A, b"x"))):
        assert heard(node, news) == (node, ())


def test_an_update_is_finished_once() -> None:
    """Also when nobody is there to hear it, and somebody comes later."""
    lonely, _ = step(create(A, at(A), PUNCTUAL, seed=1), NOW, Start())
    for first in (lonely, TOGETHER):
        node, effects = fed(first, NOW, UpdateMeta(b"new"), packet(Alive(1, who(E)), source=E))
        for tick in range(1, 9):
            node, more = fed(node, NOW + tick * 200 * MS, GossipTick())
            effects += more
        assert node.broadcasts.queue == ()
        assert of_type(UpdateFinished, events(effects)) == [UpdateFinished(2)]


def test_an_update_before_the_start_is_finished_as_well() -> None:
    """``UpdateMeta`` ends in an ``UpdateFinished`` event; nobody is there to wait for."""
    fresh = create(A, at(A), PUNCTUAL, seed=1)
    _, effects = step(fresh, NOW, UpdateMeta(b"new"))
    assert len(of_type(UpdateFinished, events(effects))) == 1


def test_a_newer_update_ends_the_wait_for_the_older() -> None:
    node, effects = fed(TOGETHER, NOW, UpdateMeta(b"one"), UpdateMeta(b"two"))
    assert events(effects) == [
        Updated(who(A, b"one"), 2),
        UpdateFinished(2),
        Updated(who(A, b"two"), 3),
    ]
    invariants.check(node)


def test_an_accusation_ends_the_wait_for_an_update() -> None:
    """A refutation displaces it, and carries the new metadata itself."""
    node, _ = step(TOGETHER, NOW, UpdateMeta(b"new"))
    node, effects = heard(node, Suspect(2, A, B))
    assert events(effects) == [UpdateFinished(2), HealthChanged(1), Refuted(3)]
    assert [item.message for item in node.broadcasts.queue] == [Alive(3, who(A, b"new"))]


def test_a_suspicion_that_nobody_refutes_is_a_death() -> None:
    node, effects = heard(TOGETHER, Suspect(1, C, B))
    (timer,) = (e for e in effects if isinstance(e, After) and e.input != GossipTick())
    node, effects = step(node, NOW + timer.delay, timer.input)
    assert events(effects) == [Failed(C, 1, A)]
    assert [item.message for item in node.broadcasts.queue] == [Dead(1, C, A)]
    assert node.members[C].status == DEAD


# --- piggyback --------------------------------------------------------------------------

RUMOUR = Dead(1, D, C)
BUSY, _ = heard(TOGETHER, RUMOUR)
RELAYING, _ = heard(BUSY, IndirectPing(77, C, at(C), True, at(B), B), now=NOW)
PROBING, _ = step(BUSY, NOW, ProbeTick(NOW))

RIDES: dict[str, tuple[Node, Input, type[Any]]] = {
    "a ping": (BUSY, ProbeTick(NOW), Ping),
    "an indirect ping": (PROBING, ProbeTimeout(1), IndirectPing),
    "a relayed ping": (BUSY, packet(IndirectPing(77, C, at(C), True, at(B), B)), Ping),
    "an ack": (BUSY, packet(Ping(9, A, at(B), B)), Ack),
    "a relayed ack": (RELAYING, packet(Ack(1), source=C), Ack),
    "a nack": (RELAYING, RelayTimeout(1), Nack),
}


@pytest.mark.parametrize(("node", "input", "carrier"), RIDES.values(), ids=RIDES)
def test_news_rides_on(node: Node, input: Input, carrier: type[Any]) -> None:
    (before,) = node.broadcasts.queue
    after, effects = step(node, NOW, input)
    (send,) = of_type(Send, effects)
    assert [type(send.messages[0]), *send.messages[1:]] == [carrier, RUMOUR]
    assert [item.transmits for item in after.broadcasts.queue] == [
        n for n in (before.transmits + 1,) if n < 4
    ]


@pytest.mark.parametrize(("node", "input", "carrier"), RIDES.values(), ids=RIDES)
def test_without_piggyback_nothing_rides_on(node: Node, input: Input, carrier: type[Any]) -> None:
    node = replace(node, config=replace(PUNCTUAL, piggyback=False))
    after, effects = step(node, NOW, input)
    (send,) = of_type(Send, effects)
    assert [type(message) for message in send.messages] == [carrier]
    assert after.broadcasts == node.broadcasts


def test_nothing_rides_on_the_ping_of_a_suspect() -> None:
    """6.4: one compound of exactly the ping and the suspicion."""
    node, _ = heard(TOGETHER, Suspect(1, B, C), Suspect(1, C, B), Suspect(1, D, B))
    node, effects = step(node, NOW, ProbeTick(NOW))
    (send,) = of_type(Send, effects)
    ping = send.messages[0]
    assert send.messages == (ping, Suspect(1, ping.target, A))
    assert send.crc
    assert [item.transmits for item in node.broadcasts.queue] == [0, 0, 0]


def test_nothing_rides_on_a_stream() -> None:
    _, effects = step(BUSY, NOW, ExchangeRequested(1, at(B), Ping(9, A, at(B), B)))
    assert effects == (Reply(1, Ack(9)),)
    _, effects = step(BUSY, NOW, ExchangeRequested(1, at(B), Ping(9, C, at(B), B)))
    assert effects == (Reply(1, None),)


def test_several_packets_of_one_step_share_the_queue() -> None:
    """Each counts a transmission, and the second carries what was sent least."""
    pings = [Ping(sequence, A, at(name), name) for sequence, name in ((8, B), (9, C))]
    node, effects = heard(BUSY, *pings)
    assert [send.messages[1:] for send in of_type(Send, effects)] == [(RUMOUR,), (RUMOUR,)]
    assert [item.transmits for item in node.broadcasts.queue] == [2]


def test_a_packet_is_filled_as_far_as_it_goes() -> None:
    """2.8: U - len(m) - 2 for the messages and 2 for each; one byte more stays behind."""
    ack = Ack(9)
    room = 1400 - size(ack) - 2
    for spare, rides in ((0, True), (-1, False)):
        free = room - 2 - size(Suspect(1, D, NodeId(""))) - 2 - spare
        accusation = Suspect(1, D, NodeId("-" * free))
        node, _ = heard(TOGETHER, accusation)
        _, effects = heard(node, Ping(9, A, at(B), B))
        (send,) = of_type(Send, effects)
        assert (len(send.messages) == 2) == rides
        if rides:
            assert packet_size(send.messages, False, LAN) == 1402


# --- streams ----------------------------------------------------------------------------


def test_a_stream_ping_that_is_answered_saves_the_round() -> None:
    node, _ = step(TOGETHER, NOW, ProbeTick(NOW))
    node, effects = step(node, NOW + 500 * MS, ProbeTimeout(1))
    (exchange,) = of_type(Exchange, effects)
    assert isinstance(exchange.request, Ping)
    assert exchange.timeout == 500 * MS
    node, effects = step(node, NOW + 600 * MS, Exchanged(exchange.exchange, Ack(1)))
    assert effects == ()
    node, effects = step(node, NOW + SECOND, ProbeTick(NOW + SECOND))
    assert events(effects) == []
    assert node.members.count(ALIVE) == 4


def test_the_last_sequence_number_is_a_stream_pings_as_well() -> None:
    node = replace(TOGETHER, probe=replace(TOGETHER.probe, seq_no=U32 - 1))
    node, _ = fed(node, NOW, ProbeTick(NOW), ProbeTimeout(U32))
    node, _ = step(node, NOW + 600 * MS, Exchanged(U32, Ack(U32)))
    assert node.probe.round is not None
    assert node.probe.round.stream_acked


def test_a_stream_ping_that_fails_changes_nothing() -> None:
    node, _ = step(TOGETHER, NOW, ProbeTick(NOW))
    node, effects = step(node, NOW + 500 * MS, ProbeTimeout(1))
    (exchange,) = of_type(Exchange, effects)
    assert step(node, NOW, ExchangeFailed(exchange.exchange, "refused")) == (node, ())


def test_exchanges_of_probes_and_of_states_have_different_names() -> None:
    node, _ = step(TOGETHER, NOW, ProbeTick(NOW))
    _, effects = fed(node, NOW + 500 * MS, ProbeTimeout(1), PushPullTick(), Join((at(E),)))
    names = [exchange.exchange for exchange in of_type(Exchange, effects)]
    assert len(set(names)) == 3


def test_a_join_that_is_answered_with_an_ack_has_failed() -> None:
    """5.2: a reply of any type but push/pull is an error."""
    node, effects = step(TOGETHER, NOW, Join((at(E),)))
    (exchange,) = of_type(Exchange, effects)
    _, effects = step(node, NOW, Exchanged(exchange.exchange, Ack(1)))
    (end,) = of_type(JoinFinished, events(effects))
    assert (end.contacted, [address for address, _ in end.failures]) == (0, [at(E)])


def test_a_stream_ping_that_is_answered_with_a_state_has_failed() -> None:
    """5.3: type 2 is expected; nobody asked for this state."""
    node, _ = step(TOGETHER, NOW, ProbeTick(NOW))
    node, effects = step(node, NOW + 500 * MS, ProbeTimeout(1))
    (exchange,) = of_type(Exchange, effects)
    answer = Exchanged(exchange.exchange, PushPull(False, (record(E),)))
    assert step(node, NOW + 600 * MS, answer) == (node, ())


def test_a_relay_for_somebody_who_does_not_say_where_it_is() -> None:
    """Section 4: without source fields the reply goes to where the packet came from."""
    for nowhere in (Address(b"", 0), Address(at(B).host, 0), Address(b"", 7946)):
        ask = IndirectPing(77, C, at(C), True, nowhere, NodeId(""))
        node, _ = heard(TOGETHER, ask)
        _, effects = heard(node, Ack(1))
        assert of_type(Send, effects) == [Send(at(B), (Ack(77),), piggyback=True)]
        _, effects = step(node, NOW + 500 * MS, RelayTimeout(1))
        assert of_type(Send, effects) == [Send(at(B), (Nack(77),), piggyback=True)]


# --- what is stale ----------------------------------------------------------------------

STALE: dict[str, Input] = {
    "a tick of the past": ProbeTick(NOW - SECOND),
    "a tick of another phase": ProbeTick(NOW + 1),
    "a timeout of no round": ProbeTimeout(1),
    "a timeout of no relay": RelayTimeout(1),
    "a suspicion that is over": SuspicionTimeout(C, NOW - SECOND),
    "a suspicion of nobody": SuspicionTimeout(NodeId("Z"), NOW),
    "a farewell that was not said": LeaveTimeout(),
    "an ack of nothing": packet(Ack(1)),
    "a nack of nothing": packet(Nack(1)),
    "a ping for somebody else": packet(Ping(1, C, at(B), B)),
    "known news": packet(Alive(1, who(C)), Suspect(0, C, B), Dead(0, C, B)),
    "news of nobody": packet(Suspect(1, NodeId("Z"), B), Dead(1, NodeId("Z"), B)),
    "one's own words": packet(Alive(1, who(A))),
    "a stream ack of no round": Exchanged(1, Ack(1)),
    "a failure of no exchange": ExchangeFailed(U32 + 9, "refused"),
    "an equal state": Exchanged(U32 + 9, PushPull(False, group("DCBA"))),
    "gossip without news": GossipTick(),
}


@pytest.mark.parametrize("input", STALE.values(), ids=STALE)
def test_what_is_stale_changes_nothing(input: Input) -> None:
    assert step(TOGETHER, NOW, input) == (TOGETHER, ())


# --- purity -----------------------------------------------------------------------------


def stormy(seed: int, *watchers: Watcher) -> World:
    """A group in trouble, so that many kinds of step are taken."""
    world = World("ABCDE", seed=seed)
    world.watchers += watchers
    world.kill("D")
    world.kill("E")
    world.run(9 * SECOND)
    world.spawn("D")
    world.spawn("E")
    for reborn in "DE":
        world.feed(reborn, Join((at(A), at("x"))))
    world.run(SECOND)
    world.cut("AB", "CD")
    world.run(3 * SECOND)
    world.heal()
    world.feed("B", UpdateMeta(b"new"))
    world.run(2 * SECOND)
    world.feed("C", Leave(SECOND))
    world.run(3 * SECOND)
    return world


def test_a_step_is_a_function_and_leaves_its_arguments_alone() -> None:
    """Every step of a stormy group, taken twice: equal results, and untouched arguments."""
    taken: list[tuple[Node, int, Input, str, Node, tuple[Effect, ...]]] = []

    def remember(
        world: World, host: str, before: Node, input: Input, after: Node, effects: Any
    ) -> None:
        taken.append((before, world.now, input, f"{before}{input}", after, effects))

    world = World("ABCDE", seed=3)
    world.watchers.append(remember)
    world.kill("E")
    world.run(5 * SECOND)
    world.feed("B", UpdateMeta(b"new"))
    world.cut("A", "BCD")
    world.run(5 * SECOND)
    world.heal()
    world.feed("C", Leave(SECOND))
    world.run(3 * SECOND)
    assert len(taken) > 250
    for before, now, input, text, after, effects in taken:
        assert step(before, now, input) == (after, effects)
        assert f"{before}{input}" == text


def test_a_run_is_its_seed() -> None:
    one, same, other = stormy(1), stormy(1), stormy(2)
    assert (one.told, one.sent, one.nodes) == (same.told, same.sent, same.nodes)
    assert one.sent != other.sent


def test_a_run_does_not_hang_on_the_hash_seed() -> None:
    """No order of a hash table reaches an effect (``str`` hashes differ between processes)."""
    code = (
        "from tests.test_node import stormy; from swimsim.fingerprint import fingerprint;"
        "marks = []; world = stormy(5, lambda *step: marks.append(fingerprint(step[4])));"
        "print(marks, world.sent, world.told)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


# --- the same node in another guise -----------------------------------------------------


def test_an_equal_table_in_another_object_changes_nothing() -> None:
    other = with_table(BUSY, table(*BUSY.members))
    assert other == BUSY
    assert other.members is not BUSY.members
    for input in (ProbeTick(NOW), GossipTick(), PushPullTick(), packet(Dead(1, B, C))):
        assert step(other, NOW, input) == step(BUSY, NOW, input)


def test_a_reseeded_node_differs_in_its_randomness_alone() -> None:
    fresh = reseeded(BUSY, 99)
    assert fresh != BUSY
    assert reseeded(BUSY, 99) == fresh
    assert (fresh.membership, fresh.health, fresh.config) == (
        BUSY.membership,
        BUSY.health,
        BUSY.config,
    )
    assert fresh.upkeep.rng != BUSY.upkeep.rng
    for before, after in (
        (BUSY.probe, fresh.probe),
        (BUSY.broadcasts, fresh.broadcasts),
        (BUSY.upkeep.anti_entropy, fresh.upkeep.anti_entropy),
        (BUSY.upkeep.reconnect, fresh.upkeep.reconnect),
    ):
        assert after.rng != before.rng
        assert replace(after, rng=before.rng) == before


def test_a_fingerprint_tells_pasts_apart() -> None:
    pasts = [TOGETHER]
    for input in (
        packet(Suspect(1, C, B)),
        packet(Suspect(1, A, B)),
        packet(IndirectPing(1, C, at(C), True, at(B), B)),
        packet(Dead(1, C, B)),
        ProbeTick(NOW),
        PushPullTick(),
    ):
        pasts.append(step(TOGETHER, NOW, input)[0])
    pasts += [reseeded(TOGETHER, 5), settled(B, "ABCD", PUNCTUAL)]
    pasts.append(with_table(TOGETHER, group("ACBD")))
    assert len({fingerprint(past) for past in pasts}) == len(pasts)
    assert fingerprint(with_table(TOGETHER, table(*TOGETHER.members))) == fingerprint(TOGETHER)


# --- totality ---------------------------------------------------------------------------

NAMES = st.sampled_from([A, A, B, C, D, E, NodeId("Z"), NodeId("")])
INCARNATIONS = st.sampled_from([0, 1, 1, 2, 2, 3, 4, U32 - 1, U32])
ADDRESSES = st.sampled_from([*map(at, "ABCDEZ"), at(B, 1), Address(b"", 0), Address(b"\1\2\3", 9)])
VSNS = st.sampled_from([VSN] * 6 + [b"", VSN[:5], bytes(6), bytes((1, 9, 7, 2, 5, 5))])
METAS = st.sampled_from([b"", b"", b"m", b"x" * 512])


@st.composite
def peers(draw: st.DrawFn) -> Any:
    name = draw(NAMES)
    address = draw(ADDRESSES) if draw(st.integers(0, 4)) == 0 else at(name or "Z")
    return who(name, draw(METAS), address=address, vsn=draw(VSNS))


NUMBERS = st.sampled_from([0, 1, 2, 3, 7, U32])
MESSAGES: st.SearchStrategy[Any] = st.one_of(
    st.builds(Ping, NUMBERS, NAMES, ADDRESSES, NAMES),
    st.builds(IndirectPing, NUMBERS, NAMES, ADDRESSES, st.booleans(), ADDRESSES, NAMES),
    st.builds(Ack, NUMBERS, st.binary(max_size=3)),
    st.builds(Nack, NUMBERS),
    st.builds(Suspect, INCARNATIONS, NAMES, NAMES),
    st.builds(Dead, INCARNATIONS, NAMES, NAMES),
    st.builds(Alive, INCARNATIONS, peers()),
    st.builds(User, st.binary(max_size=3)),
)
MEMBERS = st.builds(
    lambda about, incarnation, status: replace(
        record(B), peer=about, incarnation=incarnation, status=status
    ),
    peers(),
    INCARNATIONS,
    st.sampled_from(Status),
)
PUSH_PULLS = st.builds(PushPull, st.booleans(), st.lists(MEMBERS, max_size=5).map(tuple))
EXCHANGES = st.sampled_from([0, 1, 2, U32 + 1, U32 + 2])
ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.builds(Received, ADDRESSES, st.lists(MESSAGES, max_size=4).map(tuple)),
    st.builds(Received, ADDRESSES, st.lists(MESSAGES, max_size=4).map(tuple)),
    st.builds(ExchangeRequested, EXCHANGES, ADDRESSES, PUSH_PULLS),
    st.builds(
        ExchangeRequested, EXCHANGES, ADDRESSES, st.builds(Ping, NUMBERS, NAMES, ADDRESSES, NAMES)
    ),
    st.builds(Exchanged, EXCHANGES, PUSH_PULLS | st.builds(Ack, NUMBERS)),
    st.builds(ExchangeFailed, EXCHANGES, st.just("refused")),
    st.builds(ProbeTick, st.integers(0, 20 * SECOND)),
    st.builds(ProbeTimeout, NUMBERS),
    st.builds(RelayTimeout, NUMBERS),
    st.builds(SuspicionTimeout, NAMES, st.integers(0, 20 * SECOND)),
    st.just(LeaveTimeout()),
    st.builds(Join, st.lists(ADDRESSES, max_size=3).map(tuple)),
    st.builds(Leave, st.sampled_from([0, SECOND])),
    st.builds(UpdateMeta, METAS),
)
# Either anything at all, or one of the timers that the node asked for: which, and how late.
DEEDS = st.lists(
    ANYTHING | st.tuples(st.integers(0, 30), st.sampled_from([0, 0, 0, 1, 40]).map(SECOND.__mul__)),
    max_size=30,
)
CONFIGS = st.sampled_from(
    [
        LAN,
        SWIM_2002,
        replace(LAN, probe_order="random", dead_node_reclaim_time=SECOND),
        replace(LAN, nack_percent=80, scale_probe_timeout=True, failed_probe_is_one=True),
        replace(LAN, suspicion=False, gossip_nodes=0),
        replace(LAN, indirect_checks=0, piggyback=False, lha_probe=False),
        replace(LAN, packet_size=512, label_size=20, encrypted=True, stagger=False),
        replace(LAN, allowed_networks=("10.0.0.0/30", "fd00::/8"), retransmit_mult=0),
        replace(LAN, probe_timeout=2 * SECOND, max_confirmations=1, awareness_max=1),
    ]
)


def done(node: Node, effects: tuple[Effect, ...], deeds: list[Any], *, check: bool) -> Node:
    """The node after all that."""
    now = 0
    timers = [effect for effect in effects if isinstance(effect, After)]
    for deed in deeds:
        input = deed
        if isinstance(deed, tuple):
            if not timers:
                continue
            timer = timers.pop(deed[0] % len(timers))
            now, input = max(now, timer.delay) + deed[1], timer.input
        node, effects = step(node, now, input)
        for effect in effects:
            assert not isinstance(effect, Then)
            if isinstance(effect, After):
                assert effect.delay >= 0
                timers.append(replace(effect, delay=now + effect.delay))
            if isinstance(effect, Send):
                assert packet_size(effect.messages, False, node.config) <= (
                    node.config.packet_size + 2
                )
        if check:
            invariants.check(node)
    return node


@settings(max_examples=400)
@given(CONFIGS, st.integers(0, 9), st.booleans(), DEEDS)
def test_any_input_in_any_state_has_a_defined_result(
    config: Config, seed: int, alone: bool, deeds: list[Any]
) -> None:
    start = Start(None if alone else group("ABCD"))
    node, effects = step(create(A, at(A), config, seed=seed), 0, start)
    node = done(node, effects, deeds, check=True)
    assert node.members[A].peer == node.membership.me


@settings(max_examples=50)
@given(DEEDS)
def test_a_node_that_has_not_started_stands_anything_too(deeds: list[Any]) -> None:
    node = done(create(A, at(A), LAN, seed=1), (), deeds, check=False)
    assert node.name == A
