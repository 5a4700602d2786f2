"""What a run does to Python's memory.

A run makes many objects and no cycles, so the cycle collector would only cost time. A cluster
that nobody holds any more does refer to itself in circles, through its clock; but most of what
it holds is unknown to the collector, which therefore sees no reason to run by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

SWEEP_AFTER = 20_000
_unswept = [0]  # nodes of the clusters that were made since garbage was last collected


@contextmanager
def without_gc() -> Iterator[None]:
    """Keep the cycle collector out."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def sweep(nodes: int) -> None:
    """A cluster of so many nodes is made: collect old ones once there may be many."""
    _unswept[0] += nodes
    if _unswept[0] > SWEEP_AFTER:
        _unswept[0] = nodes
        gc.collect()
