"""Whole agents as processes: what they print, their signals, their files (spec serf.md, 3)."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.agents import ROOT, Agent, Crew, free_port, until

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    with Crew(tmp_path) as made:
        yield made


def of_the_log(agent: Agent) -> list[str]:
    """Its lines without the time."""
    return [re.sub(r"^    \d{4}/\S+ \S+ ", "    ", line) for line in agent.log().splitlines()]


def test_the_start_is_told_as_serf_tells_it(crew: Crew) -> None:
    agent = crew.swimsim("m1", "-encrypt", KEY, tags={"role": "web"})
    agent.wait_for("Serf agent starting")
    assert of_the_log(agent)[:13] == [
        "==> Starting Serf agent...",
        "==> Starting Serf agent RPC...",
        "==> Serf agent running!",
        "                      Node name: 'm1'",
        f"                      Bind addr: '{agent.address}'",
        f"                       RPC addr: '{agent.rpc}'",
        "                      Encrypted: true",
        "                       Snapshot: false",
        "                        Profile: local",
        "    Message Compression Enabled: true",
        "",
        "==> Log data will now stream in as it occurs:",
        "",
    ]
    assert agent.leave() == 0
    assert "==> Caught signal: interrupt\n==> Gracefully shutting down agent...\n" in agent.log()
    assert "agent: shutdown complete" in agent.log()
    assert KEY not in agent.log(), "keys do not belong into logs"


def ended(*flags: str) -> tuple[int, str]:
    """The status and the output of an agent that does not start."""
    port, rpc = free_port(), free_port()
    said = subprocess.run(
        [sys.executable, "-m", "swimsim", "agent", "-bind", f"127.0.0.1:{port}",
         "-rpc-addr", f"127.0.0.1:{rpc}", *flags],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return said.returncode, said.stdout


def test_a_join_that_fails_ends_it_without_a_line_of_log() -> None:
    status, said = ended("-join", "127.0.0.1:1", "-profile", "local")
    assert status == 1
    assert (
        "==> Joining cluster...(replay: false)\n1 error occurred:\n\t* Failed to join 127.0.0.1: "
        in said
    )
    assert "dial tcp 127.0.0.1:1: connect: connection refused" in said
    assert "[INFO]" not in said


def test_an_address_that_is_taken(crew: Crew) -> None:
    agent = crew.swimsim("first")
    status, said = ended("-rpc-addr", agent.rpc)
    assert status == 1
    assert said.endswith(
        f"Error starting RPC listener: listen tcp {agent.rpc}: bind: address already in use\n"
    )
    status, said = ended("-bind", agent.address)
    assert status == 1
    assert said.splitlines()[-1].startswith("Failed to start the Serf agent: Error creating Serf: ")
    assert "address already in use" in said


SIGNALS: dict[str, tuple[dict[str, object], list[int], int]] = {  # settings, signals, status
    "SIGTERM does not leave": ({}, [signal.SIGTERM], 1),
    "unless it is told to": ({"leave_on_terminate": True}, [signal.SIGTERM], 0),
    "SIGINT need not leave": ({"skip_leave_on_interrupt": True}, [signal.SIGINT], 1),
}


@pytest.mark.parametrize(("config", "numbers", "status"), SIGNALS.values(), ids=SIGNALS)
def test_signals(crew: Crew, config: dict[str, object], numbers: list[int], status: int) -> None:
    agent = crew.swimsim("m1", config=config)
    for number in numbers:
        agent.process.send_signal(number)
    assert agent.process.wait(30) == status
    assert ("Gracefully" in agent.log()) == (status == 0)


def test_a_reload_keeps_what_was_set_since_and_takes_what_was_changed(
    crew: Crew, tmp_path: Path
) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({"tags": {"dc": "east", "old": "1"}, "log_level": "info"}))
    agent = crew.swimsim("m1", "-config-file", str(path), "-tags-file", "", "-tag", "fixed=1")
    assert agent.cli("tags", "-set", "live=yes", by="swimsim").returncode == 0
    path.write_text(
        json.dumps({"tags": {"dc": "west"}, "log_level": "debug", "event_handlers": ["user=cat"]})
    )
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("==> Reloading configuration...")
    tags = {"dc": "west", "fixed": "1", "live": "yes"}

    def seen() -> dict[str, dict[str, str]]:
        info: dict[str, dict[str, str]] = json.loads(
            agent.cli("info", "-format=json", by="swimsim").stdout
        )
        return info

    until(lambda: seen()["tags"] == tags, "the tags")
    assert seen()["event_handlers"] == {"user": "cat"}
    path.write_text("{")
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("Failed to reload configs")
    assert seen()["tags"] == tags


def test_a_tags_file_outlives_the_agent_and_a_reload(crew: Crew, tmp_path: Path) -> None:
    flags = ["-tags-file", str(tmp_path / "tags.json")]
    agent = crew.swimsim("m1", *flags)
    assert agent.cli("tags", "-set", "a=<1>", by="swimsim").returncode == 0
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("==> Reloading configuration...")
    agent.kill()
    assert json.loads((tmp_path / "tags.json").read_text()) == {"a": "<1>"}
    again = crew.restart(agent, *flags)
    again.wait_for("Restored 1 tag(s)")
    said = again.cli("members", "-format=json", by="swimsim").stdout
    assert json.loads(said)["members"][0]["tags"] == {"a": "<1>"}


def test_killed_and_back_from_its_snapshot(crew: Crew, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    one = crew.swimsim("one")
    two = crew.swimsim("two", "-snapshot", str(snapshot), join=[one])
    until(lambda: "alive: one " in snapshot.read_text(), "the snapshot to know the other")
    two.kill()
    with snapshot.open("a") as torn:
        torn.write("alive: torn 127.0")
    again = crew.restart(two, "-snapshot", str(snapshot))
    again.wait_for("Re-joined to previously known node: one")
    assert "torn" not in again.log()
    assert again.leave() == 0
    assert "\nleave\n" in snapshot.read_text()


def test_two_find_each_other_by_mdns(crew: Crew) -> None:
    pytest.importorskip("zeroconf")
    flags = ["-discover", f"c{os.getpid()}", "-mdns-iface", "lo", "-mdns-disable-ipv6"]
    one, two = crew.swimsim("one", *flags), crew.swimsim("two", *flags)
    for agent in (one, two):
        agent.wait_for("EventMemberJoin: " + ("two" if agent is one else "one"))
    assert f"mDNS cluster: c{os.getpid()}" in one.log()
