"""Many independent seeded runs, spread over the cores.

A task is an experiment's name, its parameters and a seed, so a run is the same wherever it
runs, and rows come back in the order of the tasks whatever order they finished in. A run that
raises does not stop the others; it is reported with what reproduces it.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager

import pandas as pd
from msgspec import Struct
from msgspec.structs import asdict

from experiments.experiment import Cell, Row, find, seed_of


class Task(Struct, frozen=True):
    """One run to be made."""

    experiment: str
    cell: int
    replicate: int
    seed: int
    params: Struct


class Crash(Struct, frozen=True):
    """A run that raised, and the traceback."""

    task: Task
    error: str


class Results(Struct, frozen=True):
    """All rows, each with its parameters, seed, cell and replicate; and the runs that raised."""

    rows: pd.DataFrame
    crashes: tuple[Crash, ...]


def tasks_of(experiment: str, cells: list[Cell], root: int) -> list[Task]:
    """Every run of every cell."""
    key = find(experiment).seed_key
    return [
        Task(experiment, number, replicate, seed, cell.params)
        for number, cell in enumerate(cells)
        for replicate in range(cell.runs)
        for seed in (seed_of(root, experiment, key(cell.params), replicate),)
    ]


def sweep(
    tasks: list[Task],
    executor: Executor,
    progress: Callable[[int], None] = lambda done: None,
    *,
    chunk: int = 8,
) -> Results:
    """Run every task on ``executor``; ``progress`` is told of each so many that are done."""
    # Cells come cheapest first; the dearest should not be the last to start.
    numbered = list(enumerate(tasks))[::-1]
    chunks = [numbered[start : start + chunk] for start in range(0, len(numbered), chunk)]
    futures: dict[Future[list[tuple[int, list[Row] | str]]], int] = {
        executor.submit(_run_all, chunk_): len(chunk_) for chunk_ in chunks
    }
    found: dict[int, list[Row] | str] = {}
    for future in as_completed(futures):
        found.update(future.result())
        progress(futures[future])
    rows, crashes = [], []
    for number, task in enumerate(tasks):
        result = found[number]
        if isinstance(result, str):
            crashes.append(Crash(task, result))
            continue
        labels = {"cell": task.cell, "replicate": task.replicate, "seed": task.seed}
        rows += [{**labels, **asdict(task.params), **row} for row in result]
    return Results(pd.DataFrame(rows), tuple(crashes))


@contextmanager
def processes(jobs: int | None = None) -> Iterator[Executor]:
    """A pool of processes, by default one for each core that this process may use."""
    count = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs
    with ProcessPoolExecutor(count) as executor:
        yield executor


def _run_all(tasks: list[tuple[int, Task]]) -> list[tuple[int, list[Row] | str]]:
    return [(number, _run(task)) for number, task in tasks]


def _run(task: Task) -> list[Row] | str:
    try:
        return find(task.experiment).run(task.params, task.seed)
    except Exception:  # one run must not take the others with it
        return traceback.format_exc()
