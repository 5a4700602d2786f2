"""What real nodes refuse, and what they crash on, is refused here, and nothing worse.

tests/vectors/reject.json and hostile.json; ``accept.json`` is among the golden vectors.
"""

from __future__ import annotations

from typing import Any

import pytest

from swimsim.messages import Nack, PushPull, User
from swimsim.wire import Envelope, Packet, WireError, packet, serf, stream
from tests.wire.vectors import Vector, named, ring, wire

REJECTED = named("reject")
HOSTILE = named("hostile")


def read(vector: Vector) -> Any:
    """What the vector's bytes say, wherever they belong."""
    envelope = Envelope(keyring=ring(vector))
    match vector["kind"]:
        case "packet":
            return packet.decode(wire(vector), envelope)
        case "stream":
            return stream.decode(wire(vector), envelope, first=True)
        case "serf":
            return serf.decode_gossip(wire(vector))
        case "filter":
            return serf.decode_filter(wire(vector))
    raise ValueError(vector["kind"])


WHY = {  # what, and some words of what is said
    "empty": ("empty", "an empty datagram"),
    "type-only": ("truncated", "byte 1: ends within a value"),
    "type-14": ("unknown-type", "message type 14"),
    "type-99": ("unknown-type", "message type 99"),
    "type-200": ("unknown-type", "message type 200"),
    "type-255": ("unknown-type", "message type 255"),
    "push-pull-in-packet": ("unknown-type", "message type 6"),
    "encrypt-type-in-packet": ("unknown-type", "message type 10"),
    "truncated": ("truncated", "SeqNo, byte 24: ends within a value"),
    "not-a-map": ("malformed", "byte 1: expected a map, found a5"),
    "wrong-type": ("malformed", "SeqNo, byte 21: expected a number, found a1"),
    "negative-seqno": ("out-of-range", "SeqNo, byte 8: -1 is not from 0 to 4294967295"),
    "too-big-seqno": ("out-of-range", "4294967296 is not from 0 to 4294967295"),
    "bad-crc": ("checksum", "CRC 96e55de9, the packet says 01020304"),
    "compound-empty": ("truncated", "a compound without a count"),
    "compound-short-lens": ("truncated", "a compound without its 9 lengths"),
    "compress-bad-algo": ("compression", "Algo: algorithm 1, expected 0"),
    "compress-bad-lzw": ("compression", "bit 9: LZW code 511 names no entry"),
    "compress-cut": ("compression", "without an end code"),
    "compress-no-clear": ("compression", "bit 0: LZW code 511 names no entry"),
    "encrypt-wrong-key": ("undecryptable", "none of 2 keys"),
    "encrypt-bad-tag": ("undecryptable", "none of 1 keys"),
    "encrypt-bad-nonce": ("undecryptable", "none of 1 keys"),
    "encrypt-version-2": ("encryption", "encryption version 2, expected 0 or 1"),
    "encrypt-short": ("encryption", "20 bytes, an encrypted block has 29 or more"),
    "encrypt-plain-given": ("encryption", "26 bytes, an encrypted block has 45 or more"),
    "encrypt-version-swap": ("encryption", "padding of 220 bytes"),
    "compress-to-nothing": ("empty", "nothing was compressed"),
    "compound-empty-part": ("empty", "part 0: a message of no bytes"),
    "encrypt-nothing": ("empty", "nothing was encrypted"),
    "stream-empty": ("empty", "a stream of no bytes"),
    "stream-type-77": ("unknown-type", "message type 77 on a stream"),
    "stream-gossip-type": ("unknown-type", "message type 4 on a stream"),
    "stream-push-pull-cut": ("truncated", "byte 86: ends within its states"),
    "stream-push-pull-negative": ("out-of-range", "Nodes: -1 is negative"),
    "stream-bad-aad": ("undecryptable", "none of 1 keys"),
    "serf-unknown-type": ("unknown-type", "Serf message type 10"),
    "serf-truncated": ("truncated", "byte 9: ends within a value"),
    "filter-unknown": ("unknown-type", "filter type 7"),
}


@pytest.mark.parametrize("vector", REJECTED.values(), ids=REJECTED)
def test_what_real_nodes_refuse_is_refused(vector: Vector) -> None:
    what, words = WHY[vector["name"]]
    if vector["name"] == "compound-empty-part":  # the compound is well, the part is not
        (error,) = read(vector).refusals
    else:
        with pytest.raises(WireError) as caught:
            read(vector)
        error = caught.value
    assert error.what == what
    assert words in str(error)


def test_every_refusal_is_accounted_for() -> None:
    assert set(WHY) == {vector["name"] for vector in REJECTED.values()}


HOW = {  # what becomes of it: a number of messages, or the category of its refusal
    "compress-to-nothing": "empty",
    "compound-empty-part": "empty",
    "compound-deep": "too-deep",
    "compound-128": 128,
    "compress-bomb": "too-large",
    "msgpack-huge-len": "truncated",
    "msgpack-huge-map": "too-large",
    "msgpack-huge-array-unknown": "too-large",
    "stream-nodes-negative": "out-of-range",
    "stream-nodes-huge": "too-large",
    "stream-user-negative": "out-of-range",
    "stream-huge-array-unknown": "too-large",
    "stream-compress-nothing": "empty",
    "stream-cut-after-type": "truncated",
    "stream-user-negative-len": "out-of-range",
}


@pytest.mark.parametrize("vector", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_read_or_refused(vector: Vector) -> None:
    try:
        found = read(vector)
        if isinstance(found, Packet):
            outcome = found.refusals[0].what if found.refusals else len(found.messages)
        else:
            outcome = 1
    except WireError as error:
        outcome = error.what
    assert outcome == HOW.get(vector["name"], 1)


def hostile(name: str) -> Any:
    return read(HOSTILE[f"hostile:{name}"])


def test_a_compound_of_128_which_old_nodes_misread_is_read() -> None:
    wanted = tuple(Nack(3_000_000_000 + index) for index in range(128))
    assert hostile("compound-128") == Packet(wanted)


def test_a_record_in_an_unknown_state_is_left_out() -> None:
    vector = HOSTILE["hostile:stream-state-9"]
    decoder, said = stream.feed(stream.accepted(Envelope()), wire(vector))
    assert said == PushPull(False, ())
    (error,) = decoder.refusals
    assert (error.what, error.where) == ("out-of-range", "node 0, State")


SERF = {  # hostile Serf messages in a packet, and how they fare
    "user-huge-array-unknown": "too-large",
    "user-empty": "empty",
    "user-unknown-type": "unknown-type",
    "query-empty-filter": None,
    "query-bad-filter": None,
    "query-bad-regex": None,
    "query-unknown-internal": None,
    "query-install-key-empty": None,
    "query-install-key-bad": None,
    "query-response-unknown": None,
    "relay-bad-inner": None,
    "join-ltime-max": None,
    "user-event-ltime-max": None,
    "leave-unknown": None,
}


@pytest.mark.parametrize(("name", "what"), SERF.items(), ids=SERF)
def test_hostile_serf_messages_are_read_or_refused(name: str, what: str | None) -> None:
    (user,) = hostile(name).messages
    assert isinstance(user, User)
    if what is None:
        serf.decode_gossip(user.payload)
    else:
        with pytest.raises(WireError) as caught:
            serf.decode_gossip(user.payload)
        assert caught.value.what == what


def test_hostile_filters_and_key_requests_are_refused_when_they_are_used() -> None:
    whats = {}
    for name in ("query-empty-filter", "query-bad-filter"):
        query = serf.decode_gossip(hostile(name).messages[0].payload)
        with pytest.raises(WireError) as caught:
            serf.decode_filter(query.filters[0])
        whats[name] = caught.value.what
    for name in ("query-install-key-empty", "query-install-key-bad"):
        query = serf.decode_gossip(hostile(name).messages[0].payload)
        with pytest.raises(WireError) as caught:
            serf.decode_key_request(query.payload or b"")
        whats[name] = caught.value.what
    assert whats == {
        "query-empty-filter": "empty",
        "query-bad-filter": "truncated",
        "query-install-key-empty": "empty",
        "query-install-key-bad": "truncated",
    }


def test_tags_before_a_mistake_are_kept() -> None:
    (alive,) = hostile("alive-bad-tags").messages
    tags, error = serf.decode_tags(alive.peer.meta)
    assert tags == {}
    assert error is not None
    assert error.what == "truncated"
    good = b"\xff\x82\xa4role\xa3web\xa1"
    assert serf.decode_tags(good)[0] == {"role": "web"}
