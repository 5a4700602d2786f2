"""A process that is killed at each moment of its dealings with the disk, one after another.

``deaths(work)`` runs ``work`` again and again, each time in a child that SIGKILLs itself as it
makes its next call of those that change a file: before the call, or, for a write, when half of
it is done. Nothing is cleaned up, as nothing would be. Whoever iterates looks at what is left.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

CALLS = ("open", "write", "fsync", "replace", "ftruncate", "fchmod", "close")
MOST = 500


def deaths(work: Callable[[], None]) -> Iterator[int]:
    """The number of the call at which ``work`` was just killed, until it gets through."""
    for at in range(MOST):
        if not _killed(work, at):
            return
        yield at
    raise AssertionError(f"more than {MOST} calls")


def _killed(work: Callable[[], None], at: int) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        child = os.fork()
    if child == 0:
        try:
            _arm(at)
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work failed by itself"
    return False


def _arm(at: int) -> None:
    number = count()
    write = os.write

    def deadly(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(number) == at:
                if name == "write":
                    descriptor, data = arguments
                    write(descriptor, bytes(data)[: max(1, len(data) // 2)])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, deadly(name, getattr(os, name)))
