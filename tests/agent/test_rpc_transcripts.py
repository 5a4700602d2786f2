"""What real clients and a real agent said to each other, said to our server again.

Our server is given the client's bytes at the client's pace, in front of an agent that knows what
the real one knew. Each answer must be the real one's: equal, and of equal length, so that every
number, text and length has the same form. Only the order within maps is not compared: Go's is
random.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backends.agent.rpc.server import Server
from backends.agent.rpc.wire import MAX_RESPONSE, Values, decode
from tests.agent.stand_in import StandIn, conversations, member, stand_in
from tests.udp.loopback import live

TOKEN = "s3cret-token"
ALL = conversations()["go-client:members"]["fields"]["exchanges"][-1]["responses"][0]["body"]
CLUSTER = [member(each) for each in ALL["Members"]]


async def replay(vector: dict[str, Any], agent: StandIn) -> bytes:
    """What our server says to this client, up to the end of the connection."""
    server = Server(agent, "" if vector["name"].startswith("noauth") else TOKEN)
    await server.start("127.0.0.1:0")
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, port)
    asked, heard, expected = bytes.fromhex(vector["hex"]), b"", 0
    for side, size in vector["timeline"]:
        if side == "c":
            writer.write(asked[:size])
            asked = asked[size:]
            continue
        expected += size
        while len(heard) < expected and (data := await reader.read(65_536)):
            heard += data
    if not vector.get("agent_closes"):
        writer.write_eof()
    heard += await reader.read()
    writer.close()
    await server.stop()
    return heard


def values(data: bytes) -> list[Any]:
    """The values in ``data``, which must end with one."""
    found, stream = [], Values(MAX_RESPONSE)
    stream.feed(data)
    while (value := stream.take()) is not None:
        found.append(decode(value))
    return found


def by_request(said: list[Any]) -> dict[int, list[Any]]:
    """Responses, header and body, in order, of each request: streams may overtake each other."""
    found: dict[int, list[Any]] = {}
    for value in said:
        if set(value) == {"Error", "Seq"}:
            of_request = found.setdefault(value["Seq"], [])
        of_request.append(value)
    for of_request in found.values():
        for value in of_request:
            if "Members" in value:  # in random order
                value["Members"].sort(key=lambda each: each["Name"])
    return found


@pytest.mark.parametrize("vector", conversations().values(), ids=conversations())
@live
async def test_the_real_agents_words(vector: dict[str, Any]) -> None:
    said = await replay(vector, stand_in(vector, CLUSTER))
    expected = bytes.fromhex(vector["response_hex"])
    assert by_request(values(said)) == by_request(values(expected))
    assert len(said) == len(expected)
