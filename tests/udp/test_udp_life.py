"""How a runtime begins and ends: whatever happens, nothing of it is left."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest

from backends.udp import JoinError, Runtime
from backends.udp.addresses import AddressError
from swimsim.config import ConfigError
from swimsim.effects import Joined
from tests.udp.loopback import (
    FAST,
    LOOPS,
    agree,
    alarms,
    finished,
    free_port,
    here,
    live,
    names,
    node,
    nothing_left,
    open_sockets,
    place,
    together,
)

each_loop = pytest.mark.parametrize("loop", LOOPS)


@each_loop
@live
async def test_a_start_opens_two_sockets_and_a_stop_closes_them(loop: str) -> None:
    before, runtime = len(open_sockets()), node("a")
    assert await runtime.start() is runtime
    assert len(open_sockets()) == before + 2
    assert names(runtime) == ["a"]
    await runtime.stop()
    assert len(open_sockets()) == before
    assert alarms() == []


@each_loop
@live
async def test_the_port_is_free_again_when_the_stop_returns(loop: str) -> None:
    port = free_port()
    for _ in range(3):
        async with node("a", bind=f"127.0.0.1:{port}") as runtime:
            assert runtime.address.port == port


@live
async def test_a_second_stop_does_nothing() -> None:
    runtime = await node("a").start()
    await asyncio.gather(runtime.stop(), runtime.stop())
    await runtime.stop()


@live
async def test_a_stop_before_the_start_is_the_end() -> None:
    runtime = node("a")
    await runtime.stop()
    with pytest.raises(RuntimeError, match="starts once"):
        await runtime.start()


@live
async def test_a_runtime_starts_once() -> None:
    async with node("a") as runtime:
        with pytest.raises(RuntimeError, match="starts once"):
            await runtime.start()
        assert names(runtime) == ["a"]
    with pytest.raises(RuntimeError, match="starts once"):
        await runtime.start()


@each_loop
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@live
async def test_a_taken_port_is_an_error_and_leaves_nothing(
    loop: str, kind: socket.SocketKind
) -> None:
    with closing(socket.socket(socket.AF_INET, kind)) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        runtime = node("a", bind=f"127.0.0.1:{taken.getsockname()[1]}")
        with nothing_left(), pytest.raises(OSError, match="in use"):
            await runtime.start()


@live
async def test_an_address_of_somebody_else_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        await node("a", bind="192.0.2.1:0").start()


@live
async def test_a_name_that_does_not_resolve_is_an_error() -> None:
    for bind, advertise in (("nobody.invalid:0", None), ("127.0.0.1:0", "nobody.invalid:1")):
        with nothing_left(), pytest.raises(OSError, match=r"."):
            await node("a", bind=bind, advertise=advertise).start()


@live
async def test_port_0_tries_again_when_the_other_half_of_a_port_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unlucky(socket.socket):
        failures = 3

        def bind(self, where: tuple[str, int]) -> None:
            if self.type == socket.SOCK_DGRAM and Unlucky.failures:
                Unlucky.failures -= 1
                raise OSError(98, "Address already in use")
            super().bind(where)

    monkeypatch.setattr(socket, "socket", Unlucky)
    async with node("a") as runtime:
        assert Unlucky.failures == 0
        assert names(runtime) == ["a"]
    Unlucky.failures = 10
    with nothing_left(), pytest.raises(OSError, match="in use"):
        await node("a").start()


@each_loop
@pytest.mark.parametrize("rounds", range(8))
@live
async def test_a_start_that_is_cancelled_leaves_nothing(loop: str, rounds: int) -> None:
    runtime = node("a")
    with nothing_left():
        starting = asyncio.create_task(runtime.start())
        for _ in range(rounds):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():  # it was faster
            await runtime.stop()


@pytest.mark.parametrize("rounds", range(8))
@live
async def test_a_stop_during_the_start_ends_both(rounds: int) -> None:
    runtime = node("a")
    with nothing_left():
        starting = asyncio.create_task(runtime.start())
        for _ in range(rounds):
            await asyncio.sleep(0)
        await runtime.stop()
        outcome = await finished(starting)
    assert outcome is runtime or isinstance(outcome, RuntimeError)
    with pytest.raises(RuntimeError, match="does not run"):
        _ = runtime.members


@each_loop
@pytest.mark.parametrize("rounds", range(0, 20, 2))
@live
async def test_a_stop_in_the_middle_of_a_join_leaves_nothing(loop: str, rounds: int) -> None:
    with nothing_left():
        a, b = await node("a").start(), await node("b").start()
        joining = asyncio.create_task(b.join([here(a)]))
        for _ in range(rounds):
            await asyncio.sleep(0)
        await asyncio.gather(a.stop(), b.stop())
        outcome = await finished(joining)
    assert outcome == 1 or isinstance(outcome, RuntimeError | JoinError)


@live
async def test_a_stop_cuts_off_those_who_are_connected() -> None:
    runtime = await node("a").start()
    peers = [await asyncio.open_connection(*place(runtime)) for _ in range(5)]
    await asyncio.sleep(0)
    await runtime.stop()
    for reader, writer in peers:
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@live
async def test_a_stop_right_after_a_connection_was_made_leaves_nothing() -> None:
    for rounds in range(8):
        runtime = await node("a").start()
        with closing(socket.socket()) as peer:
            peer.setblocking(False)
            await asyncio.get_running_loop().sock_connect(peer, place(runtime))
            for _ in range(rounds):
                await asyncio.sleep(0)
            sockets = open_sockets()
            await runtime.stop()
            assert len(open_sockets()) <= len(sockets) - 2
            assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("rounds", range(8))
@live
async def test_a_stop_that_is_cancelled_can_be_asked_for_again(loop: str, rounds: int) -> None:
    async with node("b") as b:
        a = await node("a").start()
        await a.join([here(b)])
        stopping = asyncio.create_task(a.stop())
        for _ in range(rounds):
            await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        await a.stop()


@live
async def test_the_body_failing_stops_the_node() -> None:
    with nothing_left(), pytest.raises(ZeroDivisionError):
        async with node("a"):
            raise ZeroDivisionError
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), node("a"):
            await asyncio.Event().wait()


@live
async def test_a_runtime_that_is_stopped_answers_nothing_more() -> None:
    runtime = await node("a").start()
    await runtime.stop()
    for ask in (
        lambda: runtime.members,
        lambda: runtime.known,
        lambda: runtime.me,
        lambda: runtime.address,
        lambda: runtime.health,
    ):
        with pytest.raises(RuntimeError, match="does not run"):
            ask()
    for work in (runtime.join(["127.0.0.1:1"]), runtime.leave(), runtime.update_meta(b"x")):
        with pytest.raises(RuntimeError, match="does not run"):
            await work
    assert [event async for event in runtime.events()] == []
    assert runtime.name == "a"


@live
async def test_a_runtime_that_has_not_started_answers_nothing_yet() -> None:
    runtime = node("a")
    with pytest.raises(RuntimeError, match="does not run"):
        _ = runtime.members
    with pytest.raises(RuntimeError, match="does not run"):
        await runtime.join([])
    events = runtime.events()
    async with runtime:
        assert isinstance(await anext(events), Joined)


@live
async def test_whoever_waits_is_told_that_the_node_was_stopped() -> None:
    async with node("a") as a:
        b = await node("b").start()
        await b.join([here(a)])
        updating = asyncio.create_task(b.update_meta(b"new"))
        joining = asyncio.create_task(b.join(["127.0.0.1:1"]))
        await asyncio.sleep(0)
        await b.stop()
        for each in (updating, joining):
            with pytest.raises(RuntimeError, match="was stopped"):
                await each


@pytest.mark.parametrize(
    ("settings", "error"),
    {
        "no name": ({"name": ""}, ValueError),
        "a bad address": ({"bind": "127.0.0.1:x"}, AddressError),
        "a bad address to tell": ({"advertise": "[::1"}, AddressError),
        "too much metadata": ({"meta": bytes(513)}, ValueError),
        "too long a label": ({"label": bytes(256)}, ValueError),
    }.values(),
)
def test_what_no_member_can_be_is_refused_at_once(
    settings: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Runtime(**{"name": "a", **settings})  # type: ignore[arg-type]
    assert not issubclass(ConfigError, OSError)


@live
async def test_nodes_may_share_a_name_with_one_that_has_ended() -> None:
    async with node("a") as a:
        port = 0
        for _ in range(3):
            async with node("b", bind=f"127.0.0.1:{port}") as b:
                port = b.address.port
                await together(a, b)
        async with node("b", bind=f"127.0.0.1:{port}", config=FAST) as b:
            await b.join([here(a)])
            await agree(a, b)
