"""Virtual time: one SimPy environment whose events are deliveries and timers.

Time is whole microseconds and events of one instant happen in the order in which they were
scheduled, so a run has exactly one history. What is scheduled is a ``Due``: SimPy asks of an
event no more than its callbacks and whether it is sound, and a struct that has just those
costs a fifth of a SimPy ``Timeout`` with a closure. It is also plain data, which is what lets
a run be branched.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
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
CROWDED = 2_048  # entries from which on SimPy's heap is spared


class Clock(simpy.Environment):
    """SimPy's environment, with a cheaper way to schedule. Processes of others run on it too.

    A heap of many entries is slow: each step down it misses the processor's caches. So when
    there are many, what is not due for a while waits in buckets, and enters the heap, under
    the number it was given when it was scheduled, as its bucket's time begins. The order of
    events is exactly that of the heap alone.
    """

    def __init__(self, now: Micros = 0) -> None:
        super().__init__(now)
        self._buckets: dict[int, list[tuple[Micros, int, int, Due]]] = {}

    @property
    def micros(self) -> Micros:
        """Now."""
        return self._now  # type: ignore[return-value]

    def later(self, delay: Micros, callbacks: Callbacks, host: Host, what: Any) -> None:
        """Have ``callbacks`` called with a ``Due`` of ``host`` and ``what`` after ``delay``."""
        if delay < 0:
            raise ValueError(f"a delay of {delay} us: time does not go back")
        at: Micros = self._now + delay  # type: ignore[assignment]
        entry = (at, NORMAL, next(self._eid), Due(callbacks, host, what, host.life))
        if delay <= SLOT or len(self._queue) < CROWDED:
            heappush(self._queue, entry)  # type: ignore[misc]
            return
        number = at // SLOT
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [entry]
            opening = simpy.Event(self)
            opening._ok, opening._value = True, None
            opening.callbacks = [self._open]
            self.schedule(opening, URGENT, number * SLOT - self._now)
        else:
            bucket.append(entry)

    def timeout(self, delay: float = 0, value: Any = None) -> simpy.Timeout:
        """SimPy's timeout, to the whole microsecond, so that no float decides an order."""
        return simpy.Timeout(self, round(delay), value)

    def _open(self, opening: simpy.Event) -> None:
        for entry in self._buckets.pop(self.micros // SLOT):
            heappush(self._queue, entry)  # type: ignore[misc]

    def pending(self) -> list[tuple[Micros, Any]]:
        """What is scheduled and when, in the order in which it will happen.

        The ends of runs, which SimPy leaves behind, are left out.
        """
        waiting = [entry for bucket in self._buckets.values() for entry in bucket]
        queue: list[tuple[Any, ...]] = [*self._queue, *waiting]
        return [
            (at, event)
            for at, _, _, event in sorted(queue, key=lambda entry: entry[:3])
            if event.callbacks and event.callbacks[0] not in (self._open, StopSimulation.callback)
        ]
