"""How figures look: one hand for all of them.

Colours are those of Okabe and Ito, in an order in which neighbours differ in lightness too, so
that they can be told apart in grey and by the colour-blind; every series also has its own marker
and line style. Measured: a line with markers and a band, its 95 % interval. Published: hollow
markers. A formula: dashed black, thin. Axes carry their unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from msgspec import Struct
from numpy.typing import ArrayLike

if TYPE_CHECKING:  # scipy takes most of a second to load, which every simulation would wait for
    from experiments.statistics import Interval, Survival

Dash: TypeAlias = Literal["-", "--", "-.", ":"]
Corner: TypeAlias = Literal[
    "best", "upper left", "upper right", "lower left", "lower right", "center right", "center left"
]


class Series(Struct, frozen=True):
    """What tells one line of a figure from the others: colour, marker and dashes."""

    colour: str
    marker: str
    dash: Dash = "-"


SERIES = (
    Series("#0072B2", "o"),  # blue
    Series("#E69F00", "s"),  # orange
    Series("#009E73", "^"),  # green
    Series("#D55E00", "D", "--"),  # vermilion
    Series("#56B4E9", "v", "--"),  # sky
    Series("#CC79A7", "P", "-."),  # purple
    Series("#000000", "X", "-."),  # black
    Series("#7F7F7F", "*", ":"),  # grey
)
"""The series of a figure, in the order in which they are used."""

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, GREY = (series.colour for series in SERIES)
SEQUENTIAL = "cividis"  # a heat map that grey and colour-blind readers see alike


def figure(
    columns: int = 1, rows: int = 1, *, title: str = "", width: float = 5.5, height: float = 4.2
) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, row by row; sizes are those of a panel, in inches."""
    picture = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False)
    if title:
        picture.suptitle(title, fontsize=11)
    return picture, list(panels.ravel())


# --- what is drawn ---------------------------------------------------------------------------


def curve(
    axes: Axes, x: ArrayLike, intervals: Sequence[Interval], series: Series, label: str = ""
) -> None:
    """Estimates with their band."""
    band(axes, x, [i.low for i in intervals], [i.high for i in intervals], series)
    line(axes, x, [i.value for i in intervals], series, label)


def line(axes: Axes, x: ArrayLike, y: ArrayLike, series: Series, label: str = "") -> None:
    """Measured points, joined."""
    axes.plot(
        x,
        y,
        color=series.colour,
        marker=series.marker,
        markersize=5,
        linestyle=series.dash,
        linewidth=1.3,
        label=label or None,
    )


def band(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, series: Series) -> None:
    """Where the truth may lie, or where most runs do: the caption says which."""
    axes.fill_between(x, low, high, color=series.colour, alpha=0.2, linewidth=0)


def formula(axes: Axes, x: ArrayLike, y: ArrayLike, label: str = "", dash: Dash = "--") -> None:
    """What an analysis expects."""
    axes.plot(x, y, color="black", linestyle=dash, linewidth=1, zorder=3, label=label or None)


def published(
    axes: Axes, x: ArrayLike, y: ArrayLike, label: str = "", series: Series | None = None
) -> None:
    """What others measured: hollow markers, in the colour of the series they belong to."""
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=series.marker if series else "o",
        markersize=7,
        markerfacecolor="none",
        markeredgewidth=1.2,
        color=series.colour if series else "black",
        zorder=4,
        label=label or None,
    )


def ecdf(axes: Axes, sample: ArrayLike, series: Series, label: str = "") -> None:
    """The share of a sample at or below each value."""
    values = np.sort(np.asarray(sample, dtype=np.float64))
    share = np.arange(len(values) + 1) / len(values)
    start = np.concatenate([values[:1], values])
    axes.step(
        start,
        share,
        where="post",
        color=series.colour,
        linestyle=series.dash,
        linewidth=1.3,
        label=label or None,
    )


def waiting(
    axes: Axes, found: Survival, series: Series, label: str = "", *, done: bool = False
) -> None:
    """Who still waits (or, ``done``, who no longer does) over time, with the interval."""
    curves = (found.waiting, found.low, found.high)
    middle, low, high = (
        np.concatenate([[1.0], one]) if not done else 1 - np.concatenate([[1.0], one])
        for one in curves
    )
    times = np.concatenate([[0.0], found.times])
    axes.fill_between(times, low, high, step="post", color=series.colour, alpha=0.2, linewidth=0)
    axes.step(
        times,
        middle,
        where="post",
        color=series.colour,
        linestyle=series.dash,
        linewidth=1.3,
        label=label or None,
    )


# --- the frame around it ---------------------------------------------------------------------


def finish(
    axes: Axes,
    *,
    x: str,
    y: str,
    title: str = "",
    log: Literal["", "x", "y", "xy"] = "",
    ticks: Sequence[float] = (),
    legend: Corner | None = "best",
) -> None:
    """Label a panel. ``x`` and ``y`` name quantity and unit: "members n", "time (s)".

    ``ticks`` are the values of x that were measured, where there are few.
    """
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title, fontsize=9)
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    if ticks:
        axes.set_xticks(list(ticks), [f"{tick:,g}" for tick in ticks])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    elif "x" in log:
        axes.xaxis.set_major_locator(LogLocator(numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.grid(alpha=0.3, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend and axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, loc=legend, frameon=False)
