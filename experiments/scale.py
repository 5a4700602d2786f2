"""E12: do results extrapolate from a thousand members to a hundred thousand?

The same crash, a crash of 1 % of all members at once, and the same piece of news, in groups of a
thousand to a hundred thousand members that each hold the full list; and what they cost in time and
memory. The formulas are those of E1 and E3: suspicion comes as fast as ever, detection grows with
the logarithm in its timeout, news with that of the group (spec experiments.md, E12; F1 to F3, F9).

Nodes hold one table together and own what differs (ARCHITECTURE.md, "Values"), where a plain
simulator would hold n tables of n members. One cell gives every node a table of its own and
compares the two histories; they must be one.

Reduced, for time. A run that only waits for the first suspicion is short, so these are many, and
those that wait until everybody knows are few. 1 % of the members crash up to 10,000, where 100
deaths are a million verdicts already. Streams lose nothing, so that with loss there are no false
suspicions, whose gossip would drown a large group. The event is a metadata update, with probing
off, as in E3.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from msgspec import Struct
from msgspec.structs import astuple

from backends.sim import Cluster, Network
from backends.sim.checks import Inspector, Observer
from backends.sim.host import Host
from backends.sim.network import Bernoulli
from experiments import bench, dissemination, statistics, style, theory
from experiments.experiment import Cell, Row, Scale, Verdict, by_cell
from experiments.statistics import Interval
from swimsim import LAN, SECOND, rng
from swimsim.effects import Effect, Event, Failed, Send, Suspected
from swimsim.inputs import Input
from swimsim.members import build
from swimsim.node import Node, with_table
from swimsim.swim import push_pull
from swimsim.terms import Micros, NodeId

LIMIT = 120 * SECOND  # after a crash; a run that lasts longer is censored
REST = 3 * SECOND
PERIOD_S = LAN.probe_interval / SECOND
DELTA_S = LAN.gossip_interval / SECOND
ALPHA = LAN.suspicion_mult

BESIDE = (999, 9999)  # sizes just below a step of M, not drawn

REPLAY = """
from backends.sim import Cluster
from swimsim import SECOND
cluster = Cluster({nodes}, seed={seed}, record=())
cluster.run(3 * SECOND)
cluster.kill(cluster.hosts[0].name)
cluster.run(30 * SECOND)
print(cluster.digest())
"""


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    what: Literal["suspicion", "crash", "crashes", "news", "rest", "cost", "dense", "replay"]
    """One crash until somebody suspects, or until all know; 1 % crash; one piece of news; packets
    at rest; time and memory; the same run with tables of their own; the same run elsewhere."""
    loss: float = 0.0  # of each packet, by itself


def cells(scale: Scale) -> list[Cell]:
    """The grid of the experiment, cheapest cells first."""
    if scale == "demo":
        return [Cell(Params(1000, "crash"), 8)]
    return _quick() if scale == "quick" else _full()


def _quick() -> list[Cell]:
    grid = [Cell(Params(n, "suspicion"), runs) for n, runs in {1000: 150, 3000: 30}.items()]
    grid += [Cell(Params(n, "crash"), runs) for n, runs in {1000: 4, 3000: 2, 10_000: 1}.items()]
    grid += [Cell(Params(1000, "crash", 0.1), 2), Cell(Params(500, "crashes"), 1)]
    for n, runs in {999: 3, 1000: 6, 3000: 2, 10_000: 1}.items():
        grid += [Cell(Params(n, "news", loss), runs) for loss in (0.0, 0.1)]
    grid += [Cell(Params(n, "rest"), 1) for n in (1000, 10_000)]
    grid += [Cell(Params(n, "cost"), 1) for n in (1000, 10_000)]
    return [*grid, Cell(Params(500, "dense"), 1), Cell(Params(300, "replay"), 1)]


def _full() -> list[Cell]:
    grid = []
    for n, runs in {1000: 1000, 2000: 400, 5000: 200, 10_000: 100, 20_000: 50}.items():
        grid.append(Cell(Params(n, "suspicion"), runs))
    for n, runs in {1000: 20, 2000: 20, 5000: 10, 10_000: 5, 20_000: 3}.items():
        grid.append(Cell(Params(n, "crash"), runs))
    for n, runs in {1000: 10, 5000: 3, 10_000: 2}.items():
        grid.append(Cell(Params(n, "crash", 0.1), runs))
    grid += [Cell(Params(n, "crashes"), runs) for n, runs in {1000: 5, 2000: 3, 5000: 1}.items()]
    sizes = {999: 20, 1000: 20, 2000: 20, 5000: 20, 9999: 10, 10_000: 10, 20_000: 5}
    for n, runs in sizes.items():
        grid += [Cell(Params(n, "news", loss), runs) for loss in (0.0, 0.1)]
    measured = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
    grid += [Cell(Params(n, "rest"), 1) for n in measured]
    grid += [Cell(Params(n, "cost"), 3 if n < 50_000 else 1) for n in measured]
    grid += [Cell(Params(n, "dense"), 1) for n in (1000, 5000)]
    grid += [Cell(Params(1000, "replay"), 1), Cell(Params(10_000, "crashes"), 1)]
    for n in (50_000, 100_000):
        grid += [Cell(Params(n, "suspicion"), 10), Cell(Params(n, "crash"), 1)]
        grid += [Cell(Params(n, "news", loss), 3) for loss in (0.0, 0.1)]
    return [*grid, Cell(Params(100_000, "crash", 0.1), 1)]


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Estimates of different cells are independent of each other."""
    return tuple(str(value) for value in astuple(params))


def run(params: Params, seed: int) -> list[Row]:
    """One run; times are seconds after the crash or the news, None where they never came."""
    match params.what:
        case "suspicion" | "crash" | "crashes":
            return [_run_crash(params, seed)]
        case "news":
            news = dissemination.Params(params.nodes, loss=params.loss)
            return dissemination.run(news, seed)
        case "rest":
            return [_run_rest(params, seed)]
        case "cost":
            cost = bench.apart("warm", params.nodes)
            return [{name: float(value) for name, value in cost.items() if name != "nodes"}]
        case "dense":
            return [_run_dense(params, seed)]
        case "replay":
            return [_run_replay(params, seed)]


# --- crashes ---------------------------------------------------------------------------------


class Toll(Observer):
    """How the deaths of some become known to those who survive.

    As ``checks.Detection``, for many deaths at once: it counts who knows and does not keep whom.
    """

    def __init__(self, victims: list[NodeId], survivors: int) -> None:
        self.suspected_at: dict[NodeId, Micros] = {}
        self.declared_at: dict[NodeId, Micros] = {}  # by the first to do so
        self.verdicts = dict.fromkeys(victims, 0)
        self.missing = len(victims) * survivors
        self.last: Micros = 0
        self.mistaken = 0  # verdicts about somebody who lives

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of suspicions and verdicts."""
        if isinstance(event, Suspected):
            if event.node in self.verdicts:
                self.suspected_at.setdefault(event.node, now)
        elif isinstance(event, Failed):
            if event.node not in self.verdicts:
                self.mistaken += 1
                return
            self.declared_at.setdefault(event.node, now)
            self.verdicts[event.node] += 1
            self.missing -= 1
            self.last = now


def _run_crash(params: Params, seed: int) -> Row:
    loss = Bernoulli(params.loss, hits=("packets",)) if params.loss else None
    cluster = Cluster(params.nodes, network=Network(loss=loss), seed=seed, record=())
    chance = Random(rng.seed(seed, "fault schedule"))
    crashing = params.nodes // 100 if params.what == "crashes" else 1
    victims = [host.name for host in chance.sample(cluster.hosts, crashing)]
    cluster.run(LAN.probe_interval + chance.randrange(LAN.probe_interval))
    died = cluster.now
    toll = Toll(victims, params.nodes - crashing)
    cluster.observers.append(toll)
    for victim in victims:
        cluster.kill(victim)
    over = _suspected(toll) if params.what == "suspicion" else _known(toll)
    cluster.run_until(over, died + LIMIT)
    return {
        "t_suspicion": _mean_after(died, toll.suspected_at.values(), crashing),
        "t_first": _mean_after(died, toll.declared_at.values(), crashing),
        "t_full": None if toll.missing else (toll.last - died) / SECOND,
        "residue": toll.missing / (crashing * (params.nodes - crashing)),
        "mistaken": toll.mistaken,
        "limit_s": LIMIT / SECOND,
    }


def _suspected(toll: Toll) -> Callable[[], bool]:
    return lambda: bool(toll.suspected_at)


def _known(toll: Toll) -> Callable[[], bool]:
    return lambda: not toll.missing


def _mean_after(start: Micros, instants: Iterable[Micros], wanted: int) -> float | None:
    """The mean over the victims; None when it never came for one of them."""
    found = list(instants)
    return float(np.mean(found) - start) / SECOND if len(found) == wanted else None


# --- what it costs, and whether it is the same ------------------------------------------------


class Sent(Inspector):
    """Packets handed to the network."""

    def __init__(self) -> None:
        self.packets = 0

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Count what goes out."""
        self.packets += sum(type(effect) is Send for effect in effects)


def _run_rest(params: Params, seed: int) -> Row:
    cluster = Cluster(params.nodes, seed=seed, record=())
    cluster.run(SECOND)
    sent = Sent()
    cluster.inspectors.append(sent)
    cluster.run_for(REST)
    return {"packets_per_node_s": sent.packets / params.nodes / (REST / SECOND)}


class Dense(Cluster):
    """A cluster whose nodes share no table."""

    def _with_shared_table(self, changed: Node) -> Node:
        return changed


def _run_dense(params: Params, seed: int) -> Row:
    """The same crash with a table that all share and with as many tables as nodes."""
    digests = []
    for kind in (Cluster, Dense):
        cluster = kind(params.nodes, seed=seed, record=())
        if kind is Dense:
            for host in cluster.hosts:
                assert host.node is not None
                host.node = with_table(host.node, build(list(host.node.members)))
        cluster.run(SECOND)
        cluster.kill(cluster.hosts[0].name)
        cluster.run(30 * SECOND)
        digests.append(cluster.digest())
    return {"shared": digests[0], "other": digests[1]}


def _run_replay(params: Params, seed: int) -> Row:
    """The same crash in two processes that order their hash tables differently."""
    program = REPLAY.format(nodes=params.nodes, seed=seed)
    digests = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        digests.append(done.stdout.strip())
    return {"shared": digests[0], "other": digests[1]}


# --- what came of it -------------------------------------------------------------------------

WORDS = {
    "t_suspicion": "first suspicion",
    "t_first": "first detection",
    "t_full": "all survivors know",
    "t50": "half of all have the news",
    "t_all": "all have the news",
}


def _expected(params: Params, quantity: str) -> float | None:
    n, fanout, q = params.nodes, LAN.gossip_nodes, 1 - params.loss
    living = n - (n // 100 if params.what == "crashes" else 1)
    match quantity:
        case "t_suspicion":
            return theory.first_suspicion_mean(n, living, PERIOD_S)
        case "t_first":
            return theory.first_detection_mean(n, living, PERIOD_S, ALPHA)
        case "t50":
            return theory.spread_time(n, fanout, q, DELTA_S, 0.5)
        case "t_all":
            return theory.spread_time_to_all(n, fanout, q, DELTA_S)
        case _:
            return None


def _quantities(params: Params) -> tuple[str, ...]:
    match params.what:
        case "suspicion":
            return ("t_suspicion",)
        case "crash" | "crashes":
            return ("t_suspicion", "t_first", "t_full")
        case "news":
            return ("t50", "t_all")
        case _:
            return ()


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Each time with its interval, and its formula."""
    lines = []
    for params, group in by_cell(rows, Params):
        for quantity in _quantities(params):
            sample = group[quantity].dropna()
            mean = (
                statistics.mean(sample) if len(sample) else Interval(math.nan, math.nan, math.nan)
            )
            lines.append(
                {
                    "nodes": params.nodes,
                    "of": params.what,
                    "loss": params.loss,
                    "quantity": WORDS[quantity],
                    "runs": len(group),
                    "censored": len(group) - len(sample),
                    "mean_s": mean.value,
                    "low_s": mean.low,
                    "high_s": mean.high,
                    "expected_s": _expected(params, quantity),
                }
            )
    return pd.DataFrame(lines)


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a size costs a node, and what the protocol itself derives from it.

    ``_us``: CPU of a node-second, with nothing to do or over 30 s with a crash; ``_kib``: memory.
    """
    lines = []
    for params, group in _of(rows, "cost"):
        packets = rows[(rows.what == "rest") & (rows.nodes == params.nodes)]
        lines.append(
            {
                "nodes": params.nodes,
                "runs": len(group),
                "rest_us": group.rest_us_per_node_s.min(),
                "crash_us": group.span_us_per_node_s.min(),
                "steps_per_s": group.steps_per_s.max(),
                "rest_kib": group.rest_kib_per_node.median(),
                "peak_kib": group.peak_kib_per_node.median(),
                "peak_mib": group.peak_mib.median(),
                "packets_s": packets.packets_per_node_s.mean() if len(packets) else None,
                "M": theory.transmissions(params.nodes, LAN.retransmit_mult),
                "push_pull_s": push_pull.period(params.nodes, LAN) / SECOND,
            }
        )
    return {"cost of a node": pd.DataFrame(lines)} if lines else {}


def _of(
    rows: pd.DataFrame, *kinds: str, loss: float | None = None
) -> Iterator[tuple[Params, pd.DataFrame]]:
    """The cells that ask one of these."""
    for params, group in by_cell(rows, Params):
        if params.what in kinds and (loss is None or params.loss == loss):
            yield params, group


def verdicts(rows: pd.DataFrame) -> list[Verdict]:
    """The acceptance lines of E12."""
    return [
        *_judge_suspicion(rows),
        *_judge_detection(rows),
        *_judge_news(rows),
        *_judge_everybody(rows),
        *_judge_load(rows),
        *_judge_same(rows),
        *_judge_memory(rows),
        *_judge_growth(rows),
    ]


def _label(params: Params) -> str:
    return f"n={params.nodes:,}" + (f", {params.loss:.0%} loss" if params.loss else "")


ENOUGH = 100
"""Runs from which on the interval of a mean of exponential times is trusted to say no."""


def _judge_suspicion(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Mean first suspicion within 5 % of F2, whatever the size."""
    groups = list(_of(rows, "suspicion", loss=0.0))
    for params, group in groups:
        # At 95 % over all cells together.
        mean = statistics.mean(group.t_suspicion.dropna(), 1 - 0.05 / len(groups))
        reference = _expected(params, "t_suspicion")
        assert reference is not None
        yield Verdict(
            f"{_label(params)}: first suspicion as F2 says",
            f"{reference:.3f} s within 5 %",
            f"{mean.value:.3f} s [{mean.low:.3f}, {mean.high:.3f}], {len(group)} runs",
            statistics.judge(mean, 0.95 * reference, 1.05 * reference, len(group), ENOUGH),
        )


def _judge_detection(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Nobody is declared dead before S_min is over, and hardly later: all accusers agree."""
    for params, group in _of(rows, "crash"):
        wait = (group.t_first - group.t_suspicion).dropna()
        least = theory.suspicion_min(params.nodes, ALPHA, PERIOD_S)
        if len(wait):
            yield Verdict(
                f"{_label(params)}: from suspicion to detection passes S_min",
                f"{least:.3f} s within 5 %, and not less",
                f"{wait.min():.3f} to {wait.max():.3f} s in {len(wait)} runs",
                bool(wait.min() >= least - 0.001 and wait.mean() <= 1.05 * least),
            )


def _judge_news(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Mean T50 within 10 % and T_all within 6 % of F9, as in E3; M transmissions a node."""
    for params, group in _of(rows, "news"):
        for quantity, tolerance in (("t50", 0.10), ("t_all", 0.06)):
            sample = group[quantity].dropna()
            reference = _expected(params, quantity)
            if not len(sample) or reference is None:
                continue
            mean = statistics.mean(sample)
            yield Verdict(
                f"{_label(params)}: {WORDS[quantity]} as F9 says",
                f"{reference:.3f} s within {tolerance:.0%}",
                f"{mean.value:.3f} s [{mean.low:.3f}, {mean.high:.3f}], {len(sample)} runs",
                statistics.judge(
                    mean, (1 - tolerance) * reference, (1 + tolerance) * reference, len(sample)
                ),
            )
        m = theory.transmissions(params.nodes, LAN.retransmit_mult)
        packets = float(group.packets_per_node.mean())
        yield Verdict(
            f"{_label(params)}: each node sends the news M times",
            f"M = {m} packets within 1 %",
            f"{packets:.3f}",
            abs(packets / m - 1) <= 0.01,
        )


def _judge_everybody(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Every survivor comes to know of every death, and no living member is declared dead."""
    for params, group in _of(rows, "crash", "crashes"):
        crash = "a crash" if params.what == "crash" else "a crash of 1 %"
        residue, mistaken = float(group.residue.max()), int(group.mistaken.sum())
        yield Verdict(
            f"{_label(params)}: all survivors know of {crash}, and of no other",
            f"residue 0 within {LIMIT // SECOND} s, no false verdict",
            f"residue {residue:.2g}, {mistaken} false verdicts, {len(group)} runs",
            residue == 0 and mistaken == 0,
        )


def _judge_load(rows: pd.DataFrame) -> Iterator[Verdict]:
    """A ping and an ack a period, whatever the size."""
    for params, group in _of(rows, "rest"):
        packets = float(group.packets_per_node_s.mean())
        yield Verdict(
            f"{_label(params)}: packets of a node in a second at rest",
            "2.00 within 1 %",
            f"{packets:.4f}",
            abs(packets / 2 - 1) <= 0.01,
        )


def _judge_same(rows: pd.DataFrame) -> Iterator[Verdict]:
    """Shared tables and tables of their own, one process and another: one history."""
    for params, group in _of(rows, "dense", "replay"):
        dense = params.what == "dense"
        yield Verdict(
            f"{_label(params)}: the same history "
            + ("with a table for each node" if dense else "in another process"),
            "equal digests" if dense else "equal digests, hash tables ordered otherwise",
            f"{group.shared.iloc[0]} and {group.other.iloc[0]}",
            bool((group.shared == group.other).all()),
        )


NODE_KIB = 2000 / 1024
EXCEPTIONS = (
    "A node that is like all others holds about twenty small objects of its own (prober, queue, "
    "timers and their times), and these are Python objects; its member list costs nothing. The "
    "whole stays far below the 4 GiB that are asked for."
)
WORK = (
    "More is done: a death is said 24 times by each of 100,000 members and 16 times by each of "
    "1,000. The rest is memory: what a step touches no longer lies in the processor's caches."
)


def _judge_memory(rows: pd.DataFrame) -> Iterator[Verdict]:
    """2 kB a node, and what differs."""
    for params, group in _of(rows, "cost"):
        if params.nodes < 10_000:
            continue
        at_rest = float(group.rest_kib_per_node.median())
        peak = float(group.peak_kib_per_node.median())
        yield Verdict(
            f"{_label(params)}: memory of a node",
            f"{NODE_KIB:.2f} KiB, and what differs from node to node",
            f"{at_rest:.2f} KiB at rest, {peak:.2f} KiB at the peak of a crash"
            if peak
            else "unknown",
            at_rest <= NODE_KIB if peak else None,
            EXCEPTIONS if peak else "",
        )


def _judge_growth(rows: pd.DataFrame) -> Iterator[Verdict]:
    """A node-second costs at most 1.5 times as much in the largest group as in 1,000 members."""
    cost = rows[rows.what == "cost"]
    largest = cost.nodes.max() if len(cost) else 0
    if largest <= 1000 or not (cost.nodes == 1000).any():
        return
    for column, when in (("rest_us_per_node_s", "at rest"), ("span_us_per_node_s", "with a crash")):
        few = float(cost[cost.nodes == 1000][column].min())
        many = float(cost[cost.nodes == largest][column].min())
        yield Verdict(
            f"CPU of a node-second {when}, from 1,000 to {largest:,} members",
            "grows at most 1.5 times",
            f"{many / few:.2f} times, from {few:.1f} to {many:.1f} us",
            many / few <= 1.5,
            WORK,
        )


# --- the picture -----------------------------------------------------------------------------


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
        found = [(p, g[quantity].dropna()) for p, g in _of(rows, kind, loss=0.0)]
        found = [(p, sample) for p, sample in found if len(sample)]
        if found:
            sizes = [p.nodes for p, _ in found]
            means = [statistics.mean(sample) for _, sample in found]
            style.curve(axes, sizes, means, series, WORDS[quantity])
            lines = [_expected(p, quantity) for p, _ in found]
            if None not in lines:
                is_first = quantity == "t_suspicion"
                style.formula(axes, sizes, np.array(lines, float), "F2, F3" if is_first else "")
    axes.set_ylim(bottom=0)
    style.finish(axes, x="members n", y="time after the crash (s)", log="x", title="one crash")


def _draw_news(axes: Axes, rows: pd.DataFrame) -> None:
    for loss, several in ((0.0, style.SERIES[:2]), (0.1, style.SERIES[2:4])):
        for quantity, series in zip(("t50", "t_all"), several, strict=True):
            found = [(p, g[quantity].dropna()) for p, g in _of(rows, "news", loss=loss)]
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
            lines = np.array([_expected(p, quantity) for p, _ in found], float)
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
