"""What is said in the cluster: event, query, reachability, monitor."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

from backends.agent.flags import FAILED, Duration, Integer, MisuseError, flag, switch
from backends.agent.rpc.client import Client, ConnectionLostError, RpcError, Subscription
from backends.agent.rpc.records import status_name
from backends.agent.surface import Answer
from backends.agent.verbs.output import go_json, go_syntax, say
from backends.agent.verbs.verb import Where, tags, verb, words

TOO_MANY = "Too many command line arguments. Only a name and payload must be specified."
MOST_RELAYS = 255


@verb("event")
@switch("coalesce", default=True, help="Of several with this name, the last will do.")
@words("NAME [PAYLOAD]")
def event(where: Where, coalesce: bool, words: Sequence[str]) -> int | None:
    """Tell every member something."""
    name, payload = _name_and_payload(words, "An event name must be specified.")

    async def work(client: Client) -> None:
        await client.event(name, payload, coalesce)
        say(f"Event '{name}' dispatched! Coalescing enabled: {str(coalesce).lower()}")

    return where.ask(work, "Error sending event")


def _name_and_payload(words: Sequence[str], missing: str) -> tuple[str, bytes | None]:
    match list(words):
        case []:
            raise MisuseError(missing)
        case [name]:
            return name, None
        case [name, payload]:
            return name, payload.encode("utf-8", "surrogateescape")
        case _:
            raise MisuseError(TOO_MANY)


# --- query ------------------------------------------------------------------------------------


@verb("query")
@flag("format", default="text", help="text or json.")
@flag("node", multiple=True, help="Ask only this member; may be given again.")
@flag("tag", multiple=True, help="key=expression, may be given again: ask only those.")
@flag("timeout", type=Duration(), default=0, help="How long to wait, say 15s.")
@switch("no-ack", help="Do not have members say that they were reached.")
@flag(
    "relay-factor", type=Integer(), default=0, help="Have answers come over so many others as well."
)
@words("NAME [PAYLOAD]")
def query(
    where: Where,
    format: str,  # noqa: A002 it is the flag's name
    node: Sequence[str],
    tag: Sequence[str],
    timeout: int,
    no_ack: bool,
    relay_factor: int,
    words: Sequence[str],
) -> int | None:
    """Ask the members something, and print their answers until the time is up."""
    filters = tags(tag)
    if filters is None:
        return FAILED
    name, payload = _name_and_payload(words, "A query name must be specified.")
    if not 0 <= relay_factor <= MOST_RELAYS:
        say(f"Relay factor must be between 0 and {MOST_RELAYS}")
        return FAILED
    if format not in ("text", "json"):
        say(f"Invalid format: {format}")
        return FAILED

    async def work(client: Client) -> None:
        asked = client.query(
            name,
            payload,
            nodes=node,
            tags=filters,
            acks=not no_ack,
            relay_factor=relay_factor,
            timeout_ns=timeout,
        )
        async with asked as answers:
            await (_in_text(name, answers, not no_ack) if format == "text" else _in_json(answers))

    return where.ask(work, "Error sending query", status=FAILED)


async def _in_text(name: str, answers: Subscription[Answer], with_acks: bool) -> None:
    say(f"Query '{name}' dispatched")
    acks = responses = 0
    async for answer in answers:
        if not answer.source:  # Serf lets such slip in at the deadline
            continue
        if answer.is_ack:
            acks += 1
            say(f"Ack from '{answer.source}'")
        else:
            responses += 1
            text = _text(answer.payload).removesuffix("\n")
            say(f"Response from '{answer.source}': {text}")
    if with_acks:
        say(f"Total Acks: {acks}")
    say(f"Total Responses: {responses}")


async def _in_json(answers: Subscription[Answer]) -> None:
    acks, responses = [], {}
    async for answer in answers:
        if not answer.source:
            continue
        if answer.is_ack:
            acks.append(answer.source)
        else:
            responses[answer.source] = _text(answer.payload)
    say(go_json({"Acks": acks or None, "Responses": dict(sorted(responses.items()))}))


def _text(payload: bytes | None) -> str:
    return (payload or b"").decode("utf-8", "surrogateescape")


# --- reachability -----------------------------------------------------------------------------

TROUBLE = """
This could mean one or more of the following:
  * Those members are down, and have not been detected yet
  * They cannot be reached from here, or cannot reach this agent, over UDP
  * Packets get lost: try again, and compare
`swimsim why NAME` says what the agent has seen of a member."""

STRANGE = """
This could mean one or more of the following:
  * A member's state has only just changed
  * The agent believes that a member is gone which others still reach"""


@verb("reachability")
@switch("verbose", help="Say who answered, and how fast.")
@words("")
def reachability(where: Where, verbose: bool, words: Sequence[str]) -> int | None:
    """Have every member say that it can be reached, and see who does not."""

    async def work(client: Client) -> int | None:
        members = await client.members()
        live = {str(each.name) for each in members if status_name(each) == "alive"}
        say(f"Total members: {len(members)}, live members: {len(live)}")
        say("Starting reachability test...")
        try:
            acks = await _ping(client, verbose)
        except RpcError as error:
            say(f"Error sending query: {error}")
            return FAILED
        return _verdict(live, acks)

    return where.ask(work, "Error getting members", "Test interrupted", FAILED)


async def _ping(client: Client, verbose: bool) -> Counter[str]:
    clock = asyncio.get_running_loop().time
    start = last = clock()
    acks: Counter[str] = Counter()
    async with client.query("_serf_ping", acks=True) as answers:
        async for answer in answers:
            if not answer.is_ack or not answer.source:
                continue
            if verbose:
                say(f"\tAck from '{answer.source}'")
            acks[answer.source] += 1
            last = clock()
    if verbose:
        whole, until_last = clock() - start, last - start
        say(f"Query time: {whole:.2f} sec, time to last response: {until_last:.2f} sec")
    return acks


def _verdict(live: set[str], acks: Counter[str]) -> int | None:
    twice = sorted(name for name, count in acks.items() if count > 1)
    for name in twice:
        say(f"Duplicate response from '{name}'")
    missing, strange = sorted(live - set(acks)), sorted(set(acks) - live)
    if strange:
        _list("Received more acks than live nodes! Acks from non-live nodes:", strange, STRANGE)
    elif missing:
        _list("Received less acks than live nodes! Missing acks from:", missing, TROUBLE)
    elif not twice:
        say("Successfully contacted all live nodes")
        return None
    return FAILED


def _list(title: str, names: Sequence[str], advice: str) -> None:
    say(title)
    for name in names:
        say(f"\t{name}")
    say(advice)


# --- monitor ----------------------------------------------------------------------------------


@verb("monitor")
@flag("log-level", default="INFO", help="Show log lines from this level on.")
@words("")
def monitor(where: Where, log_level: str, words: Sequence[str]) -> int | None:
    """Print the agent's log and every event, until it is interrupted."""

    async def work(client: Client) -> int:
        async with client.records("*") as stream:
            log = client.monitor(log_level)
            try:
                await log.__aenter__()
            except (RpcError, ConnectionLostError) as error:
                say(f"Error starting monitor: {error}")
                return FAILED
            try:
                await _first_end(_print_events(stream), _print_log(log))
            except ConnectionLostError:
                say("")
                say("Remote side ended the monitor! This usually means that the")
                say("remote side has exited or crashed.")
        return FAILED

    return where.ask(work, "Error starting stream", status=0)


async def _first_end(*works: Coroutine[Any, Any, None]) -> None:
    """Do all at once, until one has come to its end."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _print_events(stream: Subscription[dict[str, Any]]) -> None:
    async for record in stream:
        lines = [f"\t{key}: {go_syntax(value)}" for key, value in sorted(record.items())]
        say("\n".join(["Event Info:", *lines]))


async def _print_log(log: Subscription[str]) -> None:
    async for line in log:
        say(line)
