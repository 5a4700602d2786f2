"""User events: what the members' owners tell one another (spec serf.md, 2.12).

An event reaches a node several times: from several who repeat it, and again with every
push/pull. A ring of the last Lamport times remembers which events were told at each, so that
each is told once; what is older than the ring is dropped. Two events are one when name, payload
and time are equal.
"""

from __future__ import annotations

from typing import TypeAlias

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import USER_EVENT_CAP, Config
from swimsim.effects import (
    Effect,
    Emit,
    Noted,
    RequestDone,
    RequestRefused,
    Then,
    UserEventReceived,
)
from swimsim.inputs import FireEvent, Tell
from swimsim.messages import User, most_user_bytes
from swimsim.serf import lamport
from swimsim.serf.messages import EventBuffer, EventSlot, PastEvent, SerfState, UserEvent
from swimsim.terms import LamportTime
from swimsim.wire import serf

MOST_AT_ONCE = 1024  # events of one Lamport time; nobody but a stranger fires so many


class UserEvents(Struct, frozen=True, gc=False):
    """The clock of events, and the ring of those that were told."""

    clock: LamportTime = 1
    least: LamportTime = 0  # events from before are not told
    ring: Map[int, EventSlot] = Map()  # by time modulo its length
    ignoring: bool = False  # a join is going on before which nothing is told


Step: TypeAlias = tuple[UserEvents, tuple[Effect, ...]]
Heard: TypeAlias = tuple[UserEvents, tuple[Effect, ...], bool]


def hear(state: UserEvents, event: UserEvent, config: Config) -> Heard:
    """Tell the owner of an event, unless it was told already; whether it is to be repeated."""
    clock = lamport.witness(state.clock, event.ltime)
    if clock != state.clock:
        state = replace(state, clock=clock)
    if event.ltime < state.least:
        return state, (), False
    length = config.event_buffer
    if clock > length and event.ltime < clock - length:
        times = f"from time {event.ltime} (current: {clock})"
        return (
            state,
            (Emit(Noted("WARN", f"serf: received old event {event.name} {times}")),),
            False,
        )
    place = event.ltime % length
    slot = state.ring.get(place)
    told = PastEvent(event.name, event.payload or None)
    past = slot.events if slot is not None and slot.ltime == event.ltime else ()
    if told in past or len(past) >= MOST_AT_ONCE:
        return state, (), False
    ring = state.ring.set(place, EventSlot(event.ltime, (*past, told)))
    received = UserEventReceived(event.ltime, event.name, event.payload, event.coalesce)
    return replace(state, ring=ring), (Emit(received),), True


def merge(state: UserEvents, told: SerfState, *, join: bool, config: Config) -> Step:
    """Catch up on events with a peer's ring."""
    state = replace(state, clock=lamport.witness_clock(state.clock, told.event_ltime))
    if join and state.ignoring:
        state = replace(state, least=max(state.least, told.event_ltime))
    effects: tuple[Effect, ...] = ()
    for place, slot in told.events.slots if told.events is not None else ():
        if state.ring.get(place) == slot:
            continue
        for past in slot.events:
            event = UserEvent(slot.ltime, past.name, past.payload)
            state, more, _ = hear(state, event, config)
            effects += more
    return state, effects


def buffer(state: UserEvents, config: Config) -> EventBuffer:
    """The ring as a push/pull carries it."""
    return EventBuffer(config.event_buffer, tuple(sorted(state.ring.items(), key=_place)))


def fire(state: UserEvents, ask: FireEvent, config: Config) -> Step:
    """Tell everybody, this node's owner first; refused when it is too long."""
    event = UserEvent(state.clock, ask.name, ask.payload, ask.coalesce)
    message = serf.encode(event)
    reason = _too_long(event, len(message), config)
    if reason:
        return state, (Emit(RequestRefused(ask.request, reason)),)
    state, effects, _ = hear(replace(state, clock=lamport.tick(state.clock)), event, config)
    return state, (*effects, Then(Tell("events", User(message))), Emit(RequestDone(ask.request)))


def _too_long(event: UserEvent, encoded: int, config: Config) -> str:
    """Why an event cannot be sent, or ""; Serf's limits first, then that of a packet."""
    limit = config.user_event_size_limit
    plain = len(event.name.encode("utf-8", "surrogateescape")) + len(event.payload or b"")
    if plain > limit:
        return f"user event exceeds configured limit of {limit} bytes before encoding"
    if plain > USER_EVENT_CAP:
        return f"user event exceeds sane limit of {USER_EVENT_CAP} bytes before encoding"
    if encoded > limit:
        return f"encoded user event exceeds configured limit of {limit} bytes after encoding"
    most = most_user_bytes(config)
    if encoded > most:
        return f"encoded user event has {encoded} bytes and cannot leave: a packet takes {most}"
    return ""


def _place(item: tuple[int, EventSlot]) -> int:
    return item[0]
