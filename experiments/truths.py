"""True round trips for coordinates to find: the world, made and measured, and small shapes.

*made* is seven regions of the world, *measured* a sample of the file that ``SWIMSIM_RTT_MATRIX``
names, in the NetLatency or p2psim format. The *plane* can be embedded without any error. The line,
the grid, the split, the circle and the random matrix are those on which Serf's own bounds were
published (spec experiments.md, 4.3).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from backends.sim.matrices import read_rtt, stand_in

Rtt: TypeAlias = NDArray[np.float64]
Truth: TypeAlias = Literal["made", "measured", "plane", "line", "grid", "split", "circle", "random"]

BOUNDED: tuple[Truth, ...] = ("line", "grid", "split", "circle", "random")
MATRIX = "SWIMSIM_RTT_MATRIX"  # the environment's name for a file of measured round trips


def is_measured() -> bool:
    """Whether there is a file of measured round trips."""
    return bool(os.environ.get(MATRIX))


def round_trips(truth: Truth, n: int, seed: int) -> Rtt:
    """True round trips between ``n`` nodes, seconds; zero to oneself."""
    chance, index = np.random.RandomState(seed % 2**32), np.arange(n)
    match truth:
        case "made":
            return stand_in(n, seed)[1] / 1000
        case "measured":
            whole = read_rtt(Path(os.environ[MATRIX])) / 1000
            chosen = np.sort(chance.choice(len(whole), min(n, len(whole)), replace=False))
            rtt: Rtt = whole[np.ix_(chosen, chosen)]
            return rtt
        case "plane":
            places, heights = chance.uniform(0, 0.1, (n, 2)), chance.uniform(0.001, 0.01, n)
            apart = np.linalg.norm(places[:, None] - places[None], axis=2)
            return _without_self(apart + (heights[:, None] + heights[None]))
        case "line":
            return _without_self(0.01 * np.abs(index[:, None] - index[None]).astype(np.float64))
        case "grid":
            side = math.isqrt(n)
            at = np.stack([index // side, index % side], axis=1).astype(np.float64)
            return _without_self(0.01 * np.linalg.norm(at[:, None] - at[None], axis=2))
        case "split":
            half = index < n // 2
            return _without_self(np.where(half[:, None] == half[None], 0.001, 0.01))
        case "circle":
            return _circle(n)
        case "random":
            upper = np.triu(np.maximum(chance.normal(0.1, 0.01, (n, n)), 1e-4), 1)
            both: Rtt = upper + upper.T
            return both


def _without_self(rtt: Rtt) -> Rtt:
    np.fill_diagonal(rtt, 0.0)
    return rtt


def _circle(n: int, radius: float = 0.1) -> Rtt:
    """Node 0 in the middle, twice the radius away from all others: only a height explains that."""
    angle = 2 * np.pi * np.arange(1, n) / (n - 1)
    rtt = np.zeros((n, n))
    rtt[1:, 1:] = 2 * radius * np.abs(np.sin((angle[:, None] - angle[None]) / 2))
    rtt[0, 1:] = rtt[1:, 0] = 2 * radius
    return rtt
