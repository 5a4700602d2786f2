"""The figures: removal after mass failures, queues under load, and films of what nodes report."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import statistics, style
from experiments.churn.findings import EVERYWHERE_S, growth, of_kind
from experiments.churn.study import capacity
from experiments.film import cloud
from experiments.style import SERIES


def figure(rows: pd.DataFrame) -> Figure:
    """Removal after mass failures, and queues against the load of updates."""
    picture, (left, right) = style.figure(
        2, title="Mass failure, and more news than gossip carries"
    )
    series = iter(SERIES)
    for params, group in of_kind(rows, "crash"):
        if params.nodes == 128 and params.lifeguard and (line := next(series, None)):
            removed = statistics.survival(group.everywhere_s, group.limit_s)
            style.waiting(left, removed, line, f"{params.crashed} of 128 crash", done=True)
            style.published(left, [EVERYWHERE_S[params.crashed, True]], [0.5], series=line)
    left.plot([], [], "o", color="black", markerfacecolor="none", label="reference model, median")
    left.set_xlim(left=0)
    style.finish(
        left,
        x="time after the crash (s)",
        y="share of runs in which all are removed everywhere",
        title="Lifeguard (95 % band)",
        legend="lower right",
    )
    _draw_queues(right, rows)
    return picture


def _draw_queues(axes: Axes, rows: pd.DataFrame) -> None:
    """The knee: how long queues are in the last third of a run."""
    found = [(params, growth(params, group)) for params, group in of_kind(rows, "queue")]
    if not found:
        axes.set_visible(False)
        return
    n = found[0][0].nodes
    loads = [params.load for params, _ in found]
    style.line(axes, loads, [line["queue_late"] for _, line in found], SERIES[0], "mean over nodes")
    style.line(axes, loads, [line["queue_max"] for _, line in found], SERIES[1], "longest")
    axes.axvline(1, color="black", linestyle="--", linewidth=1, label="F15")
    axes.axhline(n, color="black", linestyle=":", linewidth=1, label="news of every member")
    style.finish(
        axes,
        x=f"offered updates (of F15 = {capacity(n):.1f} a second)",
        y="broadcasts waiting at a node",
        title=f"n = {n}, every member publishes in turn",
        legend="upper left",
    )


def figures(rows: pd.DataFrame) -> dict[str, Figure]:
    """The sizes that nodes report: during a join storm, ten crashes, and a flip-flop."""
    films = [(params, group) for params, group in of_kind(rows, "view") if params.film]
    if not films:
        return {}
    picture, panels = style.figure(len(films), title="Sizes that nodes report, second by second")
    titles = {"join": "{0} join one seed at once", "crash": "{1} of {0} crash",
              "flip-flop": "{2} of {0} hear nothing 20 s in every 40 s"}  # fmt: skip
    for axes, (params, group) in zip(panels, films, strict=True):
        one = group[group.replicate == group.replicate.min()]
        cloud(axes, one, SERIES[0], "a size that nodes report (dot: by how many)")
        style.finish(
            axes,
            x="time (s)",
            y="members believed alive",
            title=titles[params.trouble].format(params.nodes, params.crashed, params.troubled),
            legend=None,
        )
    return {"sizes": picture}
