"""A member of a real group, for ``experiments.calibration``: ``python -m experiments.member JSON``.

It prints what it sees, a JSON object a line, with times of the machine's monotonic clock; on its
input, ``mark`` begins a count, ``report`` asks for it, and ``fire NAME`` has it tell everybody
something. It lives apart because it must start fast and be small: it needs none of the libraries
that judge the results.

Times are taken within the step that reports the event, and from outside of the runtime, whose
hands are watched: what it sends, when, and how many bytes that takes, beside the number of bytes
that the simulator would count for it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict, deque
from typing import Any

import msgspec
from msgspec import Struct

from backends.udp import Runtime
from swimsim import Config
from swimsim.effects import (
    Cleared,
    Event,
    Failed,
    HealthChanged,
    Joined,
    Send,
    Suspected,
    UserEventReceived,
)
from swimsim.messages import Ping, packet_size
from swimsim.terms import NodeId

PINGS = 64  # of each target, whose times are remembered
SPREAD_S = 0.3  # an event has reached nearly everybody by then


class Orders(Struct, frozen=True):
    """What a member is told on its command line."""

    name: str
    port: int  # 0: any
    join: tuple[str, ...]
    config: Config
    seed: int


async def member(told: Orders) -> None:
    """Run one member until its process is ended, and print what it sees."""
    seen: asyncio.Queue[tuple[float, Event]] = asyncio.Queue()
    runtime = Runtime(
        told.name,
        bind=f"127.0.0.1:{told.port}",
        config=told.config,
        seed=told.seed,
        compress=False,  # as in the simulator
        listener=lambda event: seen.put_nowait((time.monotonic(), event)),
    )
    watch = Watch(runtime, told.config)
    async with runtime as node:
        _say("started", time.monotonic(), port=node.address.port)
        reporter = asyncio.create_task(_report(seen, watch))
        await asyncio.sleep(0)
        if told.join:
            await node.join(told.join)
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while words := (await lines.readline()).decode().split():
            match words:
                case ["fire", name]:
                    _say("fired", time.monotonic(), name=name)
                    node.event(name, coalesce=False)
                case ["mark"]:
                    watch.mark()
                case _:
                    _say("report", time.monotonic(), **watch.report())
        reporter.cancel()


class Watch:
    """Stands between a runtime and its socket, and takes down what passes."""

    def __init__(self, runtime: Any, config: Config) -> None:
        self.pinged: defaultdict[NodeId, deque[float]] = defaultdict(lambda: deque(maxlen=PINGS))
        self._runtime = runtime
        self._config = config
        self._sent: dict[int, float] = {}  # the pings that have no answer yet
        self._send, self._on_packet = runtime._send, runtime._on_packet
        runtime._send = self._timed_send
        runtime._transport._on_packet = self._timed_packet
        self.mark()

    def mark(self) -> None:
        """Begin to count."""
        self._trips: list[float] = []
        self._marked = {key: self._runtime.counters[key] for key in ("packets sent",)}
        self._kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def report(self) -> dict[str, Any]:
        """What was sent since the mark, and the round trips of probes."""
        kinds = {kind: dict(count) for kind, count in self._kinds.items()}
        packets = self._runtime.counters["packets sent"] - self._marked["packets sent"]
        return {"packets": packets, "kinds": kinds, "rtt_us": self._trips}

    def _timed_send(self, effect: Send) -> None:
        for message in effect.messages:
            if isinstance(message, Ping):
                self._sent[message.seq_no] = time.monotonic()
                self.pinged[message.target].append(self._sent[message.seq_no])
        before = self._runtime.counters["packet bytes sent"]
        self._send(effect)
        taken = self._runtime.counters["packet bytes sent"] - before
        if taken:  # not one that has to wait
            count = self._kinds[" + ".join(sorted({type(m).__name__ for m in effect.messages}))]
            count["packets"] += 1
            count["bytes"] += taken
            count["foreseen"] += packet_size(effect.messages, effect.crc, self._config)

    def _timed_packet(self, data: bytes, source: tuple[str, int]) -> None:
        before = self._runtime.node and self._runtime.node.probe.round
        arrived = time.monotonic()
        self._on_packet(data, source)
        after = self._runtime.node and self._runtime.node.probe.round
        if before and after is not before and before.seq_no in self._sent:
            self._trips.append((arrived - self._sent.pop(before.seq_no)) * 1e6)


async def _report(seen: asyncio.Queue[tuple[float, Event]], watch: Watch) -> None:
    while True:
        at, event = await seen.get()
        match event:
            case Joined(peer):
                _say("alive", at, member=peer.name)
            case Cleared(name):
                _say("alive", at, member=name)
            case Suspected(name):
                _say("suspected", at, member=name)
            case Failed(name):
                _say("failed", at, member=name, pinged=list(watch.pinged[name]))
            case HealthChanged(score):
                _say("health", at, score=score)
            case UserEventReceived(name=name):
                await asyncio.sleep(SPREAD_S)  # to say it at once would take the others' time
                _say("told", at, name=name)


def _say(event: str, at: float, **what: Any) -> None:
    print(json.dumps({"event": event, "at": at, **what}), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(member(msgspec.json.decode(sys.argv[1], type=Orders)))
