"""E11: is the simulated world a faithful model of the real one?

The same protocol code runs in real processes, one for each member, on loopback, and under SimPy,
with the same configuration: timers scaled down, so that a crash is over in seconds. One member
after the other is killed with SIGKILL, its death becomes known, it is started again and the
group settles. Beforehand a quiet time is measured: the round trips of probes and the packets
that each member sends. The simulator takes its latency from those round trips and nothing else;
then the times of the crashes lie side by side (spec experiments.md, E11, first version: no
loss, no pauses; times from first suspicion on).

A process that does not get the processor when it wants it is late, and the machine's other work
is in the results. So the processors' idle time is taken down each second; where less than 30 %
of it was left, a margin that is not kept is explained by that, and the run says nothing about
the model: repeat it on a machine with nothing else to do.

A member is a process of ``experiments.member``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from random import Random
from threading import Event, Thread
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct
from msgspec.structs import replace
from scipy import stats

from backends.sim import Cluster, Network
from backends.sim.checks import Detection, FalsePositives
from backends.sim.network import LogNormal
from experiments.experiment import Cell, Row, Scale, Verdict
from experiments.member import Orders
from swimsim import LAN, MS, SECOND, Config, Micros, rng

PATIENCE_S = 60.0
BURIAL_S = 5.0
STAT = Path("/proc/stat")
IDLE = 0.3  # the least share of idle time that a comparison stands on
ALONE = True
"""Runs must not share the machine with each other."""


class Params(Struct, frozen=True):
    """One cell: a group, and how many crashes a run of it has."""

    nodes: int
    crashes: int
    probe_interval: Micros = 200 * MS  # everything else is scaled with it
    quiet: Micros = 5 * SECOND  # measured before the first crash


def cells(scale: Scale) -> list[Cell]:
    """Groups of 16 and 32; in a full run 300 crashes of each."""
    if scale == "demo":
        return [Cell(Params(8, 8), 1)]
    crashes = 300 if scale == "full" else 12
    return [Cell(Params(nodes, crashes), 1) for nodes in (16, 32)]


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Each size has its own random numbers."""
    return (params.nodes,)


def config_of(params: Params) -> Config:
    """The LAN profile with every time in the proportion of the probe interval."""
    share = params.probe_interval
    return replace(
        LAN,
        probe_interval=share,
        probe_timeout=share // 2,
        gossip_interval=share // 5,
        gossip_to_the_dead_time=30 * share,
        push_pull_interval=30 * share,
        reconnect_interval=0,
        stream_timeout=10 * share,
    )


def run(params: Params, seed: int) -> list[Row]:
    """Real crashes, then ten times as many simulated ones with the latency that was measured."""
    real = RealGroup(params, seed)
    try:
        quiet = real.settle()
        rows = [{"world": "real", **real.crash(), **quiet} for _ in range(params.crashes)]
    finally:
        real.end()
    latency = LogNormal(max(1, int(quiet["rtt_us"] / 2)), quiet["rtt_sigma"])
    return rows + [
        {"world": "simulated", **row, "rtt_us": quiet["rtt_us"], "rtt_sigma": quiet["rtt_sigma"]}
        for row in _simulated(params, seed, latency)
    ]


# --- the simulated world -----------------------------------------------------------------------


def _simulated(params: Params, seed: int, latency: LogNormal) -> Iterator[Row]:
    config = config_of(params)
    for number in range(10 * params.crashes):
        own = rng.seed(seed, "simulated", number)
        record: tuple[Any, ...] = ("messages",) if number == 0 else ()
        cluster = Cluster(params.nodes, config, Network(latency=latency), seed=own, record=record)
        phase, own = rng.below(own, params.probe_interval)
        victim, own = rng.below(own, params.nodes)
        load: Row = {}
        if number == 0:
            cluster.run(params.quiet)
            load = _load(cluster, params)
        cluster.run_for(2 * params.probe_interval + phase)
        name = cluster.hosts[victim].name
        wrong = FalsePositives()
        watch = Detection(name, (host.name for host in cluster.hosts), cluster.now)
        cluster.observers += [watch, wrong]
        cluster.kill(name)
        cluster.run_until(lambda watch=watch: watch.done, cluster.now + 600 * SECOND)  # type: ignore[misc]
        yield {
            "t_suspicion": _since(watch.ended, watch.first_suspicion),
            "t_first": _since(watch.ended, watch.first_detection),
            "t_full": _since(watch.ended, watch.full),
            "false_positives": len(wrong.found),
            **load,
        }


def _since(start: Micros, instant: Micros | None) -> float | None:
    return None if instant is None else (instant - start) / SECOND


def _load(cluster: Cluster, params: Params) -> Row:
    counts = cluster.trace.messages()
    sent = counts[(counts.kind == "packet") & (counts.fate == "sent")]
    node_s = params.nodes * params.quiet / SECOND
    return {
        "packets_node_s": sent.messages.sum() / node_s,
        "bytes_node_s": sent.bytes.sum() / node_s,
    }


# --- the real world ----------------------------------------------------------------------------


class Idleness:
    """Which share of the processors' time nobody wanted, second by second."""

    def __init__(self) -> None:
        self._shares: list[float] = []
        self._ended = Event()
        Thread(target=self._watch, daemon=True).start()

    def mark(self) -> None:
        """Begin anew."""
        self._shares.clear()

    def least(self) -> float | None:
        """The share in the busiest second since the mark; None: none is over, or not known."""
        return min(self._shares, default=None)

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _watch(self) -> None:
        with suppress(OSError):  # not Linux
            before = _processor_times()
            while not self._ended.wait(1.0):
                now = _processor_times()
                idle, total = (new - old for new, old in zip(now, before, strict=True))
                self._shares.append(idle / max(1, total))
                before = now


def _processor_times() -> tuple[int, int]:
    """Idle time and all time so far, of all processors together."""
    numbers = [
        int(word) for word in STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    ]
    return numbers[3] + numbers[4], sum(numbers)


class Said(Struct, frozen=True):
    """One line of a member."""

    name: str
    what: dict[str, Any]


class RealGroup:
    """Members as processes; ended by process id, whatever happens."""

    def __init__(self, params: Params, seed: int) -> None:
        self.params = params
        self.random = Random(seed)
        self.said: Queue[Said] = Queue()
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.ports: dict[str, int] = {}
        self.present: dict[str, set[str]] = {}  # by member: whom it holds alive
        self.suspected: list[tuple[float, str, str]] = []
        self.failed: list[tuple[float, str, str]] = []  # when, observer, subject
        self.reports: dict[str, dict[str, Any]] = {}
        self.names = [f"m{index:02}" for index in range(params.nodes)]
        self.listeners: list[Thread] = []
        self.idleness = Idleness()

    def settle(self) -> Row:
        """Start everybody, wait until all know all, and measure a quiet time."""
        for name in self.names:
            self._start(name)
        self._until(self._is_settled, "the group to settle")
        self._drain(1.0)
        for name in self.names:
            self._tell(name, "mark")

        began = time.monotonic()
        self._drain(self.params.quiet / SECOND)
        self.reports.clear()
        for name in self.names:
            self._tell(name, "report")
        self._until(lambda: len(self.reports) == len(self.names), "reports")
        seconds = time.monotonic() - began
        found = list(self.reports.values())
        trips = np.array([trip for report in found for trip in report["rtt_us"]])
        logs = np.log(trips)

        return {
            "packets_node_s": sum(report["packets"] for report in found) / seconds / len(found),
            "bytes_node_s": sum(report["bytes"] for report in found) / seconds / len(found),
            "rtt_us": float(np.exp(np.median(logs))),
            "rtt_sigma": float(min(2.0, logs.std())),
            "load_average": os.getloadavg()[0],
        }

    def crash(self) -> Row:
        """Kill one member at a random phase, see how that becomes known, and bring it back."""
        self._drain(self.random.uniform(1, 2) * self.params.probe_interval / SECOND)
        self.idleness.mark()
        self.suspected.clear()
        self.failed.clear()
        victim = self.random.choice(self.names[1:])
        witnesses = [name for name in self.names if name != victim]
        process = self.processes.pop(victim)
        died = time.monotonic()
        process.send_signal(signal.SIGKILL)
        _bury(process)
        self._until(
            lambda: {who for _, who, about in self.failed if about == victim} >= set(witnesses),
            f"everybody to know that {victim} is dead",
        )
        known: dict[str, float] = {}
        for when, who, about in self.failed:
            if about == victim:
                known.setdefault(who, when)
        row: Row = {
            "t_suspicion": min(t for t, _, about in self.suspected if about == victim) - died,
            "t_first": min(known.values()) - died,
            "t_full": max(known.values()) - died,
            "false_positives": sum(about != victim for _, _, about in self.failed),
        }
        row["cpu_idle"] = self.idleness.least()  # beside the crash, not beside a member's start
        self._start(victim)
        self._until(self._is_settled, f"{victim} to be back")
        return row

    def end(self) -> None:
        """Kill what is left, and wait for it."""
        self.idleness.end()
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            _bury(process)
        for listener in self.listeners:
            listener.join(BURIAL_S)

    def _start(self, name: str) -> None:
        self.present[name] = set()
        others = [port for other, port in self.ports.items() if other != name]
        told = Orders(
            name,
            self.ports.get(name, 0),
            tuple(f"127.0.0.1:{port}" for port in others[:2]),
            config_of(self.params),
            self.random.getrandbits(63),
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.member", msgspec.json.encode(told).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes[name] = process
        listener = Thread(target=self._listen, args=(name, process), daemon=True)
        self.listeners.append(listener)
        listener.start()
        self._until(lambda: name in self.ports and name in self.present[name], f"{name} to start")

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with suppress(json.JSONDecodeError):  # the last line of one that was killed
                    self.said.put(Said(name, json.loads(line)))

    def _tell(self, name: str, word: str) -> None:
        pipe = self.processes[name].stdin
        assert pipe is not None
        pipe.write(word + "\n")
        pipe.flush()

    def _is_settled(self) -> bool:
        everybody = set(self.names)
        return all(self.present[name] == everybody for name in self.names)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
            with suppress(Empty):
                self._take(self.said.get(timeout=0.05))

    def _drain(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while (left := limit - time.monotonic()) > 0:
            with suppress(Empty):
                self._take(self.said.get(timeout=left))

    def _take(self, said: Said) -> None:
        name, what = said.name, said.what
        match what["event"]:
            case "started":
                self.ports[name] = what["port"]
                self.present[name] = {name}
            case "alive":
                self.present[name].add(what["member"])
            case "suspected":
                self.present[name].discard(what["member"])
                self.suspected.append((what["at"], name, what["member"]))
            case "failed":
                self.present[name].discard(what["member"])
                self.failed.append((what["at"], name, what["member"]))
            case "report":
                self.reports[name] = what


def _bury(process: subprocess.Popen[str]) -> None:
    """Wait for a process that was killed, and close the pipe to it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(BURIAL_S)
    if process.stdin is not None:
        process.stdin.close()


# --- what came of it ---------------------------------------------------------------------------

TIMES = {"t_suspicion": "first suspicion", "t_first": "first detection", "t_full": "all know"}


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
    for n, group in rows.groupby("nodes"):
        real, simulated = (group[group.world == world] for world in ("real", "simulated"))
        interval = float(group.probe_interval.iloc[0]) / SECOND
        judged = [_judge_load(f"n={n}", real, simulated)]
        for quantity, words in TIMES.items():
            judged += _judge(f"n={n}: {words}", real[quantity], simulated[quantity], interval)
        idleness = _judge_idleness(f"n={n}", real)
        busy = "" if idleness.passed is not False else f"busy machine, {idleness.measured}"
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
    return found


def _judge(
    what: str, real: pd.Series[float], simulated: pd.Series[float], interval: float
) -> Iterator[Verdict]:
    """Equivalence within the margins, by the 90 % bootstrap interval of the difference."""
    a, b = real.dropna().to_numpy(), simulated.dropna().to_numpy()
    least = max(interval / 5 / 4, 0.005)  # a quarter of a gossip interval, 5 ms
    measures: list[tuple[str, Callable[..., Any], float]] = [
        ("mean", np.mean, 0.05),
        ("median", np.median, 0.05),
        ("90th percentile", lambda x, axis=-1: np.quantile(x, 0.9, axis=axis), 0.08),
    ]
    for name, measure, share in measures:
        margin = max(share * float(measure(b)), least)
        low, high = _spread(a, b, measure)
        inside = -margin <= low and high <= margin
        outside = low > margin or high < -margin
        yield Verdict(
            f"{what}, {name}",
            f"the worlds differ by at most {margin * 1000:.0f} ms",
            f"real - simulated in [{low * 1000:+.0f}, {high * 1000:+.0f}] ms, {len(a)} crashes",
            True if inside else False if outside else None,
        )
    distance = float(stats.ks_2samp(a, b).statistic)
    critical = 1.628 * float(np.sqrt((len(a) + len(b)) / (len(a) * len(b))))
    bound = max(0.12, critical)
    yield Verdict(
        f"{what}, distribution",
        f"Kolmogorov-Smirnov D <= {bound:.3f} (0.12, or chance at this size)",
        f"D = {distance:.3f}",
        distance <= bound,
    )


def _spread(a: Any, b: Any, measure: Callable[..., Any]) -> tuple[float, float]:
    """The 90 % interval of how much larger the measure is for ``a`` than for ``b``."""
    if min(len(a), len(b)) < 2:
        return -np.inf, np.inf
    found = stats.bootstrap(
        (a, b),
        lambda x, y, axis=-1: measure(x, axis=axis) - measure(y, axis=axis),
        n_resamples=1000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    return float(found.low), float(found.high)


def _judge_idleness(what: str, real: pd.DataFrame) -> Verdict:
    shares = real.cpu_idle.dropna()
    busy = int((shares < IDLE).sum())
    return Verdict(
        f"{what}: the machine had time",
        f"{IDLE:.0%} of the processors idle in each second of a crash",
        f"less beside {busy} of {len(shares)} crashes, least {shares.min():.0%}"
        if len(shares)
        else "unknown",
        not busy if len(shares) else None,
        binding=False,
    )


def _judge_load(what: str, real: pd.DataFrame, simulated: pd.DataFrame) -> Verdict:
    ours, theirs = (float(part.packets_node_s.dropna().iloc[0]) for part in (real, simulated))
    return Verdict(
        f"{what}: packets sent by a quiet member",
        "within 2 %",
        f"real {ours:.3f}, simulated {theirs:.3f} for each second",
        abs(ours - theirs) <= 0.02 * theirs,
    )


# --- the picture -------------------------------------------------------------------------------


def figure(rows: pd.DataFrame) -> Figure:
    """The distributions of both worlds, one panel a group."""
    sizes = sorted(rows.nodes.unique())
    picture = Figure(figsize=(5.5 * len(sizes), 4.2), layout="constrained")
    for axes, n in zip(np.atleast_1d(picture.subplots(1, len(sizes))), sizes, strict=True):
        _draw(axes, rows[rows.nodes == n], int(n))
    picture.suptitle("Crashes among real processes and in the simulator", fontsize=11)
    return picture


def _draw(axes: Axes, rows: pd.DataFrame, n: int) -> None:
    colours = {"t_suspicion": "#0072B2", "t_first": "#E69F00", "t_full": "#009E73"}
    for quantity, colour in colours.items():
        for world, style in (("real", "-"), ("simulated", "--")):
            sample = np.sort(rows[rows.world == world][quantity].dropna())
            share = np.arange(1, len(sample) + 1) / len(sample)
            label = f"{TIMES[quantity]}, {world}"
            axes.step(sample, share, where="post", color=colour, linestyle=style, label=label)
    crashes = (rows.world == "real").sum()
    axes.set_xlabel("time after the crash (s)")
    axes.set_ylabel("share of crashes")
    axes.set_title(f"{n} members, {crashes} real crashes, timers at 1/5", fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")
