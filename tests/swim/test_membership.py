"""News about members, merged: SWIM 4.2, spec memberlist.md 6.8 to 6.14, case by case."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    Cleared,
    Conflict,
    Effect,
    Emit,
    Failed,
    Joined,
    LeaveFinished,
    Left,
    Refuted,
    Suspected,
    Then,
    Updated,
    UpdateFinished,
)
from swimsim.inputs import (
    Announce,
    Announced,
    HealthChange,
    Leave,
    LeaveTimeout,
    Lost,
    ProbeFailed,
    Regained,
    RoundEnded,
    Start,
    SuspicionTimeout,
    UpdateMeta,
)
from swimsim.member import ALIVE, DEAD, LEFT, SUSPECT, Member, Peer
from swimsim.members import EMPTY
from swimsim.messages import Alive, Dead, Suspect
from swimsim.swim.membership import Membership, MembershipInput, step
from swimsim.swim.suspicion import Suspicion
from swimsim.terms import MS, SECOND, U32, Address, Micros, NodeId
from tests.builders import STRANGER, VSN, A, B, C, D, E, at, events, group, record, table, who

Row: TypeAlias = tuple[Membership, MembershipInput, Membership, tuple[Effect, ...]]

NOW = 100 * SECOND
BEFORE = 90 * SECOND  # when C was suspected, D died and E left
ELSEWHERE = at("x")
MAPPED = Address(bytes(10) + b"\xff\xff" + at(B).host, 7946)

# What A knows: one of each kind, all in incarnation 5; A itself speaks in incarnation 3.
SUSPICION = Suspicion(BEFORE, BEFORE + 24 * SECOND, 4 * SECOND, 24 * SECOND, 2, (B,))
KNOWN = Membership(
    who(A),
    incarnation=3,
    members=table(
        record(A, 3),
        record(B, 5),
        record(C, 5, SUSPECT),
        record(D, 5, DEAD),
        record(E, 5, LEFT),
    ),
    suspicions=Map({C: SUSPICION}),
    departed=Map({D: BEFORE, E: BEFORE}),
)
ALL_WELL = Membership(who(A), incarnation=3, members=group("BCDE").put(record(A, 3)))


def but(state: Membership, *members: Member, **fields: Any) -> Membership:
    """The same state but for these records and fields."""
    known = state.members
    for member in members:
        known = known.put(member)
    return replace(state, members=known, **fields)


LEAVING = but(
    KNOWN, record(A, 3, LEFT), leaving=True, departed=Map({A: BEFORE, D: BEFORE, E: BEFORE})
)


def repeated(news: Alive | Suspect | Dead, *told: Effect) -> tuple[Effect, ...]:
    """The news is passed on, and then this."""
    return (Then(Announce(news)), *told)


def joined(about: Peer, incarnation: int) -> tuple[Effect, ...]:
    return Then(Regained(about.name)), Emit(Joined(about, incarnation))


def refuted(state: Membership, incarnation: int) -> tuple[Membership, tuple[Effect, ...]]:
    """A answers with this incarnation."""
    answer = Alive(incarnation, state.me)
    after = but(state, Member(state.me, incarnation, ALIVE), incarnation=incarnation)
    return after, repeated(answer, Then(HealthChange(+1)), Emit(Refuted(incarnation)))


def nothing(state: Membership, input: MembershipInput) -> Row:
    return state, input, state, ()


def check(row: Row, config: Config = LAN, now: Micros = NOW) -> None:
    before, input, after, effects = row
    assert step(before, now, input, config) == (after, effects)


# --- alive (6.9) ------------------------------------------------------------------------


def alive(name: str, incarnation: int, meta: bytes = b"", **fields: Any) -> Alive:
    return Alive(incarnation, who(name, meta, **fields))


def taken(name: str, incarnation: int, *told: Effect, **fields: Any) -> Row:
    """KNOWN takes in an alive about ``name``."""
    news = alive(name, incarnation, **fields)
    after = but(
        KNOWN,
        record(name, incarnation, **fields),
        suspicions=KNOWN.suspicions.delete(name) if name == C else KNOWN.suspicions,
        departed=KNOWN.departed.delete(name) if name in (D, E) else KNOWN.departed,
    )
    return KNOWN, news, after, repeated(news, *told)


def clash(known: Membership, news: Alive) -> Row:
    """The name is taken."""
    return known, news, known, (Emit(Conflict(known.members[news.peer.name].peer, news.peer)),)


OTHER_VSN = bytes((1, 5, 2, 2, 5, 4))

ALIVE_TABLE: dict[str, Row] = {
    # somebody new
    "a new member joins": taken(STRANGER, 1, *joined(who(STRANGER, b"m"), 1), meta=b"m"),
    "a new member may be of any incarnation": taken(STRANGER, U32, *joined(who(STRANGER), U32)),
    "incarnation zero makes no record (memberlist: a zombie)": nothing(KNOWN, alive(STRANGER, 0)),
    # somebody known: incarnations
    "a higher incarnation is repeated": taken(B, 6),
    "the same incarnation is no news": nothing(KNOWN, alive(B, 5)),
    "a lower incarnation is no news": nothing(KNOWN, alive(B, 4)),
    "the same incarnation with other metadata is no news": nothing(KNOWN, alive(B, 5, b"m")),
    "other metadata is an update": taken(B, 6, Emit(Updated(who(B, b"m"), 6)), meta=b"m"),
    "other versions alone are told to nobody": taken(B, 6, vsn=OTHER_VSN),
    # a suspect
    "only a higher incarnation clears a suspect": taken(C, 6, Emit(Cleared(C, 6))),
    "the same incarnation never clears a suspect (P6)": nothing(KNOWN, alive(C, 5)),
    "a lower incarnation never clears a suspect": nothing(KNOWN, alive(C, 4)),
    "a suspect may be cleared and updated": taken(
        C, 6, Emit(Cleared(C, 6)), Emit(Updated(who(C, b"m"), 6)), meta=b"m"
    ),
    # the departed
    "the dead come back in a higher incarnation": taken(D, 6, *joined(who(D), 6)),
    "the dead do not come back in the same incarnation": nothing(KNOWN, alive(D, 5)),
    "the dead do not come back in a lower incarnation": nothing(KNOWN, alive(D, 4)),
    "who has left comes back in a higher incarnation": taken(E, 6, *joined(who(E), 6)),
    "who has left does not come back in the same incarnation": nothing(KNOWN, alive(E, 5)),
    "who comes back with other metadata joins and is not updated": taken(
        D, 6, *joined(who(D, b"m"), 6), meta=b"m"
    ),
    # versions
    "no versions": nothing(KNOWN, alive(STRANGER, 1, vsn=b"")),
    "five versions": nothing(KNOWN, alive(STRANGER, 1, vsn=VSN[:5])),
    "seven versions": nothing(KNOWN, alive(STRANGER, 1, vsn=VSN + b"\0")),
    "a least version of zero": nothing(KNOWN, alive(B, 6, vsn=bytes((0, 5, 2, 2, 5, 5)))),
    "a greatest version of zero": nothing(KNOWN, alive(B, 6, vsn=bytes((0, 0, 0, 2, 5, 5)))),
    "versions upside down": nothing(KNOWN, alive(B, 6, vsn=bytes((5, 1, 2, 2, 5, 5)))),
    "one version only": taken(
        STRANGER,
        1,
        *joined(who(STRANGER, vsn=bytes((2, 2, 2, 2, 5, 5))), 1),
        vsn=bytes((2, 2, 2, 2, 5, 5)),
    ),
    "the current version is not looked at": taken(B, 6, vsn=bytes((1, 5, 9, 2, 5, 5))),
    "not even when it is below the least": taken(B, 6, vsn=bytes((3, 5, 2, 2, 5, 5))),
    "nor does it excuse the others": nothing(KNOWN, alive(B, 6, vsn=bytes((3, 2, 3, 2, 5, 5)))),
    "insane versions about oneself": nothing(KNOWN, alive(A, 9, vsn=b"")),
    # another address
    "a living member's name is taken": clash(KNOWN, alive(B, 5, address=ELSEWHERE)),
    "whatever the incarnation": clash(KNOWN, alive(B, 99, address=ELSEWHERE)),
    "even a stale one": clash(KNOWN, alive(B, 1, address=ELSEWHERE)),
    "another port is another address": clash(KNOWN, alive(B, 6, address=at(B, 7947))),
    "the same address in other bytes is another (P5)": clash(KNOWN, alive(B, 6, address=MAPPED)),
    "a suspect's name is taken": clash(KNOWN, alive(C, 6, address=ELSEWHERE)),
    "a dead member's name is taken": clash(KNOWN, alive(D, 6, address=ELSEWHERE)),
    "the name of who has left is free": taken(
        E, 6, *joined(who(E, address=ELSEWHERE), 6), address=ELSEWHERE
    ),
    "even in a lower incarnation": taken(
        E, 1, *joined(who(E, address=ELSEWHERE), 1), address=ELSEWHERE
    ),
    "but not in incarnation zero": nothing(KNOWN, alive(E, 0, address=ELSEWHERE)),
    "one's own name is taken": clash(KNOWN, alive(A, 3, address=ELSEWHERE)),
    "one's own name is taken whatever the incarnation": clash(
        KNOWN, alive(A, 99, address=ELSEWHERE)
    ),
    "insane versions raise no conflict": nothing(KNOWN, alive(B, 6, address=ELSEWHERE, vsn=b"")),
    # oneself
    "one's own words come back": nothing(KNOWN, alive(A, 3)),
    "one's own words of long ago": nothing(KNOWN, alive(A, 2, b"old")),
    "a claim beyond what one said": (KNOWN, alive(A, 7), *refuted(KNOWN, 8)),
    "other metadata than one said": (KNOWN, alive(A, 3, b"m"), *refuted(KNOWN, 4)),
    "other versions than one said": (KNOWN, alive(A, 3, vsn=OTHER_VSN), *refuted(KNOWN, 4)),
    "a claim that nothing can answer (P20)": nothing(KNOWN, alive(A, U32)),
    "the last claim that can be answered": (KNOWN, alive(A, U32 - 1), *refuted(KNOWN, U32)),
    "who has left hears nothing of itself": nothing(LEAVING, alive(A, 7)),
    "nor of a conflict": nothing(LEAVING, alive(A, 7, address=ELSEWHERE)),
}


@pytest.mark.parametrize("row", ALIVE_TABLE.values(), ids=ALIVE_TABLE)
def test_alive(row: Row) -> None:
    check(row)


RECLAIM = replace(LAN, dead_node_reclaim_time=10 * SECOND)
AGED: dict[str, tuple[Micros, bool]] = {
    "just dead": (BEFORE, False),
    "as long as it takes": (BEFORE + 10 * SECOND, False),
    "longer": (BEFORE + 10 * SECOND + 1, True),
}


@pytest.mark.parametrize(("now", "free"), AGED.values(), ids=AGED)
def test_the_name_of_the_dead_is_free_after_the_reclaim_time(now: Micros, free: bool) -> None:
    news = alive(D, 1, address=ELSEWHERE)
    moved = taken(D, 1, *joined(who(D, address=ELSEWHERE), 1), address=ELSEWHERE)
    check(moved if free else clash(KNOWN, news), RECLAIM, now)
    check(clash(KNOWN, alive(B, 9, address=ELSEWHERE)), RECLAIM, now)
    check(clash(KNOWN, alive(C, 9, address=ELSEWHERE)), RECLAIM, now)


def test_the_dead_do_not_come_back_by_reclaiming_from_their_old_address() -> None:
    check(nothing(KNOWN, alive(D, 5)), RECLAIM, BEFORE + 60 * SECOND)


INSIDE = Address(b"\xc0\xa8\1\1", 1)
OUTSIDE = Address(b"\xc0\xa9\1\1", 1)
INSIDE_6 = Address(bytes.fromhex("fd00000000000000000000000000002a"), 1)
OUTSIDE_6 = Address(bytes.fromhex("fe00000000000000000000000000002a"), 1)
FILTER = replace(LAN, allowed_networks=("192.168.0.0/16", "fd00::/16"))

FILTERED: dict[str, Row] = {
    "a stranger from inside": taken(
        STRANGER, 1, *joined(who(STRANGER, address=INSIDE), 1), address=INSIDE
    ),
    "a stranger from inside, IPv6": taken(
        STRANGER, 1, *joined(who(STRANGER, address=INSIDE_6), 1), address=INSIDE_6
    ),
    "a stranger from outside": nothing(KNOWN, alive(STRANGER, 1, address=OUTSIDE)),
    "a stranger from outside, IPv6": nothing(KNOWN, alive(STRANGER, 1, address=OUTSIDE_6)),
    "a stranger from nowhere": nothing(KNOWN, alive(STRANGER, 1, address=Address(b"\xc0\xa8", 1))),
    "a member that does not move": taken(B, 6),
    "a name that moves outside raises no conflict": nothing(KNOWN, alive(B, 6, address=OUTSIDE)),
    "a name that moves inside does": clash(KNOWN, alive(B, 6, address=INSIDE)),
    "the name of who has left is not free outside": nothing(KNOWN, alive(E, 6, address=OUTSIDE)),
}


@pytest.mark.parametrize("row", FILTERED.values(), ids=FILTERED)
def test_only_allowed_networks_may_be_new(row: Row) -> None:
    check(row, FILTER)


def test_an_ipv4_address_is_in_its_network_in_its_mapped_form_too() -> None:
    """Agents bound to 0.0.0.0 advertise the 16-byte form (spec 1); Go's filter sees through it."""
    mapped = Address(bytes(10) + b"\xff\xff" + INSIDE.host, 1)
    check(taken(STRANGER, 1, *joined(who(STRANGER, address=mapped), 1), address=mapped), FILTER)


# --- suspect (6.10, 6.8) ----------------------------------------------------------------


def suspected(
    state: Membership,
    news: Suspect,
    wait: Micros = 24 * SECOND,
    least: Micros = 4 * SECOND,
    k: int = 2,
) -> Row:
    """A suspicion begins."""
    begun = Suspicion(NOW, NOW + wait, least, wait, k, (news.source,))
    after = but(
        state,
        record(news.node, news.incarnation, SUSPECT),
        suspicions=state.suspicions.set(news.node, begun),
    )
    return state, news, after, repeated(
        news,
        After(wait, SuspicionTimeout(news.node, NOW)),
        Emit(Suspected(news.node, news.incarnation, news.source)),
    )  # fmt: skip


def confirmed(state: Membership, news: Suspect, wait: Micros) -> Row:
    """The running suspicion of C gains an accuser; it ends ``wait`` after it began."""
    running = state.suspicions[C]
    shorter = replace(
        running, deadline=running.started + wait, accusers=(*running.accusers, news.source)
    )
    after = replace(state, suspicions=state.suspicions.set(C, shorter))
    left = max(0, shorter.deadline - NOW)
    return state, news, after, repeated(news, After(left, SuspicionTimeout(C, BEFORE)))


TWO_OF_THREE = confirmed(KNOWN, Suspect(5, C, D), 11_381 * MS)[2]
ALL_THREE = confirmed(TWO_OF_THREE, Suspect(5, C, E), 4 * SECOND)[2]
PAIR = Membership(who(A), 3, table(record(A, 3), record(B, 5)))

SUSPECT_TABLE: dict[str, Row] = {
    "a stranger is not suspected": nothing(KNOWN, Suspect(5, STRANGER, B)),
    "a member is suspected in its incarnation": suspected(KNOWN, Suspect(5, B, C)),
    "or in a higher one, which the record takes on": suspected(KNOWN, Suspect(8, B, C)),
    "an accusation of the past is stale": nothing(KNOWN, Suspect(4, B, C)),
    "among two there is nobody to confirm": suspected(
        PAIR, Suspect(5, B, A), wait=4 * SECOND, k=0
    ),
    "a second accuser shortens the wait": confirmed(KNOWN, Suspect(5, C, D), 11_381 * MS),
    "a third accuser shortens it to the least, which is over": confirmed(
        TWO_OF_THREE, Suspect(5, C, E), 4 * SECOND
    ),
    "a fourth does not count": nothing(ALL_THREE, Suspect(5, C, A)),
    "the first accuser is heard once": nothing(KNOWN, Suspect(5, C, B)),
    "the second accuser is heard once": nothing(TWO_OF_THREE, Suspect(5, C, D)),
    "a confirmation of the past is stale": nothing(KNOWN, Suspect(4, C, D)),
    "a confirmation does not raise the incarnation (P21)": confirmed(
        KNOWN, Suspect(9, C, D), 11_381 * MS
    ),
    "the dead are not suspected": nothing(KNOWN, Suspect(5, D, B)),
    "the dead are not suspected in a higher incarnation": nothing(KNOWN, Suspect(9, D, B)),
    "nor who has left": nothing(KNOWN, Suspect(9, E, B)),
    "oneself: an accusation of the past is stale": nothing(KNOWN, Suspect(2, A, B)),
    "oneself: it is refuted": (KNOWN, Suspect(3, A, B), *refuted(KNOWN, 4)),
    "oneself: it is refuted above a higher one": (KNOWN, Suspect(9, A, B), *refuted(KNOWN, 10)),
    "oneself: the last that can be refuted": (
        KNOWN, Suspect(U32 - 1, A, B), *refuted(KNOWN, U32),
    ),
    "oneself: nothing answers the last incarnation (P20)": nothing(KNOWN, Suspect(U32, A, B)),
    "oneself: who has left does not refute": nothing(LEAVING, Suspect(3, A, B)),
    "oneself: even its own accusation is refuted": (KNOWN, Suspect(3, A, A), *refuted(KNOWN, 4)),
    "a probe that failed is an accusation by oneself": (
        KNOWN, ProbeFailed(B, 5), *suspected(KNOWN, Suspect(5, B, A))[2:],
    ),
    "a probe that failed of a suspect confirms": (
        KNOWN, ProbeFailed(C, 5), *confirmed(KNOWN, Suspect(5, C, A), 11_381 * MS)[2:],
    ),
    "a probe that failed of who refuted meanwhile": nothing(KNOWN, ProbeFailed(B, 4)),
    "a probe that failed of who died meanwhile": nothing(KNOWN, ProbeFailed(D, 5)),
    "a probe that failed of who was forgotten meanwhile": nothing(KNOWN, ProbeFailed(STRANGER, 1)),
}  # fmt: skip


@pytest.mark.parametrize("row", SUSPECT_TABLE.values(), ids=SUSPECT_TABLE)
def test_suspect(row: Row) -> None:
    check(row)


SETTINGS: dict[str, tuple[dict[str, Any], Row]] = {
    "the paper's K of three": (
        {"max_confirmations": 3}, suspected(ALL_WELL, Suspect(1, B, C), k=3),
    ),
    "without LHA-Suspicion the wait is the least": (
        {"lha_suspicion": False}, suspected(ALL_WELL, Suspect(1, B, C), wait=4 * SECOND, k=0),
    ),
    "the natural scale": (
        {"suspicion_scale": "ln"},
        suspected(ALL_WELL, Suspect(1, B, C), wait=48 * SECOND, least=8 * SECOND),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "row"), SETTINGS.values(), ids=SETTINGS)
def test_suspect_by_other_rules(settings: dict[str, Any], row: Row) -> None:
    check(row, replace(LAN, **settings))


# --- dead (6.11) and the end of a suspicion ---------------------------------------------


def died(state: Membership, news: Dead) -> Row:
    facts = (news.node, news.incarnation, news.source)
    told: tuple[Effect, ...] = (Then(Lost(who(news.node))), Emit(Failed(*facts)))
    if news.node == news.source:
        told = (Emit(Left(*facts)),)
    after = but(
        state,
        record(news.node, news.incarnation, LEFT if news.node == news.source else DEAD),
        suspicions=state.suspicions.delete(news.node) if news.node == C else state.suspicions,
        departed=state.departed.set(news.node, NOW),
    )
    return state, news, after, repeated(news, *told)


EXPIRED = but(KNOWN, suspicions=Map({C: replace(SUSPICION, deadline=NOW)}))
AT_ONCE = replace(LAN, suspicion=False)

DEAD_TABLE: dict[str, Row] = {
    "a stranger does not die": nothing(KNOWN, Dead(5, STRANGER, B)),
    "a member dies": died(KNOWN, Dead(5, B, C)),
    "in a higher incarnation": died(KNOWN, Dead(8, B, C)),
    "a death of the past is stale": nothing(KNOWN, Dead(4, B, C)),
    "a suspect dies": died(KNOWN, Dead(5, C, B)),
    "a suspect's death of the past is stale": nothing(KNOWN, Dead(4, C, B)),
    "a member leaves": died(KNOWN, Dead(5, B, B)),
    "a suspect leaves": died(KNOWN, Dead(5, C, C)),
    "nobody dies twice": nothing(KNOWN, Dead(5, D, B)),
    "nor again in a higher incarnation (P21)": nothing(KNOWN, Dead(9, D, B)),
    "the dead do not leave": nothing(KNOWN, Dead(5, D, D)),
    "who has left does not die": nothing(KNOWN, Dead(9, E, B)),
    "oneself: a death of the past is stale": nothing(KNOWN, Dead(2, A, B)),
    "oneself: it is refuted": (KNOWN, Dead(3, A, B), *refuted(KNOWN, 4)),
    "oneself: above a higher one": (KNOWN, Dead(9, A, B), *refuted(KNOWN, 10)),
    "oneself: a farewell of an earlier life is refuted": (
        KNOWN, Dead(9, A, A), *refuted(KNOWN, 10),
    ),
    "oneself: nothing answers the last incarnation (P20)": nothing(KNOWN, Dead(U32, A, B)),
    "oneself: who has left is gone already": nothing(LEAVING, Dead(3, A, A)),
    "oneself: who has left does not refute": nothing(LEAVING, Dead(9, A, B)),
    "nobody refuted in time": (
        EXPIRED, SuspicionTimeout(C, BEFORE), *died(EXPIRED, Dead(5, C, A))[2:],
    ),
    "a timer of before a confirmation is early": nothing(KNOWN, SuspicionTimeout(C, BEFORE)),
    "a timer of an earlier suspicion is stale": nothing(EXPIRED, SuspicionTimeout(C, BEFORE - 1)),
    "a timer of a suspicion that was refuted": nothing(KNOWN, SuspicionTimeout(B, BEFORE)),
    "a timer of the suspicion of who died": nothing(KNOWN, SuspicionTimeout(D, BEFORE)),
    "a timer of who was forgotten": nothing(KNOWN, SuspicionTimeout(STRANGER, BEFORE)),
}  # fmt: skip


@pytest.mark.parametrize("row", DEAD_TABLE.values(), ids=DEAD_TABLE)
def test_dead(row: Row) -> None:
    check(row)


FINAL = {
    "nobody answers a verdict about itself": nothing(KNOWN, Dead(9, A, B)),
    "the dead do not come back": nothing(KNOWN, alive(D, 6)),
    "the suspected still do": taken(C, 6, Emit(Cleared(C, 6))),
    "the left still do": taken(E, 6, *joined(who(E), 6)),
}


@pytest.mark.parametrize("row", FINAL.values(), ids=FINAL)
def test_in_swim_a_death_is_final(row: Row) -> None:
    check(row, replace(LAN, refute_death=False))


def test_without_suspicion_a_failed_probe_is_a_death() -> None:
    """SWIM 3, before suspicion is introduced in 4.2."""
    before, _, after, effects = died(KNOWN, Dead(5, B, A))
    check((before, ProbeFailed(B, 5), after, effects), AT_ONCE)
    check(nothing(KNOWN, ProbeFailed(B, 4)), AT_ONCE)


def test_the_worked_example_of_the_specification() -> None:
    """6.8, LAN, N = 5: 24 s alone, 11.381 s with one confirmation, 4 s with two."""
    state, waits = ALL_WELL, []
    for accuser in (B, C, D):
        state, effects = step(state, NOW, Suspect(1, E, accuser), LAN)
        waits += [effect.delay for effect in effects if isinstance(effect, After)]
    assert waits == [24 * SECOND, 11_381 * MS, 4 * SECOND]
    timeout = SuspicionTimeout(E, NOW)
    early, effects = step(state, NOW + 4 * SECOND - 1, timeout, LAN)
    assert (early, effects) == (state, ())
    _, effects = step(state, NOW + 4 * SECOND, timeout, LAN)
    assert events(effects) == [Failed(E, 1, A)]


def test_a_late_confirmation_ends_the_wait_at_once() -> None:
    state, _ = step(ALL_WELL, NOW, Suspect(1, E, B), LAN)
    later = NOW + 12 * SECOND
    state, effects = step(state, later, Suspect(1, E, C), LAN)
    assert After(0, SuspicionTimeout(E, NOW)) in effects
    _, effects = step(state, later, SuspicionTimeout(E, NOW), LAN)
    assert events(effects) == [Failed(E, 1, A)]


def test_a_suspicion_counts_everybody_known() -> None:
    """N is the length of the list, the dead and oneself included (6.1, P15)."""
    crowd = but(ALL_WELL, *(record(f"{i}", 1, DEAD, address=at("x")) for i in range(7)))
    _, effects = step(crowd, NOW, Suspect(1, B, C), LAN)
    assert effects[1] == After(6 * 4316 * MS, SuspicionTimeout(B, NOW))  # N = 12


# --- who is long gone (6.3) -------------------------------------------------------------

AFTER_30 = BEFORE + 30 * SECOND
FORGOTTEN = replace(KNOWN, members=KNOWN.members.remove(D).remove(E), departed=Map())
ROUND: dict[str, tuple[Membership, Micros, Membership]] = {
    "the dead and who has left are kept for a while": (KNOWN, AFTER_30, KNOWN),
    "then they are forgotten": (KNOWN, AFTER_30 + 1, FORGOTTEN),
    "one after the other": (
        replace(KNOWN, departed=Map({D: BEFORE, E: BEFORE + 1})),
        AFTER_30 + 1,
        replace(KNOWN, members=KNOWN.members.remove(D), departed=Map({E: BEFORE + 1})),
    ),
    "oneself is never forgotten": (
        LEAVING,
        AFTER_30 + 1,
        replace(LEAVING, members=LEAVING.members.remove(D).remove(E), departed=Map({A: BEFORE})),
    ),
    "nobody is gone": (ALL_WELL, AFTER_30 + 1, ALL_WELL),
}


@pytest.mark.parametrize(("before", "now", "after"), ROUND.values(), ids=ROUND)
def test_the_long_gone_are_forgotten_when_a_round_of_the_list_ends(
    before: Membership, now: Micros, after: Membership
) -> None:
    check((before, RoundEnded(), after, ()), LAN, now)


# --- start, update, leave (6.2, 6.14) ---------------------------------------------------

FRESH = Membership(who(A, b"m"))
BORN = Membership(who(A, b"m"), 1, table(record(A, 1, meta=b"m")))
LONELY = Membership(who(A), 3, table(record(A, 3)))
WIDOWED = Membership(  # all others are gone
    who(A), 3, table(record(A, 3), record(D, 5, DEAD), record(E, 5, LEFT)),
    departed=Map({D: BEFORE, E: BEFORE}),
)  # fmt: skip


def updated(state: Membership, meta: bytes) -> Membership:
    me = who(A, meta)
    number = state.incarnation + 1
    return but(state, Member(me, number, ALIVE), me=me, incarnation=number)


def left(state: Membership, *, waiting: bool) -> Membership:
    return but(
        state,
        Member(state.me, state.incarnation, LEFT),
        leaving=True,
        waiting=waiting,
        departed=state.departed.set(A, NOW),
    )


TWO_SUSPECTS = table(record(A), record(B, 1, SUSPECT), record(C, 1, SUSPECT), record(D))
LAST_BUT_ONE = but(KNOWN, record(A, U32 - 1), incarnation=U32 - 1)
LAST = but(KNOWN, record(A, U32), incarnation=U32)
NEWS = Alive(4, who(A, b"new"))
FAREWELL = Dead(3, A, A)
WAITING = left(KNOWN, waiting=True)

OWNER: dict[str, Row] = {
    "a node begins with the first incarnation": (
        FRESH, Start(), BORN,
        repeated(Alive(1, who(A, b"m")), Emit(Joined(who(A, b"m"), 1))),
    ),
    "a node wakes in a settled group": (
        Membership(who(A)), Start(ALL_WELL.members), ALL_WELL, (),
    ),
    "what is suspect, dead or gone in its table begins to age": (
        Membership(who(A)), Start(KNOWN.members),
        replace(
            KNOWN,
            suspicions=Map(
                {C: Suspicion(NOW, NOW + 24 * SECOND, 4 * SECOND, 24 * SECOND, 2, (A,))}
            ),
            departed=Map({D: NOW, E: NOW}),
        ),
        (After(24 * SECOND, SuspicionTimeout(C, NOW)),),
    ),
    "each suspect on its own": (
        Membership(who(A)), Start(TWO_SUSPECTS),
        Membership(
            who(A), 1, TWO_SUSPECTS,
            suspicions=Map({
                name: Suspicion(NOW, NOW + 24 * SECOND, 4 * SECOND, 24 * SECOND, 2, (A,))
                for name in (B, C)
            }),
        ),
        tuple(After(24 * SECOND, SuspicionTimeout(name, NOW)) for name in (B, C)),
    ),
    "the last incarnation is used": (
        LAST_BUT_ONE, UpdateMeta(b"new"), updated(LAST_BUT_ONE, b"new"),
        (
            Then(Announce(Alive(U32, who(A, b"new")), notify=True)),
            Emit(Updated(who(A, b"new"), U32)),
        ),
    ),
    "after the last incarnation there is nothing new to say": (
        LAST, UpdateMeta(b"new"), LAST, (Emit(UpdateFinished(U32)),),
    ),
    "new metadata is a new incarnation": (
        KNOWN, UpdateMeta(b"new"), updated(KNOWN, b"new"),
        (Then(Announce(NEWS, notify=True)), Emit(Updated(NEWS.peer, 4))),
    ),
    "a suspect is somebody to tell": (
        but(KNOWN, record(B, 5, DEAD), departed=KNOWN.departed.set(B, NOW)),
        UpdateMeta(b"new"),
        updated(but(KNOWN, record(B, 5, DEAD), departed=KNOWN.departed.set(B, NOW)), b"new"),
        (Then(Announce(NEWS, notify=True)), Emit(Updated(NEWS.peer, 4))),
    ),
    "an update is finished when it has been sent": (
        KNOWN, Announced(Alive(3, who(A))), KNOWN, (Emit(UpdateFinished(3)),),
    ),
    "a farewell is a death by oneself": (
        KNOWN, Leave(5 * SECOND), WAITING,
        (
            Then(Announce(FAREWELL, notify=True)),
            Emit(Left(A, 3, A)),
            After(5 * SECOND, LeaveTimeout()),
        ),
    ),
    "a farewell is finished when it has been sent": (
        WAITING, Announced(FAREWELL), replace(WAITING, waiting=False),
        (Emit(LeaveFinished(timed_out=False)),),
    ),
    "or when time is up": (
        WAITING, LeaveTimeout(), replace(WAITING, waiting=False),
        (Emit(LeaveFinished(timed_out=True)),),
    ),
    "but not twice: sent": nothing(replace(WAITING, waiting=False), Announced(FAREWELL)),
    "but not twice: time": nothing(replace(WAITING, waiting=False), LeaveTimeout()),
    "a second farewell ends with the first": nothing(WAITING, Leave(SECOND)),
    "a second farewell is finished at once": (
        replace(WAITING, waiting=False), Leave(SECOND), replace(WAITING, waiting=False),
        (Emit(LeaveFinished(timed_out=False)),),
    ),
    "alone one leaves at once": (
        LONELY, Leave(5 * SECOND), left(LONELY, waiting=False),
        (
            Then(Announce(FAREWELL, notify=True)),
            Emit(Left(A, 3, A)),
            Emit(LeaveFinished(timed_out=False)),
        ),
    ),
    "when all others are gone one leaves at once": (
        WIDOWED, Leave(5 * SECOND), left(WIDOWED, waiting=False),
        (
            Then(Announce(FAREWELL, notify=True)),
            Emit(Left(A, 3, A)),
            Emit(LeaveFinished(timed_out=False)),
        ),
    ),
    "that somebody else's news was sent is nothing to tell": nothing(
        KNOWN, Announced(Suspect(5, B, C))
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", OWNER.values(), ids=OWNER)
def test_owner(row: Row) -> None:
    check(row)


def test_metadata_that_does_not_change_is_announced_but_no_update() -> None:
    """6.14 processes an alive, 6.9 step 9 tells of an update only if the metadata changed."""
    before = replace(KNOWN, me=who(A))
    after = updated(before, b"")
    check((before, UpdateMeta(b""), after, (Then(Announce(Alive(4, who(A)), notify=True)),)))


def test_alone_an_update_is_finished_at_once() -> None:
    after, effects = step(LONELY, NOW, UpdateMeta(b"new"), LAN)
    assert after == updated(LONELY, b"new")
    assert events(effects) == [Updated(NEWS.peer, 4), UpdateFinished(4)]


def test_who_has_left_says_nothing_new_of_itself() -> None:
    """6.9 step 1: an alive about a node that has left is dropped, its own included."""
    after, effects = step(LEAVING, NOW, UpdateMeta(b"new"), LAN)
    assert after == LEAVING
    assert not [effect for effect in effects if isinstance(effect, Then)]


def test_an_update_never_uses_an_incarnation_beyond_the_last() -> None:
    """Refuting the highest accusation leaves no room (P20); the wire has 32 bits."""
    last, _ = step(KNOWN, NOW, Suspect(U32 - 1, A, B), LAN)
    assert last.incarnation == U32
    after, _ = step(last, NOW, UpdateMeta(b"new"), LAN)
    assert after.incarnation <= U32
    assert after.members[A].incarnation <= U32


def test_a_restarted_node_overtakes_its_earlier_life() -> None:
    """6.12: it begins at 1 and learns of the old, higher incarnation from who still holds it."""
    reborn, _ = step(Membership(who(A)), NOW, Start(), LAN)
    for accusation, incarnation in ((Dead(41, A, B), 42), (Suspect(7, A, B), 42)):
        reborn, _ = step(reborn, NOW, accusation, LAN)
        assert reborn.members[A] == record(A, incarnation)
    assert step(reborn, NOW, Suspect(42, A, A), LAN)[0].incarnation == 43


def test_metadata_is_limited() -> None:
    assert UpdateMeta(bytes(512)).meta == bytes(512)
    with pytest.raises(ValueError, match="513"):
        UpdateMeta(bytes(513))


# --- properties -------------------------------------------------------------------------

ACCUSATIONS = st.builds(
    lambda kind, incarnation, source: kind(incarnation, B, NodeId(source)),
    st.sampled_from([Suspect, Dead]),
    st.integers(0, 6),
    st.sampled_from("BCDE"),
)
CLAIMS = st.builds(lambda incarnation: Alive(incarnation, who(B)), st.integers(1, 6))


@given(st.lists(ACCUSATIONS | CLAIMS), st.randoms(use_true_random=False))
def test_the_last_word_of_a_member_wins_in_any_order(news: list[Any], random: Any) -> None:
    """Correctness rests on incarnations, never on order (6.18)."""
    news = [*news, Alive(7, who(B))]
    random.shuffle(news)
    state = ALL_WELL
    for item in news:
        state, _ = step(state, NOW, item, LAN)
    assert state.members[B] == record(B, 7)
    assert B not in state.suspicions
    assert B not in state.departed


@given(st.lists(CLAIMS), st.integers(0, 6), st.randoms(use_true_random=False))
def test_a_death_outlasts_every_earlier_claim_in_any_order(
    claims: list[Any], later: int, random: Any
) -> None:
    news = [*claims, Dead(6, B, C)]
    random.shuffle(news)
    state = ALL_WELL
    for item in news:
        state, _ = step(state, NOW, item, LAN)
    assert state.members[B] == record(B, 6, DEAD)


@given(st.lists(ACCUSATIONS | CLAIMS))
def test_news_that_changes_nothing_is_the_same_object_and_silent(news: list[Any]) -> None:
    """So a rumour dies out by itself: what was taken in once is not repeated."""
    state = ALL_WELL
    for item in news:
        state, effects = step(state, NOW, item, LAN)
        again, silence = step(state, NOW, item, LAN)
        assert (again is state) == (silence == ())
        if effects:
            assert silence == ()


@given(st.lists(ACCUSATIONS | CLAIMS))
def test_news_is_repeated_exactly_when_it_changes_something(drawn: list[Any]) -> None:
    state = ALL_WELL
    for item in drawn:
        after, effects = step(state, NOW, item, LAN)
        thens = [effect.news for effect in effects if isinstance(effect, Then)]
        announced = [news.message for news in thens if isinstance(news, Announce)]
        assert announced == ([item] if after != state else [])
        state = after


def test_an_empty_group_knows_nobody() -> None:
    for news in (Suspect(1, B, C), Dead(1, B, C), ProbeFailed(B, 1), SuspicionTimeout(B, 0)):
        check(nothing(FRESH, news))
    assert FRESH.members == EMPTY
