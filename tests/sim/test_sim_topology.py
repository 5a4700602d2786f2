"""Networks with a shape, against shortest paths worked out by hand and by networkx."""

from __future__ import annotations

import gzip
import math
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import pytest

from backends.sim import Cluster, Network
from backends.sim.network import Matrix, NetworkError
from backends.sim.topology import SAME_SITE, graph_latency, rack, read_matrix, zones
from swimsim.terms import MS, Micros


def graph(*edges: tuple[Any, Any, float], **attributes: Any) -> nx.Graph:
    made = nx.Graph(**attributes)
    for one, other, ms in edges:
        made.add_edge(one, other, latency_ms=ms)
    return made


# --- graphs --------------------------------------------------------------------------------------

#   a --1-- b --2-- c          the way a - d over b and c takes 6, the direct one 10
#    \______10______ d --3-- c
BY_HAND = graph(("a", "b", 1), ("b", "c", 2), ("c", "d", 3), ("a", "d", 10))

PATHS: dict[str, tuple[Any, tuple[tuple[float, ...], ...]]] = {  # milliseconds, None: one site
    "shortest paths by hand": (
        BY_HAND,
        ((0, 1, 3, 6), (1, 0, 2, 5), (3, 2, 0, 3), (6, 5, 3, 0)),
    ),
    "a single node": (nx.path_graph(1), ((0,),)),
    "fractions of a millisecond": (graph(("a", "b", 0.125)), ((0, 0.125), (0.125, 0))),
    "no latency at all": (graph(("a", "b", 0)), ((0, 0), (0, 0))),
    "one-way streets": (
        nx.DiGraph([("a", "b", {"latency_ms": 2}), ("b", "a", {"latency_ms": 7})]),
        ((0, 2), (7, 0)),
    ),
    "the better of two cables": (
        nx.MultiGraph([("a", "b", {"latency_ms": 5}), ("a", "b", {"latency_ms": 4})]),
        ((0, 4), (4, 0)),
    ),
}


@pytest.mark.parametrize(("shape", "ms"), PATHS.values(), ids=PATHS)
def test_a_graphs_latencies_are_those_of_the_shortest_paths(
    shape: Any, ms: tuple[tuple[float, ...], ...]
) -> None:
    wanted = tuple(
        tuple(SAME_SITE if i == j else round(value * MS) for j, value in enumerate(row))
        for i, row in enumerate(ms)
    )
    assert graph_latency(shape) == Matrix(wanted, tuple(range(len(ms))))


@pytest.mark.parametrize("seed", range(5))
def test_a_random_graphs_latencies_are_the_least_over_all_ways(seed: int) -> None:
    random = Random(seed)
    shape = nx.gnp_random_graph(6, 0.6, seed=seed)
    shape = shape.subgraph(max(nx.connected_components(shape), key=len)).copy()
    for *_, data in shape.edges(data=True):
        data["latency_ms"] = random.randrange(1, 20)
    nodes = list(shape)
    found = graph_latency(shape).delays
    for i, one in enumerate(nodes):
        for j, other in enumerate(nodes):
            if one == other:
                continue
            ways = [
                sum(shape[here][there]["latency_ms"] for here, there in nx.utils.pairwise(way))
                for way in nx.all_simple_paths(shape, one, other)
            ]
            assert found[i][j] == min(ways) * MS


def test_hosts_stand_on_all_nodes_in_turn_where_none_is_marked() -> None:
    latency = graph_latency(BY_HAND)
    assert latency.places == (0, 1, 2, 3)
    assert latency.sample(Random(0), 4, 7) == 6 * MS  # hosts 4 and 7 stand on a and d again
    assert latency.sample(Random(0), 0, 4) == SAME_SITE


def test_hosts_stand_on_the_marked_nodes_alone() -> None:
    marked = BY_HAND.copy()
    for name in ("a", "c"):
        marked.nodes[name]["hosts"] = True
    marked.nodes["b"]["hosts"] = False
    assert graph_latency(marked) == Matrix(((SAME_SITE, 3 * MS), (3 * MS, SAME_SITE)), (0, 1))


def test_another_weight_and_a_jitter_can_be_asked_for() -> None:
    shape = nx.Graph()
    shape.add_edge("a", "b", cable=4, latency_ms=9)
    latency = graph_latency(shape, weight="cable", jitter=0.1)
    assert latency == Matrix(((SAME_SITE, 4 * MS), (4 * MS, SAME_SITE)), (0, 1), 0.1)


BAD_GRAPHS: dict[str, tuple[Any, str]] = {
    "no weight": (nx.Graph([("a", "b")]), "edge a - b: latency_ms is None, expected milliseconds"),
    "a text": (
        nx.Graph([("a", "b", {"latency_ms": "5"})]),
        "edge a - b: latency_ms is '5', expected milliseconds",
    ),
    "negative": (graph(("a", "b", -1)), "edge a - b: latency_ms is -1, expected milliseconds"),
    "no number": (
        graph(("a", "b", math.nan)),
        "edge a - b: latency_ms is nan, expected milliseconds",
    ),
    "without end": (
        graph(("a", "b", math.inf)),
        "edge a - b: latency_ms is inf, expected milliseconds",
    ),
    "in two parts": (graph(("a", "b", 1), ("c", "d", 1)), "no path from a to c"),
    "a one-way street": (
        nx.DiGraph([("a", "b", {"latency_ms": 2})]),
        "no path from b to a",
    ),
    "empty": (nx.Graph(), "latency matrix: expected as many columns as rows, at least one"),
}


@pytest.mark.parametrize(("shape", "text"), BAD_GRAPHS.values(), ids=BAD_GRAPHS)
def test_a_graph_that_is_no_network_is_refused(shape: Any, text: str) -> None:
    with pytest.raises(NetworkError) as caught:
        graph_latency(shape)
    assert str(caught.value) == text


def test_what_has_no_host_need_not_be_reached() -> None:
    shape = graph(("a", "b", 1), ("lonely", "switch", 1))
    for name in ("a", "b"):
        shape.nodes[name]["hosts"] = True
    assert graph_latency(shape).places == (0, 1)


# --- ready-made shapes ---------------------------------------------------------------------------


def test_in_a_rack_everybody_is_two_cables_from_everybody() -> None:
    latency = graph_latency(rack(5, port_ms=0.2))
    assert latency.places == (0, 1, 2, 3, 4), "the switch is no host"
    for i, j in permutations(range(5), 2):
        assert latency.delays[i][j] == 400
    assert all(latency.delays[i][i] == SAME_SITE for i in range(5))


def test_in_zones_hosts_stand_in_turn_and_zones_are_apart() -> None:
    latency = graph_latency(zones(3, within_ms=0.1, between_ms=0.6))
    assert latency.places == (0, 1, 2)
    assert latency.sample(Random(0), 0, 3) == SAME_SITE
    for source, target in ((0, 1), (1, 2), (5, 0)):
        assert latency.sample(Random(0), source, target) == 100 + 600 + 100


def test_one_zone_is_one_site() -> None:
    assert graph_latency(zones(1)).delays == ((SAME_SITE,),)


def test_a_cluster_runs_on_a_graph_as_it_says() -> None:
    latency = graph_latency(zones(2, between_ms=40.0))
    cluster = Cluster(4, network=Network(latency), record=("packets",))
    cluster.run(5_000 * MS)
    packets = cluster.trace.packets()
    sent = packets[packets.fate == "sent"].groupby(["source", "target"]).time_s.min()
    got = packets[packets.fate == "received"].groupby(["source", "target"]).time_s.min()
    took = (got - sent).round(6)
    assert took["node-0", "node-1"] == 0.0402
    assert took["node-0", "node-2"] == SAME_SITE / 1_000_000


# --- measured matrices ---------------------------------------------------------------------------


def written(folder: Path, text: str | bytes, name: str = "rtt.txt") -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


MEASURED = "0 10 20\n12 0 0.5\n30.5 0.5 0\n"
HALVED: tuple[tuple[Micros, ...], ...] = (
    (SAME_SITE, 5_000, 10_000),
    (6_000, SAME_SITE, 250),
    (15_250, 250, SAME_SITE),
)


@pytest.mark.parametrize("name", ["rtt.txt", "rtt.txt.gz"])
def test_a_measured_matrix_is_read_as_half_a_round_trip_each_way(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, MEASURED, name)
    assert read_matrix(path) == Matrix(HALVED, (0, 1, 2))
    assert read_matrix(path, jitter=0.2) == Matrix(HALVED, (0, 1, 2), 0.2)


@pytest.mark.parametrize(
    "text",
    ["0\t10 20\n 12 0 0.5 \n\n30.5\t\t0.5 0", "# slice 1\n0 10 20 # first\n12 0 .5\n3.05e1 .5 0\n"],
)
def test_white_space_and_comments_do_not_matter(tmp_path: Path, text: str) -> None:
    assert read_matrix(written(tmp_path, text)).delays == HALVED


def test_whatever_the_diagonal_says_a_site_is_near_to_itself(tmp_path: Path) -> None:
    found = read_matrix(written(tmp_path, "-1 4\n4 nan\n"))
    assert found.delays == ((SAME_SITE, 2_000), (2_000, SAME_SITE))


def test_one_site_is_a_matrix(tmp_path: Path) -> None:
    assert read_matrix(written(tmp_path, "0\n")).delays == ((SAME_SITE,),)


BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {  # name, content, what is said of it
    "wide": ("rtt.txt", "0 1 2\n1 0 2\n", "2 rows of 3 columns, not square"),
    "tall": ("rtt.txt", "0 1\n1 0\n2 2\n", "3 rows of 2 columns, not square"),
    "ragged": ("rtt.txt", "0 1\n1\n", "the number of columns changed from 2 to 1 at row 2"),
    "words": ("rtt.txt", "a b\nc d\n", "could not convert string 'a'"),
    "negative": ("rtt.txt", "0 -1\n1 0\n", "expected positive round-trip times in milliseconds"),
    "zero": ("rtt.txt", "0 0\n1 0\n", "expected positive round-trip times in milliseconds"),
    "not a number": (
        "rtt.txt",
        "0 nan\n1 0\n",
        "expected positive round-trip times in milliseconds",
    ),
    "without end": ("rtt.txt", "0 inf\n1 0\n", "expected positive round-trip times"),
    "bytes": ("rtt.txt", bytes(range(128, 256)), "'utf-8' codec can't decode"),
    "empty": ("rtt.txt", "", ""),
    "cut off": ("cut.txt", gzip.compress(MEASURED.encode())[:-12], ""),
}


@pytest.mark.parametrize(("name", "content", "text"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_holds_no_matrix_is_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, text: str
) -> None:
    path = written(tmp_path, content, name)
    if name == "cut.txt":  # a download that broke off
        path = path.rename(tmp_path / "rtt.gz")
    with pytest.raises(NetworkError) as caught:
        read_matrix(path)
    assert str(caught.value).startswith(f"{path}: {text}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.txt"):
        read_matrix(tmp_path / "missing.txt")
