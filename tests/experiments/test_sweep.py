"""A sweep is its tasks: same rows on any number of processes, and a crash stays alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments import detection
from experiments.detection import Params
from experiments.experiment import Cell, Row, find, seed_of
from experiments.sweep import processes, sweep, tasks_of

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
        assert sweep(tasks, two, chunk=1).rows.equals(rows)
    assert list(rows.seed) == [task.seed for task in tasks]
    assert list(rows.nodes) == [6] * 5 + [8] * 2


def test_progress_counts_every_run() -> None:
    done: list[int] = []
    with ThreadPoolExecutor(1) as executor:
        sweep(tasks_of("detection", CELLS, root=1), executor, done.append, chunk=3)
    assert sum(done) == 7


def test_a_run_that_raises_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = detection.run

    def fragile(params: Params, seed: int) -> list[Row]:
        if params.nodes == 6:
            raise RuntimeError("out of order")
        return run(params, seed)

    monkeypatch.setattr(detection, "run", fragile)
    tasks = tasks_of("detection", CELLS, root=1)
    with ThreadPoolExecutor(1) as executor:
        results = sweep(tasks, executor)
    assert [crash.task for crash in results.crashes] == tasks[:5]
    assert "out of order" in results.crashes[0].error
    assert list(results.rows.nodes) == [8, 8]


def test_an_unknown_experiment_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        find("alchemy")
