"""The keys that gossip is encrypted with: keys and keygen."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import NamedTuple

import click

from backends.agent.flags import FAILED, Command, MisuseError, flag, switch
from backends.agent.rpc.client import Client, ConnectionLostError
from backends.agent.surface import KeyAction, KeyReport
from backends.agent.verbs.output import columns, say
from backends.agent.verbs.verb import Where, verb, words

KEY_BYTES = 32


class Saying(NamedTuple):
    """What is said of an action: while it goes on, when it went well, when it did not."""

    start: str
    done: str
    failed: str


SAYINGS: dict[KeyAction, Saying] = {
    "install": Saying(
        "Installing key on all members...",
        "Successfully installed key!",
        "Error installing key",
    ),
    "use": Saying(
        "Changing primary key on all members...",
        "Successfully changed primary key!",
        "Error changing primary key",
    ),
    "remove": Saying(
        "Removing key on all members...",
        "Successfully removed key!",
        "Error removing key",
    ),
    "list": Saying(
        "Asking all members for installed keys...",
        "Keys gathered, listing cluster keys...",
        "Failed to gather member keys",
    ),
}


@verb("keys")
@flag("install", default="", help="Have all members take this key, to decrypt with.")
@flag("use", default="", help="Have all members encrypt with this key.")
@flag("remove", default="", help="Have all members forget this key.")
@switch("list", help="List the keys, and how many members have each.")
@words("")
def keys(
    where: Where,
    install: str,
    use: str,
    remove: str,
    list: bool,  # noqa: A002 it is the flag's name
    words: Sequence[str],
) -> int | None:
    """Change the keys of the whole cluster, one step at a time: install, use, remove."""
    given: dict[KeyAction, str] = {"install": install, "use": use, "remove": remove}
    asked: dict[KeyAction, str] = {action: key for action, key in given.items() if key}
    if list:
        asked["list"] = ""
    if not asked:
        raise MisuseError
    if len(asked) > 1:
        say("Only one of -install, -use, -remove, or -list allowed")
        return FAILED
    ((action, key),) = asked.items()

    async def work(client: Client) -> int | None:
        say(f"==> {SAYINGS[action].start}")
        try:
            report = await client.keys(action, key)
        except ConnectionLostError as error:
            report = KeyReport(0, 0, 0, {}, {}, {}, str(error))
        return _tell(action, report)

    return where.ask(work, SAYINGS[action].failed)


def _tell(action: KeyAction, report: KeyReport) -> int | None:
    if report.error:
        failures = [["failed:", *each] for each in sorted(report.messages.items())]
        if failures:
            say(columns(failures))
        say("")
        say(f"{SAYINGS[action].failed}: {report.error}")
        return FAILED
    say(f"==> {SAYINGS[action].done}")
    if action == "list":
        counts = sorted(report.keys.items())
        say("")
        say(columns([[key, f"[{count}/{report.nodes}]"] for key, count in counts]))
    return None


@click.command("keygen", cls=Command)
@words("")
def keygen(words: Sequence[str]) -> None:
    """Print a new key, 32 random bytes in base64."""
    say(base64.b64encode(os.urandom(KEY_BYTES)).decode())
