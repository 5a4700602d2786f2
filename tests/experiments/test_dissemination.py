"""E3: what a run measures, and that its judges can say no."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from experiments import dissemination
from experiments.dissemination import FOREVER, Params
from experiments.experiment import Cell, by_cell
from experiments.sweep import sweep, tasks_of

ROUNDS = Params(30, synchronous=True, retransmit_mult=FOREVER)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell."""
    cells = [
        Cell(Params(30), 40),
        Cell(Params(100), 30),
        Cell(Params(100, loss=0.5), 30),
        Cell(Params(40, failed=0.5), 6),
        Cell(Params(40, piggyback=True), 6),
        Cell(Params(40, news="event"), 6),
        Cell(Params(40, retransmit_mult=1, push_pull=True), 4),
        Cell(ROUNDS, 60),
    ]
    with ThreadPoolExecutor(1) as executor:
        return sweep(tasks_of("dissemination", cells, root=1), executor).rows


def of(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    found = [group for its, group in by_cell(rows, Params) if its == params]
    return found[0]


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    assert dissemination.run(Params(30), 5) == dissemination.run(Params(30), 5)
    assert dissemination.run(Params(30), 5) != dissemination.run(Params(30), 6)


def test_shares_are_reached_in_their_order(rows: pd.DataFrame) -> None:
    times = rows[list(dissemination.SHARES)].astype(float).to_numpy()
    steps = np.diff(times, axis=1)
    assert ((steps >= 0) | np.isnan(steps)).all()
    assert (rows.t50 > 0).all()


def test_who_is_missed_is_counted_and_no_time_is_invented(rows: pd.DataFrame) -> None:
    missed = rows[rows.missed > 0]
    assert len(missed)
    assert missed.t_all.isna().all()
    assert rows[rows.missed == 0].t_all.notna().all()
    for params, group in by_cell(rows, Params):
        assert set(group.informed + group.missed) == {params.living}


def test_push_pull_reaches_whom_gossip_missed(rows: pd.DataFrame) -> None:
    group = of(rows, Params(40, retransmit_mult=1, push_pull=True))
    assert (group.missed == 0).all()
    assert group.t_all.max() > 5  # gossip alone is over within a second


def test_a_user_event_of_serf_spreads_as_an_update_does(rows: pd.DataFrame) -> None:
    group = of(rows, Params(40, news="event"))
    assert (group.missed == 0).all()
    assert (group.packets_per_node == 8).all()


def test_what_rides_on_pings_is_not_sent_by_itself(rows: pd.DataFrame) -> None:
    group = of(rows, Params(40, piggyback=True))
    assert (group.rides_per_node > 0).all()
    assert (group.packets_per_node + group.rides_per_node).to_numpy() == pytest.approx(8)
    assert (rows[~rows.piggyback].rides_per_node == 0).all()


def test_half_the_copies_arrive_when_half_are_lost(rows: pd.DataFrame) -> None:
    assert of(rows, Params(100)).copies_per_delivery.mean() == pytest.approx(12 * 100 / 99)
    half = of(rows, Params(100, loss=0.5)).copies_per_delivery.mean()
    assert half == pytest.approx(6 * 100 / 99, rel=0.03)


WRONG = {  # a claim, and what makes it false
    "mean time until half know": {"t50": lambda t: t * 1.3},
    "mean time until all know": {"t_all": lambda t: t * 1.3},
    "packets that each node sends": {"packets_per_node": lambda p: p * 1.02},
    "runs that reach everybody": {"missed": lambda m: m + 1},
    "never reached": {"missed": lambda m: m + 9},
    "mean rounds until all know": {"rounds": lambda r: r + 1},
    "too slow at half": {"t50": lambda t: t * 1.9},
    "too slow to all": {"t_all": lambda t: t * 1.9},
}


@pytest.mark.parametrize(("claim", "change"), WRONG.items(), ids=WRONG)
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    rows: pd.DataFrame, claim: str, change: dict[str, object]
) -> None:
    spoiled = rows.copy()
    for column, function in change.items():
        spoiled[column] = function(spoiled[column])  # type: ignore[operator]
    judged = [verdict for verdict in dissemination.verdicts(spoiled) if claim in verdict.claim]
    assert any(verdict.passed is False for verdict in judged)


def test_a_cell_is_named_by_what_is_unusual_about_it() -> None:
    assert dissemination.label(Params(100)) == "n=100"
    unusual = Params(100, 2, 0.1, 0.25, 1, 500_000, True, True, True, "event")
    assert dissemination.label(unusual) == (
        "n=100, f=2, 10% lost, 25% failed, mult 1, interval 0.5 s, synchronous, piggyback,"
        " push/pull, user event"
    )


def test_tables_and_figure_cover_every_cell(rows: pd.DataFrame) -> None:
    assert len(dissemination.table(rows)) == 8
    assert len(dissemination.tables(rows)["cost"]) == 7
    axes = dissemination.figure(rows).axes
    assert len(axes) == 3
    assert all(a.get_xlabel() and a.get_ylabel() for a in axes)


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = dissemination.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)
    for cell in cells:
        dissemination.config_of(cell.params)
