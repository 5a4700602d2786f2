"""Networks with a shape: NetworkX graphs and measured matrices, as latencies between hosts.

A graph's edges carry one-way latencies in milliseconds (``latency_ms``); the latency between
two of its nodes is that of the shortest path. Hosts stand on the graph's nodes in turn, or on
those that have ``hosts=True`` where any has, so switches and routers need not be hosts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from backends.sim.network import Matrix, NetworkError
from swimsim.terms import MS, US, Micros

SAME_SITE: Micros = 250 * US  # one way between two hosts of one site, where a source says nothing


def graph_latency(
    graph: nx.Graph[Any], *, weight: str = "latency_ms", jitter: float = 0.0
) -> Matrix:
    """One-way delays along shortest paths; raises ``NetworkError`` for a graph that has none.

    Two hosts on one graph node are ``SAME_SITE`` apart.
    """
    nodes = list(graph)
    sites = [node for node in nodes if graph.nodes[node].get("hosts")] or nodes
    edges: Iterable[tuple[Any, Any, Any]] = graph.edges(data=weight)
    for one, other, value in edges:
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise NetworkError(
                f"edge {one} - {other}: {weight} is {value!r}, expected milliseconds"
            )
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph, weight=weight))
    rows = []
    for site in sites:
        cut_off = [other for other in sites if other not in lengths[site]]
        if cut_off:
            raise NetworkError(f"no path from {site} to {cut_off[0]}")
        rows.append(
            tuple(
                SAME_SITE if other == site else round(lengths[site][other] * MS) for other in sites
            )
        )
    return Matrix(tuple(rows), tuple(range(len(sites))), jitter)


def read_matrix(path: Path, *, jitter: float = 0.0) -> Matrix:
    """Measured round-trip times in milliseconds, one row a line, gzipped or not.

    This is the format of the NetLatency data. A one-way delay is half a round trip; the
    diagonal, which such data leaves zero, becomes ``SAME_SITE``. Raises ``NetworkError`` for
    anything that is not a square matrix of positive numbers, and OSError.
    """
    path.stat()  # whose OSError says more than numpy's
    try:
        with warnings.catch_warnings(action="error"):  # a file without data is only a warning
            rtt = np.loadtxt(path, ndmin=2)  # opens gzipped files as well
    except (ValueError, UnicodeDecodeError, EOFError, UserWarning) as error:
        raise NetworkError(f"{path}: {error}") from error
    if rtt.shape[0] != rtt.shape[1]:
        raise NetworkError(f"{path}: {rtt.shape[0]} rows of {rtt.shape[1]} columns, not square")
    one_way = rtt / 2 * MS
    np.fill_diagonal(one_way, SAME_SITE)
    if not np.isfinite(one_way).all() or (one_way <= 0).any():
        raise NetworkError(f"{path}: expected positive round-trip times in milliseconds")
    delays = tuple(tuple(int(value) for value in row) for row in one_way.round())
    return Matrix(delays, tuple(range(len(delays))), jitter)


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
