"""Intervals, distances and comparisons, from scipy, in the form in which experiments use them.

Runs are the unit of replication (spec experiments.md, section 1): resample runs, not events.
Means and ratios get bootstrap percentile intervals, quantiles those of order statistics, shares
Wilson's, and times that never came within a run are censored, not dropped: Kaplan and Meier.
Every resampling has its own fixed seed, so the same rows give the same interval every time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 2000

ENOUGH = 30
"""Runs from which on an interval is trusted to say no."""

Floats: TypeAlias = NDArray[np.float64]
Measure: TypeAlias = Callable[..., Any]
"""What is measured of a sample, along an axis: ``np.mean``, ``np.median``, ``percentile(0.9)``."""


class Interval(Struct, frozen=True):
    """An estimate and where it may lie."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is inside."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def judge(
    measured: Interval, low: float, high: float, runs: int, enough: int = ENOUGH
) -> bool | None:
    """Whether an estimate is in ``[low, high]``; None when that is not known yet.

    It passes when the estimate itself is inside, and it is known to be outside once its whole
    interval is and the runs are ``enough`` for an interval to be trusted.
    """
    if low <= measured.value <= high:
        return True
    return None if runs < enough or (measured.high >= low and measured.low <= high) else False


# --- one sample ------------------------------------------------------------------------------


def percentile(share: float) -> Measure:
    """The quantile as something that can be bootstrapped."""
    return lambda sample, axis=-1: np.quantile(sample, share, axis=axis)


def bootstrap(sample: ArrayLike, measure: Measure = np.mean, confidence: float = 0.95) -> Interval:
    """Any measure of a sample, with its bootstrap percentile interval."""
    values = _floats(sample)
    value = float(measure(values))
    if len(values) < 2 or values.min() == values.max():
        return Interval(value, value, value)
    return _resampled(value, (values,), measure, confidence)


def mean(sample: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean, with a bootstrap percentile interval."""
    return bootstrap(sample, np.mean, confidence)


def quantile(sample: ArrayLike, share: float, confidence: float = 0.95) -> Interval:
    """A quantile, with the distribution-free interval of order statistics.

    The ends are the smallest and the largest observation where the sample is too small for
    the interval to close.
    """
    values = np.sort(_floats(sample))
    n, tail = len(values), (1 - confidence) / 2
    low = int(stats.binom.ppf(tail, n, share))
    high = int(stats.binom.ppf(1 - tail, n, share))
    return Interval(
        float(np.quantile(values, share)),
        float(values[max(0, low - 1)]),
        float(values[min(n - 1, high)]),
    )


def median(sample: ArrayLike, confidence: float = 0.95) -> Interval:
    """The median, with the interval of order statistics."""
    return quantile(sample, 0.5, confidence)


def proportion(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """A share of trials, with Wilson's interval."""
    found = stats.binomtest(int(successes), int(trials))
    around = found.proportion_ci(confidence, method="wilson")
    return Interval(float(found.statistic), float(around.low), float(around.high))


def rate(count: int, exposure: float, confidence: float = 0.95) -> Interval:
    """Events for each unit of exposure, with the exact interval of a Poisson count."""
    tail = (1 - confidence) / 2
    low = stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    high = stats.chi2.ppf(1 - tail, 2 * count + 2) / 2
    return Interval(count / exposure, float(low) / exposure, float(high) / exposure)


# --- two samples -----------------------------------------------------------------------------


def ratio(
    sample: ArrayLike, reference: ArrayLike, measure: Measure = np.mean, confidence: float = 0.95
) -> Interval:
    """How many times the reference a sample is; the two are paired, run by run.

    Paired runs share their seed (common random numbers), so what chance did to both cancels.
    """
    ours, theirs = _floats(sample), _floats(reference)
    if len(ours) != len(theirs):
        raise ValueError(f"paired samples of {len(ours)} and {len(theirs)} runs")

    def share(x: Floats, y: Floats, axis: int = -1) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(measure(x, axis=axis), measure(y, axis=axis))

    value = float(share(ours, theirs))
    if len(ours) < 2:
        return Interval(value, value, value)
    return _resampled(value, (ours, theirs), share, confidence, paired=True)


def difference(
    sample: ArrayLike,
    reference: ArrayLike,
    measure: Measure = np.mean,
    confidence: float = 0.95,
    *,
    paired: bool = False,
) -> Interval:
    """How much more a sample is than the reference, with a bootstrap interval."""
    ours, theirs = _floats(sample), _floats(reference)

    def gap(x: Floats, y: Floats, axis: int = -1) -> Any:
        return measure(x, axis=axis) - measure(y, axis=axis)

    value = float(gap(ours, theirs))
    return _resampled(value, (ours, theirs), gap, confidence, paired=paired)


class Equivalence(Struct, frozen=True):
    """Two one-sided tests: is the difference inside of the margin?"""

    difference: Interval  # at 90 %, so that each side is tested at 5 %
    margin: float
    passed: bool | None  # None: the interval lies across the margin


def equivalent(
    sample: ArrayLike, reference: ArrayLike, margin: float, measure: Measure = np.mean
) -> Equivalence:
    """TOST by bootstrap: equal within ``margin``, different, or not known yet."""
    found = difference(sample, reference, measure, confidence=0.9)
    inside = -margin <= found.low and found.high <= margin
    outside = found.low > margin or found.high < -margin
    return Equivalence(found, margin, True if inside else False if outside else None)


def kolmogorov(
    sample: ArrayLike, cdf: Callable[[Any], Any], alpha: float = 0.01
) -> tuple[float, float]:
    """The largest distance to a distribution, and the distance that chance exceeds at ``alpha``."""
    values = _floats(sample)
    distance = float(stats.kstest(values, cdf).statistic)
    return distance, float(stats.kstwobign.ppf(1 - alpha)) / math.sqrt(len(values))


def ks_two(sample: ArrayLike, other: ArrayLike, alpha: float = 0.01) -> tuple[float, float]:
    """The largest distance between two samples, and the distance that chance exceeds."""
    a, b = _floats(sample), _floats(other)
    distance = float(stats.ks_2samp(a, b).statistic)
    critical = float(stats.kstwobign.ppf(1 - alpha))
    return distance, critical * math.sqrt((len(a) + len(b)) / (len(a) * len(b)))


def holm(chances: Sequence[float]) -> list[float]:
    """Holm's correction of the p-values of tests that are looked at together."""
    corrected, worst = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        worst = max(worst, min(1.0, (len(chances) - rank) * chances[place]))
        corrected[place] = worst
    return corrected


def sign_test(sample: ArrayLike, reference: ArrayLike) -> float:
    """How likely chance alone puts the paired sample above the reference so often; ties drop out.

    One-sided: small when the sample is larger.
    """
    gaps = _floats(sample) - _floats(reference)
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, alternative="greater").pvalue)


# --- one against the other -------------------------------------------------------------------


def slope(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Interval:
    """The slope of a least-squares line, with Student's interval."""
    xs, ys = _floats(x).ravel(), _floats(y).ravel()
    fit = stats.linregress(xs, ys)
    reach = stats.t.ppf((1 + confidence) / 2, len(xs) - 2) * fit.stderr
    return Interval(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach))


def r_squared(x: ArrayLike, y: ArrayLike) -> float:
    """How much of the variance of ``y`` a line in ``x`` explains."""
    return float(stats.linregress(_floats(x), _floats(y)).rvalue ** 2)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation: 1 when ``y`` rises with ``x`` throughout."""
    return float(stats.spearmanr(_floats(x), _floats(y)).statistic)


# --- times that may never come ---------------------------------------------------------------


class Survival(Struct, frozen=True):
    """Kaplan and Meier's estimate of how long one waits, from runs some of which gave up."""

    times: Floats  # at which something happened or somebody gave up, rising
    waiting: Floats  # the share that still waits after each of them
    low: Floats
    high: Floats  # of that share: the interval
    runs: int
    censored: int  # runs that gave up

    def quantile(self, share: float) -> Interval:
        """The time within which ``share`` of the runs are done; infinite where none can say."""
        found = [self._reaches(curve, 1 - share) for curve in (self.waiting, self.low, self.high)]
        return Interval(*found)

    def _reaches(self, curve: Floats, level: float) -> float:
        below = np.flatnonzero(curve <= level + 1e-12)
        return float(self.times[below[0]]) if len(below) else math.inf


def survival(times: ArrayLike, limits: ArrayLike, confidence: float = 0.95) -> Survival:
    """Kaplan-Meier: ``times`` are NaN (or None) in runs that gave up after ``limits``."""
    seen = _floats(times, keep_missing=True)
    limit = np.broadcast_to(_floats(limits), seen.shape)
    missing = np.isnan(seen)
    if not len(seen):
        raise ValueError("no run to estimate from")
    data = stats.CensoredData.right_censored(np.where(missing, limit, seen), missing)
    curve = stats.ecdf(data).sf
    with warnings.catch_warnings():  # where all or nobody waits there is no variance
        warnings.simplefilter("ignore", RuntimeWarning)
        band = curve.confidence_interval(confidence, method="log-log")
    waiting = np.asarray(curve.probabilities, dtype=np.float64)
    ends: list[Any] = [band.low, band.high]
    low, high = (np.where(np.isnan(end.probabilities), waiting, end.probabilities) for end in ends)
    at = np.asarray(curve.quantiles, dtype=np.float64)
    return Survival(at, waiting, low, high, len(seen), int(missing.sum()))


def censored(times: ArrayLike) -> int:
    """How many of the times never came."""
    return int(np.isnan(_floats(times, keep_missing=True)).sum())


# --- below -----------------------------------------------------------------------------------


def _floats(sample: ArrayLike, *, keep_missing: bool = False) -> Floats:
    values: Floats = np.asarray(sample, dtype=np.float64)
    if not keep_missing and np.isnan(values).any():
        raise ValueError("a sample with missing values: drop them in the open, or use survival")
    return values


def _resampled(
    value: float,
    samples: tuple[Floats, ...],
    measure: Measure,
    confidence: float,
    *,
    paired: bool = False,
) -> Interval:
    found = stats.bootstrap(
        samples,
        measure,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        paired=paired,
        vectorized=True,
        batch=max(1, 2_000_000 // max(len(sample) for sample in samples)),
        rng=np.random.default_rng(1),
    ).confidence_interval
    return Interval(value, float(found.low), float(found.high))
