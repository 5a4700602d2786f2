"""E11: is the simulated world a faithful model of the real one?

The same protocol code runs in real processes, one for each member, on loopback, and under SimPy,
with the same configuration: timers scaled down, so that a crash is over in seconds. One member
after the other is killed with SIGKILL, its death becomes known, it is started again and the group
settles. Beforehand a quiet time is measured: the round trips of probes and the packets that each
member sends; afterwards user events are told, one after the other. The simulator takes its latency
from those round trips and nothing else; then the times of crashes and events lie side by side
(spec experiments.md, E11, first version: no loss, no pauses). Every packet that a member sends is
compared with the bytes that the simulator would count for it.

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
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
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
from backends.sim.inspectors import Infection
from backends.sim.network import LogNormal
from experiments import statistics
from experiments.engines import processes
from experiments.experiment import Cell, Row, Scale, Verdict
from experiments.member import Orders
from swimsim import LAN, MS, SECOND, Config, Micros, rng
from swimsim.effects import UserEventReceived
from swimsim.inputs import FireEvent

PATIENCE_S = 60.0
BURIAL_S = 5.0
LIMIT: Micros = 600 * SECOND  # simulated, for one crash
STAT = Path("/proc/stat")
IDLE = 0.3  # the least share of idle time that a comparison stands on
ALONE = True
"""Runs must not share the machine with each other."""


class Params(Struct, frozen=True):
    """One cell: groups of one size, and how many crashes a run of each has."""

    nodes: int
    crashes: int  # of each group, and as many events
    groups: int = 1  # beside one another, without knowing of each other
    probe_interval: Micros = 200 * MS  # everything else is scaled with it
    quiet: Micros = 5 * SECOND  # measured before the first crash


def cells(scale: Scale) -> list[Cell]:
    """Groups of 16 and 32.

    Times of crashes vary by 0.16 s. To tell whether their means are within 10 ms of each other, the
    narrowest margin, takes some 1,100 of them, which two groups in a full run have.
    """
    match scale:
        case "demo":
            return [Cell(Params(8, 8), 1)]
        case "quick":
            return [Cell(Params(nodes, 12), 1) for nodes in (16, 32)]
        case "full":
            return [Cell(Params(nodes, 550, groups=2), 1) for nodes in (16, 32)]


def seed_key(params: Params) -> tuple[str | int, ...]:
    """Each size has its own random numbers."""
    return (params.nodes,)


def config_of(params: Params) -> Config:
    """The LAN profile with every time in the proportion of the probe interval."""
    share = params.probe_interval
    return replace(
        LAN,
        serf=True,  # which user events need
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
    with ThreadPoolExecutor(params.groups) as executor:
        seeds = [rng.seed(seed, "group", number) for number in range(params.groups)]
        rows = [row for group in executor.map(partial(_real, params), seeds) for row in group]
    measured = pd.DataFrame(rows)
    trips = {"rtt_us": measured.rtt_us.mean(), "rtt_sigma": measured.rtt_sigma.mean()}
    latency = LogNormal(max(1, int(trips["rtt_us"] / 2)), float(trips["rtt_sigma"]))
    numbers = range(10 * params.crashes * params.groups)
    with processes() as executor:
        found = executor.map(partial(_simulated, params, seed, latency), numbers, chunksize=20)
        rows += [{"world": "simulated", **row, **trips} for pair in found for row in pair]
    return rows


def _real(params: Params, seed: int) -> list[Row]:
    """Crashes, then events, then the packets of one group."""
    real = RealGroup(params, seed)
    try:
        quiet = real.settle()
        rows = [{**real.crash(), **quiet} for _ in range(params.crashes)]
        rows += [real.tell(number) for number in range(params.crashes)]
        rows += real.packets()
    finally:
        real.end()
    return [{"world": "real", **row} for row in rows]


# --- the simulated world -----------------------------------------------------------------------


def _simulated(params: Params, seed: int, latency: LogNormal, number: int) -> list[Row]:
    """A crash and an event, each in a group of its own."""
    return [_crash(params, seed, latency, number), _tell(params, seed, latency, number)]


def _crash(params: Params, seed: int, latency: LogNormal, number: int) -> Row:
    config = config_of(params)
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
    cluster.run_until(lambda: watch.done, cluster.now + LIMIT)
    return {
        "t_ping": _since(watch.ended, watch.first_ping),
        "t_suspicion": _since(watch.ended, watch.first_suspicion),
        "t_first": _since(watch.ended, watch.first_detection),
        "t_full": _since(watch.ended, watch.full),
        "false_positives": len(wrong.found),
        **load,
    }


def _tell(params: Params, seed: int, latency: LogNormal, number: int) -> Row:
    config = config_of(params)
    own = rng.seed(seed, "event", number)
    cluster = Cluster(params.nodes, config, Network(latency=latency), seed=own, record=())
    phase, own = rng.below(own, params.probe_interval)
    origin, own = rng.below(own, params.nodes)
    cluster.run(phase + 1)
    name = cluster.hosts[origin].name
    watch = Infection(
        lambda _: False, lambda event: isinstance(event, UserEventReceived), cluster.hosts[0].name
    )
    cluster.observers.append(watch)
    began = cluster.now
    cluster.request(name, FireEvent(1, "news-0", None, coalesce=False))
    everybody = params.nodes
    cluster.run_until(lambda: len(watch.known_at) == everybody, began + _hush(params))
    told = [at - began for who, at in watch.known_at.items() if who != name]
    return _infection(params, [at / SECOND for at in told])


def _hush(params: Params) -> Micros:
    """When gossip about a piece of news has long been over; whom it missed, a push/pull tells."""
    return 4 * params.probe_interval


def _infection(params: Params, told: list[float]) -> Row:
    """When the others were told by gossip, and how many were not."""
    missed = params.nodes - 1 - len(told)
    return {
        "t_told": float(np.mean(told)) if told else None,
        "t_all_told": None if missed else max(told),
        "missed": missed,
        "limit_s": _hush(params) / SECOND,
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
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def mark(self) -> None:
        """Begin anew."""
        self._shares.clear()

    def least(self) -> float | None:
        """The share in the busiest second since the mark; None: none is over, or not known."""
        return min(self._shares, default=None)

    def latest(self) -> float | None:
        """The share in the latest second, as ``least``."""
        return self._shares[-1] if self._shares else None

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()

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
        self.health: dict[str, int] = {}
        self.suspected: list[tuple[float, str, str]] = []
        self.failed: list[tuple[float, str, str]] = []  # when, observer, subject
        self.pings: dict[str, list[float]] = {}  # by subject: when somebody pinged it
        self.fired: dict[str, float] = {}  # events: when they were
        self.told: dict[str, dict[str, float]] = {}  # events: when each member was told
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
        found = self._reports()
        seconds = time.monotonic() - began
        trips = np.array([trip for report in found for trip in report["rtt_us"]])
        logs = np.log(trips)

        return {
            "packets_node_s": sum(report["packets"] for report in found) / seconds / len(found),
            "bytes_node_s": _total(found, "bytes") / seconds / len(found),
            "rtt_us": float(np.exp(np.median(logs))),
            "rtt_sigma": float(min(2.0, logs.std())),
            "load_average": os.getloadavg()[0],
        }

    def crash(self) -> Row:
        """Kill one member at a random phase, see how that becomes known, and bring it back."""
        self._calm()
        self.idleness.mark()
        self.suspected.clear()
        self.failed.clear()
        self.pings.clear()
        victim = self.random.choice(self.names[1:])
        witnesses = [name for name in self.names if name != victim]
        unwell = sum(self.health.values())
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
        vain = [at - died for at in self.pings[victim] if at >= died]
        row: Row = {
            "t_ping": min(vain, default=None),
            "t_suspicion": min(t for t, _, about in self.suspected if about == victim) - died,
            "t_first": min(known.values()) - died,
            "t_full": max(known.values()) - died,
            "false_positives": sum(about != victim for _, _, about in self.failed),
        }
        row["unwell"] = unwell  # health scores of all at the crash
        row["cpu_idle"] = self.idleness.least()  # beside the crash, not beside a member's start
        self._start(victim)
        self._until(self._is_settled, f"{victim} to be back")
        return row

    def tell(self, number: int) -> Row:
        """Have one member tell the others something, and see when each is told."""
        self._calm()
        name, origin = f"news-{number}", self.random.choice(self.names)
        told = self.told[name] = {}
        self._tell(origin, f"fire {name}")
        limit = _hush(self.params) / SECOND
        with suppress(TimeoutError):
            self._until(lambda: len(told) == len(self.names), "everybody to be told", limit)
        began = self.fired[name]
        late = [at - began for who, at in told.items() if who != origin]
        infection = _infection(self.params, [each for each in late if each <= limit])
        return {**infection, "cpu_idle": self.idleness.latest()}

    def packets(self) -> list[Row]:
        """What was sent since the quiet time, by those who live: for each kind, what it took."""
        kinds: dict[str, Counter[str]] = {}
        for report in self._reports():
            for kind, count in report["kinds"].items():
                kinds.setdefault(kind, Counter()).update(count)
        return [{"kind": kind, **count} for kind, count in sorted(kinds.items())]

    def _reports(self) -> list[dict[str, Any]]:
        self.reports.clear()
        for name in self.names:
            self._tell(name, "report")
        self._until(lambda: len(self.reports) == len(self.names), "reports")
        return list(self.reports.values())

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

    def _calm(self) -> None:
        """Wait until the group has settled, and then to a random phase of the probe interval."""
        self._until(self._is_settled, "the group to settle")
        self._drain(self.random.uniform(1, 2) * self.params.probe_interval / SECOND)

    def _is_settled(self) -> bool:
        """Whether all know all and are healthy: who is not probes less often."""
        everybody = set(self.names)
        return all(self.present[name] == everybody and not self.health[name] for name in self.names)

    def _until(
        self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S
    ) -> None:
        limit = time.monotonic() + patience_s
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError(f"waited {patience_s:.1f} s for {what}")
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
                self.health[name] = 0
            case "health":
                self.health[name] = what["score"]
            case "alive":
                self.present[name].add(what["member"])
            case "suspected":
                self.present[name].discard(what["member"])
                self.suspected.append((what["at"], name, what["member"]))
            case "failed":
                self.present[name].discard(what["member"])
                self.failed.append((what["at"], name, what["member"]))
                self.pings.setdefault(what["member"], []).extend(what["pinged"])
            case "fired":
                self.fired[what["name"]] = what["at"]
            case "told":
                self.told.setdefault(what["name"], {})[name] = what["at"]
            case "report":
                self.reports[name] = what


def _total(reports: list[dict[str, Any]], what: str) -> int:
    return sum(count[what] for report in reports for count in report["kinds"].values())


def _bury(process: subprocess.Popen[str]) -> None:
    """Wait for a process that was killed, and close the pipe to it."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(BURIAL_S)
    if process.stdin is not None:
        process.stdin.close()


# --- what came of it ---------------------------------------------------------------------------

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
    axes.legend(fontsize=7, loc="lower right")
