"""Streams: framing that copes with any portions, and what each side accepts (spec 5)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.member import Member, Status, peer
from swimsim.members import build
from swimsim.messages import Ack, Ping, PushPull, User, size
from swimsim.terms import Address, NodeId
from swimsim.wire import Envelope, ErrorReply, Limits, StreamMessage, WireError, keyring, stream
from swimsim.wire.envelope import MAX_REFUSALS, PLAIN, compressed
from swimsim.wire.stream import Decoder, accepted, answer, connected, ended, feed
from tests.wire import strategies
from tests.wire.vectors import named, ring, wire

KEY = bytes(16)
RING = keyring.keyring([KEY])
NONCE = bytes(range(12))
HERE = Address(b"\x7f\0\0\1", 7946)
VSN = bytes((1, 5, 2, 2, 5, 5))


def record(name: str, status: Status = Status.ALIVE, meta: bytes = b"") -> Member:
    return Member(peer(NodeId(name), HERE, meta, VSN), 1, status)


PING = Ping(1, NodeId("n2"), HERE, NodeId("n1"))
SYNC = PushPull(True, tuple(record(f"n{index}", Status(index % 4)) for index in range(9)), b"state")
SAID: dict[str, StreamMessage] = {
    "ping": PING,
    "ack": Ack(1),
    "push/pull": SYNC,
    "empty push/pull": PushPull(False, ()),
    "user message": User(b"hello" * 100),
    "empty user message": User(b""),
    "error": ErrorReply("boom"),
}
ENVELOPES = {
    "plain": PLAIN,
    "label": Envelope(label=b"lbl", compress=False),
    "compressed": Envelope(),
    "encrypted": Envelope(keyring=RING, compress=False),
    "padded": Envelope(keyring=RING, encryption_version=0, compress=False),
    "everything": Envelope(keyring=RING, label=b"lbl"),
}


def refused(data: bytes, envelope: Envelope = PLAIN, first: bool = True) -> WireError:
    with pytest.raises(WireError) as caught:
        stream.decode(data, envelope, first=first)
    return caught.value


# --- both ways --------------------------------------------------------------------------------


@given(strategies.streams, strategies.envelopes, st.booleans(), strategies.nonces)
def test_a_stream_is_read_as_it_was_written(
    message: StreamMessage, envelope: Envelope, first: bool, nonce: bytes
) -> None:
    data = stream.encode(message, envelope, first=first, nonce=nonce)
    assert stream.decode(data, envelope, first=first) == message


@given(strategies.push_pulls | strategies.pings | strategies.acks)
def test_size_is_the_length_of_the_encoding(message: PushPull | Ping | Ack) -> None:
    assert size(message) == len(stream.encode(message, PLAIN, first=True))


def test_a_table_is_written_as_its_records_are() -> None:
    table = PushPull(True, build(SYNC.states), b"state")  # type: ignore[arg-type]
    written = stream.encode(table, PLAIN, first=True)
    assert written == stream.encode(SYNC, PLAIN, first=True)
    assert size(table) == len(written)


def test_only_who_connects_writes_a_label() -> None:
    labelled = ENVELOPES["everything"]
    request = stream.encode(PING, labelled, first=True, nonce=NONCE)
    reply = stream.encode(PING, labelled, first=False, nonce=NONCE)
    assert request == b"\xf4\x03lbl" + reply
    assert refused(request, labelled, first=False).what == "unencrypted"
    assert refused(b"\xf4\x03lbl" + b"\0\x80", ENVELOPES["label"], first=False).what == (
        "unknown-type"
    )
    other = replace(labelled, label=b"abc")
    assert refused(reply, other, first=False).what == "undecryptable"


def test_a_stream_is_compressed_even_if_that_makes_it_longer() -> None:
    plain = stream.encode(Ack(1), PLAIN, first=True)
    packed = stream.encode(Ack(1), Envelope(), first=True)
    assert packed == compressed(plain)
    assert len(packed) > len(plain)


def test_encryption_needs_a_nonce() -> None:
    with pytest.raises(ValueError, match="encryption needs a nonce"):
        stream.encode(PING, Envelope(keyring=RING), first=True)
    mute = Envelope(keyring=RING, verify_outgoing=False, compress=False)
    assert stream.encode(PING, mute, first=True) == stream.encode(PING, PLAIN, first=True)


# --- portions ---------------------------------------------------------------------------------


def fed(decoder: Decoder, portions: list[bytes]) -> tuple[StreamMessage | str, int]:
    """What comes of these portions, and of which of them."""
    for index, portion in enumerate(portions):
        try:
            decoder, message = feed(decoder, portion)
        except WireError as error:
            return f"{error.what}: {error}", index
        if message is not None:
            assert decoder.stage == "done"
            assert decoder.pieces == ()
            return message, index
    return f"{ended(decoder).what}: {ended(decoder)}", len(portions)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


MATRIX = list(itertools.product(SAID, ENVELOPES))


@pytest.mark.parametrize(("name", "wrapped"), MATRIX, ids=map(" ".join, MATRIX))
def test_a_stream_byte_by_byte(name: str, wrapped: str) -> None:
    message, envelope = SAID[name], ENVELOPES[wrapped]
    for first, begin in ((True, accepted), (False, connected)):
        data = stream.encode(message, envelope, first=first, nonce=NONCE)
        portions = [bytes((byte,)) for byte in data + b"tail"]
        assert fed(begin(envelope), portions) == (message, len(data) - 1)


STREAMS = named("memberlist-streams", "reject", "hostile", "live-plain", kind="stream")


@given(st.sampled_from(list(STREAMS)), st.lists(st.integers(0, 5000), max_size=12))
def test_any_portions_give_the_same_as_one(name: str, places: list[int]) -> None:
    data, envelope = wire(STREAMS[name]), Envelope(keyring=ring(STREAMS[name]))
    whole, _ = fed(accepted(envelope), [data])
    assert fed(accepted(envelope), cut(data, places))[0] == whole


@given(
    strategies.streams,
    strategies.envelopes,
    st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=3),
)
def test_any_portions_of_a_damaged_stream_give_the_same_as_one(
    message: StreamMessage,
    envelope: Envelope,
    places: list[int],
    damage: list[tuple[int, int]],
) -> None:
    data = bytearray(stream.encode(message, envelope, first=True, nonce=NONCE))
    for place, byte in damage:
        data[place % len(data)] = byte
    whole, _ = fed(accepted(envelope), [bytes(data)])
    assert fed(accepted(envelope), cut(bytes(data), places))[0] == whole


@pytest.mark.parametrize("size", [1, 2, 3, 7, 14, 100])
def test_how_much_may_be_announced_does_not_depend_on_the_portions(size: int) -> None:
    """Arrays within arrays: the second promises more than may be outstanding."""
    data = b"\x02\x82\xa7Payload\xdc\xdc\xdc\xdc\xdc\xdc" + b"\x01" * 20
    whole, _ = fed(accepted(PLAIN), [data])
    assert whole == "too-large: byte 13: announces 56540 elements"
    portions = [data[at : at + size] for at in range(0, len(data), size)]
    assert fed(accepted(PLAIN), portions)[0] == whole


@given(strategies.streams, strategies.envelopes, st.booleans())
def test_a_message_is_complete_with_its_last_byte(
    message: StreamMessage, envelope: Envelope, first: bool
) -> None:
    data = stream.encode(message, envelope, first=first, nonce=NONCE)
    begin = accepted(envelope) if first else connected(envelope)
    decoder, early = feed(begin, data[:-1])
    assert early is None
    assert ended(decoder).what == ("truncated" if len(data) > 1 else "empty")
    assert feed(decoder, data[-1:])[1] == message
    assert feed(decoder, data[-1:] + data)[1] == message


def test_a_decoder_is_a_value() -> None:
    data = stream.encode(SYNC, PLAIN, first=True)
    half, _ = feed(accepted(PLAIN), data[:50])
    assert feed(half, data[50:])[1] == SYNC
    assert refused(data[:50] + b"\xc1" * 99).what == "malformed"
    assert feed(half, data[50:])[1] == SYNC
    assert half == feed(accepted(PLAIN), data[:50])[0]


def test_what_comes_after_the_message_is_ignored() -> None:
    done, message = feed(accepted(PLAIN), stream.encode(PING, PLAIN, first=True) + b"tail")
    assert message == PING
    assert feed(done, b"more") == (done, None)


@pytest.mark.parametrize("value", [b"\xdd\xff\xff\xff\xff", b"\xc1"])
@pytest.mark.parametrize("size", range(1, 9))
def test_the_place_of_a_mistake_does_not_depend_on_the_portions(value: bytes, size: int) -> None:
    data = b"\0\xde\0\x20" + b"\xa1z\x92\xa3abc\xcd\0\0" * 20 + b"\xa1z" + value
    whole, _ = fed(accepted(PLAIN), [data])
    portions = [data[at : at + size] for at in range(0, len(data), size)]
    assert fed(accepted(PLAIN), portions)[0] == whole
    assert f"byte {len(data) - len(value)}" in str(whole)


def test_no_bytes_change_nothing() -> None:
    half, _ = feed(accepted(PLAIN), b"\x06\x83")
    assert feed(half, b"") == (half, None)


# --- who may say what -------------------------------------------------------------------------

SEALED = stream.encode(PING, ENVELOPES["encrypted"], first=True, nonce=NONCE)
BARE = stream.encode(PING, PLAIN, first=True)
CRYPTED = ENVELOPES["encrypted"]
LENIENT = replace(CRYPTED, verify_incoming=False)
HEADER = b"\x06\x83\xa4Join\xc2\xa5Nodes%b\xacUserStateLen%b"
FRAMED = b"\x0a" + (29).to_bytes(4, "big")
REFUSED = {  # bytes, receiver, what, some words
    "nothing": (b"", PLAIN, "empty", "no bytes"),
    "plain, with a key": (BARE, CRYPTED, "unencrypted", "a plain stream"),
    "encrypted, without a key": (SEALED, PLAIN, "unexpected-encryption", "no key"),
    "another key": (SEALED, Envelope(keyring=keyring.keyring([bytes(32)])), "undecryptable", ""),
    "another length": (b"\x0a\0\0\0\x1d" + SEALED[5:], CRYPTED, "undecryptable", "none of 1"),
    "a short block": (b"\x0a\0\0\0\x1c", CRYPTED, "encryption", "block of 28 bytes"),
    "a long block": (b"\x0a\x01\x40\0\1", CRYPTED, "too-large", "block of 20971521 bytes"),
    "encrypted twice": (
        FRAMED[:4] + b"\x2b" + keyring.seal(RING, b"\x0a" + bytes(13), NONCE, FRAMED[:4] + b"\x2b"),
        CRYPTED, "unknown-type", "message type 10",
    ),
    "compressed twice": (compressed(compressed(BARE)), PLAIN, "unknown-type", "type 9"),
    "compressed nothing": (compressed(b""), PLAIN, "empty", "nothing was compressed"),
    "an alive": (b"\x04\x80", PLAIN, "unknown-type", "message type 4 on a stream"),
    "a compressed alive": (compressed(b"\x04\x80"), PLAIN, "unknown-type", "message type 4"),
    "a compound": (b"\x07\x00", PLAIN, "unknown-type", "message type 7"),
    "a CRC": (b"\x0c\0\0\0\0" + BARE, PLAIN, "unknown-type", "message type 12"),
    "a label": (b"\xf4\x03lbl" + BARE, PLAIN, "label", "label b'lbl', expected b''"),
    "no label": (BARE, ENVELOPES["label"], "label", "label b'', expected b'lbl'"),
    "an empty label": (b"\xf4\0", ENVELOPES["label"], "label", "header without a label"),
    "-1 nodes": (HEADER % (b"\xff", b"\0"), PLAIN, "out-of-range", "Nodes: -1"),
    "too many nodes": (HEADER % (b"\xce\0\x10\0\1", b"\0"), PLAIN, "too-large", "Nodes: 1048577"),
    "-1 bytes": (HEADER % (b"\0", b"\xff"), PLAIN, "out-of-range", "UserStateLen: -1"),
    "too many bytes": (
        HEADER % (b"\0", b"\xce\x01\x40\0\1"), PLAIN, "too-large", "UserStateLen: 20971521",
    ),
    "too long a user message": (
        b"\x08\x81\xaaUserMsgLen\xce\x01\x40\0\1", PLAIN, "too-large", "UserMsgLen: 20971521",
    ),
    "a bad record": (
        HEADER % (b"\2", b"\0") + b"\x80\x81\xa4Port\xff", PLAIN,
        "out-of-range", "node 1, Port, byte 36",
    ),
    "a record that is none": (HEADER % (b"\1", b"\0") + b"\x07", PLAIN, "malformed", "node 0"),
    "nonsense among records": (HEADER % (b"\1", b"\0") + b"\xc1", PLAIN, "malformed", "c1"),
    "a ping that is no map": (b"\0\xa0", PLAIN, "malformed", "expected a map"),
    "cut within the label": (b"\xf4\x03l", ENVELOPES["label"], "truncated", "within its label"),
    "cut within the frame": (b"\x0a\0\0", CRYPTED, "truncated", "ends within its frame"),
    "cut within the block": (SEALED[:-1], CRYPTED, "truncated", "ends within its block"),
    "cut within the header": (b"\x06\x83", PLAIN, "truncated", "ends within its header"),
    "cut within the records": (HEADER % (b"\1", b"\0"), PLAIN, "truncated", "its states"),
    "cut within the user state": (HEADER % (b"\0", b"\1"), PLAIN, "truncated", "its body"),
    "records that lack, compressed": (
        compressed(HEADER % (b"\1", b"\0")), PLAIN, "truncated", "node 0, byte 29",
    ),
    "user state that lacks, compressed": (
        compressed(HEADER % (b"\0", b"\2") + b"x"), PLAIN, "truncated", "1 of the application's 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "envelope", "what", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, envelope: Envelope, what: str, words: str) -> None:
    error = refused(data, envelope)
    assert error.what == what
    assert words in str(error)


def test_verify_incoming() -> None:
    assert stream.decode(BARE, LENIENT, first=True) == PING
    assert stream.decode(SEALED, LENIENT, first=True) == PING
    damaged = SEALED[:-1] + bytes((SEALED[-1] ^ 1,))
    assert refused(damaged, LENIENT).what == "undecryptable"


def test_a_label_that_somebody_else_checked() -> None:
    skipping = Envelope(label=b"lbl", skip_label_check=True, keyring=RING)
    data = stream.encode(PING, skipping, first=True, nonce=NONCE)
    assert stream.decode(data[5:], skipping, first=True) == PING
    assert refused(data, skipping).what == "label"


def test_a_refusal_comes_as_soon_as_it_can() -> None:
    """Not after the 20 MiB that were announced."""
    for data, envelope in (
        (b"\x0a\x7f\xff\xff\xff", CRYPTED),
        (b"\x0a", PLAIN),
        (b"\x06", CRYPTED),
        (HEADER % (b"\xce\x7f\xff\xff\xff", b"\0"), PLAIN),
        (b"\x06\x81\xa3Zed\xdd\xff\xff\xff\xff", PLAIN),
        (b"\x0d\x81\xa5Error\xdb\xff\xff\xff\xff", PLAIN),
        (HEADER % (b"\1", b"\0") + b"\xdb\xff\xff\xff\xff", PLAIN),
    ):
        with pytest.raises(WireError):
            feed(accepted(envelope), data)


LIMITED = {  # limits, a message that is just within them
    "user": (Limits(user=500), User(bytes(500))),
    "user state": (Limits(user=500), PushPull(True, (), bytes(500))),
    "nodes": (Limits(nodes=3), PushPull(True, SYNC.states[:3])),  # type: ignore[index]
}


@pytest.mark.parametrize(("limits", "message"), LIMITED.values(), ids=LIMITED)
@pytest.mark.parametrize("compress", [False, True])
def test_limits(limits: Limits, message: StreamMessage, compress: bool) -> None:
    envelope = Envelope(compress=compress, limits=limits)
    data = stream.encode(message, envelope, first=True)
    assert stream.decode(data, envelope, first=True) == message
    tighter = replace(limits, user=limits.user - 1, nodes=limits.nodes - 1)
    assert refused(data, replace(envelope, limits=tighter)).what == "too-large"


def test_the_limit_of_a_plain_stream_is_exact() -> None:
    for message in (SYNC, User(bytes(1000)), ErrorReply("x" * 1000)):
        data = stream.encode(message, PLAIN, first=True)
        exact = replace(PLAIN, limits=Limits(stream=len(data)))
        assert stream.decode(data, exact, first=True) == message
        tight = replace(PLAIN, limits=Limits(stream=len(data) - 1))
        assert refused(data, tight).what == "too-large"


def test_the_limits_of_frames_and_of_what_is_in_them() -> None:
    data = stream.encode(SYNC, CRYPTED, first=True, nonce=NONCE)
    frame = len(data) - 5
    fits = replace(CRYPTED, limits=Limits(frame=frame, stream=10))
    assert stream.decode(data, fits, first=True) == SYNC
    assert refused(data, replace(CRYPTED, limits=Limits(frame=frame - 1))).what == "too-large"
    plain = len(stream.encode(SYNC, PLAIN, first=True))
    packed = stream.encode(SYNC, Envelope(), first=True)
    fits = replace(PLAIN, limits=Limits(decompressed=plain))
    assert stream.decode(packed, fits, first=True) == SYNC
    tight = replace(PLAIN, limits=Limits(decompressed=plain - 1))
    assert refused(packed, tight).what == "too-large"


def test_records_in_unknown_states_are_left_out() -> None:
    state = b"\x81\xa5State"
    body = HEADER % (b"\4", b"\1") + state + b"\3" + state + b"\4" + state + b"\xff\x80" + b"u"
    for data in (body, compressed(body)):
        decoder, message = feed(accepted(PLAIN), data)
        nobody = peer(NodeId(""), Address(b"", 0), b"", b"")
        left, alive = Member(nobody, 0, Status.LEFT), Member(nobody, 0, Status.ALIVE)
        assert message == PushPull(False, (left, alive), b"u")
        assert [str(error) for error in decoder.refusals] == [
            "node 1, State: state 4, expected 0 to 3",
            "node 2, State: state -1, expected 0 to 3",
        ]
    many = HEADER % (b"\xcd\x03\xe8", b"\0") + (state + b"\x09") * 1000
    assert len(feed(accepted(PLAIN), many)[0].refusals) == MAX_REFUSALS


# --- replies to what was refused --------------------------------------------------------------


@pytest.mark.parametrize(("data", "envelope", "what"), [row[:3] for row in REFUSED.values()])
def test_layers_are_complained_of_and_messages_are_not(
    data: bytes, envelope: Envelope, what: str
) -> None:
    reply = answer(refused(data, envelope))
    assert (reply is not None) == (
        what in ("unencrypted", "unexpected-encryption", "undecryptable", "encryption")
    )
    if reply is not None:
        written = stream.encode(reply, envelope, first=False, nonce=NONCE)
        assert stream.decode(written, envelope, first=False) == reply


def test_a_bad_compression_is_complained_of() -> None:
    assert answer(refused(b"\x09\x80")) == ErrorReply("message could not be decompressed")
