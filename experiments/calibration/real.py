"""The real world: members as processes on loopback, and the idle time of the machine.

A member is a process of ``experiments.member``. All are ended by process id, whatever happens.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from random import Random
from threading import Event, Thread
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from experiments.calibration.cell import Params, config_of, hush, infection
from experiments.experiment import Row
from experiments.member import Orders
from swimsim import SECOND

PATIENCE_S = 60.0
BURIAL_S = 5.0
STAT = Path("/proc/stat")


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
        limit = hush(self.params) / SECOND
        with suppress(TimeoutError):
            self._until(lambda: len(told) == len(self.names), "everybody to be told", limit)
        began = self.fired[name]
        late = [at - began for who, at in told.items() if who != origin]
        told_at = infection(self.params, [each for each in late if each <= limit])
        return {**told_at, "cpu_idle": self.idleness.latest()}

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
