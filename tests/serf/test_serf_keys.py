"""Keys of the whole cluster, added up (spec serf.md, 2.14)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import ChangeKeyring, Emit, KeyReport, KeysFinished, RequestRefused, Then
from swimsim.inputs import (
    Answer,
    AnswerInternal,
    AnswersEnd,
    Ask,
    AskQuery,
    InternalQuery,
    KeyringAnswered,
    ManageKeys,
)
from swimsim.serf.keys import Keys, answered, asked, changed, ended, manage
from swimsim.serf.messages import KeyRequest, KeyResponse, QueryResponse
from swimsim.terms import NodeId
from swimsim.wire import serf
from tests.builders import A, B, C

SERF = replace(LAN, serf=True)
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
INSTALL, USE, LIST = (ManageKeys(n, op, KEY) for n, op in enumerate(("install", "use", "list"), 1))


def said(source: NodeId, response: Any, number: int = 1) -> Answer:
    payload = response if isinstance(response, bytes) else serf.encode(response)
    return Answer("keys", number, source, payload)


def report(*answers: Answer, ask: ManageKeys = INSTALL, nodes: int = 3) -> KeyReport:
    state, _ = manage(Keys(), ask, nodes)
    effects: Any = ()
    for answer in answers:
        assert effects == ()
        state, effects = answered(state, answer, nodes)
    if not effects:
        state, effects = ended(state, AnswersEnd("keys", 1), nodes)
    assert state == Keys(begun=1)
    (emit,) = effects
    assert isinstance(emit.event, KeysFinished)
    return emit.event.report


def test_a_change_is_asked_of_everybody() -> None:
    _, effects = manage(Keys(), INSTALL, 3)
    payload = serf.encode(KeyRequest(bytes(16)))
    assert effects == (Then(Ask("keys", AskQuery(1, "_serf_install-key", payload))),)
    _, effects = manage(Keys(), LIST, 3)
    assert effects[0].news.query.payload.hex() == "0781a34b6579a0"


OK, BAD = KeyResponse(True), KeyResponse(False, "no")
REPORTS = {
    "all": ((said(A, OK), said(B, OK), said(C, OK)), KeyReport(3, 3, 0)),
    "some": ((said(A, OK),), KeyReport(3, 1, 0, error="1/3 nodes reported success")),
    "one cannot": (
        (said(A, OK), said(B, BAD), said(C, OK)),
        KeyReport(3, 3, 1, ((B, "no"),), error="1/3 nodes reported failure")),
    "a word beside": ((said(A, KeyResponse(True, "hm")),) * 1 + (said(B, OK), said(C, OK)),
                      KeyReport(3, 3, 0, ((A, "hm"),))),
    "nonsense": (
        (said(A, b""), said(B, b"\x01\x02"), said(C, b"\x08\xc1")),
        KeyReport(3, 3, 3, (
            (A, "Invalid key query response type: []"),
            (B, "Invalid key query response type: [1 2]"),
            (C, "Failed to decode key query response: [8 193]"),
        ), error="3/3 nodes reported failure")),
}  # fmt: skip


@pytest.mark.parametrize(("answers", "wanted"), REPORTS.values(), ids=REPORTS)
def test_reports(answers: tuple[Answer, ...], wanted: KeyReport) -> None:
    assert report(*answers) == wanted


def test_a_list_counts_each_key() -> None:
    one = KeyResponse(True, "", ("k1", "k2"), "k1")
    two = KeyResponse(True, "", ("k2",), "k2")
    told = report(said(A, one), said(B, one), said(C, two), ask=LIST)
    assert told == KeyReport(3, 3, 0, (), (("k1", 2), ("k2", 3)), (("k1", 2), ("k2", 1)))


def test_changes_wait_for_each_other_and_lists_do_not() -> None:
    state, _ = manage(Keys(), INSTALL, 1)
    state, effects = manage(state, USE, 1)
    assert effects == ()
    state, effects = manage(state, LIST, 1)
    assert effects[0].news.query.name == "_serf_list-keys"
    state, effects = ended(state, AnswersEnd("keys", 2), 1)
    assert len(effects) == 1, "the end of a list begins no change"
    state, effects = answered(state, said(A, OK), 1)
    finished, begun = effects
    assert finished == Emit(KeysFinished(1, KeyReport(1, 1, 0)))
    assert begun.news.query.name == "_serf_use-key"
    state, effects = ended(state, AnswersEnd("keys", 3, "query exceeds"), 1)
    assert effects == (Emit(RequestRefused(2, "query exceeds")),)
    assert answered(state, said(A, OK, 3), 1) == (state, ())


WRONG = {  # as Go counts
    "": None, KEY: None, "AAA=": None, "AA==": None, "AA\n==": None, "AAAA\r\n": None,
    "!": 0, "AA!A": 2, "A": 0, "AAAAA": 4, "AA": 0, "AAA": 0, "A=": 1, "=": 0, "AA=": 3,
    "AA=A": 2, "AA==A": 4, "AAA=A": 4, "AA-_": 2, "AAAAü": 4,
}  # fmt: skip


@pytest.mark.parametrize(("text", "at"), WRONG.items())
def test_what_is_no_base64_is_not_sent(text: str, at: int | None) -> None:
    state, (effect,) = manage(Keys(), ManageKeys(1, "install", text), 1)
    if at is None:
        assert isinstance(effect, Then)
    else:
        reason = f"illegal base64 data at input byte {at}"
        assert (state, effect) == (Keys(), Emit(RequestRefused(1, reason)))


def query(name: str, payload: bytes | None) -> InternalQuery:
    return InternalQuery(5, 6, name, payload)


FAILED = Then(AnswerInternal(5, 6, serf.encode(KeyResponse(False))))
REQUESTS: dict[str, tuple[InternalQuery, Any]] = {
    "install": (query("_serf_install-key", serf.encode(KeyRequest(b"k"))),
                ChangeKeyring(5, 6, "install", b"k")),
    "use": (query("_serf_use-key", serf.encode(KeyRequest(b"k"))),
            ChangeKeyring(5, 6, "use", b"k")),
    "remove": (query("_serf_remove-key", serf.encode(KeyRequest(None))),
               ChangeKeyring(5, 6, "remove", b"")),
    "list, whatever it says": (query("_serf_list-keys", None), ChangeKeyring(5, 6, "list", b"")),
    "nothing at all kills Serf": (query("_serf_install-key", b""), FAILED),
    "nor": (query("_serf_use-key", None), FAILED),
    "nonsense": (query("_serf_remove-key", b"\x07\xc1"), FAILED),
}  # fmt: skip


@pytest.mark.parametrize(("asked_", "effect"), REQUESTS.values(), ids=REQUESTS)
def test_requests(asked_: InternalQuery, effect: Any) -> None:
    assert asked(asked_) == (effect,)


def response(answer: KeyringAnswered, limit: int = 1024) -> KeyResponse:
    config = replace(SERF, query_response_size_limit=limit)
    (effect,) = changed(answer, A, config)
    message = serf.encode(QueryResponse(5, 6, A, 0, effect.news.payload))
    assert len(message) <= limit
    read = serf.decode(effect.news.payload)
    assert isinstance(read, KeyResponse)
    return read


def test_how_it_went_is_said() -> None:
    assert response(KeyringAnswered(5, 6, "use", "no such key")) == KeyResponse(
        False, "no such key"
    )
    assert response(KeyringAnswered(5, 6, "use")) == KeyResponse(True)
    listed = response(KeyringAnswered(5, 6, "list", "", ("k1", "k2"), "k1"))
    assert listed == KeyResponse(True, "", ("k1", "k2"), "k1")


def test_a_long_list_is_cut_and_says_so() -> None:
    keys = tuple(f"{n:02}{'A' * 42}" for n in range(50))
    listed = response(KeyringAnswered(5, 6, "list", "", keys, keys[0]))
    assert listed.result
    shown = len(listed.keys or ())
    assert 0 < shown < 50
    assert listed.keys == keys[:shown]
    assert listed.message == f"truncated key list response, showing first {shown} of 50 keys"
