"""The analytic expectations that measurements stand beside (spec experiments.md, section 3).

Notation as there: ``n`` members, ``m`` of them alive and probing, ``interval`` the protocol
period I; times come in the unit of ``interval``.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq


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


# --- how news spreads ------------------------------------------------------------------------
#
# ``f`` targets at every gossip interval, each packet delivered with probability ``q``; ``m``
# transmissions of one piece of news by one node.


def transmissions(n: int, mult: int) -> int:
    """M, how often a node of a group of ``n`` sends one piece of news."""
    return max(1, mult * math.ceil(math.log10(n + 1)))


def spread_time(n: int, f: float, q: float, interval: float, share: float) -> float:
    """F9: mean time until that share of the group has the news; ticks not synchronised.

    Holds up to the share 1 - 1/n; for the last member see ``spread_time_to_all``.
    """
    return interval / (f * q) * (math.log(n) + np.euler_gamma + math.log(share / (1 - share)))


def spread_time_to_all(n: int, f: float, q: float, interval: float) -> float:
    """F9: mean time until the last member has the news; ticks not synchronised."""
    return 2 * interval / (f * q) * (math.log(n) + float(np.euler_gamma))


def spread_share(t: ArrayLike, n: int, f: float, q: float, interval: float) -> NDArray[np.float64]:
    """F9 read the other way: the share that has the news at time ``t``."""
    growth = f * q / interval
    start = interval / (f * q) * (math.log(n) + np.euler_gamma)
    return 1 / (1 + np.exp(-growth * (np.asarray(t, dtype=np.float64) - start)))


def serf_share(
    t: ArrayLike, n: int, f: float, loss: float, failed: float, interval: float
) -> NDArray[np.float64]:
    """F8: the convergence curve of Serf's web site, with its factor one half."""
    contact = f / n * (1 - loss) * (1 - failed) / 2
    rounds = np.asarray(t, dtype=np.float64) / interval
    return 1 / (1 + (n + 1) * np.exp(-contact * n * rounds))


def serf_time(n: int, f: float, q: float, interval: float, share: float) -> float:
    """F8: when that curve reaches a share."""
    return interval * (math.log(n + 1) + math.log(share / (1 - share))) * 2 / (f * q)


def rounds_to_all(n: int, f: int, q: float) -> float:
    """F10: synchronous push rounds until everybody is informed, by the recurrence of the means.

    The recurrence ends when less than half a member is left to be informed.
    """
    informed, rounds = 1 / n, 0
    while (1 - informed) * n >= 0.5:
        informed = 1 - (1 - informed) * (1 - q / (n - 1)) ** (f * n * informed)
        rounds += 1
    return float(rounds)


def residue(m: float, q: float) -> float:
    """F11: the share that never hears of it, the solution below 1 of s = exp(-M q (1 - s))."""
    load = m * q
    if load <= 1:
        return 1.0
    return float(brentq(lambda s: s - math.exp(-load * (1 - s)), 0.0, 1 / load))


def complete_chance(n: int, m: float, q: float) -> float:
    """F11: the probability that everybody hears of it."""
    return math.exp(-n * residue(m, q))


def anti_entropy(share: float, how: Literal["push", "pull", "push-pull"]) -> float:
    """F12: the share still without the news after one more cycle, from the share before."""
    match how:
        case "push":
            return share * math.exp(-(1 - share))
        case "pull":
            return share**2
        case _:
            return share**2 * math.exp(-(1 - share))


def relay_coverage(q: float, relays: int) -> float:
    """F16: the probability that an answer arrives, sent directly and through relays."""
    return 1 - (1 - q) * (1 - q**2) ** relays


# --- false alarms ----------------------------------------------------------------------------


def failed_probe(q: float, k: int, alive: float = 1.0) -> float:
    """F5: the probability phi that the probe of a live member fails, with k helpers.

    ``alive`` is q_f, the share of helpers that do not fail.
    """
    return (1 - q**2) * (1 - alive * q**4) ** k


def false_suspicions(q: float, k: int, alive: float = 1.0) -> float:
    """F5: lambda_fp, false suspicions of one member in one period."""
    return alive * failed_probe(q, k, alive)


def false_suspicions_as_printed(q: float, k: int, alive: float = 1.0) -> float:
    """F5 as SWIM section 3.1 prints it: the count in one mean detection time, not a period."""
    return false_suspicions(q, k, alive) / (1 - math.exp(-alive))


def helpers_for(target: float, q: float, alive: float = 1.0) -> float:
    """F18: the k that brings lambda_fp down to ``target``."""
    return math.log(target / (alive * (1 - q**2))) / math.log(1 - alive * q**4)


def false_deaths(n: int, q: float, k: int, mult: int) -> float:
    """F6: members wrongly declared dead, in each member and period, with a fixed timeout.

    A suspicion becomes a death where somebody who holds it misses the refutation. Without
    stream pings and push/pull; trust it up to lambda_fp = 0.1, above it is an upper bound.
    """
    missed = n * residue(transmissions(n, mult), q)
    return false_suspicions(q, k) * (1 - math.exp(-missed))


# --- load ------------------------------------------------------------------------------------


class ProbeLoad(Struct, frozen=True):
    """F13: packets that one node sends in one period, by kind."""

    ping: float  # those on behalf of others included
    ack: float  # those passed on included
    indirect_ping: float
    nack: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.ping + self.ack + self.indirect_ping + self.nack


def probe_load(q: float, k: int) -> ProbeLoad:
    """F13: what probing costs, with nobody failed."""
    silent = 1 - q**2  # a direct ping without an ack
    helped = silent * k * q  # requests that reach a helper
    return ProbeLoad(1 + helped, q * (1 + helped) + helped * q**2, silent * k, helped * silent)


def push_pull_period(n: int, interval: float) -> float:
    """P_n, the time between two exchanges that one node starts."""
    return interval if n <= 32 else interval * (math.ceil(math.log2(n) - 5) + 1)


def push_pull_load(n: int, entry: float, interval: float) -> float:
    """F14: bytes of states that a node sends in a unit of time, and receives.

    It starts one exchange a period and serves one; ``entry`` is the bytes of one member's state.
    """
    return 2 * n * entry / push_pull_period(n, interval)


def update_rate(n: int, size: int, f: int, interval: float, packet: int, mult: int) -> float:
    """F15: updates of ``size`` bytes, in a unit of time, that gossip can carry to everybody."""
    return f / interval * (packet // (size + 2)) / transmissions(n, mult)


def least_load(n: int, detection: float, mistakes: float, p: float) -> float:
    """F17: Gupta's lower bound on messages in a unit of time, of the whole group."""
    return n * math.log(mistakes) / (math.log(p) * detection)


# --- loss in bursts, and suspicion by degrees --------------------------------------------------


def gilbert_elliott(loss: float, burst: float) -> tuple[float, float]:
    """Good to bad and bad to good, of the chain with mean loss and mean burst in packets."""
    recovers = 1 / burst
    return loss * recovers / (1 - loss), recovers


def phi(late: ArrayLike, mean: float, deviation: float) -> NDArray[np.float64]:
    """F19: the accrual detector's suspicion of one whose next sign is so late; 1 is 10 %."""
    tail = stats.norm.logsf(np.asarray(late, dtype=np.float64), mean, deviation)
    return np.asarray(-tail / math.log(10), dtype=np.float64)
