"""The log: levels, the gate, the ring for those who monitor (spec serf.md, 3.7)."""

from __future__ import annotations

import asyncio
import re

import pytest

from backends.agent.logs import KEPT, Log
from backends.agent.subscription import Subscription
from backends.agent.surface import AgentError


def test_lines_look_like_serfs_and_wait_for_the_gate() -> None:
    said: list[str] = []
    log = Log(said.append)
    log("INFO", "agent: one")
    log("DEBUG", "agent: too fine")
    assert said == []
    log.open()
    log("WARN", "agent: two\nmore")
    assert [re.sub(r"^    \d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line) for line in said] == [
        "[INFO] agent: one",
        "[WARN] agent: two\nmore",
    ]


def test_the_level_can_be_changed() -> None:
    said: list[str] = []
    log = Log(said.append, "err")
    log.open()
    log("WARN", "x")
    log.level = "debug"
    log("DEBUG", "y")
    assert (len(said), log.level) == (1, "DEBUG")
    with pytest.raises(AgentError, match="Unknown log level: BOGUS"):
        log.level = "bogus"


async def read(lines: Subscription[str], count: int) -> list[str]:
    return [(await anext(lines)).split("] ")[1] for _ in range(count)]


def test_monitors_get_what_is_kept_first_whatever_is_displayed() -> None:
    async def watch() -> None:
        log = Log(lambda line: None, "ERR")
        for number in range(KEPT + 10):
            log("DEBUG" if number % 2 else "INFO", str(number))
        fine, coarse = log.monitor("trace"), log.monitor("INFO")
        log("INFO", "live")
        assert (await read(fine, KEPT + 1))[:2] == ["10", "11"]
        assert (await read(coarse, KEPT // 2 + 1))[-2:] == [str(KEPT + 8), "live"]
        fine.close()
        log.close()
        assert [line async for line in coarse] == []
        with pytest.raises(AgentError, match="Unknown log level: FOO"):
            log.monitor("foo")

    asyncio.run(watch())


def test_a_reader_that_is_too_slow_loses_the_newest_and_that_is_told_once() -> None:
    async def watch() -> None:
        dropped: list[int] = []
        things: Subscription[int] = Subscription(room=2, on_drop=lambda: dropped.append(1))
        for number in range(5):
            things.put(number)
        assert [await anext(things), await anext(things)] == [0, 1]
        things.put(9)
        assert await anext(things) == 9
        assert dropped == [1]

    asyncio.run(watch())


def test_an_unknown_facility_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid syslog facility"):
        Log(lambda line: None).to_syslog("nowhere")
