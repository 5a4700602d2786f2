"""Real sockets on loopback, for tests that must leave nothing behind.

A test that is ``live`` runs in an event loop of its own, has half a minute, and fails when it ends
with a task, a socket or an alarm that was not there at its beginning, or when anything was
reported to the loop's exception handler.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from typing import Any

import pytest
from msgspec.structs import replace

from backends.udp import Runtime
from swimsim.config import LAN
from swimsim.terms import MS, SECOND
from swimsim.wire.msgpack import BYTES, U8, record

TIME_S = 30
FAST = replace(
    LAN,
    probe_interval=200 * MS,
    probe_timeout=100 * MS,
    gossip_interval=20 * MS,
    push_pull_interval=1 * SECOND,
    stream_timeout=2 * SECOND,
    gossip_to_the_dead_time=3 * SECOND,
    reconnect_interval=500 * MS,
)
"""memberlist's settings, on a smaller scale."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if find_spec("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

needs_ipv6 = pytest.mark.skipif(
    not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="there is no ::1"
)

Test = Callable[..., Coroutine[Any, Any, None]]


def live(test: Test) -> Callable[..., None]:
    """Run a coroutine as a test, in whichever loop the argument ``loop`` names."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[kwargs.get("loop", "asyncio")]) as runner:
            runner.run(_watched(test(*args, **kwargs)))

    return run


async def _watched(test: Coroutine[Any, Any, None]) -> None:
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    with nothing_left():
        async with asyncio.timeout(TIME_S):
            await test
    assert complaints == []


@contextmanager
def nothing_left() -> Iterator[None]:
    """Whatever happens within, no task, socket or alarm of it is there afterwards."""
    tasks, sockets = asyncio.all_tasks(), open_sockets()
    yield
    assert asyncio.all_tasks() - tasks == set()
    gc.collect()
    assert open_sockets() - sockets == set()
    assert alarms() == []


def open_sockets() -> set[str]:
    """The sockets that this process holds."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # of the listing itself
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def alarms() -> list[asyncio.TimerHandle]:
    """The alarms of runtimes that the loop still has to ring."""
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [each for each in scheduled if not each.cancelled() and "_on_alarm" in repr(each)]


def node(name: str, *, bind: str = "127.0.0.1:0", config: Any = FAST, **settings: Any) -> Runtime:
    """A runtime that has not started."""
    return Runtime(name, bind=bind, config=config, **settings)


def here(runtime: Runtime) -> str:
    """Where to join it."""
    return str(runtime.address)


def place(runtime: Runtime) -> tuple[str, int]:
    """Where to send to it."""
    return "127.0.0.1", runtime.address.port


def states(runtime: Runtime) -> dict[str, str]:
    """What it believes of everybody."""
    return {str(each.peer.name): each.status.name.lower() for each in runtime.known}


def names(runtime: Runtime) -> list[str]:
    """Who it believes to be there."""
    return [str(each.peer.name) for each in runtime.members]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; the test's own time is the limit."""
    while not condition():
        await asyncio.sleep(0.005)


async def agree(*runtimes: Runtime) -> None:
    """Wait until each of them believes that exactly these are there, and alive."""
    wanted = {str(each.name): "alive" for each in runtimes}
    await until(lambda: all(states(each) == wanted for each in runtimes))


async def together(*runtimes: Runtime) -> None:
    """Have all join the first, and wait until they agree."""
    for each in runtimes[1:]:
        assert await each.join([here(runtimes[0])]) == 1
    await agree(*runtimes)


def make_deaf(runtime: Runtime) -> None:
    """No packet reaches it from now on; streams do."""
    runtime._transport._on_packet = lambda data, source: None


def bomb(codes: int) -> bytes:
    """A compressed message of so many codes, each for a string one byte longer than the last.

    The last 258 codes of the dictionary being there, they go on for its longest string.
    """
    bits, at, width, newest = 256, 9, 9, 257
    for place in range(codes):
        bits |= (min(newest, 4095) if place else 0) << at
        at += width
        newest = min(newest + 1, 4096)
        if newest == 1 << width and width < 12:
            width += 1
    bits |= 257 << at
    packed = bits.to_bytes(at // 8 + 3, "little")
    return b"\x09" + record(("Algo", U8), ("Buf", BYTES)).write((0, packed))


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has just now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])


async def finished(work: Awaitable[Any]) -> BaseException | Any:
    """What it comes to, or what it raises."""
    try:
        return await work
    except BaseException as error:
        return error
