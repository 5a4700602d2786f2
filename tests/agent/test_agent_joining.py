"""Finding the others again, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from backends.agent.joining import Joining
from backends.agent.surface import AgentError
from swimsim.serf.messages import STATUS_ALIVE, STATUS_FAILED, MemberInfo
from swimsim.terms import Address, NodeId

VSN = bytes((1, 5, 2, 2, 5, 5))
HOST = bytes((127, 0, 0, 1))


def member(name: str, port: int, status: int = STATUS_ALIVE) -> MemberInfo:
    return MemberInfo(NodeId(name), Address(HOST, port), VSN, status)


class World:
    """Who can be joined, and what was tried."""

    def __init__(self, *reachable: str) -> None:
        self.reachable = set(reachable)
        self.tried: list[tuple[tuple[str, ...], bool]] = []
        self.members = [member("me", 1)]
        self.remembered: dict[str, str] = {}
        self.lines: list[str] = []
        self.after_try: Callable[[], None] = lambda: None

    async def join(self, targets: Sequence[str], quiet: bool) -> int:
        self.tried.append((tuple(targets), quiet))
        self.after_try()
        joined = len(self.reachable & set(targets))
        if not joined:
            raise AgentError("nobody")
        return joined

    def joining(self) -> Joining:
        return Joining(
            "me",
            self.join,
            lambda: self.members,
            lambda: self.remembered,
            lambda level, text: self.lines.append(f"[{level}] {text}"),
            interval=0.005,
            port=7946,
        )


def test_a_snapshot_is_tried_until_the_first_success() -> None:
    world = World("b:2")
    known = {"me": "me:1", "a": "a:1", "b": "b:2"}
    asyncio.run(world.joining().rejoin(known))
    assert world.tried[-1] == (("b:2",), True), "quietly, as one who was there before"
    assert world.lines[-1] == "[INFO] serf: Re-joined to previously known node: b: b:2"
    assert (("me:1",), True) not in world.tried


def test_a_snapshot_of_nobody_that_answers() -> None:
    world = World()
    asyncio.run(world.joining().rejoin({"a": "a:1"}))
    assert world.lines == [
        "[INFO] serf: Attempting re-join to previously known node: a: a:1",
        "[WARN] serf: Failed to re-join any previously known node",
    ]
    lonely = World()
    asyncio.run(lonely.joining().rejoin({"me": "me:1"}))
    assert lonely.lines == []


def test_retry_join_goes_on_until_it_works() -> None:
    world = World()

    def appear() -> None:
        if len(world.tried) == 4:
            world.reachable.add("seed:1")

    world.after_try = appear
    assert asyncio.run(world.joining().retry(["seed:1"], 0))
    assert len(world.tried) == 4
    assert world.lines[1] == "[WARN] agent: Join failed: nobody, retrying in 0.005s"
    assert world.lines[-1] == "[INFO] agent: Join completed. Synced with 1 initial agents"


def test_retry_join_gives_up_after_one_try_more_than_its_retries() -> None:
    world = World()
    assert not asyncio.run(world.joining().retry(["seed:1"], 2))
    assert len(world.tried) == 3
    assert world.lines[-1] == "[ERR] agent: maximum retry join attempts made, exiting"


def seek(world: World, seeds: Sequence[str]) -> None:
    async def look() -> None:
        task = asyncio.create_task(world.joining().seek(seeds))
        while len(world.tried) < 3 and not task.done():
            await asyncio.sleep(0.005)
            if len(world.lines) > 10:
                break
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(look(), 20))


def test_who_is_alone_keeps_trying_seeds_and_all_it_remembers() -> None:
    world = World()
    world.members.append(member("a", 2, STATUS_FAILED))
    world.remembered = {"a": "127.0.0.1:2", "me": "127.0.0.1:1"}
    seek(world, ["127.0.0.1:9"])
    assert set(world.tried) == {(("127.0.0.1:9", "127.0.0.1:2"), True)}
    assert len(world.tried) >= 3


def test_a_seed_that_is_no_member_is_tried_even_in_company() -> None:
    world = World("127.0.0.1:9")
    world.members.append(member("a", 2))
    seek(world, ["127.0.0.1:9", "127.0.0.1:2"])
    assert set(world.tried) == {(("127.0.0.1:9",), True)}
    assert "[INFO] agent: joined 127.0.0.1:9, a seed that was not a member" in world.lines
