"""The two worlds side by side: the margins of E11, and the distributions of the times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec.structs import replace
from scipy import stats

from experiments import statistics
from experiments.experiment import Verdict
from swimsim import SECOND

IDLE = 0.3  # the least share of idle time that a comparison stands on

TIMES = {
    "t_ping": "first ping in vain",
    "t_suspicion": "first suspicion",
    "t_first": "first detection",
    "t_full": "all know",
    "t_told": "an event reaches a member",  # the mean over the members
    "t_all_told": "an event reaches all",
}


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean, median and 90th percentile of each time in both worlds, and the load."""
    lines = []
    for n, group in rows.groupby("nodes"):
        worlds = {str(world): part for world, part in group.groupby("world")}
        for quantity, words in TIMES.items():
            line: dict[str, Any] = {"nodes": n, "quantity": words}
            for world in ("real", "simulated"):
                sample = worlds[world][quantity].dropna()
                line[f"{world}_mean_s"] = float(sample.mean())
                line[f"{world}_p50_s"] = float(np.quantile(sample, 0.5))
                line[f"{world}_p90_s"] = float(np.quantile(sample, 0.9))
            lines.append(line)
    return pd.DataFrame(lines)


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The margins of E11 for each group and time."""
    found: list[Verdict] = []
    excuses: list[str] = []
    for n, group in rows.groupby("nodes"):
        real, simulated = (group[group.world == world] for world in ("real", "simulated"))
        interval = float(group.probe_interval.iloc[0]) / SECOND
        found.append(_judge_bytes(f"n={n}", real))
        judged = [
            _judge_load(f"n={n}", real, simulated),
            _judge_misses(f"n={n}", real, simulated),
        ]
        for quantity, words in TIMES.items():
            judged += _judge(f"n={n}: {words}", real[quantity], simulated[quantity], interval)
        idleness = _judge_idleness(f"n={n}", real)
        busy = "" if idleness.passed is not False else f"busy machine, {idleness.measured}"
        excuses.append(busy)
        found += [idleness, *(replace(each, explanation=busy) for each in judged)]
        wrong = int(real.false_positives.sum()), int(simulated.false_positives.sum())
        found.append(
            Verdict(
                f"n={n}: nobody is wronged in either world",
                "0 and 0 false positives",
                f"real {wrong[0]}, simulated {wrong[1]}",
                wrong == (0, 0),
            )
        )
    found.append(replace(_judge_together(rows), explanation=max(excuses)))
    return found


def _judge_together(rows: pd.DataFrame) -> Verdict:
    """All distributions at once: is there one that chance does not explain?"""
    chances: dict[str, float] = {}
    for n, group in rows.groupby("nodes"):
        worlds = [group[group.world == world] for world in ("real", "simulated")]
        for quantity, words in TIMES.items():
            ours, theirs = (part[quantity].dropna() for part in worlds)
            if min(len(ours), len(theirs)) > 1:
                chances[f"n={n}: {words}"] = float(stats.ks_2samp(ours, theirs).pvalue)
    corrected = dict(zip(chances, statistics.holm(list(chances.values())), strict=True))
    least = min(corrected, key=corrected.__getitem__, default=None)
    return Verdict(
        "all distributions together",
        "Kolmogorov-Smirnov with Holm's correction, p >= 0.01 in every cell",
        "too few times" if least is None else f"least p = {corrected[least]:.2g}, {least}",
        None if least is None else corrected[least] >= 0.01,
        binding=False,
    )


def _judge(
    what: str, real: pd.Series[float], simulated: pd.Series[float], interval: float
) -> Iterator[Verdict]:
    """Equivalence within the margins, by the 90 % bootstrap interval of the difference."""
    a, b = real.dropna().to_numpy(), simulated.dropna().to_numpy()
    if min(len(a), len(b)) < 2:
        yield Verdict(what, "the worlds agree", f"{len(a)} times, {len(b)} simulated", None)
        return
    least = max(interval / 5 / 4, 0.005)  # a quarter of a gossip interval, 5 ms
    measures: list[tuple[str, statistics.Measure, float]] = [
        ("mean", np.mean, 0.05),
        ("median", np.median, 0.05),
        ("90th percentile", statistics.percentile(0.9), 0.08),
    ]
    for name, measure, share in measures:
        margin = max(share * float(measure(b)), least)
        tost = statistics.equivalent(a, b, margin, measure)
        low, high = tost.difference.low, tost.difference.high
        yield Verdict(
            f"{what}, {name}",
            f"the worlds differ by at most {margin * 1000:.0f} ms",
            f"real - simulated in [{low * 1000:+.0f}, {high * 1000:+.0f}] ms, {len(a)} times",
            tost.passed if tost.passed or len(a) >= statistics.ENOUGH else None,
        )
    distance, critical = statistics.ks_two(a, b)
    bound = max(0.12, critical)
    yield Verdict(
        f"{what}, distribution",
        f"Kolmogorov-Smirnov D <= {bound:.3f} (0.12, or chance at this size)",
        f"D = {distance:.3f}",
        distance <= bound,
    )


def _judge_misses(what: str, real: pd.DataFrame, simulated: pd.DataFrame) -> Verdict:
    """Whether gossip leaves as many members out: events whose last member a push/pull told."""
    ours, theirs = (part.missed.dropna() for part in (real, simulated))
    counts = [[int((part > 0).sum()), int((part == 0).sum())] for part in (ours, theirs)]
    chance = float(stats.fisher_exact(np.array(counts)).pvalue)
    return Verdict(
        f"{what}: events that gossip does not bring to all",
        "as many in both worlds (Fisher's exact test, p >= 0.01)",
        f"real {counts[0][0]} of {len(ours)}, simulated {counts[1][0]} of {len(theirs)}, "
        f"p = {chance:.2g}",
        chance >= 0.01,
        binding=False,
    )


def _judge_bytes(what: str, real: pd.DataFrame) -> Verdict:
    """Bytes exact for each type of message: of each kind of packet, all that were sent."""
    kinds = real.dropna(subset=["kind"])
    kinds = kinds.groupby("kind", as_index=False)[["packets", "bytes", "foreseen"]].sum()
    wrong = kinds[kinds.bytes != kinds.foreseen]
    told = "; ".join(
        f"{row.kind}: {row.bytes:.0f} instead of {row.foreseen:.0f}" for row in wrong.itertuples()
    )
    return Verdict(
        f"{what}: bytes of packets",
        "for each kind of packet exactly what the simulator counts",
        told or f"{len(kinds)} kinds, {kinds.packets.sum():.0f} packets, all exact",
        wrong.empty and not kinds.empty,
    )


def _judge_idleness(what: str, real: pd.DataFrame) -> Verdict:
    shares = real.cpu_idle.dropna()
    busy = int((shares < IDLE).sum())
    return Verdict(
        f"{what}: the machine had time",
        f"{IDLE:.0%} of the processors idle in each second of a crash and of an event",
        f"less beside {busy} of {len(shares)} crashes and events, least {shares.min():.0%}"
        if len(shares)
        else "unknown",
        not busy if len(shares) else None,
        binding=False,
    )


def _judge_load(what: str, real: pd.DataFrame, simulated: pd.DataFrame) -> Verdict:
    ours, theirs = (float(part.packets_node_s.dropna().mean()) for part in (real, simulated))
    return Verdict(
        f"{what}: packets sent by a quiet member",
        "within 2 %",
        f"real {ours:.3f}, simulated {theirs:.3f} for each second",
        abs(ours - theirs) <= 0.02 * theirs,
    )


def figure(rows: pd.DataFrame) -> Figure:
    """The distributions of both worlds, one panel a group."""
    sizes = sorted(rows.nodes.unique())
    picture = Figure(figsize=(5.5 * len(sizes), 5.2), layout="constrained")
    for axes, n in zip(np.atleast_1d(picture.subplots(1, len(sizes))), sizes, strict=True):
        _draw(axes, rows[rows.nodes == n], int(n))
    handles, labels = picture.axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    picture.suptitle("Crashes among real processes and in the simulator", fontsize=11)
    return picture


def _draw(axes: Axes, rows: pd.DataFrame, n: int) -> None:
    colours = {
        "t_told": "#CC79A7",
        "t_all_told": "#D55E00",
        "t_ping": "#56B4E9",
        "t_suspicion": "#0072B2",
        "t_first": "#E69F00",
        "t_full": "#009E73",
    }
    for quantity, colour in colours.items():
        for world, style in (("real", "-"), ("simulated", "--")):
            sample = np.sort(rows[rows.world == world][quantity].dropna())
            share = np.arange(1, len(sample) + 1) / len(sample)
            label = f"{TIMES[quantity]}, {world}"
            axes.step(sample, share, where="post", color=colour, linestyle=style, label=label)
    crashes = rows[rows.world == "real"].t_first.count()
    axes.set_xlabel("time after the crash, or the event (s)")
    axes.set_ylabel("share of crashes, or events")
    axes.set_title(f"{n} members, {crashes:,} real crashes, timers at 1/5", fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
