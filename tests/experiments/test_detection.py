"""E1: what a run measures, and that its judges can say no."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from experiments import detection
from experiments.detection import Params
from experiments.experiment import Cell
from experiments.sweep import sweep, tasks_of


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell."""
    cells = [
        Cell(Params(8), 30),
        Cell(Params(28), 8),
        Cell(Params(40), 8),
        Cell(Params(8, lifeguard=False), 10),
        Cell(Params(8, "gaps"), 2),
        Cell(Params(8, "ping"), 100),
        Cell(Params(8, "ping", probe_order="random", synchronous=True), 100),
    ]
    with ThreadPoolExecutor(1) as executor:
        return sweep(tasks_of("detection", cells, root=1), executor).rows


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    assert detection.run(Params(8), 5) == detection.run(Params(8), 5)
    assert detection.run(Params(8), 5) != detection.run(Params(8), 6)


def test_times_come_in_their_order(rows: pd.DataFrame) -> None:
    full = rows[rows.measure == "full"]
    assert (full.t_ping >= 0).all()
    assert (full.t_ping < full.t_suspicion).all()
    assert (full.t_suspicion < full.t_first).all()
    assert (full.t_first <= full.t_full).all()
    assert (full.informed == 1).all()


def test_the_table_has_a_line_for_each_size_and_time(rows: pd.DataFrame) -> None:
    table = detection.table(rows)
    assert list(table.nodes) == [8] * 4 + [28] * 4 + [40] * 4
    assert ((table.low_s <= table.mean_s) & (table.mean_s <= table.high_s)).all()
    assert table.expected_s.isna().sum() == 3  # for the full spread there is no formula


def test_every_acceptance_line_is_judged(rows: pd.DataFrame) -> None:
    verdicts = detection.verdicts(rows)
    claims = " ".join(verdict.claim for verdict in verdicts)
    for word in ("mean first ping", "distribution", "synchronous", "does not grow", "S_min",
                 "pings every member", "comes to know", "to everybody"):  # fmt: skip
        assert word in claims
    assert not [verdict for verdict in verdicts if verdict.passed is False]


WRONG = {
    "mean first ping": {"t_ping": lambda t: t + 1.0},
    "distribution": {"t_ping": lambda t: t * 0.6},
    "synchronous": {"t_ping": lambda t: t + 1.0},
    "S_min (alpha 4, SWIM)": {"t_first": lambda t: t + 0.002},
    "S_min (alpha 4, Lifeguard)": {"t_first": lambda t: t - 0.002},
    "pings every member": {"longest_gap": lambda gap: gap * 3},
    "comes to know": {"informed": lambda share: share - 0.01},
    "to everybody": {"t_full": lambda t: t + 1.0},
}


@pytest.mark.parametrize(("claim", "change"), WRONG.items(), ids=WRONG)
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    rows: pd.DataFrame, claim: str, change: dict[str, object]
) -> None:
    spoiled = rows.copy()
    for column, function in change.items():
        spoiled[column] = function(spoiled[column])  # type: ignore[operator]
    judged = [verdict for verdict in detection.verdicts(spoiled) if claim in verdict.claim]
    assert any(verdict.passed is False for verdict in judged)


def test_growth_is_noticed(rows: pd.DataFrame) -> None:
    spoiled = rows.copy()
    spoiled.loc[spoiled.nodes == 40, "t_suspicion"] += 5
    judged = [v for v in detection.verdicts(spoiled) if "does not grow" in v.claim]
    assert [verdict.passed for verdict in judged] == [False]


def test_too_few_runs_are_neither_a_pass_nor_a_failure(rows: pd.DataFrame) -> None:
    few = rows[(rows.measure == "full") & rows.lifeguard & (rows.nodes == 28)].copy()
    few.t_ping = [0.1, 0.2, 1.4, 2.2, 0.3, 0.5, 2.0, 2.6]
    judged = [v for v in detection.verdicts(few) if "mean first ping" in v.claim]
    assert [verdict.passed for verdict in judged] == [None]


def test_the_figure_has_two_labelled_panels(rows: pd.DataFrame) -> None:
    for part in (rows, rows[rows.nodes == 8]):
        axes = detection.figure(part).axes
        assert len(axes) == 2
        assert all("(s)" in a.get_xlabel() + a.get_ylabel() for a in axes)


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = detection.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)
    for cell in cells:
        detection.config_of(cell.params)
