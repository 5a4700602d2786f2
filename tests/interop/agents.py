"""Real agents as separate processes on loopback: Serf's own, and ours.

    with Crew(folder) as crew:
        web = crew.serf("web", tags={"role": "web"})
        ours = crew.swimsim("ours", join=[web])
        until(lambda: web.states() == {"web": "alive", "ours": "alive"}, "both to meet")
        ours.kill()

Every agent has a port of its own, a log file of its own (``folder/NAME.log``), and is ended by its
process id when the crew is left, whatever happened; where ``setpriv`` is installed the kernel
ends it when the test run itself is killed. Every wait has a limit and says what it waited for.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

HOST = "127.0.0.1"
PATIENCE_S = 45.0  # for anything that is waited for; machines are loaded
HEAL_S = 150.0  # for what gossip missed and a push/pull tells: with lan's, one in 30 s on average
CLI_S = 30.0  # for one command
PORTS = range(20_000, 32_000)  # below the ports that the system hands out by itself
STARTS = 3  # times that a start is tried when its port turns out to be taken
TAIL = 60  # lines of a log that a failing test shows
ROOT = Path(__file__).parent.parent.parent
SERF = shutil.which("serf")
SETPRIV = shutil.which("setpriv")
REASON = "no `serf` command: apt-get install serf"


class Seen(NamedTuple):
    """What one agent says of a member."""

    address: str
    status: str
    tags: Mapping[str, str]


class Agent:
    """One process. ``kind`` is "serf" or "swimsim"; both take the same flags."""

    def __init__(
        self, kind: str, name: str, folder: Path, flags: Sequence[str], port: int, rpc_port: int
    ) -> None:
        self.kind = kind
        self.name = name
        self.address = f"{HOST}:{port}"
        self.rpc = f"{HOST}:{rpc_port}"
        self.path = folder / f"{name}.log"
        self._begins = self.path.stat().st_size if self.path.exists() else 0
        own = ["-node", name, "-bind", self.address, "-rpc-addr", self.rpc]
        command = [*_command(kind), *own, *flags]
        if SETPRIV is not None:
            command = [SETPRIV, "--pdeathsig", "KILL", "--", *command]
        with self.path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
            )

    def log(self) -> str:
        """What it has printed since it was started, without earlier lives of its name."""
        with self.path.open("rb") as log:
            log.seek(self._begins)
            return log.read().decode(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.process.poll() is None

    # --- what it knows -------------------------------------------------------------------

    def cli(self, verb: str, *words: str, by: str = "serf") -> subprocess.CompletedProcess[str]:
        """Run ``serf VERB`` against it, or our own command with ``by="swimsim"``."""
        command = [*_command(by)[:-1], verb, f"-rpc-addr={self.rpc}", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=CLI_S, check=False, env=environment
        )

    def members(self) -> dict[str, Seen]:
        """Everybody it knows of, as ``serf members -format=json`` has it."""
        said = self.cli("members", "-format=json")
        assert said.returncode == 0, f"{self.name}: {said.stdout}{said.stderr}"
        return {
            each["name"]: Seen(each["addr"], each["status"], each["tags"] or {})
            for each in json.loads(said.stdout)["members"]
        }

    def states(self) -> dict[str, str]:
        """The status of everybody it knows of."""
        return {name: seen.status for name, seen in self.members().items()}

    def wait_for(self, text: str, limit: float = PATIENCE_S) -> None:
        """Wait until it has printed this."""
        until(lambda: text in self.log(), f"{self.name} to print {text!r}", limit)

    # --- its end -------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def leave(self) -> int:
        """SIGINT, upon which agents say farewell; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)

    def pause(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


class Crew:
    """The agents of one test or of one module, in a folder for their logs and files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.agents: list[Agent] = []
        self._files = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def serf(self, name: str, *flags: str, **settings: Any) -> Agent:
        """Start one of HashiCorp's agents; see ``start``."""
        return self.start("serf", name, *flags, **settings)

    def swimsim(self, name: str, *flags: str, **settings: Any) -> Agent:
        """Start one of ours; see ``start``."""
        return self.start("swimsim", name, *flags, **settings)

    def start(
        self,
        kind: str,
        name: str,
        *flags: str,
        join: Sequence[Agent | str] = (),
        tags: Mapping[str, str] | None = None,
        profile: str = "local",
        config: Mapping[str, Any] | None = None,
        port: int | None = None,
        is_ready: bool = True,
    ) -> Agent:
        """Start an agent and wait until it runs.

        ``config`` becomes a configuration file; ``port`` is another's, or its own of before, and
        a free one by default; with ``is_ready=False`` nothing is waited for.
        """
        words = ["-profile", profile, *flags]
        for peer in join:
            words += ["-join", peer if isinstance(peer, str) else peer.address]
        for key, value in (tags or {}).items():
            words += ["-tag", f"{key}={value}"]
        if config is not None:
            path = self.folder / f"{name}-{next(self._files)}.json"
            path.write_text(json.dumps(config), encoding="utf-8")
            words += ["-config-file", str(path)]
        for left in reversed(range(STARTS)):
            agent = Agent(kind, name, self.folder, words, port or free_port(), free_port())
            self.agents.append(agent)
            if not is_ready or self._is_up(agent):
                return agent
            if port is not None or not left or "address already in use" not in agent.log().lower():
                break
        raise AssertionError(f"{kind} agent {name} did not start:\n{agent.log()}")

    def _is_up(self, agent: Agent) -> bool:
        """Whether it runs, which is waited for, or has ended instead."""

        def said() -> bool:
            return "agent running!" in agent.log()

        until(lambda: said() or not agent.is_running, f"{agent.name} to start")
        return said() and agent.is_running

    def restart(self, agent: Agent, *flags: str, **settings: Any) -> Agent:
        """Start an agent of the same name at the same address, whose predecessor has ended."""
        port = int(agent.address.rpartition(":")[2])
        return self.start(agent.kind, agent.name, *flags, port=port, **settings)

    def end(self) -> None:
        """Kill what still runs, and wait for it."""
        for agent in self.agents:
            if agent.is_running:
                agent.process.kill()
        for agent in self.agents:
            with suppress(subprocess.TimeoutExpired):
                agent.process.wait(5)

    def logs(self) -> list[tuple[str, str]]:
        """Name and last lines of each agent's log."""
        paths = dict.fromkeys(agent.path for agent in self.agents)
        texts = ((path, path.read_text(errors="replace").splitlines()) for path in paths)
        return [(str(path), "\n".join(lines[-TAIL:])) for path, lines in texts]


def until(condition: Callable[[], bool], what: str, limit: float = PATIENCE_S) -> None:
    """Wait until it holds; AssertionError, which says what was waited for, at the limit."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit:.0f} s for {what}"
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody has just now, neither for datagrams nor for streams."""
    while True:
        port = random.choice(PORTS)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as taken:
                    taken.bind((HOST, port))
        except OSError:
            continue
        return port


def _command(kind: str) -> list[str]:
    if kind == "swimsim":
        return [sys.executable, "-m", "swimsim", "agent"]
    assert SERF is not None, REASON
    return [SERF, "agent"]
