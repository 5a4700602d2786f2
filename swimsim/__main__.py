"""The front door: a table of commands, each loaded when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import swimsim


class Command(NamedTuple):
    """Where a command lives and what it is for."""

    module: str
    function: str
    help: str


COMMANDS = {
    "simulate": Command("experiments.cli", "simulate", "run a scenario file"),
    "replay": Command("experiments.replay", "replay", "live a node's journal again, ask it why"),
    "experiment": Command("experiments.commands", "experiment", "ask the simulator a question"),
    "report": Command("experiments.commands", "report", "results as a page to read"),
    "agent": Command("backends.agent.cli", "agent", "run a member of a real cluster"),
    "bench": Command("experiments.bench", "bench", "measure the simulator's speed and memory"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_usage())
        sys.exit(0)
    if words[0] in ("version", "--version", "-version"):
        sys.stdout.write(f"swimsim {swimsim.__version__}\n")
        sys.exit(0)
    command = COMMANDS.get(words[0])
    if command is None:
        sys.stderr.write(f"swimsim: there is no command {words[0]!r}\n\n{_usage()}")
        sys.exit(2)
    function = getattr(import_module(command.module), command.function)
    function(words[1:], prog_name=f"swimsim {words[0]}")


def _usage() -> str:
    lines = [f"  {name:<12}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: swimsim COMMAND ...", "", *lines, "  version     print it", ""])


if __name__ == "__main__":
    main()
