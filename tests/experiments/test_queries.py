"""E10: what a run measures, and that its judges can say no."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from experiments import queries
from experiments.experiment import Cell, by_cell
from experiments.queries import Params
from experiments.sweep import sweep, tasks_of


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell."""
    cells = [
        Cell(Params(30, relay=relay), 2) for relay in (0, 3)
    ] + [
        Cell(Params(30, 0.3, relay), 60) for relay in (0, 3)
    ] + [
        Cell(Params(30, asked=0.1), 10),
        Cell(Params(30, 0.1, timeout=0.25), 3),
        Cell(Params(30, 0.1, burst_s=2.0), 3),
    ]  # fmt: skip
    with ThreadPoolExecutor(1) as executor:
        return sweep(tasks_of("queries", cells, root=1), executor).rows


def of(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    return next(group for its, group in by_cell(rows, Params) if its == params)


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    assert queries.run(Params(30, 0.3), 5) == queries.run(Params(30, 0.3), 5)
    assert queries.run(Params(30, 0.3), 5) != queries.run(Params(30, 0.3), 6)


def test_without_loss_everybody_answers_once(rows: pd.DataFrame) -> None:
    for relay in (0, 3):
        found = of(rows, Params(30, relay=relay))
        assert (found.answers == 30).all()
        assert (found.acks == 30).all()
        assert (found.duplicates == 0).all()
        assert (found.late == 0).all()


def test_relays_bring_more_answers_at_the_price_of_packets(rows: pd.DataFrame) -> None:
    alone, relayed = of(rows, Params(30, 0.3)), of(rows, Params(30, 0.3, 3))
    assert relayed.answers.mean() > 1.15 * alone.answers.mean()
    assert relayed.packets.mean() > 1.5 * alone.packets.mean()


def test_only_who_is_asked_answers_and_all_hear_of_it(rows: pd.DataFrame) -> None:
    found = of(rows, Params(30, asked=0.1))
    assert (found.answers == 3).all()
    assert (found.heard == 30).all()


def test_a_shorter_timeout_is_kept(rows: pd.DataFrame) -> None:
    assert (of(rows, Params(30, 0.1, timeout=0.25)).open_s == 1.6).all()
    assert (of(rows, Params(30, 0.3)).open_s == 6.4).all()


def test_the_verdicts_hold_and_can_fail(rows: pd.DataFrame) -> None:
    assert not [verdict.claim for verdict in queries.verdicts(rows) if verdict.fails]
    worse = rows.copy()
    worse["answers"] = (worse.answers * 0.8).astype(int)
    worse["duplicates"] = 1
    worse["late"] = worse.asked_count
    worse["heard"] = worse.heard // 2
    failed = {verdict.claim for verdict in queries.verdicts(worse) if verdict.passed is False}
    assert "no ack and no answer is delivered to the asker twice" in failed
    assert any("arrive" in claim for claim in failed)
    assert any("default timeout" in claim for claim in failed)
    assert any("no difference" in claim for claim in failed)
    assert any("pass the query on" in claim for claim in failed)


def test_the_figure_is_drawn(rows: pd.DataFrame) -> None:
    left, right = queries.figure(rows).axes
    assert left.get_xlabel() == "packet loss p"
    assert right.get_legend() is not None
