"""SWIM (Das, Gupta, Motivala; DSN 2002), claim by claim, on the core alone.

What takes a simulation (detection time, dissemination time, load) is in ``test_detection`` and
``test_dissemination``.
"""

from __future__ import annotations

from collections import Counter
from math import ceil, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import SWIM_2002
from swimsim.effects import After, Failed, Left, Refuted, Send, Suspected
from swimsim.inputs import (
    ProbeTick,
    ProbeTimeout,
    Received,
    RelayTimeout,
    Start,
    SuspicionTimeout,
    UpdateMeta,
)
from swimsim.member import ALIVE, DEAD, SUSPECT, Status, peer
from swimsim.messages import Ack, Alive, Dead, IndirectPing, Message, Ping, Suspect
from swimsim.node import Node, create, step
from swimsim.terms import MS, NodeId
from tests.builders import (
    A,
    B,
    C,
    D,
    at,
    events,
    fed,
    group,
    of_type,
    record,
    settled,
    who,
)
from tests.world import World

PERIOD = SWIM_2002.probe_interval
BASIC = replace(SWIM_2002, suspicion=False)  # section 3: no suspicion mechanism yet
NAMES = "ABCDEFGHIJKLMNOPQRST"


def heard(node: Node, *messages: Message) -> Node:
    return step(node, 0, Received(at(B), messages))[0]


# --- 3.1 the failure detector -----------------------------------------------------------


def silent_round(n: int, k: int) -> tuple[Node, NodeId, list[IndirectPing]]:
    """A node whose target has not answered in time, the target, and what helpers are asked."""
    config = replace(BASIC, indirect_checks=k, stagger=False)
    node = settled(A, NAMES[:n], config)
    node, _ = step(node, 0, ProbeTick(0))
    assert node.probe.round is not None
    node, effects = step(node, config.probe_timeout, ProbeTimeout(1))
    asked = [message for send in of_type(Send, effects) for message in send.messages]
    return node, node.probe.round.target, of_type(IndirectPing, asked)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_k_members_are_asked_to_ping_a_target_that_does_not_answer(k: int) -> None:
    """3.1: ping-req to k members, selected at random."""
    _, target, asked = silent_round(12, k)
    assert [message.target for message in asked] == [target] * k


def test_an_ack_by_any_way_in_the_same_period_is_success() -> None:
    """3.1: M_i checks if it has received any acks, directly from M_j or through any of the k."""
    for direct in (True, False):
        node, target, _ = silent_round(4, 3)
        at_time = 900 * MS if direct else 1900 * MS
        node, _ = step(node, at_time, Received(at(target if direct else D), (Ack(1),)))
        node, effects = step(node, PERIOD, ProbeTick(PERIOD))
        assert of_type(Failed, events(effects)) == []
        assert node.members.count(ALIVE) == 4


def test_without_any_ack_by_the_end_of_the_period_the_target_is_declared_failed() -> None:
    """3.1: otherwise it declares M_j as failed (and hands over to dissemination)."""
    node, target, _ = silent_round(4, 3)
    node, effects = step(node, PERIOD, ProbeTick(PERIOD))
    assert of_type(Failed, events(effects)) == [Failed(target, 1, A)]
    assert node.members[target].status == DEAD
    assert [item.message for item in node.broadcasts.queue] == [Dead(1, target, A)]


def test_a_helper_passes_the_targets_ack_on() -> None:
    """3.1: each of them pings M_j and, on receiving its ack, forwards it to M_i."""
    ask = IndirectPing(5, B, at(B), False, at(C), C)
    node, effects = step(settled(A, "ABC", BASIC), 0, Received(at(C), (ask,)))
    (ping,) = (send.messages[0] for send in of_type(Send, effects))
    assert isinstance(ping, Ping)
    _, effects = step(node, 0, Received(at(B), (Ack(ping.seq_no),)))
    assert of_type(Send, effects) == [Send(at(C), (Ack(5),), piggyback=True)]


def test_a_helper_of_a_silent_target_stays_silent() -> None:
    """3.1: the nack is Lifeguard's."""
    ask = IndirectPing(5, B, at(B), False, at(C), C)
    node, _ = step(settled(A, "ABC", BASIC), 0, Received(at(C), (ask,)))
    _, effects = step(node, BASIC.probe_timeout, RelayTimeout(1))
    assert effects == ()


@pytest.mark.parametrize("n", [4, 8, 16])
def test_one_member_is_probed_each_period_whatever_the_size_of_the_group(n: int) -> None:
    """3.1, 5.1: the expected load on each member is constant."""
    world = World(NAMES[:n], SWIM_2002, seed=n)
    world.run(20 * PERIOD)
    for host in NAMES[:n]:
        assert abs(len(world.messages(Ping, by=host)) - 20) <= 1
        others = [(Ping, host), (Ack, host)]
        assert sum(len(world.messages(kind, by=by)) for kind, by in others) <= 2.6 * 20


# --- 3.2, 4.1 dissemination by piggyback ------------------------------------------------


def test_news_travels_on_pings_and_acks_alone() -> None:
    """4.1: infection-style, without any packet of its own."""
    world = World(NAMES[:8], SWIM_2002, seed=1)
    world.run(PERIOD)
    world.feed("A", UpdateMeta(b"new"))
    world.run(10 * PERIOD)
    assert all(node.members[A].peer.meta == b"new" for node in world.nodes.values())
    heads = {type(send.messages[0]) for _, _, send in world.sent}
    assert heads == {Ping, Ack}


@pytest.mark.parametrize("n", [5, 20, 60, 150])
@pytest.mark.parametrize("mult", [1, 3])
def test_an_update_rides_lambda_log_n_times_and_is_dropped(n: int, mult: int) -> None:
    """4.1: each is piggybacked at most lambda log n times."""
    members = group("ABC")
    for i in range(n - 3):
        members = members.put(record(f"{i}", address=at("x")))
    config = replace(SWIM_2002, retransmit_mult=mult)
    node, _ = step(create(A, at(A), config, seed=1), 0, Start(members))
    node = heard(node, Alive(2, who(C)))
    rides = 0
    for sequence in range(200):
        node, effects = step(node, 0, Received(at(B), (Ping(sequence, A, at(B), B),)))
        rides += len(of_type(Send, effects)[0].messages) - 1
    assert rides == mult * ceil(log(n + 1))
    assert node.broadcasts.queue == ()


def test_what_was_sent_less_often_is_preferred() -> None:
    """4.1: so that younger updates infect more members when a packet cannot hold all."""
    config = replace(SWIM_2002, packet_size=512)
    node = settled(A, NAMES, config)
    old = [Alive(2, who(name, b"x" * 100)) for name in "DEF"]
    node = heard(node, *old)
    for sequence in range(3):
        node = heard(node, Ping(sequence, A, at(B), B))
    young = Alive(2, who("G", b"x" * 90))  # shorter, so that length does not speak for it
    node = heard(node, young)
    _, effects = step(node, 0, Received(at(B), (Ping(9, A, at(B), B),)))
    (send,) = of_type(Send, effects)
    assert send.messages[1] == young
    assert len(send.messages) == 4, "one of the old ones has no room"


# --- 4.2 suspicion ----------------------------------------------------------------------


def test_a_target_that_does_not_answer_is_suspected_not_failed() -> None:
    """4.2: it is marked as suspected, and the suspicion is disseminated."""
    node = settled(A, "ABCD", replace(SWIM_2002, stagger=False))
    node, _ = step(node, 0, ProbeTick(0))
    node, _ = step(node, 500 * MS, ProbeTimeout(1))
    assert node.probe.round is not None
    target = node.probe.round.target
    node, effects = step(node, PERIOD, ProbeTick(PERIOD))
    assert of_type(Suspected, events(effects)) == [Suspected(target, 1, A)]
    assert node.members[target].status == SUSPECT
    assert [item.message for item in node.broadcasts.queue] == [Suspect(1, target, A)]


def test_a_suspected_member_is_treated_like_a_live_one_when_targets_are_picked() -> None:
    """4.2: non-faulty and suspected members alike are pinged."""
    node = heard(settled(A, "ABC", replace(SWIM_2002, stagger=False)), Suspect(1, B, C))
    pinged: Counter[NodeId] = Counter()
    now = 0
    for _ in range(20):
        node, effects = step(node, now, ProbeTick(now))
        for send in of_type(Send, effects):
            pinged[send.messages[0].target] += 1
            node, _ = step(node, now, Received(send.to, (Ack(node.probe.seq_no),)))
        now += PERIOD
    assert pinged[B] >= 8
    assert pinged[C] >= 8


def test_a_suspicion_that_times_out_is_a_failure_and_is_disseminated() -> None:
    """4.2: a Confirm message is sent on behalf of the member that timed out."""
    node, effects = step(settled(A, "ABCD", SWIM_2002), 0, Received(at(B), (Suspect(1, C, B),)))
    (timer,) = (effect for effect in effects if isinstance(effect, After))
    node, effects = step(node, timer.delay, timer.input)
    assert of_type(Failed, events(effects)) == [Failed(C, 1, A)]
    assert Dead(1, C, A) in [item.message for item in node.broadcasts.queue]


def test_a_confirmed_failure_overrides_whatever_the_member_says() -> None:
    """4.2: a Confirm message overrides Alive and Suspect of any incarnation."""
    node, _ = step(settled(A, "ABCD", SWIM_2002), 0, Received(at(B), (Dead(1, C, B),)))
    node, effects = step(node, 0, Received(at(C), (Alive(7, who(C)), Dead(1, A, B))))
    assert node.members[C].status == DEAD
    assert node.members[A] == record(A, 1)
    assert not of_type(Refuted, events(effects))


@pytest.mark.parametrize(
    ("n", "periods"), [(6, 6), (7, 9), (19, 9), (20, 12), (28, 12), (53, 12), (54, 15), (56, 15)]
)
def test_the_prototypes_suspicion_lasts_three_ceil_log_n_periods(n: int, periods: int) -> None:
    """5 and figure 3c: 9, 12 and 15 periods, with steps near 19 and 53 members."""
    members = group("ABC")
    for i in range(n - 3):
        members = members.put(record(f"{i}", address=at("x")))
    node, _ = step(create(A, at(A), SWIM_2002, seed=1), 0, Start(members))
    _, effects = step(node, 0, Received(at(B), (Suspect(1, C, B),)))
    assert After(periods * PERIOD, SuspicionTimeout(C, 0)) in effects


def test_a_member_that_hears_it_is_suspected_says_that_it_is_alive_in_a_higher_incarnation() -> (
    None
):
    """4.2: the only way for an incarnation to rise is by the member itself."""
    node, effects = step(settled(A, "ABCD", SWIM_2002), 0, Received(at(B), (Suspect(1, A, B),)))
    assert of_type(Refuted, events(effects)) == [Refuted(2)]
    assert Alive(2, who(A)) in [item.message for item in node.broadcasts.queue]
    assert node.members[A] == record(A, 2)


NEWS = st.one_of(
    st.builds(lambda i, name: Alive(i, who(name)), st.integers(1, 9), st.sampled_from("BCD")),
    st.builds(
        lambda kind, i, name: kind(i, NodeId(name), B),
        st.sampled_from([Suspect, Dead]),
        st.integers(1, 9),
        st.sampled_from("BCD"),
    ),
)


@given(st.lists(NEWS))
def test_nobody_raises_anothers_incarnation(news: list[Message]) -> None:
    """4.2: every incarnation that is told of another was heard of it."""
    node = settled(A, "ABCD", SWIM_2002)
    heard_of = {(name, 1) for name in "ABCD"}
    for message in news:
        name = message.peer.name if isinstance(message, Alive) else message.node
        heard_of.add((name, message.incarnation))
        node = heard(node, message)
        for member in node.members:
            assert (member.peer.name, member.incarnation) in heard_of
        for item in node.broadcasts.queue:
            assert (item.name, item.message.incarnation) in heard_of


def after(first: tuple[type, int], second: tuple[type, int]) -> tuple[Status, int]:
    """What is believed of B, known alive in incarnation 1, after two messages about it."""
    node = settled(A, "ABCD", SWIM_2002)
    for kind, incarnation in (first, second):
        said = Alive(incarnation, who(B)) if kind is Alive else kind(incarnation, B, C)
        node = heard(node, said)
    return node.members[B].status, node.members[B].incarnation


PRECEDENCE = {  # the paper's list at the end of 4.2: first message, second, what holds then
    "alive overrides suspect of a lower incarnation": ((Suspect, 3), (Alive, 4), (ALIVE, 4)),
    "but not of the same": ((Suspect, 3), (Alive, 3), (SUSPECT, 3)),
    "alive overrides alive of a lower incarnation": ((Alive, 3), (Alive, 4), (ALIVE, 4)),
    "but not of a higher": ((Alive, 3), (Alive, 2), (ALIVE, 3)),
    "suspect overrides alive of the same incarnation": ((Alive, 3), (Suspect, 3), (SUSPECT, 3)),
    "and of a lower": ((Alive, 3), (Suspect, 4), (SUSPECT, 4)),
    "but not of a higher one": ((Alive, 3), (Suspect, 2), (ALIVE, 3)),
    "confirm overrides alive": ((Alive, 3), (Dead, 3), (DEAD, 3)),
    "confirm overrides suspect": ((Suspect, 3), (Dead, 3), (DEAD, 3)),
    "confirm is not overridden by suspect": ((Dead, 3), (Suspect, 4), (DEAD, 3)),
}


@pytest.mark.parametrize(("first", "second", "wanted"), PRECEDENCE.values(), ids=PRECEDENCE)
def test_precedence(
    first: tuple[type, int], second: tuple[type, int], wanted: tuple[Status, int]
) -> None:
    """4.2. Two of the paper's rules are memberlist's here (spec memberlist.md 6.10, 6.11): a
    confirm of a lower incarnation than known is stale, and a second suspicion confirms the first
    without raising the incarnation."""
    assert after(first, second) == wanted


@pytest.mark.parametrize("first", [Alive, Suspect])
def test_alive_of_the_same_incarnation_changes_nothing_even_if_it_says_something_new(
    first: type,
) -> None:
    """4.2: alive overrides alive and suspect of a *lower* incarnation. What a member says of
    itself comes with an incarnation of its own."""
    node = settled(A, "ABCD", SWIM_2002)
    node = heard(node, Alive(3, who(B)) if first is Alive else Suspect(3, B, C))
    known = node.members[B]
    other = peer(B, at(B), b"other metadata", who(B).vsn)
    assert heard(node, Alive(3, other)).members[B] == known
    assert heard(node, Alive(4, other)).members[B].peer == other


# --- 4.3 round robin --------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(4, 20))
def test_every_member_is_probed_within_twice_the_list_less_one(seed: int, n: int) -> None:
    """4.3: successive selections of the same target are at most 2n - 1 periods apart, n being
    the length of the list without oneself."""
    node, now = settled(A, NAMES[:n], replace(SWIM_2002, stagger=False), seed=seed), 0
    others = n - 1
    last = dict.fromkeys(NAMES[1:n], -1)
    for period in range(8 * others):
        node, effects = step(node, now, ProbeTick(now))
        (send,) = of_type(Send, effects)
        target = send.messages[0].target
        assert period - last[target] <= 2 * others - 1
        last[target] = period
        node, _ = step(node, now, Received(send.to, (Ack(node.probe.seq_no),)))
        now += PERIOD
    assert all(8 * others - seen <= 2 * others - 1 for seen in last.values())


def test_the_order_differs_from_round_to_round_and_from_member_to_member() -> None:
    """4.3: the list is rearranged to a random order at the end of each traversal."""
    orders = []
    for host in "ABC":
        node, now, order = settled(host, NAMES, replace(SWIM_2002, stagger=False)), 0, []
        for _ in range(4 * 19):
            node, effects = step(node, now, ProbeTick(now))
            (send,) = of_type(Send, effects)
            order.append(send.messages[0].target)
            node, _ = step(node, now, Received(send.to, (Ack(node.probe.seq_no),)))
            now += PERIOD
        orders += [tuple(order[19 * i : 19 * i + 19]) for i in range(4)]
    assert len(set(orders)) == 12


# --- 3.2, 5 joining and leaving ---------------------------------------------------------


def test_a_member_that_leaves_says_so() -> None:
    """3.2: a voluntary departure is disseminated like a failure, by the member itself."""
    node, effects = fed(settled(B, "ABCD", SWIM_2002), 0, Received(at(A), (Dead(1, A, A),)))
    assert of_type(Left, events(effects)) == [Left(A, 1, A)]
    assert Dead(1, A, A) in [item.message for item in node.broadcasts.queue]
