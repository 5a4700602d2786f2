"""The clock: real time, but for the gaps in which nobody looked."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.udp.clock import HEARTBEAT, STALL, Clock, monotonic
from swimsim.config import LAN
from swimsim.terms import HOUR, MS, SECOND, US


class Source:
    """Time as a test wants it."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize(
    ("gaps", "now", "stalls"),
    {
        "it begins at zero": ((), 0, 0),
        "time passes": ((1 * US, 2 * US), 3 * US, 0),
        "a heartbeat passes": ((HEARTBEAT,), HEARTBEAT, 0),
        "a late heartbeat passes": ((STALL - 1,), STALL - 1, 0),
        "a stall does not": ((STALL,), 0, 1),
        "nor does a long one": ((10 * MS, 8 * HOUR, 10 * MS), 20 * MS, 1),
        "stalls add up": ((3 * SECOND, 10 * MS, 4 * SECOND), 10 * MS, 2),
        "a source that goes back is not followed": ((10 * MS, -5 * SECOND, 1 * MS), 11 * MS, 0),
    }.values(),
)
def test_now(gaps: tuple[int, ...], now: int, stalls: int) -> None:
    source = Source(10**12)
    clock = Clock(source)
    seen = clock.now()
    for gap in gaps:
        source.now += gap
        seen = clock.now()
    assert (seen, clock.stalls) == (now, stalls)
    assert clock.stalled == sum(gap for gap in gaps if gap >= STALL)


@given(st.lists(st.integers(-2 * STALL, 4 * STALL)), st.integers(0, 2**63))
def test_it_never_goes_back_nor_faster_than_its_source(gaps: list[int], start: int) -> None:
    source = Source(start)
    clock = Clock(source)
    times = [clock.now()]
    for gap in gaps:
        source.now += gap
        times.append(clock.now())
    for (before, after), gap in zip(pairwise(times), gaps, strict=True):
        assert 0 <= after - before <= max(gap, 0)
        assert type(after) is int


def test_the_systems_clock_counts_whole_microseconds() -> None:
    assert type(monotonic()) is int
    first = monotonic()
    assert first <= monotonic() < first + SECOND


def test_the_heartbeat_leaves_room_before_a_stall() -> None:
    assert HEARTBEAT < STALL < LAN.probe_interval
