"""Virtual time: one SimPy environment whose events are deliveries and timers.

Time is whole microseconds and events of one instant happen in the order in which they were
scheduled, so a run has exactly one history. What is scheduled is plain data, the fields of
``Due``: it costs less than a SimPy ``Timeout`` with a closure, and is what lets a run be branched.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from operator import itemgetter, length_hint
from typing import Any, NamedTuple, TypeAlias

import simpy
from simpy.core import EmptySchedule, Infinity, SimTime, StopSimulation
from simpy.events import NORMAL, URGENT

from backends.sim.host import Host
from swimsim.terms import SECOND, Micros

Callback: TypeAlias = Callable[[Host, Any, int], None]
"""Called with a host, with what is to happen to it, and with the life for which that was meant."""

Entry: TypeAlias = tuple[int, Callback, Host, Any, int]
"""Something in the calendar: its key, then the fields of ``Due``."""


class Due(NamedTuple):
    """An event that was scheduled with ``later``, as ``pending`` tells of it."""

    callback: Callback
    host: Host
    what: Any
    life: int  # of the host when this was scheduled; a later life is not concerned


ERA: Micros = 2 * SECOND
WIDEST: Micros = 16_384  # slot
IN_A_SLOT = 40  # events; many for each slot, yet a list that is sorted in no time
EACH_SECOND = 4  # events of a node at rest: a tick, its timeout, a ping, an ack
_FIELDS = 5  # of an entry
_NEVER = 1 << 128
_key = itemgetter(0)


def slot_for(nodes: int) -> Micros:
    """The width of a slot that so many nodes at rest fill with some events."""
    return max(1, min(WIDEST, IN_A_SLOT * SECOND // (EACH_SECOND * nodes)))


class Clock(simpy.Environment):
    """SimPy's environment, with a cheaper way to schedule. Processes of others run on it too.

    All that is scheduled, SimPy's own events too, stands in a calendar. Time is cut into *slots*.
    What is due in a slot waits in one flat list, the fields of one entry after those of the other,
    in the order in which it was scheduled. When its turn comes, the slot is *opened*: its
    entries are sorted by their keys, and happen one after the other. What is still scheduled for
    the open slot is put where it belongs. An entry's *key* is its time, doubled, and one more for
    what is not urgent in SimPy's sense. To sort does not change the order of equal keys, so the
    order of events is exactly that of SimPy.

    What is due in minutes would be alone in its slot: it waits with all that is due in the same
    *era*, and is moved to its slot when the era before that begins.
    """

    def __init__(self, now: Micros = 0, slot: Micros = WIDEST) -> None:
        super().__init__(now)
        self.slot = slot
        self._slots: dict[int, list[Any]] = {}  # by their numbers, those after the open one
        self._numbers: list[int] = []  # the same numbers, as a heap
        self._eras: dict[int, list[Any]] = {}  # by their numbers
        self._per_era = max(1, ERA // slot)  # slots
        self._horizon = 0  # the first slot whose era waits
        self._open = now // slot  # number of the open slot; never later than now
        self._line: list[Entry] = []  # what is in it, sorted
        self._rest: Iterator[Entry] = iter(self._line)  # what of that has not happened yet
        self._reach(self._open // self._per_era + 1)
        self._on_simpy = self._simpys  # one object

    @property
    def micros(self) -> Micros:
        """Now."""
        return self._now  # type: ignore[return-value]

    # --- scheduling ------------------------------------------------------------------------

    def later(self, delay: Micros, callback: Callback, host: Host, what: Any) -> None:
        """Have ``callback`` called with ``host``, ``what`` and the host's life after ``delay``."""
        at: Micros = self._now + delay  # type: ignore[assignment]
        number = at // self.slot
        if number <= self._open or number >= self._horizon:
            self._put((at << 1 | NORMAL, callback, host, what, host.life))
            return
        bucket = self._slots.get(number)
        if bucket is None:
            bucket = self._new_slot(number)
        bucket += (at << 1 | NORMAL, callback, host, what, host.life)

    def resume(self, at: Micros, due: Due) -> None:
        """Schedule what another clock would have done at ``at``."""
        self._put((at << 1 | NORMAL, *due))

    def schedule(self, event: simpy.Event, priority: int = NORMAL, delay: SimTime = 0) -> None:
        """SimPy's way to schedule an event; of priorities there are two, urgent and normal."""
        at = self._now + math.ceil(delay)
        key = int(at) << 1 | (priority > URGENT)
        self._put((key, self._on_simpy, None, event, 0))  # type: ignore[arg-type]

    def timeout(self, delay: float = 0, value: Any = None) -> simpy.Timeout:
        """SimPy's timeout, to the whole microsecond, so that no float decides an order."""
        return simpy.Timeout(self, round(delay), value)

    def pending(self) -> list[tuple[Micros, Any]]:
        """What is scheduled and when, in the order in which it will happen.

        The ends of runs, which SimPy leaves behind, are left out.
        """
        waiting = self._line[len(self._line) - length_hint(self._rest) :]
        for number in sorted(self._slots):
            waiting += _in_order(self._slots[number])
        for number in sorted(self._eras):
            waiting += _in_order(self._eras[number])
        return [
            (key >> 1, what if callback is self._on_simpy else Due(callback, host, what, life))
            for key, callback, host, what, life in waiting
            if callback is not self._on_simpy or not _ends_a_run(what)
        ]

    def _put(self, entry: Entry) -> None:
        """The general way into the calendar, which ``later`` has a short cut for."""
        at = entry[0] >> 1
        if at < self._now:
            raise ValueError(f"a delay of {at - self._now} us: time does not go back")
        number = at // self.slot
        if number <= self._open:  # the open one, as time does not go back
            happened = len(self._line) - length_hint(self._rest)
            insort(self._line, entry, happened, key=_key)
        elif number >= self._horizon:
            self._eras.setdefault(number // self._per_era, []).extend(entry)
        else:
            bucket = self._slots.get(number)
            if bucket is None:
                bucket = self._new_slot(number)
            bucket += entry

    def _new_slot(self, number: int) -> list[Any]:
        heappush(self._numbers, number)
        bucket = self._slots[number] = []
        return bucket

    def _reach(self, era: int) -> None:
        """Have what waits for the eras up to this one wait in its slots instead."""
        horizon = (era + 1) * self._per_era
        if horizon <= self._horizon:
            return
        self._horizon = horizon
        for number in sorted(number for number in self._eras if number <= era):
            for entry in _entries(self._eras.pop(number)):
                self._put(entry)

    # --- running ---------------------------------------------------------------------------

    def run_to(self, at: Micros) -> None:
        """Let everything happen that is due before ``at``, and make it ``at``.

        What SimPy's ``run(until=at)`` does, without a call for each event.
        """
        last, end = at // self.slot, at << 1
        while True:
            try:
                while self._open < last:
                    for key, callback, host, what, life in self._rest:
                        self._now = key >> 1
                        callback(host, what, life)
                    self._turn(last)
                while self._next() < end:
                    self.step()
                break
            except StopSimulation:  # the end of a run of SimPy's that an error had ended before
                continue
        self._now = at

    def step(self) -> None:
        """Let the next event happen, as SimPy's ``run`` asks; raises ``EmptySchedule``."""
        while True:
            for key, callback, host, what, life in self._rest:
                self._now = key >> 1
                callback(host, what, life)
                return
            if not self._turn():
                raise EmptySchedule

    def peek(self) -> SimTime:
        """When the next event is due; infinity if there is none."""
        key = self._next()
        return Infinity if key == _NEVER else key >> 1

    def _turn(self, last: int | None = None) -> bool:
        """Open the next slot that may hold something, at the latest ``last``; False without any.

        The line is a new one each time: an iterator that has come to the end of one stays there.
        """
        number = last
        if self._numbers:
            number = self._numbers[0]
        elif self._eras:
            number = min(self._eras) * self._per_era
        bucket: list[Any] = []
        if number is not None:
            if last is not None:
                number = min(number, last)
            self._reach(number // self._per_era + 1)
            if number in self._slots:
                bucket = self._slots.pop(heappop(self._numbers))
            self._open = number
        self._line = _in_order(bucket)
        self._rest = iter(self._line)
        return number is not None

    def _next(self) -> int:
        """The key of the next event."""
        left = length_hint(self._rest)
        if left:
            return self._line[-left][0]
        if self._numbers:
            return int(min(self._slots[self._numbers[0]][::_FIELDS]))
        if self._eras:
            return int(min(self._eras[min(self._eras)][::_FIELDS]))
        return _NEVER

    def _simpys(self, nobody: Host, event: simpy.Event, life: int) -> None:
        """What SimPy does with an event whose turn it is."""
        self._queue.append((self._now, NORMAL, 0, event))
        super().step()


def _entries(bucket: list[Any]) -> Iterator[Entry]:
    field = iter(bucket)
    return zip(field, field, field, field, field, strict=True)


def _in_order(bucket: list[Any]) -> list[Entry]:
    return sorted(_entries(bucket), key=_key)


def _ends_a_run(event: simpy.Event) -> bool:
    return not event.callbacks or event.callbacks[0] == StopSimulation.callback
