"""What the agent says of itself, and where it is: info, tags, rtt, version."""

from __future__ import annotations

from collections.abc import Sequence

import click

import swimsim
from backends.agent.flags import FAILED, Command, MisuseError, flag
from backends.agent.rpc.client import Client, ConnectionLostError, RpcError
from backends.agent.verbs.output import go_json, say
from backends.agent.verbs.verb import Where, verb, words
from backends.agent.verbs.verb import tags as pairs
from swimsim.serf.coordinates import distance

PROTOCOL, OLDEST_PROTOCOL = 5, 2


@verb("info")
@flag("format", default="text", help="text or json.")
@words("")
def info(
    where: Where,
    format: str,  # noqa: A002 it is the flag's name
    words: Sequence[str],
) -> int | None:
    """Print the agent's own numbers."""

    async def work(client: Client) -> int | None:
        stats = await client.stats()
        sections = {name: dict(sorted(stats[name].items())) for name in sorted(stats)}
        if format == "json":
            say(go_json(sections))
        elif format == "text":
            lines = []
            for name, values in sections.items():
                lines.append(f"{name}:")
                lines += [f"\t{key} = {value}" for key, value in values.items()]
            say("\n".join(lines))
        else:
            say(f'Encoding error: Invalid output format "{format}"')
            return FAILED
        return None

    return where.ask(work, "Error querying agent")


@verb("tags")
@flag("set", multiple=True, help="key=value: set this tag; may be given again.")
@flag("delete", multiple=True, help="Delete this tag; may be given again.")
@words("")
def tags(
    where: Where,
    set: Sequence[str],  # noqa: A002 it is the flag's name
    delete: Sequence[str],
    words: Sequence[str],
) -> int | None:
    """Change the tags of the agent."""
    if not set and not delete:
        raise MisuseError
    chosen = pairs(set)
    if chosen is None:
        return FAILED

    async def work(client: Client) -> None:
        await client.set_tags(chosen, delete)
        say("Successfully updated agent tags")

    return where.ask(work, "Error setting tags")


@verb("rtt")
@words("NAME [NAME]")
def rtt(where: Where, words: Sequence[str]) -> int | None:
    """Estimate the round-trip time between two members, or between one and the agent."""
    if len(words) not in (1, 2):
        raise MisuseError("One or two node names must be specified")

    async def work(client: Client) -> int | None:
        one, other = words if len(words) == 2 else (words[0], await _own_name(client))
        places = []
        for name in (one, other):
            try:
                place = await client.coordinate(name)
            except (RpcError, ConnectionLostError) as error:
                say(f"Error getting coordinates: {error}")
                return FAILED
            if place is None:
                say(f'Could not find a coordinate for node "{name}"')
                return FAILED
            places.append(place)
        estimate_ms = distance(*places) * 1000
        say(f"Estimated {one} <-> {other} rtt: {estimate_ms:.3f} ms")
        return None

    return where.ask(work, "Error querying agent")


async def _own_name(client: Client) -> str:
    return (await client.stats())["agent"]["name"]


@click.command("version", cls=Command)
@words("")
def version(words: Sequence[str]) -> None:
    """Print the version, and which protocol versions are spoken."""
    say(f"swimsim {swimsim.__version__}")
    say(f"Agent Protocol: {PROTOCOL} (Understands back to: {OLDEST_PROTOCOL})")
