"""Pictures of single runs, and of the networks they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from backends.sim.cluster import Cluster
from backends.sim.faults import Churn, Degrade, Fault, Flap, Partition, Pause, Slow
from experiments.style import BLUE, SERIES, VERMILION
from swimsim.terms import SECOND, NodeId

POINTS = 400
MOST_EDGES = 600  # more are a black disc


def membership(cluster: Cluster, faults: Sequence[Fault] = (), title: str = "") -> Figure:
    """How many members the nodes of a run believed present, over time, and when faults struck.

    Dotted lines are faults, dashed ones their ends. The band spans all nodes that run, the line
    is their median; the lower panel counts the suspicions in force at all nodes.
    """
    events = cluster.trace.events()
    grid = np.linspace(0, cluster.now / SECOND, POINTS)
    sizes = _sizes(events, [host.name for host in cluster.hosts], cluster.settled, grid)
    sizes[~_running(cluster, grid)] = np.nan
    picture = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = picture.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    anybody = ~np.isnan(sizes).all(axis=0)
    least, median, most = np.full((3, len(grid)), np.nan)
    if anybody.any():
        bands = np.nanquantile(sizes[:, anybody], [0, 0.5, 1], axis=0)
        least[anybody], median[anybody], most[anybody] = bands
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
    for named, dash in ((_strikes(faults), ":"), (_ends(faults), "--")):
        for at, kinds in named.items():
            if at > grid[-1]:
                continue
            for axes in (upper, lower):
                axes.axvline(at, color="0.4", linestyle=dash, linewidth=1)
            upper.annotate(
                kinds,
                (at, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2),
                textcoords="offset points",
                rotation=35,
                fontsize=7,
                va="bottom",
                ha="left",
                color="0.3",
            )
    if title:
        picture.suptitle(title, fontsize=10)
    upper.legend(loc="lower left", fontsize=8)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return picture


def topology(graph: nx.Graph[Any]) -> Figure:
    """A network: sites at their longitude and latitude where they have one, else where it is neat.

    Sites of one region share a colour and a marker. Of a network with very many links those of the
    least latency are drawn.
    """
    picture = Figure(figsize=(8, 5), layout="constrained")
    axes = picture.subplots()
    data = graph.nodes(data=True)
    on_earth = all("longitude" in told and "latitude" in told for _, told in data)
    places = (
        {node: (told["longitude"], told["latitude"]) for node, told in data}
        if on_earth
        else nx.kamada_kawai_layout(graph, weight="latency_ms")
    )
    weights = nx.get_edge_attributes(graph, "latency_ms")
    links = sorted(weights, key=lambda link: weights[link])[:MOST_EDGES]
    nx.draw_networkx_edges(graph, places, links, ax=axes, edge_color="0.75", width=0.6)
    kinds = sorted({str(told.get("region", _kind(graph, node))) for node, told in data})
    for number, kind in enumerate(kinds):
        series = SERIES[number % len(SERIES)]
        chosen = [n for n, told in data if str(told.get("region", _kind(graph, n))) == kind]
        x, y = zip(*(places[node] for node in chosen), strict=True)
        axes.plot(
            x, y, series.marker, color=series.colour, markersize=6, label=kind, linestyle="none"
        )
    if on_earth:
        axes.tick_params(left=True, bottom=True, labelleft=True, labelbottom=True)
        axes.set_xlabel("longitude (degrees)")
        axes.set_ylabel("latitude (degrees)")
    else:
        axes.set_axis_off()
    axes.legend(fontsize=8, frameon=False)
    shown = "" if len(links) == graph.number_of_edges() else f", the {len(links)} shortest drawn"
    name = graph.graph.get("name") or "network"
    axes.set_title(
        f"{name}: {graph.number_of_nodes()} nodes, {graph.number_of_edges()} links{shown}",
        fontsize=10,
    )
    return picture


def _kind(graph: nx.Graph[Any], node: Any) -> str:
    some_are_hosts = any(told for _, told in graph.nodes(data="hosts"))
    return "host" if not some_are_hosts or graph.nodes[node].get("hosts") else "switch"


def _strikes(faults: Sequence[Fault]) -> dict[float, str]:
    named: dict[float, str] = {}
    for fault in faults:
        kind, at = type(fault).__name__.lower(), fault.at / SECOND
        named[at] = f"{named[at]}, {kind}" if at in named else kind
    return named


def _ends(faults: Sequence[Fault]) -> dict[float, str]:
    """When faults end by themselves, as far as their schedule tells."""
    named: dict[float, str] = {}
    for fault in faults:
        match fault:
            case Partition(heal_after=lasts) if lasts:
                end, word = fault.at + lasts, "heals"
            case Pause(duration=lasts) | Slow(duration=lasts) | Degrade(duration=lasts) if lasts:
                end, word = fault.at + lasts, f"{type(fault).__name__.lower()} ends"
            case Flap(until=until) | Churn(until=until):
                end, word = until, f"{type(fault).__name__.lower()} ends"
            case _:
                continue
        at = end / SECOND
        named[at] = f"{named[at]}, {word}" if at in named else word
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
