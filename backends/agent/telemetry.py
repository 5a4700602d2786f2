"""What is counted and measured, and where it goes (spec serf.md, 3.8).

Counters, gauges and samples are kept in memory in buckets of ten seconds for a minute (SIGUSR1
prints them), sent to statsd (UDP) and statsite (TCP) in Serf's lines, and shown to Prometheus
together with what a scrape finds out by itself: members by status, queues, clocks, health, and
per peer what it was accused of, whom it accused and how far away it is.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import HTTPServer
from math import sqrt
from threading import Thread
from typing import Literal, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backends.udp.addresses import parse

PREFIX = "serf-agent"
BUCKET_S = 10
BUCKETS = 6
FLUSH_S = 0.1
PACKET = 1400  # bytes of a packet to statsd
WAITING = 4096  # lines that wait to be sent; more are dropped
SCRAPE_S = 5.0
STATSD_PORT = 8125

Kind: TypeAlias = Literal["C", "G", "S"]
_SUFFIXES: dict[Kind, str] = {"C": "c", "G": "g", "S": "ms"}


class Summary:
    """Numbers of one name within one bucket."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = self.squares = 0.0
        self.least = self.most = self.last = 0.0

    def add(self, value: float) -> None:
        """Take one in."""
        self.least = min(self.least, value) if self.count else value
        self.most = max(self.most, value) if self.count else value
        self.count += 1
        self.sum += value
        self.squares += value * value
        self.last = value

    @property
    def mean(self) -> float:
        """The mean."""
        return self.sum / self.count

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        if self.count < 2:
            return 0.0
        return sqrt(max(0.0, (self.squares - self.sum * self.mean) / (self.count - 1)))


class Bucket(NamedTuple):
    """What was counted in ten seconds."""

    began: datetime
    values: dict[tuple[Kind, str], Summary]


class Metrics:
    """All that one agent counts."""

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._buckets: deque[Bucket] = deque(maxlen=BUCKETS)
        self._lines: deque[str] | None = None  # None: nobody to send them to
        self.totals: Counter[str] = Counter()  # of the counters, since the start
        self._host = _safe(socket.gethostname())

    def count(self, key: str, amount: float = 1) -> None:
        """Something happened."""
        self.totals[key] += amount  # type: ignore[assignment]
        self._note("C", key, amount)

    def gauge(self, key: str, value: float) -> None:
        """Something is so much."""
        self._note("G", f"{self._host}.{key}" if self._lines is not None else key, value)

    def sample(self, key: str, value: float) -> None:
        """Something took so long, in milliseconds, or was so large."""
        self._note("S", key, value)

    def _note(self, kind: Kind, key: str, value: float) -> None:
        name = f"{PREFIX}.{key}"
        now = self._clock()
        began = now.replace(second=now.second // BUCKET_S * BUCKET_S, microsecond=0)
        if not self._buckets or self._buckets[-1].began != began:
            self._buckets.append(Bucket(began, {}))
        self._buckets[-1].values.setdefault((kind, name), Summary()).add(value)
        if self._lines is not None:
            self._lines.append(f"{_safe(name)}:{value:.6f}|{_SUFFIXES[kind]}\n")

    def dump(self) -> str:
        """The buckets but for the one that still fills, as SIGUSR1 prints them."""
        told = []
        for began, values in list(self._buckets):
            for (kind, name), each in sorted(values.items()):
                head = f"[{began:%Y-%m-%d %H:%M:%S} +0000 UTC][{kind}] '{name}': "
                told.append(head + _summary(kind, each))
        return "\n".join(told)

    # --- statsd and statsite ---------------------------------------------------------------

    async def send(self, statsd: str, statsite: str) -> None:
        """Send what is noted from now on, until cancelled; what cannot be sent is dropped."""
        self._lines = deque(maxlen=WAITING)
        loop = asyncio.get_running_loop()
        udp = None
        stream: asyncio.StreamWriter | None = None
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                lines = [self._lines.popleft() for _ in range(len(self._lines))]
                if statsd and lines:
                    with suppress(OSError):
                        if udp is None:
                            udp, _ = await loop.create_datagram_endpoint(
                                asyncio.DatagramProtocol, remote_addr=parse(statsd, STATSD_PORT)
                            )
                        for packet in packets(lines):
                            udp.sendto(packet)
                if statsite and lines:
                    try:
                        if stream is None:
                            _, stream = await asyncio.open_connection(*parse(statsite, STATSD_PORT))
                        stream.write("".join(lines).encode())
                        await stream.drain()
                    except OSError:
                        stream = None
        finally:
            if udp is not None:
                udp.close()
            if stream is not None:
                stream.close()


def packets(lines: Iterable[str]) -> Iterable[bytes]:
    """Lines in packets of at most ``PACKET`` bytes."""
    packet = b""
    for line in lines:
        data = line.encode("utf-8", "replace")
        if packet and len(packet) + len(data) > PACKET:
            yield packet
            packet = b""
        packet += data
    if packet:
        yield packet


def _summary(kind: Kind, each: Summary) -> str:
    if kind == "G":
        return f"{each.last:.3f}"
    if kind == "C" and each.count == 1:
        return f"Count: 1 Sum: {each.sum:.3f}"
    spread = f"Min: {each.least:.3f} Mean: {each.mean:.3f} Max: {each.most:.3f}"
    return f"Count: {each.count} {spread} Stddev: {each.deviation:.3f} Sum: {each.sum:.3f}"


def _safe(key: str) -> str:
    return key.replace(":", "_").replace(" ", "_")


# --- Prometheus --------------------------------------------------------------------------------

Reading: TypeAlias = tuple[str, str, Literal["counter", "gauge"], dict[tuple[str, ...], float]]
"""A metric's name, with the names of its labels in braces, its help, its kind, its values."""


class Exporter(Collector):
    """Answers Prometheus with what ``read`` finds, which is called in the agent's event loop."""

    def __init__(self, read: Callable[[], list[Reading]]) -> None:
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._server: HTTPServer | None = None
        self._thread: Thread | None = None

    def start(self, address: str) -> None:
        """Listen; raises OSError."""
        host, port = parse(address, 9090)
        registry = CollectorRegistry()
        registry.register(self)
        self._server, self._thread = start_http_server(port, host, registry)

    @property
    def port(self) -> int:
        """The one it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            await asyncio.to_thread(self._thread.join)

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry would ask the loop before it runs."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What Prometheus gets; runs in a thread of the server."""
        for name, help_, kind, values in asyncio.run_coroutine_threadsafe(
            self._readings(), self._loop
        ).result(SCRAPE_S):
            bare, _, labels = name.rstrip("}").partition("{")
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = make(bare, help_, labels=labels.split(",") if labels else [])
            for key, value in values.items():
                family.add_metric(list(key), value)
            yield family

    async def _readings(self) -> list[Reading]:
        return self._read()
