"""Many independent seeded runs, on whatever computes them, once each.

A task is an experiment's name, its parameters and a seed, so a run is the same wherever it runs,
and rows come back in the order of the tasks whatever order they finished in. Cells to be
compared share seeds (``seed_key``), so that chance does the same to both. Runs that a ``Store``
has already are not run again; those that finish are put into it at once. A run that raises does
not stop the others; it is reported with what reproduces it.

One run of every cell goes first, which tells what each cell costs; then the dearest cells, so that
no long run is left for the end. Cheap runs travel together, a second's worth at a time.
"""

from __future__ import annotations

import shlex
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any

import msgspec
import pandas as pd
from msgspec import Struct
from msgspec.structs import asdict, fields

from experiments.engines import cores, processes
from experiments.experiment import Cell, Row, find, module_of, seed_of
from experiments.sources import code_version
from experiments.store import Store, frame, plain, run_key

__all__ = ["Crash", "Results", "SweepError", "Task", "processes", "sweep", "tasks_of"]

CHUNK_S = 1.0
MOST_IN_A_CHUNK = 200


class SweepError(Exception):
    """A sweep that cannot go on; what was finished is kept."""


class Task(Struct, frozen=True):
    """One run to be made."""

    experiment: str
    cell: int
    replicate: int
    seed: int
    params: Struct

    def command(self) -> str:
        """What to type to make this run alone."""
        given = {
            field.name: value
            for field in fields(self.params)
            if (value := getattr(self.params, field.name)) != field.default
        }
        told = msgspec.json.encode(given).decode()
        words = ["swimsim", "experiment", "once", self.experiment, "--seed", str(self.seed), told]
        return shlex.join(words)


class Crash(Struct, frozen=True):
    """A run that raised, and the traceback."""

    task: Task
    error: str


class Results(Struct, frozen=True):
    """All rows, each with its parameters, seed, cell and replicate; and the runs that raised."""

    rows: pd.DataFrame
    crashes: tuple[Crash, ...]
    reused: int = 0  # runs that were not run again
    cost_s: dict[int, float] = {}  # mean seconds of a run, by cell, of the cells that ran


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
    progress: Callable[[int, float | None], None] = lambda done, left_s: None,
    *,
    workers: int | None = None,
    store: Store | None = None,
) -> Results:
    """Run every task that ``store`` does not have on ``executor``.

    ``progress`` is told how many more runs are done and how many seconds the rest may take.
    Raises ``SweepError`` when workers are lost.
    """
    known = store.load() if store else {}
    found: dict[int, list[Row] | str] = {}
    for number, task in enumerate(tasks):
        rows = known.get(run_key(task.params, task.seed)) if known else None
        if rows is not None:
            found[number] = rows
    reused = len(found)
    left = Backlog(
        [(n, task) for n, task in enumerate(tasks) if n not in found], workers or cores()
    )
    progress(reused, left.seconds())
    pending: dict[Future[list[Done]], Chunk] = {}
    while left or pending:
        while left and len(pending) < 2 * left.workers:
            chunk = left.take()
            pending[_submit(executor, chunk)] = chunk
        for future in wait(pending, return_when=FIRST_COMPLETED).done:
            chunk = pending.pop(future)
            made = _outcome(future, chunk)
            left.learn(chunk, [done.seconds for done in made])
            found |= {n: done.result for (n, _), done in zip(chunk, made, strict=True)}
            if store:
                _keep(store, chunk, made)
            progress(len(chunk), left.seconds())
    return _assembled(tasks, found, reused, left.costs())


# --- what comes next -------------------------------------------------------------------------


class Done(Struct, frozen=True):
    """What came of one run, its rows or a traceback, and how long it took."""

    result: list[Row] | str
    seconds: float


Chunk = list[tuple[int, Task]]
"""Some runs of one cell, with their places among the tasks."""


class Backlog:
    """The runs that are left, and what they may cost."""

    def __init__(self, tasks: Iterable[tuple[int, Task]], workers: int) -> None:
        self.workers = workers
        self._waiting: dict[int, deque[tuple[int, Task]]] = {}
        self._spent: dict[int, tuple[int, float]] = {}  # by cell: runs, seconds
        for number, task in tasks:
            self._waiting.setdefault(task.cell, deque()).append((number, task))
        self._unfinished = {cell: len(queue) for cell, queue in self._waiting.items()}
        self._unknown = deque(sorted(self._waiting, reverse=True))  # cheapest come first

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Chunk:
        """The runs to start next."""
        if self._unknown:
            return self._pop(self._unknown.popleft(), 1)
        cell = max(self._waiting, key=lambda cell: (self._cost(cell), cell))
        cost = self._cost(cell) if cell in self._spent else CHUNK_S
        return self._pop(cell, max(1, min(MOST_IN_A_CHUNK, int(CHUNK_S / max(cost, 1e-6)))))

    def _pop(self, cell: int, count: int) -> Chunk:
        queue = self._waiting[cell]
        # The last runs of a cell are shared out, so that nobody waits for one worker.
        count = min(count, -(-len(queue) // self.workers))
        chunk = [queue.popleft() for _ in range(count)]
        if not queue:
            del self._waiting[cell]
        return chunk

    def learn(self, chunk: Chunk, seconds: list[float]) -> None:
        """Some runs are done and took so long."""
        cell = chunk[0][1].cell
        runs, spent = self._spent.get(cell, (0, 0.0))
        self._spent[cell] = runs + len(seconds), spent + sum(seconds)
        self._unfinished[cell] -= len(chunk)

    def costs(self) -> dict[int, float]:
        """Mean seconds of a run, by cell."""
        return {cell: spent / runs for cell, (runs, spent) in sorted(self._spent.items())}

    def _cost(self, cell: int) -> float:
        runs, spent = self._spent.get(cell, (0, 0.0))
        if runs:
            return spent / runs
        known = [spent / runs for runs, spent in self._spent.values()]
        return sum(known) / len(known) if known else 0.0

    def seconds(self) -> float | None:
        """How long the rest may take; None as long as nothing is known."""
        if not self._spent:
            return None
        work = sum(runs * self._cost(cell) for cell, runs in self._unfinished.items())
        return work / self.workers


# --- one chunk -------------------------------------------------------------------------------


def _submit(executor: Executor, chunk: Chunk) -> Future[list[Done]]:
    tasks = [task for _, task in chunk]
    version = _version(tasks[0].experiment)
    try:
        return executor.submit(run_all, tasks, version)
    except BrokenExecutor as error:
        raise _lost(chunk) from error


def _outcome(future: Future[list[Done]], chunk: Chunk) -> list[Done]:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise _lost(chunk) from error
    except Exception as error:  # a worker was lost, or could not be told what to do
        return [Done(f"{type(error).__name__}: {error}\n", 0.0) for _ in chunk]


def _lost(chunk: Chunk) -> SweepError:
    return SweepError(
        f"a worker process died: killed, or out of memory? Among the runs in hand: "
        f"{chunk[0][1].command()}"
    )


def _version(experiment: str) -> str:
    return code_version(module_of(experiment))


def run_all(tasks: list[Task], version: str) -> list[Done]:
    """Make some runs, on a worker; a run that raises becomes its traceback."""
    return [_run(task, version) for task in tasks]


def _run(task: Task, version: str) -> Done:
    began = time.perf_counter()
    result: list[Row] | str
    try:
        here = _version(task.experiment)
        if here != version:
            raise SweepError(
                f"this worker runs other code: {here}, the sweep was asked of {version}"
            )
        result = plain(find(task.experiment).run(task.params, task.seed))
    except Exception:  # one run must not take the others with it
        result = traceback.format_exc()
    return Done(result, time.perf_counter() - began)


def _keep(store: Store, chunk: Chunk, made: list[Done]) -> None:
    good = [
        (task.seed, done.result)
        for (_, task), done in zip(chunk, made, strict=True)
        if isinstance(done.result, list)
    ]
    if good:
        store.add(chunk[0][1].params, good)


def _assembled(
    tasks: list[Task],
    found: dict[int, list[Row] | str],
    reused: int,
    costs: dict[int, float],
) -> Results:
    """All rows in the order of the tasks, with what they belong to."""
    labels: list[dict[str, Any]] = []
    rows: list[Row] = []
    crashes = []
    for number, task in enumerate(tasks):
        result = found[number]
        if isinstance(result, str):
            crashes.append(Crash(task, result))
            continue
        label = {"cell": task.cell, "replicate": task.replicate, "seed": task.seed}
        label |= asdict(task.params)
        rows += result
        labels += [label] * len(result)
    if not rows:
        return Results(pd.DataFrame(), tuple(crashes), reused, costs)
    measured, told = frame(rows), pd.DataFrame(labels)
    # A row may say more precisely what a parameter left open.
    told = told.drop(columns=[name for name in told.columns if name in measured.columns])
    return Results(pd.concat([told, measured], axis=1), tuple(crashes), reused, costs)
