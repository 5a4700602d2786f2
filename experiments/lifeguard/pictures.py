"""The figures: slander by C (Figs. 2 and 3), latencies (Table V), tuning (Table VII)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import statistics, style
from experiments.lifeguard.grid import ENDS
from experiments.lifeguard.judgement import (
    GRID,
    QUANTITIES,
    SHARES,
    Quantity,
    latency,
    latency_percent,
    part,
    percent,
    same_replicates,
    tuned,
)
from experiments.lifeguard.published import (
    AT_HEALTHY,
    BLOCKED,
    FALSE_POSITIVES,
    REPETITIONS,
    TABLE,
    TUNING,
)
from experiments.lifeguard.study import PROTOCOLS
from experiments.style import SERIES

Setting: TypeAlias = tuple[int, int]  # alpha and beta

LINES = dict(zip(PROTOCOLS, SERIES, strict=False))


def figure(rows: pd.DataFrame) -> Figure:
    """Figs. 2 and 3 of the paper: false positives by the number of blocked members.

    Bands are what resampling the combinations of D and I gives: few of them make most of it.
    """
    picture, (left, right) = style.figure(2, title="False positives of one repetition of the grid")
    for axes, column, published, title in (
        (left, "false_positives", FALSE_POSITIVES, "at all members (Fig. 2)"),
        (right, "at_healthy", AT_HEALTHY, "at members that do not block (Fig. 3)"),
    ):
        for protocol, series in LINES.items():
            runs = part(rows, "interval", protocol)
            counts = runs[column] * GRID / len(BLOCKED)
            each = [(c, counts[runs.blocked == c]) for c in BLOCKED if (runs.blocked == c).any()]
            means = [statistics.mean(count) for _, count in each]
            style.curve(axes, [c for c, _ in each], means, series, protocol)
            paper = np.array(published[protocol]) / REPETITIONS
            style.published(axes, BLOCKED, paper, series=series)
        axes.plot([], [], "o", color="black", markerfacecolor="none", label="the paper")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(bottom=0)
        style.finish(
            axes,
            x="blocked members C",
            y="false positives (events)",
            ticks=BLOCKED,
            title=title,
            legend="best" if axes is left else None,
        )
    return picture


def figures(rows: pd.DataFrame) -> dict[str, Figure]:
    """Latencies with Table V's percentiles, and the tuning map."""
    return {"latency": _latency(rows), "tuning": _tuning(rows)}


def _latency(rows: pd.DataFrame) -> Figure:
    picture, panels = style.figure(2, title="One block of 16.4 or 32.8 s: when it is detected")
    for axes, (quantity, words) in zip(panels, QUANTITIES.items(), strict=True):
        for protocol, series in LINES.items():
            found = part(rows, "threshold", protocol, "detection")
            found = found[(found.alpha == 5) & (found.beta == 6)]
            if protocol in ENDS and len(found[quantity].dropna()) >= 50:
                _draw_band(axes, found, quantity, series)
            _draw_tail(axes, np.sort(found[quantity].dropna()), series, protocol)
            paper = TABLE[protocol].first if quantity == "first_s" else TABLE[protocol].full
            style.published(axes, paper, [1 - share for share in SHARES], series=series)
        axes.plot([], [], "o", color="black", markerfacecolor="none", label="the paper's Table V")
        style.finish(
            axes,
            x="time after the block began (s)",
            y="share of blocks not detected by then",
            log="y",
            title=words,
        )
    return picture


def _draw_band(axes: Axes, found: pd.DataFrame, quantity: Quantity, series: style.Series) -> None:
    """Where resampled runs put each percentile, 95 %."""
    shares = 1 - np.geomspace(0.9, max(2e-3, 5 / len(found)), 30)
    ends = [latency(found, quantity, float(share)) for share in shares]
    axes.fill_betweenx(
        1 - shares,
        [end.low for end in ends],
        [end.high for end in ends],
        color=series.colour,
        alpha=0.15,
        linewidth=0,
    )


def _draw_tail(axes: Axes, times: np.ndarray, series: style.Series, label: str) -> None:
    if len(times):
        left = 1 - np.arange(len(times)) / len(times)
        axes.step(times, left, where="pre", color=series.colour, linestyle=series.dash,
                  linewidth=1.3, label=f"{label}, {len(times)}")  # fmt: skip


def _tuning(rows: pd.DataFrame) -> Figure:
    """Three maps over alpha and beta, ours above the paper's in each square."""
    picture, panels = style.figure(
        3, title="Lifeguard in % of SWIM, by alpha and beta (below: the paper)", width=4, height=3.6
    )
    found = part(rows, "threshold", kind="detection")
    swim, runs = found[found.protocol == "swim"], part(rows, "tuning")

    def share_of(setting: Setting, share: float) -> float:
        ours = tuned(found, *setting)
        return latency_percent(ours, same_replicates(swim, ours), "first_s", share).value

    reference = runs[runs.protocol == "swim"]

    maps: list[tuple[str, dict[Setting, float], dict[Setting, float]]] = [
        (
            f"first detection, {name}",
            {key: share_of(key, share) for key in TUNING},
            {key: paper.first[place] for key, paper in TUNING.items()},
        )
        for place, (name, share) in enumerate((("median", 0.5), ("p99", 0.99)))
    ]
    slander = {
        key: percent(tuned(runs, *key), reference, "false_positives")[0].value for key in TUNING
    }
    published = {key: paper.false_positives for key, paper in TUNING.items()}
    for axes, (title, ours, theirs) in zip(
        panels, [*maps, ("false positives", slander, published)], strict=True
    ):
        _draw_map(axes, ours, theirs)
        style.finish(axes, x="beta", y="alpha", title=title, legend=None)
        axes.grid(visible=False)
    return picture


def _draw_map(axes: Axes, ours: dict[Setting, float], paper: dict[Setting, float]) -> None:
    alphas, betas = sorted({a for a, _ in ours}), sorted({b for _, b in ours})
    grid = np.array([[ours[a, b] for b in betas] for a in alphas])
    axes.imshow(grid, cmap=style.SEQUENTIAL, vmin=0, vmax=110, origin="lower", aspect="auto")
    for y, a in enumerate(alphas):
        for x, b in enumerate(betas):
            dark = not grid[y, x] > 55
            text = f"{grid[y, x]:.1f}\n({paper[a, b]:.1f})"
            axes.text(x, y, text, ha="center", va="center", fontsize=9,
                      color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(betas)), [str(b) for b in betas])
    axes.set_yticks(range(len(alphas)), [str(a) for a in alphas])
