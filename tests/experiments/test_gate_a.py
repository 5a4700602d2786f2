"""Gate A: the formulas against simulations of their premises, without any protocol.

What spec experiments.md, section 3, derives is played through here with dice alone, in seconds. An
error in a formula would make every experiment that leans on it agree with the wrong thing.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from random import Random
from typing import Literal

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from backends.sim.network import Fabric, GilbertElliott, Network
from experiments import theory
from swimsim import MS, SECOND, rng
from swimsim.serf import coordinates
from swimsim.serf.coordinates import Coordinates
from swimsim.terms import NodeId


def dice(seed: int = 1) -> Generator:
    return np.random.default_rng(seed)


def others(random: Generator, senders: NDArray[np.int64], n: int, each: int) -> NDArray[np.int64]:
    """For each sender so many members that are not itself, one row a sender."""
    drawn = random.integers(0, n - 1, (len(senders), each))
    return drawn + (drawn >= senders[:, None])


# --- F5: false suspicions --------------------------------------------------------------------


def false_suspicion_rate(n: int, q: float, k: int, alive: float, periods: int) -> float:
    """False suspicions of a live member in a period: every live member probes a random other."""
    random, living, false = dice(), round(alive * n), 0
    for _ in range(periods):
        probers = np.arange(living)
        targets = others(random, probers, n, 1)[:, 0]
        silent = random.random(living) > q**2
        for prober, target in zip(probers[silent], targets[silent], strict=True):
            if target < living:
                rest = [m for m in random.permutation(n)[: k + 2] if m not in (prober, target)]
                helped = sum(m < living and random.random() < q**4 for m in rest[:k])
                false += not helped
    return false / (living * periods)


@pytest.mark.parametrize(
    ("q", "k", "alive", "printed"),
    [(0.9, 1, 1.0, 0.0653), (0.7, 3, 1.0, 0.2238), (0.8, 3, 0.8, 0.0875), (0.9, 0, 1.0, 0.19)],
)
def test_f5(q: float, k: int, alive: float, printed: float) -> None:
    expected = theory.false_suspicions(q, k, alive)
    assert expected == pytest.approx(printed, rel=2e-3)
    periods = int(16_000 / (40 * expected))
    measured = false_suspicion_rate(40, q, k, alive, min(periods, 6000))
    assert measured == pytest.approx(expected, rel=0.03)


def test_f18_inverts_f5() -> None:
    for k in (1, 2, 3):
        target = theory.false_suspicions(0.85, k, 0.9)
        assert theory.helpers_for(target, 0.85, 0.9) == pytest.approx(k)


# --- F9 to F11: how news spreads -------------------------------------------------------------


def infection(random: Random, n: int, f: int, q: float, sends: int) -> list[float]:
    """When each member heard, in ticks; everybody's ticker has a phase of its own."""
    heard = {0: 0.0}
    ticks = [(random.random(), 0, sends)]
    while ticks:
        now, node, left = heapq.heappop(ticks)
        for target in random.sample(range(n - 1), min(f, left)):
            member = target + (target >= node)
            if member not in heard and random.random() < q:
                heard[member] = now
                heapq.heappush(ticks, (now + random.random(), member, sends))
        if left > f:
            heapq.heappush(ticks, (now + 1, node, left - f))
    return sorted(heard.values())


@pytest.mark.parametrize(
    ("n", "f", "q", "runs"), [(100, 3, 1.0, 200), (100, 2, 0.7, 200), (1000, 3, 1.0, 60)]
)
def test_f9(n: int, f: int, q: float, runs: int) -> None:
    random, sends = Random(1), theory.transmissions(n, 4)
    found = [infection(random, n, f, q, sends) for _ in range(runs)]
    half = np.mean([heard[n // 2 - 1] for heard in found])
    whole = np.mean([heard[-1] for heard in found if len(heard) == n])
    assert half == pytest.approx(theory.spread_time(n, f, q, 1.0, 0.5), rel=0.10)
    assert whole == pytest.approx(theory.spread_time_to_all(n, f, q, 1.0), rel=0.06)


def test_f9_as_a_curve_and_as_a_time_are_inverse() -> None:
    for share in (0.01, 0.5, 0.99):
        t = theory.spread_time(1000, 3, 0.9, 0.2, share)
        assert theory.spread_share(t, 1000, 3, 0.9, 0.2) == pytest.approx(share)
        t = theory.serf_time(1000, 3, 0.9, 0.2, share)
        assert theory.serf_share(t, 1000, 3, 0.1, 0.0, 0.2) == pytest.approx(share)


def rounds(random: Generator, n: int, f: int, q: float) -> int:
    """Synchronous rounds until everybody has heard; nobody falls silent."""
    knows, count = np.zeros(n, dtype=bool), 0
    knows[0] = True
    while not knows.all():
        targets = others(random, np.flatnonzero(knows), n, f)
        knows[targets[random.random(targets.shape) < q]] = True
        count += 1
    return count


@pytest.mark.parametrize(
    ("n", "q", "printed", "runs"),
    [
        (30, 1.0, 4.35, 600),
        (128, 1.0, 6.02, 400),
        (1000, 1.0, 8.18, 150),
        (10_000, 1.0, 10.5, 12),
        (30, 0.5, 6.94, 600),
        (128, 0.5, 9.63, 400),
        (1000, 0.5, 13.3, 150),
    ],
)
def test_f10(n: int, q: float, printed: float, runs: int) -> None:
    random = dice()
    measured = np.mean([rounds(random, n, 3, q) for _ in range(runs)])
    assert measured == pytest.approx(printed, abs=0.3)
    assert theory.rounds_to_all(n, 3, q) == pytest.approx(measured, abs=1)
    offset = measured - math.log(n) / math.log(1 + 3 * q) - math.log(n) / (3 * q)
    assert 0.5 < offset < 2.2


def reached(random: Generator, n: int, m: int, q: float) -> int:
    """How many hear of it when each sends M times; in which order does not matter."""
    knows, new = np.zeros(n, dtype=bool), np.zeros(1, dtype=np.int64)
    knows[0] = True
    while len(new):
        targets = others(random, new, n, m)
        heard = np.unique(targets[random.random(targets.shape) < q])
        new = heard[~knows[heard]]
        knows[new] = True
    return int(knows.sum())


@pytest.mark.parametrize(
    ("n", "m", "q", "runs", "share", "complete"),
    [
        (100, 12, 0.5, 6000, 2.5e-3, 0.778),
        (1000, 8, 1.0, 800, 3.4e-4, 0.714),
        (1000, 6, 0.8, 300, None, None),
    ],
)
def test_f11(
    n: int, m: int, q: float, runs: int, share: float | None, complete: float | None
) -> None:
    random = dice()
    missed = np.array([n - reached(random, n, m, q) for _ in range(runs)])
    missed = missed[missed < n / 2]  # now and then news dies with its first senders
    expected = theory.residue(m, q)
    assert expected == pytest.approx(math.exp(-m * q * (1 - expected)))
    assert missed.mean() / n == pytest.approx(expected, rel=0.12)
    assert (missed == 0).mean() == pytest.approx(theory.complete_chance(n, m, q), abs=0.05)
    if share is not None:
        assert expected == pytest.approx(share, rel=0.02)
        assert theory.complete_chance(n, m, q) == pytest.approx(complete, abs=1e-3)


def test_f11_news_that_is_hardly_repeated_reaches_nobody() -> None:
    assert theory.residue(2, 0.5) == 1.0
    assert theory.residue(4, 0.5) == pytest.approx(0.203, abs=5e-4)


# --- F12: anti-entropy -----------------------------------------------------------------------

How = Literal["push", "pull", "push-pull"]


def exchange(random: Generator, knows: NDArray[np.bool_], how: How) -> NDArray[np.bool_]:
    """One cycle: everybody calls one other, and all act on what they knew before it."""
    callers = np.arange(len(knows))
    called = others(random, callers, len(knows), 1)[:, 0]
    after = knows.copy()
    if how != "pull":
        after[called[knows]] = True
    if how != "push":
        after |= knows[called]
    return after


def cycles(random: Generator, n: int, how: How) -> int:
    knows, count = np.zeros(n, dtype=bool), 0
    knows[0] = True
    while not knows.all():
        knows, count = exchange(random, knows, how), count + 1
    return count


@pytest.mark.parametrize(
    ("n", "how", "printed"),
    [
        (100, "push", 12.3),
        (100, "pull", 9.8),
        (100, "push-pull", 6.55),
        (1000, "push", 17.9),
        (1000, "pull", 13.8),
        (1000, "push-pull", 9.16),
    ],
)
def test_f12_cycles_to_all(n: int, how: How, printed: float) -> None:
    random = dice()
    measured = np.mean([cycles(random, n, how) for _ in range(800 if n == 100 else 250)])
    assert measured == pytest.approx(printed, abs=0.3)


@pytest.mark.parametrize("how", ["push", "pull", "push-pull"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_f12_one_cycle(how: How, share: float) -> None:
    random, n = dice(), 40_000
    knows = np.arange(n) >= share * n
    after = 1 - exchange(random, knows, how).mean()
    assert after == pytest.approx(theory.anti_entropy(share, how), rel=0.05, abs=1e-3)


# --- F16: relays -----------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.95, 0.8, 0.5])
@pytest.mark.parametrize("relays", [0, 1, 3, 5])
def test_f16(q: float, relays: int) -> None:
    random, answers = dice(), 200_000
    arrived = random.random(answers) < q
    for _ in range(relays):
        arrived |= (random.random(answers) < q) & (random.random(answers) < q)
    assert arrived.mean() == pytest.approx(theory.relay_coverage(q, relays), abs=0.004)


# --- loss in bursts; F19 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "burst", "printed"),
    [(0.01, 3, 0.00337), (0.05, 5, 0.0105), (0.1, 10, 0.0111), (0.2, 10, 0.025)],
)
def test_gilbert_elliott_by_packets(loss: float, burst: float, printed: float) -> None:
    worsens, recovers = theory.gilbert_elliott(loss, burst)
    assert worsens == pytest.approx(printed, rel=0.01)
    random, bad, lost, begun = dice(), False, 0, 0
    for chance in random.random(400_000):
        was, bad = bad, chance < (1 - recovers if bad else worsens)
        lost, begun = lost + bad, begun + (bad and not was)
    assert lost / 400_000 == pytest.approx(loss, rel=0.1)
    assert lost / begun == pytest.approx(burst, rel=0.1)


@pytest.mark.parametrize("scope", ["link", "node"])
def test_gilbert_elliott_in_time(scope: Literal["link", "node"]) -> None:
    """The network's chains: the mean loss, and as many bursts as their mean length makes."""
    burst, step, packets = SECOND // 10, 5 * MS, 200_000
    fabric = Fabric(Network(loss=GilbertElliott(0.1, burst, scope)), ["a", "b"], seed=1)
    lost = np.array(
        [not fabric.carry(number * step, 0, 1, 50) for number in range(packets)], dtype=bool
    )
    assert lost.mean() == pytest.approx(0.1, rel=0.1)
    # A burst begins when all is well on every link, and from one look to the next it is not.
    links = 1 if scope == "link" else 2
    share = 1 - 0.9 ** (1 / links)
    worsens = share * (1 - math.exp(-step / (burst * (1 - share))))
    begun = int((lost[1:] & ~lost[:-1]).sum())
    assert begun / packets == pytest.approx(0.9 * (1 - (1 - worsens) ** links), rel=0.1)


def test_f19() -> None:
    """A heartbeat is so late as to mean phi once in 10 ** phi times."""
    gaps = dice().normal(1.0, 0.1, 400_000)
    suspicion = theory.phi(gaps, 1.0, 0.1)
    for level in (1, 2, 3):
        assert (suspicion > level).mean() == pytest.approx(10.0**-level, rel=0.15)


# --- F20: coordinates of worlds that are known -----------------------------------------------

Truth = Callable[[int, int, Generator], float]


def line(i: int, j: int, _: Generator) -> float:
    return abs(i - j) * 0.010


def grid(i: int, j: int, _: Generator) -> float:
    return math.hypot(i // 5 - j // 5, i % 5 - j % 5) * 0.010


def split(i: int, j: int, _: Generator) -> float:
    return 0.001 if (i < 12) == (j < 12) else 0.011


def scattered(i: int, j: int, random: Generator) -> float:
    return max(0.0, random.normal(0.100, 0.010))


@pytest.mark.parametrize(
    ("n", "truth", "average", "worst"),
    [
        (10, line, 0.0031, 0.0130),
        (25, grid, 0.0016, 0.0230),
        (25, split, 0.00006, 0.00048),
        (25, scattered, 0.075, 0.33),
    ],
)
def test_f20(n: int, truth: Truth, average: float, worst: float) -> None:
    """Within twice the bounds of Serf's own tests, which are tied to one random stream."""
    random = dice(3)
    rtt = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            rtt[i, j] = rtt[j, i] = truth(i, j, random)
    nodes = [Coordinates(rng.seed("coordinates", i)) for i in range(n)]
    for _ in range(1000):
        for i, j in enumerate(others(random, np.arange(n), n, 1)[:, 0]):
            nodes[i] = coordinates.update(nodes[i], NodeId(f"{j}"), nodes[j].mine, rtt[i, j])
    errors = [
        abs(coordinates.distance(nodes[i].mine, nodes[j].mine) - rtt[i, j]) / rtt[i, j]
        for i in range(n)
        for j in range(i)
    ]
    assert np.mean(errors) <= 2 * average
    assert max(errors) <= 2 * worst
    assert not any(node.resets for node in nodes)
