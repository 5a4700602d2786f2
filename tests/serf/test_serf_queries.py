"""Queries: who answers, what is refused, what is counted (spec serf.md, 1.5, 2.13, 7)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swimsim.config import LAN, Config
from swimsim.effects import (
    After,
    Counted,
    Emit,
    Noted,
    QueryAcked,
    QueryAnswered,
    QueryFinished,
    QueryReceived,
    QueryStarted,
    RequestDone,
    RequestRefused,
    Send,
    Then,
)
from swimsim.inputs import (
    Answer,
    AnswersEnd,
    AskQuery,
    InternalQuery,
    QueryTimeout,
    RespondQuery,
    Tell,
)
from swimsim.messages import User
from swimsim.serf import queries
from swimsim.serf.messages import (
    NodeFilter,
    Query,
    QueryResponse,
    Relay,
    TagFilter,
)
from swimsim.serf.queries import Here, Open, Queries, ask, hear, replied
from swimsim.serf.standings import Standings
from swimsim.terms import MS, SECOND, NodeId
from swimsim.wire import serf
from tests.builders import A, B, C, at, group, record, table, who

NOW = 100 * SECOND
SERF = replace(LAN, serf=True)
META = serf.encode_tags({"role": "web", "dc": "east\n"})
HERE = Here(NOW, who("A", META), group("ABCDE"), Standings(), SERF)
FRESH = Queries(1, clock=7)
PLAIN = Query(7, 99, at("B"), B, "load", 10**9, b"?")
ASKED = QueryReceived(7, 99, "load", b"?", at("B"), B, NOW + SECOND)


def filters(*chosen: Any) -> tuple[bytes, ...]:
    return tuple(each if isinstance(each, bytes) else serf.encode_filter(each) for each in chosen)


FILTERS: dict[str, tuple[tuple[bytes, ...] | None, bool]] = {
    "none": (None, True),
    "no filters": ((), True),
    "this node": (filters(NodeFilter((B, A))), True),
    "other nodes": (filters(NodeFilter((B, C))), False),
    "its tag": (filters(TagFilter("role", "we")), True),
    "another's tag": (filters(TagFilter("role", "^eb")), False),
    "a tag it has not": (filters(TagFilter("zone", "x")), False),
    "anything in a tag it has not": (filters(TagFilter("zone", "")), True),
    "the end is the end": (filters(TagFilter("dc", "east$")), False),
    "all must pass": (filters(NodeFilter((A,)), TagFilter("role", "db")), False),
    "an empty filter kills Serf": ((b"",), False),
    "of no kind": ((b"\x07\x90",), False),
    "cut short": ((b"\x00\x92\xa1A",), False),
    "no expression": (filters(TagFilter("role", "(")), False),
    "an expression that never ends elsewhere": (filters(TagFilter("role", "(a*)*$")), True),
}


@pytest.mark.parametrize(("blobs", "passes"), FILTERS.values(), ids=FILTERS)
def test_filters(blobs: tuple[bytes, ...] | None, passes: bool) -> None:
    """Whoever is not meant passes the query on all the same."""
    _, effects, repeat = hear(FRESH, replace(PLAIN, filters=blobs, flags=1), HERE)
    assert repeat
    assert [e for e in effects if isinstance(e, Emit) and e.event == ASKED] == (
        [Emit(ASKED)] if passes else []
    )
    assert len([e for e in effects if isinstance(e, Send)]) == passes


def test_a_query_is_heard_once() -> None:
    state, effects, repeat = hear(FRESH, PLAIN, HERE)
    assert (effects, repeat, state.clock) == ((Emit(ASKED),), True, 8)
    assert hear(state, PLAIN, HERE) == (state, (), False)
    other = replace(PLAIN, query_id=98)
    assert hear(state, other, HERE)[1:] == ((Emit(replace(ASKED, query_id=98)),), True)
    quiet = replace(PLAIN, query_id=97, flags=2)
    assert hear(state, quiet, HERE)[2] is False
    late = replace(FRESH, clock=700)
    text = "serf: received old query load from time 7 (current: 700)"
    assert hear(late, PLAIN, HERE) == (late, (Emit(Noted("WARN", text)),), False)
    assert hear(replace(FRESH, least=8), PLAIN, HERE)[1:] == ((), False)


@pytest.mark.parametrize(("timeout", "wait"), [
    (-(2**63), -1), (-1, -1), (0, 0), (10**9, SECOND), (2**63 - 1, queries.LONGEST),
])  # fmt: skip
def test_no_timeout_is_too_strange(timeout: int, wait: int) -> None:
    _, effects, _ = hear(FRESH, replace(PLAIN, timeout_ns=timeout), HERE)
    assert effects == (Emit(replace(ASKED, deadline=NOW + wait)),)


def test_a_query_goes_out_and_comes_in() -> None:
    state, effects = ask(FRESH, "", AskQuery(3, "load", b"?", timeout=SECOND), HERE)
    started, after, received, tell = effects
    assert isinstance(started.event, QueryStarted)
    number = started.event.query_id
    assert 0 <= number < 2**31
    assert started == Emit(QueryStarted(3, 7, number, NOW + SECOND))
    assert after == After(SECOND, QueryTimeout(7))
    query = Query(7, number, at("A"), A, "load", 10**9, b"?")
    assert received.event == QueryReceived(7, number, "load", b"?", at("A"), A, NOW + SECOND)
    assert tell == Then(Tell("queries", User(serf.encode(query))))
    assert state.clock == 8
    assert dict(state.open) == {7: Open("", 3, number, NOW + SECOND)}


DEFAULTS = {1: 3200, 8: 3200, 9: 3200, 10: 6400, 98: 6400, 99: 6400, 100: 9600}


@pytest.mark.parametrize(("n", "ms"), DEFAULTS.items())
def test_the_default_timeout_grows_with_the_group(n: int, ms: int) -> None:
    members = table(*(record(f"n{place}") for place in range(n)))
    assert queries.default_timeout(members, SERF) == ms * MS


OLD = replace(HERE, me=who("A", vsn=bytes((1, 5, 2, 2, 5, 3))))
WIDE = replace(HERE, config=replace(SERF, query_size_limit=9000))
REFUSED: dict[str, tuple[AskQuery, Here, str]] = {
    "an old version": (AskQuery(3, "x"), OLD, "Feature not supported"),
    "internal": (AskQuery(3, "_serf_x"), HERE, "Queries cannot contain the '_serf_' prefix"),
    "a ping with a payload": (
        AskQuery(3, "_serf_ping", b""), HERE, "Queries cannot contain the '_serf_' prefix"),
    "too long": (AskQuery(3, "x", b"p" * 1024), HERE, "query exceeds limit of 1024 bytes"),
    "no packet takes it": (
        AskQuery(3, "x", b"p" * 1300), WIDE,
        "query has 1408 bytes and cannot leave: a packet takes 1395"),
    "too many relays": (
        AskQuery(3, "x", relay_factor=256), HERE, "the relay factor is 256, expected 0 to 255"),
    "no time": (
        AskQuery(3, "x", timeout=-1), HERE,
        f"the timeout is -1 us, expected 0 to {queries.LONGEST}"),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "here", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_asked(wanted: AskQuery, here: Here, reason: str) -> None:
    assert ask(FRESH, "", wanted, here) == (FRESH, (Emit(RequestRefused(3, reason)),))


def test_a_ping_is_asked() -> None:
    _, effects = ask(FRESH, "", AskQuery(3, "_serf_ping", ack=True, timeout=SECOND), HERE)
    assert any(isinstance(e, Send) and e.to == at("A") for e in effects), "one acks oneself"
    assert any(isinstance(e, Then) and isinstance(e.news, InternalQuery) for e in effects)


OPEN = replace(FRESH, open=FRESH.open.set(7, Open("", 3, 99, NOW + SECOND)))
KEYS = replace(FRESH, open=FRESH.open.set(7, Open("keys", 3, 99, NOW + SECOND)))
ACKED = replace(
    OPEN, open=OPEN.open.set(7, Open("", 3, 99, NOW + SECOND, acked=OPEN.ring.set(B, True)))
)  # type: ignore
NOT_RUNNING = "serf: reply for non-running query (LTime: 8, ID: 99) From: B"
MISMATCH = "serf: query reply ID mismatch (Local: 99, Response: 98)"
REPLIES: dict[str, tuple[Any, ...]] = {
    "an ack": (OPEN, QueryResponse(7, 99, B, 1),
               (Emit(Counted("serf.query_acks")), Emit(QueryAcked(3, B)))),
    "an ack again": (ACKED, QueryResponse(7, 99, B, 1),
                     (Emit(Counted("serf.query_duplicate_acks")),)),
    "an answer after an ack": (
        ACKED, QueryResponse(7, 99, B, 0, b"so"),
        (Emit(Counted("serf.query_responses")), Emit(QueryAnswered(3, B, b"so")))),
    "an answer for a mechanism": (
        KEYS, QueryResponse(7, 99, B, 0, b"so"),
        (Emit(Counted("serf.query_responses")), Then(Answer("keys", 3, B, b"so")))),
    "to nothing": (OPEN, QueryResponse(8, 99, B), (Emit(Noted("WARN", NOT_RUNNING)),)),
    "to another": (OPEN, QueryResponse(7, 98, B), (Emit(Noted("WARN", MISMATCH)),)),
}  # fmt: skip


@pytest.mark.parametrize(("state", "said", "effects"), REPLIES.values(), ids=REPLIES)
def test_replies(state: Queries, said: QueryResponse, effects: Any) -> None:
    assert replied(state, said, HERE)[1] == effects
    late = replace(HERE, now=NOW + SECOND + 1)
    if said.ltime == 7 and said.query_id == 99:
        assert replied(state, said, late) == (state, ()), "its time is over"


def test_strangers_cannot_fill_a_query_with_answers() -> None:
    state = OPEN
    for number in range(70):
        state, effects = replied(state, QueryResponse(7, 99, NodeId(f"x{number}"), 1), HERE)
    assert len(state.open[7].acked) == 64
    assert effects == (Emit(Noted("WARN", "serf: too many replies to one query, dropping")),)


def test_a_query_ends_at_its_deadline() -> None:
    assert queries.timed_out(ACKED, 7)[1] == (Emit(QueryFinished(3, 1, 0)),)
    assert queries.timed_out(KEYS, 7)[1] == (Then(AnswersEnd("keys", 3)),)
    assert queries.timed_out(FRESH, 7) == (FRESH, ())


def answer(state: Queries, payload: bytes, here: Here = HERE) -> tuple[Queries, str, int]:
    """The state after it, why it was refused if it was, and how many packets it made."""
    state, effects = queries.answered(state, RespondQuery(4, 7, 99, payload), here)
    *sends, end = effects
    if end == Emit(RequestDone(4)):
        return state, "", len(sends)
    return state, end.event.reason, len(sends)


def with_limit(limit: int) -> Here:
    config: Config = replace(SERF, query_response_size_limit=limit)
    return replace(HERE, config=config)


def test_answers_and_why_they_are_refused() -> None:
    wrong = "failed to respond to key query: "
    state, _, _ = hear(FRESH, PLAIN, HERE)
    assert answer(FRESH, b"so")[1:] == (f"{wrong}response is past the deadline", 0)
    late = replace(HERE, now=NOW + SECOND + 1)
    assert answer(state, b"so", late)[1:] == (f"{wrong}response is past the deadline", 0)
    long = answer(state, b"x" * 1024)
    assert long == (state, f"{wrong}response exceeds limit of 1024 bytes", 0)
    done = answer(state, b"so")
    assert done[1:] == ("", 1)
    assert answer(done[0], b"so")[1:] == (f"{wrong}response already sent", 0)


def test_relays_go_over_others_who_are_alive_and_can() -> None:
    asked = replace(PLAIN, relay_factor=2)
    state, _, _ = hear(FRESH, asked, HERE)
    _, effects = queries.answered(state, RespondQuery(4, 7, 99, b"so"), HERE)
    direct, one, other, _ = effects
    assert direct.to == at("B")
    relay = serf.decode(one.messages[0].payload)
    assert relay == Relay(at("B"), B, direct.messages[0].payload)
    assert len({one.to, other.to}) == 2
    assert at("A") not in {one.to, other.to}
    assert queries.pass_on(relay) == (Send(at("B"), direct.messages),)


def test_a_relay_that_is_too_long_leaves_the_query_open() -> None:
    """2.13: the direct copy has gone out."""
    state, _, _ = hear(FRESH, replace(PLAIN, relay_factor=2), HERE)
    after, reason, sent = answer(state, b"x" * 20, with_limit(90))
    assert reason == "failed to respond to key query: relayed response exceeds limit of 90 bytes"
    assert sent == 1
    assert answer(after, b"x")[1] == ""


def test_too_few_members_relay_nothing() -> None:
    few = replace(HERE, members=group("AB"))
    state, _, _ = hear(FRESH, replace(PLAIN, relay_factor=2), few)
    assert answer(state, b"so", few)[2] == 1


@pytest.mark.parametrize("to", [replace(PLAIN, source=at("B")._replace(port=0)),
                                replace(PLAIN, source=at("B")._replace(host=b"abc"))])  # fmt: skip
def test_what_cannot_be_answered_is_not(to: Query) -> None:
    _, effects, _ = hear(FRESH, replace(to, flags=1), HERE)
    assert not [e for e in effects if isinstance(e, Send)]


def test_only_so_many_queries_are_kept_for_answers() -> None:
    state = FRESH
    for number in range(1500):
        query = replace(PLAIN, ltime=7 + number, query_id=number, timeout_ns=10**12 + number * 1000)
        state, _, _ = hear(state, query, HERE)
    assert len(state.asked) <= queries.MOST_ANSWERABLE
    assert (7 + 1499, 1499) in state.asked
    assert len(state.ring) == 512
