"""User events: told once each, refused where they cannot go (spec serf.md, 1.9, 2.12)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN, Config
from swimsim.effects import Emit, Noted, RequestDone, RequestRefused, Then, UserEventReceived
from swimsim.inputs import FireEvent, Tell
from swimsim.messages import User
from swimsim.serf.lamport import LAST
from swimsim.serf.messages import EventBuffer, EventSlot, PastEvent, SerfState, UserEvent
from swimsim.serf.user_events import UserEvents, buffer, fire, hear, merge
from swimsim.wire import serf

SERF = replace(LAN, serf=True)
SMALL = replace(SERF, event_buffer=4)


def told(ltime: int, name: str = "x", payload: bytes | None = b"p") -> Emit:
    return Emit(UserEventReceived(ltime, name, payload, False))


def after(*times: int, config: Config = SMALL, **fields: Any) -> UserEvents:
    state = UserEvents()
    for time in times:
        state, _, _ = hear(state, UserEvent(time, "x", b"p"), config)
    return replace(state, **fields)


OLD = "serf: received old event x from time 4 (current: 10)"
HEARD: dict[str, tuple[Any, ...]] = {  # state, event: effects, repeated?, clock after
    "news": (after(), UserEvent(5, "x", b"p"), (told(5),), True, 6),
    "the same again": (after(5), UserEvent(5, "x", b"p"), (), False, 6),
    "another payload": (after(5), UserEvent(5, "x", b"q"), (told(5, "x", b"q"),), True, 6),
    "another name": (after(5), UserEvent(5, "y", b"p"), (told(5, "y"),), True, 6),
    "another time": (after(5), UserEvent(6, "x", b"p"), (told(6),), True, 7),
    "no payload": (after(5), UserEvent(5, "x", None), (told(5, "x", None),), True, 6),
    "older, but not too old": (after(9), UserEvent(7, "x", b"p"), (told(7),), True, 10),
    "as old as can be": (after(9), UserEvent(6, "x", b"p"), (told(6),), True, 10),
    "too old": (after(9), UserEvent(4, "x", b"p"), (Emit(Noted("WARN", OLD)),), False, 10),
    "from before a join": (after(least=6), UserEvent(5, "x", b"p"), (), False, 6),
    "from the end of time": (after(), UserEvent(LAST, "x", b"p"), (told(LAST),), True, LAST),
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "event", "effects", "repeat", "clock"), HEARD.values(), ids=HEARD
)
def test_hear(state: UserEvents, event: Any, effects: Any, repeat: bool, clock: int) -> None:
    changed, *rest = hear(state, event, SMALL)
    assert rest == [effects, repeat]
    assert changed.clock == clock


def test_no_payload_and_an_empty_one_are_the_same_event() -> None:
    state, _, _ = hear(UserEvents(), UserEvent(5, "x", None), SERF)
    assert hear(state, UserEvent(5, "x", b""), SERF)[1:] == ((), False)


FIRED: dict[str, tuple[FireEvent, Config, str]] = {  # ask, settings, why it is refused
    "as large as may be": (FireEvent(1, "x", b"p" * 481), SERF, ""),
    "one byte more": (
        FireEvent(1, "x", b"p" * 482), SERF,
        "encoded user event exceeds configured limit of 512 bytes after encoding"),
    "much more": (
        FireEvent(1, "x", b"p" * 512), SERF,
        "user event exceeds configured limit of 512 bytes before encoding"),
    "a name of many bytes": (
        FireEvent(1, "ü" * 257), SERF,
        "user event exceeds configured limit of 512 bytes before encoding"),
    "no packet takes it": (
        FireEvent(1, "x", b"p" * 1365), replace(SERF, user_event_size_limit=9000),
        "encoded user event has 1396 bytes and cannot leave: a packet takes 1395"),
    "a packet takes just that": (
        FireEvent(1, "x", b"p" * 1364), replace(SERF, user_event_size_limit=9000), ""),
    "encryption takes room": (
        FireEvent(1, "x", b"p" * 1364),
        replace(SERF, user_event_size_limit=9000, encrypted=True, label_size=4),
        "encoded user event has 1395 bytes and cannot leave: a packet takes 1360"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "config", "refusal"), FIRED.values(), ids=FIRED)
def test_fire(ask: FireEvent, config: Config, refusal: str) -> None:
    state, effects = fire(UserEvents(clock=9), ask, config)
    if refusal:
        assert (state, effects) == (UserEvents(clock=9), (Emit(RequestRefused(1, refusal)),))
        return
    message = User(serf.encode(UserEvent(9, ask.name, ask.payload, True)))
    assert effects == (
        Emit(UserEventReceived(9, ask.name, ask.payload, True)),
        Then(Tell("events", message)),
        Emit(RequestDone(1)),
    )
    assert state.clock == 10


def test_a_ring_comes_back_as_it_went() -> None:
    here = after(5, 6, 7)
    state = SerfState(1, here.clock, 1, (), (), buffer(here, SMALL))
    there, effects = merge(UserEvents(), state, join=False, config=SMALL)
    assert sorted(e.event.ltime for e in effects) == [5, 6, 7]
    assert there == here
    assert merge(there, state, join=False, config=SMALL) == (there, ())


@pytest.mark.parametrize(("join", "ignoring", "times"), [
    (True, True, []), (True, False, [5]), (False, True, [5]),
])  # fmt: skip
def test_a_join_may_pass_over_what_was_before_it(
    join: bool, ignoring: bool, times: list[int]
) -> None:
    slots = ((1, EventSlot(5, (PastEvent("x", b"p"),))),)
    told_ = SerfState(1, 8, 1, (), (), EventBuffer(4, slots))
    state, effects = merge(UserEvents(ignoring=ignoring), told_, join=join, config=SMALL)
    assert [e.event.ltime for e in effects] == times
    assert state.least == (8 if join and ignoring else 0)


EVENT = st.builds(
    UserEvent, st.integers(1, 12), st.sampled_from("xy"), st.sampled_from([b"p", None])
)


@given(st.lists(EVENT, max_size=40))
def test_whatever_comes_in_whatever_order_nothing_is_told_twice(events: list[UserEvent]) -> None:
    state, heard = UserEvents(), []
    for event in events:
        before = state.clock
        state, effects, repeat = hear(state, event, SMALL)
        assert state.clock >= before
        assert repeat == any(isinstance(e.event, UserEventReceived) for e in effects)
        heard += [e.event for e in effects if isinstance(e.event, UserEventReceived)]
    assert len({(e.ltime, e.name, e.payload) for e in heard}) == len(heard)
