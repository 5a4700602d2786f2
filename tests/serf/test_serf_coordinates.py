"""Vivaldi as Serf reckons it, bit for bit (spec serf.md, 2.17)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.effects import Counted, Emit, Noted
from swimsim.serf.coordinates import (
    LEAST_HEIGHT,
    MOST_ERROR,
    ORIGIN,
    Coordinates,
    distance,
    forget,
    observe,
)
from swimsim.serf.messages import Coordinate
from swimsim.terms import MS, SECOND
from swimsim.wire import serf
from tests.builders import B, C

REST = (0.0,) * 6
START = Coordinate((0.001, 0.002, *REST), 1.0, 0.0, 0.0005)
OTHER = Coordinate((-0.003, 0.005, *REST), 0.5, 0.00005, 0.0002)
STEPS = [  # rtt in ms; Vec[0], Vec[1], Error, Adjustment, Height, distance in ns afterwards
    (20, 0.0028999994044987612, 0.00057499975548972891, 0.95208334166666675, 0.00028981249525,
     0.00083249981159432798, 8747311),
    (4, 0.0043756014125988282, -0.00053170293354532752, 0.88824613075272596,
     0.00052705662734077604, 0.0010907300189058027, 11087289),
    (90, 0.0055161286038533748, -0.0013870998947511182, 0.81744688142028665,
     0.00072366942863807851, 0.0012903220863930813, 12909154),
    (10, 0.0051551131808857641, -0.0011163393811411538, 0.73577157376146718,
     0.00068314340206058132, 0.0012271442590241952, 12354181),
]  # fmt: skip


def test_the_check_vector_is_met_bit_for_bit() -> None:
    state = Coordinates(1, mine=START)
    assert round(distance(START, OTHER) * 1e9) == 5_749_999
    for rtt, x, y, error, adjustment, height, nanoseconds in STEPS:
        state, effects = observe(state, B, rtt * MS, serf.encode_coordinate(OTHER))
        assert effects == ()
        assert state.mine == Coordinate((x, y, *REST), error, adjustment, height)
        assert round(distance(state.mine, OTHER) * 1e9) == nanoseconds
    assert dict(state.cache) == {B: OTHER}


PAYLOADS = {
    "nothing": (b"", ()),
    "another version": (b"\x02\x80", (Emit(Noted("ERR", "serf: Unsupported ping version: 2")),)),
    "a wrong length": (
        serf.encode_coordinate(replace(OTHER, vec=(0.0,))),
        (Emit(Counted("serf.coordinate.rejected")),),
    ),
    "no number": (
        serf.encode_coordinate(replace(OTHER, height=math.nan)),
        (Emit(Counted("serf.coordinate.rejected")),),
    ),
}


@pytest.mark.parametrize(("payload", "effects"), PAYLOADS.values(), ids=PAYLOADS)
def test_what_cannot_be_reckoned_with_moves_nobody(payload: bytes, effects: object) -> None:
    state = Coordinates(1)
    assert observe(state, B, MS, payload) == (state, effects)


@pytest.mark.parametrize("rtt", [-1, 10 * SECOND + 1])
def test_a_time_that_cannot_be_moves_nobody(rtt: int) -> None:
    state = Coordinates(1)
    rejected = (Emit(Counted("serf.coordinate.rejected")),)
    assert observe(state, B, rtt, serf.encode_coordinate(OTHER)) == (state, rejected)


def test_no_time_at_all_is_counted_and_taken() -> None:
    state, effects = observe(Coordinates(1), B, 0, serf.encode_coordinate(OTHER))
    assert effects == (Emit(Counted("serf.coordinate.zero-rtt")),)
    assert state.mine != ORIGIN


def test_who_is_forgotten_leaves_nothing() -> None:
    state = Coordinates(1)
    for node in (B, C):
        state, _ = observe(state, node, MS, serf.encode_coordinate(OTHER))
    state = forget(state, B)
    assert set(state.cache) == set(state.samples) == {C}
    assert forget(state, B) == state


NUMBER = st.floats(width=64, allow_nan=True, allow_infinity=True)


@given(
    st.lists(
        st.tuples(st.integers(0, 10 * SECOND), st.tuples(*[NUMBER] * 8), NUMBER, NUMBER, NUMBER),
        max_size=12,
    )
)
def test_no_stranger_can_send_a_node_out_of_this_world(
    heard: list[tuple[int, tuple[float, ...], float, float, float]],
) -> None:
    state = Coordinates(1)
    for rtt, *fields in heard:
        state, _ = observe(state, B, rtt, serf.encode_coordinate(Coordinate(*fields)))
        mine = state.mine
        assert all(map(math.isfinite, (*mine.vec, mine.error, mine.adjustment, mine.height)))
        assert mine.error <= MOST_ERROR
        assert mine.height >= LEAST_HEIGHT


def test_a_few_nodes_find_their_places() -> None:
    """Four nodes on a line of 10 ms hops learn their distances to within a tenth."""
    names = [chr(ord("A") + place) for place in range(4)]
    states = {name: Coordinates(place + 1) for place, name in enumerate(names)}
    for round_ in range(600):
        one, other = round_ % 4, (round_ * 7 + round_ // 4) % 4
        if one != other:
            rtt = abs(one - other) * 10 * MS
            payload = serf.encode_coordinate(states[names[other]].mine)
            states[names[one]], _ = observe(states[names[one]], names[other], rtt, payload)
    for one in range(4):
        for other in range(one):
            told = distance(states[names[one]].mine, states[names[other]].mine)
            assert told == pytest.approx((one - other) * 0.010, rel=0.1)
