"""Our agent beside Serf's, in one run: ``swimsim bench --agents``.

Three questions, asked of both in turn: how many pings does an agent answer for each second of
CPU, what does an idle agent cost in CPU and memory, and how long does a cluster take to learn
of a kill. Figures depend on the machine and the hour; their ratio is what to keep. Without a
``serf`` command only ours are measured.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread

import pandas as pd
from msgspec import Struct, to_builtins

from swimsim.messages import Ping
from swimsim.terms import Address, NodeId
from swimsim.wire import PLAIN, packet

LOOPBACK = bytes((127, 0, 0, 1))
OUTSTANDING = 64
PATIENCE_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


class Plan(Struct, frozen=True):
    """How much is measured."""

    flood_s: float = 3.0
    idle_agents: int = 5
    idle_s: float = 15.0
    cluster: int = 30
    kills: int = 3


QUICK = Plan(flood_s=1.0, idle_agents=3, idle_s=5.0, cluster=10, kills=1)


class Figures(Struct, frozen=True):
    """What one kind of agent does."""

    agent: str
    pings_per_cpu_s: float  # answered for each second of the agent's CPU
    idle_ms_per_s: float  # CPU of one idle agent, milliseconds for each second
    idle_rss_mib: float
    kill_known_s: float  # from SIGKILL until all others have reported it; the median kill


def ours(name: str, port: int, join: Sequence[str]) -> list[str]:
    """The command line of one of our agents."""
    return [sys.executable, "-m", "swimsim", *_flags(name, port, join)]


def serfs(name: str, port: int, join: Sequence[str]) -> list[str]:
    """The command line of one of Serf's."""
    return ["serf", *_flags(name, port, join)]


def _flags(name: str, port: int, join: Sequence[str]) -> list[str]:
    """What both understand."""
    command = ["agent", "-node", name, "-bind", f"127.0.0.1:{port}"]
    command += ["-rpc-addr", f"127.0.0.1:{_free_port()}"]
    return [*command, *(word for peer in join for word in ("-join", peer))]


KINDS: dict[str, Callable[[str, int, Sequence[str]], list[str]]] = {"swimsim": ours, "serf": serfs}


def measure(tell: Callable[[str], None], plan: Plan) -> pd.DataFrame:
    """One row for each kind of agent there is, and one with the ratio of ours to Serf's."""
    rows = []
    for kind in KINDS:
        if kind == "serf" and shutil.which("serf") is None:
            continue
        tell(f"{kind}: a flood of pings")
        flood = _flood(kind, plan)
        tell(f"{kind}: {plan.idle_agents} idle agents")
        idle_ms, rss = _idle(kind, plan)
        tell(f"{kind}: kills among {plan.cluster} agents")
        rows.append(to_builtins(Figures(kind, flood, idle_ms, rss, _kills(kind, plan))))
    frame = pd.DataFrame(rows)
    if len(frame) == len(KINDS):
        numbers = frame.drop(columns="agent")
        ratio = numbers.iloc[0] / numbers.iloc[1]
        frame.loc[len(frame)] = ["ratio", *ratio]
    return frame


# --- agents as processes -----------------------------------------------------------------------


class Agent:
    """One process, its lines with the times at which they came."""

    def __init__(self, kind: str, name: str, join: Sequence[str]) -> None:
        self.name = name
        self.port = _free_port()
        self.lines: list[tuple[float, str]] = []
        self.process = subprocess.Popen(
            KINDS[kind](name, self.port, join),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.strip()))

    def saw(self, what: str, about: str, after: float = 0.0) -> float | None:
        """When it first reported this about a member, or None."""
        pattern = re.compile(rf"{what}: {re.escape(about)}\b")
        return next((at for at, line in self.lines if at > after and pattern.search(line)), None)

    def cpu_s(self) -> float:
        """User and system time so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self) -> float:
        """Resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def _agents(kind: str, count: int) -> Iterator[list[Agent]]:
    """A cluster in which everybody has reported everybody."""
    agents: list[Agent] = []
    try:
        for number in range(count):
            join = [f"127.0.0.1:{agents[0].port}"] if agents else []
            agents.append(Agent(kind, f"a{number:02}", join))
            if number == 0:
                _until(lambda: _is_known(agents, 1), "the first agent")
        _until(lambda: _is_known(agents, count), f"{count} agents to know each other")
        yield agents
    finally:
        for agent in agents:
            agent.process.kill()
        for agent in agents:
            with suppress(subprocess.TimeoutExpired):
                agent.process.wait(5)


def _is_known(agents: list[Agent], count: int) -> bool:
    for agent in agents:
        if agent.process.poll() is not None:
            last = "".join(line for _, line in agent.lines[-1:])
            raise RuntimeError(f"agent {agent.name} ended: {last or 'without a word'}")
    return all(
        sum("EventMemberJoin" in line for _, line in agent.lines) >= count for agent in agents
    )


def _until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(0.05)


def _free_port() -> int:
    """A port that is free for streams and for datagrams just now."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as streams,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            suppress(OSError),
        ):
            streams.bind(("127.0.0.1", 0))
            datagrams.bind(streams.getsockname())
            return int(streams.getsockname()[1])


# --- the three questions -----------------------------------------------------------------------


def _flood(kind: str, plan: Plan) -> float:
    """Pings answered for each second of CPU, with so many outstanding."""
    with _agents(kind, 1) as (agent,), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as driver:
        driver.bind(("127.0.0.1", 0))
        driver.setblocking(False)
        source = Address(LOOPBACK, driver.getsockname()[1])
        target = ("127.0.0.1", agent.port)
        ping = packet.encode((Ping(1, NodeId(agent.name), source, NodeId("driver")),), PLAIN)
        before, answered = agent.cpu_s(), 0
        limit = time.monotonic() + plan.flood_s
        for _ in range(OUTSTANDING):
            driver.sendto(ping, target)
        while time.monotonic() < limit:
            if not select.select([driver], [], [], 0.2)[0]:
                for _ in range(OUTSTANDING):  # some were lost; keep it busy
                    driver.sendto(ping, target)
                continue
            with suppress(BlockingIOError):
                while True:
                    driver.recv(2048)
                    answered += 1
                    driver.sendto(ping, target)
        return answered / (agent.cpu_s() - before)


def _idle(kind: str, plan: Plan) -> tuple[float, float]:
    """CPU of one idle agent, milliseconds for each second, and its memory, MiB."""
    with _agents(kind, plan.idle_agents) as agents:
        time.sleep(3)
        before, began = [agent.cpu_s() for agent in agents], time.monotonic()
        time.sleep(plan.idle_s)
        seconds = time.monotonic() - began
        spent = sum(agent.cpu_s() for agent in agents) - sum(before)
        rss = sum(agent.rss_mib() for agent in agents) / len(agents)
        return spent / seconds / len(agents) * 1000, rss


def _kills(kind: str, plan: Plan) -> float:
    """How long until all others have reported a kill: the median of a few."""
    taken = []
    with _agents(kind, plan.cluster) as agents:
        time.sleep(3)
        living = list(agents)
        for _ in range(plan.kills):
            victim = living.pop()
            died = time.monotonic()
            os.kill(victim.process.pid, signal.SIGKILL)

            def reported(victim: Agent = victim, died: float = died) -> list[float | None]:
                return [each.saw("EventMemberFailed", victim.name, died) for each in living]

            _until(lambda: None not in reported(), "everybody to report a kill")
            taken.append(max(at for at in reported() if at is not None) - died)
    return sorted(taken)[len(taken) // 2]
