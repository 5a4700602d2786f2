"""What each fault does to a cluster, when, and to whom."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from scipy import stats

from backends.sim import Cluster
from backends.sim.faults import (
    Churn,
    Degrade,
    Fault,
    FaultError,
    Flap,
    Heal,
    Hosts,
    Join,
    Kill,
    Leave,
    Partition,
    Pause,
    Restart,
    Slow,
    hosts,
)
from backends.sim.network import Link
from backends.sim.strikes import select
from swimsim.effects import Failed, Joined, LeaveFinished, Left
from swimsim.terms import MINUTE, MS, SECOND, Micros, NodeId
from tests.sim.worlds import EVEN, HOP, STILL, Log, names, statuses, watched, with_config

AT = 5 * SECOND


def struck(
    *faults: Fault, count: int = 6, until: Micros = AT + 60 * SECOND, **options: Any
) -> tuple[Cluster, Log]:
    """A cluster that has run with these faults."""
    options.setdefault("attributes", {"zone": "xyz"})
    cluster = Cluster(names(count), faults=faults, **options)
    log = watched(cluster)
    cluster.run(until)
    return cluster, log


# --- whom ----------------------------------------------------------------------------------------

SELECTORS: dict[str, tuple[Hosts, list[str]]] = {  # of n0 to n5, in zones x y z x y z
    "all": (Hosts(), names(6)),
    "by name, in the order of the cluster": (hosts("n4", "n1"), ["n1", "n4"]),
    "by attribute": (Hosts(where={"zone": "y"}), ["n1", "n4"]),
    "by name and attribute": (Hosts(names=("n1", "n2"), where={"zone": "y"}), ["n1"]),
    "by two attributes": (Hosts(where={"zone": "y", "row": "b"}), ["n1"]),
    "all of them by share": (Hosts(share=1.0), names(6)),
    "all of them by number": (Hosts(random=6), names(6)),
}


@pytest.mark.parametrize(("wanted", "meant"), SELECTORS.values(), ids=SELECTORS)
def test_selectors_mean(wanted: Hosts, meant: list[str]) -> None:
    cluster = Cluster(names(6), attributes={"zone": "xyz", "row": "ab"})
    assert [host.name for host in select(cluster, wanted)] == meant


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Hosts(random=3), 3),
        (Hosts(share=0.5), 50),
        (Hosts(share=0.001), 1),  # rounded up
        (Hosts(share=0.505), 51),
        (Hosts(share=0.07), 7),  # 0.07 * 100 is 7.000000000000001
        (Hosts(share=0.29), 29),
        (Hosts(share=0.5, where={"zone": "x"}), 17),  # of 34
        (Hosts(random=2, names=("n1", "n2", "n3")), 2),
    ],
)
def test_random_choices_take_as_many_as_they_say(wanted: Hosts, count: int) -> None:
    cluster = Cluster(names(100), attributes={"zone": "xyz"})
    chosen = select(cluster, wanted)
    assert len(set(chosen)) == count
    assert [host.index for host in chosen] == sorted(host.index for host in chosen)
    for key, value in wanted.where.items():
        assert all(host.attributes[key] == value for host in chosen)


def test_random_choices_are_uniform_and_of_those_that_are_up() -> None:
    cluster = Cluster(names(10))
    for name in ("n0", "n9"):
        cluster.kill(name)
    tally = Counter(host.name for _ in range(4_000) for host in select(cluster, Hosts(random=2)))
    assert sorted(tally) == names(10)[1:9]
    assert stats.chisquare(list(tally.values())).pvalue > 1e-4


def test_random_choices_follow_the_seed() -> None:
    def chosen(seed: int) -> list[str]:
        cluster = Cluster(names(50), seed=seed)
        return [host.name for host in select(cluster, Hosts(random=5))]

    assert chosen(1) == chosen(1) != chosen(2)


ERRORS: dict[str, tuple[Fault, str]] = {
    "too many": (Kill(at=0, hosts=Hosts(random=7)), "7 random hosts wanted, 6 are up"),
    "nobody has that": (
        Kill(at=0, hosts=Hosts(where={"zone": "q"})),
        "no host is meant by Hosts(names=(), where={'zone': 'q'}, random=0, share=0.0)",
    ),
    "in two groups": (
        Partition(at=0, groups=(hosts("n1", "n2"), hosts("n2")), name="p"),
        "partition 'p': n2 is in two groups",
    ),
}


@pytest.mark.parametrize(("fault", "text"), ERRORS.values(), ids=ERRORS)
def test_a_fault_that_finds_nobody_says_so(fault: Fault, text: str) -> None:
    cluster = Cluster(names(6), attributes={"zone": "xyz"})
    cluster.strike(fault)
    with pytest.raises(FaultError) as caught:
        cluster.run(1 * SECOND)
    assert str(caught.value) == text


def test_an_unknown_name_is_said_so() -> None:
    cluster = Cluster(names(3))
    with pytest.raises(KeyError, match="no host is called 'ghost'"):
        select(cluster, hosts("ghost"))


# --- kill, restart -------------------------------------------------------------------------------


def test_a_kill_ends_the_processes_at_its_time() -> None:
    _, log = struck(Kill(at=AT, hosts=Hosts(where={"zone": "x"})), until=AT + 1)
    assert log.down == [(AT, "n0"), (AT, "n3")]


def test_what_was_killed_says_nothing_more_and_is_found_out() -> None:
    cluster, log = struck(Kill(at=AT, hosts=hosts("n3")), record=("packets",))
    packets = cluster.trace.packets()
    assert not ((packets.source == "n3") & (packets.time_s >= AT / SECOND)).any()
    assert {who for _, who, event in log.of(Failed) if event.node == "n3"} == {
        host.name for host in cluster.running
    }
    assert log.of(Left) == []


def test_killing_the_dead_changes_nothing() -> None:
    cluster, log = struck(Kill(at=AT, hosts=hosts("n3")), Kill(at=AT + SECOND, hosts=hosts("n3")))
    assert log.down == [(AT, "n3")]
    assert cluster.host("n3").life == 1


@pytest.mark.parametrize("down_for", [0, 1 * SECOND, 15 * SECOND, 45 * SECOND])
def test_a_restart_is_a_new_life_that_joins_and_is_believed(down_for: Micros) -> None:
    cluster, log = struck(
        Kill(at=AT, hosts=hosts("n3")),
        Restart(at=AT + down_for, hosts=hosts("n3")),
        until=AT + down_for + 60 * SECOND,
    )
    assert cluster.host("n3").life == 2
    assert log.up == [(AT + down_for, "n3")]
    assert cluster.converged()
    assert set(statuses(cluster, "n3").values()) == {"alive"}
    if down_for == 15 * SECOND:  # dead by then, and not forgotten: it has to outbid that
        node = cluster.host("n0").node
        assert node is not None
        assert node.members[NodeId("n3")].incarnation > 1


def test_a_restart_ends_the_old_process_first() -> None:
    _, log = struck(Restart(at=AT, hosts=hosts("n3")), until=AT + 1)
    assert (log.down, log.up) == ([(AT, "n3")], [(AT, "n3")])


def test_a_restart_without_join_stays_alone_until_somebody_finds_it() -> None:
    cluster, _ = struck(
        Restart(at=AT, hosts=hosts("n3"), join=False), until=AT + 100 * MS, count=30
    )
    node = cluster.host("n3").node
    assert node is not None
    assert [member.peer.name for member in node.members] == ["n3"]


def test_restarts_find_the_group_through_its_seeds() -> None:
    cluster, _ = struck(Restart(at=AT, hosts=hosts("n5")), record=("packets",), until=AT + SECOND)
    packets = cluster.trace.packets()
    asked = packets[(packets.source == "n5") & (packets.kinds == "stream push/pull")]
    asked = asked[asked.time_s >= AT / SECOND]
    assert list(asked.target) == ["n0", "n1", "n2"]


# --- pause, slow ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["block", "stop"])
def test_a_pause_begins_and_ends_at_its_times(how: Any) -> None:
    fault = Pause(at=AT, hosts=hosts("n1", "n2"), duration=3 * SECOND, how=how, drain=0)
    cluster, _ = struck(fault, until=AT)
    modes = []
    for time in (AT + 1, AT + 3 * SECOND, AT + 3 * SECOND + 1):
        cluster.run(time)
        waiting = [cluster.host(name).process for name in names(4)]
        modes.append([None if each is None else each.mode for each in waiting])
    assert modes == [[None, how, how, None], [None, how, how, None], [None] * 4]


def test_a_slowdown_begins_and_ends_at_its_times() -> None:
    fault = Slow(at=AT, hosts=hosts("n1"), duration=3 * SECOND, service=40 * MS)
    cluster, _ = struck(fault, until=AT)
    assert cluster.host("n1").process is None
    cluster.run(AT + 1)
    waiting = cluster.host("n1").process
    assert waiting is not None
    assert waiting.service == 40 * MS
    cluster.run(AT + 3 * SECOND + 50 * MS)
    assert cluster.host("n1").process is None


def test_a_second_life_can_be_paused_and_slowed_down_too() -> None:
    cluster, _ = struck(
        Restart(at=1 * SECOND, hosts=hosts("n1", "n2")),
        Pause(at=AT, hosts=hosts("n1"), duration=3 * SECOND),
        Slow(at=AT, hosts=hosts("n2"), duration=3 * SECOND, service=MS),
        until=AT + 1,
    )
    assert [cluster.host(name).process is not None for name in names(3)] == [False, True, True]
    cluster.run(AT + 4 * SECOND)
    assert [cluster.host(name).process for name in names(3)] == [None] * 3


def test_the_end_of_a_slowdown_is_not_for_a_new_life() -> None:
    faults = [
        Slow(at=AT, hosts=hosts("n1"), duration=3 * SECOND, service=40 * MS),
        Restart(at=AT + 1 * SECOND, hosts=hosts("n1")),
        Slow(at=AT + 2 * SECOND, hosts=hosts("n1"), duration=30 * SECOND, service=60 * MS),
    ]
    cluster, _ = struck(*faults, until=AT + 10 * SECOND)
    waiting = cluster.host("n1").process
    assert waiting is not None
    assert waiting.service == 60 * MS


# --- leave, join ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_whoever_leaves_is_known_to_have_left_and_never_as_failed(seed: int) -> None:
    cluster, log = struck(
        Leave(at=AT, hosts=hosts("n2", "n4")), seed=seed, count=12, until=AT + 120 * SECOND
    )
    assert sorted(who for _, who in log.down) == ["n2", "n4"]
    assert log.of(Failed) == []
    for gone in ("n2", "n4"):
        heard = {who for _, who, event in log.of(Left) if event.node == gone}
        assert heard >= {host.name for host in cluster.running} | {gone}
    assert cluster.converged()


def test_a_process_ends_when_its_farewell_is_said() -> None:
    _, log = struck(Leave(at=AT, hosts=hosts("n2")), count=12)
    ((finished, _, event),) = log.of(LeaveFinished)
    assert log.down == [(finished, "n2")]
    assert not event.timed_out
    assert AT < finished < AT + 5 * SECOND


def test_a_farewell_takes_five_seconds_at_most_unless_it_is_told_otherwise() -> None:
    config = with_config(gossip_interval=60 * MINUTE, piggyback=False)
    _, log = struck(Leave(at=AT, hosts=hosts("n2")), config=config)
    assert log.down == [(AT + 5 * SECOND, "n2")]


def test_a_farewell_that_nobody_hears_ends_at_its_timeout() -> None:
    # gossip once an hour: the farewell is not said in time
    config = with_config(gossip_interval=60 * MINUTE, piggyback=False)
    _, log = struck(Leave(at=AT, hosts=hosts("n2"), timeout=2 * SECOND), config=config)
    assert log.down == [(AT + 2 * SECOND, "n2")]
    ((_, _, event),) = log.of(LeaveFinished)
    assert event.timed_out


def test_the_last_one_leaves_at_once() -> None:
    _, log = struck(Leave(at=AT, hosts=Hosts()), count=1)
    assert log.down == [(AT, "n0")]


def test_leaving_twice_is_leaving_once() -> None:
    _, log = struck(Leave(at=AT, hosts=hosts("n2")), Leave(at=AT + 1, hosts=hosts("n2")), count=12)
    assert len(log.down) == len(log.of(LeaveFinished)) == 1


def test_one_that_left_can_come_back() -> None:
    cluster, _ = struck(
        Leave(at=AT, hosts=hosts("n2")), Restart(at=AT + 10 * SECOND, hosts=hosts("n2"))
    )
    assert cluster.converged()
    assert set(statuses(cluster, "n2").values()) == {"alive"}


def test_newcomers_join_one_after_the_other_with_their_attributes() -> None:
    fault = Join(at=AT, names=("a", "b", "c"), attributes={"zone": "new"}, every=4 * SECOND)
    cluster, log = struck(fault)
    assert log.up == [(AT, "a"), (AT + 4 * SECOND, "b"), (AT + 8 * SECOND, "c")]
    assert cluster.host("b").attributes == {"zone": "new"}
    assert cluster.converged()
    first = min(at for at, who, event in log.of(Joined) if who == "n0" and event.peer.name == "a")
    assert AT < first < AT + 1 * SECOND


def test_newcomers_can_be_struck_too() -> None:
    cluster, log = struck(
        Join(at=AT, names=("a",), attributes={"zone": "new"}),
        Kill(at=AT + 10 * SECOND, hosts=Hosts(where={"zone": "new"})),
        until=AT + 30 * SECOND,
    )
    assert log.down == [(AT + 10 * SECOND, "a")]
    assert set(statuses(cluster, "a").values()) == {"dead"}


# --- flap ----------------------------------------------------------------------------------------

FLAP = {"at": AT, "down": 2 * SECOND, "up": 3 * SECOND, "until": AT + 12 * SECOND}


def test_a_flap_that_kills_ends_and_restarts_processes_until_its_end() -> None:
    cluster, log = struck(Flap(hosts=hosts("n1", "n2"), how="kill", **FLAP))
    turns = [AT, AT + 5 * SECOND, AT + 10 * SECOND]
    assert log.down == [(at, name) for at in turns for name in ("n1", "n2")]
    assert log.up == [(at + 2 * SECOND, name) for at in turns for name in ("n1", "n2")]
    assert cluster.host("n1").life == 4
    assert cluster.converged()


def test_one_that_was_restarted_while_a_flap_had_it_down_is_not_restarted_again() -> None:
    _, log = struck(
        Flap(at=AT, hosts=hosts("n1"), down=4 * SECOND, up=30 * SECOND, until=AT + SECOND),
        Restart(at=AT + SECOND, hosts=hosts("n1")),
        Flap(at=AT, hosts=hosts("n2"), down=4 * SECOND, up=30 * SECOND, until=AT + SECOND),
        Restart(at=AT + SECOND, hosts=hosts("n2")),
        Kill(at=AT + 2 * SECOND, hosts=hosts("n2")),
    )
    assert log.up == [(AT + SECOND, "n1"), (AT + SECOND, "n2")]
    assert log.down == [(AT, "n1"), (AT, "n2"), (AT + 2 * SECOND, "n2")]


def test_a_flap_that_pauses_blocks_and_resumes() -> None:
    cluster, log = struck(Flap(hosts=hosts("n1"), how="pause", **FLAP), until=AT)
    blocked = []
    while cluster.now < AT + 20 * SECOND:
        cluster.run_for(500 * MS)
        waiting = cluster.host("n1").process
        if waiting is not None and waiting.mode == "block":
            blocked.append((cluster.now - AT) / SECOND)
    assert blocked == [turn + step / 2 for turn in (0, 5, 10) for step in (1, 2, 3, 4)], (
        "each time for two seconds, to the end"
    )
    assert log.down == []


def test_a_flap_that_cuts_drops_what_is_sent_to_the_host_alone() -> None:
    fault = Flap(hosts=hosts("n1"), how="cut", **FLAP)
    cluster, _ = struck(fault, record=("packets",), until=AT + 20 * SECOND)
    packets = cluster.trace.packets()
    lost = packets[packets.fate == "lost"]
    assert set(lost.target) == {"n1"}
    spans = [(AT + turn, AT + turn + 2 * SECOND) for turn in (0, 5 * SECOND, 10 * SECOND)]
    for time in lost.time_s:
        assert any(begin <= time * SECOND < end for begin, end in spans)
    to_it = packets[(packets.target == "n1") & (packets.fate == "received")]
    late = HOP
    for begin, end in spans:
        during = to_it[(to_it.time_s * SECOND > begin + late) & (to_it.time_s * SECOND < end)]
        assert len(during) == 0
        from_it = packets[(packets.source == "n1") & (packets.fate == "received")]
        assert len(from_it[(from_it.time_s * SECOND > begin) & (from_it.time_s * SECOND < end)])


def test_a_flap_of_a_random_few_flaps_the_same_few_each_time() -> None:
    _, log = struck(Flap(hosts=Hosts(random=2), **FLAP), count=12)
    by_turn = {at: {who for when, who in log.down if when == at} for at, _ in log.down}
    assert len(by_turn) == 3
    assert len(set(map(frozenset, by_turn.values()))) == 1


# --- partitions ----------------------------------------------------------------------------------


def reach(cluster: Cluster, packets: bool = True) -> set[tuple[str, str]]:
    """Who cannot reach whom."""
    fabric = cluster.fabric.copy()
    severed = set()
    for one in cluster.hosts:
        for other in cluster.hosts:
            if packets:
                lost = fabric.carry(cluster.now, one.index, other.index, 100) == ()
            else:
                lost = fabric.carry_segment(cluster.now, one.index, other.index, 100) is None
            if one is not other and lost:
                severed.add((one.name, other.name))
    return severed


def both_ways(one: Sequence[str], other: Sequence[str]) -> set[tuple[str, str]]:
    return {(a, b) for a in one for b in other} | {(b, a) for a in one for b in other}


ALL = names(6)
PARTITIONS: dict[str, tuple[dict[str, Any], set[tuple[str, str]]]] = {
    "two groups": (
        {"groups": (hosts("n0", "n1"), hosts("n2"))},
        both_ways(["n0", "n1"], ["n2"]),
    ),
    "one group against the rest": (
        {"groups": (hosts("n0", "n1"),)},
        both_ways(["n0", "n1"], ALL[2:]),
    ),
    "by attribute": (
        {"groups": (Hosts(where={"zone": "x"}), Hosts(where={"zone": "y"}))},
        both_ways(["n0", "n3"], ["n1", "n4"]),
    ),
    "three groups": (
        {"groups": (hosts("n0"), hosts("n1"), hosts("n2"))},
        both_ways(["n0"], ["n1", "n2"]) | both_ways(["n1"], ["n2"]),
    ),
    "one way": (
        {"groups": (hosts("n0"), hosts("n1", "n2")), "one_way": True},
        {("n0", "n1"), ("n0", "n2")},
    ),
    "one way from one to the rest": (
        {"groups": (hosts("n0"),), "one_way": True},
        {("n0", other) for other in ALL[1:]},
    ),
}


@pytest.mark.parametrize(("settings", "severed"), PARTITIONS.values(), ids=PARTITIONS)
def test_partitions_sever_at_their_time_until_healed(
    settings: dict[str, Any], severed: set[tuple[str, str]]
) -> None:
    cluster, _ = struck(Partition(at=AT, **settings), Heal(at=AT + 3 * SECOND), until=AT)
    assert reach(cluster) == set()
    cluster.run(AT + 1)
    assert reach(cluster) == severed
    assert reach(cluster, packets=False) == severed
    cluster.run(AT + 3 * SECOND)
    assert reach(cluster) == severed
    cluster.run_for(1)
    assert reach(cluster) == set()


@pytest.mark.parametrize("carried", ["packets", "streams"])
def test_partitions_can_leave_streams_or_packets_alone(carried: Any) -> None:
    fault = Partition(at=AT, groups=(hosts("n0"), hosts("n1")), hits=(carried,))
    cluster, _ = struck(fault, until=AT + 1)
    pairs = both_ways(["n0"], ["n1"])
    assert reach(cluster) == (pairs if carried == "packets" else set())
    assert reach(cluster, packets=False) == (pairs if carried == "streams" else set())


def test_a_partition_heals_after_its_time() -> None:
    cluster, _ = struck(
        Partition(at=AT, groups=(hosts("n0"), hosts("n1")), heal_after=2 * SECOND),
        until=AT + 2 * SECOND,
    )
    assert reach(cluster)
    cluster.run_for(1)
    assert not reach(cluster)


def test_a_newcomer_is_on_the_side_of_all_the_rest() -> None:
    # "one group alone is cut from all the rest": whoever comes later must not be a bridge
    cluster, _ = struck(
        Partition(at=AT, groups=(hosts("n0", "n1"),)),
        Join(at=AT + SECOND, names=("x",)),
        until=AT + 2 * SECOND,
    )
    assert reach(cluster) == both_ways(["n0", "n1"], [*ALL[2:], "x"])


def test_a_newcomer_is_on_no_side_of_a_cut_between_groups() -> None:
    cluster, _ = struck(
        Partition(at=AT, groups=(hosts("n0"), hosts("n1"))),
        Join(at=AT + SECOND, names=("x",)),
        until=AT + 2 * SECOND,
    )
    assert reach(cluster) == both_ways(["n0"], ["n1"])


def test_heals_lift_cuts_by_their_name() -> None:
    cluster, _ = struck(
        Partition(at=AT, groups=(hosts("n0"), hosts("n1")), name="a"),
        Partition(at=AT, groups=(hosts("n0"), hosts("n2")), name="b"),
        Heal(at=AT + 1 * SECOND, name="a"),
        Heal(at=AT + 2 * SECOND),
        until=AT + 1,
    )
    assert reach(cluster) == both_ways(["n0"], ["n1", "n2"])
    cluster.run(AT + 1 * SECOND + 1)
    assert reach(cluster) == both_ways(["n0"], ["n2"])
    cluster.run(AT + 2 * SECOND + 1)
    assert reach(cluster) == set()


def test_heal_after_lifts_its_own_cut_and_no_other_of_that_name() -> None:
    cluster, _ = struck(
        Partition(at=AT, groups=(hosts("n0"), hosts("n1")), heal_after=5 * SECOND),
        Partition(at=AT + SECOND, groups=(hosts("n0"), hosts("n2")), heal_after=20 * SECOND),
        until=AT + 6 * SECOND,
    )
    assert reach(cluster) == both_ways(["n0"], ["n2"])


def test_a_cut_apart_group_suspects_and_a_healed_one_forgives() -> None:
    # 7 of 8 s: shorter than the shortest suspicion of 12 with health that has suffered
    fault = Partition(at=AT, groups=(hosts("n0", "n1", "n2"),), heal_after=4 * SECOND)
    cluster, log = struck(fault, count=12)
    assert log.of(Failed) == []
    assert cluster.converged()


# --- degrade -------------------------------------------------------------------------------------


def test_links_get_worse_for_a_while_and_are_as_before_afterwards() -> None:
    slow, lossy = Link("n0", "n1", delay=50 * MS), Link("n2", loss=1.0)
    cluster, _ = struck(
        Degrade(at=AT, links=(slow, lossy), duration=4 * SECOND),
        Degrade(at=AT + 2 * SECOND, links=(slow,), duration=4 * SECOND),
        config=STILL,
        network=EVEN,
        until=AT,
    )

    def delays() -> tuple[tuple[Micros, ...], tuple[Micros, ...], tuple[Micros, ...]]:
        fabric = cluster.fabric.copy()
        pairs = ((0, 1), (1, 0), (2, 3))
        one, other, third = (fabric.carry(cluster.now, *pair, 100) for pair in pairs)
        return one, other, third

    found = []
    for time in (AT + 1, AT + 3 * SECOND, AT + 5 * SECOND, AT + 7 * SECOND):
        cluster.run(time)
        found.append(delays())
    worse, worst = HOP + 50 * MS, HOP + 100 * MS
    assert found == [
        ((worse,), (HOP,), ()),
        ((worst,), (HOP,), ()),
        ((worse,), (HOP,), (HOP,)),
        ((HOP,), (HOP,), (HOP,)),
    ]
    assert cluster.fabric.links == ()


# --- churn ---------------------------------------------------------------------------------------


def test_a_churn_kills_at_its_rate_spares_the_seeds_and_brings_everybody_back() -> None:
    rate, span, downtime = 30.0, 10 * MINUTE, 20 * SECOND
    churn = Churn(at=AT, rate=rate, downtime=downtime, until=AT + span)
    cluster, log = struck(churn, count=40, until=AT + span + 5 * MINUTE, record=())
    expected = rate * span / MINUTE
    # A Poisson count: 4 standard deviations either way.
    assert abs(len(log.down) - expected) < 4 * math.sqrt(expected)
    times = [at for at, _ in log.down]
    assert min(times) > AT
    assert max(times) < AT + span
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert stats.kstest(gaps, stats.expon(0, MINUTE / rate).cdf).pvalue > 1e-3
    assert {who for _, who in log.down} <= set(names(40)) - set(names(3))
    tally = Counter(who for _, who in log.down)
    assert len(tally) == 37
    lives: dict[str, Micros] = {}
    away = []
    for at, who, event in sorted([(*d, "down") for d in log.down] + [(*u, "up") for u in log.up]):
        if event == "down":
            lives[who] = at
        else:
            away.append(at - lives.pop(who))
    assert not lives, "everybody is back"
    assert stats.kstest(away, stats.expon(0, downtime).cdf).pvalue > 1e-3
    assert cluster.converged()


def test_a_churn_that_kills_nobody_left_to_kill_waits() -> None:
    churn = Churn(at=0, rate=600, downtime=10 * MINUTE, until=30 * SECOND)
    cluster, log = struck(churn, count=5, until=60 * SECOND)
    assert sorted(who for _, who in log.down) == ["n3", "n4"]
    assert len(cluster.running) == 3


def test_churn_follows_the_seed() -> None:
    churn = Churn(at=0, rate=60, downtime=SECOND, until=30 * SECOND)
    one, again, other = (
        struck(churn, count=20, until=60 * SECOND, seed=seed)[1].down for seed in (1, 1, 2)
    )
    assert one == again != other


# --- schedules -----------------------------------------------------------------------------------


def test_faults_of_one_instant_strike_in_the_order_of_the_schedule() -> None:
    _, log = struck(
        Kill(at=AT, hosts=hosts("n5")),
        Restart(at=AT, hosts=hosts("n5")),
        Kill(at=AT, hosts=hosts("n1")),
        until=AT + 1,
    )
    assert log.down == [(AT, "n5"), (AT, "n1")]
    assert log.up == [(AT, "n5")]


def test_a_fault_can_be_planned_while_the_cluster_runs() -> None:
    cluster, log = struck(until=AT)
    cluster.strike(Kill(at=AT + 2 * SECOND, hosts=hosts("n1")))
    cluster.strike(Kill(at=AT, hosts=hosts("n2")))
    cluster.run(AT + 3 * SECOND)
    assert log.down == [(AT, "n2"), (AT + 2 * SECOND, "n1")]


def test_a_fault_cannot_strike_in_the_past() -> None:
    cluster, log = struck(until=AT)
    with pytest.raises(ValueError):  # noqa: PT011 - any of the kind that says so
        cluster.strike(Kill(at=AT - 1, hosts=hosts("n1")))
    assert log.down == []
