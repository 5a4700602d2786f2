"""E1: is detection as fast in a large cluster as in a small one?

One member of a settled, loss-free group dies at a uniformly random instant. When is it first
pinged in vain, first suspected, first declared dead, and when do all survivors know? SWIM's
answer is that the first two do not depend on the size of the group, and that the rest grows
only with the logarithm in the suspicion timeout (spec experiments.md, E1; formulas F1 to F3).

To ask another question, change a cell: every parameter is in ``Params``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from msgspec import Struct
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.checks import Detection
from experiments import statistics, theory
from experiments.experiment import Cell, Row, Scale, Verdict
from swimsim import LAN, SECOND, SWIM_2002, Config, rng

GIVE_UP = 3600 * SECOND

FULL_SPREAD = {8: 0.14, 16: 0.23, 28: 0.28, 55: 0.34, 128: 0.41, 512: 0.54, 1000: 0.59}
"""T_full - T_first of the reference model, seconds by n (spec experiments.md, E1)."""

SWIM_FIG_3A = {10: 1.11, 14.5: 3.26, 19: 1.98, 23.5: 1.25, 28: 2.06, 32: 1.39, 37: 1.17}
"""Start of the suspicion by bins of n, in periods, digitised from SWIM's Fig. 3a (section 4.1)."""


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    measure: Literal["full", "ping", "gaps"] = "full"
    """Run until all survivors know; until the first ping; or record when everybody pings whom."""
    suspicion_mult: int = 4
    lifeguard: bool = True
    probe_order: Literal["round_robin", "random"] = "round_robin"
    synchronous: bool = False  # all members tick at the same instants
    profile: Literal["lan", "swim2002"] = "lan"


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment, cheapest cells first."""
    if scale == "demo":
        return [Cell(Params(1000), 24)]
    quick = scale == "quick"
    sizes = (8, 16, 28, 40, 55, 128, 256, 512, 1000)
    runs = dict(zip(sizes, (400, 400, 200, 150, 120, 80, 40, 16, 8), strict=True))
    if not quick:
        runs = {n: 2000 if n < 512 else 400 for n in sizes}
    grid = [Cell(Params(n, "gaps"), 2 if quick else 10) for n in (8, 16, 28)]
    for n in sizes:
        grid.append(Cell(Params(n), runs[n]))
        if quick and n > 128:
            continue
        grid.append(Cell(Params(n, lifeguard=False), runs[n] // 4 if quick else runs[n]))
        if not quick:
            grid.append(Cell(Params(n, suspicion_mult=5), runs[n]))
            grid.append(Cell(Params(n, suspicion_mult=5, lifeguard=False), runs[n]))
    for n in (28, 128) if quick else sizes:
        pings = 2000 if n < 512 or not quick else 400
        grid.append(Cell(Params(n, "ping"), pings))
        grid.append(Cell(Params(n, "ping", probe_order="random", synchronous=True), pings))
        if not quick:
            grid.append(Cell(Params(n, "ping", probe_order="random"), pings))
            grid.append(Cell(Params(n, "ping", synchronous=True), pings))
    for n in () if quick else (8, 16, 28, 40, 55):
        random = Params(n, "ping", probe_order="random", synchronous=True, profile="swim2002")
        grid.append(Cell(random, 2000))
    return grid


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Cells that differ in the suspicion alone share their random numbers, to be paired."""
    return (params.nodes, params.measure, params.probe_order, params.synchronous, params.profile)


def config_of(params: Params) -> Config:
    """The protocol settings of a cell."""
    config = LAN if params.profile == "lan" else SWIM_2002
    if params.profile == "lan":
        config = replace(config, suspicion_mult=params.suspicion_mult)
    if not params.lifeguard:
        config = replace(config, lha_probe=False, lha_suspicion=False, buddy_system=False)
    return replace(config, probe_order=params.probe_order, stagger=not params.synchronous)


def run(params: Params, seed: int) -> list[Row]:
    """One death: its times after the instant of death, in seconds; None where it never came."""
    config = config_of(params)
    if params.measure == "gaps":
        return _run_gaps(params, config, seed)
    cluster = Cluster(params.nodes, config, seed=seed, record=())
    chance = rng.seed(seed, "fault schedule")
    phase, chance = rng.below(chance, config.probe_interval)
    victim, chance = rng.below(chance, params.nodes)
    cluster.run(config.probe_interval + phase)
    dies = cluster.now
    name = cluster.hosts[victim].name
    watch = Detection(name, (host.name for host in cluster.hosts), dies)
    cluster.observers.append(watch)
    cluster.kill(name)
    if params.measure == "ping":
        cluster.run_until(lambda: watch.first_ping is not None, dies + GIVE_UP)
    else:
        cluster.run_until(lambda: watch.done, dies + GIVE_UP)
    return [
        {
            "t_ping": _after(dies, watch.first_ping),
            "t_suspicion": _after(dies, watch.first_suspicion),
            "t_first": _after(dies, watch.first_detection),
            "t_full": _after(dies, watch.full),
            "informed": len(watch.known_at) / watch.witnesses,
        }
    ]


def _after(start: int, instant: int | None) -> float | None:
    return None if instant is None else (instant - start) / SECOND


def _run_gaps(params: Params, config: Config, seed: int) -> list[Row]:
    """The longest time between two pings of one member by one other, in periods."""
    cluster = Cluster(params.nodes, config, seed=seed, record=("packets",))
    cluster.run(8 * params.nodes * config.probe_interval)
    packets = cluster.trace.packets()
    pings = packets[(packets.kinds == "ping") & (packets.fate == "sent")]
    gaps = pings.groupby(["source", "target"]).time_s.diff()
    return [{"longest_gap": float(gaps.max()) / (config.probe_interval / SECOND)}]


# --- what came of it -------------------------------------------------------------------------

QUANTITIES = {
    "t_ping": "first ping in vain",
    "t_suspicion": "first suspicion",
    "t_first": "first detection",
    "t_full": "all survivors know",
}


def _expected(quantity: str, n: int, mult: int) -> float | None:
    match quantity:
        case "t_ping":
            return theory.first_ping_mean(n, n - 1, 1.0)
        case "t_suspicion":
            return theory.first_suspicion_mean(n, n - 1, 1.0)
        case "t_first":
            return theory.first_detection_mean(n, n - 1, 1.0, mult)
        case _:
            return None


def _main(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the default detector that ran to the end."""
    return rows[(rows.measure == "full") & rows.lifeguard & (rows.suspicion_mult == 4)]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, interval, median and 99th percentile of each time, in seconds, and F1 to F3."""
    lines = []
    for n, group in _main(rows).groupby("nodes"):
        for quantity, words in QUANTITIES.items():
            sample = group[quantity].dropna()
            mean = statistics.mean(sample)
            lines.append(
                {
                    "nodes": n,
                    "quantity": words,
                    "runs": len(sample),
                    "mean_s": mean.value,
                    "low_s": mean.low,
                    "high_s": mean.high,
                    "p50_s": float(np.quantile(sample, 0.5)),
                    "p99_s": float(np.quantile(sample, 0.99)),
                    "expected_s": _expected(quantity, int(str(n)), 4),
                }
            )
    return pd.DataFrame(lines)


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E1, each cell by itself."""
    return [
        *_judge_first_ping(rows),
        *_judge_distribution(rows),
        *_judge_synchronous(rows),
        *_judge_slope(rows),
        *_judge_timeout(rows),
        *_judge_gaps(rows),
        *_judge_completeness(rows),
        *_judge_spread(rows),
    ]


ENOUGH = 30
"""Runs from which on a bootstrap interval is trusted to say no."""


def _close(
    measured: statistics.Interval, runs: int, reference: float, tolerance: float
) -> bool | None:
    """Whether a mean is within ``tolerance`` of the reference; None when that is not known yet.

    It is known to be outside once the whole interval is.
    """
    low, high = reference * (1 - tolerance), reference * (1 + tolerance)
    if low <= measured.value <= high:
        return True
    return None if runs < ENOUGH or (measured.high >= low and measured.low <= high) else False


def _judge_first_ping(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Mean T_ping within 3 % of F1, the interval covering it: at 95 % over all cells together."""
    found = rows[
        (rows.probe_order == "round_robin") & ~rows.synchronous & (rows.profile == "lan")
    ].dropna(subset=["t_ping"])
    # One death shared by paired cells counts once.
    found = found.drop_duplicates(["nodes", "seed"])
    groups = list(found.groupby("nodes"))
    for n, group in groups:
        mean = statistics.mean(group.t_ping, 1 - 0.05 / len(groups))
        reference = theory.first_ping_mean(int(str(n)), int(str(n)) - 1, 1.0)
        passed = _close(mean, len(group), reference, 0.03)
        if not mean.holds(reference):
            passed = False if len(group) >= ENOUGH else None
        yield Verdict(
            f"n={n}: mean first ping as F1 says",
            f"{reference:.3f} s within 3 %, and in the interval",
            f"{mean.value:.3f} s [{mean.low:.3f}, {mean.high:.3f}], {len(group)} runs",
            passed,
        )


def _judge_distribution(rows: pd.DataFrame) -> Iterator[Verdict]:
    """The whole distribution of T_ping is F1's: Kolmogorov-Smirnov at alpha = 0.01."""
    found = rows[(rows.measure == "ping") & (rows.probe_order == "round_robin")]
    found = found[~found.synchronous & (found.profile == "lan")]
    for n, group in found.groupby("nodes"):
        size = int(str(n))
        f1 = partial(theory.first_ping_cdf, n=size, m=size - 1, interval=1.0)
        distance, critical = statistics.kolmogorov(group.t_ping.dropna(), f1)
        yield Verdict(
            f"n={n}: distribution of the first ping is F1's",
            f"Kolmogorov-Smirnov D <= {critical:.4f} (alpha 0.01, {len(group)} runs)",
            f"D = {distance:.4f}",
            distance <= critical,
        )


def _judge_synchronous(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Synchronous random probing hits in period e / (e - 1) on average, for n large."""
    found = rows[(rows.measure == "ping") & (rows.probe_order == "random") & rows.synchronous]
    groups = list(found.groupby(["profile", "nodes"]))
    for key, group in groups:
        profile, n = str(key[0]), int(str(key[1]))
        period = SWIM_2002.probe_interval if profile == "swim2002" else LAN.probe_interval
        periods = np.ceil(group.t_ping.dropna() / (period / SECOND))
        mean = statistics.mean(periods, 1 - 0.05 / len(groups))
        reference = theory.hitting_period_mean(n)
        yield Verdict(
            f"n={n}, {profile}: mean period in which synchronous random probing hits",
            f"1 / (1 - (1 - 1/(n-1))^(n-1)) = {reference:.3f} within 2 %",
            f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], {len(group)} runs",
            _close(mean, len(group), reference, 0.02),
        )


def _judge_slope(rows: pd.DataFrame) -> Iterator[Verdict]:
    """First suspicion does not depend on the size of the group."""
    found = _main(rows)
    found = found[found.nodes >= 28].dropna(subset=["t_suspicion"])
    if found.nodes.nunique() < 2:
        return
    slope = statistics.slope(np.log10(found.nodes.astype(float)), found.t_suspicion)
    yield Verdict(
        "first suspicion does not grow with the cluster (n >= 28)",
        "the interval of the slope on log10 n contains 0",
        f"{slope.value:+.3f} s a decade [{slope.low:+.3f}, {slope.high:+.3f}]",
        slope.holds(0.0),
    )


def _judge_timeout(rows: pd.DataFrame) -> Iterator[Verdict]:
    """From first suspicion to first detection passes S_min; Lifeguard may take longer."""
    found = rows[rows.measure == "full"].dropna(subset=["t_first"])
    for (lifeguard, mult), group in found.groupby(["lifeguard", "suspicion_mult"]):
        wait = group.t_first - group.t_suspicion
        least = group.nodes.map(lambda n, mult=mult: theory.suspicion_min(n, mult, 1.0))
        early, late = float((least - wait).max()), float((wait - least).max())
        fixed = not lifeguard
        yield Verdict(
            f"suspicion lasts S_min (alpha {mult}, {'SWIM' if fixed else 'Lifeguard'})",
            "S_min +- 1 ms" if fixed else "at least S_min - 1 ms",
            f"S_min - {max(0.0, early) * 1000:.3f} ms to + {max(0.0, late) * 1000:.1f} ms",
            early <= 0.001 and (late <= 0.001 or not fixed),
        )


def _judge_gaps(rows: pd.DataFrame) -> Iterator[Verdict]:
    """No observer lets more than 2n - 1 periods pass between two pings of one member."""
    found = rows[rows.measure == "gaps"]
    for n, group in found.groupby("nodes"):
        longest, bound = float(group.longest_gap.max()), 2 * int(str(n)) - 1
        yield Verdict(
            f"n={n}: every observer pings every member in time",
            f"at most 2n - 1 = {bound} periods between two pings",
            f"{longest:.3f} periods",
            longest <= bound,
        )


def _judge_completeness(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Every survivor comes to know of every death."""
    found = rows[rows.measure == "full"]
    if len(found):
        least = float(found.informed.min())
        yield Verdict(
            "every survivor comes to know",
            "100 % of the survivors in every run",
            f"{least:.2%} in the worst of {len(found)} runs",
            least == 1.0,
        )


def _judge_spread(rows: pd.DataFrame) -> Iterator[Verdict]:
    """The last survivor knows shortly after the first."""
    for n, group in _main(rows).groupby("nodes"):
        reference = FULL_SPREAD.get(int(str(n)))
        if reference is not None:
            spread = statistics.mean((group.t_full - group.t_first).dropna())
            yield Verdict(
                f"n={n}: from first detection to everybody",
                f"{reference:.2f} s of the reference model within 20 %",
                f"{spread.value:.3f} s [{spread.low:.3f}, {spread.high:.3f}]",
                _close(spread, len(group), reference, 0.2),
            )


# --- the picture -----------------------------------------------------------------------------

COLOURS = {"t_suspicion": "#0072B2", "t_first": "#E69F00", "t_full": "#009E73"}  # Okabe and Ito
MARKERS = {"t_suspicion": "o", "t_first": "s", "t_full": "^"}


def figure(rows: pd.DataFrame) -> Figure:
    """Times against cluster size, and the survival of T_ping against F1."""
    picture = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = picture.subplots(1, 2)
    main = _main(rows)
    if main.nodes.nunique() > 1:
        _draw_growth(left, main)
    else:
        _draw_distributions(left, main)
    _draw_survival(right, rows)
    picture.suptitle("Detection of a crash: LAN profile, no loss, Lifeguard on", fontsize=11)
    return picture


def _draw_growth(axes: Axes, main: pd.DataFrame) -> None:
    sizes = sorted(main.nodes.unique())
    for quantity, colour in COLOURS.items():
        samples = [main[main.nodes == n][quantity].dropna() for n in sizes]
        means = [statistics.mean(sample) for sample in samples]
        axes.fill_between(
            sizes,
            [np.quantile(sample, 0.5) for sample in samples],
            [np.quantile(sample, 0.99) for sample in samples],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        axes.errorbar(
            sizes,
            [mean.value for mean in means],
            [[m.value - m.low for m in means], [m.high - m.value for m in means]],
            color=colour,
            marker=MARKERS[quantity],
            markersize=5,
            capsize=2,
            linewidth=1.2,
            label=QUANTITIES[quantity],
        )
    grid = np.unique(np.geomspace(min(sizes), max(sizes), 60).astype(int))
    for quantity in ("t_suspicion", "t_first"):
        line = np.array([_expected(quantity, int(n), 4) for n in grid], dtype=np.float64)
        axes.plot(grid, line, "k--", linewidth=1, zorder=3)
    axes.plot([], [], "k--", linewidth=1, label="F2, F3 (analytic mean)")
    period = LAN.probe_interval / SECOND
    published = [periods * period for periods in SWIM_FIG_3A.values()]
    axes.plot(list(SWIM_FIG_3A), published, "kx", label="SWIM (2002) Fig. 3a, suspicion, periods")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend above the bands
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("members n")
    axes.set_ylabel("time after the crash (s)")
    axes.set_title("mean (95 % CI); band: median to 99th percentile", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", ncols=2)


def _draw_distributions(axes: Axes, main: pd.DataFrame) -> None:
    """One size alone: the distribution of each time."""
    n = int(main.nodes.iloc[0])
    for quantity, colour in COLOURS.items():
        sample = np.sort(main[quantity].dropna())
        share = np.arange(1, len(sample) + 1) / len(sample)
        axes.step(sample, share, where="post", color=colour, label=QUANTITIES[quantity])
        mean = _expected(quantity, n, 4)
        if mean is not None:
            axes.axvline(mean, color=colour, linestyle="--", linewidth=1)
    axes.plot([], [], "k--", linewidth=1, label="F2, F3 (analytic mean)")
    axes.set_xlim(left=0)
    axes.set_xlabel("time after the crash (s)")
    axes.set_ylabel(f"share of {len(main)} runs")
    axes.set_title(f"n = {n}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", ncols=2)


def _draw_survival(axes: Axes, rows: pd.DataFrame) -> None:
    """How long the dead member goes unpinged."""
    found = rows[(rows.profile == "lan") & (rows.probe_order == "round_robin") & ~rows.synchronous]
    found = found.dropna(subset=["t_ping"]).drop_duplicates(["nodes", "seed"])
    sizes = found.groupby("nodes").size()
    n = 128 if 128 in sizes.index else int(str(sizes.idxmax()))
    sample = np.sort(found[found.nodes == n].t_ping)
    survival = 1 - np.arange(len(sample)) / len(sample)
    axes.step(
        sample, survival, where="post", color="#0072B2", label=f"measured, {len(sample)} runs"
    )
    reach = math.log(len(sample)) + 1
    grid = np.linspace(0, max(reach, float(sample[-1])), 200)
    axes.plot(grid, 1 - theory.first_ping_cdf(grid, n, n - 1, 1.0), "k--", linewidth=1, label="F1")
    axes.plot(grid, np.exp(-grid), "k:", linewidth=1, label="exponential, mean 1 period")
    axes.set_yscale("log")
    axes.set_ylim(0.5 / len(sample), 1.2)
    axes.set_xlabel("time after the crash (s)")
    axes.set_ylabel("share of runs without a ping so far")
    axes.set_title(f"first ping in vain, n = {n}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
