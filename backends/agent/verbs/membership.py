"""Who is there, who comes and who goes: members, join, leave, force-leave, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backends.agent.flags import FAILED, MisuseError, flag, switch
from backends.agent.rpc.client import Client
from backends.agent.rpc.records import status_name
from backends.agent.verbs.output import columns, go_json, say
from backends.agent.verbs.verb import Where, tags, verb, words
from swimsim.serf.messages import MemberInfo


@verb("members")
@switch("detailed", help="Say which protocol versions each one speaks.")
@flag("format", default="text", help="text or json.")
@flag("name", default="", help="Only those whose name matches this expression.")
@flag("role", default="", help="Only those whose role does; better: -tag role=.")
@flag("status", default="", help="Only those whose status does.")
@flag("tag", multiple=True, help="key=expression, may be given again: only those whose tag does.")
@words("")
def members(
    where: Where,
    detailed: bool,
    format: str,  # noqa: A002 it is the flag's name
    name: str,
    role: str,
    status: str,
    tag: Sequence[str],
    words: Sequence[str],
) -> int | None:
    """List the members that the agent knows. Expressions match from end to end."""
    wanted = tags(tag)
    if wanted is None:
        return FAILED
    if role:
        say("Deprecation warning: 'Role' has been replaced with 'Tags'")
        wanted["role"] = role

    async def work(client: Client) -> int | None:
        found = await client.members(name=name, status=status, tags=wanted)
        if format == "json":
            say(go_json({"members": [_as_json(each) for each in found] or None}))
        elif format == "text":
            say(columns([_row(each, detailed) for each in found]))
        else:
            say(f'Encoding error: Invalid output format "{format}"')
            return FAILED
        return None

    return where.ask(work, "Error retrieving members")


def _row(member: MemberInfo, detailed: bool) -> list[str]:
    tags = ",".join(f"{key}={value}" for key, value in member.tags or ())
    row = [member.name, str(member.address), status_name(member), tags]
    if detailed:
        least, most, current = member.vsn[3:6]
        row.append(f"Protocol Version: {current}")
        row.append(f"Available Protocol Range: [{least}, {most}]")
    return row


def _as_json(member: MemberInfo) -> dict[str, Any]:
    least, most, current = member.vsn[3:6]
    return {
        "name": member.name,
        "addr": str(member.address),
        "port": member.address.port,
        "tags": dict(member.tags or ()),
        "status": status_name(member),
        "protocol": {"max": most, "min": least, "version": current},
    }


@verb("join")
@switch("replay", help="Hear of the user events before now, too.")
@words("ADDRESS...")
def join(where: Where, replay: bool, words: Sequence[str]) -> int | None:
    """Have the agent join the cluster of these members."""
    if not words:
        raise MisuseError("At least one address to join must be specified.")

    async def work(client: Client) -> None:
        joined = await client.join(words, replay)
        say(f"Successfully joined cluster by contacting {joined} nodes.")

    return where.ask(work, "Error joining the cluster")


@verb("leave")
@words("")
def leave(where: Where, words: Sequence[str]) -> int | None:
    """Have the agent say farewell, and end."""

    async def work(client: Client) -> None:
        await client.leave()
        say("Graceful leave complete")

    return where.ask(work, "Error leaving")


@verb("force-leave")
@switch("prune", help="Forget the member altogether.")
@switch("force", help="Prune it even if it is alive.")
@words("NAME")
def force_leave(where: Where, prune: bool, force: bool, words: Sequence[str]) -> int | None:
    """Make a failed member one that has left, so that nobody tries to reach it any more."""
    if len(words) != 1:
        raise MisuseError("A node name must be specified to force leave.")

    async def work(client: Client) -> None:
        await client.force_leave(words[0], prune=prune, force=force)

    return where.ask(work, "Error force leaving")


@verb("why")
@words("NAME")
def why(where: Where, words: Sequence[str]) -> int | None:
    """Say why the agent believes what it believes of a member, from its own history."""
    if len(words) != 1:
        raise MisuseError("The name of a member must be specified.")

    async def work(client: Client) -> None:
        for line in await client.why(words[0]):
            say(line)

    return where.ask(work, "Error asking why")
