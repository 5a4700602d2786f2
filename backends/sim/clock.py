"""Virtual time: one SimPy environment whose events are deliveries and timers.

Time is whole microseconds and events of one instant happen in the order in which they were
scheduled, so a run has exactly one history. What is scheduled is plain data, the fields of
``Due``: it costs less than a SimPy ``Timeout`` with a closure, and is what lets a run be branched.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from operator import itemgetter, length_hint
from typing import Any, NamedTuple, TypeAlias

import simpy
from simpy.core import EmptySchedule, Infinity, SimTime, StopSimulation
from simpy.events import NORMAL

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
LONG = 1_024  # entries of a piece of an open slot
_FIELDS = 5  # of an entry
_RANKS = 2  # bits of a key that say what comes first in an instant
_NORMAL = NORMAL + 1
_NEVER = 1 << 128
_FOREVER: Micros = 1 << 62
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
    the open slot is put where it belongs. An entry's *key* is its time and, within an instant,
    SimPy's priority, of which there are four (-1, urgent, normal, and all that are later). To sort
    does not change the order of equal keys, so the order of events is exactly that of SimPy.

    What is due in minutes would be alone in its slot: it waits with all that is due in the same
    *era*, and is moved to its slot when the era before that begins. An open slot that holds much
    more than was expected is held in pieces, for a long list is slow to insert into.
    """

    def __init__(self, now: Micros = 0, slot: Micros = WIDEST) -> None:
        super().__init__(now)
        self.slot = slot
        self._slots: dict[int, list[Any]] = {}  # by their numbers, those after the open one
        self._numbers: list[int] = []  # the same numbers, as a heap
        self._eras: dict[int, list[Any]] = {}  # by their numbers
        self._far: list[int] = []  # the same numbers, as a heap
        self._per_era = max(1, ERA // slot)  # slots
        self._horizon = 0  # the first slot whose era waits
        self._open = now // slot  # number of the open slot
        self._line: list[Entry] = []  # what is in it, sorted, or the first piece of that
        self._rest: Iterator[Entry] = iter(self._line)  # what of the line has not happened yet
        self._pieces: list[list[Entry]] = []  # what comes after the line, the next one last
        self._on_simpy = self._simpys  # one object
        self._heeds_stops = True  # of SimPy's ``run``
        self._reach(self._open // self._per_era + 1)

    @property
    def micros(self) -> Micros:
        """Now."""
        return self._now  # type: ignore[return-value]

    # --- scheduling ------------------------------------------------------------------------

    def later(self, delay: Micros, callback: Callback, host: Host, what: Any) -> None:
        """Have ``callback`` called with ``host``, ``what`` and the host's life after ``delay``."""
        at: Micros = self._now + delay  # type: ignore[assignment]
        number = at // self.slot
        if number <= self._open:
            self._insert((at << _RANKS | _NORMAL, callback, host, what, host.life))
        elif number >= self._horizon:
            self._put((at << _RANKS | _NORMAL, callback, host, what, host.life))
        else:
            bucket = self._slots.get(number)
            if bucket is None:
                bucket = self._new_slot(number)
            bucket += (at << _RANKS | _NORMAL, callback, host, what, host.life)

    def resume(self, at: Micros, due: Due) -> None:
        """Schedule what another clock would have done at ``at``."""
        self._put((at << _RANKS | _NORMAL, *due))

    def schedule(self, event: simpy.Event, priority: int = NORMAL, delay: SimTime = 0) -> None:
        """SimPy's way to schedule an event."""
        at = _FOREVER if delay == Infinity else int(self._now) + math.ceil(delay)
        rank = min(max(0, priority + 1), (1 << _RANKS) - 1)
        self._put((at << _RANKS | rank, self._on_simpy, None, event, 0))  # type: ignore[arg-type]

    def timeout(self, delay: float = 0, value: Any = None) -> simpy.Timeout:
        """SimPy's timeout, to the whole microsecond, so that no float decides an order."""
        return simpy.Timeout(self, round(delay), value)

    def pending(self) -> list[tuple[Micros, Any]]:
        """What is scheduled and when, in the order in which it will happen.

        The ends of runs, which SimPy leaves behind, are left out.
        """
        waiting = self._line[len(self._line) - length_hint(self._rest) :]
        for piece in reversed(self._pieces):
            waiting += piece
        for buckets in (self._slots, self._eras):
            for number in sorted(buckets):
                waiting += _in_order(buckets[number])
        return [
            (key >> _RANKS, what if callback is self._on_simpy else Due(callback, host, what, life))
            for key, callback, host, what, life in waiting
            if callback is not self._on_simpy or _others_wait_for(what)
        ]

    def _put(self, entry: Entry) -> None:
        """The general way into the calendar, which ``later`` has a short cut for."""
        number = (entry[0] >> _RANKS) // self.slot
        if number <= self._open:
            self._insert(entry)
        elif number < self._horizon:
            bucket = self._slots.get(number)
            if bucket is None:
                bucket = self._new_slot(number)
            bucket += entry
        else:
            era = number // self._per_era
            if era not in self._eras:
                heappush(self._far, era)
                self._eras[era] = []
            self._eras[era] += entry

    def _insert(self, entry: Entry) -> None:
        """Put it where it belongs in what is left of the open slot."""
        key = entry[0]
        if key >> _RANKS < self._now:
            late = (key >> _RANKS) - self._now
            raise ValueError(f"a delay of {late} us: time does not go back")
        if self._pieces and key >= self._pieces[-1][0][0]:
            place = bisect_left(self._pieces, -key, key=lambda piece: -piece[0][0])
            piece, happened = self._pieces[place], 0
        else:
            place = len(self._pieces)
            piece, happened = self._line, len(self._line) - length_hint(self._rest)
            if happened > LONG:  # let go what has happened
                del piece[:happened]
                self._rest.__setstate__(0)  # type: ignore[attr-defined]
                happened = 0
        insort(piece, entry, happened, key=_key)
        if len(piece) - happened > 2 * LONG:
            cuts = range(happened + LONG, len(piece), LONG)
            self._pieces[place:place] = [piece[at : at + LONG] for at in reversed(cuts)]
            del piece[happened + LONG :]

    def _new_slot(self, number: int) -> list[Any]:
        heappush(self._numbers, number)
        bucket = self._slots[number] = []
        return bucket

    def _reach(self, era: int) -> None:
        """Have what waits for the eras up to this one wait in its slots instead."""
        self._horizon = max(self._horizon, (era + 1) * self._per_era)
        while self._far and self._far[0] <= era:
            for entry in _entries(self._eras.pop(heappop(self._far))):
                self._put(entry)

    # --- running ---------------------------------------------------------------------------

    def run_to(self, at: Micros) -> None:
        """Let everything happen that is due before ``at``, and make it ``at``.

        What SimPy's ``run(until=at)`` does, without a call for each event. The end of a run of
        SimPy's that an error had ended before does not end this one.
        """
        last, end, heeded = at // self.slot, at << _RANKS, self._heeds_stops
        self._heeds_stops = False
        try:
            while self._open < last:
                rest = self._rest
                for key, callback, host, what, life in rest:
                    self._now = key >> _RANKS
                    callback(host, what, life)
                if rest is self._rest:  # else somebody in there has let time go on
                    self._turn(last)
            while self._next(last) < end:
                self.step()
        finally:
            self._heeds_stops = heeded
        self._now = max(self._now, at)

    def run(self, until: SimTime | simpy.Event | None = None) -> Any:
        """SimPy's own way to run; see its documentation."""
        heeded, self._heeds_stops = self._heeds_stops, True
        try:
            return super().run(until)
        finally:
            self._heeds_stops = heeded

    def step(self) -> None:
        """Let the next event happen, as SimPy's ``run`` asks; raises ``EmptySchedule``."""
        while True:
            for key, callback, host, what, life in self._rest:
                self._now = key >> _RANKS
                callback(host, what, life)
                return
            if not self._turn():
                raise EmptySchedule

    def peek(self) -> SimTime:
        """When the next event is due; infinity if there is none."""
        key = self._next()
        return Infinity if key == _NEVER else key >> _RANKS

    def _turn(self, last: int | None = None) -> bool:
        """Go on with the next piece of the open slot, or open the next slot.

        That is one that may hold something, at the latest ``last``; False if there is none. The
        line is a new one each time: an iterator that has come to the end of one stays there.
        """
        number = last
        if self._numbers:
            number = self._numbers[0] if last is None else min(self._numbers[0], last)
        elif self._far:
            begin = self._far[0] * self._per_era
            number = begin if last is None else min(begin, last)
        self._line = []
        if self._pieces:
            self._line = self._pieces.pop()
        elif number is not None:
            self._reach(number // self._per_era + 1)
            if number in self._slots:
                self._line = _in_order(self._slots.pop(heappop(self._numbers)))
            self._open = number
        self._rest = iter(self._line)
        return bool(self._line) or number is not None

    def _next(self, last: int | None = None) -> int:
        """The key of the next event; slots after ``last`` need not be looked at."""
        if left := length_hint(self._rest):
            return self._line[-left][0]
        if self._pieces:
            return self._pieces[-1][0][0]
        if last is not None and last <= self._open:
            return _NEVER
        if self._numbers:
            return int(min(self._slots[self._numbers[0]][::_FIELDS]))
        if self._far:
            return int(min(self._eras[self._far[0]][::_FIELDS]))
        return _NEVER

    def _simpys(self, nobody: Host, event: simpy.Event, life: int) -> None:
        """What SimPy does with an event whose turn it is."""
        if not self._heeds_stops and event.callbacks and event.ok:
            event.callbacks = [each for each in event.callbacks if each != StopSimulation.callback]
        self._queue.append((self._now, NORMAL, 0, event))
        super().step()


def _entries(bucket: list[Any]) -> Iterator[Entry]:
    field = iter(bucket)
    return zip(field, field, field, field, field, strict=True)


def _in_order(bucket: list[Any]) -> list[Entry]:
    return sorted(_entries(bucket), key=_key)


def _others_wait_for(event: simpy.Event) -> bool:
    """Whether more depends on it than the end of a run."""
    return any(each != StopSimulation.callback for each in event.callbacks or ())
