"""The analytic expectations that measurements stand beside (spec experiments.md, section 3).

Notation as there: ``n`` members, ``m`` of them alive and probing, ``interval`` the protocol
period I; times come in the unit of ``interval``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def first_ping_mean(n: int, m: int, interval: float) -> float:
    """F1: mean time until one of ``m`` round-robin probers reaches a given member."""
    return interval * (n - 1) / (m + 1)


def first_ping_cdf(t: ArrayLike, n: int, m: int, interval: float) -> NDArray[np.float64]:
    """F1: the distribution of that time, the least of ``m`` residuals uniform in (0, (n-1) I)."""
    left = 1 - np.asarray(t, dtype=np.float64) / (interval * (n - 1))
    return 1 - np.clip(left, 0, 1) ** m


def first_ping_quantile(share: float, n: int, m: int, interval: float) -> float:
    """F1: the inverse of that distribution."""
    return float(interval * (n - 1) * (1 - (1 - share) ** (1 / m)))


def hitting_period_mean(n: int) -> float:
    """F1: mean index of the first period in which some of n - 1 synchronous random probers hit.

    Each of them chooses among its n - 1 fellow members; e / (e - 1) = 1.582 for large n.
    """
    return 1 / (1 - (1 - 1 / (n - 1)) ** (n - 1))


def suspicion_min(n: int, mult: int, interval: float) -> float:
    """S_min, the shortest suspicion timeout: the logarithm is cut to thousandths."""
    return mult * math.floor(1000 * max(1.0, math.log10(n))) / 1000 * interval


def first_suspicion_mean(n: int, m: int, interval: float) -> float:
    """F2: mean time until somebody suspects: the first ping, and its failed round."""
    return first_ping_mean(n, m, interval) + interval


def first_detection_mean(n: int, m: int, interval: float, mult: int) -> float:
    """F3: mean time until somebody declares the member dead."""
    return first_suspicion_mean(n, m, interval) + suspicion_min(n, mult, interval)
