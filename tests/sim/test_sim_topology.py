"""Networks with a shape, against shortest paths worked out by hand and by networkx."""

from __future__ import annotations

import gzip
import math
from itertools import permutations
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.sim import Cluster, Network
from backends.sim.matrices import REGIONS, describe, read_rtt, stand_in
from backends.sim.network import Matrix, NetworkError
from backends.sim.topology import (
    SAME_SITE,
    graph_latency,
    rack,
    read_graph,
    read_matrix,
    regions,
    rtt_latency,
    zones,
)
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


def test_p2psims_topologies_are_one_way_and_hold_for_both_directions(tmp_path: Path) -> None:
    text = """topology E2EGraph 3
failure_model NullFailureModel

node 7
node 9
node 4
7,9 5000
9,7 6000
7,4 10000
4,7 15250
9,4 250
"""
    assert read_matrix(written(tmp_path, text), unit="us").delays == HALVED
    halves = "node 1\nnode 2\n1,2 2\n"
    assert read_matrix(written(tmp_path, halves)).delays == (
        (SAME_SITE, 2_000),
        (2_000, SAME_SITE),
    )


def test_microseconds_can_be_asked_for(tmp_path: Path) -> None:
    rows = "0 10000 20000\n12000 0 500\n30500 500 0\n"
    assert read_matrix(written(tmp_path, rows), unit="us").delays == HALVED


BAD_FILES: dict[str, tuple[str, str | bytes, str]] = {  # name, content, what is said of it
    "wide": ("rtt.txt", "0 1 2\n1 0 2\n", ": expected 3 rows, as many as columns, got 2"),
    "tall": ("rtt.txt", "0 1\n1 0\n2 2\n", ":3: expected 2 rows, as many as columns"),
    "ragged": ("rtt.txt", "0 1\n\n1\n", ":3: expected 2 numbers as in the first row, got 1"),
    "words": ("rtt.txt", "0 b\nc 0\n", ":1: column 2: expected a number, got 'b'"),
    "words on the diagonal": ("rtt.txt", "a 1\n1 0\n", ":1: column 1: expected a number, got 'a'"),
    "negative": ("rtt.txt", "0 -1\n1 0\n", ":1: column 2: expected a time above zero, got -1"),
    "zero": ("rtt.txt", "0 1\n0 0\n", ":2: column 1: expected a time above zero, got 0"),
    "not a number": ("rtt.txt", "0 nan\n1 0\n", ":1: column 2: expected a time above zero"),
    "without end": ("rtt.txt", "0 inf\n1 0\n", ":1: column 2: expected a time above zero"),
    "bytes": ("rtt.txt", bytes(range(128, 256)), ": not text: 'utf-8' codec can't decode"),
    "empty": ("rtt.txt", "", ": expected rows of numbers or a p2psim topology, it is empty"),
    "cut off": ("cut.txt", gzip.compress(MEASURED.encode())[:-12], ": not text: "),
    "p2psim, no pair": (
        "t",
        "node 1\nnode 2\nnode 3\n1,2 5\n1,3 5",
        ": no delay between nodes 2 and 3",
    ),
    "p2psim, no node": ("t", "node 1\n1,2 5\n", ":2: there is no node 2"),
    "p2psim, twice": ("t", "node 1\nnode 1\n", ":2: node 1 is there already"),
    "p2psim, no time": ("t", "node 1\nnode 2\n1,2 soon", ":3: expected a number, got 'soon'"),
    "p2psim, negative": ("t", "node 1\nnode 2\n1,2 -1", ":3: expected a time above zero, got -1"),
    "p2psim, nodes missing": ("t", "topology E2EGraph 4\n", ": expected nodes, there are none"),
    "p2psim, a slip": (
        "t",
        "node 1\nnod 2\n",
        """:2: expected "node 1" or "1,2 45", got 'nod 2'""",
    ),
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
    assert str(caught.value).startswith(f"{path}{text}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing\.txt"):
        read_matrix(tmp_path / "missing.txt")


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(1, 10**6), min_size=n, max_size=n), min_size=n, max_size=n
        )
    )
)
def test_both_formats_say_the_same_of_any_matrix(rows: list[list[int]]) -> None:
    size = len(rows)
    halves = [[0 if i == j else rows[i][j] for j in range(size)] for i in range(size)]
    nodes = "".join(f"node {i + 1}\n" for i in range(size))
    pairs = "".join(
        f"{i + 1},{j + 1} {halves[i][j]}\n" for i in range(size) for j in range(size) if i != j
    )
    with TemporaryDirectory() as folder:
        p2psim = read_rtt(written(Path(folder), nodes + pairs, "t"), unit="us")
        doubled = "\n".join(" ".join(str(2 * value) for value in row) for row in halves)
        assert (read_rtt(written(Path(folder), doubled), unit="us") == p2psim).all()


# --- the made world ------------------------------------------------------------------------------


def test_the_stand_in_is_as_the_spec_says() -> None:
    # spec experiments.md, section 1 point 12, n = 1740; here fewer sites, three seeds
    published = {1: 9, 10: 22, 25: 54, 50: 139, 75: 191, 90: 246, 99: 383}
    for seed in (1, 2, 3):
        _, rtt = stand_in(500, seed)
        found = describe(rtt)
        assert found.symmetric
        assert found.percentiles == pytest.approx(published, rel=0.06)
        assert found.mean == pytest.approx(136, rel=0.03)
        assert found.violations == pytest.approx(0.10, abs=0.02)


@pytest.mark.parametrize("sites", [1, 2, 7, 70, 101])
def test_regions_have_their_share_of_the_sites(sites: int) -> None:
    places, rtt = stand_in(sites)
    assert rtt.shape == (sites, sites)
    assert len(places) == sites
    for region in REGIONS:
        count = sum(place.region == region.name for place in places)
        assert abs(count - region.share * sites) < 1


def test_a_seed_makes_one_world() -> None:
    assert stand_in(20, 1)[0] == stand_in(20, 1)[0]
    assert stand_in(20, 1)[0] != stand_in(20, 2)[0]
    # As it was when it was made: another first place is another world in every result.
    place = stand_in(20, 1)[0][0]
    found = (place.region, round(place.latitude, 3), round(place.longitude, 3))
    assert found == ("europe", 43.035, -0.561)


def test_no_site_is_no_world() -> None:
    with pytest.raises(NetworkError, match="sites is 0, expected at least 1"):
        stand_in(0)


def test_the_graph_of_the_regions_has_the_latencies_of_the_matrix() -> None:
    shape = regions(30, seed=4)
    places, rtt = stand_in(30, 4)
    assert graph_latency(shape).delays == rtt_latency(rtt).delays
    assert [told["region"] for _, told in shape.nodes(data=True)] == [p.region for p in places]
    assert describe(rtt).violations > 0, "shortest paths would be something else"


def test_a_measured_graph_survives_graphml(tmp_path: Path) -> None:
    shape = read_graph(written(tmp_path, "0 10 4\n10 0 4\n4 4 0\n"))
    nx.write_graphml(shape, tmp_path / "g.graphml")
    for one in (shape, nx.read_graphml(tmp_path / "g.graphml")):
        assert graph_latency(one).delays[0][1] == 5_000, "not 4 ms by way of the third"


def test_a_matrix_in_a_few_numbers() -> None:
    found = describe(np.array([[0, 1, 9], [1, 0, 2], [9, 2, 0]], dtype=float), percentiles=[50])
    assert (found.sites, found.mean, found.largest, found.symmetric) == (3, 4.0, 9.0, True)
    assert found.percentiles == {50: 2.0}
    assert found.violations == pytest.approx(1 / 3, abs=0.01)  # over b from a to c, and back
