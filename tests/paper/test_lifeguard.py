"""Lifeguard (Dadgar, Phillips, Currey; arXiv 1707.00788v2), claim by claim, on the core alone."""

from __future__ import annotations

from itertools import pairwise
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    Effect,
    Emit,
    Exchange,
    HealthChanged,
    Refuted,
    Send,
)
from swimsim.inputs import (
    HealthChange,
    Input,
    ProbeTick,
    ProbeTimeout,
    Received,
    RelayTimeout,
    SuspicionTimeout,
)
from swimsim.member import ALIVE, DEAD, SUSPECT
from swimsim.messages import Ack, Alive, IndirectPing, Nack, Ping, Suspect
from swimsim.node import Node, step
from swimsim.swim import awareness
from swimsim.swim.suspicion import begin, bounds, confirm
from swimsim.terms import MS, SECOND, Micros, NodeId
from tests.builders import A, B, C, D, at, events, of_type, queue, settled, who
from tests.world import World

# The paper where it differs from memberlist (spec experiments.md 2): S = 8, K = 3, both times
# scaled, one for a failed probe and one for each missing nack, nacks at 80 %; alpha 5, beta 6.
PAPER = replace(
    LAN,
    stagger=False,
    stream_ping=False,
    suspicion_mult=5,
    awareness_max=8,
    scale_probe_timeout=True,
    failed_probe_is_one=True,
    nack_percent=80,
    max_confirmations=3,
)
OFF = replace(PAPER, lha_probe=False, lha_suspicion=False, buddy_system=False)
GROUP = "ABCDEFGH"


def heard(node: Node, now: Micros, *messages: object, source: str = B) -> Node:
    return step(node, now, Received(at(source), messages))[0]


def waits(effects: tuple[Effect, ...], kind: type[Input]) -> list[Micros]:
    return [e.delay for e in effects if isinstance(e, After) and type(e.input) is kind]


def asked(health: int = 0, config: Config = PAPER) -> tuple[Node, Micros, NodeId]:
    """A node that has asked three helpers, when its round ends, and whom it probes."""
    node, _ = step(replace(settled(A, GROUP, config), health=health), 0, ProbeTick(0))
    node, effects = step(node, SECOND // 2, ProbeTimeout(1))
    assert len(of_type(IndirectPing, [s.messages[0] for s in of_type(Send, effects)])) == 3
    round_ = node.probe.round
    assert round_ is not None
    return node, round_.deadline, round_.target


# --- IV-A, LHA-Probe: local health ------------------------------------------------------


@given(st.lists(st.integers(-3, 5), max_size=60))
def test_the_multiplier_saturates_at_zero_and_s(deltas: list[int]) -> None:
    """IV-A: LHM in [0, S], S = 8."""
    score = 0
    for delta in deltas:
        score, _ = awareness.step(score, HealthChange(delta), PAPER)
        assert 0 <= score <= 8
    for _ in range(9):
        score, _ = awareness.step(score, HealthChange(+1), PAPER)
    assert score == 8
    for _ in range(9):
        score, _ = awareness.step(score, HealthChange(-1), PAPER)
    assert score == 0


@pytest.mark.parametrize(
    ("health", "interval", "timeout"),
    [(0, 1000, 500), (1, 2000, 1000), (3, 4000, 2000), (8, 9000, 4500)],
)
def test_interval_and_timeout_are_scaled_by_the_multiplier_and_one(
    health: int, interval: int, timeout: int
) -> None:
    """IV-A: base (LHM + 1); with S = 8 they back off to 9 s and 4.5 s."""
    node = replace(settled(A, GROUP, PAPER), health=health)
    node, effects = step(node, 0, ProbeTick(0))
    assert node.probe.round is not None
    assert node.probe.round.deadline == interval * MS
    assert waits(effects, ProbeTimeout) == [timeout * MS]


def test_at_the_worst_the_code_waits_eight_intervals_and_does_not_scale_the_timeout() -> None:
    """memberlist's side of the disagreement: clamped at 7, the interval alone is scaled."""
    node = replace(settled(A, GROUP, replace(LAN, stagger=False)), health=LAN.awareness_max)
    node, effects = step(node, 0, ProbeTick(0))
    assert node.probe.round is not None
    assert node.probe.round.deadline == 8 * SECOND
    assert waits(effects, ProbeTimeout) == [500 * MS]


def test_a_successful_probe_lowers_it_by_one() -> None:
    """IV-A, the list of events: -1."""
    node, _, _ = asked(health=3)
    node, effects = step(node, SECOND, Received(at(B), (Ack(1),)))
    assert effects == (Emit(HealthChanged(2)),)


@pytest.mark.parametrize("nacks", [0, 1, 2, 3])
def test_a_failed_probe_raises_it_by_one_and_each_missing_nack_by_one(nacks: int) -> None:
    """IV-A, the list of events: failed probe +1, probe with missed nack +1."""
    node, end, _ = asked()
    for _ in range(nacks):
        node = heard(node, SECOND // 2, Nack(1))
    node, _ = step(node, end, ProbeTick(end))
    assert node.health == 1 + (3 - nacks)


@pytest.mark.parametrize("nacks", [0, 1, 2, 3])
def test_in_the_code_missing_nacks_are_the_cost_of_a_failed_probe(nacks: int) -> None:
    """memberlist's side: expected minus received, and one only if none was expected."""
    node, end, _ = asked(config=replace(PAPER, failed_probe_is_one=False))
    for _ in range(nacks):
        node = heard(node, SECOND // 2, Nack(1))
    node, _ = step(node, end, ProbeTick(end))
    assert node.health == 3 - nacks


def test_having_to_refute_raises_it_by_one() -> None:
    """IV-A, the list of events: refuting a suspicion about self +1."""
    node = heard(settled(A, GROUP, PAPER), 0, Suspect(1, A, B))
    assert node.health == 1


def test_a_helper_sends_a_nack_at_four_fifths_of_the_probe_timeout() -> None:
    """IV-A: so that the nack comes back before the asker's time is up."""
    ask = IndirectPing(9, C, at(C), True, at(B), B)
    node, effects = step(settled(A, GROUP, PAPER), 0, Received(at(B), (ask,)))
    assert waits(effects, RelayTimeout) == [400 * MS]
    node, effects = step(node, 400 * MS, RelayTimeout(1))
    assert of_type(Send, effects) == [Send(at(B), (Nack(9),), piggyback=True)]
    # and still passes on an ack that is late
    node, effects = step(node, 450 * MS, Received(at(C), (Ack(1),)))
    assert of_type(Send, effects) == [Send(at(B), (Ack(9),), piggyback=True)]


def test_nacks_of_a_dead_target_reach_a_healthy_asker_in_time() -> None:
    """IV-A: a missing ack with all nacks is the target's fault. 500 + 400 ms < 1 s."""
    world = World(GROUP, PAPER, seed=1)
    world.kill("H")
    world.run(12 * SECOND)
    assert len(world.messages(Nack)) >= 9
    scores = [e.score for e in world.events(HealthChanged) if isinstance(e, HealthChanged)]
    assert max(scores) <= 2


def test_in_the_code_they_are_late_and_a_dead_target_costs_health() -> None:
    """Spec memberlist.md 6.4, the timing trap: 500 + 500 ms is the whole interval."""
    world = World(GROUP, replace(LAN, stream_ping=False), seed=1)
    world.kill("H")
    world.run(3 * SECOND)
    assert 3 in [e.score for e in world.events(HealthChanged) if isinstance(e, HealthChanged)]


def test_without_lha_probe_nobody_asks_for_a_nack_nor_keeps_a_score() -> None:
    """IV-A off: SWIM."""
    node, _ = step(settled(A, GROUP, OFF), 0, ProbeTick(0))
    node, effects = step(node, SECOND // 2, ProbeTimeout(1))
    asks = [send.messages[0] for send in of_type(Send, effects)]
    assert [ask.nack for ask in asks] == [False] * 3
    node, _ = step(node, SECOND, ProbeTick(SECOND))
    node = heard(node, SECOND, Suspect(1, A, B))
    assert node.health == 0


# --- IV-B, LHA-Suspicion: the timeout ---------------------------------------------------


def timeouts(k: int, alpha: int = 5, beta: int = 6, n: int = 100) -> list[Micros]:
    """The timeout after 0, 1, 2, ... independent confirmations."""
    config = replace(
        PAPER, suspicion_mult=alpha, suspicion_max_timeout_mult=beta, max_confirmations=k
    )
    running = begin(0, NodeId("0"), n, config)
    found = [running.deadline]
    for accuser in range(1, k + 3):
        running = confirm(running, NodeId(str(accuser)))
        found.append(running.deadline)
    return found


def test_the_timeout_with_k_of_three() -> None:
    """IV-B: max(Min, Max - (Max - Min) log(C + 1) / log(K + 1)); n = 100: Min 10 s, Max 60 s."""
    assert timeouts(3) == [60 * SECOND, 35 * SECOND, 20_375 * MS, *[10 * SECOND] * 3]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(("alpha", "beta"), [(5, 6), (4, 6), (2, 4), (5, 2), (5, 1)])
@pytest.mark.parametrize("n", [10, 100, 128])
def test_the_timeout_falls_from_max_to_min_by_the_logarithm(
    k: int, alpha: int, beta: int, n: int
) -> None:
    """IV-B: Min = alpha log10(n) intervals, Max = beta Min."""
    found = timeouts(k, alpha, beta, n)
    least = alpha * int(1000 * max(1.0, log(n, 10) + 1e-12)) * MS
    most = beta * least
    assert (found[0], found[k]) == (most, least)
    assert found == sorted(found, reverse=True)
    for c, timeout in enumerate(found[:k]):
        formula = most - (most - least) * log(c + 1) / log(k + 1)
        assert formula - MS <= timeout <= formula
    drops = [one - other for one, other in pairwise(found[: k + 1])]
    for one, other in pairwise(drops):
        assert one >= other - MS, "the first confirmations count the most"


def test_only_independent_confirmations_count() -> None:
    """IV-B: from different members, the first accuser not among them."""
    node = heard(settled(A, GROUP, PAPER), 0, Suspect(1, C, B), Suspect(1, C, B), Suspect(1, C, B))
    alone = node.membership.suspicions[C].deadline
    node = heard(node, 0, Suspect(1, C, D), Suspect(1, C, D))
    assert alone == 30 * SECOND
    assert node.membership.suspicions[C].deadline == 17_500 * MS
    assert node.membership.suspicions[C].accusers == (B, D)


def test_the_first_k_confirmations_are_gossiped_again_and_no_more() -> None:
    """IV-B: re-gossip the first K independent suspicions, so that others hear of them too."""
    node, gossiped = settled(A, GROUP, PAPER), []
    for accuser in (B, D, *map(NodeId, "EFGH")):
        before = node.broadcasts.arrivals
        node = heard(node, 0, Suspect(1, C, accuser))
        gossiped.append(node.broadcasts.arrivals > before)
    assert gossiped == [True, True, True, True, False, False]  # the first and K = 3 more
    assert [item.message for item in node.broadcasts.queue] == [Suspect(1, C, NodeId("F"))]


def test_a_timeout_that_shrinks_below_the_time_passed_is_over_at_once() -> None:
    """IV-B: the timer fires when the elapsed time has reached it."""
    node = heard(settled(A, GROUP, PAPER), 0, Suspect(1, C, B))
    late = 20 * SECOND
    node, effects = step(node, late, Received(at(D), (Suspect(1, C, D),)))
    assert waits(effects, SuspicionTimeout) == [0]
    node, _ = step(node, late, SuspicionTimeout(C, 0))
    assert node.members[C].status > SUSPECT


def test_a_node_that_hears_nothing_believes_its_suspicions_last() -> None:
    """IV-B, the point of it: alone in its suspicions it waits for Max, 30 s; the others, who all
    suspect the one that does not answer, for Min, 5 s."""
    world = World(GROUP, PAPER, seed=2)
    world.lost_packets |= {(other, "A") for other in GROUP}
    world.run(14 * SECOND)
    assert {world.status(other, "A") for other in GROUP[1:]} == {DEAD}
    assert {world.status("A", other) for other in GROUP} == {ALIVE, SUSPECT}


def test_without_lha_suspicion_the_timeout_is_min_from_the_start() -> None:
    """IV-B off: SWIM's fixed timeout."""
    node = heard(settled(A, GROUP, OFF), 0, Suspect(1, C, B), Suspect(1, C, D))
    running = node.membership.suspicions[C]
    assert running.deadline == bounds(8, OFF)[0] == 5 * SECOND
    assert running.accusers == (B,)


# --- IV-C, the buddy system -------------------------------------------------------------


def pings_of(node: Node, suspect: NodeId, rounds: int = 30) -> list[Send]:
    """The packets that ping ``suspect`` in so many rounds, nothing else being answered."""
    found, now = [], 0
    for _ in range(rounds):
        node, effects = step(node, now, ProbeTick(now))
        for send in of_type(Send, effects):
            ping = send.messages[0]
            if isinstance(ping, Ping):
                if ping.target == suspect:
                    found.append(send)
                node = heard(node, now, Ack(ping.seq_no))
        now += SECOND
    return found


def suspecting(config: Config) -> Node:
    """A node that suspects C, and whose queue is full of younger and longer news."""
    node = heard(settled(A, "ABCD", config), 0, Suspect(1, C, B))
    for name in "EFGHIJ":
        node = heard(node, 0, Alive(1, who(name, b"x" * 500)))
    return node


def test_the_ping_of_a_suspect_always_carries_the_suspicion() -> None:
    """IV-C: whatever else is queued, and however often it was sent before."""
    found = pings_of(suspecting(PAPER), C)
    assert len(found) > 3
    for send in found:
        assert send.messages == (send.messages[0], Suspect(1, C, A))


def test_without_it_the_suspicion_competes_with_other_news() -> None:
    """IV-C off: SWIM."""
    found = pings_of(suspecting(OFF), C)
    assert found
    assert any(Suspect(1, C, B) not in send.messages for send in found)


def test_a_suspect_refutes_with_its_very_next_words() -> None:
    """IV-C: the earliest opportunity to refute; the ack of that ping carries it."""
    ping, accusation = Ping(3, A, at(B), B), Suspect(1, A, B)
    _, effects = step(settled(A, GROUP, PAPER), 0, Received(at(B), (ping, accusation)))
    assert Send(at(B), (Ack(3), Alive(2, who(A)))) in effects
    assert of_type(Refuted, events(effects)) == [Refuted(2)]


def test_one_exchange_clears_a_suspect() -> None:
    """IV-C end to end: a suspicion that no other packet could carry to its subject."""
    quiet = replace(PAPER, gossip_nodes=0, push_pull_interval=0)
    world = World("AB", quiet, seed=1)
    world.feed("A", Received(at("?"), (Suspect(1, B, NodeId("?")),)))
    accuser = world.nodes["A"]
    silenced = queue(of=accuser.broadcasts)  # nothing but the ping itself can say it
    world.nodes["A"] = replace(accuser, broadcasts=silenced)
    world.run(4 * SECOND)
    assert world.all_alive()
    assert world.nodes["B"].membership.incarnation == 2


# --- V, nothing of it is on the wire of SWIM --------------------------------------------


def test_with_all_three_parts_off_a_group_behaves_as_swim() -> None:
    """V: the baseline. No nacks, no stretched rounds, no second accusers, plain pings."""
    world = World(GROUP, OFF, seed=1)
    world.kill("H")
    world.run(20 * SECOND)
    assert world.messages(Nack) == []
    assert {ask.nack for ask in world.messages(IndirectPing)} == {False}
    assert world.events(HealthChanged) == []
    assert world.seen["confirmed"] == 0
    assert world.seen["buddy ping"] == 0
    assert not [e for _, _, e in world.sent if isinstance(e, Exchange)]
