"""Streams from strangers and to them: slow, endless, too many, too large, or nonsense."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import pytest
from msgspec.structs import replace

from backends.udp import JoinError, Runtime
from backends.udp import transport as module
from swimsim.effects import Joined
from swimsim.inputs import Received
from swimsim.member import ALIVE, Member, peer
from swimsim.messages import Ack, Alive, Ping, PushPull, User
from swimsim.terms import MS, Address, NodeId
from swimsim.wire import Envelope, ErrorReply, keyring, lzw, packet, stream
from swimsim.wire.envelope import PLAIN, compressed
from swimsim.wire.msgpack import BYTES, I64, U8, read, record
from tests.udp.loopback import (
    FAST,
    LOOPS,
    agree,
    bomb,
    finished,
    live,
    names,
    node,
    place,
    together,
    until,
)

each_loop = pytest.mark.parametrize("loop", LOOPS)
HASTY = replace(FAST, stream_timeout=300 * MS)
RING = keyring.keyring([bytes(16)])
STRANGER = peer(NodeId("z"), Address(bytes((127, 0, 0, 1)), 9), b"", FAST.vsn)
HEADER = record(("Nodes", I64), ("UserStateLen", I64), ("Join", U8))
USER = record(("UserMsgLen", I64))


def ping(runtime: Runtime, name: str | None = None) -> Ping:
    return Ping(7, NodeId(runtime.name if name is None else name), runtime.address, NodeId("z"))


@asynccontextmanager
async def connected(
    runtime: Runtime,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*place(runtime))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def said(runtime: Runtime, *portions: bytes, end: bool = False) -> bytes:
    """All that it answers to these bytes."""
    async with connected(runtime) as (reader, writer):
        with suppress(OSError):
            for portion in portions:
                writer.write(portion)
                await writer.drain()
                await asyncio.sleep(0)
            if end:
                writer.write_eof()
            return await reader.read()
        return b""


async def asked(runtime: Runtime) -> bytes:
    """The first byte of the answer to a ping."""
    async with connected(runtime) as (reader, writer):
        writer.write(stream.encode(ping(runtime), PLAIN, first=True))
        return await reader.readexactly(1)


async def answer(runtime: Runtime, message: Any, envelope: Envelope = PLAIN) -> Any:
    """The message that it answers with."""
    request = stream.encode(message, envelope, first=True, nonce=bytes(12))
    return stream.decode(await said(runtime, request), envelope, first=False)


# --- what is asked properly is answered ----------------------------------------------------------


@each_loop
@live
async def test_a_ping_is_answered(loop: str) -> None:
    async with node("a", compress=False) as a:
        assert await answer(a, ping(a)) == Ack(7)
        assert await answer(a, ping(a, "")) == Ack(7)
        assert a.counters["streams answered"] == 2


@live
async def test_a_ping_for_somebody_else_is_not() -> None:
    async with node("a") as a:
        assert await said(a, stream.encode(ping(a, "b"), PLAIN, first=True)) == b""
        assert a.counters["streams answered"] == 0


@each_loop
@live
async def test_a_request_may_come_byte_by_byte(loop: str) -> None:
    async with node("a", compress=False, label=b"x", keyring=RING) as a:
        envelope = Envelope(compress=True, label=b"x", keyring=RING)
        request = stream.encode(ping(a), envelope, first=True, nonce=bytes(12))
        reply = await said(a, *(bytes((byte,)) for byte in request))
        assert stream.decode(reply, envelope, first=False) == Ack(7)


@live
async def test_what_follows_the_request_is_ignored() -> None:
    async with node("a", compress=False) as a:
        request = stream.encode(ping(a), PLAIN, first=True)
        assert await said(a, request + b"more and more", end=True) != b""


@live
async def test_a_user_message_is_taken_and_not_answered() -> None:
    async with node("a") as a:
        assert await said(a, stream.encode(User(bytes(100_000)), PLAIN, first=True)) == b""
        assert a.counters["stream bytes received"] > 100_000
        assert [key for key in a.counters if "refused" in key] == []


@live
async def test_a_push_pull_brings_members_in_and_the_table_out() -> None:
    async with node("a", compress=False) as a:
        joined = a.events(Joined)
        reply = await answer(a, PushPull(True, (Member(STRANGER, 1, ALIVE),)))
        assert reply == PushPull(True, (Member(a.me, 1, ALIVE),))
        assert await anext(joined) == Joined(STRANGER, 1)


@live
async def test_who_says_no_port_lives_at_this_nodes_own() -> None:
    """Spec memberlist.md, 5.2: nodes of protocol version 1 know of no ports."""
    host = bytes((127, 0, 0, 1))
    async with node("a", compress=False) as a:
        portless = peer(NodeId("old"), Address(host, 0), b"", FAST.vsn)
        await answer(a, PushPull(True, (Member(portless, 1, ALIVE),)))
        news = Alive(1, peer(NodeId("older"), Address(host, 0), b"", FAST.vsn))
        a._on_packet(packet.encode((news,), PLAIN), ("127.0.0.1", 1))
        found = {each.peer.name: each.peer.address for each in a.known}
        assert found["old"] == found["older"] == Address(host, a.address.port)


# --- refusals -------------------------------------------------------------------------------------

PUSH_PULL = b"\x06"
HUGE = 2**32 - 1
BLOCK = b"\x0a\0\0\0\x30\x01" + bytes(47)  # encrypted with no key of this world
REFUSED: dict[str, tuple[dict[str, Any], bytes, str, bool]] = {
    # the node's settings, what is sent, why it is refused, whether the reason is told
    "an unknown type": ({}, b"\x63hello", "unknown-type", False),
    "an error": ({}, stream.encode(ErrorReply("x"), PLAIN, first=True), "unknown-type", False),
    "an ack": ({}, stream.encode(Ack(1), PLAIN, first=True), "unknown-type", False),
    "text": ({}, b"GET / HTTP/1.1\r\n\r\n", "unknown-type", False),
    "nobody's records": ({}, PUSH_PULL + HEADER.write((HUGE, 0, 1)), "too-large", False),
    "less than none": ({}, PUSH_PULL + HEADER.write((-1, 0, 1)), "out-of-range", False),
    "an endless state": ({}, PUSH_PULL + HEADER.write((0, HUGE, 1)), "too-large", False),
    "an endless message": ({}, b"\x08" + USER.write((HUGE,)), "too-large", False),
    "records of nothing": ({}, PUSH_PULL + HEADER.write((2, 0, 1)) + b"\xc1", "malformed", False),
    "an endless block": ({"keyring": RING}, b"\x0a\xff\xff\xff\xff", "too-large", False),
    "a block of another": ({"keyring": RING}, BLOCK, "undecryptable", True),
    "a block of nobody": ({}, BLOCK, "unexpected-encryption", True),
    "plain text": ({"keyring": RING}, b"\x00" + bytes(50), "unencrypted", True),
    "a broken compressor": (
        {},
        b"\x09" + record(("Algo", U8), ("Buf", BYTES)).write((0, bytes(20))),
        "compression",
        True,
    ),
    "another compressor": (
        {},
        b"\x09" + record(("Algo", U8), ("Buf", BYTES)).write((1, bytes(20))),
        "compression",
        True,
    ),
    "a label": ({}, b"\xf4\x01x\x00", "label", False),
    "another label": ({"label": b"y"}, b"\xf4\x01x\x00", "label", False),
    "no label": ({"label": b"y"}, b"\x00" + bytes(50), "label", False),
    "an empty label": ({}, b"\xf4\x00", "label", False),
}


@pytest.mark.parametrize(("settings", "data", "what", "told"), REFUSED.values(), ids=REFUSED)
@live
async def test_what_is_no_request_is_refused(
    settings: dict[str, Any], data: bytes, what: str, told: bool
) -> None:
    async with node("a", **settings) as a:
        reply = await said(a, data, end=True)
        assert a.counters[f"streams refused, {what}"] == 1
        envelope = Envelope(keyring=settings.get("keyring"))
        assert bool(reply) == told
        if told:
            assert isinstance(stream.decode(reply, envelope, first=False), ErrorReply)


@pytest.mark.parametrize("keep", [0, 1, 10, 40])
@live
async def test_a_request_without_its_end_is_refused(keep: int) -> None:
    async with node("a") as a:
        request = stream.encode(PushPull(True, (Member(STRANGER, 1, ALIVE),)), PLAIN, first=True)
        assert await said(a, request[:keep], end=True) == b""
        what = "truncated" if keep else "empty"
        assert a.counters[f"streams refused, {what}"] == 1
        assert names(a) == ["a"]


@live
async def test_whoever_is_refused_in_mid_sentence_still_hears_why() -> None:
    """Unread bytes would reset the connection, and the complaint with it."""
    async with node("a", keyring=RING) as a:
        reply = await said(a, *(bytes(60_000),) * 50, end=True)
        told = stream.decode(reply, Envelope(keyring=RING), first=False)
        assert isinstance(told, ErrorReply)


@live
async def test_an_endless_plain_stream_is_cut_off() -> None:
    limits = replace(node("a").envelope.limits, stream=300_000)
    async with node("a") as a:
        a._transport.envelope = replace(a.envelope, limits=limits)
        head = PUSH_PULL + HEADER.write((100_000, 0, 1))
        state = stream._encoded_state(Member(STRANGER, 1, ALIVE))
        await said(a, head, *(state * 1000,) * 20)
        assert a.counters["streams refused, too-large"] == 1
        assert a.counters["stream bytes received"] < 2_000_000


BOMBS = {
    "a million records of one byte": compressed(
        PUSH_PULL + HEADER.write((1_000_000, 0, 1)) + b"\x80" * 1_000_000
    ),
    "a hundred megabytes of nothing": bomb(25_000),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
@live
async def test_a_bomb_does_not_go_off(data: bytes) -> None:
    async with node("a") as a, node("b") as b:
        await together(a, b)
        assert len(data) < 50_000
        tracemalloc.start()
        await said(a, data, end=True)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert a.counters["streams refused, too-large"] == 1
        assert most < 64 << 20
        await agree(a, b)


def test_the_bombs_are_bombs() -> None:
    body = bomb(25_000)[1:]
    (_, packed), _ = read(record(("Algo", U8), ("Buf", BYTES)), body)
    assert len(lzw.decompress(packed, 200 << 20)) > 80 << 20


# --- slow, and many -------------------------------------------------------------------------------


@each_loop
@live
async def test_who_says_nothing_is_cut_off_at_the_deadline(loop: str) -> None:
    async with node("a", config=HASTY) as a:
        async with connected(a) as (reader, _):
            await finished(reader.read())
        await until(lambda: a.counters["streams timed out"] == 1)
        await until(lambda: not a._transport._inbound)


@live
async def test_the_deadline_is_one_for_the_whole_connection() -> None:
    async with node("a", config=HASTY) as a:
        clock = asyncio.get_running_loop().time
        begun = clock()
        request = stream.encode(PushPull(True, (Member(STRANGER, 1, ALIVE),)), PLAIN, first=True)
        async with connected(a) as (reader, writer):
            with suppress(OSError):
                for byte in request:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(0.01)
                    if reader.at_eof():
                        break
        assert a.counters["streams timed out"] == 1
        assert clock() - begun > 0.2
        assert names(a) == ["a"]


@live
async def test_no_more_connections_than_so_many_at_once() -> None:
    async with node("a", config=HASTY) as a, node("b") as b:
        await together(a, b)
        accepted = a.counters["streams accepted"]
        idle = []
        for _ in range(module.STREAMS_AT_ONCE):
            idle.append(await asyncio.open_connection(*place(a)))
        await until(lambda: len(a._transport._inbound) == module.STREAMS_AT_ONCE)
        for _ in range(10):
            assert isinstance(await finished(asked(a)), EOFError | OSError)
        assert a.counters["streams refused, too many"] >= 10
        assert len(a._transport._inbound) <= module.STREAMS_AT_ONCE
        acks = b.counters["ack received"]
        await until(lambda: b.counters["ack received"] >= acks + 2)  # packets go on
        await until(lambda: a.counters["streams timed out"] >= module.STREAMS_AT_ONCE)
        assert await answer(a, ping(a), a.envelope) == Ack(7)  # and so do streams, after that
        assert a.counters["streams accepted"] >= accepted + module.STREAMS_AT_ONCE + 11
        for _, writer in idle:
            writer.close()
        await agree(a, b)


@live
async def test_all_streams_together_hold_no_more_than_so_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STREAMS_HELD", 1_000_000)
    async with node("a", config=HASTY) as a:
        head = b"\x08" + USER.write((900_000,))
        async with connected(a) as (_, first), connected(a) as (reader, second):
            first.write(head + bytes(600_000))
            await first.drain()
            await until(lambda: a._transport._held >= 600_000)
            second.write(head + bytes(600_000))
            assert await finished(reader.read()) is not None
            assert a.counters["streams refused, too-large"] == 1
            first.write(bytes(300_000))
            await until(lambda: a._transport._held == 0)
        assert a.counters["streams refused, too-large"] == 1


@each_loop
@live
async def test_who_does_not_take_the_answer_is_cut_off_at_the_deadline(loop: str) -> None:
    async with node("a", config=HASTY, compress=False) as a:
        grow(a, 8_000)
        with closing(socket.socket()) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(place(a))
            lazy.sendall(stream.encode(PushPull(True, ()), PLAIN, first=True))
            await until(lambda: bool(a._transport._inbound))
            await until(lambda: not a._transport._inbound)
        assert a.counters["streams timed out"] == 1


@live
async def test_a_large_answer_reaches_who_takes_its_time() -> None:
    async with node("a", compress=False) as a:
        grow(a, 3_000)
        async with connected(a) as (reader, writer):
            writer.write(stream.encode(PushPull(True, ()), PLAIN, first=True))
            data = b""
            while portion := await reader.read(20_000):
                data += portion
                await asyncio.sleep(0)
        reply = stream.decode(data, PLAIN, first=False)
        assert isinstance(reply, PushPull)
        assert len(reply.states) == 3_001


def grow(runtime: Runtime, size: int) -> None:
    """Have it know so many members; they will be found dead in time."""
    host = bytes((127, 0, 0, 1))
    for start in range(0, size, 1000):
        news = tuple(
            Alive(1, peer(NodeId(f"n{number}"), Address(host, 9), bytes(400), FAST.vsn))
            for number in range(start, start + 1000)
        )
        runtime.feed(Received(runtime.address, news))


# --- exchanges with servers of all sorts ---------------------------------------------------------

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


@asynccontextmanager
async def server(behaviour: Behaviour) -> AsyncIterator[str]:
    """Where somebody behaves like this."""
    tasks: set[asyncio.Task[None]] = set()
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await behaviour(reader, writer)

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.add(asyncio.create_task(serve(reader, writer)))

    listening = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in stream.encode(PushPull(True, (Member(STRANGER, 1, ALIVE),)), PLAIN, first=False):
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.05)


def says(data: bytes) -> Behaviour:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()
        while await reader.read(65_536):
            pass

    return behaviour


def encoded(message: Any) -> bytes:
    return stream.encode(message, PLAIN, first=False)


BEHAVIOURS: dict[str, tuple[Behaviour, str]] = {
    "silence": (silent, "timed out"),
    "dripping": (drips, "timed out"),
    "hanging up": (hangs_up, "."),
    "resetting": (resets, "."),
    "a complaint": (says(encoded(ErrorReply("no room"))), "refused: no room"),
    "a ping": (says(encoded(Ping(1, NodeId("a"), Address(b"", 0), NodeId("")))), "unexpected"),
    "a user message": (says(encoded(User(b"hello"))), "unexpected"),
    "an ack": (says(encoded(Ack(1))), "unexpected"),
    "nonsense": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "."),
    "half of it": (says(encoded(PushPull(True, (Member(STRANGER, 1, ALIVE),)))[:50]), "."),
    "a label": (says(b"\xf4\x01x" + encoded(PushPull(True, ()))), "."),
    "2^32-1 records": (says(PUSH_PULL + HEADER.write((HUGE, 0, 1))), "limit"),
    "a bomb": (says(bomb(25_000)), "more than"),
}


@pytest.mark.parametrize(("behaviour", "reason"), BEHAVIOURS.values(), ids=BEHAVIOURS)
@live
async def test_an_exchange_ends_however_the_other_side_behaves(
    behaviour: Behaviour, reason: str
) -> None:
    async with node("a", config=HASTY) as a, server(behaviour) as where:
        with pytest.raises(JoinError, match=reason):
            await a.join([where])
        assert a.counters["exchanges failed"] == 1
        assert names(a) == ["a"]
        await until(lambda: len(a._transport._tasks) == 2)  # those for packets in and out


@live
async def test_an_exchange_with_who_does_not_read_ends() -> None:
    async with node("a", config=HASTY, compress=False) as a:
        grow(a, 8_000)
        with closing(socket.socket()) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.bind(("127.0.0.1", 0))
            lazy.listen()
            with pytest.raises(JoinError, match="timed out"):
                await a.join([f"127.0.0.1:{lazy.getsockname()[1]}"])
