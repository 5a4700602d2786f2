"""Counters: Serf's lines for statsd and statsite, its dump, Prometheus (spec serf.md, 3.8)."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from urllib.request import urlopen

from backends.agent.telemetry import Exporter, Metrics, packets

NOON = datetime(2026, 11, 23, 12, 0, 37, tzinfo=UTC)


def test_the_dump() -> None:
    metrics = Metrics(clock=lambda: NOON)
    metrics.count("serf.member.join")
    metrics.count("serf.events", 1)
    metrics.count("serf.events", 1)
    metrics.gauge("health", 2)
    metrics.sample("agent.invoke.x", 10)
    metrics.sample("agent.invoke.x", 20)
    assert metrics.dump() == "\n".join(
        f"[2026-11-23 12:00:30 +0000 UTC]{line}"
        for line in (
            "[C] 'serf-agent.serf.events': "
            "Count: 2 Min: 1.000 Mean: 1.000 Max: 1.000 Stddev: 0.000 Sum: 2.000",
            "[C] 'serf-agent.serf.member.join': Count: 1 Sum: 1.000",
            "[G] 'serf-agent.health': 2.000",
            "[S] 'serf-agent.agent.invoke.x': "
            "Count: 2 Min: 10.000 Mean: 15.000 Max: 20.000 Stddev: 7.071 Sum: 30.000",
        )
    )


def test_a_minute_is_kept() -> None:
    instants = iter(NOON.replace(minute=minute) for minute in range(20))
    metrics = Metrics(clock=lambda: next(instants))
    for _ in range(20):
        metrics.count("x")
    assert len(metrics.dump().splitlines()) == 6
    assert metrics.totals["x"] == 20


def test_packets_are_filled_to_their_limit() -> None:
    made = list(packets(["x" * 600 + "\n"] * 5))
    assert [len(each) for each in made] == [1202, 1202, 601]


def test_statsd_and_statsite_get_serfs_lines() -> None:
    async def send() -> tuple[bytes, bytes]:
        lines: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            lines.set_result(await reader.readuntil(b"|ms\n"))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.1", 0))
            udp.settimeout(10)
            metrics = Metrics()
            sites = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            sending = asyncio.create_task(metrics.send(f"127.0.0.1:{udp.getsockname()[1]}", sites))
            await asyncio.sleep(0)
            metrics.count("serf.events.a b:c")
            metrics.sample("serf.queue.Event", 3)
            streamed = await asyncio.wait_for(lines, 10)
            packet = await asyncio.to_thread(udp.recv, 2000)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        server.close()
        return packet, streamed

    expected = b"serf-agent.serf.events.a_b_c:1.000000|c\nserf-agent.serf.queue.Event:3.000000|ms\n"
    assert asyncio.run(send()) == (expected, expected)


def test_prometheus_is_answered_from_the_loop() -> None:
    async def scrape() -> str:
        exporter = Exporter(
            lambda: [
                ("swimsim_members{status}", "Members.", "gauge", {("alive",): 3.0}),
                ("swimsim_x_total", "Things.", "counter", {(): 2.0}),
            ]
        )
        exporter.start("127.0.0.1:0")
        url = f"http://127.0.0.1:{exporter.port}/metrics"
        text = await asyncio.to_thread(lambda: urlopen(url, timeout=10).read().decode())
        await exporter.stop()
        return str(text)

    text = asyncio.run(scrape())
    assert 'swimsim_members{status="alive"} 3.0\n' in text
    assert "swimsim_x_total 2.0\n" in text
