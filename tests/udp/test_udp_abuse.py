"""Everything that crashes real nodes, and floods of nonsense, on nodes that run: they stay up,
stay right, hold no more than they must, and count what they refused.

What a single stream may do is in test_udp_streams.py; that our nodes do not pass on what would
crash real ones beside them, in tests/interop/test_hostile.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backends.udp import Runtime
from swimsim.effects import UserEventReceived
from swimsim.inputs import FireEvent
from swimsim.messages import Ack, PushPull, Suspect
from swimsim.terms import MS
from swimsim.wire import PLAIN, keyring, packet, stream
from swimsim.wire.msgpack import I64, U8, record
from tests.udp.loopback import FAST, bomb, live, names, node, place, states, together, until
from tests.udp.test_udp_streams import answer, connected, ping, said
from tests.wire.test_wire_refusals import HOW, WHY
from tests.wire.vectors import Vector, named, wire

SERF = replace(FAST, serf=True)
HASTY = replace(SERF, stream_timeout=300 * MS)
HOSTILE = named("hostile", "reject")
SEED = 20_251_125
BATCH = 64  # datagrams that the kernel surely holds
MEMORY = 48 << 20  # bytes that a flood may cost for a while, here where both sides live


def expected(vectors: Iterable[Vector], kind: str) -> Counter[str]:
    """How often what must be refused, by the tables of what becomes of each."""
    found: Counter[str] = Counter()
    for each in vectors:
        if each["kind"] == kind:
            what = HOW.get(each["name"]) or WHY.get(each["name"], (None,))[0]
            found[str(what)] += isinstance(what, str)
    return +found


def refused(runtime: Runtime, *carriers: str) -> Counter[str]:
    """How often it refused what, of these carriers together."""
    found: Counter[str] = Counter()
    for name, number in runtime.counters.items():
        carrier, _, what = name.partition(" refused, ")
        if carrier in carriers:
            found[what] += number
    return found


def memory() -> int:
    """Bytes that this process holds in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def flood(runtime: Runtime, datagrams: Iterable[bytes]) -> int:
    """Send these, no faster than they are taken in; how many."""
    begun = runtime.counters["packets received"]

    def all_came(sent: int) -> bool:
        return runtime.counters["packets received"] >= begun + sent

    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for sent, data in enumerate(datagrams, 1):
            stranger.sendto(data, place(runtime))
            if sent % BATCH == 0:
                await until(partial(all_came, sent))
    await until(partial(all_came, sent))
    return sent


async def is_well(runtime: Runtime, *others: Runtime) -> None:
    """It answers, believes in the others as they in it, and nothing went wrong inside."""
    assert await answer(runtime, ping(runtime), runtime.envelope) == Ack(7)
    for one in (runtime, *others):
        await until(lambda one=one: {str(each.name) for each in others} <= set(names(one)))
        assert one.counters["internal errors"] == 0


RINGS = dict.fromkeys(tuple(each.get("keys", ())) for each in HOSTILE.values())


@pytest.mark.parametrize("keys", RINGS, ids=lambda keys: f"{len(keys)} keys")
@live
async def test_what_crashes_real_nodes_is_refused_and_counted(keys: tuple[str, ...]) -> None:
    given = [each for each in HOSTILE.values() if tuple(each.get("keys", ())) == keys]
    ring = keyring.keyring(list(map(bytes.fromhex, keys))) if keys else None
    settings: dict[str, Any] = {"config": SERF, "compress": False, "keyring": ring}
    async with node("a", **settings) as a, node("b", **settings) as b:
        await together(a, b)
        for each in given:
            if each["kind"] == "packet":
                await flood(a, [wire(each)])
            elif each["kind"] == "stream":
                await said(a, wire(each), end=True)
        packets, streams = expected(given, "packet"), expected(given, "stream")
        await until(lambda: refused(a, "packets", "messages").total() >= packets.total())
        assert refused(a, "packets", "messages") == packets
        assert refused(a, "streams") == streams
        await is_well(a, b)
        assert refused(b, "packets", "messages", "streams").total() == 0
        heard = a.events(UserEventReceived)
        b.feed(FireEvent(1, "deploy", b"1.0"))
        assert (await anext(heard)).name == "deploy"
        assert await a.leave()
        await until(lambda: states(b)["a"] == "left")


@live
async def test_a_hostile_packet_is_no_better_for_being_repeated() -> None:
    given = [wire(each) for each in HOSTILE.values() if each["kind"] == "packet"]
    async with node("a", config=SERF) as a, node("b", config=SERF) as b:
        await together(a, b)
        await flood(a, given)
        before = memory()
        await flood(a, given * 15)
        assert memory() - before < MEMORY
        assert len(a.known) < 10
        await is_well(a, b)


def garbage(count: int) -> Iterable[bytes]:
    """Datagrams of any length, every type byte among them, and of the largest size there is."""
    chance = random.Random(SEED)
    for number in range(count):
        size = chance.choice([1, 2, 5, 30, 200, 1400, 9000])
        yield bytes((number % 256,)) + chance.randbytes(size)
    for number in range(count // 50):
        yield bytes((number % 15,)) * 65_507


def truncated() -> Iterable[bytes]:
    """Every real packet there is, cut in many places."""
    for each in named("memberlist-packets", "memberlist-messages", kind="packet").values():
        data = wire(each)
        yield from (data[:size] for size in range(0, len(data), max(1, len(data) // 12)))


def bombs(count: int) -> Iterable[bytes]:
    """Datagrams that would grow by thousands of times, and lengths of 4 GiB."""
    lzw_bomb = bomb(9_000)
    assert len(lzw_bomb) < 20_000
    lengths = [
        b"\x01\x81\xa5SeqNo" + head + b"\xff" * 4 for head in (b"\xc6", b"\xdb", b"\xdd", b"\xdf")
    ]
    for _ in range(count):
        yield lzw_bomb
        yield from lengths


FLOODS = {
    "garbage": lambda: garbage(3_000),
    "truncated": truncated,
    "bombs": lambda: bombs(60),
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("name", FLOODS)
@live
async def test_a_flood_is_refused_and_costs_nothing_that_stays(name: str, encrypted: bool) -> None:
    ring = keyring.keyring([bytes(32)]) if encrypted else None
    async with node("a", config=SERF, keyring=ring) as a, node("b", config=SERF, keyring=ring) as b:
        await together(a, b)
        before, acks = memory(), b.counters["ack received"]
        sent = await flood(a, FLOODS[name]())
        assert memory() - before < MEMORY
        if encrypted or name == "bombs":
            await until(lambda: refused(a, "packets").total() >= sent)
            assert refused(a, "packets").total() == sent
        else:  # chance may hit on a message; most are nonsense
            assert refused(a, "packets", "messages").total() > sent / 2
        await until(lambda: b.counters["ack received"] >= acks + 2)  # it goes on answering
        await is_well(a, b)


@live
async def test_what_was_said_once_is_not_believed_again() -> None:
    """All packets of a life, sent again after it: encryption does not tell old from new."""
    ring = keyring.keyring([bytes(32)])
    heard: list[bytes] = []
    async with node("a", config=SERF, keyring=ring) as a:
        on_packet = a._transport._on_packet

        def listening(data: bytes, source: tuple[str, int]) -> None:
            heard.append(data)
            on_packet(data, source)

        a._transport._on_packet = listening
        async with node("b", config=SERF, keyring=ring) as b:
            await together(a, b)
            suspicion = packet.encode(
                (Suspect(1, b.name, a.name),), b.envelope, crc=False, nonce=bytes(12)
            )
            heard.append(suspicion)
            await b.update_meta(b"news")
            assert await b.leave()
            await until(lambda: states(a)["b"] == "left")
        record_of_b = next(each for each in a.known if each.peer.name == "b")
        assert len(heard) > 3
        await flood(a, heard * 20)
        assert next(each for each in a.known if each.peer.name == "b") == record_of_b
        await is_well(a)


@live
async def test_hundreds_of_slow_connections_hinder_nobody_for_long() -> None:
    async with node("a", config=HASTY) as a, node("b", config=HASTY) as b:
        await together(a, b)
        before, acks = memory(), b.counters["ack received"]
        slow = [asyncio.create_task(trickle(a)) for _ in range(300)]
        await asyncio.gather(*slow)
        assert memory() - before < MEMORY
        assert a.counters["streams refused, too many"] > 50
        assert a.counters["streams timed out"] > 100
        await until(lambda: b.counters["ack received"] >= acks + 2)
        async with node("c", config=HASTY) as c:
            await together(a, b, c)
        await until(lambda: not a._transport._inbound)
        await is_well(a)


async def trickle(runtime: Runtime) -> None:
    """A push/pull, byte by byte, until one is cut off."""
    request = stream.encode(PushPull(False, (), bytes(2000)), PLAIN, first=True)
    with suppress(OSError, EOFError):
        async with connected(runtime) as (reader, writer):
            for byte in request:
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0.02)
                if reader.at_eof():
                    return


PUSH_PULL = record(("Nodes", I64), ("UserStateLen", I64), ("Join", U8))
LENGTHS = {
    "nodes": b"\x06" + PUSH_PULL.write((2**32 - 1, 0, 1)),
    "user state": b"\x06" + PUSH_PULL.write((0, 2**32 - 1, 1)),
    "user message": b"\x08\x81\xaaUserMsgLen\xce\xff\xff\xff\xff",
    "a text": b"\x00\x81\xa4Node\xdb\xff\xff\xff\xff",
    "bytes": b"\x02\x81\xa7Payload\xc6\xff\xff\xff\xff",
    "an array": b"\x02\x81\xa7Payload\xdd\xff\xff\xff\xff",
    "a map": b"\x06\xdf\xff\xff\xff\xff",
    "an encrypted block": b"\x0a\xff\xff\xff\xff",
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@live
async def test_a_length_of_4_gib_takes_no_memory(encrypted: bool) -> None:
    ring = keyring.keyring([bytes(32)]) if encrypted else None
    async with node("a", config=SERF, keyring=ring) as a:
        before = memory()
        for data in list(LENGTHS.values()) * 10:
            await said(a, data, bytes(5000), end=True)
        assert memory() - before < MEMORY
        assert refused(a, "streams").total() == 10 * len(LENGTHS)
        await is_well(a)
