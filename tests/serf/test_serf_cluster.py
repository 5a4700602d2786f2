"""Serf's layer in the simulator, under loss and cuts: what its users are promised.

The figures of each test are those of its seed; whoever doubts one changes the seed.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from msgspec.structs import replace

from backends.sim import Cluster, Network
from backends.sim.faults import Hosts, Partition
from backends.sim.network import Bernoulli, Constant
from swimsim import serf_view
from swimsim.config import LAN
from swimsim.inputs import AskQuery, FireEvent, ManageKeys, SetTags
from swimsim.terms import MS, SECOND, NodeId

SERF = replace(LAN, serf=True)


def lossy(share: float) -> Network:
    return Network(loss=Bernoulli(share))


def told(cluster: Cluster, event: str) -> Counter[tuple[str, str]]:
    """How often each observer was told of each subject."""
    frame = cluster.trace.serf()
    frame = frame[frame.event == event]
    return Counter(zip(frame.observer, frame.subject, strict=True))


def test_every_event_reaches_everybody_once_over_loss_and_a_cut() -> None:
    """A third is cut off for 20 s; it hears of what was fired meanwhile when it is back."""
    zone = Hosts(where={"zone": "b"})
    cluster = Cluster(
        30,
        SERF,
        lossy(0.2),
        seed=11,
        record=("serf",),
        attributes={"zone": "aab"},
        faults=[Partition(at=2 * SECOND, groups=(zone,), heal_after=20 * SECOND)],
    )
    names = [host.name for host in cluster.hosts]
    for number in range(20):
        cluster.run_for(SECOND)
        cluster.request(names[number], FireEvent(number, f"event-{number:02}", b"x" * number))
    cluster.run_for(90 * SECOND)
    heard = told(cluster, "user event")
    assert heard == {(name, f"event-{number:02}"): 1 for name in names for number in range(20)}


def test_members_and_tags_are_told_in_serfs_words() -> None:
    cluster = Cluster(8, SERF, seed=2, record=("serf",))
    cluster.request("node-1", SetTags(1, (("role", "db"), ("dc", "east"))))
    cluster.run_for(5 * SECOND)
    cluster.kill("node-7")
    cluster.run_for(30 * SECOND)
    cluster.leave("node-6")
    cluster.run_for(10 * SECOND)
    node = cluster.host("node-0").node
    assert node is not None
    statuses = {info.name: info.status for info in serf_view.members(node)}
    assert statuses == {**{f"node-{n}": 1 for n in range(6)}, "node-6": 3, "node-7": 4}
    known = serf_view.member(node, NodeId("node-1"))
    assert known is not None
    assert dict(known.tags or ()) == {"role": "db", "dc": "east"}
    stats = serf_view.stats(node)
    assert (stats["members"], stats["failed"], stats["left"]) == ("8", "1", "1")
    assert set(stats) == {
        "members", "failed", "left", "health_score", "member_time", "event_time", "query_time",
        "intent_queue", "event_queue", "query_queue", "encrypted", "coordinate_resets",
    }  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_leave_is_a_leave_whatever_is_lost(seed: int) -> None:
    cluster = Cluster(20, SERF, lossy(0.25), seed=seed, record=("serf",))
    cluster.run_for(2 * SECOND)
    leavers = [f"node-{number:02}" for number in (3, 7, 11, 15)]
    for name in leavers:
        cluster.leave(name)
        cluster.run_for(500 * MS)
    cluster.run_for(60 * SECOND)
    frame = cluster.trace.serf()
    changes = frame[(frame.event == "member") & frame.subject.isin(leavers)]
    assert set(changes.detail) == {"leave"}
    stayed = {host.name for host in cluster.running}
    heard = Counter(zip(changes.observer, changes.subject, strict=True))
    assert {pair: heard[pair] for pair in heard if pair[0] in stayed} == {
        (observer, leaver): 1 for observer in stayed for leaver in leavers
    }


def coverage(relay: int, loss: float, *, nodes: int = 30, queries: int = 8, seed: int = 5) -> float:
    """The share of those who were asked whose ack reaches the asker."""
    cluster = Cluster(nodes, SERF, lossy(loss), seed=seed, record=("serf",))
    for number in range(queries):
        ask = AskQuery(number, "load", ack=True, relay_factor=relay, timeout=6 * SECOND)
        cluster.request("node-00", ask)
        cluster.run_for(7 * SECOND)
    heard = told(cluster, "query")
    assert sum(heard.values()) >= 0.98 * nodes * queries
    return sum(told(cluster, "ack").values()) / sum(heard.values())


def test_answers_survive_loss_as_the_relay_factor_grows() -> None:
    """1 - (1 - q)(1 - q^2)^r, q being delivered: one copy goes straight, r others take two hops."""
    q = 0.7
    for relay in (0, 1, 2, 4):
        expected = 1 - (1 - q) * (1 - q**2) ** relay
        assert coverage(relay, 1 - q) == pytest.approx(expected, abs=0.05)


def test_keys_are_asked_of_everybody() -> None:
    cluster = Cluster(5, SERF, seed=1, record=("serf",))
    cluster.request("node-0", ManageKeys(9, "list"))
    cluster.run_for(4 * SECOND)
    frame = cluster.trace.serf()
    (detail,) = frame[frame.event == "keys finished"].detail
    assert detail == "5 of 5 answered, 5 errors 5/5 nodes reported failure"


def test_real_bytes_make_no_difference() -> None:
    def run(*, wire: bool) -> str:
        cluster = Cluster(6, SERF, lossy(0.1), seed=3, wire=wire, check=not wire)
        cluster.request("node-0", FireEvent(1, "deploy", b"v1"))
        cluster.request("node-1", AskQuery(2, "load", ack=True, relay_factor=2))
        cluster.request("node-2", SetTags(3, (("role", "db"),)))
        cluster.run_for(5 * SECOND)
        cluster.restart("node-5")
        cluster.leave("node-4")
        cluster.run_for(40 * SECOND)
        return cluster.digest()

    assert run(wire=False) == run(wire=True)


def test_a_branch_has_the_same_future() -> None:
    cluster = Cluster(6, SERF, lossy(0.1), seed=3)
    cluster.request("node-0", FireEvent(1, "deploy", b"v1"))
    cluster.run_for(300 * MS)
    twin = cluster.branch()
    other = cluster.branch(seed=9)
    for each in (cluster, twin, other):
        each.run_for(20 * SECOND)
    assert cluster.digest() == twin.digest() != other.digest()


def test_round_trips_are_estimated_between_those_who_never_measured_theirs() -> None:
    """Every round trip takes 20 ms; after two minutes no estimate is off by a fifth."""
    cluster = Cluster(12, SERF, Network(latency=Constant(10 * MS)), seed=3)
    cluster.run_for(120 * SECOND)
    places = [serf_view.coordinate(host.node, host.name) for host in cluster.hosts if host.node]
    assert len(places) == 12
    for one, other in combinations(places, 2):
        assert one is not None
        assert other is not None
        assert serf_view.distance(one, other) == pytest.approx(0.020, rel=0.2)
