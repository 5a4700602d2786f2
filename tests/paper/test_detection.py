"""What the papers say of detection time, held by simulated clusters (spec experiments.md)."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from backends.sim import Cluster, Network
from backends.sim.checks import Detection, FalsePositives
from backends.sim.network import Link
from experiments import statistics, theory
from experiments.detection import Params, run
from experiments.experiment import seed_of
from swimsim import LAN, MS, SECOND

ROOT_SEED = 20021


def times(params: Params, runs: int, quantity: str) -> np.ndarray:
    """One quantity of many independent runs, seconds."""
    seeds = [seed_of(ROOT_SEED, "paper", (params.nodes,), number) for number in range(runs)]
    return np.array([run(params, seed)[0][quantity] for seed in seeds])


@pytest.mark.parametrize("n", [8, 28])
def test_the_first_ping_comes_as_f1_says(n: int) -> None:
    """F1: the least of n - 1 residuals uniform in (0, (n - 1) I); KS test at alpha = 0.01."""
    sample = times(Params(n, "ping"), 400, "t_ping")
    distance, critical = statistics.kolmogorov(
        sample, lambda t: theory.first_ping_cdf(t, n, n - 1, 1.0)
    )
    assert distance <= critical
    assert statistics.mean(sample, 0.999).holds(theory.first_ping_mean(n, n - 1, 1.0))


def test_synchronous_random_probing_hits_in_period_e_over_e_minus_1() -> None:
    """SWIM 3.1: the expected number of periods is e / (e - 1), for n = 28 exactly 1.565."""
    params = Params(28, "ping", probe_order="random", synchronous=True)
    periods = np.ceil(times(params, 400, "t_ping"))
    assert statistics.mean(periods, 0.999).holds(theory.hitting_period_mean(28))
    assert theory.hitting_period_mean(28) == pytest.approx(1.565, abs=5e-4)


def test_suspicion_follows_the_first_ping_by_one_period() -> None:
    """F2: the round of the first ping fails at its end."""
    params = Params(16)
    pings, suspicions = (times(params, 20, q) for q in ("t_ping", "t_suspicion"))
    assert suspicions - pings == pytest.approx(np.full(20, 1.0), abs=1e-9)


@pytest.mark.parametrize("n", [8, 28, 55])
def test_without_lifeguard_a_suspicion_lasts_exactly_s_min(n: int) -> None:
    """SWIM 4.2 and F3: alpha log10(n) periods from first suspicion to first detection."""
    params = Params(n, lifeguard=False)
    wait = times(params, 15, "t_first") - times(params, 15, "t_suspicion")
    assert wait == pytest.approx(np.full(15, theory.suspicion_min(n, 4, 1.0)), abs=1e-6)


@pytest.mark.parametrize("n", [8, 28])
def test_with_lifeguard_a_suspicion_lasts_between_min_and_max(n: int) -> None:
    """Lifeguard IV-B: never shorter than Min, and Min again once K others confirm."""
    params = Params(n)
    wait = times(params, 25, "t_first") - times(params, 25, "t_suspicion")
    least = theory.suspicion_min(n, 4, 1.0)
    assert (wait >= least - 1e-6).all()
    assert (wait <= least * LAN.suspicion_max_timeout_mult).all()
    assert np.median(wait) == pytest.approx(least, abs=0.01)


def test_detection_does_not_slow_down_as_the_group_grows() -> None:
    """SWIM 3.1: the expected time to first detection is independent of the group's size."""
    small, large = (times(Params(n, "ping"), 150, "t_ping") for n in (16, 256))
    difference = statistics.mean(large - small, 0.999)
    assert difference.low < theory.first_ping_mean(256, 255, 1) - theory.first_ping_mean(16, 15, 1)
    assert difference.high > 0
    assert abs(difference.value) < 0.5


def test_no_observer_takes_longer_than_2n_minus_1_periods() -> None:
    """SWIM 4.3: round-robin probing bounds the time until every observer has pinged."""
    rows = run(Params(12, "gaps"), seed_of(ROOT_SEED, "gaps", (), 0))
    assert 1 < rows[0]["longest_gap"] <= 2 * 12 - 1


def test_random_probing_has_no_such_bound() -> None:
    """SWIM 4.3 gives this as the reason for round robin."""
    params = Params(12, "gaps", probe_order="random")
    longest = [run(params, seed_of(ROOT_SEED, "gaps", (), s))[0]["longest_gap"] for s in range(3)]
    assert max(longest) > 2 * 12 - 1


def test_every_survivor_detects_every_crash() -> None:
    """SWIM 2.1, strong completeness: a crash is detected by all members that do not crash."""
    cluster = Cluster(20, LAN, seed=3, record=())
    cluster.run(2 * SECOND)
    victims = [host.name for host in cluster.hosts[3:8]]
    living = {host.name for host in cluster.hosts} - set(victims)
    watches = [Detection(victim, living, cluster.now) for victim in victims]
    cluster.observers += watches
    for victim in victims:
        cluster.kill(victim)
    assert cluster.run_until(lambda: all(w.done for w in watches), 120 * SECOND)
    assert cluster.converged()


def test_a_member_that_hears_badly_accuses_others_less_with_local_health() -> None:
    """Lifeguard IV-A: whoever misses acks doubts itself, and probes more slowly."""
    deaf = Network(links=(Link(target="node-03", loss=0.8),))
    accusations = {}
    for lha_probe in (True, False):
        config = replace(LAN, lha_probe=lha_probe, stream_ping=False)
        cluster = Cluster(16, config, deaf, seed=5)
        cluster.run(120 * SECOND)
        events = cluster.trace.events()
        first_hand = (events.event == "suspected") & (events.source == events.observer)
        accusations[lha_probe] = (first_hand & (events.observer == "node-03")).sum()
    assert accusations[False] > 20
    assert accusations[True] < accusations[False] / 2


def test_a_blocked_member_accuses_others_less_with_lifeguard() -> None:
    """Lifeguard VI: false positives under slow processes, all of Lifeguard against plain SWIM."""
    verdicts = {}
    for lifeguard in (True, False):
        on = dict.fromkeys(("lha_probe", "lha_suspicion", "buddy_system"), lifeguard)
        cluster = Cluster(64, replace(LAN, suspicion_mult=5, **on), seed=4, record=())
        slow = [host.name for host in cluster.hosts[:8]]
        wrong = FalsePositives(excused=slow)
        cluster.observers.append(wrong)
        cluster.run(5 * SECOND)
        while cluster.now < 75 * SECOND:  # blocked for 16 s, running for 64 ms, in lock step
            for name in slow:
                cluster.pause(name, "block")
            cluster.run_for(16 * SECOND)
            for name in slow:
                cluster.resume(name)
            cluster.run_for(64 * MS)
        verdicts[lifeguard] = len(wrong.found)
    assert verdicts[False] > 50
    assert verdicts[True] < verdicts[False] / 10
