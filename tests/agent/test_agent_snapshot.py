"""The snapshot: Serf's records, read back after any end (spec serf.md, 2.16)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.agent import snapshot as module
from backends.agent.snapshot import Memory, Records, Snapshot
from tests.agent.crashes import deaths

Lines = list[str]

READS: dict[str, tuple[str, dict[str, Any]]] = {  # a file's text: what is remembered of it
    "nothing": ("", {}),
    "a member": ("alive: a 127.0.0.1:1\n", {"alive": {"a": "127.0.0.1:1"}}),
    "a member with IPv6": ("alive: a [::1]:1\n", {"alive": {"a": "[::1]:1"}}),
    "a name with blanks": ("alive: a b c 127.0.0.1:1\n", {"alive": {"a b c": "127.0.0.1:1"}}),
    "a torn last line": ("alive: a 1:1\nalive: b 1", {"alive": {"a": "1:1"}}),
    "gone": ("alive: a 1:1\nnot-alive: a\n", {}),
    "somebody unknown is gone": ("not-alive: a\n", {}),
    "failed": ("alive: a 1:1\nnot-alive: a\n# failed: a 1:1\n", {"failed": {"a": "1:1"}}),
    "back": ("# failed: a 1:1\nalive: a 1:2\n", {"alive": {"a": "1:2"}}),
    "clocks are as last said": (
        "clock: 9\nclock: 7\nevent-clock: 3\nquery-clock: 4\n",
        {"clocks": {"clock": 7, "event-clock": 3, "query-clock": 4}},
    ),
    "a farewell forgets": (
        "alive: a 1:1\nclock: 9\n# incarnation: 4\nleave\nclock: 11\n",
        {"has_left": True, "clocks": {"clock": 11, "event-clock": 0, "query-clock": 0},
         "incarnation": 4},
    ),
    "comments and old coordinates": ("# hello\ncoordinate: {}\n", {}),
    "spec, W13": (
        "alive: r2 127.0.0.1:17962\nalive: r1 127.0.0.1:17961\nclock: 1\nevent-clock: 1\nleave\n"
        "clock: 2\n",
        {"has_left": True, "clocks": {"clock": 2, "event-clock": 0, "query-clock": 0}},
    ),
}  # fmt: skip


def said_of(memory: Memory) -> dict[str, Any]:
    told = {name: getattr(memory, name) for name in ("alive", "failed", "has_left", "incarnation")}
    told["clocks"] = memory.clocks if any(memory.clocks.values()) else {}
    return {name: value for name, value in told.items() if value}


def ignore(level: str, text: str) -> None:
    pass


def read(path: Path, *, rejoin: bool = False, log: Callable[[str, str], None] = ignore) -> Memory:
    """What the next start finds."""
    snapshot = Snapshot(path, log, rejoin=rejoin)
    snapshot._records.close()
    return snapshot.found


@pytest.mark.parametrize(("text", "remembered"), READS.values(), ids=READS)
def test_reading(text: str, remembered: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_text(text)
    assert said_of(read(path)) == remembered
    assert path.read_text() == text[: text.rfind("\n") + 1], "the torn line is cut off"


def test_whoever_wants_to_rejoin_remembers_after_a_farewell(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_text("alive: a 1:1\nclock: 9\nleave\n")
    said: Lines = []
    memory = read(path, rejoin=True, log=lambda level, text: said.append(f"[{level}] {text}"))
    assert memory.alive == {"a": "1:1"}
    assert said == ["[INFO] serf: Ignoring previous leave in snapshot"]


WRONG = {
    "alive: a": "serf: Failed to parse address: alive: a",
    "clock: x": "serf: Failed to convert clock to a number: clock: x",
    "clock: -1": "serf: Failed to convert clock to a number: clock: -1",
    "bogus": "serf: Unrecognized snapshot line: bogus",
}


@pytest.mark.parametrize(("line", "warning"), WRONG.items(), ids=WRONG)
def test_a_line_that_is_no_record_is_told_and_passed_over(
    line: str, warning: str, tmp_path: Path
) -> None:
    path = tmp_path / "snapshot"
    path.write_text(f"alive: a 1:1\n{line}\nclock: 3\n")
    said: Lines = []
    memory = read(path, log=lambda level, text: said.append(f"{level} {text}"))
    assert said == [f"WARN {warning}"]
    assert (memory.alive, memory.clocks["clock"]) == ({"a": "1:1"}, 3)


names = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=6)
records = st.one_of(
    st.builds("alive: {} 10.0.0.{}:7946".format, names, st.integers(0, 3)),
    st.builds("not-alive: {}".format, names),
    st.builds("# failed: {} 10.0.0.{}:7946".format, names, st.integers(0, 3)),
    st.builds("{}: {}".format, st.sampled_from(module.CLOCKS), st.integers(0, 2**64 - 1)),
    st.builds("# incarnation: {}".format, st.integers(0, 2**32 - 1)),
    st.just("leave"),
)


@given(st.lists(records, max_size=30), st.booleans())
def test_a_compaction_says_the_same(lines: Lines, rejoin: bool) -> None:
    memory, compacted = Memory(rejoin), Memory(rejoin)
    for line in lines:
        assert memory.take(line) == ""
    for line in memory.lines():
        assert compacted.take(line) == ""
    assert said_of(compacted) == said_of(memory)


@given(st.lists(records, max_size=20), st.data())
def test_a_file_cut_off_anywhere_is_the_records_before(lines: Lines, data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    cut = data.draw(st.integers(0, len(text)))
    whole = text[:cut].count(b"\n")
    memory = Memory()
    for line in lines[:whole]:
        memory.take(line)
    read_back = Memory()
    for line in text[: module._whole(text[:cut])].decode().split("\n")[:-1]:
        read_back.take(line)
    assert said_of(read_back) == said_of(memory)


# --- kill -9 at every point ------------------------------------------------------------------


def test_whoever_is_killed_while_recording_loses_nothing_flushed_before(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    first = b"alive: a 1:1\nclock: 5\n"
    for _ in deaths(lambda: _record(path, first)):
        path.unlink(missing_ok=True)
    again = b"not-alive: a\n# failed: a 1:1\nclock: 6\n"
    states = set()
    for _ in deaths(lambda: _record(path, again)):
        memory = read(path)
        assert memory.clocks["clock"] >= 5
        assert "a" in {**memory.alive, **memory.failed} or memory.clocks["clock"] == 5
        states.add((tuple(memory.alive), tuple(memory.failed), memory.clocks["clock"]))
        path.write_bytes(first)
    assert (("a",), (), 5) in states
    assert ((), ("a",), 6) in states


def _record(path: Path, data: bytes) -> None:
    records = Records(path)
    records.append(data)
    records.sync()
    records.close()


def test_whoever_is_killed_while_compacting_leaves_one_of_both_files(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    long = b"".join(b"clock: %d\n" % time for time in range(100)) + b"alive: a 1:1\n"
    calls = 0
    path.write_bytes(long)
    sizes = set()
    for _ in deaths(lambda: _compact(path)):
        memory = read(path)
        assert memory.clocks["clock"] == 99
        assert memory.alive == {"a": "1:1"}
        sizes.add(path.stat().st_size)
        path.write_bytes(long)
        calls += 1
    assert calls >= 11
    assert sizes == {len(long), len(b"alive: a 1:1\nclock: 99\n")}


def _compact(path: Path) -> None:
    records = Records(path)
    records.begin_anew(b"alive: a 1:1\nclock: 99\n")
    records.close()


def test_serfs_own_compaction_cut_short_is_finished(tmp_path: Path) -> None:
    # Serf deletes the old file before it renames the new one
    (tmp_path / "snapshot.compact").write_text("alive: a 1:1\nclock: 3\n")
    assert read(tmp_path / "snapshot").alive == {"a": "1:1"}


# --- as it is written --------------------------------------------------------------------------


def test_a_life_and_the_next(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"

    async def live() -> None:
        snapshot = Snapshot(path, ignore)
        snapshot.joined("a", "127.0.0.1:1")
        snapshot.joined("b", "127.0.0.1:2")
        snapshot.reached("clock", 4)
        snapshot.reached("clock", 4)
        snapshot.called(7)
        snapshot.failed("b", "127.0.0.1:2")
        await snapshot.flush()
        snapshot.joined("c", "127.0.0.1:3")
        snapshot.left("a")
        await snapshot.close()

    asyncio.run(live())
    assert path.read_text() == (
        "alive: a 127.0.0.1:1\nalive: b 127.0.0.1:2\nclock: 4\n# incarnation: 7\n"
        "not-alive: b\n# failed: b 127.0.0.1:2\nalive: c 127.0.0.1:3\nnot-alive: a\n"
    )
    memory = read(path)
    assert (memory.alive, memory.failed) == ({"c": "127.0.0.1:3"}, {"b": "127.0.0.1:2"})


def test_after_a_farewell_only_clocks_are_recorded(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"

    async def live() -> None:
        snapshot = Snapshot(path, ignore)
        snapshot.joined("a", "1:1")
        await snapshot.leave()
        snapshot.joined("b", "1:1")
        snapshot.left("a")
        snapshot.reached("clock", 2)
        await snapshot.close()

    asyncio.run(live())
    assert path.read_text() == "alive: a 1:1\nleave\nclock: 2\n"
    assert said_of(read(path, rejoin=True))["alive"] == {"a": "1:1"}


def test_a_name_that_would_be_a_record_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    said: Lines = []

    async def live() -> None:
        snapshot = Snapshot(path, lambda level, text: said.append(level))
        snapshot.joined("x\nleave", "1:1")
        snapshot.failed("x\nleave", "1:1")
        snapshot.joined("\udcff", "1:1")  # not UTF-8
        await snapshot.close()

    asyncio.run(live())
    assert path.read_bytes() == b"alive: \xff 1:1\n"
    assert said == ["WARN", "WARN"]
    assert read(path).alive == {"\udcff": "1:1"}


def test_a_file_that_has_grown_is_compacted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_SIZE", 1000)
    path = tmp_path / "snapshot"

    async def live() -> None:
        snapshot = Snapshot(path, ignore)
        snapshot.joined("a", "1:1")
        for time in range(1, 200):
            snapshot.reached("clock", time)
            await snapshot.flush()
        await snapshot.close()

    asyncio.run(live())
    assert path.stat().st_size < 1100
    assert not (tmp_path / "snapshot.compact").exists()
    assert read(path).clocks["clock"] == 199


def test_a_disk_that_was_full_for_a_while_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "snapshot"
    said: Lines = []

    async def live() -> None:
        snapshot = Snapshot(path, lambda level, text: said.append(f"[{level}] {text}"))
        snapshot.joined("a", "1:1")
        await snapshot.flush()
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            snapshot.joined("b", "1:2")
            await snapshot.flush()
            snapshot.joined("c", "1:3")
            await snapshot.flush()
        assert path.read_text() == "alive: a 1:1\n"
        await snapshot.close()

    asyncio.run(live())
    assert set(said) == {"[ERR] serf: Failed to update snapshot: no space left on device"}
    assert read(path).alive == {"a": "1:1", "b": "1:2", "c": "1:3"}


def full(descriptor: int, data: bytes) -> int:
    raise OSError(28, "No space left on device")
