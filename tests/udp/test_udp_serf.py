"""Serf's layer as a service that embeds a node sees it: over real sockets, on loopback."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from backends.udp import SERF, RequestError, Runtime
from swimsim.config import LOCAL
from swimsim.effects import QueryAcked, QueryAnswered, QueryReceived, UserEventReceived
from swimsim.inputs import Restore
from swimsim.messages import Alive
from swimsim.swim import membership
from swimsim.terms import MS, Address, NodeId
from swimsim.wire import PLAIN, keyring, packet
from tests.udp.loopback import live

FAST = replace(
    LOCAL, serf=True, gossip_interval=20 * MS, probe_interval=100 * MS
)  # fmt: skip
HERE = "127.0.0.1:0"
ONE, OTHER = bytes(range(16)), bytes(range(16, 48))


def text(key: bytes) -> str:
    return b64encode(key).decode()


async def until(condition: Callable[[], object], limit: float = 20.0) -> None:
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)


async def joined(one: Runtime, other: Runtime) -> None:
    await other.join([str(one.address)])
    await until(lambda: len(one.members) == len(other.members) == 2)


@live
async def test_tags_events_queries_and_distances() -> None:
    async with (
        Runtime("a", bind=HERE, config=FAST, tags={"role": "web"}) as one,
        Runtime("b", bind=HERE, config=FAST) as other,
    ):
        await joined(one, other)
        told = other.events(UserEventReceived)
        asked = other.events(QueryReceived)

        assert one.tags == {"role": "web"}
        await one.set_tags({"role": "db", "dc": "east"})
        await until(lambda: dict(other.roster[0].tags or ()) == {"dc": "east", "role": "db"})

        one.event("deploy", b"v1", coalesce=False)
        event = await asyncio.wait_for(anext(told), 20)
        assert (event.name, event.payload, event.coalesce) == ("deploy", b"v1", False)

        answers = one.query("load", b"now", nodes=["b"], timeout=800 * MS)
        question = await asyncio.wait_for(anext(asked), 20)
        assert (question.name, question.payload) == ("load", b"now")
        assert 0 < question.deadline - other.now() <= 800 * MS
        other.respond(question.ltime, question.query_id, b"0.3")
        with pytest.raises(RequestError, match="response already sent"):
            other.respond(question.ltime, question.query_id, b"again")
        came = [answer async for answer in answers]
        assert {type(each): each.node for each in came} == {QueryAcked: "b", QueryAnswered: "b"}
        assert [each.payload for each in came if isinstance(each, QueryAnswered)] == [b"0.3"]

        await until(lambda: one.rtt("b") is not None)
        assert 0 < (one.rtt("b") or 0) < 1
        assert one.rtt("b", "nobody") is None


@live
async def test_what_does_not_fit_is_refused_with_its_size() -> None:
    async with Runtime("a", bind=HERE, config=FAST) as one:
        with pytest.raises(RequestError, match="exceeds"):
            one.event("x" * 300, bytes(300))
        with pytest.raises(RequestError, match="exceeds"):
            one.query("x", bytes(2000))
        with pytest.raises(RequestError, match="exceeds limit of 512"):
            await one.set_tags({"a": "x" * 600})
        assert one.tags == {}


@live
async def test_keys_are_rotated_while_the_cluster_talks() -> None:
    kept: dict[str, list[tuple[bytes, ...]]] = {"a": [], "b": []}

    def node(name: str) -> Runtime:
        return Runtime(
            name,
            bind=HERE,
            config=FAST,
            keyring=keyring.keyring([ONE]),
            save_keyring=lambda ring: kept[name].append(ring.keys),
        )

    async with node("a") as one, node("b") as other:
        await joined(one, other)
        told = other.events(UserEventReceived)
        for operation, key in (("install", OTHER), ("use", OTHER), ("remove", ONE)):
            report = await one.keys(operation, text(key))  # type: ignore[arg-type]
            assert (report.error, report.responses, report.errors) == ("", 2, 0)
            one.event(operation, coalesce=False)
            assert (await asyncio.wait_for(anext(told), 20)).name == operation
        report = await other.keys("list")
        assert report.keys == ((text(OTHER), 2),)
        assert report.primary_keys == ((text(OTHER), 2),)
        refused = await one.keys("remove", text(OTHER))
        assert refused.errors == 2
        assert {said for _, said in refused.messages} == {"removing the primary key is not allowed"}
        assert refused.error == "2/2 nodes reported failure"
    assert kept["a"] == kept["b"] == [(ONE, OTHER), (OTHER, ONE), (OTHER,)]


@live
async def test_a_ring_that_cannot_be_kept_is_not_used() -> None:
    def full(ring: keyring.Keyring) -> None:
        raise OSError(28, "No space left on device")

    async with Runtime(
        "a", bind=HERE, config=FAST, keyring=keyring.keyring([ONE]), save_keyring=full
    ) as one:
        report = await one.keys("install", text(OTHER))
        assert report.errors == 1
        assert "No space left" in dict(report.messages)[NodeId("a")]
        assert one.envelope.keyring == keyring.keyring([ONE])


@live
async def test_what_is_not_encrypted_is_dropped_once_there_is_a_key() -> None:
    stranger = membership.peer(NodeId("stranger"), Address(bytes((127, 0, 0, 1)), 9), b"", SERF.vsn)
    plain = packet.encode((Alive(1, stranger),), PLAIN, crc=False)
    sealed_with_another = packet.encode(
        (Alive(1, stranger),),
        replace(PLAIN, keyring=keyring.keyring([OTHER])),
        crc=False,
        nonce=bytes(12),
    )
    async with Runtime("a", bind=HERE, config=FAST, keyring=keyring.keyring([ONE])) as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for data in (plain, sealed_with_another):
                sender.sendto(data, ("127.0.0.1", one.address.port))
        await until(
            lambda: (
                sum(n for what, n in one.counters.items() if what.startswith("packets refused"))
                >= 2
            )
        )
        assert [each.name for each in one.roster] == ["a"]
        assert text(ONE) not in repr((one.envelope, one.counters))


@live
async def test_a_later_life_steps_over_the_incarnation_of_the_earlier() -> None:
    async with Runtime("a", bind=HERE, config=FAST, restore=Restore(5, 6, 7, 41)) as one:
        assert one.node is not None
        assert one.node.membership.incarnation > 41
        one.event("x")
        assert one.node.serf is not None
        assert one.node.serf.events.clock > 6


@live
async def test_a_node_that_stops_ends_what_was_asked_of_it() -> None:
    async with Runtime("a", bind=HERE, config=FAST) as one:
        answers = one.query("x")
        await one.stop()
        assert [answer async for answer in answers if isinstance(answer, QueryAnswered)] == []
        with pytest.raises(RuntimeError, match="does not run"):
            one.event("x")


@live
async def test_without_serf_all_of_it_is_refused() -> None:
    async with Runtime("a", bind=HERE) as one:
        with pytest.raises(RequestError, match="Serf's layer is off"):
            one.event("x")
