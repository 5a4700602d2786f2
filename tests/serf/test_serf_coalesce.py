"""Several events told as one (spec serf.md, 2.15), without Serf's three faults."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import MemberChanged, RequestDone, UserEventReceived
from swimsim.serf.coalesce import KINDS, Coalescer, MembersChanged, flush, step
from swimsim.terms import MS, SECOND
from tests.builders import who

SERF = replace(LAN, serf=True)
B, C = who("B"), who("C")


def run(*events: Any, config: Any = SERF) -> list[tuple[int, Any]]:
    """What is told and when, in milliseconds; each event is (ms, event)."""
    state, told, due = Coalescer(), [], None
    for ms, event in [*events, (10**9, None)]:
        while due is not None and due < ms * MS:
            at, (state, some, due) = due, step(state, due, None, config)
            told += [(at // MS, each) for each in some]
        if event is not None:
            state, some, due = step(state, ms * MS, event, config)
            told += [(ms, each) for each in some]
    return told


def changed(kind: Any, *peers: Any) -> MembersChanged:
    return MembersChanged(kind, peers)


def member(kind: Any, peer: Any) -> MemberChanged:
    return MemberChanged(kind, peer)


def user(ltime: int, name: str = "deploy", coalesce: bool = True) -> UserEventReceived:
    return UserEventReceived(ltime, name, b"", coalesce)


def test_a_burst_is_told_as_one_event_of_each_kind_when_it_is_quiet() -> None:
    told = run((0, member("join", C)), (500, member("join", B)), (900, member("failed", who("D"))))
    assert told == [(1900, changed("join", B, C)), (1900, changed("failed", who("D")))]


def test_a_burst_without_end_is_told_after_the_period() -> None:
    told = run(*((ms, member("join", who(f"n{ms}"))) for ms in range(0, 3500, 500)))
    assert [at for at, _ in told] == [3000, 4000]
    assert len(told[0][1].peers) == 6


def test_the_last_word_counts_and_is_not_repeated() -> None:
    assert run((0, member("join", B)), (100, member("failed", B))) == [(1100, changed("failed", B))]
    told = run((0, member("join", B)), (2000, member("failed", B)), (2100, member("join", B)))
    assert told == [(1000, changed("join", B))], "back before anybody was told"


def test_a_member_that_joins_and_changes_at_once_has_joined() -> None:
    later = who("B", b"m")
    assert run((0, member("join", B)), (10, member("update", later))) == [
        (1010, changed("join", later))
    ]


def test_an_update_is_told_once_and_each_time() -> None:
    told = run((0, member("update", B)), (2000, member("join", C)), (4000, member("update", B)))
    assert told == [
        (1000, changed("update", B)),
        (3000, changed("join", C)),
        (5000, changed("update", B)),
    ]


def test_of_user_events_of_a_name_the_latest_are_told() -> None:
    told = run((0, user(5)), (1, user(7)), (2, user(7)), (3, user(6)), (4, user(9, "other")))
    assert told == [(1004, user(7)), (1004, user(7)), (1004, user(9, "other"))]


def test_what_cannot_wait_overtakes() -> None:
    done = RequestDone(1)
    told = run((0, user(5)), (10, user(6, coalesce=False)), (20, done))
    assert told == [(10, user(6, coalesce=False)), (20, done), (1000, user(5))]


def test_without_periods_everything_is_told_at_once() -> None:
    config = replace(SERF, coalesce_period=0, user_coalesce_period=0)
    told = run((0, member("join", B)), (1, user(5)), config=config)
    assert told == [(0, changed("join", B)), (1, user(5))]


def test_the_end_tells_what_is_held() -> None:
    state = step(Coalescer(), 0, member("join", B), SERF).state
    state = step(state, 1, user(5), SERF).state
    assert flush(state).told == (changed("join", B), user(5))
    assert flush(state).due is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.builds(member, st.sampled_from(KINDS), st.sampled_from([B, C, who("D")])),
        ),
        max_size=30,
    )
)
def test_nothing_is_kept_of_those_who_are_forgotten(events: list[tuple[int, Any]]) -> None:
    state, now = Coalescer(), 0
    for wait, event in events:
        now += wait * MS
        state, _, due = step(state, now, event, SERF)
        assert due is not None
        assert now <= due <= now + 3 * SECOND
    state, _, due = step(state, now + 10 * SECOND, None, SERF)
    assert (due, dict(state.members)) == (None, {})
    last = {event.peer.name: event.kind for _, event in events}
    assert all(last[name] != "reap" for name in state.last)
