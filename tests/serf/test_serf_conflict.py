"""Two members with one name (spec serf.md, 2.14), and why both cannot lose it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import Conflict, Emit, NameContested, Noted, Then
from swimsim.inputs import Answer, AnswersEnd, Ask, AskQuery
from swimsim.serf.conflict import Vote, contested, ended, voted
from swimsim.serf.messages import ConflictResponse, MemberInfo
from swimsim.terms import NodeId
from swimsim.wire import serf
from tests.builders import A, at, who

SERF = replace(LAN, serf=True)
ME, OTHER = who("A"), who("A", address=at("x"))


def knows(address: Any) -> Answer:
    info = None if address is None else MemberInfo(A, address, LAN.vsn, 1)
    return Answer("conflict", 0, NodeId("v"), serf.encode(ConflictResponse(info)))


def verdict(voters: int, *votes: Any, me: Any = ME) -> NameContested:
    state, _ = contested(Vote(), Conflict(ME, OTHER), me, voters, SERF)
    for address in votes:
        state, effects = voted(state, knows(address), me)
        assert effects == ()
    state, effects = ended(state, AnswersEnd("conflict", 0))
    assert state == Vote()
    _, emit = effects
    assert isinstance(emit.event, NameContested)
    return emit.event


MINE, THEIRS = at("A"), at("x")
VERDICTS: dict[str, tuple[int, tuple[Any, ...], NameContested]] = {
    "nobody there: nobody loses": (0, (), NameContested(False, 0, 0)),
    "nobody answers": (3, (), NameContested(False, 0, 0)),
    "all for this one": (2, (MINE, MINE), NameContested(False, 2, 2)),
    "all for the other": (2, (THEIRS, THEIRS), NameContested(True, 0, 2)),
    "one voter, for the other": (1, (THEIRS,), NameContested(True, 0, 1)),
    "a tie": (2, (MINE, THEIRS), NameContested(False, 1, 2)),
    "most for the other": (3, (MINE, THEIRS, THEIRS), NameContested(True, 1, 3)),
    "too few answers to say": (4, (THEIRS, THEIRS), NameContested(False, 0, 2)),
    "who knows nobody does not vote": (1, (None,), NameContested(False, 0, 0)),
}


@pytest.mark.parametrize(("voters", "votes", "wanted"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(voters: int, votes: tuple[Any, ...], wanted: NameContested) -> None:
    assert verdict(voters, *votes) == wanted


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=9))
def test_two_claimants_never_both_lose_however_many_answers_are_lost(
    voters: list[tuple[bool, bool, bool]],
) -> None:
    """Of each voter: whom it knows, and whether its answer reaches one, and the other."""
    sides = [THEIRS if for_other else MINE for for_other, _, _ in voters]
    one = [side for side, (_, heard, _) in zip(sides, voters, strict=True) if heard]
    two = [side for side, (_, _, heard) in zip(sides, voters, strict=True) if heard]
    n = len(voters)
    assert not (verdict(n, *one).lost and verdict(n, *two, me=OTHER).lost)


def test_only_ones_own_name_is_put_to_the_vote() -> None:
    state, effects = contested(Vote(), Conflict(who("B"), who("B", address=at("x"))), ME, 3, SERF)
    text = f"serf: Name conflict for 'B' both {at('B')} and {at('x')} are claiming"
    assert (state, effects) == (Vote(), (Emit(Noted("WARN", text)),))


def test_a_vote_is_held_once_at_a_time_and_not_when_it_is_switched_off() -> None:
    state, (_, then) = contested(Vote(), Conflict(ME, OTHER), ME, 3, SERF)
    assert then == Then(Ask("conflict", AskQuery(0, "_serf_conflict", b"A")))
    assert contested(state, Conflict(ME, OTHER), ME, 3, SERF) == (state, ())
    off = replace(SERF, name_conflict_resolution=False)
    state, (note,) = contested(Vote(), Conflict(ME, OTHER), ME, 3, off)
    assert state == Vote()
    assert note.event.text.endswith("(Resolution enabled: false)")
    assert voted(state, knows(MINE), ME) == (state, ())
