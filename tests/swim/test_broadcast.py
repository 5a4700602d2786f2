"""The transmit-limited queue and the gossip tick: SWIM 4.1, spec memberlist.md 6.15 and 6.17."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import LAN, LOCAL, SWIM_2002, WAN, Config
from swimsim.effects import After, Effect, Send, Then
from swimsim.inputs import Announce, Announced, GossipTick
from swimsim.member import DEAD, LEFT, SUSPECT, Member
from swimsim.members import Members
from swimsim.messages import Ack, Alive, Dead, Ping, Suspect, packet_size, size
from swimsim.swim.broadcast import (
    Broadcast,
    Broadcasts,
    announce,
    gossip,
    retransmit_limit,
    room_beside,
    take,
)
from swimsim.terms import MS, SECOND, Micros, NodeId
from tests.builders import VSN_4, A, B, C, D, E, at, group, of_type, queue, record, table, who

Rumour: TypeAlias = Alive | Suspect | Dead


def sent(
    message: Rumour,
    transmits: int = 0,
    *,
    arrival: int = 1,
    notify: bool = False,
    length: int | None = None,
) -> Broadcast:
    """A broadcast about whoever ``message`` is about, sent ``transmits`` times so far."""
    about = message.peer.name if isinstance(message, Alive) else message.node
    length = size(message) if length is None else length
    return Broadcast(transmits, -length, -arrival, about, message, notify)


def rumour(name: str, length: int) -> Suspect:
    """News of ``name`` that takes ``length`` bytes."""
    pad = length - size(Suspect(1, NodeId(name), NodeId("")))
    if pad > 33:
        said = Suspect(1, NodeId(name), NodeId("-" * (pad - 2)))  # a longer form of raw
    else:
        said = Suspect(1 << max(0, pad - 31) * 7, NodeId(name), NodeId("-" * min(pad, 31)))
    assert size(said) == length
    return said


# --- how often a broadcast is sent ------------------------------------------------------

LIMITS: dict[str, tuple[Config, int, int]] = {  # settings, N, transmissions
    "nobody known yet": (LAN, 0, 1),
    "alone": (LAN, 1, 4),
    "nine": (LAN, 9, 4),
    "ten": (LAN, 10, 8),
    "ninety-nine": (LAN, 99, 8),
    "a hundred": (LAN, 100, 12),
    "999": (LAN, 999, 12),
    "1000": (LAN, 1000, 16),
    "9999": (LAN, 9999, 16),
    "10,000": (LAN, 10_000, 20),
    "100,000": (LAN, 100_000, 24),
    "one machine": (LOCAL, 5, 2),
    "wide area": (WAN, 50, 8),
    "at least once": (replace(LAN, retransmit_mult=0), 1000, 1),
    # SWIM 5: lambda log n with the natural logarithm, 3 ceil(ln(n + 1))
    "the prototype, two": (SWIM_2002, 2, 6),
    "the prototype, 19": (SWIM_2002, 19, 9),
    "the prototype, 20": (SWIM_2002, 20, 12),
    "the prototype, 54": (SWIM_2002, 54, 15),
}


@pytest.mark.parametrize(("config", "n", "limit"), LIMITS.values(), ids=LIMITS)
def test_retransmit_limit(config: Config, n: int, limit: int) -> None:
    assert retransmit_limit(n, config) == limit


# --- the queue: what comes next ---------------------------------------------------------

NEWS = {name: Suspect(1, NodeId(name), A) for name in ("aaa", "bbb", "ccc", "ddd")}
LENGTHS = {"aaa": 10, "bbb": 20, "ccc": 20, "ddd": 5}


def worked(**transmits: int) -> Broadcasts:
    """The queue of the specification's example, after so many transmissions of each."""
    return queue(
        *(
            sent(NEWS[name], transmits[name], arrival=arrival, length=LENGTHS[name])
            for arrival, name in enumerate(NEWS, 1)
            if name in transmits
        )
    )


def said(*names: str) -> tuple[Suspect, ...]:
    return tuple(NEWS[name] for name in names)


WORKED = {  # spec memberlist.md 6.17: before, room, taken, after
    "the newest of the longest, then what fits": (
        worked(aaa=0, bbb=0, ccc=0, ddd=0),
        40,
        ("ccc", "aaa"),
        worked(aaa=1, bbb=0, ccc=1, ddd=0),
    ),
    "the least sent first": (
        worked(aaa=1, bbb=0, ccc=1, ddd=0),
        40,
        ("bbb", "ddd"),
        worked(aaa=1, bbb=1, ccc=1, ddd=1),
    ),
    "all of them": (
        worked(aaa=1, bbb=1, ccc=1, ddd=1),
        100,
        ("ccc", "bbb", "aaa", "ddd"),
        worked(aaa=2, bbb=2, ccc=2, ddd=2),
    ),
    "none twice in a packet": (
        worked(aaa=0),
        1000,
        ("aaa",),
        worked(aaa=1),
    ),
    "a message as long as the room fits": (
        worked(bbb=0, ddd=0),
        22,
        ("bbb",),
        worked(bbb=1, ddd=0),
    ),
    "one byte less and a shorter one goes": (
        worked(bbb=0, ddd=0),
        21,
        ("ddd",),
        worked(bbb=0, ddd=1),
    ),
    "two that fill the room": (
        worked(bbb=0, ddd=0),
        29,
        ("bbb", "ddd"),
        worked(bbb=1, ddd=1),
    ),
    "room for the overhead alone is none": (worked(ddd=0), 2, (), worked(ddd=0)),
    "one byte too short": (worked(ddd=0), 6, (), worked(ddd=0)),
    "no room": (worked(ddd=0), 0, (), worked(ddd=0)),
    "less than no room": (worked(ddd=0), -40, (), worked(ddd=0)),
    "nothing to say": (Broadcasts(0), 1400, (), Broadcasts(0)),
    "what does not fit makes way for what was sent more often": (
        worked(bbb=0, aaa=1, ddd=2),
        20,
        ("aaa", "ddd"),
        worked(bbb=0, aaa=2, ddd=3),
    ),
    "a later tier does not open an earlier one again": (
        worked(bbb=0, aaa=1, ddd=1),
        23,
        ("bbb",),
        worked(bbb=1, aaa=1, ddd=1),
    ),
    "the last transmission ends it": (
        worked(aaa=3, ddd=2),
        1000,
        ("ddd", "aaa"),
        worked(ddd=3),
    ),
}


@pytest.mark.parametrize(("before", "room", "taken", "after"), WORKED.values(), ids=WORKED)
def test_take(before: Broadcasts, room: int, taken: tuple[str, ...], after: Broadcasts) -> None:
    assert take(before, room, 9, LAN) == (after, said(*taken), ())


def test_the_end_is_told_to_whom_it_matters() -> None:
    farewell, update, other = Dead(1, A, A), Alive(2, who(B)), Suspect(1, C, A)
    before = queue(
        sent(farewell, 3, arrival=1, notify=True),
        sent(update, 3, arrival=2, notify=True),
        sent(other, 3, arrival=3),
    )
    assert take(before, 1000, 9, LAN) == (
        queue(),
        (update, other, farewell),
        (Then(Announced(update)), Then(Announced(farewell))),
    )


def test_a_growing_group_prolongs_what_is_under_way() -> None:
    """N is read when sending (6.17)."""
    last = queue(sent(NEWS["aaa"], 3))
    assert take(last, 1000, 9, LAN)[0] == queue()
    assert take(last, 1000, 10, LAN)[0] == queue(sent(NEWS["aaa"], 4))


def plain_take(
    items: list[Broadcast], room: int, limit: int
) -> tuple[list[Broadcast], list[NodeId]]:
    """The same as specified, by scanning everything: 6.17 word for word."""
    used, taken, tiers = 0, [], sorted({item.transmits for item in items})
    for tier in tiers:
        while True:
            free = room - used - 2
            if free <= 0:
                break
            fitting = [
                item
                for item in items
                if item.transmits == tier and item not in taken and -item.shortness <= free
            ]
            if not fitting:
                break
            # the longest, the newest among equals
            best = max(fitting, key=lambda item: (-item.shortness, -item.age))
            taken.append(best)
            used += 2 - best.shortness
    left = [item for item in items if item not in taken]
    again = [replace(item, transmits=item.transmits + 1) for item in taken]
    left += [item for item in again if item.transmits < limit]
    return sorted(left), [item.name for item in taken]


ITEMS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 60)).map(
        lambda drawn: sent(NEWS["aaa"], drawn[0], length=drawn[1])
    ),
    max_size=25,
).map(
    lambda items: [
        replace(item, age=-arrival, name=NodeId(f"n{arrival}"))
        for arrival, item in enumerate(items, 1)
    ]
)


@given(ITEMS, st.lists(st.integers(-5, 200), min_size=1, max_size=6))
def test_taking_agrees_with_a_plain_scan(items: list[Broadcast], rooms: list[int]) -> None:
    state = queue(*items)
    for room in rooms:
        items, wanted = plain_take(items, room, 4)
        state, messages, finished = take(state, room, 9, LAN)
        assert state == queue(*items)
        assert len(messages) == len(wanted)
        assert finished == ()


@given(ITEMS)
def test_every_broadcast_is_sent_its_limit_and_no_more(items: list[Broadcast]) -> None:
    state, count = queue(*(replace(item, transmits=0) for item in items)), 0
    while state.queue:
        state, messages, _ = take(state, 130, 9, LAN)
        assert messages, "whatever is queued fits and goes"
        count += len(messages)
    assert count == 4 * len(items)


def test_a_packet_holds_no_more_parts_than_old_nodes_can_read() -> None:
    """A compound's count is one byte, misread from 128 on by memberlist before 0.2.4 (2.7)."""
    config = replace(LAN, packet_size=65_507)
    crowd = queue(*(sent(Suspect(1, NodeId(f"{i:03}"), A), arrival=i) for i in range(1, 400)))
    _, messages, _ = take(crowd, config.packet_size - 2, 9, config)
    assert len(messages) <= 127
    _, beside, _ = take(crowd, room_beside(Ack(1), config), 9, config)
    assert 1 + len(beside) <= 127


# --- announcing: what comes into the queue ----------------------------------------------

ME = A
MEMBERS = group("ABCDE")
NONE_GONE: Map[NodeId, Micros] = Map()
SUSPECTED, DIED, LIVES = Suspect(1, B, C), Dead(1, B, C), Alive(2, who(B))
IDLE = Broadcasts(rng=11, origin=30 * MS)
NEXT = (After(30 * MS, GossipTick()),)
BUSY = queue(sent(SUSPECTED, 2), of=IDLE, ticking=True, arrivals=1)
WAITED = queue(sent(LIVES, 2, notify=True), of=IDLE, ticking=True, arrivals=1)

ANNOUNCE: dict[
    str, tuple[Broadcasts, Micros, Announce, dict[str, Any], Broadcasts, tuple[Effect, ...]]
]
ANNOUNCE = {  # before, now, input, settings, after, effects
    "news sets the ticker going": (
        IDLE, 0, Announce(SUSPECTED), {},
        queue(sent(SUSPECTED), of=IDLE, ticking=True, arrivals=1), NEXT,
    ),
    "the next tick is where it would have been": (
        IDLE, SECOND, Announce(SUSPECTED), {},
        queue(sent(SUSPECTED), of=IDLE, ticking=True, arrivals=1), NEXT,
    ),
    "a tick that is just over is not the next": (
        IDLE, 430 * MS, Announce(SUSPECTED), {},
        queue(sent(SUSPECTED), of=IDLE, ticking=True, arrivals=1),
        (After(200 * MS, GossipTick()),),
    ),
    "a ticker that goes is left alone": (
        BUSY, 0, Announce(Suspect(1, D, C)), {},
        queue(
            sent(SUSPECTED, 2), sent(Suspect(1, D, C), arrival=2),
            of=IDLE, ticking=True, arrivals=2,
        ),
        (),
    ),
    "without gossip there is no ticker": (
        IDLE, 0, Announce(SUSPECTED), {"gossip_nodes": 0},
        queue(sent(SUSPECTED), of=IDLE, arrivals=1), (),
    ),
    "a death displaces the suspicion": (
        BUSY, 0, Announce(DIED), {},
        queue(sent(DIED, arrival=2), of=IDLE, ticking=True, arrivals=2), (),
    ),
    "a refutation displaces the suspicion": (
        BUSY, 0, Announce(LIVES), {},
        queue(sent(LIVES, arrival=2), of=IDLE, ticking=True, arrivals=2), (),
    ),
    "the same again starts again": (
        BUSY, 0, Announce(SUSPECTED), {},
        queue(sent(SUSPECTED, arrival=2), of=IDLE, ticking=True, arrivals=2), (),
    ),
    "news of somebody else displaces nothing": (
        BUSY, 0, Announce(Dead(1, D, C)), {},
        queue(
            sent(SUSPECTED, 2), sent(Dead(1, D, C), arrival=2),
            of=IDLE, ticking=True, arrivals=2,
        ),
        (),
    ),
    "who waits is told that something newer was said": (
        WAITED, 0, Announce(DIED), {},
        queue(sent(DIED, arrival=2), of=IDLE, ticking=True, arrivals=2),
        (Then(Announced(LIVES)),),
    ),
    "who waits for the newer one is told later": (
        BUSY, 0, Announce(LIVES, notify=True), {},
        queue(sent(LIVES, arrival=2, notify=True), of=IDLE, ticking=True, arrivals=2), (),
    ),
    "who waits is told without a ticker as well": (
        replace(WAITED, ticking=False), 0, Announce(DIED), {},
        queue(sent(DIED, arrival=2), of=IDLE, ticking=True, arrivals=2),
        (Then(Announced(LIVES)), *NEXT),
    ),
}  # fmt: skip


def advance(
    state: Broadcasts,
    now: Micros,
    input: Announce | GossipTick,
    members: Members = MEMBERS,
    departed: Map[NodeId, Micros] = NONE_GONE,
    **settings: Any,
) -> tuple[Broadcasts, tuple[Effect, ...]]:
    config = replace(LAN, **settings)
    if isinstance(input, Announce):
        return announce(state, now, input.message, input.notify, config)
    state, _, effects = gossip(state, (), now, ME, members, departed, 0, config)
    return state, effects


@pytest.mark.parametrize(
    ("before", "now", "input", "settings", "after", "effects"), ANNOUNCE.values(), ids=ANNOUNCE
)
def test_announce(
    before: Broadcasts,
    now: Micros,
    input: Announce,
    settings: dict[str, Any],
    after: Broadcasts,
    effects: tuple[Effect, ...],
) -> None:
    assert advance(before, now, input, **settings) == (after, effects)


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCD"), st.sampled_from([Suspect, Dead]), st.integers(0, 60)),
        max_size=30,
    )
)
def test_the_queue_holds_the_last_news_of_each(drawn: list[tuple[str, Any, int]]) -> None:
    state, last = IDLE, {}
    for arrival, (name, kind, pad) in enumerate(drawn, 1):
        message = kind(1, NodeId(name), NodeId("-" * pad))
        last[name] = sent(message, arrival=arrival)
        state, _ = advance(state, 0, Announce(message))
    assert state == queue(*last.values(), of=IDLE, ticking=bool(drawn), arrivals=len(drawn))


# --- the gossip tick --------------------------------------------------------------------

AGAIN = After(200 * MS, GossipTick())


def chosen(state: Broadcasts, members: Members, names: str, k: int = 3) -> tuple[list[Member], int]:
    """Whom the node's generator picks from these names, and the generator after that."""
    return members.sample(state.rng, k, lambda member: member.peer.name in names)


def gossiped(
    state: Broadcasts, members: Members, names: str, *, k: int = 3, crc: str = "ABCDE"
) -> list[Send]:
    """A packet of the whole queue to each of these, in the order they are picked."""
    messages = tuple(item.message for item in state.queue)
    return [
        Send(member.peer.address, messages, crc=member.peer.name in crc)
        for member in chosen(state, members, names, k)[0]
    ]


def after(state: Broadcasts, members: Members, names: str, times: int, *, k: int = 3) -> Broadcasts:
    """The queue once each message has been sent so many times more."""
    items = [replace(item, transmits=item.transmits + times) for item in state.queue]
    left = [item for item in items if item.transmits < 4]
    return queue(*left, of=state, rng=chosen(state, members, names, k)[1], ticking=bool(left))


NOW = 100 * SECOND + 30 * MS  # on the ticker's grid
MIXED = table(
    record(A), record(B), record(C, 1, SUSPECT), record(D, 1, DEAD), record(E, 1, LEFT)
)  # fmt: skip
TWO = queue(
    sent(LIVES, 0, arrival=1), sent(Suspect(1, C, A), 0, arrival=2),
    of=IDLE, ticking=True, arrivals=2,
)  # fmt: skip
LAST = queue(sent(DIED, 3, notify=True), of=IDLE, ticking=True, arrivals=1)
WIDOWED = table(record(A), record(D, 1, DEAD))
DEPARTING = table(record(A, 1, LEFT), record(B))
OLD_PEERS = group("AB").put(record(C, vsn=VSN_4))
BIG = queue(sent(rumour("B", 1397)), of=IDLE, ticking=True, arrivals=1)

GOSSIP: dict[
    str, tuple[Broadcasts, Members, dict[NodeId, Micros], dict[str, Any], Broadcasts, list[Effect]]
]
GOSSIP = {  # before, members, departed, settings, after, effects
    "with nothing to say it stops": (
        replace(IDLE, ticking=True), MEMBERS, {}, {}, IDLE, [],
    ),
    "three others hear all there is": (
        TWO, MEMBERS, {}, {},
        after(TWO, MEMBERS, "BCDE", 3), [*gossiped(TWO, MEMBERS, "BCDE"), AGAIN],
    ),
    "one other hears it": (
        TWO, group("AB"), {}, {},
        after(TWO, group("AB"), "B", 1), [*gossiped(TWO, group("AB"), "B"), AGAIN],
    ),
    "as many as are configured hear it": (
        TWO, MEMBERS, {}, {"gossip_nodes": 2},
        after(TWO, MEMBERS, "BCDE", 2, k=2), [*gossiped(TWO, MEMBERS, "BCDE", k=2), AGAIN],
    ),
    "suspects hear it, and the dead until they are long dead": (
        TWO, MIXED, {D: NOW - 30 * SECOND, E: NOW}, {},
        after(TWO, MIXED, "BCD", 3), [*gossiped(TWO, MIXED, "BCD"), AGAIN],
    ),
    "the long dead do not, nor who has left": (
        TWO, MIXED, {D: NOW - 30 * SECOND - 1, E: NOW}, {},
        after(TWO, MIXED, "BC", 2), [*gossiped(TWO, MIXED, "BC"), AGAIN],
    ),
    "nobody is there to hear it": (
        TWO, group("A"), {}, {}, TWO, [AGAIN],
    ),
    "alone with the dead": (
        TWO, WIDOWED, {D: NOW}, {},
        after(TWO, WIDOWED, "D", 1), [*gossiped(TWO, WIDOWED, "D"), AGAIN],
    ),
    "alone with the long dead": (
        TWO, WIDOWED, {D: NOW - 31 * SECOND}, {}, after(TWO, WIDOWED, "", 0), [AGAIN],
    ),
    "only who has left is there": (
        TWO, table(record(A), record(E, 1, LEFT)), {E: NOW}, {}, TWO, [AGAIN],
    ),
    "who has left itself tells the only other": (
        TWO, DEPARTING, {A: NOW}, {},
        after(TWO, DEPARTING, "B", 1), [*gossiped(TWO, DEPARTING, "B"), AGAIN],
    ),
    "a packet has a CRC where it is understood": (
        TWO, OLD_PEERS, {}, {},
        after(TWO, OLD_PEERS, "BC", 2), [*gossiped(TWO, OLD_PEERS, "BC", crc="B"), AGAIN],
    ),
    "the last transmission goes to the first of three": (
        LAST, MEMBERS, {}, {},
        queue(of=IDLE, ticking=False, arrivals=1, rng=chosen(LAST, MEMBERS, "BCDE")[1]),
        [gossiped(LAST, MEMBERS, "BCDE")[0], Then(Announced(DIED))],
    ),
    "what fits no packet waits": (
        BIG, MEMBERS, {}, {}, after(BIG, MEMBERS, "BCDE", 0), [AGAIN],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "members", "departed", "settings", "later", "effects"),
    GOSSIP.values(),
    ids=GOSSIP,
)
def test_gossip(
    before: Broadcasts,
    members: Members,
    departed: dict[NodeId, Micros],
    settings: dict[str, Any],
    later: Broadcasts,
    effects: list[Effect],
) -> None:
    told = advance(before, NOW, GossipTick(), members, Map(departed), **settings)
    assert told == (later, tuple(effects))


def test_a_late_tick_does_not_move_the_ticker() -> None:
    for late, wait in ((1, 200 * MS - 1), (50 * MS, 150 * MS), (430 * MS, 170 * MS)):
        state, effects = advance(TWO, NOW + late, GossipTick(), group("AB"))
        assert effects[-1] == After(wait, GossipTick())
        assert state.origin == TWO.origin


def test_each_hearer_costs_a_transmission() -> None:
    """Four transmissions and three hearers: the news is gone after two ticks (P25)."""
    state = queue(sent(DIED), of=IDLE, ticking=True, arrivals=1)
    state, first = advance(state, NOW, GossipTick())
    assert [len(of_type(Send, first)), state.queue[0].transmits, state.ticking] == [3, 3, True]
    state, second = advance(state, NOW + 200 * MS, GossipTick())
    assert [len(of_type(Send, second)), state.queue, state.ticking] == [1, (), False]
    assert After(200 * MS, GossipTick()) not in second


@given(st.integers(0, rng.MASK))
def test_everybody_but_oneself_may_hear_gossip(seed: int) -> None:
    _, effects = advance(replace(TWO, rng=seed), NOW, GossipTick())
    heard = [effect.to for effect in of_type(Send, effects)]
    assert len(set(heard)) == len(heard) == 3
    assert set(heard) <= {at(name) for name in "BCDE"}


def test_what_is_left_for_the_next_hearer_is_what_was_sent_least() -> None:
    """A fresh request for each hearer: what did not fit the first packet is in the second."""
    long, short = rumour("B", 1000), rumour("C", 900)
    state = queue(sent(long, arrival=1), sent(short, arrival=2), of=IDLE, ticking=True)
    _, effects = advance(state, NOW, GossipTick(), group("ADE"))
    assert [send.messages for send in of_type(Send, effects)] == [(long,), (short,)]


# --- the room in a packet ---------------------------------------------------------------

ROOM: dict[str, dict[str, Any]] = {
    "bare": {},
    "a label": {"label_size": 3},
    "a key": {"encrypted": True},
    "label and key": {"label_size": 10, "encrypted": True},
    "a small packet": {"packet_size": 512},
}
FREE = {"bare": 1396, "a label": 1391, "a key": 1367, "label and key": 1355, "a small packet": 508}


@pytest.mark.parametrize("envelope", ROOM)
def test_gossip_fills_a_packet_to_the_last_byte(envelope: str) -> None:
    """Spec memberlist.md 2.8: U - 2 - L - E for all, of which each message takes 2."""
    exact, config = FREE[envelope], replace(LAN, **ROOM[envelope])
    for length, goes in ((exact, True), (exact + 1, False)):
        state = queue(sent(rumour("B", length)), of=IDLE, ticking=True)
        _, effects = advance(state, NOW, GossipTick(), group("AC"), **ROOM[envelope])
        assert bool(of_type(Send, effects)) == goes
    first, second = rumour("B", exact - 102), rumour("D", 100)
    state = queue(sent(first), sent(second, arrival=2), of=IDLE, ticking=True)
    _, effects = advance(state, NOW, GossipTick(), group("AC"), **ROOM[envelope])
    (send,) = of_type(Send, effects)
    assert send.messages == (first, second)
    assert packet_size(send.messages, False, config) == config.packet_size
    assert packet_size(send.messages, send.crc, config) == config.packet_size + 5


@pytest.mark.parametrize("envelope", ROOM)
def test_what_rides_on_a_message_fills_the_packet_and_two_bytes_more(envelope: str) -> None:
    """U - len(m) - 2 - L - E: the message's own length is not budgeted (2.8)."""
    config = replace(LAN, **ROOM[envelope])
    ping = Ping(1, B, at(A), A)
    room = room_beside(ping, config)
    assert room == FREE[envelope] + 2 - size(ping)
    for length, rides in ((room - 2, True), (room - 1, False)):
        _, messages, _ = take(queue(sent(rumour("B", length))), room, 9, config)
        assert bool(messages) == rides
    packet = (ping, rumour("B", room - 2))
    assert packet_size(packet, False, config) == config.packet_size + 2


@given(
    st.lists(st.integers(40, 700), max_size=40),
    st.sampled_from(list(ROOM)),
    st.integers(0, rng.MASK),
)
def test_no_packet_of_gossip_is_too_long(lengths: list[int], envelope: str, seed: int) -> None:
    config = replace(LAN, **ROOM[envelope])
    items = [
        sent(rumour(f"n{arrival}", length), arrival=arrival)
        for arrival, length in enumerate(lengths, 1)
    ]
    state = queue(*items, of=IDLE, ticking=True, rng=seed)
    while state.ticking:
        before = state
        state, effects = advance(state, NOW, GossipTick(), **ROOM[envelope])
        for send in of_type(Send, effects):
            assert packet_size(send.messages, False, config) <= config.packet_size
            assert len({message.node for message in send.messages}) == len(send.messages)
        if not of_type(Send, effects):
            assert before.queue == state.queue
            break
    fits = FREE[envelope]
    assert {-item.shortness for item in state.queue} == {n for n in lengths if n > fits}
