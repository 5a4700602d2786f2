"""The front door: a table of commands, each loaded when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """Where a command lives and what it is for."""

    module: str
    function: str
    help: str


VERBS = "backends.agent.verbs"
COMMANDS = {
    "simulate": Command("experiments.cli", "simulate", "run a scenario file"),
    "replay": Command("experiments.replay", "replay", "live a node's journal again, ask it why"),
    "experiment": Command("experiments.commands", "experiment", "ask the simulator a question"),
    "report": Command("experiments.commands", "report", "results as a page to read"),
    "bench": Command("experiments.bench", "bench", "measure the simulator's speed and memory"),
}
OPERATION = {  # Serf's verbs
    "agent": Command("backends.agent.cli", "agent", "run a member of a real cluster"),
    "members": Command(f"{VERBS}.membership", "members", "list the members an agent knows"),
    "join": Command(f"{VERBS}.membership", "join", "have an agent join a cluster"),
    "leave": Command(f"{VERBS}.membership", "leave", "have an agent say farewell and end"),
    "force-leave": Command(f"{VERBS}.membership", "force_leave", "give a failed member up"),
    "why": Command(f"{VERBS}.membership", "why", "ask an agent why it believes what of a member"),
    "event": Command(f"{VERBS}.news", "event", "tell every member something"),
    "query": Command(f"{VERBS}.news", "query", "ask every member something"),
    "reachability": Command(f"{VERBS}.news", "reachability", "see which members can be reached"),
    "monitor": Command(f"{VERBS}.news", "monitor", "print an agent's log and events"),
    "info": Command(f"{VERBS}.about", "info", "print an agent's own numbers"),
    "tags": Command(f"{VERBS}.about", "tags", "change an agent's tags"),
    "rtt": Command(f"{VERBS}.about", "rtt", "estimate a round-trip time"),
    "keys": Command(f"{VERBS}.keys", "keys", "change the keys of a cluster"),
    "keygen": Command(f"{VERBS}.keys", "keygen", "print a new key"),
    "version": Command(f"{VERBS}.about", "version", "print the version"),
}
UNKNOWN = 127  # what a shell says of a command that it does not find, and Serf likewise


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with its status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("-h", "-help", "--help", "help"):
        sys.stdout.write(_usage())
        sys.exit(0)
    if not words or words[0] in ("-v", "-version", "--version"):
        words[:1] = ["version"] if words else [""]
    name = words[0]
    if name in OPERATION and {"-v", "-version", "--version"} & set(words):  # as Serf has it
        name, words = "version", ["version"]
    command = (COMMANDS | OPERATION).get(name)
    if command is None:
        complaint = f"swimsim: there is no command {name!r}\n\n" if name else ""
        sys.stderr.write(complaint + _usage())
        sys.exit(UNKNOWN)
    function = getattr(import_module(command.module), command.function)
    function(words[1:], prog_name=f"swimsim {name}")


def _usage() -> str:
    lines = ["usage: swimsim COMMAND ..."]
    for title, commands in ("research:", COMMANDS), ("operation:", OPERATION):
        lines += ["", title]
        lines += [f"  {name:<14}{command.help}" for name, command in commands.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
