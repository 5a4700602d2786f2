"""The probe round: SWIM 3.1 and 4.3, Lifeguard IV-A, spec memberlist.md 6.3 to 6.6."""

from __future__ import annotations

from collections import Counter
from itertools import count
from random import Random
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import LAN, WAN
from swimsim.effects import After, Effect, Exchange, Reply, Send, Then
from swimsim.inputs import (
    ExchangeRequested,
    HealthChange,
    ProbeFailed,
    ProbeNext,
    ProbeTick,
    ProbeTimeout,
    RelayTimeout,
    RoundEnded,
)
from swimsim.member import DEAD, LEFT, SUSPECT, Member, Peer, Status
from swimsim.members import EMPTY, Members
from swimsim.messages import Ack, IndirectPing, Nack, Ping, Suspect
from swimsim.swim.probe import (
    Probe,
    ProbeInput,
    Relay,
    Round,
    answer,
    answer_stream,
    start,
    step,
    stream_acked,
)
from swimsim.terms import MS, SECOND, U32, Address, Micros, NodeId
from tests.builders import (
    VSN_3,
    VSN_4,
    VSN_OLD,
    A,
    B,
    C,
    D,
    at,
    group,
    of_type,
    permute,
    record,
    who,
)


class Group(NamedTuple):
    """What the prober reads of the membership."""

    me: Peer
    members: Members


def key_of_straight_walk(bits: int) -> int:
    """A key under which the walk goes from slot to slot."""
    straight = list(range(1 << bits))
    return next(key for key in count() if [permute(key, bits, i) for i in straight] == straight)


KEY = key_of_straight_walk(2)
PAGE = rng.permute_page(KEY, 2, 0)  # all of that walk
NOW = 100 * SECOND
TOGETHER = group("ABCD")  # A is this node; the walk goes on with B


def others(*members: Member) -> Members:
    """A's table: these in place of B, C, D."""
    known = TOGETHER
    for member in members:
        known = known.put(member)
    return known


Row: TypeAlias = tuple[Probe, ProbeInput, dict[str, Any], Probe, tuple[Effect, ...]]


def check(row: Row) -> None:
    """The fourth and fifth are what comes of the first two; the third is what is not usual:
    ``now``, ``health``, ``members``, or a setting."""
    before, input, unusual, after, effects = row
    known = {"now": NOW, "health": 0, "members": TOGETHER} | unusual
    now, health, members = known.pop("now"), known.pop("health"), known.pop("members")
    told = step(before, now, input, Group(who(A), members), health, replace(LAN, **known))
    assert told == (after, effects)


def nothing(state: Probe, input: ProbeInput, **unusual: Any) -> Row:
    return state, input, unusual, state, ()


PING = Ping(11, B, at(A), A)
IDLE = Probe(rng=7, seq_no=10, tick=NOW, grid=NOW, key=KEY, bits=2, cursor=1, page=PAGE)
ROUND = Round(11, B, 1, deadline=NOW + SECOND)
PROBING = replace(IDLE, seq_no=11, tick=NOW + SECOND, grid=NOW + SECOND, cursor=2, round=ROUND)

PINGED = Send(at(B), (PING,), piggyback=True)
OVERDUE = After(500 * MS, ProbeTimeout(11))
NEXT = After(SECOND, ProbeTick(NOW + SECOND))


# --- a tick begins a round --------------------------------------------------------------


def probing(**fields: Any) -> Probe:
    """PROBING with another round."""
    return replace(PROBING, round=replace(ROUND, **fields))


def suspicious(vsn: bytes = LAN.vsn) -> Members:
    return others(record(B, 4, SUSPECT, vsn=vsn))


BEGIN: dict[str, Row] = {
    "a tick pings the next member and sets both times": (
        IDLE, ProbeTick(NOW), {}, PROBING, (PINGED, OVERDUE, NEXT),
    ),
    "poor health stretches the round, neither the timeout nor the ticker": (
        IDLE, ProbeTick(NOW), {"health": 2},
        probing(deadline=NOW + 3 * SECOND), (PINGED, OVERDUE, NEXT),
    ),
    "in the paper it stretches the timeout as well": (
        IDLE, ProbeTick(NOW), {"health": 2, "scale_probe_timeout": True},
        probing(deadline=NOW + 3 * SECOND),
        (PINGED, After(1500 * MS, ProbeTimeout(11)), NEXT),
    ),
    "a suspect is told so in the ping, with a CRC and without piggyback": (
        IDLE, ProbeTick(NOW), {"members": suspicious()},
        probing(incarnation=4),
        (Send(at(B), (PING, Suspect(4, B, A)), crc=True), OVERDUE, NEXT),
    ),
    "without a CRC if it would not understand": (
        IDLE, ProbeTick(NOW), {"members": suspicious(VSN_4)},
        probing(incarnation=4),
        (Send(at(B), (PING, Suspect(4, B, A)), crc=False), OVERDUE, NEXT),
    ),
    "without the buddy system a suspect is pinged like anybody": (
        IDLE, ProbeTick(NOW), {"members": suspicious(), "buddy_system": False},
        probing(incarnation=4), (PINGED, OVERDUE, NEXT),
    ),
    "the dead are passed over": (
        IDLE, ProbeTick(NOW), {"members": others(record(B, 1, DEAD))},
        replace(probing(target=C), cursor=3),
        (Send(at(C), (replace(PING, target=C),), piggyback=True), OVERDUE, NEXT),
    ),
    "so are those who have left": (
        IDLE, ProbeTick(NOW), {"members": others(record(B, 1, LEFT), record(C, 1, DEAD))},
        replace(probing(target=D), cursor=4),
        (Send(at(D), (replace(PING, target=D),), piggyback=True), OVERDUE, NEXT),
    ),
    "so is oneself": (
        replace(IDLE, cursor=0), ProbeTick(NOW), {}, PROBING, (PINGED, OVERDUE, NEXT),
    ),
    "a late tick does not move the ticker": (
        IDLE, ProbeTick(NOW), {"now": NOW + 300 * MS},
        probing(deadline=NOW + 1300 * MS),
        (PINGED, OVERDUE, After(700 * MS, ProbeTick(NOW + SECOND))),
    ),
    "the next tick is on this node's own grid": (
        replace(IDLE, grid=7 * SECOND + 300 * MS), ProbeTick(NOW), {},
        replace(PROBING, grid=NOW + 300 * MS, tick=NOW + 300 * MS),
        (PINGED, OVERDUE, After(300 * MS, ProbeTick(NOW + 300 * MS))),
    ),
    "of ticks that piled up one is handled": (
        IDLE, ProbeTick(NOW), {"now": NOW + 4200 * MS},
        replace(probing(deadline=NOW + 5200 * MS), tick=NOW + 5 * SECOND, grid=NOW + 5 * SECOND),
        (PINGED, OVERDUE, After(800 * MS, ProbeTick(NOW + 5 * SECOND))),
    ),
    "a timeout as long as the round needs no timer": (
        IDLE, ProbeTick(NOW), {"probe_timeout": SECOND}, PROBING, (PINGED, NEXT),
    ),
    "nor does one that is longer": (
        IDLE, ProbeTick(NOW), {"probe_timeout": 3 * SECOND}, PROBING, (PINGED, NEXT),
    ),
    "unless health stretches the round beyond it": (
        IDLE, ProbeTick(NOW), {"probe_timeout": SECOND, "health": 1},
        probing(deadline=NOW + 2 * SECOND), (PINGED, After(SECOND, ProbeTimeout(11)), NEXT),
    ),
    "the sequence number wraps": (
        replace(IDLE, seq_no=U32), ProbeTick(NOW), {},
        replace(probing(seq_no=0), seq_no=0),
        (
            Send(at(B), (replace(PING, seq_no=0),), piggyback=True),
            After(500 * MS, ProbeTimeout(0)), NEXT,
        ),
    ),
    "another node's tick, or one of the past, is stale": nothing(IDLE, ProbeTick(NOW - SECOND)),
    "a stale tick ends no round": nothing(PROBING, ProbeTick(NOW), now=NOW + SECOND),
}  # fmt: skip


@pytest.mark.parametrize("row", BEGIN.values(), ids=BEGIN)
def test_a_round_begins(row: Row) -> None:
    check(row)


# --- whose turn it is -------------------------------------------------------------------

THROUGH = replace(IDLE, cursor=4)
NEW_KEY, NEW_RNG = rng.draw(7)
ANEW = replace(THROUGH, rng=NEW_RNG, key=NEW_KEY, cursor=0)
AGAIN = (Then(RoundEnded()), Then(ProbeNext(1)))
RESTING = replace(IDLE, tick=NOW + SECOND, grid=NOW + SECOND)
GONE = others(record(B, 1, DEAD), record(C, 1, LEFT), record(D, 1, DEAD))
ONE_LEFT = others(record(B, 1, DEAD), record(C, 1, LEFT))

TURN: dict[str, Row] = {
    "when the list is through it begins anew in another order": (
        THROUGH, ProbeTick(NOW), {}, ANEW, AGAIN,
    ),
    "the order is of as many bits as the members need": (
        replace(THROUGH, bits=0, cursor=1), ProbeTick(NOW), {}, replace(ANEW, bits=2), AGAIN,
    ),
    "beginning anew counts as a check": (
        replace(IDLE, cursor=2), ProbeNext(3), {"members": others(record(C, 1, DEAD))},
        replace(RESTING, cursor=3), (NEXT,),
    ),
    "after as many checks as members it rests": (
        replace(IDLE, cursor=2), ProbeNext(4), {}, replace(RESTING, cursor=2), (NEXT,),
    ),
    "with one check left it may still find somebody": (
        IDLE, ProbeNext(3), {}, PROBING, (PINGED, OVERDUE, NEXT),
    ),
    "what is passed over is a check": (
        IDLE, ProbeTick(NOW), {"members": ONE_LEFT},
        replace(probing(target=D), cursor=4),
        (Send(at(D), (replace(PING, target=D),), piggyback=True), OVERDUE, NEXT),
    ),
    "a check too many": (
        IDLE, ProbeNext(2), {"members": ONE_LEFT}, replace(RESTING, cursor=3), (NEXT,),
    ),
    "with all gone the list is through at once": (
        replace(IDLE, cursor=0), ProbeTick(NOW), {"members": GONE},
        THROUGH, (Then(RoundEnded()), Then(ProbeNext(4))),
    ),
    "and it rests": (THROUGH, ProbeNext(4), {"members": GONE}, replace(RESTING, cursor=4), (NEXT,)),
    "who has left itself still probes the only other (6.14)": (
        IDLE, ProbeTick(NOW), {"members": others(record(A, 1, LEFT)).remove(C).remove(D)},
        PROBING, (PINGED, OVERDUE, NEXT),
    ),
    "a kept tick is used up even if there is nobody to probe": (
        replace(IDLE, grid=NOW - SECOND), ProbeNext(4), {}, RESTING, (NEXT,),
    ),
    "alone the list is through at once": (
        Probe(7, tick=NOW, grid=NOW), ProbeTick(NOW), {"members": group("A")},
        Probe(7, tick=NOW, grid=NOW), (Then(RoundEnded()), Then(ProbeNext(1))),
    ),
    "alone there is nothing to do": (
        Probe(7, tick=NOW, grid=NOW), ProbeNext(1), {"members": group("A")},
        Probe(7, tick=NOW + SECOND, grid=NOW + SECOND), (NEXT,),
    ),
    "empty slots are no check": (
        # three members in four slots: slot 3 does not exist
        replace(IDLE, cursor=2), ProbeNext(1), {"members": others(record(C, 1, DEAD)).remove(D)},
        replace(IDLE, cursor=0, key=NEW_KEY, rng=NEW_RNG), (Then(RoundEnded()), Then(ProbeNext(3))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", TURN.values(), ids=TURN)
def test_the_walk_over_the_members(row: Row) -> None:
    check(row)


# --- a round ends -----------------------------------------------------------------------

ASKED = probing(direct=False)
WITH_NACKS = probing(direct=False, nacks_due=3, nack_count=3)
ONE_NACK = probing(direct=False, nacks_due=2, nack_count=3)
ALL_NACKS = probing(direct=False, nacks_due=0, nack_count=3)
BY_STREAM = probing(direct=False, nacks_due=3, nack_count=3, stream_acked=True)
OVER = replace(PROBING, round=None)
STRETCHED = probing(deadline=NOW + 3 * SECOND)
KEPT = replace(STRETCHED, tick=NOW + 3 * SECOND)
END = ProbeTick(NOW + SECOND)
LATER = {"now": NOW + SECOND}
GO_ON = Then(ProbeNext(0))


def failed(missed: int, target: NodeId = B, incarnation: int = 1) -> tuple[Effect, ...]:
    return Then(HealthChange(missed)), Then(ProbeFailed(target, incarnation)), GO_ON


BRANCHES: dict[str, Row] = {  # spec memberlist.md 6.4, the table of branches
    "a direct ack in time, in good health": (PROBING, Ack(11), {"now": NOW + 10 * MS}, OVER, ()),
    "a direct ack in time betters poor health": (
        PROBING, Ack(11), {"now": NOW + 10 * MS, "health": 2}, OVER, (Then(HealthChange(-1)),),
    ),
    "a late ack, or a relayed one, is as good": (
        WITH_NACKS, Ack(11), {"now": NOW + 900 * MS, "health": 2}, OVER,
        (Then(HealthChange(-1)),),
    ),
    "a stream ping answered, in good health": (BY_STREAM, END, LATER, OVER, (GO_ON,)),
    "a stream ping answered betters poor health": (
        BY_STREAM, END, LATER | {"health": 1}, OVER, (Then(HealthChange(-1)), GO_ON),
    ),
    "an ack at the very end is in time": (WITH_NACKS, Ack(11), {"now": NOW + SECOND}, OVER, ()),
    "an ack after the end is too late, whenever the tick comes that says so": nothing(
        WITH_NACKS, Ack(11), now=NOW + SECOND + 1
    ),
    "an ack after the stream ping ends the round early": (
        BY_STREAM, Ack(11), {"now": NOW + 900 * MS}, OVER, (),
    ),
    "failure with three nacks expected and none received": (
        WITH_NACKS, END, LATER, OVER, failed(3),
    ),
    "failure with three nacks expected and one received": (ONE_NACK, END, LATER, OVER, failed(2)),
    "failure with all nacks received": (ALL_NACKS, END, LATER, OVER, failed(0)),
    "failure with no nacks expected": (ASKED, END, LATER, OVER, failed(1)),
    "in the paper a failure costs one, and one for each missing nack": (
        ONE_NACK, END, LATER | {"failed_probe_is_one": True}, OVER, failed(3),
    ),
    "in the paper a failure with all nacks costs one": (
        ALL_NACKS, END, LATER | {"failed_probe_is_one": True}, OVER, failed(1),
    ),
    "in the paper a failure without nacks costs one": (
        ASKED, END, LATER | {"failed_probe_is_one": True}, OVER, failed(1),
    ),
    "what fails is the incarnation that was pinged": (
        probing(direct=False, incarnation=4), END, LATER | {"members": others(record(B, 6))},
        OVER, failed(1, incarnation=4),
    ),
    "a late end is an end": (ASKED, END, {"now": NOW + 1700 * MS}, OVER, failed(1)),
    # ticks on a running round
    "a tick on a stretched round is kept until it ends": (
        STRETCHED, END, LATER, KEPT, (After(2 * SECOND, ProbeTick(NOW + 3 * SECOND)),),
    ),
    "more ticks are not kept": nothing(KEPT, ProbeTick(NOW + 2 * SECOND), now=NOW + 2 * SECOND),
    "an ack of a round with a kept tick begins the next at once": (
        KEPT, Ack(11), {"now": NOW + 1500 * MS, "health": 2}, replace(KEPT, round=None),
        (Then(HealthChange(-1)), GO_ON),
    ),
    "in good health as well": (
        KEPT, Ack(11), {"now": NOW + 1500 * MS}, replace(KEPT, round=None), (GO_ON,),
    ),
    "the end of a round with a kept tick begins the next": (
        replace(KEPT, round=replace(ASKED.round, deadline=NOW + 3 * SECOND)),
        ProbeTick(NOW + 3 * SECOND), {"now": NOW + 3 * SECOND},
        replace(KEPT, round=None), failed(1),
    ),
    # what is stale
    "an ack of an earlier round": nothing(PROBING, Ack(10)),
    "an ack of no round": nothing(OVER, Ack(11)),
    "a second ack": nothing(IDLE, Ack(10)),
    "a nack": (
        WITH_NACKS, Nack(11), {}, probing(direct=False, nacks_due=2, nack_count=3), (),
    ),
    "a nack does not end the round": (
        ONE_NACK, Nack(11), {}, probing(direct=False, nacks_due=1, nack_count=3), (),
    ),
    "a nack more than there are helpers": nothing(ALL_NACKS, Nack(11)),
    "a nack of an earlier round": nothing(WITH_NACKS, Nack(10)),
    "a nack of no round": nothing(OVER, Nack(11)),
    "a nack that nobody asked for": nothing(PROBING, Nack(11)),
    "a timeout of an earlier round": nothing(PROBING, ProbeTimeout(10)),
    "a timeout of no round": nothing(OVER, ProbeTimeout(11)),
    "a second timeout": nothing(ASKED, ProbeTimeout(11)),
}  # fmt: skip


@pytest.mark.parametrize("row", BRANCHES.values(), ids=BRANCHES)
def test_a_round_ends(row: Row) -> None:
    check(row)


def test_after_a_kept_tick_the_ticker_is_back_on_its_grid() -> None:
    """A round that begins between two ticks is followed by the next tick all the same."""
    begun, effects = step(
        replace(OVER, cursor=1, tick=NOW + 3 * SECOND),
        NOW + 1500 * MS,
        ProbeNext(0),
        Group(who(A), TOGETHER),
        0,
        LAN,
    )
    assert begun.round == Round(12, B, 1, deadline=NOW + 2500 * MS)
    assert (begun.tick, begun.kept) == (NOW + 2 * SECOND, False)
    assert effects[-1] == After(500 * MS, ProbeTick(NOW + 2 * SECOND))
    # that tick falls on the round and is kept in turn
    kept, effects = step(
        begun, NOW + 2 * SECOND, ProbeTick(NOW + 2 * SECOND), Group(who(A), TOGETHER), 0, LAN
    )
    assert kept == replace(begun, tick=NOW + 2500 * MS)
    assert effects == (After(500 * MS, ProbeTick(NOW + 2500 * MS)),)


# --- helpers ----------------------------------------------------------------------------

HALF = NOW + 500 * MS


def helping(names: str, members: Members = TOGETHER, k: int = 3) -> tuple[list[Member], int]:
    """Which of these the node's generator picks, and the generator after that."""
    return members.sample(IDLE.rng, k, lambda member: member.peer.name in names)


def asked(
    names: str,
    members: Members = TOGETHER,
    *,
    k: int = 3,
    nackers: str = "BCD",
    stream: Micros = 500 * MS,
    before: Probe = PROBING,
) -> tuple[Probe, tuple[Effect, ...]]:
    """After the timeout: helpers are asked, and a stream is tried for so long."""
    helpers, rng_ = helping(names, members, k)
    sends = [
        Send(
            helper.peer.address,
            (IndirectPing(11, B, at(B), helper.peer.name in nackers, at(A), A),),
            piggyback=True,
        )
        for helper in helpers
    ]
    nacks = sum(helper.peer.name in nackers for helper in helpers)
    assert before.round is not None
    round_ = replace(before.round, direct=False, nacks_due=nacks, nack_count=nacks)
    tried = (Exchange(11, at(B), PING, stream),) if stream else ()
    return replace(before, rng=rng_, round=round_), (*sends, *tried)


TIMEOUT = ProbeTimeout(11)
WITH_SUSPECT, WITH_DEAD = others(record(C, 1, SUSPECT)), others(record(C, 1, DEAD))
WITH_OLD, WITH_4 = others(record(C, vsn=VSN_3)), others(record(C, vsn=VSN_4))
STREAMLESS = others(record(B, vsn=VSN_OLD))
NO_HELP = others(record(C, 1, LEFT), record(D, 1, SUSPECT))

HELP: dict[str, tuple[Probe, dict[str, Any], tuple[Probe, tuple[Effect, ...]]]] = {
    "all others are asked when they are few, and a stream is tried": (
        PROBING, {}, asked("CD"),
    ),
    "no more are asked than configured": (PROBING, {"indirect_checks": 1}, asked("CD", k=1)),
    "none are asked when none are configured": (
        PROBING, {"indirect_checks": 0}, asked("", k=0),
    ),
    "suspects do not help": (
        PROBING, {"members": WITH_SUSPECT}, asked("D", WITH_SUSPECT),
    ),
    "the dead do not help": (PROBING, {"members": WITH_DEAD}, asked("D", WITH_DEAD)),
    "an old helper is asked for no nack": (
        PROBING, {"members": WITH_OLD}, asked("CD", WITH_OLD, nackers="D"),
    ),
    "a helper that speaks version four is": (
        PROBING, {"members": WITH_4}, asked("CD", WITH_4),
    ),
    "without LHA-Probe nobody is asked for a nack": (
        PROBING, {"lha_probe": False}, asked("CD", nackers=""),
    ),
    "nobody can help: the stream is left": (
        PROBING, {"members": NO_HELP}, asked("", NO_HELP),
    ),
    "the stream is not wanted": (PROBING, {"stream_ping": False}, asked("CD", stream=0)),
    "the target is too old for streams": (
        PROBING, {"members": STREAMLESS}, asked("CD", STREAMLESS, stream=0),
    ),
    "a stream is tried until the deadline": (
        STRETCHED, {}, asked("CD", before=STRETCHED, stream=2500 * MS),
    ),
    "a late timeout leaves less time for the stream": (
        PROBING, {"now": NOW + 900 * MS}, asked("CD", stream=100 * MS),
    ),
    "to the last microsecond": (
        PROBING, {"now": NOW + SECOND - 1}, asked("CD", stream=1),
    ),
    "after the deadline no stream is tried": (
        PROBING, {"now": NOW + SECOND}, asked("CD", stream=0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "unusual", "told"), HELP.values(), ids=HELP)
def test_an_overdue_ack_asks_helpers(
    before: Probe, unusual: dict[str, Any], told: tuple[Probe, tuple[Effect, ...]]
) -> None:
    check((before, TIMEOUT, {"now": HALF} | unusual, *told))


def test_an_old_target_that_speaks_version_three_is_tried_by_stream() -> None:
    members = others(record(B, vsn=VSN_3))
    check((PROBING, TIMEOUT, {"now": HALF, "members": members}, *asked("CD", members)))


def test_a_timeout_as_long_as_the_round_asks_in_vain() -> None:
    """6.4: steps 3 to 7 run with an immediate verdict, so every expected nack is missed."""
    state, effects = asked("CD", stream=0)
    check((PROBING, END, LATER, replace(state, round=None), (*effects, *failed(2))))
    state, effects = asked("CD", nackers="", stream=0)
    unusual = LATER | {"lha_probe": False}
    check((PROBING, END, unusual, replace(state, round=None), (*effects, *failed(1))))


def test_a_target_forgotten_meanwhile_is_no_error() -> None:
    unusual = {"now": HALF, "members": TOGETHER.remove(B)}
    check((PROBING, TIMEOUT, unusual, ASKED, ()))


@given(st.integers(0, rng.MASK), st.integers(0, 5), st.integers(3, 12))
def test_k_helpers_are_asked_and_never_the_target_nor_oneself(seed: int, k: int, n: int) -> None:
    members = group("ABCDEFGHIJKL"[:n])
    config = replace(LAN, indirect_checks=k)
    state, effects = step(
        replace(PROBING, rng=seed), HALF, TIMEOUT, Group(who(A), members), 0, config
    )
    helpers = {effect.to for effect in of_type(Send, effects)}
    assert len(of_type(Send, effects)) == len(helpers) <= k
    assert helpers.isdisjoint({at(A), at(B)})
    assert state.round is not None
    assert state.round.nack_count == state.round.nacks_due == len(helpers)
    if n < 3 * k:
        assert len(helpers) == min(k, n - 2)


# --- relays -----------------------------------------------------------------------------

FROM_C = IndirectPing(77, B, at(B), True, at(C), C)
QUIET = replace(FROM_C, nack=False)
RELAY = Relay(at(C), 77, True)
RELAYING = replace(IDLE, seq_no=11, relays=Map({11: RELAY}))
RELAYING_QUIETLY = replace(RELAYING, relays=Map({11: replace(RELAY, nack=False)}))
RELAYED = replace(RELAYING, relays=Map())
BOTH = replace(RELAYING, seq_no=12, round=replace(ROUND, seq_no=12))
EARLY = {"nack_percent": 80}
NACK = Send(at(C), (Nack(77),), piggyback=True)
ACK = Send(at(C), (Ack(77),), piggyback=True)

RELAYS: dict[str, Row] = {
    "the target is pinged under a number of one's own": (
        IDLE, FROM_C, {}, RELAYING, (PINGED, After(500 * MS, RelayTimeout(11))),
    ),
    "without a nack the relay lasts as long": (
        IDLE, QUIET, {}, RELAYING_QUIETLY, (PINGED, After(500 * MS, RelayTimeout(11))),
    ),
    "health does not stretch a relay": (
        IDLE, FROM_C, {"health": 3, "scale_probe_timeout": True}, RELAYING,
        (PINGED, After(500 * MS, RelayTimeout(11))),
    ),
    "two relays at a time": (
        RELAYING, replace(FROM_C, seq_no=5, source=at(D), source_node=D), {},
        replace(RELAYING, seq_no=12, relays=Map({11: RELAY, 12: Relay(at(D), 5, True)})),
        (
            Send(at(B), (replace(PING, seq_no=12),), piggyback=True),
            After(500 * MS, RelayTimeout(12)),
        ),
    ),
    "somebody unknown is pinged as well": (
        IDLE, replace(FROM_C, target=NodeId("Z"), target_address=at("Z")), {}, RELAYING,
        (
            Send(at("Z"), (replace(PING, target=NodeId("Z")),), piggyback=True),
            After(500 * MS, RelayTimeout(11)),
        ),
    ),
    "the ack is passed on under the asker's number": (RELAYING, Ack(11), {}, RELAYED, (ACK,)),
    "its payload is dropped": (RELAYING, Ack(11, b"payload"), {}, RELAYED, (ACK,)),
    "an ack without a nack wanted": (RELAYING_QUIETLY, Ack(11), {}, RELAYED, (ACK,)),
    "a second ack is not passed on": nothing(RELAYED, Ack(11)),
    "silence is passed on as a nack": (RELAYING, RelayTimeout(11), {}, RELAYED, (NACK,)),
    "silence is not passed on if that is not wanted": (
        RELAYING_QUIETLY, RelayTimeout(11), {}, RELAYED, (),
    ),
    "a timer after the ack is stale": nothing(RELAYED, RelayTimeout(11)),
    "a timer of nothing": nothing(RELAYING, RelayTimeout(10)),
    "an ack of the round leaves relays alone": (
        BOTH, Ack(12), {}, replace(BOTH, round=None), (),
    ),
    "an ack of a relay leaves the round alone": (
        BOTH, Ack(11), {}, replace(BOTH, relays=Map()), (ACK,),
    ),
    "a nack is not for relays": nothing(RELAYING, Nack(11)),
    # the paper's early nack
    "an early nack": (
        IDLE, FROM_C, EARLY, RELAYING, (PINGED, After(400 * MS, RelayTimeout(11))),
    ),
    "an early nack leaves time for a late ack": (
        RELAYING, RelayTimeout(11), EARLY, RELAYING_QUIETLY,
        (NACK, After(100 * MS, RelayTimeout(11))),
    ),
    "a late ack after an early nack is passed on": (
        RELAYING_QUIETLY, Ack(11), EARLY, RELAYED, (ACK,),
    ),
    "then the relay is over": (RELAYING_QUIETLY, RelayTimeout(11), EARLY, RELAYED, ()),
    "without a nack there is nothing to be early": (
        IDLE, QUIET, EARLY, RELAYING_QUIETLY, (PINGED, After(500 * MS, RelayTimeout(11))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", RELAYS.values(), ids=RELAYS)
def test_relay(row: Row) -> None:
    check(row)


# --- answers ----------------------------------------------------------------------------

OBSERVED = Address(b"\x0a\0\0\xff", 40_000)  # where the packet came from
ANSWERS: dict[str, tuple[Ping, Address | None]] = {
    "a ping for this node is answered to where it says": (Ping(5, A, at(B), B), at(B)),
    "a ping for anybody is as well": (Ping(5, NodeId(""), at(B), B), at(B)),
    "a ping for somebody else is not": (Ping(5, C, at(B), B), None),
    "without a host it is answered to where it came from": (
        Ping(5, A, Address(b"", 7946), B), OBSERVED,
    ),
    "without a port it is answered to where it came from": (
        Ping(5, A, Address(at(B).host, 0), B), OBSERVED,
    ),
    "without a name of the pinger it is answered": (Ping(5, A, at(B), NodeId("")), at(B)),
    "a stranger is answered": (Ping(5, A, at("Z"), NodeId("Z")), at("Z")),
}  # fmt: skip


@pytest.mark.parametrize(("ping", "to"), ANSWERS.values(), ids=ANSWERS)
def test_answer(ping: Ping, to: Address | None) -> None:
    wanted = (Send(to, (Ack(5),), piggyback=True),) if to else ()
    assert answer(ping, OBSERVED, who(A)) == wanted


@pytest.mark.parametrize(("ping", "to"), ANSWERS.values(), ids=ANSWERS)
def test_answer_on_a_stream(ping: Ping, to: Address | None) -> None:
    """5.3: the reply takes the way back; a ping for somebody else is closed without one."""
    wanted = (Reply(3, Ack(5) if to else None),)
    assert answer_stream(ExchangeRequested(3, OBSERVED, ping), ping, who(A)) == wanted


STREAM_ACKS: dict[str, tuple[Probe, int, Probe]] = {
    "it is noted": (WITH_NACKS, 11, BY_STREAM),
    "of an earlier round it is stale": (WITH_NACKS, 10, WITH_NACKS),
    "of no round it is stale": (OVER, 11, OVER),
}


@pytest.mark.parametrize(("before", "seq_no", "after"), STREAM_ACKS.values(), ids=STREAM_ACKS)
def test_an_ack_over_a_stream(before: Probe, seq_no: int, after: Probe) -> None:
    assert stream_acked(before, seq_no) == after


# --- the start --------------------------------------------------------------------------


def test_alone_the_ticker_starts_and_the_list_is_through() -> None:
    assert start(Probe(7), NOW, 300 * MS, 1) == (
        Probe(7, tick=NOW + 300 * MS, grid=NOW + 300 * MS),
        (After(300 * MS, ProbeTick(NOW + 300 * MS)),),
    )


@pytest.mark.parametrize(("n", "bits"), [(2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)])
@pytest.mark.parametrize("seed", [7, 8, 9])
def test_in_a_group_the_walk_starts_anywhere(n: int, bits: int, seed: int) -> None:
    key, rng_ = rng.draw(seed)
    cursor, rng_ = rng.below(rng_, 1 << bits)
    page = rng.permute_page(key, bits, cursor // rng.PAGE * rng.PAGE)
    assert start(Probe(seed), NOW, 0, n) == (
        Probe(rng_, tick=NOW, grid=NOW, key=key, bits=bits, cursor=cursor, page=page),
        (After(0, ProbeTick(NOW)),),
    )


# --- the order of probes ----------------------------------------------------------------


def ticked(state: Probe, group_: Group, **settings: Any) -> tuple[Probe, NodeId | None]:
    """Whom the next tick probes; the probe is answered."""
    now, config = state.tick, replace(LAN, **settings)
    state, effects = step(state, now, ProbeTick(now), group_, 0, config)
    while effects and isinstance(effects[-1], Then):
        state, effects = step(state, now, effects[-1].news, group_, 0, config)
    if state.round is None:
        return state, None
    target = state.round.target
    return step(state, now, Ack(state.seq_no), group_, 0, config)[0], target


class Ring:
    """memberlist's probe ring (spec memberlist.md 6.3), transcribed; ``shuffle`` orders it."""

    def __init__(self, n: int) -> None:
        self.nodes: list[NodeId] = [NodeId("")] * n
        self.index = n  # through, as the walk is at first

    def tick(self, members: Members, shuffle: Any) -> NodeId | None:
        checked = 0
        while True:
            if checked >= len(self.nodes):
                return None
            if self.index >= len(self.nodes):
                self.nodes, self.index = shuffle(), 0
                checked += 1
                continue
            name = self.nodes[self.index]
            self.index += 1
            if name == A or members[name].status in (DEAD, LEFT):
                checked += 1
                continue
            return name


@given(
    st.integers(0, rng.MASK),
    st.lists(st.sampled_from(Status), min_size=0, max_size=8),
    st.lists(st.tuples(st.integers(1, 8), st.sampled_from(Status)) | st.none(), max_size=30),
)
def test_the_walk_is_memberlists_ring(
    seed: int, statuses: list[Status], changes: list[tuple[int, Status] | None]
) -> None:
    """Whoever is found, and the ticks that find nobody, agree with the ring for the same order,
    while members come to be suspected, die, leave and return."""
    names = "BCDEFGHI"
    members = group("A")
    for name, status in zip(names, statuses, strict=False):
        members = members.put(record(name, 1, status))
    n, state, keys = len(members), Probe(seed), seed
    ring = Ring(n)

    def shuffle() -> list[NodeId]:
        nonlocal keys
        key, keys = rng.draw(keys)
        bits = (n - 1).bit_length()
        slots = [permute(key, bits, index) for index in range(1 << bits)]
        by_slot = list(members)
        return [by_slot[slot].peer.name for slot in slots if slot < n]

    for change in (None, *changes, None):
        if change is not None and change[0] < n:
            members = members.put(record(names[change[0] - 1], 2, change[1]))
        state, target = ticked(state, Group(who(A), members))
        if members.present == 1:  # a walk in vain is cut short, and begins anew the next time
            assert target is None
            ring.index = n
        else:
            assert target == ring.tick(members, shuffle)


@pytest.mark.parametrize(("n", "share"), [(2, 4 / 7), (3, 0.95), (4, 1.0), (5, 1.0), (8, 1.0)])
def test_tiny_groups_skip_ticks(n: int, share: float) -> None:
    """6.3, P30: two nodes probe on 57 % of ticks, three on 95 %, four and more on all."""
    state, together, probes = Probe(rng.seed("tiny", n)), Group(who(A), group("ABCDEFGH"[:n])), 0
    for _ in range(4000):
        state, target = ticked(state, together)
        probes += target is not None
    assert abs(probes / 4000 - share) < 0.02
    if share == 1:
        assert probes == 4000


def test_the_ring_itself_skips_as_many() -> None:
    """The shares of the specification come out of its own loop with a fair shuffle."""
    random = Random(1)
    for n, share in ((2, 4 / 7), (3, 0.95), (4, 1.0)):
        members, ring = group("ABCD"[:n]), Ring(n)

        def shuffle(members: Members = members) -> list[NodeId]:
            names = [member.peer.name for member in members]
            random.shuffle(names)
            return names

        probes = sum(ring.tick(members, shuffle) is not None for _ in range(8000))
        assert abs(probes / 8000 - share) < 0.02


@given(st.integers(0, rng.MASK), st.integers(4, 20))
def test_each_round_of_the_list_visits_everybody_once(seed: int, n: int) -> None:
    together = Group(who(A), group("ABCDEFGHIJKLMNOPQRST"[:n]))
    state, visits = Probe(seed), []
    for _ in range(3 * (n - 1)):
        state, target = ticked(state, together)
        visits.append(target)
    for begin in range(0, len(visits), n - 1):
        assert set(visits[begin : begin + n - 1]) == set(together.members.slots) - {A}


@given(st.integers(0, rng.MASK), st.integers(4, 12), st.integers(0, 40))
def test_a_newcomer_is_probed_in_this_round_or_the_next(seed: int, n: int, when: int) -> None:
    """SWIM 4.3 puts it at a random place in the list."""
    newcomer, names = NodeId("Z"), "ABCDEFGHIJKL"[:n]
    before, after = group(names), group(names).put(record("Z"))
    state = Probe(seed)
    for _ in range(when):
        state, _ = ticked(state, Group(who(A), before))
    seen = []
    for _ in range(2 * n):
        state, target = ticked(state, Group(who(A), after))
        seen.append(target)
    assert newcomer in seen


def test_a_random_order_picks_anybody_at_any_time() -> None:
    """SWIM 3.1 before 4.3: uniform, and without memory."""
    together, state = Group(who(A), others(record(D, 1, SUSPECT))), Probe(rng.seed("random"))
    picked: Counter[tuple[NodeId | None, NodeId | None]] = Counter()
    last: NodeId | None = None
    for _ in range(9000):
        state, target = ticked(state, together, probe_order="random")
        picked[last, target] += 1
        last = target
    pairs = [picked[one, other] for one in (B, C, D) for other in (B, C, D)]
    assert sum(pairs) == 8999
    assert min(pairs) > 850
    assert max(pairs) < 1150


def test_a_random_order_draws_one_member_a_tick() -> None:
    (picked,), rng_ = TOGETHER.sample(IDLE.rng, 1, lambda member: member.peer.name != A)
    name = picked.peer.name
    after = replace(probing(target=name), rng=rng_, cursor=2)
    ping = Send(at(name), (replace(PING, target=name),), piggyback=True)
    check((IDLE, ProbeTick(NOW), {"probe_order": "random"}, after, (ping, OVERDUE, NEXT)))


def test_a_random_order_ends_a_round_after_as_many_picks_as_members() -> None:
    """So that the long gone are forgotten there as well."""
    together, state, ends = Group(who(A), TOGETHER), Probe(7, cursor=0), []
    config = replace(LAN, probe_order="random")
    for tick in range(12):
        now = tick * SECOND
        state, effects = step(replace(state, tick=now), now, ProbeTick(now), together, 0, config)
        if Then(RoundEnded()) in effects:
            ends.append(tick)
            state, effects = step(state, now, ProbeNext(0), together, 0, config)
        assert state.round is not None
        state = step(state, now, Ack(state.seq_no), together, 0, config)[0]
    assert ends == [4, 8]


RANDOM = {"probe_order": "random"}
NOBODY: dict[str, Members] = {
    "alone": group("A"),
    "all others gone": GONE,
}


@pytest.mark.parametrize("members", NOBODY.values(), ids=NOBODY)
def test_a_random_order_without_anybody_to_probe_rests(members: Members) -> None:
    state, target = ticked(replace(IDLE, cursor=0), Group(who(A), members), **RANDOM)
    assert target is None
    assert state.tick == NOW + SECOND


@pytest.mark.timeout(10)
@pytest.mark.parametrize("order", ["round_robin", "random"])
def test_a_prober_that_knows_nobody_comes_to_rest(order: str) -> None:
    """``step`` is total: a tick of a node that has not started asks for an end as well."""
    state, asked_for = Probe(7, cursor=0), [ProbeTick(0)]
    config = replace(LAN, probe_order=order)
    for _ in range(100):
        if not asked_for:
            break
        state, effects = step(state, 0, asked_for.pop(0), Group(who(A), EMPTY), 0, config)
        thens = [effect.news for effect in effects if isinstance(effect, Then)]
        asked_for += [news for news in thens if isinstance(news, ProbeNext)]
    assert asked_for == []
    assert state.round is None


# --- properties -------------------------------------------------------------------------

STATES = [IDLE, PROBING, ASKED, WITH_NACKS, BY_STREAM, KEPT, OVER, RELAYING, BOTH, THROUGH]
NUMBERS = st.sampled_from([0, 1, 10, 11, 12, 13, 99, U32])
INPUTS = st.one_of(
    st.builds(Ack, NUMBERS),
    st.builds(Nack, NUMBERS),
    st.builds(ProbeTimeout, NUMBERS),
    st.builds(RelayTimeout, NUMBERS),
    st.builds(ProbeTick, st.integers(0, 4).map(lambda s: NOW + s * SECOND)),
    st.builds(replace, st.just(FROM_C), nack=st.booleans()),
)


@given(
    st.sampled_from(STATES),
    INPUTS,
    st.integers(0, 7),
    st.sampled_from([LAN, WAN, replace(LAN, nack_percent=80)]),
)
def test_an_input_that_changes_nothing_has_no_effect(
    state: Probe, input: Any, health: int, config: Any
) -> None:
    now = max(NOW, input.at) if isinstance(input, ProbeTick) else NOW  # no timer is early
    after, effects = step(state, now, input, Group(who(A), TOGETHER), health, config)
    if after == state:
        assert effects == ()


@given(st.sampled_from(STATES), INPUTS, st.integers(0, 7))
def test_numbers_rise_by_one_for_each_ping(state: Probe, input: Any, health: int) -> None:
    after, effects = step(state, NOW, input, Group(who(A), TOGETHER), health, LAN)
    pings = [send for send in of_type(Send, effects) if isinstance(send.messages[0], Ping)]
    assert after.seq_no - state.seq_no == len(pings)
    assert [send.messages[0].seq_no for send in pings] == list(
        range(state.seq_no + 1, after.seq_no + 1)
    )
