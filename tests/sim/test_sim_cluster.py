"""A cluster: the same run for the same arguments, and what can be done to it and asked of it."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.checks import Deaths, FalsePositives, Observer
from backends.sim.cluster import node_names
from backends.sim.faults import Hosts, Kill, Partition, hosts
from backends.sim.host import Host
from backends.sim.network import Network
from backends.sim.trace import COLUMNS, Column
from swimsim.config import LAN
from swimsim.effects import Failed, Joined, JoinFinished, Send, Suspected
from swimsim.inputs import META_LIMIT, Join, Received, UpdateMeta
from swimsim.member import ALIVE
from swimsim.messages import User
from swimsim.terms import MS, SECOND, Address, Micros, NodeId
from tests.sim.worlds import EVEN, HOP, STILL, Steps, busy, names, watched, with_config

ROOT = Path(__file__).parents[2]
END = 60 * SECOND


def digest(cluster: Cluster, until: Micros = END) -> str:
    cluster.run(until)
    return cluster.digest()


# --- one run for one set of arguments ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_equal_arguments_make_equal_runs(seed: int) -> None:
    assert digest(busy(seed)) == digest(busy(seed))


def test_another_seed_makes_another_run() -> None:
    found = {digest(busy(seed), 20 * SECOND) for seed in range(8)}
    assert len(found) == 8


def test_a_digest_has_16_hexadecimal_digits() -> None:
    found = digest(busy())
    assert len(found) == 16
    assert int(found, 16) >= 0


DIFFERENT: dict[str, Callable[[], Cluster]] = {
    "as it is": lambda: Cluster(names(8)),
    "another seed": lambda: Cluster(names(8), seed=1),
    "one node more": lambda: Cluster(names(9)),
    "another name": lambda: Cluster([*names(7), "x"]),
    "another kind of latency": lambda: Cluster(names(8), network=EVEN),
    "another interval": lambda: Cluster(names(8), with_config(probe_interval=1_000_001)),
    "other metadata": lambda: Cluster(names(8), meta=b"x"),
    "cold": lambda: Cluster(names(8), warm=False),
}


def test_different_arguments_make_different_runs() -> None:
    found = {name: digest(make(), 10 * SECOND) for name, make in DIFFERENT.items()}
    assert len(set(found.values())) == len(found)


SMALL_TROUBLES: dict[str, Callable[[Cluster], None]] = {
    "a kill": lambda cluster: cluster.kill("n3"),
    "a cut": lambda cluster: cluster.strike(Partition(at=cluster.now, groups=(hosts("n3"),))),
    "a pause": lambda cluster: cluster.pause("n3"),
    "an update": lambda cluster: cluster.request("n3", UpdateMeta(b"x")),
    "a newcomer": lambda cluster: cluster.add("x"),
    "a restart": lambda cluster: cluster.restart("n3"),
}


@pytest.mark.parametrize("trouble", SMALL_TROUBLES.values(), ids=SMALL_TROUBLES)
def test_whatever_happens_shows_in_the_digest(trouble: Callable[[Cluster], None]) -> None:
    calm, rough = Cluster(names(8)), Cluster(names(8))
    for cluster in (calm, rough):
        cluster.run(5 * SECOND)
    assert calm.digest() == rough.digest()
    trouble(rough)
    assert digest(calm, 10 * SECOND) != digest(rough, 10 * SECOND)


RECORDS = [columns for count in range(5) for columns in combinations(COLUMNS, count)]


def test_the_digest_does_not_depend_on_what_is_recorded() -> None:
    assert len({digest(busy(record=record), 25 * SECOND) for record in RECORDS}) == 1


def test_nor_on_a_plain_network() -> None:
    # There the cluster takes a shorter way when no packets are recorded.
    runs = [Cluster(20, seed=3, record=record) for record in RECORDS]
    assert len({digest(cluster, 20 * SECOND) for cluster in runs}) == 1


def test_the_digest_does_not_depend_on_who_watches() -> None:
    watched_one = busy()
    watchers = (Observer(), Deaths(names(14)), FalsePositives())
    watched_one.observers += watchers
    watched(watched_one)
    assert digest(watched_one) == digest(busy())


def test_the_digest_does_not_depend_on_checks() -> None:
    assert digest(busy(check=True)) == digest(busy())


def test_asking_changes_nothing() -> None:
    asked, left_alone = busy(), busy()
    for _ in range(30):
        asked.run_for(1 * SECOND)
        asked.views()
        asked.view("n0")
        asked.believed("n4")
        asked.agreement()
        asked.converged()
        asked.digest()
        asked.trace.events()
        asked.fabric.copy()
        asked.env.pending()
    assert digest(asked) == digest(left_alone)


def test_in_how_many_pieces_a_run_is_made_changes_nothing() -> None:
    pieces = busy()
    for piece in (1, 999, 10 * MS, 8_192, 777_777, 3 * SECOND, 17 * SECOND):
        pieces.run_for(piece)
    assert digest(pieces) == digest(busy())


def test_the_digest_does_not_depend_on_the_hashes_of_the_process() -> None:
    code = (
        "from tests.sim.worlds import busy\n"
        "cluster = busy(record=('events', 'messages'))\n"
        "cluster.run(45_000_000)\n"
        "events = cluster.trace.events().to_csv()\n"
        "import hashlib\n"
        "print(cluster.digest(), hashlib.sha256(events.encode()).hexdigest())\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hashes in ("0", "1", "42")
    ]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert len(set(said)) == 1
    assert said[0].split()[0] == digest(busy(), 45 * SECOND)


def streams_of(host: Host) -> tuple[int, ...]:
    """The state of each random stream of a node."""
    node = host.node
    assert node is not None
    return (
        node.upkeep.rng,
        node.probe.rng,
        node.broadcasts.rng,
        node.upkeep.anti_entropy.rng,
        node.upkeep.reconnect.rng,
    )


@pytest.mark.parametrize("warm", [True, False])
def test_one_more_node_leaves_the_random_streams_of_the_others_alone(warm: bool) -> None:
    few, more = (Cluster(names(count), warm=warm, seed=5) for count in (6, 7))
    for cluster in (few, more):
        cluster.run(1)
    for name in names(6):
        one, other = few.host(name), more.host(name)
        assert streams_of(one) == streams_of(other)
        assert one.node is not None
        assert other.node is not None
        assert one.node.probe.tick == other.node.probe.tick
        assert one.node.broadcasts.origin == other.node.broadcasts.origin


def test_no_two_streams_of_a_run_are_alike() -> None:
    cluster = Cluster(100)
    found = [state for host in cluster.hosts for state in streams_of(host)]
    assert len(set(found)) == len(found) == 500


def test_a_new_life_has_other_streams() -> None:
    cluster = Cluster(names(3), STILL)
    cluster.run(1)
    before = set(streams_of(cluster.host("n0")))
    cluster.restart("n0", join=False)
    assert not before & set(streams_of(cluster.host("n0")))


# --- beginnings ----------------------------------------------------------------------------------


def test_a_warm_cluster_begins_settled() -> None:
    cluster = Cluster(40, meta=b"tags")
    log = watched(cluster)
    assert cluster.converged()
    assert cluster.agreement() == 1.0
    views = cluster.views()
    assert list(views.alive) == [40] * 40
    assert (views.drop(columns=["node", "alive", "agrees"]) == 0).all(axis=None)
    node = cluster.hosts[0].node
    assert node is not None
    assert all(member.peer.meta == b"tags" for member in node.members)
    cluster.run(10 * SECOND)
    assert log.events == [], "it has nothing to tell"


def test_a_warm_cluster_ticks_at_random_phases() -> None:
    cluster = Cluster(400, seed=2)
    ticks = [host.node.probe.tick for host in cluster.hosts if host.node]
    assert min(ticks) >= 0
    assert max(ticks) < LAN.probe_interval
    # Uniform on a second: the mean of 400 has a standard deviation of 14 ms.
    assert abs(sum(ticks) / 400 - 500 * MS) < 60 * MS


def test_without_stagger_everybody_ticks_at_once() -> None:
    cluster = Cluster(20, with_config(stagger=False))
    assert {host.node.probe.tick for host in cluster.hosts if host.node} == {0}


def test_a_cold_cluster_begins_with_nothing_and_its_processes_start_apart() -> None:
    cluster = Cluster(names(5), warm=False, join_every=700 * MS)
    log = watched(cluster)
    assert cluster.running == []
    assert cluster.settled == 0
    cluster.run(10 * SECOND)
    assert log.up == [(place * 700 * MS, name) for place, name in enumerate(names(5))]
    own = [(at, who) for at, who, event in log.of(Joined) if event.peer.name == who]
    assert own == log.up, "each announces itself as it starts"


@pytest.mark.parametrize("join_every", [0, 10 * MS, 500 * MS])
@pytest.mark.parametrize("seed", range(3))
def test_thirty_that_join_come_to_know_each_other(seed: int, join_every: Micros) -> None:
    cluster = Cluster(30, warm=False, join_every=join_every, seed=seed)
    cluster.run(30 * join_every + 1)
    assert cluster.run_until(cluster.converged, cluster.now + 30 * SECOND)
    assert len(cluster.running) == 30
    cluster.run_for(30 * SECOND)
    assert cluster.converged()


@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
def test_newcomers_join_through_the_seeds(seeds: int) -> None:
    cluster = Cluster(names(6), STILL, EVEN, warm=False, seeds=seeds)
    log = watched(cluster)
    cluster.run(5 * SECOND)
    contacted = {who: event.contacted for _, who, event in log.of(JoinFinished)}
    known = set(names(6)[:seeds])
    assert cluster.seeds == tuple(names(6)[:seeds])
    assert contacted == {name: len(known - {name}) for name in names(6) if known - {name}}


def test_names_are_padded_so_that_they_sort_by_number() -> None:
    assert node_names(3) == ("node-0", "node-1", "node-2")
    assert node_names(11)[1] == "node-01"
    assert list(node_names(1001)) == sorted(node_names(1001))
    assert [host.name for host in Cluster(2).hosts] == ["node-0", "node-1"]


def test_attributes_go_round_robin() -> None:
    cluster = Cluster(names(5), attributes={"zone": "ab", "row": ["r1", "r2", "r3"]})
    assert [dict(host.attributes) for host in cluster.hosts] == [
        {"zone": "a", "row": "r1"},
        {"zone": "b", "row": "r2"},
        {"zone": "a", "row": "r3"},
        {"zone": "b", "row": "r1"},
        {"zone": "a", "row": "r2"},
    ]


def test_every_host_has_an_address_of_its_own_by_which_it_is_found() -> None:
    cluster = Cluster(300)
    cluster.add("late")
    assert cluster.hosts[0].address == Address(bytes((10, 0, 0, 1)), 7946)
    assert len({host.address for host in cluster.hosts}) == 301
    assert all(cluster.at(host.address) is host for host in cluster.hosts)
    for host in (b"", bytes((10, 0, 0, 0)), bytes((10, 0, 9, 9)), bytes((192, 168, 0, 1))):
        assert cluster.at(Address(host, 7946)) is None


# --- running -------------------------------------------------------------------------------------


def test_a_run_ends_before_what_happens_at_its_end() -> None:
    cluster = Cluster(names(3), faults=[Kill(at=2 * SECOND, hosts=hosts("n1"))])
    cluster.run(2 * SECOND)
    assert (cluster.now, len(cluster.running)) == (2 * SECOND, 3)
    cluster.run_for(1)
    assert (cluster.now, len(cluster.running)) == (2 * SECOND + 1, 2)


@pytest.mark.parametrize("until", [-5, 0, 1 * SECOND, 3 * SECOND])
def test_a_run_to_the_past_changes_nothing(until: Micros) -> None:
    cluster = Cluster(names(3))
    cluster.run(3 * SECOND)
    before = cluster.digest()
    cluster.run(until)
    cluster.run_for(0)
    cluster.run_for(-1 * SECOND)
    assert (cluster.now, cluster.digest()) == (3 * SECOND, before)


def test_run_until_looks_every_so_often_and_says_whether_it_came_true() -> None:
    cluster = Cluster(names(3))
    looked: list[Micros] = []

    def fifth_look() -> bool:
        looked.append(cluster.now)
        return len(looked) == 5

    assert cluster.run_until(fifth_look, 10 * SECOND, every=300 * MS) is True
    assert looked == [0, 300 * MS, 600 * MS, 900 * MS, 1_200 * MS]
    assert cluster.now == 1_200 * MS


def test_run_until_gives_up_exactly_at_the_limit_after_a_last_look() -> None:
    cluster = Cluster(names(3))
    looked: list[Micros] = []

    def never() -> bool:
        looked.append(cluster.now)
        return False

    assert cluster.run_until(never, 1_000 * MS, every=400 * MS) is False
    assert looked == [0, 400 * MS, 800 * MS, 1_000 * MS]
    assert cluster.now == 1_000 * MS
    assert cluster.run_until(never, 500 * MS) is False
    assert cluster.now == 1_000 * MS, "a limit that is past is one look"


def test_run_until_what_holds_already_does_not_run() -> None:
    cluster = Cluster(names(3))
    assert cluster.run_until(lambda: True, 10 * SECOND) is True
    assert cluster.now == 0


def test_a_condition_may_act() -> None:
    cluster = Cluster(names(5))
    log = watched(cluster)

    def condition() -> bool:
        if cluster.now == 1 * SECOND:
            cluster.kill("n4")
        return bool(log.of(Failed))

    assert cluster.run_until(condition, 60 * SECOND, every=500 * MS)
    assert log.down == [(1 * SECOND, "n4")]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_run_leaves_the_collector_as_it_was_even_after_an_error(enabled: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        cluster = Cluster(names(3), faults=[Kill(at=SECOND, hosts=Hosts(random=9))])
        cluster.run(SECOND // 2)
        assert gc.isenabled() is enabled
        with pytest.raises(ValueError, match="9 random hosts"):
            cluster.run(2 * SECOND)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_after_an_error_a_run_goes_on_as_far_as_it_is_told() -> None:
    cluster = Cluster(names(3), faults=[Kill(at=SECOND, hosts=Hosts(random=9))])
    with pytest.raises(ValueError, match="9 random hosts"):
        cluster.run(10 * SECOND)
    assert cluster.now == SECOND
    cluster.run(20 * SECOND)
    assert cluster.now == 20 * SECOND


@pytest.mark.parametrize("until", [1.5 * SECOND, 1_500_000.7])
def test_time_stays_whole_whatever_is_asked_for(until: float) -> None:
    # A notebook's `cluster.run(1.5 * SECOND)`: refused or taken, but no float decides an order.
    cluster = Cluster(names(3))
    with suppress(TypeError, ValueError):
        cluster.run(until)  # type: ignore[arg-type]
    assert type(cluster.now) is int
    cluster.leave("n1")
    cluster.run(10 * SECOND)
    assert len(cluster.running) == 2


# --- processes of the user -----------------------------------------------------------------------


def test_a_users_process_acts_at_its_times() -> None:
    cluster = Cluster(names(8))
    log = watched(cluster)

    def operator() -> Generator[Any, Any, None]:
        yield cluster.env.timeout(2 * SECOND)
        cluster.kill("n3")
        yield cluster.env.timeout(20 * SECOND)
        cluster.restart("n3")
        yield cluster.env.timeout(10 * SECOND)
        cluster.leave("n5")

    cluster.env.process(operator())
    cluster.run(60 * SECOND)
    assert log.down[0] == (2 * SECOND, "n3")
    assert log.up == [(22 * SECOND, "n3")]
    assert 32 * SECOND < log.down[1][0] < 37 * SECOND
    assert cluster.converged()


@pytest.mark.parametrize("wait", [1.5 * SECOND, 1_500_000.4, 1_499_999.7])
def test_a_users_process_may_wait_for_a_float_and_time_stays_whole(wait: float) -> None:
    cluster = Cluster(names(4))
    log = watched(cluster)

    def operator() -> Generator[Any, Any, None]:
        yield cluster.env.timeout(wait)
        cluster.leave("n1")

    cluster.env.process(operator())
    cluster.run(10 * SECOND)
    assert all(type(at) is int for at, _, _ in log.events)
    assert log.events[0][0] == 1_500_000
    assert len(cluster.running) == 3


def test_a_users_process_that_only_looks_changes_nothing_but_sees_the_times() -> None:
    looked, alone = busy(), busy()
    seen: list[tuple[Micros, int]] = []

    def watcher() -> Generator[Any, Any, None]:
        while True:
            yield looked.env.timeout(100 * MS)
            seen.append((looked.now, len(looked.running)))

    looked.env.process(watcher())
    assert digest(looked) == digest(alone)
    assert [at for at, _ in seen] == [turn * 100 * MS for turn in range(1, 600)]
    assert len({running for _, running in seen}) > 2


def test_an_error_in_a_users_process_comes_out_of_run() -> None:
    cluster = Cluster(names(3))

    def clumsy() -> Generator[Any, Any, None]:
        yield cluster.env.timeout(2 * SECOND)
        raise RuntimeError("oh")

    cluster.env.process(clumsy())
    with pytest.raises(RuntimeError, match="oh"):
        cluster.run(10 * SECOND)
    cluster.run(12 * SECOND)
    assert cluster.now == 12 * SECOND


# --- asking --------------------------------------------------------------------------------------


def split(count: int, side: int) -> Cluster:
    """A cluster that was cut for so long that each side has forgotten the other."""
    cluster = Cluster(names(count), with_config(reconnect_interval=0))
    cluster.strike(Partition(at=0, groups=(hosts(*names(count)[:side]),)))
    cluster.run(300 * SECOND)
    return cluster


def test_views_are_what_each_running_node_believes() -> None:
    cluster = Cluster(names(6))
    cluster.kill("n5")
    cluster.run(30 * SECOND)
    views = cluster.views().set_index("node")
    assert list(views.columns) == ["alive", "suspect", "dead", "left", "health", "agrees"]
    assert list(views.index) == names(5)
    assert list(views.alive) == [5] * 5
    assert list(views.dead) == [1] * 5
    assert views.agrees.all()
    for name in names(5):
        view = cluster.view(name)
        assert (view.status == "alive").sum() == views.alive[name]
        assert (view.status == "dead").sum() == views.dead[name]


def test_a_view_lists_every_member_by_name() -> None:
    cluster = Cluster(names(12))
    cluster.kill("n5")
    cluster.run(20 * SECOND)
    view = cluster.view("n0")
    assert list(view.columns) == ["member", "status", "incarnation", "address"]
    assert list(view.member) == sorted(names(12))
    line = view.set_index("member").loc["n5"]
    assert (line.status, line.incarnation, line.address) == ("dead", 1, "10.0.0.6:7946")
    with pytest.raises(ValueError, match="n5 is down and believes nothing"):
        cluster.view("n5")


def test_views_show_who_does_not_agree() -> None:
    cluster = Cluster(names(6))
    cluster.kill("n5")
    assert not cluster.views().agrees.any(), "nobody knows yet"
    cluster.run(30 * SECOND)
    assert cluster.views().agrees.all()
    cluster.add("x")
    cluster.run_for(1)
    views = cluster.views().set_index("node")
    assert not views.agrees.any(), "a newcomer has not met anybody"
    assert views.alive["x"] == 1


def test_views_do_not_agree_while_a_running_member_is_suspected() -> None:
    # "agrees: it holds alive exactly those members whose process runs"
    cluster = Cluster(names(6))
    log = watched(cluster)
    cluster.pause("n3")
    assert cluster.run_until(lambda: bool(log.of(Suspected)), 30 * SECOND, every=1 * MS)
    accuser = log.of(Suspected)[0][1]
    views = cluster.views().set_index("node")
    assert views.suspect[accuser] == 1
    assert not views.agrees[accuser]


def test_views_show_poor_health() -> None:
    cluster = Cluster(names(6))
    cluster.strike(Partition(at=0, groups=(hosts("n0"),)))
    cluster.run(8 * SECOND)
    assert cluster.views().set_index("node").health["n0"] > 0


def test_believed_counts_the_other_running_nodes() -> None:
    cluster = Cluster(names(6))
    zero = {"alive": 0, "suspect": 0, "dead": 0, "left": 0, "unknown": 0}
    assert cluster.believed("n3") == {**zero, "alive": 5}
    cluster.kill("n3")
    cluster.kill("n4")
    assert cluster.believed("n3") == {**zero, "alive": 4}
    cluster.run(30 * SECOND)
    assert cluster.believed("n3") == {**zero, "dead": 4}
    cluster.leave("n0")
    cluster.run_for(10 * SECOND)
    assert cluster.believed("n0") == {**zero, "left": 3}
    cluster.add("x")
    cluster.run_for(1)
    assert cluster.believed("x") == {**zero, "unknown": 3}
    assert sum(cluster.believed("n3").values()) == len(cluster.running)


@pytest.mark.parametrize(("count", "side", "wanted"), [(10, 4, 0.6), (10, 5, 0.5), (8, 1, 0.875)])
def test_agreement_is_the_share_of_the_largest_group_of_one_mind(
    count: int, side: int, wanted: float
) -> None:
    cluster = split(count, side)
    assert cluster.agreement() == wanted
    assert not cluster.converged()
    cluster.fabric.heal()
    for name in names(count)[:side]:
        cluster.kill(name)
    assert cluster.agreement() == 1.0
    assert cluster.converged()


def test_suspects_count_as_present_for_agreement_and_not_for_convergence() -> None:
    cluster = Cluster(names(6))
    log = watched(cluster)
    cluster.pause("n3")
    assert cluster.run_until(lambda: bool(log.of(Suspected)), 30 * SECOND, every=1 * MS)
    assert cluster.agreement() == 1.0
    assert not cluster.converged()


def test_nobody_agrees_with_nobody() -> None:
    cluster = Cluster(names(2))
    for name in names(2):
        cluster.kill(name)
    assert cluster.running == []
    assert cluster.agreement() == 1.0
    assert cluster.converged()
    assert len(cluster.views()) == 0
    cluster.run(10 * SECOND)


def test_equal_tables_become_one_object_again() -> None:
    cluster = Cluster(30, warm=False)
    assert cluster.run_until(cluster.converged, 60 * SECOND)
    cluster.run_for(60 * SECOND)
    tables = [host.node.members for host in cluster.hosts if host.node]
    by_content = {(table.digest, table.slots_digest) for table in tables}
    assert len({id(table) for table in tables}) == len(by_content)


def test_what_is_sent_to_a_dead_host_is_told_to_observers_as_it_is_sent() -> None:
    cluster = Cluster(names(3), network=EVEN)
    log = watched(cluster)
    cluster.run(1 * SECOND)
    cluster.kill("n2")
    cluster.run_for(5 * SECOND)
    assert {target for _, _, target in log.unheard} == {"n2"}
    assert {source for _, source, _ in log.unheard} <= {"n0", "n1"}
    assert log.unheard[0][0] < 1 * SECOND + 3 * SECOND


# --- doing ---------------------------------------------------------------------------------------


def test_a_request_is_the_nodes_to_answer() -> None:
    cluster = Cluster(names(4))
    log = watched(cluster)
    cluster.request("n1", UpdateMeta(b"new"))
    cluster.run(10 * SECOND)
    for name in names(4):
        node = cluster.host(name).node
        assert node is not None
        assert node.members[NodeId("n1")].peer.meta == b"new"
    assert {type(event).__name__ for _, _, event in log.events} == {"Updated", "UpdateFinished"}


def test_a_join_by_hand_brings_two_groups_together() -> None:
    cluster = Cluster(names(6), warm=False, seeds=0)
    cluster.run(1 * SECOND)
    for name in ("n1", "n2"):
        cluster.request(name, Join((cluster.host("n0").address,)))
    for name in ("n4", "n5"):
        cluster.request(name, Join((cluster.host("n3").address,)))
    cluster.run_for(10 * SECOND)
    assert cluster.agreement() == 0.5
    cluster.request("n5", Join((cluster.host("n2").address,)))
    cluster.run_for(10 * SECOND)
    assert cluster.converged()


def test_a_node_can_be_fed_by_hand() -> None:
    cluster = Cluster(names(2), STILL, warm=False, seeds=0)
    cluster.run(1)
    steps = cluster.steps
    cluster.feed(cluster.host("n0"), UpdateMeta(b"x"))
    assert cluster.steps == steps + 1
    node = cluster.host("n0").node
    assert node is not None
    assert node.members[NodeId("n0")].peer.meta == b"x"
    assert node.members[NodeId("n0")].status is ALIVE


@pytest.mark.parametrize("record", [(), ("packets",)])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_packet_takes_its_time_and_does_not_reach_a_later_life(
    restarted: bool, record: tuple[Any, ...]
) -> None:
    cluster = Cluster(names(2), STILL, EVEN, record=record)
    cluster.run(SECOND)
    one, other = cluster.hosts
    steps = Steps(other.name)
    cluster.inspectors.append(steps)
    cluster.perform(one, (Send(other.address, (User(b"hello"),)),))
    cluster.run_for(HOP // 2)
    if restarted:
        cluster.restart(other.name, join=False)
    cluster.run_for(SECOND)
    whole = [(SECOND + HOP, Received(one.address, (User(b"hello"),)))]
    got = [(at, input) for at, input in steps.inputs if isinstance(input, Received)]
    assert [each for each in got if each[1].source == one.address] == ([] if restarted else whole)


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no nodes": (lambda: Cluster(0), ValueError, "a cluster of 0 nodes, expected 1 to 1000000"),
    "fewer": (lambda: Cluster(-2), ValueError, "a cluster of -2 nodes, expected 1 to 1000000"),
    "no names": (lambda: Cluster([]), ValueError, "a cluster has at least one node"),
    "a name twice": (
        lambda: Cluster(["a", "b", "a"]),
        ValueError,
        "two nodes of a cluster have one name",
    ),
    "a record of nothing known": (
        lambda: Cluster(2, record=("events", "dreams")),  # type: ignore[arg-type]
        ValueError,
        "record: 'dreams', expected some of events, health, messages, packets, serf",
    ),
    "an unknown host": (
        lambda: Cluster(2).host("ghost"),
        KeyError,
        "\"no host is called 'ghost'\"",
    ),
    "a kill of nobody": (
        lambda: Cluster(2).kill("ghost"),
        KeyError,
        "\"no host is called 'ghost'\"",
    ),
    "a view of nobody": (
        lambda: Cluster(2).view("ghost"),
        KeyError,
        "\"no host is called 'ghost'\"",
    ),
    "a newcomer who is there": (
        lambda: Cluster(2).add("node-1"),
        ValueError,
        "there is a host node-1 already",
    ),
}


@pytest.mark.parametrize(("do", "kind", "text"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused(do: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        do()
    assert str(caught.value) == text


def test_nothing_can_be_asked_of_a_node_that_is_down() -> None:
    cluster = Cluster(names(2))
    cluster.kill("n1")
    with pytest.raises(ValueError, match="n1 is down"):
        cluster.request("n1", UpdateMeta(b"x"))
    cluster.leave("n1")
    cluster.run(10 * SECOND)


def test_an_attribute_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        Cluster(2, attributes={"zone": ""})


@pytest.mark.parametrize(
    "settings",
    [{"meta": bytes(META_LIMIT + 1)}, {"seeds": -1}, {"warm": False, "join_every": -1}],
    ids="-".join,
)
def test_settings_that_no_cluster_can_have_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of the kind that says so
        Cluster(5, **settings)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("every", [0, -1])
def test_looking_without_ever_going_on_is_refused(every: Micros) -> None:
    cluster = Cluster(2)
    with pytest.raises(ValueError):  # noqa: PT011 - any of the kind that says so
        cluster.run_until(lambda: False, SECOND, every=every)


@pytest.mark.parametrize(
    "do",
    [
        lambda cluster: cluster.later(-2 * SECOND, Kill(at=0, hosts=hosts("n1"))),
        lambda cluster: cluster.add("x", delay=-2 * SECOND),
    ],
)
def test_time_never_goes_back(do: Callable[[Cluster], None]) -> None:
    cluster = Cluster(names(3))
    cluster.run(5 * SECOND)
    log = watched(cluster)
    try:
        do(cluster)
    except ValueError:
        return
    cluster.run(10 * SECOND)
    assert all(at >= 5 * SECOND for at, _ in log.down + log.up)


def test_with_checks_a_broken_node_is_found_at_its_next_step() -> None:
    cluster = Cluster(names(3), check=True)
    cluster.run(1 * SECOND)
    host = cluster.host("n1")
    assert host.node is not None
    host.node = replace(host.node, health=-3)
    with pytest.raises(AssertionError, match="n1: the health score is -3"):
        cluster.run(10 * SECOND)


def test_a_cluster_that_nobody_holds_is_collected() -> None:
    """Its clock leads back to it; were one of the events on the way unknown to the collector,
    every cluster would stay for ever."""
    cluster = Cluster(names(4))
    cluster.run(3 * SECOND)
    gone = weakref.ref(cluster)
    del cluster
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("record", [(), ("messages",)])
@pytest.mark.parametrize("network", [EVEN, replace(EVEN, reorder=1e-9)])
def test_what_finds_no_process_is_counted_whatever_way_it_took(
    network: Network, record: tuple[Column, ...]
) -> None:
    cluster = Cluster(names(3), network=network, record=record)
    log = watched(cluster)
    cluster.kill("n1")
    cluster.run(5 * SECOND)
    assert cluster.dropped == len(log.unheard) > 0
