"""Tags: refused with the numbers that matter, done when they are said (spec serf.md, 2.18)."""

from __future__ import annotations

from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import After, Emit, RequestDone, RequestRefused, Then
from swimsim.inputs import RequestTimeout, SetTags, UpdateMeta
from swimsim.serf.tags import Tags, change, finished, timed_out
from tests.builders import who

SERF = replace(LAN, serf=True)
ME = who("A")


def test_tags_are_said_in_the_next_incarnation() -> None:
    ask = SetTags(4, (("role", "web"),))
    state, effects = change(Tags(), ask, ME, 6, SERF, started=True)
    meta = bytes.fromhex("ff81a4726f6c65a3776562")
    assert effects == (After(SERF.broadcast_timeout, RequestTimeout(4)), Then(UpdateMeta(meta)))
    assert finished(state, 6) == (state, ())
    assert finished(state, 7) == (Tags(), (Emit(RequestDone(4)),))
    assert finished(state, 9) == (Tags(), (Emit(RequestDone(4)),)), "something newer was said"
    late = RequestRefused(4, "timeout waiting for update broadcast")
    assert timed_out(state, 4) == (Tags(), (Emit(late),))
    assert timed_out(state, 5) == (state, ())


def test_before_the_start_they_are_simply_taken() -> None:
    state, effects = change(Tags(), SetTags(4, ()), ME, 0, SERF, started=False)
    assert (state, effects) == (Tags(), (Then(UpdateMeta(b"\xff\x80")), Emit(RequestDone(4))))


def test_an_old_member_has_but_a_role() -> None:
    old = who("A", vsn=bytes((1, 5, 2, 2, 5, 2)))
    ask = SetTags(4, (("role", "web"), ("dc", "east")))
    _, effects = change(Tags(), ask, old, 0, SERF, started=False)
    assert effects[0] == Then(UpdateMeta(b"web"))


def test_too_long_tags_are_refused_with_their_length_and_the_limit() -> None:
    ask = SetTags(4, (("role", "x" * 501),))
    state, effects = change(Tags(), ask, ME, 6, SERF, started=True)
    text = "Encoded length of tags exceeds limit of 512 bytes: it is 511"
    assert len(effects) == 2, "511 bytes pass"
    ask = SetTags(4, (("role", "x" * 503),))
    state, effects = change(Tags(), ask, ME, 6, SERF, started=True)
    text = "Encoded length of tags exceeds limit of 512 bytes: it is 513"
    assert (state, effects) == (Tags(), (Emit(RequestRefused(4, text)),))


def test_tags_that_no_packet_takes_are_refused_with_what_it_would_take() -> None:
    small = replace(SERF, packet_size=300)
    ask = SetTags(4, (("role", "x" * 280),))
    state, effects = change(Tags(), ask, ME, 6, small, started=True)
    text = "encoded tags have 290 bytes, and what announces them 353: a packet takes 296"
    assert (state, effects) == (Tags(), (Emit(RequestRefused(4, text)),))
