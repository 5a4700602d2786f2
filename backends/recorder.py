"""The flight recorder's hands: a journal in files, written beside the protocol.

    with Recorder("web-1.journal") as journal:
        async with Runtime("web-1", bind="10.0.0.5:7946", journal=journal) as node:
            ...

A recorder stands where ``swimsim.node.step`` would stand: its ``step`` is the same function, and
what went in and came out is journalled (``swimsim.journal``). The caller pays for a few hundred
bytes of msgpack in memory and never waits for a disk: a thread writes what has gathered, ten
times a second. What waits is bounded. When the disk is too slow, or fails, further inputs are
dropped and counted, and once half the room is free again the journal goes on with a record of
the gap and a fresh snapshot. A *patient* recorder has no thread and waits for the disk instead;
a simulated node can afford that, and its files are the same in every run.

``web-1.journal`` is the file that grows. When it has its size it becomes ``web-1.journal.1``, the
one of that name ``.2``, and so on, up to the number of files that are kept. Each can be replayed
alone. A file that is there at the beginning, such as that of a process that crashed, is put
aside in the same way. Files are not synced: they survive the process, not a loss of power, after
which a journal is read as far as it was written.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias

from msgspec.structs import replace

import swimsim
from swimsim import journal
from swimsim import node as protocol
from swimsim.effects import Effect
from swimsim.fingerprint import fingerprint
from swimsim.inputs import Input
from swimsim.journal import Checkpoint, Digest, End, Gap, Happened, Header, Raised
from swimsim.node import Node, Step
from swimsim.terms import Micros

MIB = 1024 * 1024
BUFFER = 4 * MIB  # bytes that may wait for the disk
SIZE = 64 * MIB  # bytes of a file, its snapshots counted roughly
KEEP = 4  # files, the growing one included
CHECKPOINT = 256  # inputs from one fingerprint of the whole state to the next
PATIENCE = 64 * 1024  # bytes that a patient recorder gathers before it writes
GATHER = 0.1  # seconds that a thread lets inputs gather
RETRY = 1.0  # seconds until it tries a failing disk again
FAREWELL = 5.0  # seconds that ``close`` waits for the disk


class Photo(NamedTuple):
    """A snapshot to be made when its turn comes: nodes are immutable."""

    number: int
    now: Micros
    why: str
    node: Node


class Turn(NamedTuple):
    """Here the next file begins."""


Waiting: TypeAlias = bytes | Photo | Turn


class Files:
    """A journal's files: the growing one, and its older pieces."""

    def __init__(self, path: Path, keep: int, began: str) -> None:
        self._path = path
        self._keep = keep
        self._began = began
        self._pieces = 0
        self._file: FileIO | None = None
        self._size = 0  # bytes that are surely there

    def begin(self) -> None:
        """Put the file aside, forget the oldest, and begin another."""
        self.close()
        if self._path.exists() and self._path.stat().st_size:
            for number in range(self._keep - 1, 0, -1):
                older = self._piece(number - 1)
                if older.exists():
                    older.replace(self._piece(number))
        file = FileIO(self._path, "w")
        self._file, self._size = file, 0
        header = Header(swimsim.__version__, self._began, self._pieces)
        self.write(journal.MAGIC + journal.encode(header))
        self._pieces += 1

    def write(self, data: bytes) -> None:
        """Write all of it, or none: what was written of it when the disk fails is cut off."""
        assert self._file is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._file.seek(self._size)
            with suppress(OSError):
                self._file.truncate()
            raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file; again, it does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _piece(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


class Recorder:
    """Journals one node. ``close`` it, or use it as a context, or the last moments may be lost.

    ``began`` is written at the head of each file, for people: when this was, and where. Raises
    OSError when the first file cannot be written; later failures are kept in ``failure`` and
    cost the journal what does not fit the buffer, and the node nothing. A patient recorder
    raises them.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        began: str = "",
        patient: bool = False,
        buffer: int = BUFFER,
        size: int = SIZE,
        keep: int = KEEP,
        checkpoint: int = CHECKPOINT,
    ) -> None:
        for name, value in (("buffer", buffer), ("size", size), ("keep", keep),
                            ("checkpoint", checkpoint)):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        self.inputs = 0  # all that happened, lost ones included
        self.lost = 0  # inputs that the journal misses
        self.failure = ""  # the last thing that went wrong
        self._patient, self._buffer, self._size = patient, buffer, size
        self._checkpoint = checkpoint
        self._last: Node | None = None  # what the last input left
        self._digest = Digest()
        self._digested: Node | None = None  # the node whose digest that is
        self._gap: Gap | None = None  # inputs are being lost
        self._piece = 0  # bytes of the growing file
        self._closed = False
        self._queue: deque[Waiting] = deque()  # from the protocol to the writer
        self._put_in = 0  # bytes that ever came into the queue, counted on this side
        self._trouble = ""  # that the disk is in
        self._taken: list[Waiting] = []  # by the writer, and not written yet
        self._written = 0  # bytes, counted on that side
        self._woken, self._hurry, self._closing = (threading.Event() for _ in range(3))
        self._files = Files(Path(path), keep, began)
        self._files.begin()
        if not patient:
            self._writer = threading.Thread(target=self._run, name="swimsim journal", daemon=True)
            self._writer.start()
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- in the protocol's way -----------------------------------------------------------

    def step(self, node: Node, now: Micros, input: Input) -> Step:
        """``swimsim.node.step``, journalled. What it raises is journalled as well."""
        try:
            after, effects = protocol.step(node, now, input)
        except Exception as error:
            self._note(node, now, input, node, (), journal.told(error))
            raise
        self._note(node, now, input, after, effects)
        return after, effects

    def _note(
        self,
        before: Node,
        now: Micros,
        input: Input,
        after: Node,
        effects: tuple[Effect, ...],
        raised: str = "",
    ) -> None:
        if self._closed:
            return
        why = self._trouble or "the disk was too slow"
        try:
            kept = self._goes_on(before, now) and self._keep(now, input, after, effects, raised)
        except Exception as error:  # the node must not suffer from it
            self.failure = why = journal.told(error)
            kept = False
        self.inputs += 1
        self._last = after
        if not kept:
            self._lose(now, why)
        elif self.inputs % self._checkpoint == 0:
            self._put(journal.encode(Checkpoint(fingerprint(after))))
        if self._patient and self._waiting() > PATIENCE:
            self._flush()

    def _goes_on(self, before: Node, now: Micros) -> bool:
        """Write what must stand before the next input; False while there is no room for it."""
        last = self._last
        if self._gap is not None:
            if self._waiting() > self._buffer // 2:
                return False
            self._put(journal.encode(self._gap))
            self._gap = None
            self._put(Photo(self.inputs, now, journal.GAP, before))
        elif last is None:
            self._put(Photo(self.inputs, now, journal.START, before))
        elif before is not last and fingerprint(before) != fingerprint(last):
            self._put(Photo(self.inputs, now, journal.LIFE, before))
        elif self._piece >= self._size:
            self._put(journal.encode(End(self.inputs, fingerprint(before), continued=True)))
            self._put(Turn())
            self._piece = 0
            self._put(Photo(self.inputs, now, journal.ROTATION, before))
        return True

    def _keep(
        self, now: Micros, input: Input, after: Node, effects: tuple[Effect, ...], raised: str
    ) -> bool:
        """Write one input; False when there is no room."""
        record: Happened | Raised
        if raised:
            record = Raised(now, input, raised)
        else:
            if after is not self._digested:
                self._digest, self._digested = journal.digest(after, self._digest), after
            record = Happened(now, input, journal.checksum(effects), self._digest.value)
        data = journal.encode(record)
        if self._waiting() + len(data) > self._buffer and not self._patient:
            return False
        self._put(data)
        return True

    def _lose(self, now: Micros, why: str) -> None:
        self.lost += 1
        if self._gap is None:
            self._gap = Gap(1, now, now, why)
        else:
            self._gap = replace(self._gap, lost=self._gap.lost + 1, until=now)

    def _waiting(self) -> int:
        """Bytes that are not written yet; those of snapshots roughly."""
        return self._put_in - self._written

    def _put(self, what: Waiting) -> None:
        size = len(what) if type(what) is bytes else _size(what)
        self._queue.append(what)
        self._put_in += size
        self._piece += size
        if self._patient:
            return
        if len(self._queue) == 1:  # the writer stops only where it finds nothing
            self._woken.set()
        if self._waiting() > self._buffer // 2:
            self._hurry.set()

    # --- beside it -----------------------------------------------------------------------

    def close(self) -> bool:
        """End the journal and wait a while for the disk; whether all was written."""
        if not self._closed:
            self._closed = True
            atexit.unregister(self.close)
            if self._gap is not None:
                self._put(journal.encode(self._gap))
            if self._last is not None:
                self._put(journal.encode(End(self.inputs, fingerprint(self._last))))
            if self._patient:
                self._flush()
                self._files.close()
            else:
                self._closing.set()
                self._hurry.set()
                self._woken.set()
                self._writer.join(FAREWELL)
        return not self._waiting()

    def _run(self) -> None:
        """Write what gathers until the end; what a failing disk refuses is tried again."""
        closing = False
        while not closing:
            self._woken.wait()
            self._hurry.wait(GATHER)
            closing = self._closing.is_set()
            self._hurry.clear()
            self._woken.clear()
            try:
                self._flush()
                self._trouble = ""
            except Exception as error:
                self.failure = self._trouble = journal.told(error)
                self._closing.wait(RETRY)
                self._woken.set()
        self._files.close()

    def _flush(self) -> None:
        """Write all that waits; what raises OSError stays where it is."""
        taken = self._taken
        while taken or self._queue:
            while self._queue:
                taken.append(self._queue.popleft())
            turns = (place for place, what in enumerate(taken) if isinstance(what, Turn))
            done = next(turns, len(taken))
            if done:
                self._files.write(b"".join(map(_bytes, taken[:done])))
            else:
                self._files.begin()
                done = 1
            self._written += sum(map(_size, taken[:done]))
            del taken[:done]


def _size(what: Waiting) -> int:
    """How many bytes it takes; of a snapshot roughly, from what it costs nothing to know."""
    match what:
        case Photo(_, _, _, node):
            return 1024 + 2 * node.members.size
        case Turn():
            return 0
        case _:
            return len(what)


def _bytes(what: Waiting) -> bytes:
    match what:
        case Photo(number, now, why, node):
            return journal.encode(journal.snapshot(number, now, why, node))
        case Turn():
            return b""
        case _:
            return what
