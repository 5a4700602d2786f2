"""What the papers say of how news spreads, held by simulated clusters (spec experiments.md)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from backends.sim import Cluster, Network
from backends.sim.network import Bernoulli, Constant
from swimsim import LAN, MS, SECOND, Config
from swimsim.inputs import UpdateMeta

GAMMA = 0.5772
QUIET = replace(LAN, push_pull_interval=0, piggyback=False, probe_interval=3600 * SECOND)
"""Gossip alone: nothing rides on pings, nothing is repaired by anti-entropy."""

FAST = Constant(100)  # microseconds; hops cost nothing beside a gossip interval of 200 ms


def infection(n: int, config: Config, seed: int, network: Network, limit: int = 20) -> np.ndarray:
    """When each other member learned of one update, seconds after it was made; inf for never."""
    cluster = Cluster(n, config, network, seed=seed)
    cluster.run(SECOND)
    cluster.request(cluster.hosts[0].name, UpdateMeta(b"news"))
    cluster.run(limit * SECOND)
    events = cluster.trace.events()
    heard = events[(events.event == "updated") & (events.observer != cluster.hosts[0].name)]
    reached = np.sort(heard.groupby("observer").time_s.min().to_numpy()) - 1.0
    return np.concatenate([reached, np.full(n - 1 - len(reached), np.inf)])


def expected_to_all(n: int, config: Config, q: float = 1.0) -> float:
    """F9: mean time to the last member, with ticks that are not synchronised."""
    rate = config.gossip_nodes * q / (config.gossip_interval / SECOND)
    return 2 / rate * (math.log(n) + GAMMA)


def to_all(n: int, config: Config, runs: int) -> float:
    """Mean time to the last member over complete runs; nearly all of them are complete."""
    last = np.array([infection(n, config, seed, Network(FAST)).max() for seed in range(runs)])
    assert np.isfinite(last).mean() >= 0.9
    return float(last[np.isfinite(last)].mean())


@pytest.mark.parametrize(("n", "runs"), [(30, 60), (100, 30), (300, 10)])
def test_news_reaches_everybody_in_logarithmic_time(n: int, runs: int) -> None:
    """SWIM 4.1 and F9: T_all = 2 interval / f (ln n + gamma); runs have a deviation of 20 %."""
    assert to_all(n, QUIET, runs) == pytest.approx(expected_to_all(n, QUIET), rel=0.12)


def test_ten_times_the_members_take_one_more_step_not_ten_times_the_time() -> None:
    """SWIM 4.1: dissemination time is O(log n)."""
    growth = to_all(300, QUIET, 12) / to_all(30, QUIET, 40)
    assert growth == pytest.approx((math.log(300) + GAMMA) / (math.log(30) + GAMMA), rel=0.2)


def test_half_the_packets_lost_doubles_the_time() -> None:
    """F9: growth is at the rate f q, so at 50 % loss half the news is as fast as half of f."""
    half = [
        np.median(infection(100, QUIET, seed, Network(FAST, Bernoulli(0.5)))) for seed in range(15)
    ]
    whole = [np.median(infection(100, QUIET, seed, Network(FAST))) for seed in range(15)]
    assert np.mean(half) / np.mean(whole) == pytest.approx(2.0, rel=0.2)


def test_each_member_sends_each_update_lambda_log_n_times() -> None:
    """SWIM 4.1, memberlist's 4 ceil(log10(n + 1)): 8 transmissions in a group of 40, no more."""
    cluster = Cluster(40, QUIET, Network(FAST), seed=2, record=("events", "messages"))
    cluster.run(SECOND)
    cluster.request(cluster.hosts[0].name, UpdateMeta(b"news"))
    cluster.run(30 * SECOND)
    messages = cluster.trace.messages()
    sent = messages[(messages.kind == "alive") & (messages.fate == "sent")]
    assert len(sent) == 40
    assert set(sent.messages) == {8}


def test_a_blind_counter_leaves_the_residue_of_f11() -> None:
    """F11: the share that is never reached solves s = exp(-M q (1 - s)); here M q = 4."""
    network = Network(FAST, Bernoulli(0.5))
    missed = [np.isinf(infection(99, QUIET, seed, network)).mean() for seed in range(40)]
    residue = 0.0
    for _ in range(200):
        residue = math.exp(-8 * 0.5 * (1 - residue))
    assert residue == pytest.approx(0.0198, abs=5e-4)
    assert np.mean(missed) == pytest.approx(residue, rel=0.3)


def test_piggyback_speeds_news_up() -> None:
    """SWIM 4.1: news rides on pings and acks; spec E3 saw about 12 %."""
    loud = replace(QUIET, probe_interval=LAN.probe_interval)
    assert to_all(100, replace(loud, piggyback=True), 20) < to_all(100, loud, 20)


def test_without_gossip_piggyback_alone_spreads_as_swim_did() -> None:
    """SWIM 4.1, F7: infection-style spread on pings and acks alone, a few periods."""
    config = replace(LAN, gossip_nodes=0, push_pull_interval=0)
    last = infection(28, config, 1, Network(Constant(1 * MS)), limit=60).max()
    assert last < 4 * math.log(28)
