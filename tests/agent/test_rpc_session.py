"""The rules of a conversation that the recorded ones do not show (spec serf.md, 4.2 to 4.4)."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from backends.agent.rpc.server import Server
from backends.agent.rpc.session import MAX_STREAMS
from backends.agent.rpc.wire import BODIES, MAX_RESPONSE, Values, decode, encode
from backends.agent.surface import MemberEvent, Question, UserMessage
from tests.agent.stand_in import FAR, StandIn, info
from tests.udp.loopback import live

SHAKE = ({"Command": "handshake", "Seq": 1}, {"Version": 1})
OK_1 = {"Error": "", "Seq": 1}


class Line:
    """A client that says whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._values = Values(MAX_RESPONSE)

    def say(self, *values: Any) -> None:
        self.writer.write(encode(*values))

    async def hear(self) -> Any:
        """The next value; None at the end."""
        while (value := self._values.take()) is None:
            data = await self.reader.read(65_536)
            if not data:
                return None
            self._values.feed(data)
        return decode(value)

    async def hang_up(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def hear_all(self) -> list[Any]:
        """What is still to come, when nothing more is said."""
        self.writer.write_eof()
        found = []
        while (value := await self.hear()) is not None:
            found.append(value)
        return found


@asynccontextmanager
async def calls(agent: StandIn, auth_key: str = "", count: int = 1) -> AsyncIterator[list[Line]]:
    server = Server(agent, auth_key)
    await server.start("127.0.0.1:0")
    host, port = server.address.split(":")
    lines = [Line(*await asyncio.open_connection(host, port)) for _ in range(count)]
    try:
        yield lines
    finally:
        await server.stop()
        for line in lines:
            await line.hang_up()


def body_of(command: str) -> tuple[Any, ...]:
    kind = BODIES[command]
    return () if kind is None else ({},)


async def conversation(agent: StandIn, *said: Any, auth_key: str = "") -> list[Any]:
    async with calls(agent, auth_key) as (line,):
        line.say(*said)
        return await line.hear_all()


# --- before one is known -----------------------------------------------------------------------


@pytest.mark.parametrize("command", [*sorted(BODIES.keys() - {"handshake"}), "dance", ""])
@live
async def test_nothing_is_done_before_the_handshake(command: str) -> None:
    agent = StandIn()
    body = body_of(command) if command in BODIES else ()
    said = await conversation(agent, {"Command": command, "Seq": 5}, *body, *SHAKE)
    assert said == [{"Error": "Handshake required", "Seq": 5}]
    assert agent.asked == []


@pytest.mark.parametrize("command", [*sorted(BODIES.keys() - {"handshake", "auth"}), "dance"])
@live
async def test_nothing_is_done_before_auth_and_bodies_stay_unread(command: str) -> None:
    agent = StandIn()
    body = body_of(command) if command in BODIES else ()
    request = {"Command": command, "Seq": 5}
    said = await conversation(agent, *SHAKE, request, *body, auth_key="x")
    refusal = {"Error": "Authentication required", "Seq": 5}
    assert said == [OK_1, refusal, *([refusal] if body else [])]
    assert agent.asked == []


@live
async def test_an_empty_token_is_right_where_none_is_set_only() -> None:
    auth = {"Command": "auth", "Seq": 2}, {"AuthKey": ""}
    assert await conversation(StandIn(), *SHAKE, *auth) == [OK_1, {"Error": "", "Seq": 2}]
    said = await conversation(StandIn(), *SHAKE, *auth, auth_key="x")
    assert said == [OK_1, {"Error": "Invalid authentication token", "Seq": 2}]


# --- the header that is remembered -------------------------------------------------------------

STATS = {"Command": "stats", "Seq": 4}
STICKY = {  # what it shows: requests after the handshake, sequence numbers of the answers
    "a body nobody asked for repeats the request": ((STATS, {}), [4, 4]),
    "a missing Seq is the last one": ((STATS, {"Command": "stats"}), [4, 4]),
    "a missing Command is the last one": ((STATS, {"Seq": 5}), [4, 5]),
    "nothing before: Seq is that of the handshake": (({"Command": "stats"},), [1]),
    "unknown fields and nil are nothing": (({"Command": "stats", "Seq": None, "X": [1]},), [1]),
}  # fmt: skip


@pytest.mark.parametrize(("said", "seqs"), STICKY.values(), ids=STICKY)
@live
async def test_the_header_is_remembered(said: tuple[Any, ...], seqs: list[int]) -> None:
    heard = await conversation(StandIn(), *SHAKE, *said)
    assert [each["Seq"] for each in heard[1:] if "Seq" in each] == seqs
    assert heard[1:].count({}) == len(seqs)  # the bodies of stats


# --- one after another -------------------------------------------------------------------------


@live
async def test_a_request_waits_for_the_one_before_but_records_do_not() -> None:
    agent = StandIn()
    agent.hold = asyncio.Event()
    async with calls(agent) as (line,):
        line.say(*SHAKE, {"Command": "stream", "Seq": 2}, {"Type": "*"})
        assert [await line.hear(), await line.hear()] == [OK_1, {"Error": "", "Seq": 2}]
        line.say({"Command": "join", "Seq": 3}, {"Existing": ["a", "b"]})
        line.say({"Command": "stats", "Seq": 4})
        while not any(verb == "join" for verb, *_ in agent.asked):
            await asyncio.sleep(0.001)
        agent.feeds[0].put(UserMessage(9, "deploy", None, False))
        assert await line.hear() == {"Error": "", "Seq": 2}
        assert (await line.hear())["Name"] == "deploy"
        agent.hold.set()
        heard = await line.hear_all()
    assert heard == [{"Error": "", "Seq": 3}, {"Num": 1}, {"Error": "", "Seq": 4}, {}]


@live
async def test_leave_answers_then_ends_the_agent_and_the_connection() -> None:
    agent = StandIn()
    agent.hold = asyncio.Event()
    async with calls(agent, count=2) as (line, other):
        line.say(*SHAKE, {"Command": "leave", "Seq": 2}, {"Command": "stats", "Seq": 3})
        other.say(*SHAKE, {"Command": "stats", "Seq": 2})
        assert [await other.hear() for _ in range(3)][2] == {}  # others are served meanwhile
        assert await line.hear() == OK_1
        assert not agent.has_ended.is_set()
        agent.hold.set()
        assert await line.hear() == {"Error": "", "Seq": 2}
        assert await line.hear() is None
    assert agent.has_ended.is_set()


# --- streams -----------------------------------------------------------------------------------


@live
async def test_each_stream_of_a_connection_numbers_queries_that_can_be_answered() -> None:
    agent = StandIn()
    agent.events = [Question(5, 77, "load", b"", FAR), MemberEvent("member-join", (info("b"),))]
    async with calls(agent) as (line,):
        line.say(*SHAKE)
        for seq in (10, 11):
            line.say({"Command": "stream", "Seq": seq}, {"Type": "query,member-join"})
        heard = [await line.hear() for _ in range(3 + 2 * 2 * 2)]
        numbers = [each["ID"] for each in heard if each.get("Event") == "query"]
        assert sorted(numbers) == [1, 2]
        members = [each["Members"][0]["Name"] for each in heard if "Members" in each]
        assert members == ["b", "b"]
        line.say({"Command": "respond", "Seq": 12}, {"ID": 2, "Payload": "0.42"})
        line.say({"Command": "respond", "Seq": 13}, {"ID": 3, "Payload": b"0.42"})
        said = await line.hear_all()
    assert said == [
        {"Error": "", "Seq": 12},
        {"Error": "No pending queries matching ID", "Seq": 13},
    ]
    assert ("respond", 5, 77, b"0.42") in agent.asked
    assert all(feed.is_closed for feed in agent.feeds)


@live
async def test_a_query_past_its_deadline_is_not_answered() -> None:
    agent = StandIn()
    agent.events = [Question(5, 77, "load", b"", 0.0)]
    async with calls(agent) as (line,):
        line.say(*SHAKE, {"Command": "stream", "Seq": 2}, {"Type": "query"})
        heard = [await line.hear() for _ in range(4)]
        assert heard[-1]["ID"] == 1
        line.say({"Command": "respond", "Seq": 3}, {"ID": 1, "Payload": b""})
        assert await line.hear() == {"Error": "No pending queries matching ID", "Seq": 3}


@live
async def test_a_stopped_stream_says_no_more_and_its_number_is_free() -> None:
    agent = StandIn()
    async with calls(agent) as (line,):
        line.say(*SHAKE, {"Command": "stream", "Seq": 2}, {"Type": ""})
        line.say({"Command": "monitor", "Seq": 3}, {"LogLevel": "debug"})
        line.say({"Command": "stop", "Seq": 4}, {"Stop": 2})
        line.say({"Command": "stop", "Seq": 5}, {"Stop": 3})
        assert [(await line.hear())["Seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        assert [feed.is_closed for feed in agent.feeds] == [True, True]
        line.say({"Command": "stream", "Seq": 2}, {"Type": ""})
        line.say({"Command": "monitor", "Seq": 3}, {"LogLevel": "debug"})
        assert [await line.hear() for _ in "12"] == [{"Error": "", "Seq": seq} for seq in (2, 3)]


@live
async def test_streams_are_limited() -> None:
    agent = StandIn()
    streams = [
        value
        for seq in range(MAX_STREAMS + 1)
        for value in ({"Command": "stream", "Seq": seq}, {"Type": ""})
    ]
    *fine, refused = await conversation(agent, *SHAKE, *streams)
    assert {each["Error"] for each in fine} == {""}
    assert str(MAX_STREAMS) in refused["Error"]


@live
async def test_who_does_not_read_is_waited_for_and_what_waits_is_not_taken() -> None:
    agent = StandIn()
    many = 4_000
    agent.events = [UserMessage(n, "x", b"y" * 1_000, False) for n in range(many)]
    async with calls(agent) as (line,):
        line.say(*SHAKE, {"Command": "stream", "Seq": 2}, {"Type": ""})
        taken, before = 0, -1
        while taken != before:  # until the server stops taking from the feed
            await asyncio.sleep(0.1)
            taken, before = many - agent.feeds[0]._items.qsize(), taken
        assert taken < many
        heard = [await line.hear() for _ in range(2 + 2 * many)]
        assert [each["LTime"] for each in heard if "LTime" in each] == list(range(many))


@live
async def test_a_client_that_vanishes_leaves_nothing() -> None:
    agent = StandIn()
    async with calls(agent) as (line,):
        line.say(*SHAKE, {"Command": "stream", "Seq": 2}, {"Type": ""})
        assert [await line.hear(), await line.hear()] == [OK_1, {"Error": "", "Seq": 2}]
        line.writer.transport.abort()
        while not agent.feeds[0].is_closed:
            await asyncio.sleep(0.001)


# --- odd input ---------------------------------------------------------------------------------

ENDS = {  # what it shows: bytes after the handshake that end the connection without a word
    "no msgpack at all": b"GET / HTTP/1.1\r\n\r\n",
    "a byte that msgpack never uses": b"\xc1",
    "a number for a header": b"\x01",
    "a text for a header": b"\xa5hello",
    "a command that is a number": encode({"Command": 7, "Seq": 1}),
    "a number that is too large": b"\x81\xa3Seq\xcb\x40\x00\x00\x00\x00\x00\x00\x00",
    "a negative number": encode({"Command": "stats", "Seq": -1}),
    "a body that is a list": encode({"Command": "event", "Seq": 1}) + b"\x91\x93\x01\x02\x03",
    "a name that is a map": encode({"Command": "event", "Seq": 1}, {"Name": {}}),
    "a relay factor over 255": encode({"Command": "query", "Seq": 1}, {"RelayFactor": 256}),
    "a text of four gigabytes": b"\x81\xdb\xff\xff\xff\xff",
    "a list of four thousand million": b"\xdd\xff\xff\xff\xff",
    "lists in lists without end": b"\x91" * 2_000_000,
    "a request over a megabyte": encode({"Command": "stats", "X": "x" * (1 << 20)}),
    "an expression that is none": encode({"Command": "members-filtered"}, {"Tags": {"a": "(("}}),
    "half a request": encode({"Command": "event", "Seq": 1}),
}


@pytest.mark.parametrize("data", ENDS.values(), ids=ENDS)
@live
async def test_odd_input_ends_the_connection_and_nothing_else(data: bytes) -> None:
    agent = StandIn()
    async with calls(agent, count=2) as (line, other):
        line.say(*SHAKE)
        assert await line.hear() == OK_1
        line.writer.write(data)
        with suppress(ConnectionError):  # closed before all of it was read
            assert await line.hear_all() == []
        other.say(*SHAKE)
        assert await other.hear() == OK_1
    assert agent.asked == []


@live
async def test_a_request_may_come_in_pieces_and_an_agent_may_have_trouble() -> None:
    agent = StandIn()
    agent.stats = lambda: {"runtime": 1 / 0}  # type: ignore[method-assign]
    async with calls(agent, count=2) as (line, other):
        for byte in encode(*SHAKE):
            line.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert await line.hear() == OK_1
        line.say({"Command": "stats", "Seq": 2})
        assert await line.hear() is None
        other.say(*SHAKE, {"Command": "list-keys", "Seq": 3})
        assert await other.hear() == OK_1
    assert any("ZeroDivisionError" in text for text in agent.logged)


@live
async def test_names_that_are_not_utf_8_travel_as_they_are() -> None:
    agent = StandIn()
    agent.known = [info("caf\udce9", tag="\udcff")]
    async with calls(agent) as (line,):
        line.say(*SHAKE, {"Command": "members-filtered", "Seq": 2}, {"Name": "caf\udce9"})
        heard = await line.hear_all()
    (found,) = heard[2]["Members"]
    assert (found["Name"], found["Tags"]) == ("caf\udce9", {"tag": "\udcff"})


@live
async def test_of_filters_a_missing_tag_is_empty_and_empty_texts_are_none() -> None:
    agent = StandIn()
    agent.known = [info("a", role="web"), info("b"), info("c", "failed", role="db")]
    asked: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["a", "b", "c"]),
        ({"Name": "", "Status": ""}, ["a", "b", "c"]),
        ({"Status": "alive|left"}, ["a", "b"]),
        ({"Tags": {"role": "w.*"}}, ["a"]),
        ({"Tags": {"role": ".*"}}, ["a", "b", "c"]),
        ({"Tags": {"role": ""}}, ["b"]),
        ({"Name": "[ab]", "Tags": {"role": ".+"}}, ["a"]),
    ]
    async with calls(agent) as (line,):
        line.say(*SHAKE)
        await line.hear()
        for filters, names in asked:
            line.say({"Command": "members-filtered", "Seq": 2}, filters)
            await line.hear()
            assert [each["Name"] for each in (await line.hear())["Members"]] == names, filters


# --- where it listens --------------------------------------------------------------------------


@live
async def test_a_unix_socket_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "rpc.sock"
    server = Server(StandIn())
    await server.start(f"unix://{path}")
    assert server.address == f"unix://{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line = Line(*await asyncio.open_unix_connection(path))
    line.say(*SHAKE)
    assert await line.hear() == OK_1
    with pytest.raises(OSError, match="address already in use"):
        await Server(StandIn()).start(f"unix://{path}")
    await server.stop()
    await line.hang_up()
    assert not path.exists()


@live
async def test_what_a_killed_agent_left_is_replaced_but_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "rpc.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = Server(StandIn())
    await server.start(f"unix://{path}", mode=0o660)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    path.unlink()
    path.write_text("not mine")
    await server.stop()
    assert path.read_text() == "not mine"
    with pytest.raises(OSError, match="no socket"):
        await server.start(f"unix://{path}")
    assert os.listdir(tmp_path) == ["rpc.sock"]


@live
async def test_a_taken_port_is_an_os_error_and_an_odd_address_a_value_error() -> None:
    first = Server(StandIn())
    await first.start("127.0.0.1:0")
    with pytest.raises(OSError, match="address already in use"):
        await Server(StandIn()).start(first.address)
    await first.stop()
    for text in ("", "7373", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:7373", "unix://"):
        with pytest.raises(ValueError, match="address"):
            await first.start(text)
