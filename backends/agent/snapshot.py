"""What an agent must still know after a crash: whom it knew, and how late it was.

The file is Serf's (spec serf.md, 2.16), so either agent can go on where the other stopped: one
record a line, appended, and compacted when it has grown.

==========================  ========================================================
``alive: NAME ADDRESS``     a member joined
``not-alive: NAME``         it left, failed or was forgotten
``clock: N``                so do ``event-clock`` and ``query-clock``: Lamport times
``leave``                   this agent said farewell
``# failed: NAME ADDRESS``  ours, a comment to Serf: it failed, and may come back there
``# incarnation: N``        ours as well: what this agent last called itself
==========================  ========================================================

Serf forgets who failed, and begins at incarnation 0 again, which others take for old news. What
is recorded is in the file half a second later, and on the disk after a farewell or an orderly
end. The file is whole at every moment: records are appended, a torn last one is cut off before
the next, and a compaction is a rename. All writing is done in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from backends.agent import files
from swimsim.terms import U32, Incarnation

FLUSH_S = 0.5  # between two flushes, while there is something to write
RECOVERY_S = 30.0  # between two attempts to begin anew after a failure
LEAST_SIZE = 128 * 1024  # bytes; below that nothing is compacted
BYTES_PER_MEMBER = 256
COMPACT = ".compact"  # what a compaction is called until it is done, as Serf has it
MODE = 0o644
U64 = (1 << 64) - 1

CLOCKS = ("clock", "event-clock", "query-clock")
Log = Callable[[str, str], None]


class Memory:
    """What the records say so far. ``take`` is how a file is read and how it is added to."""

    def __init__(self, rejoin: bool = False) -> None:
        self.rejoin = rejoin  # a farewell is no reason not to come back
        self.alive: dict[str, str] = {}  # addresses by name
        self.failed: dict[str, str] = {}
        self.clocks = dict.fromkeys(CLOCKS, 0)
        self.incarnation: Incarnation = 0
        self.has_left = False

    def take(self, line: str) -> str:
        """Take one record in; what is wrong with it, if anything."""
        kind, _, rest = line.partition(": ")
        match kind:
            case "alive" | "# failed":
                name, _, address = rest.rpartition(" ")
                if not name:
                    return f"Failed to parse address: {line}"
                self._forget(name)
                self.has_left = False  # these are the records of another life
                (self.alive if kind == "alive" else self.failed)[name] = address
            case "not-alive":
                self._forget(rest)
            case "clock" | "event-clock" | "query-clock" | "# incarnation":
                if not (rest.isascii() and rest.isdigit() and len(rest) <= 20):
                    return f"Failed to convert {kind} to a number: {line}"
                if kind == "# incarnation":
                    self.incarnation = min(int(rest), U32)
                else:
                    self.clocks[kind] = min(int(rest), U64)
            case "leave":
                self.has_left = not self.rejoin
                if not self.rejoin:
                    self.alive.clear()
                    self.failed.clear()
                    self.clocks = dict.fromkeys(CLOCKS, 0)
            case _ if not line.startswith("#") and kind != "coordinate":
                return f"Unrecognized snapshot line: {line}"
        return ""

    def lines(self) -> list[str]:
        """The fewest records that say the same."""
        told = ["leave"] if self.has_left else []
        told += [f"alive: {name} {address}" for name, address in self.alive.items()]
        told += [f"# failed: {name} {address}" for name, address in self.failed.items()]
        told += [f"{kind}: {time}" for kind, time in self.clocks.items()]
        return [*told, f"# incarnation: {self.incarnation}"] if self.incarnation else told

    def _forget(self, name: str) -> None:
        self.alive.pop(name, None)
        self.failed.pop(name, None)


class Records:
    """The file, open at its end. Every method may raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, MODE)
        self.size = _whole(os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0))
        os.ftruncate(self._descriptor, self.size)

    def append(self, data: bytes) -> None:
        """Add to the file; all of it, or what is there of it is cut off again."""
        try:
            files.write(self._descriptor, data)
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)

    def begin_anew(self, data: bytes) -> None:
        """Have the file hold just this, from one moment to the next."""
        files.replace(self.path, data, beside=COMPACT, mode=MODE)
        os.close(self._descriptor)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, MODE)
        self.size = len(data)

    def sync(self) -> None:
        """Have what was written on the disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


class Snapshot:
    """Reads a snapshot and goes on writing it. Raises OSError when it cannot be opened."""

    def __init__(self, path: Path, log: Log, *, rejoin: bool = False) -> None:
        self._log = log
        self.memory = Memory(rejoin)
        self._read(path)
        self.found = _copy(self.memory)  # what was in it at the start
        self.memory.has_left = False
        self._records = Records(path)
        self._waiting: list[str] = []
        self._writing = asyncio.Lock()
        self._tried = -RECOVERY_S  # when it was last begun anew, in the loop's time
        self._is_broken = False  # the file lacks something

    def _read(self, path: Path) -> None:
        aside = path.with_name(path.name + COMPACT)
        if not path.exists() and aside.exists():  # Serf was killed between its delete and rename
            os.replace(aside, path)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        for line in data[: _whole(data)].decode("utf-8", "surrogateescape").split("\n")[:-1]:
            if line == "leave" and self.memory.rejoin:
                self._log("INFO", "serf: Ignoring previous leave in snapshot")
            trouble = self.memory.take(line) if line else ""
            if trouble:
                self._log("WARN", f"serf: {trouble}")

    # --- what happens --------------------------------------------------------------------

    def joined(self, name: str, address: str) -> None:
        """A member is there."""
        self._record_about(name, f"alive: {name} {address}")

    def left(self, name: str) -> None:
        """A member said farewell, or is to be forgotten."""
        self._record_about(name, f"not-alive: {name}")

    def failed(self, name: str, address: str) -> None:
        """A member failed; its place is kept in mind."""
        self._record_about(name, f"not-alive: {name}", f"# failed: {name} {address}")

    def reached(self, clock: str, time: int) -> None:
        """A clock, one of ``CLOCKS``, is so late."""
        if time > self.memory.clocks[clock]:
            self._record(f"{clock}: {time}")

    def called(self, incarnation: Incarnation) -> None:
        """This agent now goes by that incarnation."""
        if incarnation != self.memory.incarnation:
            self._record(f"# incarnation: {incarnation}")

    async def leave(self) -> None:
        """Farewell; returns when that is on the disk."""
        self._record("leave")
        self.memory.has_left = True
        await self.flush(sync=True)

    def _record_about(self, name: str, *lines: str) -> None:
        if self.memory.has_left:
            return
        if "\n" in name or not name:  # would be a record of its own
            self._log("WARN", f"serf: Not remembered in the snapshot: {name!r}")
            return
        self._record(*lines)

    def _record(self, *lines: str) -> None:
        for line in lines:
            self.memory.take(line)
        self._waiting += lines

    # --- the file ------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self, *, sync: bool = False) -> None:
        """Write what is recorded; what goes wrong is logged, and made good later."""
        async with self._writing:
            lines, self._waiting = self._waiting, []
            try:
                await self._write(lines, sync)
            except OSError as error:
                self._is_broken = True
                self._log("ERR", f"serf: Failed to update snapshot: {files.told(error)}")

    async def close(self) -> None:
        """Write what is left, to the disk, and let go of the file."""
        await self.flush(sync=True)
        self._records.close()

    async def _write(self, lines: list[str], sync: bool) -> None:
        least = max(LEAST_SIZE, BYTES_PER_MEMBER * len(self.memory.alive))
        if self._is_broken or self._records.size > least:
            now = asyncio.get_running_loop().time()
            if not self._is_broken or now - self._tried >= RECOVERY_S or sync:
                self._tried = now
                await asyncio.to_thread(self._records.begin_anew, _bytes(self.memory.lines()))
                self._is_broken = False
            return
        if lines:
            await asyncio.to_thread(self._records.append, _bytes(lines))
        if sync:
            await asyncio.to_thread(self._records.sync)


def _whole(data: bytes) -> int:
    """How much of it is whole lines."""
    return data.rfind(b"\n") + 1


def _bytes(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _copy(memory: Memory) -> Memory:
    copy = Memory(memory.rejoin)
    for line in memory.lines():
        copy.take(line)
    copy.has_left = memory.has_left
    return copy
