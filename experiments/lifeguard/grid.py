"""Which cells are run: the paper's grids, and what was left out of them.

The threshold study is the paper's, save that SWIM and Lifeguard get 5 of its 10 repetitions, the
configurations in between and other alphas and betas 2. Blocks too short for a suspicion to expire
are left out: they add nothing to Table V. Of the interval study's 432 combinations of C, D and I a
quarter is run, once (``quarter``); the configurations in between at two of the nine C.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Literal

from experiments.experiment import Cell, Scale
from experiments.lifeguard.published import BLOCKED, DURATIONS_MS, PAUSES_MS
from experiments.lifeguard.study import PROTOCOLS, Params, Protocol

ENDS: tuple[Protocol, ...] = ("swim", "lifeguard")
BETWEEN: tuple[Protocol, ...] = ("lha-probe", "lha-suspicion", "buddy")
SOME_BLOCKED = (16, 32)

DETECTABLE_MS = (16384, 32768)
"""Shorter blocks are over before a suspicion expires; with alpha 2, ``SOONER_MS`` is not."""
SOONER_MS = 8192

TUNED = ((2, 2), (2, 4), (2, 6), (4, 2), (4, 4), (4, 6), (5, 2), (5, 4))
"""(alpha, beta) of Table VII beside (5, 6), which is Lifeguard itself."""

DRAINS_US = (0, 10, 30, 100)
QUARTERS = 4

SLANDER = ((16384, 1), (16384, 256), (32768, 4))
"""(D, I) of a quarter at which SWIM slanders most: where tuning and drain rates are compared."""


def quarter(number: int) -> list[tuple[int, int]]:
    """One quarter of the (D, I) of the interval study: two of the eight I for every D.

    The two stand half of the row apart, so one is short and one is long. The same for every C
    and protocol; the four quarters make the whole.
    """
    pairs = []
    for place, duration in enumerate(DURATIONS_MS):
        first = (place + number) % QUARTERS
        pairs += [(duration, PAUSES_MS[first]), (duration, PAUSES_MS[first + QUARTERS])]
    return pairs


def cells(scale: Scale) -> list[Cell]:
    """The grid: a sample of each part, or all that the module's docstring says."""
    match scale:
        case "demo":
            return [Cell(Params("threshold", protocol, 16, 32768), 4) for protocol in ENDS]
        case "quick":
            return [
                *_threshold((16, 32), PROTOCOLS, 2),
                *_tuned_threshold((32,), ((2, 2), (4, 6)), 2),
                *_interval((16,), PROTOCOLS, [(16384, 256)]),
                *_interval((16,), ENDS, [(16384, 256)], "old group"),
                *_tuning((16,), ((2, 2), (4, 6)), [(16384, 256)]),
                *_drains((16,), (100,), [(16384, 256)]),
            ]
        case "full":
            return [
                *_threshold(BLOCKED, ENDS, 5),
                *_threshold(BLOCKED, BETWEEN, 2),
                *_tuned_threshold(BLOCKED, TUNED, 2),
                *_interval(BLOCKED, ENDS, quarter(0)),
                *_interval(SOME_BLOCKED, BETWEEN, quarter(0)),
                *_interval((16,), ENDS, quarter(0), "old group"),
                *_tuning((32,), TUNED, SLANDER),
                *_drains((32,), DRAINS_US, SLANDER),
            ]


Pairs = Sequence[tuple[int, int]]


def _threshold(blocked: Iterable[int], protocols: Iterable[Protocol], runs: int) -> Iterator[Cell]:
    for c, d, protocol in product(blocked, DETECTABLE_MS, protocols):
        yield Cell(Params("threshold", protocol, c, d), runs)


def _tuned_threshold(blocked: Iterable[int], tuned: Pairs, runs: int) -> Iterator[Cell]:
    for c, d, (alpha, beta) in product(blocked, (SOONER_MS, *DETECTABLE_MS), tuned):
        if d != SOONER_MS or alpha == 2:
            yield Cell(Params("threshold", "lifeguard", c, d, alpha=alpha, beta=beta), runs)


def _interval(
    blocked: Iterable[int],
    protocols: Iterable[Protocol],
    pairs: Pairs,
    part: Literal["interval", "old group"] = "interval",
) -> Iterator[Cell]:
    for c, (d, i), protocol in product(blocked, pairs, protocols):
        yield Cell(Params(part, protocol, c, d, i), 1)


def _tuning(blocked: Iterable[int], tuned: Pairs, pairs: Pairs) -> Iterator[Cell]:
    for c, (d, i) in product(blocked, pairs):
        yield Cell(Params("tuning", "swim", c, d, i), 1)
        for alpha, beta in (*tuned, (5, 6)):
            yield Cell(Params("tuning", "lifeguard", c, d, i, alpha=alpha, beta=beta), 1)


def _drains(blocked: Iterable[int], drains: Iterable[int], pairs: Pairs) -> Iterator[Cell]:
    for c, (d, i), drain, protocol in product(blocked, pairs, drains, ENDS):
        yield Cell(Params("drains", protocol, c, d, i, drain), 1)


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Configurations are compared on common random numbers."""
    study = "threshold" if params.part == "threshold" else "interval"
    return (study, params.blocked, params.duration_ms, params.pause_ms, params.nodes)
