"""Packets: the layers, their order, what one bad part costs (spec memberlist.md, 2.2 to 2.7)."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.messages import Ack, Message, Nack, Ping, User, packet_size, size
from swimsim.terms import Address, NodeId
from swimsim.wire import Envelope, Limits, Packet, WireError, keyring, packet
from swimsim.wire import messages as single
from swimsim.wire.envelope import MAX_REFUSALS, PLAIN, compressed
from swimsim.wire.packet import MAX_PARTS, checksummed, compound
from tests.wire import strategies

K1, K2 = bytes(16), bytes(range(32))
RING = keyring.keyring([K1])
NONCE = bytes(range(12))
PING = Ping(1, NodeId("n2"), Address(b"\x7f\0\0\1", 7946), NodeId("n1"))
NACK = Nack(7)
N = single.encode(NACK)


def refused(data: bytes, envelope: Envelope = PLAIN) -> WireError:
    with pytest.raises(WireError) as caught:
        packet.decode(data, envelope)
    return caught.value


# --- both ways --------------------------------------------------------------------------------


@given(strategies.messages)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    data = single.encode(message)
    assert single.decode(data) == message
    assert len(data) == size(message)


@given(
    st.lists(strategies.messages, min_size=1, max_size=6),
    strategies.envelopes,
    st.booleans(),
    strategies.nonces,
)
def test_a_packet_is_read_as_it_was_written(
    messages: list[Message], envelope: Envelope, crc: bool, nonce: bytes
) -> None:
    data = packet.encode(messages, envelope, crc=crc, nonce=nonce)
    assert packet.decode(data, envelope) == Packet(tuple(messages))


@given(st.lists(strategies.messages, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_packet_size_is_the_length_of_the_packet(
    messages: list[Message], crc: bool, encrypted: bool
) -> None:
    ring = RING if encrypted else None
    envelope = Envelope(label=b"label", keyring=ring, compress=False)
    config = replace(LAN, label_size=5, encrypted=encrypted)
    data = packet.encode(messages, envelope, crc=crc, nonce=NONCE)
    assert packet_size(tuple(messages), crc, config) == len(data)


def nested(leaves: st.SearchStrategy[Message]) -> st.SearchStrategy[tuple[bytes, int, Any]]:
    """Bytes, how many layers they have, and the messages within."""
    bare = leaves.map(lambda message: (single.encode(message), 0, [message]))

    def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        shrunk = inner.map(lambda each: (compressed(each[0]), each[1] + 1, each[2]))
        together = st.lists(inner, max_size=4).map(
            lambda parts: (
                compound([part[0] for part in parts]),
                1 + max((part[1] for part in parts), default=0),
                [message for part in parts for message in part[2]],
            )
        )
        return shrunk | together

    return st.recursive(bare, wrapped, max_leaves=8)


@given(nested(strategies.messages), st.booleans())
def test_layers_may_be_nested_in_any_way(
    built: tuple[bytes, int, list[Message]], crc: bool
) -> None:
    body, depth, messages = built
    data = checksummed(body) if crc else body
    if depth <= 3:
        assert packet.decode(data, PLAIN) == Packet(tuple(messages))
    deep = replace(PLAIN, limits=Limits(layers=depth))
    assert packet.decode(data, deep) == Packet(tuple(messages))


# --- layers -----------------------------------------------------------------------------------


def test_the_order_of_the_layers() -> None:
    """Label, encryption, CRC, compression, compound (spec 2.2, P1)."""
    messages = [User(b"A" * 100), NACK]
    envelope = Envelope(label=b"lbl", keyring=RING)
    data = packet.encode(messages, envelope, crc=True, nonce=NONCE)
    assert data.startswith(b"\xf4\x03lbl\x01" + NONCE)
    plain = keyring.unseal(RING, data[5:], b"lbl")
    assert plain[:5] == b"\x0c" + crc32(plain[5:]).to_bytes(4, "big")
    assert plain[5:] == compressed(compound([single.encode(each) for each in messages]))


def test_a_lone_message_is_bare() -> None:
    assert packet.encode([NACK], PLAIN) == N
    assert packet.encode([NACK, NACK], PLAIN) == b"\x07\x02\0\x09\0\x09" + N + N


CRC_OF_NOTHING = b"\x0c" + bytes(4)
WHOLE = {  # bytes that are bad as a whole: what, some words
    "nothing": (b"", "empty", "an empty datagram"),
    "an empty compressed message": (compressed(b""), "empty", "nothing was compressed"),
    "a CRC of nothing": (CRC_OF_NOTHING, "empty", "nothing after the CRC"),
    "a CRC cut short": (CRC_OF_NOTHING[:4], "unknown-type", "message type 12"),
    "a wrong CRC": (b"\x0c\0\0\0\0" + N, "checksum", "the packet says 00000000"),
    "a CRC in a CRC": (checksummed(checksummed(N)), "unknown-type", "message type 12"),
    "a CRC in a compressed message": (
        compressed(checksummed(N)), "unknown-type", "message type 12",
    ),
    "a label in a CRC": (checksummed(b"\xf4\x01x" + N), "unknown-type", "message type 244"),
    "a compound without a count": (b"\x07", "truncated", "without a count"),
    "a compound without lengths": (b"\x07\x03\0\1", "truncated", "without its 3 lengths"),
    "the same, compressed": (compressed(b"\x07"), "truncated", "without a count"),
    "another algorithm": (
        b"\x09\x82\xa4Algo\x01\xa3Buf\xa3\x00\x03\x02", "compression", "algorithm 1",
    ),
    "no compressed bytes": (b"\x09\x80", "compression", "0 bytes of LZW"),
    "a compressed message that is no map": (b"\x09\xa0", "malformed", "expected a map"),
    "a stream's message": (b"\x06\x80", "unknown-type", "message type 6"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "what", "words"), WHOLE.values(), ids=WHOLE)
def test_what_is_bad_as_a_whole_is_refused(data: bytes, what: str, words: str) -> None:
    error = refused(data)
    assert error.what == what
    assert words in str(error)


def parts(*bodies: bytes, count: int | None = None) -> bytes:
    """A compound, also one that nobody writes."""
    lengths = b"".join(len(body).to_bytes(2, "big") for body in bodies)
    head = bytes((7, len(bodies) if count is None else count))
    return head + lengths + b"".join(bodies)


PARTLY = {  # bytes, good messages, what and where of the refusals
    "an empty part": (parts(N, b"", N), 2, [("empty", "part 1")]),
    "an unknown type": (parts(b"\x63", N), 1, [("unknown-type", "part 0, byte 0")]),
    "a bad field": (
        parts(N, b"\x0b\x81\xa5SeqNo\xa0", N), 2, [("malformed", "part 1, SeqNo, byte 8")],
    ),
    "a part cut short": (parts(N, N)[:-1], 1, [("truncated", "")]),
    "all parts but one cut off": (parts(N, N, N)[:8 + 9], 1, [("truncated", "")]),
    "a bad compressed part": (
        parts(b"\x09\x80", N), 1, [("compression", "part 0")],
    ),
    "within a compound in a compound": (
        parts(N, parts(N, b"", N), N), 4, [("empty", "part 1, part 1")],
    ),
    "a compound in it without lengths": (
        parts(b"\x07\x02", N), 1, [("truncated", "part 0, byte 2")],
    ),
    "cut short within a part": (
        parts(parts(N, N)[:-1], N), 2, [("truncated", "part 0")],
    ),
    "nothing good at all": (parts(b"", b""), 0, [("empty", "part 0"), ("empty", "part 1")]),
    "within a compressed compound": (
        compressed(parts(N, b"")), 1, [("empty", "part 1")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "good", "bad"), PARTLY.values(), ids=PARTLY)
def test_a_bad_part_costs_only_itself(data: bytes, good: int, bad: list[tuple[str, str]]) -> None:
    decoded = packet.decode(data, PLAIN)
    assert decoded.messages == (NACK,) * good
    assert [(error.what, error.where) for error in decoded.refusals] == bad


@given(st.lists(strategies.messages | st.none(), min_size=1, max_size=8))
def test_the_good_parts_keep_their_order(messages: list[Message | None]) -> None:
    bodies = [b"\xff" if each is None else single.encode(each) for each in messages]
    decoded = packet.decode(parts(*bodies), PLAIN)
    assert decoded.messages == tuple(each for each in messages if each is not None)
    assert len(decoded.refusals) == messages.count(None)


def test_a_compound_of_none_says_nothing() -> None:
    assert packet.decode(b"\x07\0", PLAIN) == Packet(())


def test_what_follows_a_compound_is_ignored() -> None:
    assert packet.decode(parts(N) + b"tail", PLAIN) == Packet((NACK,))


@pytest.mark.parametrize("count", [127, 128, 255])
def test_up_to_255_parts_are_read(count: int) -> None:
    assert packet.decode(parts(*[N] * count), PLAIN) == Packet((NACK,) * count)


# --- limits -----------------------------------------------------------------------------------

LAYERS = {
    "compounds": parts,
    "compressed": compressed,
    "both": lambda body: compressed(parts(body)),
}


@pytest.mark.parametrize("wrap", LAYERS.values(), ids=LAYERS)
def test_three_layers_are_unfolded_and_no_more(wrap: Any) -> None:
    body, depth = N, 0
    while depth < 6:
        body = wrap(body)
        depth += 2 if wrap is LAYERS["both"] else 1
        try:
            decoded = packet.decode(body, PLAIN)
        except WireError as error:
            whats = {error.what}
        else:
            whats = {error.what for error in decoded.refusals}
            assert decoded.messages == (() if whats else (NACK,))
        assert whats == ({"too-deep"} if depth > 3 else set())


def test_all_compressed_parts_share_one_limit() -> None:
    part = compressed(b"\x08" + bytes(999))
    limited = replace(PLAIN, limits=Limits(packet=2500))
    decoded = packet.decode(parts(part, part, part), limited)
    assert decoded.messages == (User(bytes(999)),) * 2
    (error,) = decoded.refusals
    assert (error.what, error.where) == ("too-large", "part 2")


def test_refusals_are_kept_up_to_a_number() -> None:
    decoded = packet.decode(parts(parts(*[b""] * 200), parts(*[b""] * 200), N), PLAIN)
    assert decoded.messages == (NACK,)
    assert len(decoded.refusals) == MAX_REFUSALS


# --- what is not sent -------------------------------------------------------------------------


def test_a_packet_needs_a_message() -> None:
    with pytest.raises(ValueError, match="no messages"):
        packet.encode([], PLAIN)


def test_old_nodes_do_not_read_128_parts() -> None:
    assert packet.decode(packet.encode([NACK] * 127, PLAIN), PLAIN) == Packet((NACK,) * 127)
    with pytest.raises(ValueError, match="128 parts, old nodes read at most 127"):
        packet.encode([NACK] * 128, PLAIN)


def test_a_part_has_up_to_65535_bytes() -> None:
    long = User(bytes(65_535))
    with pytest.raises(ValueError, match="part 1 has 65536 bytes"):
        packet.encode([NACK, long], PLAIN)
    assert packet.decode(packet.encode([long], PLAIN), PLAIN) == Packet((long,))
    with pytest.raises(ValueError, match="part 0 has 0 bytes"):
        compound([b""])


def test_encryption_needs_a_nonce() -> None:
    with pytest.raises(ValueError, match="encryption needs a nonce"):
        packet.encode([NACK], Envelope(keyring=RING))


SPLITS = {  # lengths of user messages, or numbers of nacks; the portions
    "nothing": ([], []),
    "one": ([1], [1]),
    "127": ([1] * 127, [127]),
    "128": ([1] * 128, [127, 1]),
    "300": ([1] * 300, [127, 127, 46]),
    "one too long": ([1, 70_000, 1], [1, 1, 1]),
    "two too long": ([70_000, 70_000], [1, 1]),
    "the longest": ([1, 65_534, 1], [3]),
}


@pytest.mark.parametrize(("lengths", "wanted"), SPLITS.values(), ids=SPLITS)
def test_split(lengths: list[int], wanted: list[int]) -> None:
    messages = [User(bytes(length)) for length in lengths]
    portions = packet.split(messages)
    assert [len(portion) for portion in portions] == wanted
    assert [message for portion in portions for message in portion] == messages
    for portion in portions:
        assert packet.decode(packet.encode(portion, PLAIN), PLAIN) == Packet(portion)
    assert MAX_PARTS == 127


# --- label and keys ---------------------------------------------------------------------------

LABELLED = Envelope(label=b"lbl", compress=False)
SKIPPING = replace(LABELLED, skip_label_check=True)
LABELS = {  # bytes, receiver, what is said when it is refused
    "the right one": (b"\xf4\x03lbl" + N, LABELLED, None),
    "none where none belongs": (N, PLAIN, None),
    "another": (b"\xf4\x03abc" + N, LABELLED, "label b'abc', expected b'lbl'"),
    "none": (N, LABELLED, "label b'', expected b'lbl'"),
    "one where none belongs": (b"\xf4\x03lbl" + N, PLAIN, "label b'lbl', expected b''"),
    "longer": (b"\xf4\x04lbl!" + N, LABELLED, "label b'lbl!', expected b'lbl'"),
    "an empty one": (b"\xf4\0" + N, LABELLED, "a label header without a label"),
    "none, not checked": (N, SKIPPING, None),
    "two, not checked": (b"\xf4\x03lbl" + N, SKIPPING, "where another was stripped before"),
    "an empty one, not checked": (b"\xf4\0" + N, SKIPPING, "a label header without a label"),
}


@pytest.mark.parametrize(("data", "envelope", "words"), LABELS.values(), ids=LABELS)
def test_labels(data: bytes, envelope: Envelope, words: str | None) -> None:
    if words is None:
        assert packet.decode(data, envelope) == Packet((NACK,))
    else:
        error = refused(data, envelope)
        assert error.what == "label"
        assert words in str(error)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_label_cut_short(size: int) -> None:
    error = refused(b"\xf4\x03lbl"[:size], LABELLED)
    assert (error.what, error.where) == ("truncated", f"byte {size}")


def test_nothing_after_a_label() -> None:
    assert refused(b"\xf4\x03lbl", LABELLED).what == "empty"
    assert refused(b"\xf4\x03lbl", replace(LABELLED, keyring=RING)).what == "encryption"


def test_the_label_is_authenticated() -> None:
    data = packet.encode([NACK], replace(LABELLED, keyring=RING), nonce=NONCE)
    other = replace(LABELLED, label=b"abc", keyring=RING)
    assert refused(b"\xf4\x03abc" + data[5:], other).what == "undecryptable"
    stripped = replace(SKIPPING, keyring=RING)
    assert packet.decode(data[5:], stripped) == Packet((NACK,))


def test_a_label_is_bounded() -> None:
    assert packet.encode([NACK], Envelope(label=bytes(255), compress=False))[1] == 255
    with pytest.raises(ValueError, match="label has 256 bytes, expected at most 255"):
        Envelope(label=bytes(256))
    with pytest.raises(ValueError, match="encryption version is 2"):
        Envelope(encryption_version=2)  # type: ignore[arg-type]


SEALED = packet.encode([NACK], Envelope(keyring=RING), nonce=NONCE)
STRICT = Envelope(keyring=RING, compress=False)
LENIENT = replace(STRICT, verify_incoming=False)
MUTE = replace(STRICT, verify_outgoing=False)


def test_verify_outgoing() -> None:
    assert packet.encode([NACK], STRICT, nonce=NONCE) == SEALED
    assert packet.encode([NACK], MUTE) == N


def test_verify_incoming() -> None:
    """A cluster on its way to encryption: what does not decrypt is taken as plain (spec 2.4)."""
    for envelope in (STRICT, LENIENT, MUTE):
        assert packet.decode(SEALED, envelope) == Packet((NACK,))
    assert refused(N, STRICT).what == "encryption"
    assert packet.decode(N, LENIENT) == Packet((NACK,))
    ping = packet.encode([PING], PLAIN)  # its first byte might be an encryption version
    assert packet.decode(ping, LENIENT) == Packet((PING,))
    assert refused(ping, STRICT).what == "undecryptable"
    assert refused(b"", LENIENT).what == "empty"


def test_a_key_can_be_changed_while_the_cluster_runs() -> None:
    """Install everywhere, use everywhere, remove everywhere; at no step is anybody deaf."""
    old, both, new = [K1], [K1, K2], [K2]
    steps = [(old, both), (both, [K2, K1]), ([K2, K1], new)]
    for before, after in steps:
        for sender in (before, after):
            for receiver in (before, after):
                sending = Envelope(keyring=keyring.keyring(sender))
                receiving = Envelope(keyring=keyring.keyring(receiver))
                data = packet.encode([Ack(1)], sending, nonce=NONCE)
                assert packet.decode(data, receiving) == Packet((Ack(1),))
