"""The formulas give the check values that spec experiments.md, section 3, prints."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import theory


@pytest.mark.parametrize(("n", "mean"), [(8, 0.875), (16, 0.938), (28, 0.964), (128, 0.992)])
def test_f1_mean(n: int, mean: float) -> None:
    assert theory.first_ping_mean(n, n - 1, 1.0) == pytest.approx(mean, abs=5e-4)


@pytest.mark.parametrize(("share", "value"), [(0.5, 0.69), (0.99, 4.52), (0.999, 6.72)])
def test_f1_quantiles_at_n_128(share: float, value: float) -> None:
    assert theory.first_ping_quantile(share, 128, 127, 1.0) == pytest.approx(value, abs=5e-3)


def test_f1_distribution_and_quantile_are_inverse() -> None:
    for share in (0.01, 0.5, 0.999):
        t = theory.first_ping_quantile(share, 40, 30, 2.0)
        assert theory.first_ping_cdf(t, 40, 30, 2.0) == pytest.approx(share)
    assert list(theory.first_ping_cdf([-1.0, 1e9], 40, 30, 2.0)) == [0.0, 1.0]


def test_f1_agrees_with_a_simulation_of_its_premises() -> None:
    residuals = np.random.default_rng(1).uniform(0, 27, size=(40_000, 27)).min(axis=1)
    assert residuals.mean() == pytest.approx(theory.first_ping_mean(28, 27, 1.0), rel=0.02)


@pytest.mark.parametrize(("n", "mean"), [(8, 1.515), (28, 1.565), (55, 1.573), (128, 1.578)])
def test_f1_synchronous(n: int, mean: float) -> None:
    assert theory.hitting_period_mean(n) == pytest.approx(mean, abs=5e-4)


SUSPICION_MIN = {16: 4.816, 32: 6.020, 64: 7.224, 128: 8.428, 256: 9.632, 512: 10.836,
                 1000: 12.0, 2000: 13.204, 5000: 14.792, 10_000: 16.0, 100_000: 20.0}  # fmt: skip


@pytest.mark.parametrize(("n", "seconds"), SUSPICION_MIN.items())
def test_suspicion_minimum(n: int, seconds: float) -> None:
    assert theory.suspicion_min(n, 4, 1.0) == pytest.approx(seconds, abs=1e-9)


def test_f2_and_f3() -> None:
    assert theory.first_suspicion_mean(128, 127, 1.0) == pytest.approx(1.992, abs=5e-4)
    assert theory.first_detection_mean(128, 127, 1.0, 4) == pytest.approx(10.42, abs=5e-3)
    assert theory.first_detection_mean(8, 7, 1.0, 4) == pytest.approx(5.88, abs=6e-3)
