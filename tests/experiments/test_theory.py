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


# --- E2 to E4 --------------------------------------------------------------------------------

F5 = {
    1: (0.0181, 0.0653, 0.2125, 0.3875),
    3: (0.00062, 0.00773, 0.0741, 0.2238),
}  # by k, at p = 0.05, 0.1, 0.2, 0.3


@pytest.mark.parametrize("k", F5)
def test_f5(k: int) -> None:
    found = [theory.false_suspicions(1 - p, k) for p in (0.05, 0.1, 0.2, 0.3)]
    assert found == pytest.approx(F5[k], rel=5e-3)
    printed = [theory.false_suspicions_as_printed(1 - p, k) for p in (0.05, 0.1, 0.2, 0.3)]
    assert np.divide(printed, found) == pytest.approx(1.582, abs=5e-4)


@pytest.mark.parametrize(
    ("n", "k", "expected"),
    [
        (40, 3, (2.3e-4, 4.8e-3, 0.031)),
        (128, 3, (2.0e-5, 6.4e-4, 6.4e-3)),
        (40, 1, (1.9e-3, 0.014, 0.054)),
    ],
)
def test_f6(n: int, k: int, expected: tuple[float, ...]) -> None:
    found = [theory.false_deaths(n, 1 - p, k, 4) for p in (0.1, 0.2, 0.3)]
    assert found == pytest.approx(expected, rel=0.02)


F8_AND_F9 = {  # n, q: T50 and T_all by F9; T50 and T99.99 by F8
    (30, 1.0): (0.265, 0.530, 0.46, 1.69),
    (100, 1.0): (0.345, 0.691, 0.62, 1.84),
    (100, 0.9): (0.384, 0.768, 0.68, 2.05),
    (100, 0.5): (0.691, 1.382, 1.23, 3.69),
    (1000, 1.0): (0.499, 0.998, 0.92, 2.15),
    (1000, 0.5): (0.998, 1.996, 1.84, 4.30),
    (4000, 1.0): (0.591, 1.183, 1.11, 2.33),
}


@pytest.mark.parametrize(("cell", "expected"), F8_AND_F9.items(), ids=str)
def test_f8_and_f9(cell: tuple[int, float], expected: tuple[float, ...]) -> None:
    n, q = cell
    found = (
        theory.spread_time(n, 3, q, 0.2, 0.5),
        theory.spread_time_to_all(n, 3, q, 0.2),
        theory.serf_time(n, 3, q, 0.2, 0.5),
        theory.serf_time(n, 3, q, 0.2, 0.9999),
    )
    assert found == pytest.approx(expected, abs=6e-3)


def test_f13() -> None:
    load = theory.probe_load(0.9, 3)
    assert (load.ping, load.ack, load.indirect_ping, load.nack) == pytest.approx(
        (1.513, 1.777, 0.570, 0.097), abs=5e-4
    )
    assert load.total == pytest.approx(3.957, abs=1e-3)
    assert theory.probe_load(1.0, 3).total == 2


PERIODS = {16: 30, 32: 30, 64: 60, 128: 90, 256: 120, 512: 150, 1000: 180, 2000: 210, 5000: 270}


@pytest.mark.parametrize(("n", "seconds"), PERIODS.items())
def test_f14(n: int, seconds: int) -> None:
    assert theory.push_pull_period(n, 30) == seconds
    assert theory.push_pull_load(n, 60, 30) == pytest.approx(2 * n * 60 / seconds)


@pytest.mark.parametrize(("n", "rate"), [(99, 35.6), (999, 23.8), (9999, 17.8), (10_000, 14.2)])
def test_f15(n: int, rate: float) -> None:
    assert theory.update_rate(n, 70, 3, 0.2, 1400, 4) == pytest.approx(rate, abs=0.06)


COVERAGE = {
    0.99: (0.9900, 0.9998, 1.0000, 1.0000, 1.0000),
    0.9: (0.9000, 0.9810, 0.9964, 0.9993, 1.0000),
    0.7: (0.7000, 0.8470, 0.9220, 0.9602, 0.9897),
    0.5: (0.5000, 0.6250, 0.7188, 0.7891, 0.8814),
}  # by q, for 0, 1, 2, 3 and 5 relays


@pytest.mark.parametrize(("q", "expected"), COVERAGE.items())
def test_f16(q: float, expected: tuple[float, ...]) -> None:
    found = [theory.relay_coverage(q, relays) for relays in (0, 1, 2, 3, 5)]
    assert found == pytest.approx(expected, abs=6e-5)


def test_f17() -> None:
    """Twice the members, or half the time, cost twice the messages; fewer mistakes cost more."""
    load = theory.least_load(100, 2.0, 1e-3, 0.1)
    assert load == pytest.approx(100 * 3 / 2.0)
    assert theory.least_load(200, 2.0, 1e-3, 0.1) == pytest.approx(2 * load)
    assert theory.least_load(100, 1.0, 1e-6, 0.1) == pytest.approx(4 * load)
