"""Every ordering of intents and membership news (spec serf.md, 2.6, 2.7, 2.10, 2.11)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import (
    After,
    Emit,
    Failed,
    Joined,
    Left,
    MemberChanged,
    RequestDone,
    RequestRefused,
    Then,
)
from swimsim.inputs import (
    Erased,
    ForceLeave,
    PruneDue,
    ReapDue,
    Regained,
    RequestTimeout,
    SayFarewell,
    Tell,
)
from swimsim.member import DEAD, LEFT
from swimsim.messages import User
from swimsim.serf import intents
from swimsim.serf.intents import Here, Intents, Recent, hear
from swimsim.serf.lamport import LAST
from swimsim.serf.messages import (
    STATUS_ALIVE,
    STATUS_FAILED,
    STATUS_LEAVING,
    STATUS_LEFT,
    JoinIntent,
    LeaveIntent,
    SerfState,
)
from swimsim.serf.standings import Standing, Standings
from swimsim.terms import HOUR, MINUTE, SECOND, NodeId
from swimsim.wire import serf
from tests.builders import STRANGER, A, B, C, D, E, record, table, who

NOW = 1000 * SECOND
BEFORE = 900 * SECOND
SERF = replace(LAN, serf=True)
MEMBERS = table(
    record("A"), record("B"), record("C"), record("D", status=DEAD), record("E", status=LEFT)
)
HERE = Here(NOW, who("A"), True, MEMBERS, SERF)

SIX = SERF.broadcast_timeout + SERF.leave_propagate_delay
DAY = 24 * HOUR


def standings(**about: Standing) -> Standings:
    made = Standings()
    for name, standing in about.items():
        made = made.put(NodeId(name), standing)
    return made


# B is alive and was heard of at 5, C is leaving, D has failed, E has left.
KNOWN = {
    "B": Standing(STATUS_ALIVE, 5),
    "C": Standing(STATUS_LEAVING, 5),
    "D": Standing(STATUS_FAILED, 5, BEFORE, who("D")),
    "E": Standing(STATUS_LEFT, 5, BEFORE, who("E")),
}


def state(clock: int = 10, **changed: Any) -> Intents:
    about = {**KNOWN, **{k: v for k, v in changed.items() if len(k) == 1}}
    rest = {k: v for k, v in changed.items() if len(k) > 1}
    present = {name: each for name, each in about.items() if each is not None}
    return replace(Intents(), clock=clock, standings=standings(**present), **rest)


def reaped_at(since: int, timeout: int) -> int:
    due = since + timeout + 1
    return -(-due // SERF.reap_interval) * SERF.reap_interval - NOW


REAP_D = After(reaped_at(BEFORE, DAY), ReapDue(D, BEFORE))
REAP_NOW = {name: After(reaped_at(NOW, DAY), ReapDue(name, NOW)) for name in (B, C)}


def erased(name: NodeId) -> tuple[Any, ...]:
    return Then(Regained(name)), Then(Erased(name)), Emit(MemberChanged("reap", who(name)))


REFUTED = Then(Tell("intents", User(serf.encode(JoinIntent(10, A)))))
FORCED_LEFT = (Then(Regained(D)), Emit(MemberChanged("leave", who("D"))), REAP_D)

HEARD: dict[str, tuple[Any, ...]] = {  # what is heard: state after, effects, repeated?
    "a join moves the time on": (
        JoinIntent(6, B), state(B=Standing(STATUS_ALIVE, 6)), (), True),
    "an old join is no news": (JoinIntent(5, B), state(), (), False),
    "a join stops a leave": (JoinIntent(6, C), state(C=Standing(STATUS_ALIVE, 6)), (), True),
    "a join does not bring back the failed": (
        JoinIntent(6, D), state(D=replace(KNOWN["D"], ltime=6)), (), True),
    "a join does not bring back who left": (
        JoinIntent(6, E), state(E=replace(KNOWN["E"], ltime=6)), (), True),
    "whoever hears a later time is past it": (
        JoinIntent(20, B), state(21, B=Standing(STATUS_ALIVE, 20)), (), True),
    "a dropped message moves the clock as well": (
        LeaveIntent(LAST, STRANGER),
        state(LAST, recent=Intents().recent.set(STRANGER, Recent(True, LAST, NOW))), (), True),
    "the alive begin to leave": (
        LeaveIntent(6, B), state(B=Standing(STATUS_LEAVING, 6)), (), True),
    "an old leave is no news": (LeaveIntent(5, B), state(), (), False),
    "who is leaving goes on": (LeaveIntent(6, C), state(C=Standing(STATUS_LEAVING, 6)), (), True),
    "who failed has left after all": (
        LeaveIntent(6, D), state(D=replace(KNOWN["D"], status=STATUS_LEFT, ltime=6)),
        FORCED_LEFT, True),
    "who left has left": (
        LeaveIntent(6, E), state(E=replace(KNOWN["E"], ltime=6)), (), True),
    "of oneself it is refuted": (
        LeaveIntent(6, A), state(11, A=Standing(STATUS_ALIVE, 10)), (REFUTED,), False),
    "an old one of oneself is refuted too": (
        LeaveIntent(1, A), state(11, A=Standing(STATUS_ALIVE, 10)), (REFUTED,), False),
    "to prune the alive waits": (
        LeaveIntent(6, B, True), state(B=Standing(STATUS_LEAVING, 6)),
        (After(SIX, PruneDue(B, 6)),), True),
    "to prune the failed makes them leave first": (
        LeaveIntent(6, D, True), state(D=None), (*FORCED_LEFT, *erased(D)), True),
    "to prune who left": (LeaveIntent(6, E, True), state(E=None), erased(E), True),
    "of a stranger it is kept": (
        LeaveIntent(6, STRANGER),
        state(recent=Intents().recent.set(STRANGER, Recent(True, 6, NOW))), (), True),
}  # fmt: skip


@pytest.mark.parametrize(("said", "after", "effects", "repeat"), HEARD.values(), ids=HEARD)
def test_hear(said: Any, after: Intents, effects: Any, repeat: bool) -> None:
    assert hear(state(), said, HERE) == (after, effects, repeat)


NEWS: dict[str, tuple[Any, ...]] = {  # state, news, state after, effects
    "the alive fail": (
        state(), Failed(B, 1, A), state(B=Standing(STATUS_FAILED, 5, NOW, who("B"))),
        (Emit(MemberChanged("failed", who("B"))), REAP_NOW[B])),
    "the leaving leave, however it looks": (
        state(), Failed(C, 1, A), state(C=Standing(STATUS_LEFT, 5, NOW, who("C"))),
        (Then(Regained(C)), Emit(MemberChanged("leave", who("C"))), REAP_NOW[C])),
    "a farewell is a leave even where the intent was lost": (
        state(), Left(B, 1, B), state(B=Standing(STATUS_LEFT, 5, NOW, who("B"))),
        (Then(Regained(B)), Emit(MemberChanged("leave", who("B"))), REAP_NOW[B])),
    "the failed are back": (
        state(), Joined(who("D"), 2), state(D=Standing(STATUS_ALIVE, 5)),
        (Emit(MemberChanged("join", who("D"))),)),
    "who left is back": (
        state(), Joined(who("E"), 2), state(E=Standing(STATUS_ALIVE, 5)),
        (Emit(MemberChanged("join", who("E"))),)),
    "back in a moment is flapping": (
        state(D=Standing(STATUS_FAILED, 5, NOW - SECOND, who("D"))), Joined(who("D"), 2),
        state(D=Standing(STATUS_ALIVE, 5)),
        (Emit(MemberChanged("join", who("D"), flap=True)),)),
    "a newcomer is plain": (
        state(), Joined(who("Z"), 1), state(), (Emit(MemberChanged("join", who("Z"))),)),
    "a newcomer whose join came first": (
        state(recent=Intents().recent.set(STRANGER, Recent(False, 7, BEFORE))),
        Joined(who("Z"), 1),
        state(Z=Standing(STATUS_ALIVE, 7),
              recent=Intents().recent.set(STRANGER, Recent(False, 7, BEFORE))),
        (Emit(MemberChanged("join", who("Z"))),)),
    "a newcomer whose leave came first": (
        state(recent=Intents().recent.set(STRANGER, Recent(True, 7, BEFORE))),
        Joined(who("Z"), 1),
        state(Z=Standing(STATUS_LEAVING, 7),
              recent=Intents().recent.set(STRANGER, Recent(True, 7, BEFORE))),
        (Emit(MemberChanged("join", who("Z"))),)),
    "what was said too long ago is forgotten": (
        state(recent=Intents().recent.set(STRANGER, Recent(True, 7, NOW - 6 * MINUTE))),
        Joined(who("Z"), 1),
        state(recent=Intents().recent.set(STRANGER, Recent(True, 7, NOW - 6 * MINUTE))),
        (Emit(MemberChanged("join", who("Z"))),)),
}  # fmt: skip


@pytest.mark.parametrize(("before", "news", "after", "effects"), NEWS.values(), ids=NEWS)
def test_news(before: Intents, news: Any, after: Intents, effects: Any) -> None:
    assert intents.on_news(before, news, HERE) == (after, effects)


def test_of_strangers_only_the_newest_is_kept_and_only_so_many() -> None:
    few = replace(HERE, config=replace(SERF, recent_intent_limit=2))
    known, _, repeat = hear(state(), LeaveIntent(6, NodeId("x")), few)
    assert repeat
    assert not hear(known, JoinIntent(6, NodeId("x")), few)[2]
    known, _, repeat = hear(known, JoinIntent(7, NodeId("x")), few)
    assert repeat
    known, _, _ = hear(known, JoinIntent(7, NodeId("y")), few)
    full, _, repeat = hear(known, JoinIntent(7, NodeId("z")), few)
    assert not repeat
    assert set(full.recent) == {"x", "y"}
    later = replace(few, now=NOW + 6 * MINUTE)
    kept, _, repeat = hear(full, JoinIntent(8, NodeId("z")), later)
    assert repeat
    assert set(kept.recent) == {"z"}


def test_a_peers_state_is_taken_in_left_first_and_one_later() -> None:
    told = SerfState(30, 1, 1, (("B", 9), ("C", 4), ("D", 5), ("Z", 3)), (D, E))
    after, effects = intents.merge(state(), told, HERE)
    assert effects == FORCED_LEFT
    assert after.clock == 30
    about = after.standings.about
    assert {name: (about[name].status, about[name].ltime) for name in about} == {
        "B": (STATUS_ALIVE, 9),
        "C": (STATUS_LEAVING, 5),
        "D": (STATUS_LEFT, 6),
        "E": (STATUS_LEFT, 5),
    }
    assert dict(after.recent) == {STRANGER: Recent(False, 3, NOW)}


def test_a_leaver_says_so_and_its_farewell_waits_for_that() -> None:
    after, effects = intents.announce_leave(state(), HERE, alone=False)
    said = User(serf.encode(LeaveIntent(10, A)))
    assert effects == (Then(Tell("intents", said, notify=True)),)
    assert after == state(11, A=Standing(STATUS_LEAVING, 10), farewell=said.payload)
    assert intents.said(after, said) == (replace(after, farewell=b""), (Then(SayFarewell()),))
    alone, effects = intents.announce_leave(state(), HERE, alone=True)
    assert (alone, effects) == (state(11, A=Standing(STATUS_LEAVING, 10)), ())


FORCE = {  # ask: refused, or the message that goes out
    "the failed": (ForceLeave(1, D), LeaveIntent(10, D)),
    "the failed, for good": (ForceLeave(1, D, True), LeaveIntent(10, D, True)),
    "nobody known": (ForceLeave(1, STRANGER), LeaveIntent(10, STRANGER)),
    "the alive": (ForceLeave(1, B), LeaveIntent(10, B)),
    "the alive, for good": (
        ForceLeave(1, B, True), "member B is alive and would refute: not pruned unless forced"),
    "the alive, for good and by force": (ForceLeave(1, B, True, True), LeaveIntent(10, B, True)),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "wanted"), FORCE.values(), ids=FORCE)
def test_force_leave(ask: ForceLeave, wanted: LeaveIntent | str) -> None:
    after, effects = intents.force_leave(state(), ask, HERE)
    if isinstance(wanted, str):
        assert (after, effects) == (state(), (Emit(RequestRefused(1, wanted)),))
        return
    message = User(serf.encode(wanted))
    assert effects[-2:] == (
        Then(Tell("intents", message, notify=True)),
        After(SERF.broadcast_timeout, RequestTimeout(1)),
    )
    assert intents.said(after, message)[1] == (Emit(RequestDone(1)),)
    refused = RequestRefused(1, "timed out broadcasting node removal")
    assert intents.timed_out(after, 1)[1] == (Emit(refused),)
    assert intents.timed_out(intents.timed_out(after, 1)[0], 1)[1] == ()


def test_force_leave_without_anybody_to_tell_is_done_at_once() -> None:
    alone = replace(HERE, members=table(record("A"), record("D", status=DEAD)))
    _, effects = intents.force_leave(state(B=None, C=None, E=None), ForceLeave(1, D), alone)
    assert effects == (*FORCED_LEFT, Emit(RequestDone(1)))


TIMERS: dict[str, tuple[Any, ...]] = {  # due: state after, effects
    "pruned when it has left": (PruneDue(E, 5), state(E=None), erased(E)),
    "looked at again while it is leaving": (
        PruneDue(C, 5), state(), (After(SIX, PruneDue(C, 5)),)),
    "not pruned when it refuted": (PruneDue(B, 5), state(), ()),
    "not pruned after newer news": (PruneDue(E, 4), state(), ()),
    "not pruned twice": (PruneDue(STRANGER, 4), state(), ()),
    "not reaped before its time": (ReapDue(D, BEFORE), state(), ()),
    "not reaped when it came back meanwhile": (ReapDue(B, BEFORE), state(), ()),
}  # fmt: skip


@pytest.mark.parametrize(("due", "after", "effects"), TIMERS.values(), ids=TIMERS)
def test_timers(due: Any, after: Intents, effects: Any) -> None:
    on = intents.prune_due if isinstance(due, PruneDue) else intents.reap_due
    assert on(state(), due, HERE) == (after, effects)


@pytest.mark.parametrize("name", [D, E])
def test_the_gone_are_reaped_after_a_day_at_a_tick_of_the_reaper(name: NodeId) -> None:
    at_the_tick = replace(HERE, now=NOW + REAP_D.delay)
    assert at_the_tick.now % SERF.reap_interval == 0
    assert 0 < at_the_tick.now - BEFORE - DAY <= SERF.reap_interval
    after, effects = intents.reap_due(state(), ReapDue(name, BEFORE), at_the_tick)
    assert effects == erased(name)
    assert name not in after.standings.about
