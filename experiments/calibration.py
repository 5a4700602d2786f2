"""E11: is the simulated world a faithful model of the real one?

The same protocol code runs in real processes, one for each member, on loopback, and under SimPy,
with the same configuration: timers scaled down, so that a crash is over in seconds. One member
after the other is killed with SIGKILL, its death becomes known, it is started again and the
group settles. Beforehand a quiet time is measured: the round trips of probes and the packets
that each member sends. The simulator takes its latency from those round trips and nothing else;
then the times of the crashes lie side by side (spec experiments.md, E11, first version: no
loss, no pauses; times from first suspicion on).

A process that does not get the processor when it wants it is late, and the machine's other work
is in the results. How busy the machine was is written beside them.

``python -m experiments.calibration JSON`` is one member; it prints what it sees, a JSON object a
line, with times of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, Queue
from random import Random
from threading import Thread
from typing import Any

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
from swimsim import LAN, MS, SECOND, Config, Micros, rng
from swimsim.effects import Cleared, Event, Failed, Joined, Send, Suspected
from swimsim.messages import Ping

PATIENCE_S = 60.0
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
    if scale == "full":
        return [Cell(Params(16, 300), 1), Cell(Params(32, 300), 1)]
    return [Cell(Params(8, 8) if scale == "demo" else Params(16, 12), 1)]


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
        rows = [
            {"world": "real", **real.crash(number), **quiet} for number in range(params.crashes)
        ]
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

    def crash(self, number: int) -> Row:
        """Kill one member at a random phase, see how that becomes known, and bring it back."""
        self._drain(self.random.uniform(1, 2) * self.params.probe_interval / SECOND)
        self.suspected.clear()
        self.failed.clear()
        victim = self.random.choice(self.names[1:])
        witnesses = [name for name in self.names if name != victim]
        process = self.processes.pop(victim)
        died = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._until(
            lambda: {who for _, who, about in self.failed if about == victim} >= set(witnesses),
            f"everybody to know that {victim} is dead",
        )
        known: dict[str, float] = {}
        for when, who, about in self.failed:
            if about == victim:
                known.setdefault(who, when)
        row = {
            "t_suspicion": min(t for t, _, about in self.suspected if about == victim) - died,
            "t_first": min(known.values()) - died,
            "t_full": max(known.values()) - died,
            "false_positives": sum(about != victim for _, _, about in self.failed),
        }
        self._start(victim)
        self._until(self._is_settled, f"{victim} to be back")
        return row

    def end(self) -> None:
        """Kill what is left, and wait for it."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)

    def _start(self, name: str) -> None:
        self.present[name] = set()
        others = [port for other, port in self.ports.items() if other != name]
        told = {
            "name": name,
            "port": self.ports.get(name, 0),
            "join": [f"127.0.0.1:{port}" for port in others[:2]],
            "probe_interval": self.params.probe_interval,
            "nodes": self.params.nodes,
            "seed": self.random.getrandbits(63),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.calibration", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes[name] = process
        Thread(target=self._listen, args=(name, process), daemon=True).start()
        self._until(lambda: name in self.ports and name in self.present[name], f"{name} to start")

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
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


# --- one member --------------------------------------------------------------------------------


async def _member(told: dict[str, Any]) -> None:
    """Run one member until its process is ended, and print what it sees."""
    from backends.udp import Runtime  # noqa: PLC0415  the one place that leaves the simulated world

    config = config_of(Params(told["nodes"], 0, told["probe_interval"]))
    sent: dict[int, float] = {}
    trips: list[float] = []
    marked: dict[str, int] = {}
    runtime = Runtime(
        told["name"], bind=f"127.0.0.1:{told['port']}", config=config, seed=told["seed"]
    )
    _time_probes(runtime, sent, trips)
    async with runtime as node:
        _say("started", port=node.address.port)
        reporter = asyncio.create_task(_report(node))
        await asyncio.sleep(0)
        if told["join"]:
            await node.join(told["join"])
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while word := (await lines.readline()).decode().strip():
            now = {key: node.counters[f"packet{key} sent"] for key in ("s", " bytes")}
            if word == "mark":
                marked = now
                trips.clear()
            else:
                packets, bytes_ = (now[key] - marked.get(key, 0) for key in ("s", " bytes"))
                _say("report", packets=packets, bytes=bytes_, rtt_us=trips)
        reporter.cancel()


def _time_probes(runtime: Any, sent: dict[int, float], trips: list[float]) -> None:
    """Measure the round trip of every direct ping, from outside of the runtime."""
    send, on_packet = runtime._send, runtime._on_packet

    def timed_send(effect: Send) -> None:
        for message in effect.messages:
            if isinstance(message, Ping):
                sent[message.seq_no] = time.monotonic()
        send(effect)

    def timed_packet(data: bytes, source: tuple[str, int]) -> None:
        before = runtime.node and runtime.node.probe.round
        arrived = time.monotonic()
        on_packet(data, source)
        after = runtime.node and runtime.node.probe.round
        if before and after is not before and before.seq_no in sent:
            trips.append((arrived - sent.pop(before.seq_no)) * 1e6)

    runtime._send = timed_send
    runtime._transport._on_packet = timed_packet


async def _report(node: Any) -> None:
    async for event in node.events():
        _print_event(event)


def _print_event(event: Event) -> None:
    match event:
        case Joined(peer):
            _say("alive", member=peer.name)
        case Cleared(name):
            _say("alive", member=name)
        case Suspected(name):
            _say("suspected", member=name)
        case Failed(name):
            _say("failed", member=name)


def _say(event: str, **what: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **what}), flush=True)  # noqa: T201


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
        for quantity, words in TIMES.items():
            found += _judge(f"n={n}: {words}", real[quantity], simulated[quantity], interval)
        found.append(_judge_load(f"n={n}", real, simulated))
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
        spread = stats.bootstrap(
            (a, b),
            lambda x, y, axis=-1, measure=measure: measure(x, axis=axis) - measure(y, axis=axis),
            n_resamples=1000,
            confidence_level=0.9,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        low, high = float(spread.low), float(spread.high)
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


if __name__ == "__main__":
    asyncio.run(_member(json.loads(sys.argv[1])))
