"""Intervals and distances, from scipy, in the form in which experiments use them.

Runs are the unit of replication (spec experiments.md, section 1): resample runs, not events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 2000


class Interval(Struct, frozen=True):
    """An estimate and where it may lie."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside."""
        return self.low <= value <= self.high


def mean(sample: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean, with a bootstrap percentile interval that is the same every time."""
    values: NDArray[np.float64] = np.asarray(sample, dtype=np.float64)
    value = float(values.mean())
    if len(values) < 2 or values.min() == values.max():
        return Interval(value, value, value)
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))


def quantile(sample: ArrayLike, share: float, confidence: float = 0.95) -> Interval:
    """A quantile, with the distribution-free interval of order statistics.

    The ends are the smallest and the largest observation where the sample is too small for
    the interval to close.
    """
    values: NDArray[np.float64] = np.sort(np.asarray(sample, dtype=np.float64))
    n, tail = len(values), (1 - confidence) / 2
    low = int(stats.binom.ppf(tail, n, share))
    high = int(stats.binom.ppf(1 - tail, n, share))
    return Interval(
        float(np.quantile(values, share)),
        float(values[max(0, low - 1)]),
        float(values[min(n - 1, high)]),
    )


def kolmogorov(sample: ArrayLike, cdf: Callable[[Any], Any]) -> tuple[float, float]:
    """The largest distance to a distribution, and the distance that chance exceeds once in 100."""
    values = np.asarray(sample, dtype=np.float64)
    distance = float(stats.kstest(values, cdf).statistic)
    return distance, 1.628 / math.sqrt(len(values))


def slope(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Interval:
    """The slope of a least-squares line, with Student's interval."""
    xs, ys = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    fit = stats.linregress(xs, ys)
    reach = stats.t.ppf((1 + confidence) / 2, len(xs) - 2) * fit.stderr
    return Interval(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach))
