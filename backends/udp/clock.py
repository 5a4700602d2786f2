"""Real time, in whole microseconds, that hides the times in which the process stood still.

A process that was stopped, or a machine that slept, wakes to find every timer overdue: each
probe in flight has failed, each suspicion has run out, and a healthy node would accuse half the
cluster of its own absence. So time does not pass while nobody looks at the clock for long. The
runtime looks at least every ``HEARTBEAT``; a gap of ``STALL`` or more is taken out as a whole, and
the node goes on where it stopped: nothing is due that was not due before, so that it first hears
what has arrived meanwhile. What the others think of it by then, it refutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from swimsim.terms import MS, Micros

HEARTBEAT: Micros = 250 * MS
STALL: Micros = 2 * HEARTBEAT


def monotonic() -> Micros:
    """The system's monotonic clock."""
    return time.monotonic_ns() // 1000


class Clock:
    """Microseconds since it was made, without the gaps."""

    def __init__(self, source: Callable[[], Micros] = monotonic) -> None:
        self._source = source
        self._last = source()
        self._hidden = self._last
        self.stalls = 0
        self.stalled: Micros = 0  # time taken out so far

    def now(self) -> Micros:
        """Now; never less than before."""
        raw = self._source()
        gap = raw - self._last
        self._last = raw
        if gap >= STALL:
            self.stalled += gap
            self.stalls += 1
        if not 0 <= gap < STALL:
            self._hidden += gap
        return raw - self._hidden
