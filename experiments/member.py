"""A member of a real group, for ``experiments.calibration``: ``python -m experiments.member JSON``.

It prints what it sees, a JSON object a line, with times of the machine's monotonic clock; on its
input, ``mark`` begins a count and ``report`` asks for it. It lives apart because it must start
fast and be small: it needs none of the libraries that judge the results.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import msgspec
from msgspec import Struct

from backends.udp import Runtime
from swimsim import Config
from swimsim.effects import Cleared, Event, Failed, Joined, Send, Suspected
from swimsim.messages import Ping


class Orders(Struct, frozen=True):
    """What a member is told on its command line."""

    name: str
    port: int  # 0: any
    join: tuple[str, ...]
    config: Config
    seed: int


async def member(told: Orders) -> None:
    """Run one member until its process is ended, and print what it sees."""
    sent: dict[int, float] = {}
    trips: list[float] = []
    marked: dict[str, int] = {}
    runtime = Runtime(told.name, bind=f"127.0.0.1:{told.port}", config=told.config, seed=told.seed)
    _time_probes(runtime, sent, trips)
    async with runtime as node:
        _say("started", port=node.address.port)
        reporter = asyncio.create_task(_report(node))
        await asyncio.sleep(0)
        if told.join:
            await node.join(told.join)
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


async def _report(node: Runtime) -> None:
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


if __name__ == "__main__":
    asyncio.run(member(msgspec.json.decode(sys.argv[1], type=Orders)))
