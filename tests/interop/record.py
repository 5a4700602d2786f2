"""Make ``tests/journal/real.journal`` anew: ``python -m tests.interop.record``.

It takes half a minute and a ``serf`` command. One of our nodes is journalled while it lives in
a cluster with two of HashiCorp's agents and another of ours: it joins and is joined, one of
HashiCorp's is killed, suspected, failed and started again, tags change, an event and a query
go round, and two leave. Whatever changes what a node's state, inputs or effects hold makes the
fixture stale: then run this and commit what it wrote.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from backends.recorder import Recorder
from backends.udp import Runtime
from swimsim.config import LAN
from swimsim.wire import serf
from tests.interop.agents import PATIENCE_S, REASON, SERF, Crew

FIXTURE = Path(__file__).parent.parent / "journal" / "real.journal"
CHECKPOINT = 64  # inputs
REST_S = 2.0  # of ordinary life between two things that happen
NAMES = ("ours-1", "serf-1", "serf-2", "ours-2")


async def live(crew: Crew, path: Path) -> int:
    """Write the journal; how many inputs it holds."""
    began = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, beside two agents of Serf 0.9.4"
    with Recorder(path, began=began, checkpoint=CHECKPOINT) as recorder:
        runtime = Runtime(
            "ours-1",
            bind="127.0.0.1:0",
            config=replace(LAN, serf=True),
            meta=serf.encode_tags({"role": "recorder"}),
            journal=recorder,
        )
        async with runtime as node:
            await _story(crew, node)
            await node.leave()
            await asyncio.sleep(REST_S)
    assert not recorder.lost
    return recorder.inputs


async def _story(crew: Crew, node: Runtime) -> None:
    def states() -> dict[str, str]:
        return {str(each.peer.name): each.status.name for each in node.known}

    first = await asyncio.to_thread(crew.serf, "serf-1", profile="lan", tags={"role": "web"})
    await node.join([first.address])
    me = [str(node.address)]
    second = await asyncio.to_thread(crew.serf, "serf-2", join=me, profile="lan")
    ours = await asyncio.to_thread(crew.swimsim, "ours-2", join=me, profile="lan")
    await _until(lambda: states() == dict.fromkeys(NAMES, "ALIVE"), "everybody to join")
    await asyncio.sleep(REST_S)

    second.kill()
    await _until(lambda: states().get("serf-2") == "SUSPECT", "a suspicion")
    await _until(lambda: states().get("serf-2") == "DEAD", "a death")
    await asyncio.sleep(REST_S)
    second = await asyncio.to_thread(crew.restart, second, join=[first], profile="lan")
    await _until(lambda: states() == dict.fromkeys(NAMES, "ALIVE"), "a return")

    for verb, *words in [
        ("tags", "-set", "role=db"),
        ("event", "deploy", "1.0"),
        ("query", "-timeout=2s", "uptime"),
    ]:
        await asyncio.to_thread(first.cli, verb, *words)
    await asyncio.sleep(REST_S)
    for agent in (second, ours):
        await asyncio.to_thread(agent.leave)
        await _until(lambda agent=agent: states()[agent.name] == "LEFT", "a farewell")


async def _until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.02)
    print(what)


def main() -> None:
    """Record, and put the journal in its place when it is whole."""
    if SERF is None:
        sys.exit(REASON)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURE
    with TemporaryDirectory() as folder, Crew(Path(folder)) as crew:
        path = Path(folder) / FIXTURE.name
        inputs = asyncio.run(live(crew, path))
        target.write_bytes(path.read_bytes())
    print(f"{target}: {inputs} inputs, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
