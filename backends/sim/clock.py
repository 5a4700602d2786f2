"""Virtual time: one SimPy environment whose events are deliveries and timers.

Time is whole microseconds and events of one instant happen in the order in which they were
scheduled, so a run has exactly one history. What is scheduled is a ``Due``: SimPy asks of an
event no more than its callbacks and whether it is sound, and a struct that has just those
costs a fifth of a SimPy ``Timeout`` with a closure. It is also plain data, which is what lets
a run be branched.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, ClassVar, TypeAlias

import simpy
from msgspec import Struct
from simpy.core import StopSimulation
from simpy.events import NORMAL, URGENT

from backends.sim.host import Host
from swimsim.terms import Micros


class Due(Struct):
    """``what`` is to happen to ``host`` at the time it was scheduled for.

    Known to the cycle collector, unlike the protocol's values: it leads from the clock back to
    the cluster, and a cluster must be collectable.
    """

    callbacks: Callbacks | None  # SimPy takes them away when it is time
    host: Host
    what: Any
    life: int  # of the host when this was scheduled; a later life is not concerned

    _ok: ClassVar[bool] = True  # SimPy: the event has not failed


Callbacks: TypeAlias = tuple[Callable[[Due], None], ...]


SLOT: Micros = 8_192  # width of a bucket
NARROW: Micros = 1_024  # the same where there is so much to do that a heap of 8 ms is a large one
ERA = 1_024  # slots; what is due in a later one waits in one bucket for all of it
FIRST = -1  # priority, before SimPy's urgent events of the same instant
CROWDED = 1_024  # events in SimPy's heap from which on it is spared


class Bucket(Struct):
    """What is due in one slot of time, or in one era, in the order in which it was scheduled.

    An entry takes 8 bytes of ``keys`` (its place in the slot above the number that SimPy would
    have given it) and four of ``parts``, which make its ``Due`` when the slot begins. Both lie in
    one piece, whereas an entry of SimPy's heap is five objects scattered over the memory.
    """

    keys: array[int]
    parts: list[Any]  # callbacks, host, what and life of one entry after the other

    def entries(self, begin: Micros) -> list[tuple[Micros, int, int, Due]]:
        """What SimPy's heap is to hold, if the slot or the era begins at ``begin``."""
        part = iter(self.parts)
        return [
            (begin + (key >> _ID_BITS), NORMAL, key & _ID_MASK, Due(callbacks, host, what, life))
            for key, callbacks, host, what, life in zip(
                self.keys, part, part, part, part, strict=True
            )
        ]


_ID_BITS = 40  # of the number of an event: more of them than a run can have
_ID_MASK = (1 << _ID_BITS) - 1


class Clock(simpy.Environment):
    """SimPy's environment, with a cheaper way to schedule. Processes of others run on it too.

    A heap of many entries is slow: each step down it misses the processor's caches. So when
    there are many, what is not due for a while waits in buckets, and enters the heap, under
    the number it was given when it was scheduled, as its bucket's time begins. The order of
    events is exactly that of the heap alone. What is due in minutes would be alone in its
    slot's bucket: it waits in that of its era, and is moved when the era begins.
    """

    def __init__(self, now: Micros = 0, slot: Micros = SLOT) -> None:
        super().__init__(now)
        self.slot = slot
        self._era: Micros = slot * ERA
        self._slots: dict[Micros, Bucket] = {}  # by when they begin
        self._eras: dict[Micros, Bucket] = {}
        self._begins: list[Micros] = []  # of both, as a heap

    @property
    def micros(self) -> Micros:
        """Now."""
        return self._now  # type: ignore[return-value]

    def later(self, delay: Micros, callbacks: Callbacks, host: Host, what: Any) -> None:
        """Have ``callbacks`` called with a ``Due`` of ``host`` and ``what`` after ``delay``."""
        if delay < 0:
            raise ValueError(f"a delay of {delay} us: time does not go back")
        slot, queue = self.slot, self._queue
        at: Micros = self._now + delay  # type: ignore[assignment]
        if delay <= slot or (len(queue) < CROWDED and not self._begins):
            due = Due(callbacks, host, what, host.life)
            heappush(queue, (at, NORMAL, next(self._eid), due))  # type: ignore[misc]
            return
        if delay <= self._era:
            place, buckets = at % slot, self._slots
        else:
            place, buckets = at % self._era, self._eras
        bucket = buckets.get(at - place) or self._new_bucket(buckets, at - place)
        bucket.keys.append(place << _ID_BITS | next(self._eid))
        bucket.parts += (callbacks, host, what, host.life)

    def timeout(self, delay: float = 0, value: Any = None) -> simpy.Timeout:
        """SimPy's timeout, to the whole microsecond, so that no float decides an order."""
        return simpy.Timeout(self, round(delay), value)

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
        queue: list[tuple[Any, ...]] = self._queue
        if era := self._eras.pop(begin, None):
            for entry in era.entries(begin):
                at, _, event_id, due = entry
                place = at % self.slot
                if at - place == begin:
                    heappush(queue, entry)
                    continue
                slots = self._slots
                bucket = slots.get(at - place) or self._new_bucket(slots, at - place)
                bucket.keys.append(place << _ID_BITS | event_id)
                bucket.parts += (due.callbacks, due.host, due.what, due.life)
        if slot := self._slots.pop(begin, None):
            for entry in slot.entries(begin):
                heappush(queue, entry)
        if self._begins:
            self._open_at(self._begins[0])

    def run_to(self, at: Micros) -> None:
        """Let everything happen that is due before ``at``, and make it ``at``.

        What SimPy's ``run(until=at)`` does, without a call for each event.
        """
        end = simpy.Event(self)
        end._ok, end._value, end.callbacks = True, None, []
        queue: list[tuple[Any, ...]] = self._queue
        heappush(queue, (at, FIRST, next(self._eid), end))
        while True:
            self._now, _, _, event = heappop(queue)
            if type(event) is Due:
                event.callbacks[0](event)  # type: ignore[index]
                continue
            if event is end:
                return
            callbacks, event.callbacks = event.callbacks, None
            if StopSimulation.callback in callbacks:  # of a run of SimPy's that an error ended
                continue
            for callback in callbacks:
                callback(event)
            if not event._ok and not hasattr(event, "_defused"):
                raise event._value

    def pending(self) -> list[tuple[Micros, Any]]:
        """What is scheduled and when, in the order in which it will happen.

        The ends of runs, which SimPy leaves behind, are left out.
        """
        buckets = [*self._slots.items(), *self._eras.items()]
        waiting = [entry for begin, bucket in buckets for entry in bucket.entries(begin)]
        queue: list[tuple[Any, ...]] = [*self._queue, *waiting]
        return [
            (at, event)
            for at, _, _, event in sorted(queue, key=lambda entry: entry[:3])
            if event.callbacks and event.callbacks[0] not in (self._open, StopSimulation.callback)
        ]
