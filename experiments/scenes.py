"""Pictures of single runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from backends.sim.cluster import Cluster
from backends.sim.faults import Fault
from swimsim.terms import SECOND, NodeId

BLUE, VERMILION = "#0072B2", "#D55E00"  # Okabe and Ito
POINTS = 400


def membership(cluster: Cluster, faults: Sequence[Fault] = ()) -> Figure:
    """How many members the nodes of a run believed present, over time, and when faults struck.

    The band spans all nodes that run, the line is their median; the lower panel counts the
    suspicions in force at all nodes.
    """
    events = cluster.trace.events()
    grid = np.linspace(0, cluster.now / SECOND, POINTS)
    sizes = _sizes(events, [host.name for host in cluster.hosts], cluster.settled, grid)
    sizes[~_running(cluster, grid)] = np.nan
    picture = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    least, median, most = np.nanquantile(sizes, [0, 0.5, 1], axis=0)
    upper.fill_between(
        grid, least, most, color=BLUE, alpha=0.2, linewidth=0, label="all running nodes"
    )
    upper.plot(grid, median, color=BLUE, label="median node")
    upper.set_ylabel("members believed present")
    upper.set_ylim(bottom=0)
    lower.step(grid, _suspicions(events, grid), where="post", color=VERMILION)
    lower.set_ylabel("suspicions\nin force")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("simulated time (s)")
    for at, kinds in _strikes(faults).items():
        for axes in (upper, lower):
            axes.axvline(at, color="0.4", linestyle=":", linewidth=1)
        upper.annotate(
            kinds,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-2, -3),
            textcoords="offset points",
            rotation=90,
            fontsize=7,
            va="top",
            ha="right",
            color="0.3",
        )
    upper.legend(loc="lower left", fontsize=8)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return picture


def _strikes(faults: Sequence[Fault]) -> dict[float, str]:
    named: dict[float, str] = {}
    for fault in faults:
        kind, at = type(fault).__name__.lower(), fault.at / SECOND
        named[at] = f"{named[at]}, {kind}" if at in named else kind
    return named


def _sizes(
    events: pd.DataFrame, observers: list[str], settled: int, grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Members present in the view of each observer at each time; nan before it begins."""
    sizes = np.full((len(observers), len(grid)), np.nan)
    by_observer = {str(name): group for name, group in events.groupby("observer", sort=False)}
    for row, name in enumerate(observers):
        size = settled if row < settled else 0
        times, values = [0.0], [float(size) if size else np.nan]
        for event in by_observer.get(name, events.iloc[:0]).itertuples():
            if event.event == "joined":
                size = 1 if event.member == name else size + 1  # a new life begins with itself
            elif event.event in ("failed", "left"):
                size -= 1
            else:
                continue
            times.append(float(str(event.time_s)))
            values.append(float(size))
        sizes[row] = np.asarray(values)[np.searchsorted(times, grid, "right") - 1]
    return sizes


def _running(cluster: Cluster, grid: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which nodes run at which times."""
    row = {host.name: host.index for host in cluster.hosts}
    running = np.zeros((len(row), len(grid)), dtype=np.bool_)
    for life in cluster.trace.lives().itertuples():
        began, ended = float(str(life.began_s)), float(str(life.ended_s))
        running[row[NodeId(str(life.node))]] |= (grid >= began) & ~(grid >= ended)
    return running


def _suspicions(events: pd.DataFrame, grid: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many suspicions are in force at each time, all nodes together."""
    running: set[tuple[str, str]] = set()
    times, counts = [0.0], [0]
    for event in events.itertuples():
        pair = (str(event.observer), str(event.member))
        if event.event == "suspected":
            running.add(pair)
        elif pair in running and event.event in ("cleared", "failed", "left", "joined"):
            running.discard(pair)
        else:
            continue
        times.append(float(str(event.time_s)))
        counts.append(len(running))
    return np.asarray(counts)[np.searchsorted(times, grid, "right") - 1]
