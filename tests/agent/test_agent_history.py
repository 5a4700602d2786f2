"""What an agent remembers of its own life, and the story it tells of a member."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from backends.agent import history
from backends.agent.history import History
from backends.udp import SERF, Runtime
from swimsim.config import LOCAL
from swimsim.terms import MS

FAST = replace(
    LOCAL, serf=True, probe_interval=60 * MS, probe_timeout=20 * MS, suspicion_mult=2,
    gossip_interval=20 * MS, suspicion_max_timeout_mult=1,
)  # fmt: skip


async def until(condition: object, limit: float = 20.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_death_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RECENT", 20)  # so that most of it is from beyond

    async def live() -> list[str]:
        told = History()
        async with (
            Runtime("a", bind="127.0.0.1:0", config=FAST, journal=told) as one,
            Runtime("b", bind="127.0.0.1:0", config=FAST) as other,
        ):
            await other.join([str(one.address)])
            await asyncio.sleep(0.5)
            await other.stop()
            await until(lambda: [each.name for each in one.roster if each.status == 4] == ["b"])
            await asyncio.sleep(0.2)
            return told.why("b", one.now())

    lines = asyncio.run(live())
    story = "\n".join(lines)
    assert "now a member: alive" in story
    assert "failed: nobody reached it" in story
    assert "suspected by a" in story
    assert "suspect -> dead" in story
    assert lines[-2].startswith("now: b is dead, incarnation 1, since ")


def test_of_a_stranger_nothing_is_known() -> None:
    async def live() -> list[str]:
        told = History()
        async with Runtime("a", bind="127.0.0.1:0", config=SERF, journal=told) as one:
            return told.why("nobody", one.now())

    assert asyncio.run(live()) == []


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RECENT", 30)
    monkeypatch.setattr(history, "WEIGHT", 60)

    async def live() -> History:
        told = History()
        async with Runtime("a", bind="127.0.0.1:0", config=FAST, journal=told) as one:
            for number in range(100):
                await one.update_meta(bytes(number))  # each changes the table
        return told

    told = asyncio.run(live())
    assert len(told._recent) + len(told._telling) <= 60
    assert len(told._telling) >= 20
