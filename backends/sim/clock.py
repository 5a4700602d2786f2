"""Virtual time: one SimPy environment whose events are deliveries and timers.

Time is whole microseconds and events of one instant happen in the order in which they were
scheduled, so a run has exactly one history. What is scheduled is plain data, the fields of
``Due``: it costs less than a SimPy ``Timeout`` with a closure, and is what lets a run be branched.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple, TypeAlias

import simpy
from msgspec import Struct
from simpy.core import EmptySchedule, Infinity, SimTime, StopSimulation
from simpy.events import NORMAL, URGENT

from backends.sim.host import Host
from swimsim.terms import Micros

Callback: TypeAlias = Callable[[Host, Any, int], None]
"""Called with a host, with what is to happen to it, and with the life for which that was meant."""


Waiting: TypeAlias = tuple[Callback, Host, Any, int]
"""An event while it waits: the fields of ``Due``, which a plain tuple costs less to hold."""


class Due(NamedTuple):
    """An event, as ``pending`` tells of it."""

    callback: Callback
    host: Host
    what: Any
    life: int  # of the host when this was scheduled; a later life is not concerned


SLOT: Micros = 8_192  # width of a bucket
NARROW: Micros = 1_024  # the same where there is so much to do that a heap of 8 ms is a large one
ERA = 1_024  # slots; what is due in a later one waits in one bucket for all of it
CROWDED = 1_024  # entries of the heap from which on it is spared
_ID_BITS = 40  # of the number of an event: more of them than a run can have
_ID_MASK = (1 << _ID_BITS) - 1
_NEVER = 1 << 128
_FIRST = -1  # priority, before SimPy's urgent events of the same instant


class Bucket(Struct):
    """What is due in one slot of time, or in one era, in the order in which it was scheduled.

    An entry takes 8 bytes of ``keys``, which is its key less that of the slot's begin, and four
    of ``parts``, which are put together when the slot begins. Both lie in one piece, whereas what
    is in the heap takes some objects scattered over the memory.
    """

    keys: array[int]
    parts: list[Any]  # callback, host, what and life of one entry after the other

    def entries(self, begin: Micros) -> Iterator[tuple[int, Waiting]]:
        """Keys and what they are of, if the slot or the era begins at ``begin``."""
        part, base = iter(self.parts), begin << _ID_BITS
        keys = [base + key for key in self.keys]
        return zip(keys, zip(part, part, part, part, strict=True), strict=True)


class Clock(simpy.Environment):
    """SimPy's environment, with a cheaper way to schedule. Processes of others run on it too.

    Their events are in SimPy's own heap. That of what ``later`` schedules holds one number for
    each, its *key*: the time above the number that SimPy gives to events; numbers are compared
    faster than the tuples of SimPy's. When there are many, what is not due for a while waits in
    buckets, and enters the heap, under the key it had from the beginning, as its bucket's time
    begins: a heap of many entries is slow. What is due in minutes would be alone in its slot's
    bucket: it waits in that of its era, and is moved when the era begins. The order of events is
    exactly that of one heap with all of them.
    """

    def __init__(self, now: Micros = 0, slot: Micros = SLOT) -> None:
        super().__init__(now)
        self.slot = slot
        self._era: Micros = slot * ERA
        self._keys: list[int] = [_NEVER]  # a heap, never empty
        self._dues: dict[int, Waiting] = {}  # by their keys in the heap
        self._slots: dict[Micros, Bucket] = {}  # by when they begin
        self._eras: dict[Micros, Bucket] = {}
        self._begins: list[Micros] = []  # of both, as a heap

    @property
    def micros(self) -> Micros:
        """Now."""
        return self._now  # type: ignore[return-value]

    # --- scheduling ------------------------------------------------------------------------

    def later(self, delay: Micros, callback: Callback, host: Host, what: Any) -> None:
        """Have ``callback`` called with ``host``, ``what`` and the host's life after ``delay``."""
        at: Micros = self._now + delay  # type: ignore[assignment]
        if delay <= self.slot or (not self._begins and len(self._keys) < CROWDED):
            if delay < 0:
                raise ValueError(f"a delay of {delay} us: time does not go back")
            key = at << _ID_BITS | next(self._eid)
            self._dues[key] = callback, host, what, host.life
            heappush(self._keys, key)
            return
        if delay <= self._era:
            place, buckets = at % self.slot, self._slots
        else:
            place, buckets = at % self._era, self._eras
        bucket = buckets.get(at - place) or self._new_bucket(buckets, at - place)
        bucket.keys.append(place << _ID_BITS | next(self._eid))
        bucket.parts += (callback, host, what, host.life)

    def resume(self, at: Micros, due: Due) -> None:
        """Schedule what another clock would have done at ``at``."""
        self._enter(at << _ID_BITS | next(self._eid), tuple(due))

    def timeout(self, delay: float = 0, value: Any = None) -> simpy.Timeout:
        """SimPy's timeout, to the whole microsecond, so that no float decides an order."""
        return simpy.Timeout(self, round(delay), value)

    def pending(self) -> list[tuple[Micros, Any]]:
        """What is scheduled and when, in the order in which it will happen.

        The ends of runs, which SimPy leaves behind, are left out.
        """
        waiting = list(self._dues.items())
        for begin, bucket in [*self._slots.items(), *self._eras.items()]:
            waiting += bucket.entries(begin)
        mine = [(key >> _ID_BITS, NORMAL, key & _ID_MASK, Due(*due)) for key, due in waiting]
        queue: list[tuple[Any, ...]] = [*self._queue, *mine]
        return [
            (at, event)
            for at, _, _, event in sorted(queue, key=lambda entry: entry[:3])
            if isinstance(event, Due)
            or (event.callbacks and event.callbacks[0] not in (self._open, StopSimulation.callback))
        ]

    def _enter(self, key: int, due: Waiting) -> None:
        self._dues[key] = due
        heappush(self._keys, key)

    # --- buckets ---------------------------------------------------------------------------

    def _new_bucket(self, buckets: dict[Micros, Bucket], begin: Micros) -> Bucket:
        if begin not in self._slots and begin not in self._eras:
            heappush(self._begins, begin)
            if self._begins[0] == begin:
                self._open_at(begin)
        bucket = buckets[begin] = Bucket(array("Q"), [])
        return bucket

    def _open_at(self, begin: Micros) -> None:
        """Have the first of the buckets opened as its time begins."""
        opening = simpy.Event(self)
        opening._ok, opening._value = True, None
        opening.callbacks = [self._open]
        self.schedule(opening, URGENT, begin - self._now)

    def _open(self, opening: simpy.Event) -> None:
        begin = self.micros
        if not self._begins or self._begins[0] != begin:
            return  # another one had become the first meanwhile, and opened this
        heappop(self._begins)
        if era := self._eras.pop(begin, None):
            for key, due in era.entries(begin):
                self._move(begin, key, due)
        if slot := self._slots.pop(begin, None):
            keys, dues = self._keys, self._dues
            for key, due in slot.entries(begin):
                dues[key] = due
                heappush(keys, key)
        if self._begins:
            self._open_at(self._begins[0])

    def _move(self, now: Micros, key: int, due: Waiting) -> None:
        """Put what waited in the era that begins now into the bucket of its slot."""
        at = key >> _ID_BITS
        begin = at - at % self.slot
        if begin == now:
            self._enter(key, due)
            return
        bucket = self._slots.get(begin) or self._new_bucket(self._slots, begin)
        bucket.keys.append(key - (begin << _ID_BITS))
        bucket.parts += due

    # --- running ---------------------------------------------------------------------------

    def run_to(self, at: Micros) -> None:
        """Let everything happen that is due before ``at``, and make it ``at``.

        What SimPy's ``run(until=at)`` does, without a call for each event.
        """
        end = simpy.Event(self)
        end._ok, end._value, end.callbacks = True, None, []
        keys, dues, queue = self._keys, self._dues, self._queue
        heappush(queue, (at, _FIRST, next(self._eid), end))  # type: ignore[misc]
        while True:
            key = heappop(keys)
            now = key >> _ID_BITS
            if now < queue[0][0]:
                self._now = now
                callback, host, what, life = dues.pop(key)
                callback(host, what, life)
                continue
            heappush(keys, key)
            event: Any = queue[0][3]
            if event is end:
                heappop(queue)
                self._now = at
                return
            if StopSimulation.callback in event.callbacks:  # of a run that an error ended
                heappop(queue)
            else:
                self.step()

    def step(self) -> None:
        """Let the next event happen, as SimPy's ``run`` asks; raises ``EmptySchedule``."""
        key = self._keys[0]
        if self._queue and self._queue[0] < (key >> _ID_BITS, NORMAL, key & _ID_MASK):
            super().step()
        elif key == _NEVER:
            raise EmptySchedule
        else:
            heappop(self._keys)
            self._now = key >> _ID_BITS
            callback, host, what, life = self._dues.pop(key)
            callback(host, what, life)

    def peek(self) -> SimTime:
        """When the next event is due; infinity if there is none."""
        key = self._keys[0]
        return min(super().peek(), Infinity if key == _NEVER else key >> _ID_BITS)
