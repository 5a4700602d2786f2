"""Intervals hold what they promise, and comparisons can say yes, no and not yet."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

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


def test_wilsons_interval_is_the_published_one() -> None:
    found = statistics.proportion(15, 50)  # Newcombe 1998, table I is for 81/263
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.1910, 0.4375), abs=1e-4)
    found = statistics.proportion(81, 263)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert statistics.proportion(0, 20).low == 0


def test_the_interval_of_a_count_is_poissons() -> None:
    found = statistics.rate(10, 2.0)  # the exact 95 % limits of a count of 10: 4.80 and 18.39
    assert (found.value, 2 * found.low, 2 * found.high) == pytest.approx(
        (5.0, 4.795, 18.390), abs=1e-3
    )
    assert statistics.rate(0, 1.0).low == 0


def test_a_ratio_of_paired_runs_loses_what_chance_did_to_both() -> None:
    luck = RNG.exponential(size=200)
    same = statistics.ratio(1.5 * luck, luck)
    assert (same.value, same.low, same.high) == pytest.approx((1.5, 1.5, 1.5))
    own = statistics.ratio(1.5 * RNG.exponential(size=200), RNG.exponential(size=200))
    assert own.low < 1.5 < own.high
    assert own.high - own.low > 0.2
    with pytest.raises(ValueError, match="3 and 2 runs"):
        statistics.ratio([1, 2, 3], [1, 2])


def test_a_sample_with_holes_is_refused() -> None:
    with pytest.raises(ValueError, match="missing values"):
        statistics.mean([1.0, math.nan])


EQUIVALENCE = {  # shift, runs, verdict
    "the same": (0.0, 2000, True),
    "another": (0.5, 2000, False),
    "too few to tell": (0.0, 8, None),
}


@pytest.mark.parametrize(("shift", "runs", "passed"), EQUIVALENCE.values(), ids=EQUIVALENCE)
def test_equivalence_is_yes_no_or_not_yet(shift: float, runs: int, passed: bool | None) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(10 + shift, 1, runs), rng.normal(10, 1, runs)
    for measure in (np.mean, np.median, statistics.percentile(0.5)):
        found = statistics.equivalent(a, b, margin=0.15, measure=measure)
        assert found.passed is passed, found


JUDGED = {  # estimate, runs, verdict on [9, 11]
    "inside": (statistics.Interval(10, 8, 12), 100, True),
    "outside for certain": (statistics.Interval(13, 12, 14), 100, False),
    "outside, perhaps": (statistics.Interval(12, 10.5, 13), 100, None),
    "outside, on too few runs": (statistics.Interval(13, 12, 14), 5, None),
}


@pytest.mark.parametrize(("measured", "runs", "passed"), JUDGED.values(), ids=JUDGED)
def test_a_bound_is_judged_by_the_whole_interval(
    measured: statistics.Interval, runs: int, passed: bool | None
) -> None:
    assert statistics.judge(measured, 9, 11, runs) is passed


def test_two_samples_are_as_far_apart_as_scipy_says_and_no_further_than_chance() -> None:
    a, b = RNG.normal(size=300), RNG.normal(size=3000)
    distance, critical = statistics.ks_two(a, b)
    assert distance == stats.ks_2samp(a, b).statistic
    assert critical == pytest.approx(0.099, abs=5e-4)  # spec experiments.md, E11
    assert distance <= critical < statistics.ks_two(a + 1, b)[0]


def test_holms_correction_is_that_of_the_textbook() -> None:
    """Holm (1979): the smallest times their number, the next times one less, never falling."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_a_sign_test_counts_who_wins() -> None:
    assert statistics.sign_test([2] * 10, [1] * 10) == pytest.approx(2**-10)
    assert statistics.sign_test([1] * 10, [2] * 10) == 1.0
    assert statistics.sign_test([1, 1], [1, 1]) == 1.0


def test_order_and_linearity() -> None:
    x = np.arange(9)
    assert statistics.spearman(x, x**3) == pytest.approx(1.0)
    assert statistics.spearman(x, -x) == pytest.approx(-1.0)
    assert statistics.r_squared(x, 3 * x + 1) == pytest.approx(1.0)


def test_those_who_gave_up_are_kept_as_such() -> None:
    # Six runs, watched for 10 s: 1 2 2 5, and two that never saw it. By hand: 5/6, 3/6, 2/6.
    times = [1.0, 2.0, None, 2.0, 5.0, math.nan]
    found = statistics.survival(times, 10.0)
    assert list(found.times) == [1, 2, 5, 10]
    assert list(found.waiting) == pytest.approx([5 / 6, 3 / 6, 2 / 6, 2 / 6])
    assert (found.runs, found.censored, statistics.censored(times)) == (6, 2, 2)
    assert (found.low <= found.waiting).all()
    assert (found.waiting <= found.high).all()
    assert found.quantile(0.5).value == 2
    assert found.quantile(0.9) == statistics.Interval(math.inf, 5.0, math.inf)


def test_early_leavers_do_not_count_as_done() -> None:
    # Kaplan and Meier by hand: of 4, one is done at 1; of the 2 left after a leaver, one at 3.
    found = statistics.survival([1.0, None, 3.0, None], [9, 2, 9, 4])
    assert list(found.waiting) == pytest.approx([3 / 4, 3 / 4, 3 / 8, 3 / 8])


def test_the_median_of_a_censored_sample_is_covered() -> None:
    rng = np.random.default_rng(11)
    holds = []
    for _ in range(200):
        times = rng.exponential(size=60)
        limits = rng.uniform(0.5, 2.5, size=60)
        seen = np.where(times <= limits, times, np.nan)
        holds.append(statistics.survival(seen, limits).quantile(0.5).holds(math.log(2)))
    assert np.mean(holds) > 0.88
