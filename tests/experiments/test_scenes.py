"""Pictures of networks and of single runs: what is drawn, what is marked, what is left out."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from backends.sim import Cluster, topology
from backends.sim.faults import Churn, Degrade, Fault, Flap, Hosts, Kill, Partition, Pause, hosts
from backends.sim.network import Link
from experiments import scenes
from swimsim import SECOND

DRAWN: dict[str, tuple[Any, set[str], str]] = {  # graph, kinds, title
    "a rack": (topology.rack(6), {"host", "switch"}, "rack: 7 nodes, 6 links"),
    "zones": (topology.zones(3), {"host", "switch"}, "zones: 6 nodes, 6 links"),
    "regions": (
        topology.regions(40),
        {"us-east", "us-central", "us-west", "europe", "asia", "south-america", "australia"},
        "regions: 40 nodes, 780 links, the 600 shortest drawn",
    ),
    "any graph": (
        nx.Graph([("a", "b", {"latency_ms": 1.0})]),
        {"host"},
        "network: 2 nodes, 1 links",
    ),
}


@pytest.mark.parametrize(("graph", "kinds", "title"), DRAWN.values(), ids=DRAWN)
def test_a_network_is_drawn_with_its_kinds_of_sites(
    graph: Any, kinds: set[str], title: str
) -> None:
    picture = scenes.topology(graph)
    (axes,) = picture.axes
    assert axes.get_title() == title
    assert {text.get_text() for text in axes.get_legend().get_texts()} == kinds
    assert sum(len(line.get_xdata()) for line in axes.lines) == graph.number_of_nodes()  # type: ignore[arg-type]
    assert bool("latitude" in axes.get_ylabel()) == ("us-east" in kinds)


ONE = hosts("node-1")
FAULTS: tuple[Fault, ...] = (
    Kill(at=1 * SECOND, hosts=ONE),
    Partition(at=2 * SECOND, groups=(ONE,), heal_after=3 * SECOND),
    Partition(at=2 * SECOND, groups=(ONE,)),
    Pause(at=4 * SECOND, hosts=ONE, duration=1 * SECOND),
    Flap(at=4 * SECOND, hosts=ONE, down=1, up=1, until=6 * SECOND),
    Churn(at=4 * SECOND, rate=1, downtime=1, until=7 * SECOND),
    Degrade(at=4 * SECOND, links=(Link(loss=0.5),), duration=50 * SECOND),
)


def test_a_picture_marks_when_faults_strike_and_when_they_end() -> None:
    cluster = Cluster(4)
    cluster.run(10 * SECOND)
    picture = scenes.membership(cluster, FAULTS, "four nodes")
    upper, _ = picture.axes
    marked = {text.get_text(): text.xy[0] for text in upper.texts}  # type: ignore[attr-defined]
    assert marked == {
        "kill": 1,
        "partition, partition": 2,
        "pause, flap, churn, degrade": 4,
        "heals, pause ends": 5,
        "flap ends": 6,
        "churn ends": 7,
    }
    assert picture.get_suptitle() == "four nodes"


def test_nobody_left_is_no_line() -> None:
    cluster = Cluster(3, faults=(Kill(at=0, hosts=Hosts(share=1.0)),))
    cluster.run(2 * SECOND)
    upper, _ = scenes.membership(cluster).axes
    assert upper.lines[0].get_ydata()[-1] != upper.lines[0].get_ydata()[-1]  # type: ignore[index]
