"""E8: what a run measures, and that its judges can say no."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from experiments import coordinates
from experiments.coordinates import SPACES, Params
from experiments.experiment import Cell, by_cell
from experiments.sweep import sweep, tasks_of
from experiments.truths import BOUNDED, round_trips
from swimsim.serf.coordinates import Space, begin, distance, update
from swimsim.terms import NodeId


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell."""
    cells = [
        Cell(Params("made", space, 20, 40), 2) for space in ("Serf", "2-D + height", "2-D")
    ] + [
        Cell(Params("plane", "2-D + height", 20, 160), 1),
        Cell(Params("line", nodes=10, updates=1000), 2),
        Cell(Params("circle", "Serf in 2-D", 25, 1000), 1),
        Cell(Params("made", nodes=21, updates=40, late=True, spikes=0.01), 2),
        Cell(Params("made", nodes=20, updates=20, where="cluster"), 1),
    ]  # fmt: skip
    with ThreadPoolExecutor(1) as executor:
        return sweep(tasks_of("coordinates", cells, root=1), executor).rows


def of(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    return next(group for its, group in by_cell(rows, Params) if its == params)


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    params = Params("made", nodes=10, updates=10, jitter=0.1)
    assert coordinates.run(params, 5) == coordinates.run(params, 5)
    assert coordinates.run(params, 5) != coordinates.run(params, 6)


@pytest.mark.parametrize("truth", ["made", "plane", *BOUNDED])
def test_truths_are_symmetric_and_zero_to_oneself(truth: str) -> None:
    rtt = round_trips(truth, 25, 3)  # type: ignore[arg-type]
    assert (rtt == rtt.T).all()
    assert (np.diag(rtt) == 0).all()
    assert (rtt[~np.eye(25, dtype=bool)] > 0).all()


@pytest.mark.parametrize("name", SPACES)
def test_errors_are_those_of_the_protocols_distance(name: str) -> None:
    space = SPACES[name]
    nodes = [begin(seed, space) for seed in range(3)]
    for step in range(30):
        one, other = step % 3, (step + 1) % 3
        nodes[one] = update(nodes[one], NodeId("x"), nodes[other].mine, 0.05, space)
    places = [node.mine for node in nodes]
    errors = coordinates._errors(places, np.full((3, 3), 0.05))
    expected = [[abs(distance(a, b) - 0.05) / 0.05 for b in places] for a in places]
    off = ~np.eye(3, dtype=bool)
    assert errors[off] == pytest.approx(np.array(expected)[off], abs=1e-6)


def test_a_space_without_height_has_none() -> None:
    flat = Space(2, height=False, window=0, filter=1, gravity=0.0)
    node = begin(1, flat)
    for _ in range(20):
        node = update(node, NodeId("x"), begin(2, flat).mine, 0.05, flat)
    assert node.mine.height == 0.0
    assert node.mine.adjustment == 0.0
    assert len(node.mine.vec) == 2


def test_estimates_get_better(rows: pd.DataFrame) -> None:
    found = of(rows, Params("made", "Serf", 20, 40))
    by_updates = found.groupby("updates_done")["median"].mean()
    assert by_updates[40] < by_updates[10]


def test_the_small_truths_hold(rows: pd.DataFrame) -> None:
    judged = [verdict for verdict in coordinates.verdicts(rows) if "cycles" in verdict.claim]
    assert len(judged) == 2
    assert all(verdict.passed for verdict in judged)


def test_bad_rows_fail(rows: pd.DataFrame) -> None:
    worse = rows.copy()
    worse["mean"], worse["largest"], worse["own"] = 1.0, 9.0, 5.0
    worse["resets"] = 1
    failed = [v.claim for v in coordinates.verdicts(worse) if v.passed is False]
    assert "no coordinate goes astray" in failed
    assert sum("cycles" in claim for claim in failed) == 2
    assert sum("late joiner" in claim for claim in failed) == 2


def test_the_figure_is_drawn(rows: pd.DataFrame) -> None:
    left, right = coordinates.figure(rows).axes
    assert left.get_xlabel() == "updates of each node"
    assert right.get_title() == "a newcomer"
