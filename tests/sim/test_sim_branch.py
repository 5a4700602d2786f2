"""Branches: an independent future of the same past."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from typing import Any

import pandas as pd
import pytest

from backends.sim import Cluster
from backends.sim.cluster import BranchError
from backends.sim.faults import Heal, Hosts, Kill, Partition, Pause, hosts
from backends.sim.network import Link
from swimsim.inputs import Join, UpdateMeta
from swimsim.terms import MS, SECOND, Micros, NodeId
from tests.sim.worlds import EVEN, STILL, busy, names, watched

END = 45 * SECOND

MOMENTS: dict[str, Micros] = {  # of ``busy``
    "before anything": 0,
    "at rest": 2 * SECOND,
    "a death that nobody knows of": 4 * SECOND,
    "in a partition": 5_500 * MS,
    "with one blocked and one stopped": 9_000 * MS,
    "with one slow and a newcomer joining": 9_001 * MS,
    "between two newcomers": 11_500 * MS,
    "while queues drain": 15_001 * MS,
    "as a restarted one joins": 15_002 * MS,
    "in the middle of flaps and a churn": 19_700 * MS,
    "in the middle of a farewell": 20_150 * MS,
    "between dying and coming back": 27_000 * MS,
    "on the border of a second": 30 * SECOND,
    "when nearly all is over": 39 * SECOND,
}


@cache
def undisturbed(seed: int, until: Micros) -> str:
    """The digest of a run that was never branched."""
    cluster = busy(seed)
    cluster.run(until)
    return cluster.digest()


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_branch_that_is_left_alone_goes_the_same_way(moment: Micros) -> None:
    original = busy(1)
    original.run(moment)
    twin = original.branch()
    assert twin.digest() == original.digest()
    for later in (moment + 1, moment + 777 * MS, moment + 5 * SECOND, END):
        twin.run(later)
        original.run(later)
        assert (twin.now, twin.steps, twin.digest()) == (
            original.now,
            original.steps,
            original.digest(),
        )
    assert original.digest() == undisturbed(1, END), "to be branched does not disturb"


def test_the_twin_may_run_first_or_the_original_or_both_in_turns() -> None:
    original = busy()
    original.run(12 * SECOND)
    twins = [original.branch() for _ in range(3)]
    twins[0].run(END)
    original.run(END)
    while twins[1].now < END:
        twins[1].run_for(900 * MS)
        twins[2].run_for(1_100 * MS)
    for twin in twins[1:]:
        twin.run(END)
    found = set()
    for cluster in (original, *twins):
        cluster.run(70 * SECOND)
        found.add(cluster.digest())
    assert len(found) == 1


def test_a_branch_can_be_branched() -> None:
    original = busy()
    original.run(8 * SECOND)
    child = original.branch()
    child.run(18 * SECOND)
    grandchild = child.branch()
    for cluster in (original, child, grandchild):
        cluster.run(END)
    assert original.digest() == child.digest() == grandchild.digest()


ACTS: dict[str, Callable[[Cluster], Any]] = {
    "kill": lambda cluster: cluster.kill("n0"),
    "restart": lambda cluster: cluster.restart("n0"),
    "leave": lambda cluster: cluster.leave("n0"),
    "pause": lambda cluster: cluster.pause("n0", "stop"),
    "slow": lambda cluster: cluster.slow_down("n0", 50 * MS),
    "resume": lambda cluster: cluster.resume("n8"),
    "add": lambda cluster: cluster.add("newcomer"),
    "request": lambda cluster: cluster.request("n0", UpdateMeta(b"x")),
    "join": lambda cluster: cluster.request("n0", Join((cluster.hosts[1].address,))),
    "cut": lambda cluster: cluster.strike(Partition(at=cluster.now, groups=(hosts("n0"),))),
    "heal": lambda cluster: cluster.fabric.heal(),
    "relink": lambda cluster: cluster.fabric.relink((Link(loss=0.5),)),
    "plan": lambda cluster: cluster.strike(Kill(at=cluster.now + 1, hosts=Hosts(random=1))),
    "run": lambda cluster: None,
    "process": lambda cluster: cluster.env.process(_sleeper(cluster)),
}


def _sleeper(cluster: Cluster) -> Generator[Any, Any, None]:
    while True:
        yield cluster.env.timeout(SECOND)
        if len(cluster.running) > 1:
            cluster.kill(cluster.running[-1].name)


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("moment", [0, 9 * SECOND])
def test_what_is_done_to_one_the_other_does_not_notice(
    act: Callable[[Cluster], Any], moment: Micros
) -> None:
    until = moment + 5 * SECOND
    for disturbed in ("twin", "original"):
        original = busy(2)
        original.run(moment)
        twin = original.branch()
        one, other = (twin, original) if disturbed == "twin" else (original, twin)
        act(one)
        one.run(until)
        other.run(until)
        assert other.digest() == undisturbed(2, until)


def test_another_seed_is_another_future_from_there_on() -> None:
    original = busy()
    original.run(10 * SECOND)
    twins = {seed: original.branch(seed=seed) for seed in (5, 6, 7)}
    again = original.branch(seed=5)
    for cluster in (original, again, *twins.values()):
        cluster.run(30 * SECOND)
    digests = [original.digest(), *(twin.digest() for twin in twins.values())]
    assert len(set(digests)) == 4
    assert again.digest() == twins[5].digest(), "one seed is one future"


def test_another_seed_keeps_the_past_and_what_is_under_way() -> None:
    original = busy(record=("events", "packets"))
    original.run(10 * SECOND)
    twin = original.branch(seed=99)
    assert twin.fabric.cuts == original.fabric.cuts != ()
    assert [host.life for host in twin.hosts] == [host.life for host in original.hosts]
    assert twin.views().equals(original.views())
    pd.testing.assert_frame_equal(twin.trace.events(), original.trace.events())
    assert [at for at, _ in twin.env.pending()] == [at for at, _ in original.env.pending()]


def test_another_seed_changes_network_nodes_and_faults_alike() -> None:
    original = Cluster(names(6))
    original.run(3 * SECOND)
    twin = original.branch(seed=99)
    assert twin.fabric.fingerprint() != original.fabric.fingerprint()
    assert twin.fault_random.getstate() != original.fault_random.getstate()
    for one, other in zip(twin.hosts, original.hosts, strict=True):
        assert one.node is not None
        assert other.node is not None
        assert one.node.probe.rng != other.node.probe.rng
        assert one.node.members == other.node.members
    twin.restart("n0")
    original.restart("n0")
    first, second = twin.host("n0").node, original.host("n0").node
    assert first is not None
    assert second is not None
    assert first.upkeep.rng != second.upkeep.rng, "and those to come"


def test_branches_compare_what_would_have_been() -> None:
    original = Cluster(names(12), seed=4)
    original.run(5 * SECOND)
    healed, killed = original.branch(), original.branch()
    cut = Partition(at=5 * SECOND, groups=(hosts("n3"),))
    healed.strike(cut)
    healed.strike(Heal(at=8 * SECOND))
    killed.kill("n3")
    for cluster in (original, healed, killed):
        cluster.run(40 * SECOND)
    assert original.believed("n3")["alive"] == 11
    assert healed.believed("n3")["alive"] == 11
    assert killed.believed("n3")["dead"] == 11


def test_a_branch_in_a_pause_has_the_queue_and_its_end() -> None:
    original = Cluster(names(6), seed=1)
    original.strike(Pause(at=SECOND, hosts=hosts("n2"), duration=20 * SECOND))
    original.run(15 * SECOND)
    twin = original.branch()
    mine, its = original.host("n2").process, twin.host("n2").process
    assert mine is not None
    assert its is not None
    assert its is not mine
    assert list(its.inbox) == list(mine.inbox) != []
    original.resume("n2")
    original.run(16 * SECOND)
    assert twin.host("n2").process is its
    assert its.mode == "block"
    twin.run(22 * SECOND)
    assert twin.host("n2").process is None


def test_a_branch_has_the_streams_that_are_under_way() -> None:
    original = Cluster(names(3), STILL, EVEN, warm=False, seeds=0)
    original.run(SECOND)
    original.request("n0", Join((original.host("n1").address, original.host("n2").address)))
    original.run_for(25 * MS)
    twin = original.branch()
    assert twin.streams.open == original.streams.open != {}
    twin.kill("n1")
    for cluster in (original, twin):
        cluster.run_for(2 * SECOND)
        assert cluster.streams.open == {}
    mine, its = original.host("n0").node, twin.host("n0").node
    assert mine is not None
    assert its is not None
    assert sorted(member.peer.name for member in mine.members) == ["n0", "n1", "n2"]
    assert sorted(member.peer.name for member in its.members) == ["n0", "n2"]


def test_a_branch_has_everything_that_a_cluster_has() -> None:
    original = busy(check=True, meta=b"x", attributes={"zone": "ab"})
    original.run(10 * SECOND)
    twin = original.branch()
    assert (twin.config, twin.meta, twin.seed, twin.seeds, twin.settled, twin.check) == (
        original.config,
        original.meta,
        original.seed,
        original.seeds,
        original.settled,
        original.check,
    )
    assert [dict(host.attributes) for host in twin.hosts[:2]] == [{"zone": "a"}, {"zone": "b"}]
    assert twin.host("late-a") is twin.by_name[NodeId("late-a")]
    assert all(twin.host(host.name) is not host for host in original.hosts)
    assert set(vars(twin)) == set(vars(original))


def test_observers_stay_with_the_original() -> None:
    original = busy()
    original.run(SECOND)
    log = watched(original)
    twin = original.branch()
    assert twin.observers == []
    twin.run(20 * SECOND)
    assert log.events == []
    theirs = watched(twin)
    twin.run(30 * SECOND)
    assert theirs.events
    assert log.events == []


def test_a_branch_remembers_what_was_recorded_and_records_on_by_itself() -> None:
    original = busy(record=("events", "health", "messages", "packets"))
    original.run(10 * SECOND)
    before = original.trace.frames()
    twin = original.branch()
    for column, frame in twin.trace.frames().items():
        pd.testing.assert_frame_equal(frame, before[column])
    twin.run(20 * SECOND)
    for column, frame in original.trace.frames().items():
        pd.testing.assert_frame_equal(frame, before[column])
    original.run(20 * SECOND)
    for column, frame in original.trace.frames().items():
        pd.testing.assert_frame_equal(frame, twin.trace.frames()[column])
    assert len(original.trace.events()) > len(before["events"])
    pd.testing.assert_frame_equal(original.trace.lives(), twin.trace.lives())


# --- processes of the user -----------------------------------------------------------------------


def test_a_cluster_with_a_users_process_pending_cannot_be_branched() -> None:
    cluster = Cluster(names(3))

    def sleeper() -> Generator[Any, Any, None]:
        yield cluster.env.timeout(5 * SECOND)

    cluster.env.process(sleeper())
    for time in (0, 1, 3 * SECOND, 5 * SECOND):
        cluster.run(time)
        with pytest.raises(BranchError, match="SimPy processes of your own"):
            cluster.branch()
    cluster.run(6 * SECOND)
    twin = cluster.branch()  # it is done
    twin.run(10 * SECOND)
    cluster.run(10 * SECOND)
    assert twin.digest() == cluster.digest()


def test_a_branch_may_have_processes_of_the_users_own() -> None:
    original = Cluster(names(6))
    original.run(SECOND)
    twin = original.branch()
    twin.env.process(_sleeper(twin))
    twin.run(4 * SECOND)
    assert len(twin.running) == 4
    assert len(original.running) == 6


def test_after_an_error_a_cluster_can_be_branched() -> None:
    cluster = Cluster(names(3), faults=[Kill(at=SECOND, hosts=Hosts(random=9))])
    with pytest.raises(ValueError, match="9 random hosts"):
        cluster.run(10 * SECOND)
    twin = cluster.branch()
    for each in (cluster, twin):
        each.run(20 * SECOND)
    assert twin.digest() == cluster.digest()


def test_a_large_cluster_is_branched_with_its_slots_and_eras() -> None:
    original = Cluster(1_500, seed=1, record=())
    original.run(1_500 * MS)
    assert original.env._slots, "this was to test what waits in them"
    assert original.env._eras, "and those of what is far off"
    twin = original.branch()
    original.kill("node-0007")
    twin.kill("node-0007")
    for cluster in (twin, original):
        cluster.run(4 * SECOND)
    assert twin.digest() == original.digest()
