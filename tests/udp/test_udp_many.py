"""Many nodes in one process and one event loop, as a gateway would carry them."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from backends.udp import Runtime
from swimsim.config import LAN
from tests.udp.loopback import here, node, nothing_left

NODES = 200
AT_ONCE = 50  # joins
LIMIT_S = 600


async def agree(nodes: list[Runtime]) -> None:
    """Wait until each holds just these present; looked at seldom, as that costs time as well."""
    while any(each.node is None or each.node.members.present != len(nodes) for each in nodes):
        await asyncio.sleep(0.5)


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S + 60)
def test_hundreds_of_nodes_share_a_loop() -> None:
    """They find each other, lose one, and leave nothing behind."""

    async def live() -> float:
        with nothing_left():
            async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
                config = replace(LAN, serf=True)
                nodes = [
                    await stack.enter_async_context(node(f"n{number:03}", config=config))
                    for number in range(NODES)
                ]
                for start in range(1, NODES, AT_ONCE):
                    some = nodes[start : start + AT_ONCE]
                    await asyncio.gather(*(each.join([here(nodes[0])]) for each in some))
                await agree(nodes)
                await nodes.pop().stop()
                await agree(nodes)
                assert all(each.counters["internal errors"] == 0 for each in nodes)
                begun = time.process_time()
                await asyncio.sleep(5)
                return time.process_time() - begun

    with asyncio.Runner() as runner:
        cpu = runner.run(live())
    assert cpu < 5 * 0.9  # at rest a loop keeps up with them
