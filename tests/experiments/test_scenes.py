"""Pictures of networks: where sites lie, which kinds there are, and what is left out."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from backends.sim import topology
from experiments import scenes

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
