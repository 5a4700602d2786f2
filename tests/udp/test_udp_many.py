"""Many nodes in one process and one event loop, as a gateway would carry them."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from heapq import heappush

import pytest
from msgspec.structs import replace

from backends.udp import Runtime
from swimsim.config import LAN
from swimsim.effects import Event, Failed, Suspected
from swimsim.inputs import Input, ProbeTimeout, Received
from swimsim.messages import Nack
from swimsim.node import Node, Step
from swimsim.wire import PLAIN, packet
from tests.udp.loopback import LOOPS, here, live, node, nothing_left, place, together

NODES = 200
AT_ONCE = 10  # joins
LIMIT_S = 300
BURST = 60  # datagrams
ROUNDS = 2
SLOW_ROUNDS = 25
SLOW_S = 0.1  # so that a heartbeat comes well before its lateness is a standstill


@pytest.mark.parametrize("loop", LOOPS)
@live
async def test_what_has_come_is_taken_in_few_rounds_of_the_loop(loop: str) -> None:
    """Or acks would wait behind gossip where a round is long because many share it."""
    async with node("a") as a:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(BURST):
                stranger.sendto(b"nonsense", place(a))
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        assert a.counters["packets received"] == BURST


@pytest.mark.parametrize("loop", LOOPS)
@live
async def test_who_is_late_hears_before_it_judges(loop: str) -> None:
    """Where a round of the loop takes long, nobody is accused for that.

    From ping to ack are two rounds at most, and no deadline is looked at before what came is heard.
    On a busy machine rounds are longer still, and then may count as a standstill: no time passes.
    """
    accused: list[Event] = []
    watching = {"listener": accused.append}
    async with node("a", config=LAN, **watching) as a, node("b", config=LAN, **watching) as b:
        await together(a, b)
        accused.clear()
        rounds = 0
        while rounds < SLOW_ROUNDS or not all(each.counters["ack received"] for each in (a, b)):
            time.sleep(SLOW_S)
            await asyncio.sleep(0)
            rounds += 1
        assert not accused


@pytest.mark.parametrize("loop", LOOPS)
@live
async def test_what_lies_in_the_socket_is_heard_before_a_timer_fires(loop: str) -> None:
    async with node("a") as a:
        happened: list[type[Input]] = []
        step = a._step

        def noting(state: Node, now: int, input: Input) -> Step:
            happened.append(type(input))
            return step(state, now, input)

        a._step = noting
        heappush(a._timers, (0, -1, ProbeTimeout(0)))
        assert a._wake is not None
        a._wake.cancel()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(packet.encode((Nack(1),), PLAIN), place(a))
        a._on_alarm()
        assert happened[:2] == [Received, ProbeTimeout]


async def agree(nodes: list[Runtime]) -> None:
    """Wait until each holds just these present; looked at seldom, as that costs time as well."""
    while any(each.node is None or each.node.members.present != len(nodes) for each in nodes):
        await asyncio.sleep(0.5)


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S + 60)
def test_hundreds_of_nodes_share_a_loop() -> None:
    """They find each other, lose one, accuse nobody else, and leave nothing behind.

    Each join is news for everybody, so that it is the busiest time: twice what a core can do.
    """
    accused: set[str] = set()

    def listen(event: Event) -> None:
        if isinstance(event, Suspected | Failed):
            accused.add(str(event.node))

    async def live() -> float:
        with nothing_left():
            async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
                config = replace(LAN, serf=True)
                nodes = [
                    await stack.enter_async_context(
                        node(f"n{number:03}", config=config, listener=listen)
                    )
                    for number in range(NODES)
                ]
                for start in range(1, NODES, AT_ONCE):
                    some = nodes[start : start + AT_ONCE]
                    await asyncio.gather(*(each.join([here(nodes[0])]) for each in some))
                await agree(nodes)
                assert not accused
                lost = nodes.pop()
                await lost.stop()
                await agree(nodes)
                assert accused == {lost.name}
                assert all(each.counters["internal errors"] == 0 for each in nodes)
                begun = time.process_time()
                await asyncio.sleep(5)
                return time.process_time() - begun

    with asyncio.Runner() as runner:
        cpu = runner.run(live())
    assert cpu < 5 * 0.5  # at rest a loop has time for twice as many
