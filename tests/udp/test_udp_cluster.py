"""A few real nodes on loopback: what their owners may ask, and what becomes of it."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest
from msgspec.structs import replace

from backends.udp import JoinError, Runtime
from backends.udp.addresses import AddressError
from backends.udp.clock import Clock, monotonic
from swimsim.effects import (
    Cleared,
    Failed,
    Joined,
    JoinFinished,
    Left,
    Refuted,
    Suspected,
    Updated,
)
from swimsim.inputs import Exchanged, ExchangeRequested, ProbeTimeout, Received
from swimsim.messages import Nack, Ping, Suspect
from swimsim.terms import HOUR, SECOND, Address, NodeId
from swimsim.wire import keyring, packet, stream
from swimsim.wire.envelope import PLAIN as PLAIN_ENVELOPE
from tests.udp.loopback import (
    FAST,
    LOOPS,
    agree,
    finished,
    free_port,
    here,
    live,
    make_deaf,
    names,
    needs_ipv6,
    node,
    place,
    states,
    together,
    until,
)

each_loop = pytest.mark.parametrize("loop", LOOPS)
A, B, C = map(NodeId, "abc")
KEY, OTHER = bytes(range(16)), bytes(range(32))
RING, WRONG = keyring.keyring([KEY]), keyring.keyring([OTHER])


# --- join -------------------------------------------------------------------------------------


@each_loop
@live
async def test_three_nodes_find_each_other(loop: str) -> None:
    async with node("a") as a, node("b") as b, node("c") as c:
        assert await b.join([here(a)]) == 1
        assert await c.join([here(b)]) == 1
        await agree(a, b, c)
        assert names(c) == ["a", "b", "c"]
        assert [each.peer.address for each in c.members] == [a.address, b.address, c.address]
        assert c.me.name == c.name == "c"
        assert c.health == 0


@live
async def test_join_says_how_many_answered() -> None:
    async with node("a") as a, node("b") as b, node("c") as c:
        nobody = f"127.0.0.1:{free_port()}"
        assert await c.join([here(a), nobody, here(b)]) == 2
        assert await c.join([here(a), here(a)]) == 1
        assert await c.join([here(c)]) == 1
        assert await c.join([]) == 0
        await agree(a, b, c)


@live
async def test_a_join_that_reaches_nobody_says_why() -> None:
    async with node("a") as a:
        first, second = free_port(), free_port()
        with pytest.raises(JoinError) as caught:
            await a.join([f"127.0.0.1:{first}", f"127.0.0.1:{second}", "nobody.invalid"])
        for told in (f"127.0.0.1:{first}: ", f"127.0.0.1:{second}: ", "nobody.invalid: "):
            assert told in str(caught.value)
        assert isinstance(caught.value, OSError)


@live
async def test_a_name_that_does_not_resolve_does_not_spoil_the_others() -> None:
    async with node("a") as a, node("b") as b:
        assert await b.join(["nobody.invalid", "a..b", here(a)]) == 1
        await agree(a, b)


@live
async def test_join_takes_what_serf_takes() -> None:
    async with node("a") as a, node("b") as b:
        assert await b.join([f"some/name/{here(a)}"]) == 1
        assert await b.join([f"localhost:{a.address.port}"]) >= 1
        with pytest.raises(AddressError, match="expected 0 to 65535"):
            await b.join([here(a), "127.0.0.1:70000"])


@live
async def test_the_default_port_of_a_join_is_the_one_that_is_bound() -> None:
    port = free_port()
    async with (
        node("a", bind=f"127.0.0.1:{port}") as a,
        node("b", bind=f"127.0.0.2:{port}", advertise=f"127.0.0.2:{free_port()}") as b,
    ):
        assert await b.join(["127.0.0.1"]) == 1
        assert names(a) == ["a", "b"]


@live
async def test_a_join_that_was_cancelled_is_not_counted_in_the_next() -> None:
    async with node("a") as a, node("b") as b, SilentServer() as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await b.join([f"127.0.0.1:{port}", here(a)])
        nobody = f"127.0.0.1:{free_port()}"
        with pytest.raises(JoinError) as caught:
            await b.join([nobody])
        assert f":{port}" not in str(caught.value)
        await agree(a, b)  # the first went on, all the same


@live
async def test_joins_at_the_same_time_are_told_apart() -> None:
    async with node("a") as a, node("b") as b:
        good, bad, none = await asyncio.gather(
            b.join([here(a)]), finished(b.join([f"127.0.0.1:{free_port()}"])), b.join([])
        )
        assert (good, none) == (1, 0)
        assert isinstance(bad, JoinError)


class SilentServer:
    """A port where connections are accepted and nothing is said."""

    async def __aenter__(self) -> int:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        return int(self.socket.getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self.socket.close()


# --- leave, fail, come back ----------------------------------------------------------------------


@each_loop
@pytest.mark.parametrize("serf", [False, True])
@live
async def test_who_leaves_has_left(loop: str, serf: bool) -> None:
    config = replace(FAST, serf=serf)
    async with node("a", config=config) as a, node("b", config=config) as b:
        await together(a, b)
        left = a.events(Left, Failed)
        assert await b.leave()
        await b.stop()
        assert await anext(left) == Left(B, 1, B)
        assert names(a) == ["a"]


@live
async def test_a_farewell_is_sent_even_when_the_stop_follows_at_once() -> None:
    async with node("a") as a:
        for _ in range(5):
            b = await node("b", config=replace(FAST, retransmit_mult=1)).start()
            await b.join([here(a)])
            await until(lambda: states(a).get("b") == "alive")
            left = a.events(Left, Failed)
            await b.leave()
            await b.stop()
            assert isinstance(await anext(left), Left)


@live
async def test_leaving_alone_or_twice_is_no_trouble() -> None:
    async with node("a") as a:
        assert await a.leave()
        assert await a.leave()
    async with node("a") as a, node("b") as b:
        await together(a, b)
        assert await asyncio.gather(b.leave(), b.leave()) == [True, True]
        assert await b.leave()


@live
async def test_who_is_not_heard_any_more_is_suspected_and_fails() -> None:
    async with node("a") as a, node("c") as c:
        async with node("b") as b:
            await together(a, b, c)
            news = a.events(Suspected, Failed, Left)
        assert isinstance(await anext(news), Suspected)
        assert isinstance(await anext(news), Failed)
        await until(lambda: names(a) == names(c) == ["a", "c"])


@live
async def test_who_comes_back_is_alive_again() -> None:
    port = free_port()
    async with node("a") as a:
        async with node("b", bind=f"127.0.0.1:{port}") as b:
            await together(a, b)
        await until(lambda: states(a).get("b") != "alive")
        async with node("b", bind=f"127.0.0.1:{port}") as b:
            await together(a, b)


@live
async def test_the_failed_are_reached_again_when_they_are_back() -> None:
    """Nobody joins here: the survivor looks for whom it has lost (Serf's reconnect)."""
    port = free_port()
    async with node("a") as a:
        async with node("b", bind=f"127.0.0.1:{port}") as b:
            await together(a, b)
            failed = a.events(Failed)
        await anext(failed)
        async with node("b", bind=f"127.0.0.1:{port}") as b:
            await agree(a, b)


# --- metadata -----------------------------------------------------------------------------------


@live
async def test_metadata_spreads() -> None:
    async with node("a", meta=b"old") as a, node("b") as b:
        await together(a, b)
        updated = b.events(Updated)
        await a.update_meta(b"new")
        event = await anext(updated)
        assert (event.peer.name, event.peer.meta) == ("a", b"new")
        assert a.me.meta == b"new"
        with pytest.raises(ValueError, match="at most 512"):
            await a.update_meta(bytes(513))


@live
async def test_each_update_waits_for_its_own_news() -> None:
    async with node("a") as a, node("b") as b:
        await together(a, b)
        first = asyncio.create_task(a.update_meta(b"1"))
        await asyncio.sleep(0)
        second = asyncio.create_task(a.update_meta(b"2"))
        await first
        assert not second.done()  # the second displaced the first, which is no news of the second
        await second
        await until(lambda: {each.peer.meta for each in b.known} == {b"2", b""})


@live
async def test_metadata_of_a_node_alone_is_updated_at_once() -> None:
    async with node("a") as a:
        await a.update_meta(b"new")
        assert a.me.meta == b"new"


# --- events -------------------------------------------------------------------------------------


@live
async def test_events_count_from_the_moment_they_were_asked_for() -> None:
    async with node("a") as a, node("b") as b:
        events = b.events()
        await b.join([here(a)])
        assert isinstance(await anext(events), Joined)
        assert await anext(events) == JoinFinished(1, ())
        late = b.events()
        await b.stop()
        assert [event async for event in late] == []
        assert [event async for event in events] == []  # and again
        assert [event async for event in events] == []


@live
async def test_events_are_those_of_the_kinds_asked_for() -> None:
    async with node("a") as a, node("b") as b:
        events, kinds = b.events(), b.events(Joined, JoinFinished)
        finishes = b.events(JoinFinished)
        await b.join([here(a)])
        assert [type(await anext(kinds)) for _ in range(2)] == [Joined, JoinFinished]
        assert type(await anext(finishes)) is JoinFinished
        assert type(await anext(events)) is Joined


@live
async def test_a_slow_reader_misses_the_oldest_and_is_told_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backends.udp.events.BACKLOG", 3)
    async with node("a") as a:
        slow = a.events()
        for number in range(10):
            await a.update_meta(b"%d" % number)
        assert a.counters["events missed"] > 0
        metas = [event.peer.meta async for event in until_stopped(a, slow, Updated)]
        assert metas
        assert metas[-1] == b"9"
        assert b"0" not in metas


async def until_stopped(runtime: Runtime, events: Any, kind: type[Any]) -> Any:
    await runtime.stop()
    async for event in events:
        if isinstance(event, kind):
            yield event


@live
async def test_a_slow_reader_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.udp.events.BACKLOG", 2)
    async with node("a") as a, node("b") as b:
        slow = b.events()
        await together(a, b)
        for number in range(20):
            await asyncio.gather(a.update_meta(b"%d" % number), b.update_meta(b"%d" % number))
        await agree(a, b)
        del slow


@live
async def test_who_stops_reading_is_forgotten() -> None:
    async with node("a") as a:
        for _ in range(10):
            events = a.events()
        assert len(a._listeners) == 1
        del events
        gc.collect()
        assert len(a._listeners) == 0


@live
async def test_several_may_read_and_one_may_give_up() -> None:
    async with node("a") as a, node("b") as b:
        readers = [a.events(Joined) for _ in range(3)]
        impatient = asyncio.create_task(anext(a.events(Left)))
        await asyncio.sleep(0)
        impatient.cancel()
        await b.join([here(a)])
        joined = [await anext(reader) for reader in readers]
        assert joined == [Joined(b.me, 1)] * 3


@live
async def test_two_may_share_a_reader_and_both_see_the_end() -> None:
    async with node("a") as a:
        events = a.events(Left)
        both = [asyncio.create_task(finished(anext(events))) for _ in range(2)]
        await asyncio.sleep(0)
        await a.stop()
        assert [type(each) for each in await asyncio.gather(*both)] == [StopAsyncIteration] * 2


# --- IPv6, advertised addresses -----------------------------------------------------------------


@needs_ipv6
@each_loop
@live
async def test_nodes_live_on_ipv6(loop: str) -> None:
    async with node("a", bind="[::1]:0") as a, node("b", bind="[::1]:0") as b:
        await together(a, b)
        assert len(b.address.host) == 16
        assert here(b) == f"[::1]:{b.address.port}"
        await until(lambda: b.counters["ack received"] > 0 < a.counters["ack received"])


@needs_ipv6
@each_loop
@live
async def test_who_listens_on_all_of_ipv6_meets_both_kinds(loop: str) -> None:
    async with (
        node("a", bind="[::]:0", advertise="127.0.0.1") as a,
        node("b", bind="127.0.0.1:0") as b,
        node("c", bind="[::]:0", advertise="[::1]") as c,
    ):
        assert a.address == Address(bytes((127, 0, 0, 1)), a.address.port)
        assert await b.join([here(a)]) == 1
        assert await a.join([here(c)]) == 1
        await until(lambda: names(a) == ["a", "b", "c"])
        acks = a.counters["ack received"]
        await until(lambda: a.counters["ack received"] >= acks + 4)
        assert a.counters["packets not sent"] == 0
        assert states(a)["b"] == states(b)["a"] == "alive"


@needs_ipv6
@each_loop
@live
async def test_an_address_of_the_other_family_does_not_make_a_node_mute(loop: str) -> None:
    """A packet that cannot be sent is counted, and costs no other packet."""
    async with node("a") as a, node("b") as b, node("c", bind="[::1]:0") as c:
        await together(a, b)
        assert await c.join([here(a)]) == 1  # a and b cannot send to it
        await until(lambda: a.counters["packets not sent"] >= 5)
        acks = b.counters["ack received"]
        await until(lambda: b.counters["ack received"] >= acks + 4)
        assert states(a)["b"] == states(b)["a"] == "alive"


@live
async def test_others_are_told_the_advertised_address() -> None:
    async with (
        node("a") as a,
        node("b", bind="0.0.0.0:0", advertise="127.0.0.2") as b,
        node("c", bind="0.0.0.0:0", advertise="127.0.0.3:0") as c,
    ):
        await together(a, b, c)
        assert here(b) == f"127.0.0.2:{b.address.port}"
        assert here(c).startswith("127.0.0.3:")
        assert {each.peer.address for each in a.members} == {a.address, b.address, c.address}
        await until(lambda: b.counters["ping received"] > 0 < c.counters["ping received"])


@live
async def test_who_listens_on_all_addresses_names_one_that_can_be_reached() -> None:
    async with node("a", bind="0.0.0.0:0") as a, node("b") as b:
        assert not here(a).startswith("0.0.0.0")
        assert await b.join([here(a)]) == 1
    async with node("a", bind="0.0.0.0:0", advertise="0.0.0.0") as a:
        assert not here(a).startswith("0.0.0.0")


@live
async def test_an_address_may_be_a_name() -> None:
    async with node("a", bind="localhost:0", advertise="localhost:4000") as a:
        assert here(a) == "127.0.0.1:4000"


# --- keys, labels, compression -------------------------------------------------------------------


def sealed(ring: Any, incoming: bool = True, outgoing: bool = True) -> dict[str, Any]:
    return {"keyring": ring, "verify_incoming": incoming, "verify_outgoing": outgoing}


PLAIN: dict[str, Any] = {}
LISTENS = sealed(RING, incoming=False, outgoing=False)  # the first step of introducing a key,
SPEAKS = sealed(RING, incoming=False)  # the second,
SEALED = sealed(RING)  # the last

COMPATIBLE = {
    "one key": (SEALED, SEALED),
    "an old and a new key": (
        sealed(keyring.keyring([KEY, OTHER])),
        sealed(keyring.keyring([OTHER, KEY])),
    ),
    "plain and listening": (PLAIN, LISTENS),
    "listening and speaking": (LISTENS, SPEAKS),
    "speaking": (SPEAKS, SPEAKS),
    "speaking and sealed": (SPEAKS, SEALED),
    "a label": ({"label": b"x"}, {"label": b"x"}),
    "a label and a key": ({"label": b"x", **SEALED}, {"label": b"x", **SEALED}),
    "compressed and not": ({"compress": True}, {"compress": False}),
    "compressed, sealed, labelled": (
        {"compress": True, "label": b"x", **SEALED},
        {"compress": False, "label": b"x", **SEALED},
    ),
}
STRANGERS = {
    "another key": (SEALED, sealed(WRONG), "undecryptable"),
    "a key and none": (SEALED, PLAIN, "unencrypted"),
    "none and a key": (PLAIN, SEALED, "unexpected-encryption"),
    "sealed and listening": (SEALED, LISTENS, "unencrypted"),
    "another label": ({"label": b"x"}, {"label": b"y"}, "label"),
    "a label and none": ({"label": b"x"}, PLAIN, "label"),
    "none and a label": (PLAIN, {"label": b"y"}, "label"),
    "another label, one key": ({"label": b"x", **SEALED}, {"label": b"y", **SEALED}, "label"),
}


@pytest.mark.parametrize(("one", "other"), COMPATIBLE.values(), ids=COMPATIBLE)
@live
async def test_who_fits_joins(one: dict[str, Any], other: dict[str, Any]) -> None:
    async with node("a", **one) as a, node("b", **other) as b:
        await together(a, b)
        await until(lambda: a.counters["ack received"] > 0 < b.counters["ack received"])
        await b.update_meta(b"x" * 200)
        await until(lambda: b.me in [each.peer for each in a.members])
        await a.join([here(b)])
        refused = [key for key in (*a.counters, *b.counters) if "refused" in key]
        assert refused == []


@pytest.mark.parametrize(("one", "other", "what"), STRANGERS.values(), ids=STRANGERS)
@live
async def test_who_does_not_fit_stays_out(
    one: dict[str, Any], other: dict[str, Any], what: str
) -> None:
    async with node("a", **one) as a, node("b", **one) as b, node("c", **other) as c:
        await together(a, b)
        outcome = await finished(c.join([here(a)]))
        assert isinstance(outcome, JoinError)
        assert a.counters[f"streams refused, {what}"] == 1
        await agree(a, b)
        assert names(c) == ["c"]


@live
async def test_who_could_know_better_is_told_why_it_was_refused() -> None:
    async with node("a", **SEALED) as a, node("b", **LISTENS, meta=bytes(500)) as b:
        outcome = await finished(b.join([here(a)]))
        assert "refused: encryption is configured but remote state is not" in str(outcome)


@live
async def test_members_from_other_networks_are_not_let_in() -> None:
    config = replace(FAST, allowed_networks=("127.0.0.1/32", "10.0.0.0/8"))
    async with (
        node("a", config=config) as a,
        node("b", bind="127.0.0.1:0") as b,
        node("c", bind="127.0.0.2:0") as c,
    ):
        await b.join([here(a)])
        await c.join([here(a)])
        await until(lambda: names(c) == ["a", "b", "c"])
        acks = c.counters["ping received"]
        await until(lambda: c.counters["ping received"] >= acks + 2)
        assert names(a) == ["a", "b"]


# --- health -------------------------------------------------------------------------------------


@live
async def test_a_node_that_hears_no_packets_is_found_alive_over_a_stream() -> None:
    async with node("a") as a, node("b") as b:
        await together(a, b)
        news = a.events(Suspected, Failed)
        make_deaf(b)
        answered = b.counters["streams answered"]
        await until(lambda: b.counters["streams answered"] >= answered + 5)
        assert states(a) == {"a": "alive", "b": "alive"}
        await a.stop()
        assert [event async for event in news] == []


@live
async def test_without_stream_pings_it_fails() -> None:
    config = replace(FAST, stream_ping=False)
    async with node("a", config=config) as a, node("b", config=config) as b:
        await together(a, b)
        failed = a.events(Failed)
        make_deaf(b)
        assert (await anext(failed)).node == "b"


@live
async def test_who_hears_of_its_death_refutes() -> None:
    async with node("a") as a, node("b") as b:
        await together(a, b)
        refuted, cleared = b.events(Refuted), a.events(Cleared)
        a.feed(Received(b.address, (Suspect(1, B, A),)))
        assert isinstance(await anext(refuted), Refuted)
        assert isinstance(await anext(cleared), Cleared)
        await agree(a, b)


class Jumping:
    """The system's clock, and what a laptop's lid adds to it."""

    added = 0

    def __call__(self) -> int:
        return monotonic() + self.added


@live
async def test_a_suspended_node_accuses_nobody_when_it_wakes() -> None:
    source = Jumping()
    clock = Clock(source)
    async with node("a", clock=clock) as a, node("b") as b, node("c") as c:
        await together(a, b, c)
        news = a.events(Suspected, Failed)
        for _ in range(3):
            source.added += 8 * HOUR
            acks = a.counters["ack received"]
            await until(lambda acks=acks: a.counters["ack received"] >= acks + 2)
        assert clock.stalls == 3
        assert 24 * HOUR <= clock.stalled < 24 * HOUR + SECOND
        await a.stop()
        assert [event async for event in news] == []


# --- counters -----------------------------------------------------------------------------------


@live
async def test_what_comes_and_goes_is_counted() -> None:
    async with node("a") as a, node("b") as b:
        await together(a, b)
        await until(lambda: b.counters["ack received"] > 0 < a.counters["ack received"])
        for one in (a, b):
            for key in ("packets", "packet bytes", "stream bytes"):
                assert one.counters[f"{key} sent"] > 0 < one.counters[f"{key} received"]
            for kind in ("ping", "ack"):
                assert one.counters[f"{kind} sent"] > 0 < one.counters[f"{kind} received"]
            assert one.counters["packets not sent"] == one.counters["internal errors"] == 0
        assert b.counters["exchanges done"] >= 1
        assert a.counters["streams accepted"] >= a.counters["streams answered"] >= 1
        await finished(b.join([f"127.0.0.1:{free_port()}"]))
        assert b.counters["exchanges failed"] == 1


@live
async def test_packets_that_wait_too_long_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backends.udp.transport.OUTBOX", 2)
    async with node("a") as a:
        listener, packets = a._transport._sockets
        a._transport._sockets = listener, Full()  # type: ignore[assignment]
        for _ in range(5):
            a._transport.send(b"x", place(a))
        assert a.counters["packets dropped, outbox full"] == 3
        a._transport._sockets = listener, packets
        await until(lambda: a.counters["packets received"] == 2)  # those that could wait
        assert a.counters["packets sent"] == 2


@each_loop
@live
async def test_a_socket_that_is_lost_is_reported(loop: str) -> None:
    """Nobody would notice a node that is deaf from then on."""
    heard, complaints = asyncio.get_running_loop(), []
    watch = heard.get_exception_handler()
    async with node("a") as a:
        heard.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        datagrams = a._transport._datagrams
        assert datagrams is not None
        datagrams.close()
        await until(lambda: bool(complaints))
        heard.set_exception_handler(watch)
        assert str(complaints[0]) == "the socket for packets was closed"
        assert a.counters["internal errors"] == 1


class Full:
    """A socket that takes no packet just now."""

    family = socket.AF_INET

    def sendto(self, data: bytes, to: tuple[str, int]) -> int:
        raise BlockingIOError


@live
async def test_a_listener_that_fails_costs_nothing_but_its_complaint() -> None:
    """What the step that it was told of asks for besides, timers above all, is done."""
    loop, complaints = asyncio.get_running_loop(), []
    watch = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))

    def faulty(event: Any) -> None:
        raise ZeroDivisionError("as arranged")

    async with node("a", listener=faulty) as a, node("b") as b:
        await together(a, b)
        acks = a.counters["ack received"]
        await until(lambda: a.counters["ack received"] >= acks + 3)
        b.node = None  # mute: it must still be suspected, and fail
        await until(lambda: states(a)["b"] == "dead")
    loop.set_exception_handler(watch)
    assert {type(each) for each in complaints} == {ZeroDivisionError}
    assert len(complaints) == a.counters["internal errors"] >= 4


@live
async def test_an_input_that_the_node_fails_on_costs_only_that_input() -> None:
    """It is a bug, and it is said so; but no stranger and no timer ends the node with it."""
    loop, complaints = asyncio.get_running_loop(), []
    async with node("a") as a, node("b") as b:
        await together(a, b)
        step = a._step

        def faulty(state: Any, now: int, input: Any) -> Any:
            match input:
                case ProbeTimeout() | Received(messages=(Nack(), *_)) | Exchanged():
                    raise ZeroDivisionError("as arranged")
                case ExchangeRequested(request=Ping()):
                    raise ZeroDivisionError("as arranged")
            return step(state, now, input)

        a._step = faulty
        watch = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        b._transport.send(packet.encode((Nack(1),), PLAIN_ENVELOPE), place(a))
        await until(lambda: a.counters["internal errors"] >= 2)  # the nack's and a timer's
        with pytest.raises(JoinError, match="as arranged"):
            await a.join([here(b)])
        reader, writer = await asyncio.open_connection(*place(a))
        ping = Ping(1, NodeId("a"), b.address, NodeId("b"))
        writer.write(stream.encode(ping, PLAIN_ENVELOPE, first=True))
        assert await reader.read() == b""
        writer.close()
        acks = a.counters["ack received"]
        await until(lambda: a.counters["ack received"] >= acks + 3)
        await agree(a, b)
        loop.set_exception_handler(watch)
    assert {type(each) for each in complaints} == {ZeroDivisionError}
    assert len(complaints) == a.counters["internal errors"] >= 4


@each_loop
@live
async def test_a_packet_that_reading_fails_on_costs_only_that_packet(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug as well; uvloop would close the socket for what its protocol raises."""
    running, complaints = asyncio.get_running_loop(), []
    decode = packet.decode

    def faulty(data: bytes, envelope: Any) -> Any:
        if data == b"bad":
            raise ZeroDivisionError("as arranged")
        return decode(data, envelope)

    async with node("a") as a, node("b") as b:
        await together(a, b)
        monkeypatch.setattr(packet, "decode", faulty)
        watch = running.get_exception_handler()
        running.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        for _ in range(3):
            b._transport.send(b"bad", place(a))
        await until(lambda: len(complaints) == 3)
        acks = a.counters["ack received"]
        await until(lambda: a.counters["ack received"] >= acks + 3)
        running.set_exception_handler(watch)
        assert {type(each) for each in complaints} == {ZeroDivisionError}
        assert a.counters["internal errors"] == 3
        assert states(b)["a"] == "alive"
