"""Intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import statistics

RNG = np.random.default_rng(7)


def coverage(interval_of: object, truth: float, draws: int = 200, size: int = 100) -> float:
    """How often an interval of an Exp(1) sample holds the truth."""
    return float(
        np.mean([interval_of(RNG.exponential(size=size)).holds(truth) for _ in range(draws)])  # type: ignore[operator]
    )


def test_the_interval_of_a_mean_covers_it() -> None:
    assert coverage(statistics.mean, 1.0, draws=150) > 0.88


def test_the_interval_of_a_median_covers_it() -> None:
    assert coverage(lambda sample: statistics.quantile(sample, 0.5), np.log(2)) > 0.9


def test_the_interval_of_a_tail_quantile_that_cannot_close_ends_at_the_sample() -> None:
    sample = np.arange(100.0)
    found = statistics.quantile(sample, 0.999)
    assert found.high == 99.0


def test_a_mean_is_the_same_every_time_and_a_constant_is_certain() -> None:
    sample = RNG.normal(size=50)
    assert statistics.mean(sample) == statistics.mean(sample)
    assert statistics.mean([2.0, 2.0, 2.0]) == statistics.Interval(2.0, 2.0, 2.0)


def test_kolmogorov_tells_a_distribution_from_another() -> None:
    sample = RNG.uniform(size=2000)
    distance, critical = statistics.kolmogorov(sample, lambda t: np.clip(t, 0, 1))
    assert distance <= critical
    assert critical == pytest.approx(0.0364, abs=1e-4)
    distance, critical = statistics.kolmogorov(sample**1.2, lambda t: np.clip(t, 0, 1))
    assert distance > critical


def test_a_slope_is_found_and_its_absence_too() -> None:
    x = np.linspace(0, 3, 400)
    noise = RNG.normal(size=400)
    assert statistics.slope(x, noise).holds(0.0)
    steep = statistics.slope(x, x + noise)
    assert steep.holds(1.0)
    assert not steep.holds(0.0)
