"""The README's cluster of three agents, run as it is shown, on other ports.

``--regenerate`` writes the lines of ``why`` into it: they tell of one life of the cluster, and
are the only ones that are not compared.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.agents import free_port

README = Path(__file__).parents[2] / "README.md"
ROOT = README.parent
BLOCK = re.compile(r"```console\n(?P<lines>.*?)```", re.DOTALL)
PORTS = ("7946", "7947", "7948", "7373", "7374", "7375")
PATIENCE_S = 60.0
END = "-- that was it --"


class Shell:
    """A shell that is told one command after the other."""

    def __init__(self, folder: Path) -> None:
        (folder / "swimsim").write_text(f'#!/bin/sh\nexec {sys.executable} -m swimsim "$@"\n')
        (folder / "swimsim").chmod(0o755)
        self.ports = {port: str(free_port()) for port in PORTS}
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{folder}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "SERF_RPC_ADDR": f"127.0.0.1:{self.ports['7373']}",
            },
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """What it prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = command.replace("agent -node a", "agent -node a -rpc-addr 127.0.0.1:7373")
        for shown, port in self.ports.items():
            command = command.replace(shown, port)
        self._process.stdin.write(f"{command}\necho '{END}'\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line == f"{END}\n":
                break
            printed += line
        for shown, port in self.ports.items():
            printed = printed.replace(port, shown)
        return printed

    def end(self) -> None:
        """Kill it, and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    opened = Shell(folder)
    try:
        yield opened
    finally:
        opened.end()


def steps(text: str) -> list[tuple[str, str]]:
    """The commands, and what each prints."""
    (block,) = BLOCK.findall(text)
    pieces = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def in_order(text: str) -> list[str]:
    return sorted(text.splitlines())


def test_the_operators_path_is_as_it_is_shown(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = README.read_text(encoding="utf-8")
    with shell(tmp_path) as bash:
        for command, shown in steps(text):
            said = bash.run(command)
            if command.startswith("swimsim why"):
                assert "now: c is dead" in said
                if request.config.getoption("--regenerate"):
                    before = f"$ {command}\n"
                    text = text.replace(before + shown, before + said)
                continue
            end = time.monotonic() + PATIENCE_S
            while in_order(said) != in_order(shown):  # until they have met, or it has failed
                assert time.monotonic() < end, f"{command}: {said}"
                time.sleep(0.2)
                said = bash.run(command)
            if command.endswith("&"):
                time.sleep(0.5)
        assert bash.run("wait %1; echo $?") == "0\n"  # it has said farewell
    if request.config.getoption("--regenerate"):
        README.write_text(text, encoding="utf-8")
