"""E12: what a run measures, and that its judges can say no."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from experiments import scale
from experiments.experiment import Cell
from experiments.scale.findings import WORDS
from experiments.scale.study import Params, Toll
from experiments.sweep import sweep, tasks_of
from swimsim.effects import Failed, Suspected
from swimsim.terms import NodeId
from tests.sim.worlds import machine


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell."""
    cells = [
        Cell(Params(100, "suspicion"), 120),
        Cell(Params(100, "crash"), 2),
        Cell(Params(100, "crash", 0.1), 1),
        Cell(Params(200, "crashes"), 1),
        Cell(Params(100, "news"), 30),
        Cell(Params(100, "rest"), 1),
        Cell(Params(40, "dense"), 1),
        Cell(Params(20, "replay"), 1),
        Cell(Params(60, "cost"), 1),
    ]
    with ThreadPoolExecutor(1) as executor:
        results = sweep(tasks_of("scale", cells, root=1), executor)
    assert not results.crashes
    return results.rows


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    assert scale.run(Params(30, "crash"), 5) == scale.run(Params(30, "crash"), 5)
    assert scale.run(Params(30, "crash"), 5) != scale.run(Params(30, "crash"), 6)


def test_a_crash_is_suspected_then_declared_then_known_to_all(rows: pd.DataFrame) -> None:
    found = rows[rows.what.isin(["crash", "crashes"])]
    assert (found.t_suspicion < found.t_first).all()
    assert (found.t_first < found.t_full).all()
    assert (found.residue == 0).all()


def test_a_toll_counts_each_verdict_and_those_that_are_mistaken() -> None:
    toll = Toll([NodeId("a"), NodeId("b")], 2)
    for now, host, event in (
        (1, 0, Suspected(NodeId("a"), 1, NodeId("x"))),
        (2, 1, Suspected(NodeId("a"), 1, NodeId("y"))),
        (3, 0, Failed(NodeId("a"), 1, NodeId("x"))),
        (4, 1, Failed(NodeId("a"), 1, NodeId("x"))),
        (5, 1, Failed(NodeId("z"), 1, NodeId("x"))),
    ):
        toll.on_event(now, machine(host), event)
    assert toll.suspected_at == {"a": 1}
    assert toll.declared_at == {"a": 3}
    assert (toll.missing, toll.mistaken, toll.last) == (2, 1, 4)


def test_every_line_passes_on_a_small_grid(rows: pd.DataFrame) -> None:
    told = scale.verdicts(rows)
    assert [verdict for verdict in told if verdict.passed is False] == []
    assert {verdict.claim.split(": ")[1].split(" ")[0] for verdict in told} >= {
        "first",
        "from",
        "half",
        "all",
        "each",
        "packets",
        "the",
    }


def _slower(rows: pd.DataFrame) -> pd.DataFrame:
    few, many = rows[rows.what == "cost"].assign(nodes=1000), rows[rows.what == "cost"]
    dear = many.assign(nodes=100_000, cell=99, span_us_per_node_s=1e6, rest_us_per_node_s=1e6)
    return pd.concat([few, dear.assign(rest_kib_per_node=9.0)])


SPOILT: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], int]] = {
    "late suspicions": (lambda r: r.assign(t_suspicion=r.t_suspicion + 1), 3),
    "late detections": (lambda r: r.assign(t_first=r.t_first + 5), 2),
    "early detections": (lambda r: r.assign(t_first=r.t_first - 5), 2),
    "slow news": (lambda r: r.assign(t50=r.t50 * 2, t_all=r.t_all * 2), 2),
    "news said too often": (lambda r: r.assign(packets_per_node=r.packets_per_node * 1.05), 1),
    "somebody not reached": (lambda r: r.assign(residue=0.01), 3),
    "somebody wronged": (lambda r: r.assign(mistaken=1), 3),
    "a load that grows": (lambda r: r.assign(packets_per_node_s=2.1), 1),
    "two histories": (lambda r: r.assign(other="another"), 2),
    "time and memory": (_slower, 3),
}


@pytest.mark.parametrize(("spoil", "lines"), SPOILT.values(), ids=SPOILT)
def test_the_judges_can_say_no(
    rows: pd.DataFrame, spoil: Callable[[pd.DataFrame], pd.DataFrame], lines: int
) -> None:
    told = scale.verdicts(spoil(rows))
    assert len([verdict for verdict in told if verdict.passed is False]) == lines


def test_table_and_figure_of_a_small_grid(rows: pd.DataFrame) -> None:
    table = scale.table(rows)
    assert (table.censored == 0).all()
    expected = table.dropna(subset=["expected_s"])
    assert set(expected.quantity) == set(WORDS.values()) - {"all survivors know"}
    assert scale.tables(rows)["cost of a node"].push_pull_s.tolist() == [60.0]
    assert len(scale.figure(rows).axes) == 3
