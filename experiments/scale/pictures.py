"""The figure: detection, dissemination and cost against the size of the group."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments import statistics, style
from experiments.scale.findings import WORDS, expected, of

BESIDE = (999, 9999)  # sizes just below a step of M, not drawn


def figure(rows: pd.DataFrame) -> Figure:
    """Detection and dissemination against the size, and what the size costs."""
    picture, (detection, news, cost) = style.figure(
        3, title="From a thousand members to a hundred thousand: LAN profile", width=4.8
    )
    _draw_detection(detection, rows)
    _draw_news(news, rows)
    _draw_cost(cost, rows)
    return picture


def _draw_detection(axes: Axes, rows: pd.DataFrame) -> None:
    for series, (quantity, kind) in zip(
        style.SERIES,
        {"t_suspicion": "suspicion", "t_first": "crash", "t_full": "crash"}.items(),
        strict=False,
    ):
        found = [(p, g[quantity].dropna()) for p, g in of(rows, kind, loss=0.0)]
        found = [(p, sample) for p, sample in found if len(sample)]
        if found:
            sizes = [p.nodes for p, _ in found]
            means = [statistics.mean(sample) for _, sample in found]
            style.curve(axes, sizes, means, series, WORDS[quantity])
            lines = [expected(p, quantity) for p, _ in found]
            if None not in lines:
                is_first = quantity == "t_suspicion"
                style.formula(axes, sizes, np.array(lines, float), "F2, F3" if is_first else "")
    axes.set_ylim(bottom=0)
    style.finish(axes, x="members n", y="time after the crash (s)", log="x", title="one crash")


def _draw_news(axes: Axes, rows: pd.DataFrame) -> None:
    for loss, several in ((0.0, style.SERIES[:2]), (0.1, style.SERIES[2:4])):
        for quantity, series in zip(("t50", "t_all"), several, strict=True):
            found = [(p, g[quantity].dropna()) for p, g in of(rows, "news", loss=loss)]
            found = [(p, sample) for p, sample in found if len(sample) and p.nodes not in BESIDE]
            if not found:
                continue
            sizes = [p.nodes for p, _ in found]
            means = [statistics.mean(sample) for _, sample in found]
            style.curve(
                axes,
                sizes,
                means,
                series,
                f"{WORDS[quantity]}" + (f", {loss:.0%} loss" if loss else ""),
            )
            lines = np.array([expected(p, quantity) for p, _ in found], float)
            style.formula(axes, sizes, lines, "F9" if (loss, quantity) == (0.0, "t50") else "")
    axes.set_ylim(bottom=0)
    style.finish(axes, x="members n", y="time after the update (s)", log="x", title="one update")


def _draw_cost(axes: Axes, rows: pd.DataFrame) -> None:
    found = rows[rows.what == "cost"]
    if found.empty:
        axes.set_axis_off()
        return
    best = found.groupby("nodes").min(numeric_only=True)
    sizes = best.index.to_numpy(float)
    columns = {
        "CPU at rest": best.rest_us_per_node_s / 1e6,
        "CPU with a crash": best.span_us_per_node_s / 1e6,
    }
    for series, (words, each) in zip(style.SERIES, columns.items(), strict=False):
        whole = each.to_numpy(float) * sizes
        slope = _power(sizes, whole)
        style.line(axes, sizes, whole, series, f"{words}, a simulated second{slope}")
    memory = best.peak_kib_per_node.to_numpy(float) * sizes / 1024**2
    sizes, memory = sizes[memory > 0], memory[memory > 0]  # what the libraries take hides a few
    style.line(axes, sizes, memory, style.SERIES[2], f"peak memory{_power(sizes, memory)}")
    style.finish(
        axes, x="members n", y="CPU (s), memory (GiB)", log="xy", title="what the group costs"
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="y", which="minor", labelleft=False)


def _power(sizes: np.ndarray, values: np.ndarray) -> str:
    """The exponent of n, where it can be told."""
    if len(sizes) < 2:
        return ""
    return f": n^{np.polyfit(np.log(sizes), np.log(values), 1)[0]:.2f}"
