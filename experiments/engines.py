"""Where a sweep's runs are computed: processes of this machine, or a Dask cluster.

Either is a ``concurrent.futures.Executor`` and the number of runs that it can have in hand at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import connection, parent_process
from threading import Thread
from typing import Any

from msgspec import Struct


class EngineError(Exception):
    """An engine that cannot be had; the text says why and what would help."""


class Engine(Struct, frozen=True):
    """An executor, and how many runs it can compute at once."""

    executor: Executor
    workers: int
    name: str


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def processes(jobs: int | None = None) -> Iterator[Executor]:
    """A pool of processes, by default one for each core that this process may use."""
    with ProcessPoolExecutor(jobs or cores(), initializer=_settle) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def local(jobs: int | None = None) -> Iterator[Engine]:
    """Processes of this machine."""
    count = jobs or cores()
    with processes(count) as executor:
        yield Engine(executor, count, f"{count} process{'es' * (count > 1)}")


@contextmanager
def dask(address: str, patience_s: float = 10.0) -> Iterator[Engine]:
    """The Dask cluster whose scheduler listens at ``address``; raises ``EngineError``."""
    try:
        distributed: Any = import_module("distributed")  # an extra that few need
    except ImportError as error:
        raise EngineError(
            "--dask needs the package distributed: pip install 'swimsim[dask]'"
        ) from error
    try:
        client = distributed.Client(address, timeout=patience_s, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise EngineError(f"--dask {address}: no scheduler answers there") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError as error:
            raise EngineError(f"--dask {address}: the scheduler has no workers") from error
        workers = sum(client.ncores().values())
        yield Engine(client.get_executor(pure=False), workers, f"Dask at {address}")


def _settle() -> None:
    """In a new process: end without a word at Ctrl-C, and when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        sys.stderr.flush()
        os._exit(1)
