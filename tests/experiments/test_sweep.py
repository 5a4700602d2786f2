"""A sweep is its tasks: same rows on whatever computes them, each run once, a crash alone."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import detection
from experiments.detection import Params
from experiments.experiment import Cell, Row, find, seed_of
from experiments.store import Store
from experiments.sweep import (
    Backlog,
    SweepError,
    Task,
    processes,
    run_all,
    sweep,
    tasks_of,
)

CELLS = [Cell(Params(6, "ping"), 5), Cell(Params(8, lifeguard=False), 2)]


def test_every_run_of_every_cell_is_one_task_with_a_seed_of_its_own() -> None:
    tasks = tasks_of("detection", CELLS, root=1)
    assert [(task.cell, task.replicate) for task in tasks] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)
    ]  # fmt: skip
    assert len({task.seed for task in tasks}) == len(tasks)


def test_one_more_cell_shifts_no_other_seed() -> None:
    more = tasks_of("detection", [Cell(Params(5), 3), *CELLS], root=1)
    assert [task.seed for task in more[3:]] == [
        task.seed for task in tasks_of("detection", CELLS, root=1)
    ]


def test_cells_that_differ_in_the_suspicion_alone_are_paired() -> None:
    plain, lifeguard = (detection.seed_key(Params(8, lifeguard=on)) for on in (False, True))
    assert plain == lifeguard
    assert seed_of(1, "detection", plain, 0) != seed_of(1, "detection", plain, 1)
    assert seed_of(1, "detection", plain, 0) != seed_of(2, "detection", plain, 0)


def test_rows_are_the_same_on_one_process_or_two_and_in_the_order_of_the_tasks() -> None:
    tasks = tasks_of("detection", CELLS, root=1)
    with processes(1) as one, processes(2) as two:
        rows = sweep(tasks, one).rows
        assert sweep(tasks, two, workers=2).rows.equals(rows)
    assert list(rows.seed) == [task.seed for task in tasks]
    assert list(rows.nodes) == [6] * 5 + [8] * 2


def test_progress_counts_every_run_and_comes_to_know_what_is_left() -> None:
    said: list[tuple[int, float | None]] = []
    with ThreadPoolExecutor(1) as executor:
        tasks = tasks_of("detection", CELLS, root=1)
        sweep(tasks, executor, lambda done, left_s: said.append((done, left_s)))
    assert sum(done for done, _ in said) == 7
    assert said[0] == (0, None)
    assert all(left_s is not None and left_s >= 0 for _, left_s in said[1:])
    assert said[-1][1] == 0


def fragile(params: Params, seed: int) -> list[Row]:
    if params.nodes == 6:
        raise RuntimeError("out of order")
    return RUN(params, seed)


RUN = detection.run


def test_a_run_that_raises_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(detection, "run", fragile)
    tasks = tasks_of("detection", CELLS, root=1)
    with ThreadPoolExecutor(1) as executor:
        results = sweep(tasks, executor)
    assert [crash.task for crash in results.crashes] == tasks[:5]
    assert "out of order" in results.crashes[0].error
    assert list(results.rows.nodes) == [8, 8]


def test_the_command_of_a_run_says_what_is_not_by_default() -> None:
    task = Task("detection", 0, 3, 77, Params(8, lifeguard=False))
    assert task.command() == (
        """swimsim experiment once detection --seed 77 '{"nodes":8,"lifeguard":false}'"""
    )


def test_a_worker_that_dies_ends_the_sweep_and_is_named() -> None:
    tasks = tasks_of("detection", CELLS, root=1)
    with ProcessPoolExecutor(1) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(os._exit, 1).result()
        with pytest.raises(SweepError, match="swimsim experiment once detection --seed"):
            sweep(tasks, executor)


def test_a_worker_with_other_code_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.sweep._version", lambda name: "0123")
    (done,) = run_all(tasks_of("detection", CELLS, root=1)[:1], "4567")
    assert "other code: 0123" in str(done.result)


def test_an_unknown_experiment_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        find("alchemy")


# --- what goes first -------------------------------------------------------------------------


def backlog(counts: list[int], workers: int = 2) -> Backlog:
    cells = [Cell(Params(4 + number), count) for number, count in enumerate(counts)]
    return Backlog(list(enumerate(tasks_of("detection", cells, root=1))), workers)


def test_one_run_of_every_cell_goes_first_and_then_the_dearest_cells() -> None:
    left = backlog([50, 50, 50])
    first = [left.take() for _ in range(3)]
    assert [[task.cell for _, task in chunk] for chunk in first] == [[2], [1], [0]]
    for chunk, seconds in zip(first, (0.2, 5.0, 0.01), strict=True):
        left.learn(chunk, [seconds])
    taken = []
    while left:
        taken.append(left.take())
    cells = [chunk[0][1].cell for chunk in taken]
    assert cells == sorted(cells, key=[1, 2, 0].index), "5 s, then 0.2 s, then 0.01 s a run"
    sizes = {cell: max(len(c) for c in taken if c[0][1].cell == cell) for cell in range(3)}
    assert sizes == {0: 25, 1: 1, 2: 5}, "a second's worth, and no more than a worker's share"
    assert sum(map(len, taken)) == 147


def test_what_is_left_is_costed_by_cell() -> None:
    left = backlog([10, 20], workers=4)
    for seconds in (3.0, 1.0):
        left.learn(left.take(), [seconds])
    assert left.seconds() == (19 * 3.0 + 9 * 1.0) / 4
    assert left.costs() == {0: 1.0, 1: 3.0}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 5), st.data())
def test_every_run_is_taken_once(counts: list[int], workers: int, data: st.DataObject) -> None:
    left = backlog(counts, workers)
    taken: list[int] = []
    while left:
        chunk = left.take()
        taken += [number for number, _ in chunk]
        if data.draw(st.booleans()):
            left.learn(chunk, [data.draw(st.floats(0, 10)) for _ in chunk])
    assert sorted(taken) == list(range(sum(counts)))


# --- what is there already -------------------------------------------------------------------


def test_runs_that_are_there_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tasks_of("detection", [Cell(Params(6, "ping"), 3)], root=1)
    tasks = tasks_of("detection", CELLS, root=1)
    made: list[int] = []

    def counted(params: Params, seed: int) -> list[Row]:
        made.append(seed)
        return RUN(params, seed)

    monkeypatch.setattr(detection, "run", counted)
    with ThreadPoolExecutor(1) as executor:
        fresh = sweep(tasks, executor).rows
        sweep(few, executor, store=Store(tmp_path, "detection", "v1"))
        made.clear()
        results = sweep(tasks, executor, store=Store(tmp_path, "detection", "v1"))
        assert sorted(made) == sorted(task.seed for task in tasks[3:])
        assert results.reused == 3
        assert results.rows.equals(fresh)
        made.clear()
        again = sweep(tasks, executor, store=Store(tmp_path, "detection", "v1"))
    assert made == []
    assert again.rows.equals(fresh)


def test_a_run_that_raised_is_made_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "run", fragile)
    tasks = tasks_of("detection", CELLS, root=1)
    with ThreadPoolExecutor(1) as executor:
        sweep(tasks, executor, store=Store(tmp_path, "detection", "v1"))
        monkeypatch.setattr(detection, "run", RUN)
        results = sweep(tasks, executor, store=Store(tmp_path, "detection", "v1"))
        assert results.reused == 2
        assert results.crashes == ()
        assert results.rows.equals(sweep(tasks, executor).rows)
