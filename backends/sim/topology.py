"""Networks with a shape: NetworkX graphs and measured matrices, as latencies between hosts.

A graph's edges carry one-way latencies in milliseconds (``latency_ms``); the latency between
two of its nodes is that of the shortest path. Hosts stand on the graph's nodes in turn, or on
those that have ``hosts=True`` where any has, so switches and routers need not be hosts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from msgspec.structs import asdict

from backends.sim.matrices import Rtt, Unit, read_rtt, stand_in
from backends.sim.network import Matrix, NetworkError
from swimsim.terms import MS, US, Micros

SAME_SITE: Micros = 250 * US  # one way between two hosts of one site, where a source says nothing


def graph_latency(
    graph: nx.Graph[Any], *, weight: str = "latency_ms", jitter: float = 0.0
) -> Matrix:
    """One-way delays along shortest paths; raises ``NetworkError`` for a graph that has none.

    Two hosts on one graph node are ``SAME_SITE`` apart. In a graph with the attribute ``direct``
    every pair takes the edge between the two, as measured, be it longer than a way around.
    """
    nodes = list(graph)
    sites = [node for node in nodes if graph.nodes[node].get("hosts")] or nodes
    edges: Iterable[tuple[Any, Any, Any]] = graph.edges(data=weight)
    for one, other, value in edges:
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise NetworkError(
                f"edge {one} - {other}: {weight} is {value!r}, expected milliseconds"
            )
    if graph.graph.get("direct"):
        lengths = {node: {other: d[weight] for other, d in graph[node].items()} for node in sites}
    else:
        lengths = dict(nx.all_pairs_dijkstra_path_length(graph, weight=weight))
    rows = []
    for site in sites:
        cut_off = [other for other in sites if other not in lengths[site] and other != site]
        if cut_off:
            raise NetworkError(f"no path from {site} to {cut_off[0]}")
        rows.append(
            tuple(
                SAME_SITE if other == site else round(lengths[site][other] * MS) for other in sites
            )
        )
    return Matrix(tuple(rows), tuple(range(len(sites))), jitter)


def rtt_latency(rtt: Rtt, *, jitter: float = 0.0) -> Matrix:
    """Half of a round trip each way; two hosts of one site are ``SAME_SITE`` apart."""
    one_way = np.asarray(rtt) / 2 * MS
    np.fill_diagonal(one_way, SAME_SITE)
    delays = tuple(tuple(int(value) for value in row) for row in one_way.round())
    return Matrix(delays, tuple(range(len(delays))), jitter)


def rtt_graph(rtt: Rtt, names: Sequence[str] = ()) -> nx.Graph[str]:
    """Every pair of sites joined by its own way, which is not shortened over a third.

    Its latencies are those of ``rtt_latency``, of the upper half where the matrix is not symmetric.
    """
    graph: nx.Graph[str] = nx.Graph(direct=True)
    names = names or [f"site-{index}" for index in range(len(rtt))]
    graph.add_nodes_from(names)
    for i, name in enumerate(names):
        for j in range(i + 1, len(names)):
            graph.add_edge(name, names[j], latency_ms=float(rtt[i, j]) / 2)
    return graph


def read_matrix(path: Path, *, jitter: float = 0.0, unit: Unit = "ms") -> Matrix:
    """Measured round-trip times from a file in either format that ``read_rtt`` knows."""
    return rtt_latency(read_rtt(path, unit=unit), jitter=jitter)


def read_graph(path: Path, *, unit: Unit = "ms") -> nx.Graph[str]:
    """The same as a graph, to look at and to draw."""
    return rtt_graph(read_rtt(path, unit=unit))


def rack(hosts: int = 16, *, port_ms: float = 0.05) -> nx.Graph[str]:
    """One switch, and hosts that are each a cable away from it."""
    graph: nx.Graph[str] = nx.Graph(name="rack")
    for index in range(hosts):
        graph.add_node(f"host-{index}", hosts=True)
        graph.add_edge("switch", f"host-{index}", latency_ms=port_ms)
    return graph


def zones(count: int = 3, *, within_ms: float = 0.1, between_ms: float = 0.6) -> nx.Graph[str]:
    """Availability zones: a router each, all joined to all; hosts stand in the zones in turn."""
    graph: nx.Graph[str] = nx.Graph(name="zones")
    for index in range(count):
        graph.add_node(f"zone-{index}", hosts=True)
        graph.add_edge(f"zone-{index}", f"router-{index}", latency_ms=within_ms)
        for other in range(index):
            graph.add_edge(f"router-{other}", f"router-{index}", latency_ms=between_ms)
    return graph


def regions(sites: int = 70, *, seed: int = 1) -> nx.Graph[str]:
    """Seven regions of the world (``matrices.stand_in``): hosts stand on the sites in turn.

    Sites know their ``region``, ``latitude`` and ``longitude``.
    """
    places, rtt = stand_in(sites, seed)
    graph = rtt_graph(rtt, [f"{site.region}-{number}" for number, site in enumerate(places)])
    graph.graph["name"] = "regions"
    for name, site in zip(graph, places, strict=True):
        graph.nodes[name].update(asdict(site))
    return graph
