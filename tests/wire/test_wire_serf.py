"""Serf's messages both ways, and what of them is refused (spec serf.md, 1.2 to 1.10)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimsim.serf import messages as said
from swimsim.terms import Address, NodeId
from swimsim.wire import WireError, serf
from tests.wire import strategies

HERE = Address(b"\x7f\0\0\1", 7946)
JOIN = said.JoinIntent(1, NodeId("n1"))


def refused(decode: Any, data: bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(data)
    return caught.value


@given(strategies.gossip)
def test_gossip_is_read_as_it_was_written(message: said.Gossip) -> None:
    data = serf.encode(message)
    assert serf.decode(data) == serf.decode_gossip(data) == message
    assert serf.encode(serf.decode(data)) == data


@given(strategies.enclosed)
def test_what_is_enclosed_is_read_as_it_was_written(message: said.Enclosed) -> None:
    data = serf.encode(message)
    assert serf.decode(data) == message
    assert serf.encode(serf.decode(data)) == data
    error = refused(serf.decode_gossip, data)
    assert error.what == "unknown-type"
    assert str(error) == f"byte 0: Serf message type {data[0]} in a packet"


@given(strategies.gossip | strategies.enclosed, st.binary(min_size=1, max_size=9))
def test_what_follows_a_message_is_ignored(message: said.SerfMessage, tail: bytes) -> None:
    if not isinstance(message, said.Relay):
        assert serf.decode(serf.encode(message) + tail) == message


@given(strategies.gossip | strategies.enclosed)
def test_a_message_cut_short_is_refused(message: said.SerfMessage) -> None:
    data = serf.encode(message)
    end = len(data) - (len(message.message) if isinstance(message, said.Relay) else 0)
    for cut in range(end):
        assert refused(serf.decode, data[:cut]).what == ("truncated" if cut else "empty")


@given(strategies.filters)
def test_filters(chosen: said.Filter) -> None:
    assert serf.decode_filter(serf.encode_filter(chosen)) == chosen


@given(strategies.tags)
def test_tags(tags: dict[str, str]) -> None:
    try:
        meta = serf.encode_tags(tags)
    except ValueError:
        return  # too long
    assert len(meta) <= 512
    assert serf.decode_tags(meta) == (tags, None)
    assert list(serf.decode_tags(meta)[0]) == list(tags)


@given(st.text(max_size=90))
def test_before_version_3_there_is_a_role_only(role: str) -> None:
    meta = serf.encode_tags({"dc": "east", "role": role}, protocol=2)
    assert meta == role.encode()
    assert serf.decode_tags(meta) == ({"role": role}, None)


@given(strategies.coordinates)
def test_coordinates(place: said.Coordinate) -> None:
    assert serf.decode_coordinate(serf.encode_coordinate(place)) == place


def test_a_coordinate_that_is_none_is_read() -> None:
    place = said.Coordinate((math.nan, math.inf), -1.0, 0.0, -math.inf)
    read = serf.decode_coordinate(serf.encode_coordinate(place))
    assert math.isnan(read.vec[0])
    assert read.height == -math.inf


# --- odd forms --------------------------------------------------------------------------------

FORMS: dict[str, tuple[bytes, said.SerfMessage]] = {
    "nothing but a nil": (b"\x01\xc0", said.JoinIntent(0, NodeId(""))),
    "no fields": (b"\x03\x80", said.UserEvent(0, "")),
    "an empty array": (b"\x01\x90", said.JoinIntent(0, NodeId(""))),
    "a leave of a very old peer, without Prune": (
        b"\x00\x82\xa5LTime\x03\xa4Node\xa2c2", said.LeaveIntent(3, NodeId("c2")),
    ),
    "a name as bin": (b"\x01\x81\xa4Node\xc4\x02n1", said.JoinIntent(0, NodeId("n1"))),
    "a payload as numbers": (
        b"\x03\x81\xa7Payload\x93\1\2\3", said.UserEvent(0, "", b"\1\2\3"),
    ),
    "no map of members": (
        b"\x02\x80", said.SerfState(0, 0, 0, None, None, None),
    ),
    "maps and arrays of nothing": (
        b"\x02\x83\xacStatusLTimes\x80\xabLeftMembers\x90\xa6Events\x90",
        said.SerfState(0, 0, 0, (), (), said.EventBuffer(0)),
    ),
    "a slot that is an empty map": (
        b"\x02\x81\xa6Events\x91\x80",
        said.SerfState(
            0, 0, 0, None, None, said.EventBuffer(1, ((0, said.EventSlot(0, ())),))
        ),
    ),
    "a slot without events": (
        b"\x02\x81\xa6Events\x92\xc0\x82\xa6Events\xc0\xa5LTime\x05",
        said.SerfState(
            0, 0, 0, None, None, said.EventBuffer(2, ((1, said.EventSlot(5, ())),))
        ),
    ),
    "a member twice": (
        b"\x02\x81\xacStatusLTimes\x82\xa1a\x01\xa1a\x02",
        said.SerfState(0, 0, 0, ((NodeId("a"), 2),), None, None),
    ),
    "a conflict response of a nil member": (b"\x06\xc0", said.ConflictResponse(None)),
    "a relay of nothing": (b"\x09\x80", said.Relay(Address(b"", 0), NodeId(""), b"")),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), FORMS.values(), ids=FORMS)
def test_odd_forms(data: bytes, message: said.SerfMessage) -> None:
    assert serf.decode(data) == message


REFUSED = {  # decoder, bytes, what, some words
    "no message": (serf.decode, b"", "empty", "a Serf message of no bytes"),
    "an unknown message": (serf.decode, b"\x0a\x80", "unknown-type", "Serf message type 10"),
    "a struct as an array": (serf.decode, b"\x01\x92\1\xa1n", "malformed", "expected a map"),
    "an LTime below 0": (serf.decode, b"\x01\x81\xa5LTime\xff", "out-of-range", "LTime, byte 8"),
    "a port of 70000": (
        serf.decode, b"\x04\x81\xa4Port\xce\0\1\x11\x70", "out-of-range", "Port",
    ),
    "a relay to port -1": (
        serf.decode, b"\x09\x81\xa8DestAddr\x81\xa4Port\xff", "out-of-range", "DestAddr, Port",
    ),
    "a bad event in a slot": (
        serf.decode, b"\x02\x81\xa6Events\x91\x81\xa6Events\x91\x81\xa4Name\x07",
        "malformed", "Events, Events, Name, byte 25",
    ),
    "an empty filter": (serf.decode_filter, b"", "empty", "a filter of no bytes"),
    "a filter of type 2": (serf.decode_filter, b"\2\x80", "unknown-type", "filter type 2"),
    "a node filter that is a map": (serf.decode_filter, b"\0\x80", "malformed", "an array"),
    "a tag filter that is an array": (serf.decode_filter, b"\1\x91\xa0", "malformed", "a map"),
    "a key request of nothing": (serf.decode_key_request, b"", "empty", "of no bytes"),
    "a coordinate of nothing": (serf.decode_coordinate, b"", "empty", "of no bytes"),
    "another ping version": (
        serf.decode_coordinate, b"\2\x80", "unknown-type", "ping version 2, expected 1",
    ),
    "a coordinate of texts": (
        serf.decode_coordinate, b"\1\x81\xa3Vec\x91\xa0", "malformed", "Vec, byte 7",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("decode", "data", "what", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(decode: Any, data: bytes, what: str, words: str) -> None:
    error = refused(decode, data)
    assert error.what == what
    assert words in str(error)


def test_the_type_of_a_key_request_does_not_matter() -> None:
    wanted = said.KeyRequest(b"key")
    assert serf.decode_key_request(serf.encode(wanted)) == wanted
    assert serf.decode_key_request(b"\xee" + serf.encode(wanted)[1:]) == wanted


def test_tags_end_at_a_mistake() -> None:
    tags, error = serf.decode_tags(b"\xff\x83\xa1a\xa1b\xa1c\xa1d\xa1e\x07")
    assert tags == {"a": "b", "c": "d"}
    assert error is not None
    assert error.what == "malformed"
    tags, error = serf.decode_tags(b"\xff\xa0")
    assert tags == {}
    assert error is not None


def test_tags_have_a_limit() -> None:
    fits = {"t": "x" * (512 - 1 - 1 - 2 - 3)}
    assert len(serf.encode_tags(fits)) == 512
    for protocol in (2, 5):
        with pytest.raises(ValueError, match="exceeds limit of 512 bytes"):
            serf.encode_tags({"role": "x" * 513}, protocol)


def test_a_member_has_six_versions() -> None:
    member = said.MemberInfo(NodeId("n"), HERE, b"\1\2\3", 1)
    with pytest.raises(ValueError, match="vsn has 3 bytes, expected 6"):
        serf.encode(said.ConflictResponse(member))


def test_an_index_beyond_the_buffer_is_not_written() -> None:
    slot = said.EventSlot(1, ())
    with pytest.raises(ValueError, match="Events: element 512 of 512"):
        serf.encode(said.SerfState(1, 1, 1, events=said.EventBuffer(512, ((512, slot),))))
