"""Whatever bytes come in: a value or a ``WireError``, soon, and in little memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.messages import Message
from swimsim.wire import Envelope, Limits, What, WireError, keyring, lzw, packet, serf, stream
from swimsim.wire.envelope import COMPRESS, PLAIN, compressed
from swimsim.wire.msgpack import BYTES
from tests.wire import strategies
from tests.wire.vectors import named, wire

MIB = 1 << 20
RING = keyring.keyring([bytes(16)])
LABELLED = Envelope(label=b"lbl", keyring=RING)
RECEIVERS = {
    "plain": PLAIN,
    "label": Envelope(label=b"lbl"),
    "keys": Envelope(keyring=RING),
    "lenient": Envelope(keyring=RING, verify_incoming=False),
    "skipping": Envelope(label=b"lbl", skip_label_check=True, keyring=RING),
}
NONCE = bytes(12)


def refusal(decode: Callable[[], object]) -> WireError | None:
    """How ``decode`` refuses, or None; whatever else it raises goes through."""
    try:
        decode()
    except WireError as error:
        found = error
    else:
        return None
    assert found.what in get_args(What)
    assert 0 < len(str(found)) < 2000
    return found


def decoders(data: bytes) -> Iterator[Callable[[], object]]:
    """All that reads strangers' bytes."""
    for envelope in RECEIVERS.values():
        yield lambda envelope=envelope: packet.decode(data, envelope)
        yield lambda envelope=envelope: stream.decode(data, envelope, first=True)
        yield lambda envelope=envelope: stream.decode(data, envelope, first=False)
    for decode in (
        serf.decode,
        serf.decode_gossip,
        serf.decode_filter,
        serf.decode_key_request,
        serf.decode_coordinate,
    ):
        yield lambda decode=decode: decode(data)
    yield lambda: lzw.decompress(data, 10 * MIB)
    yield lambda: keyring.unseal(RING, data, b"")


def read_all(data: bytes) -> None:
    for decode in decoders(data):
        refusal(decode)
    tags, error = serf.decode_tags(data)
    assert isinstance(tags, dict)
    assert error is None or isinstance(error, WireError)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    read_all(data)


@given(st.integers(0, 13) | st.just(244), st.binary(max_size=200))
def test_any_bytes_of_any_type(kind: int, data: bytes) -> None:
    read_all(bytes((kind,)) + data)
    read_all(b"\xf4\x03lbl" + bytes((kind,)) + data)
    read_all(compressed(bytes((kind,)) + data))
    read_all(packet.enclosed(bytes((kind,)) + data, RECEIVERS["keys"], NONCE))


def damaged(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """The bytes with some overwritten, left out, put in, or cut off."""
    found = bytearray(data)
    for change, anywhere, byte in changes:
        place = anywhere % (len(found) + 1)
        if change == "write" and place < len(found):
            found[place] = byte
        elif change == "leave out":
            del found[place : place + byte % 8]
        elif change == "put in":
            found[place:place] = bytes((byte,)) * (1 + byte % 3)
        elif change == "cut off":
            del found[place:]
    return bytes(found)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "leave out", "put in", "cut off"]),
        st.integers(0, 5000),
        st.sampled_from([0x00, 0x7F, 0x80, 0x8F, 0x90, 0xC0, 0xC1, 0xDB, 0xDD, 0xDF, 0xFF])
        | st.integers(0, 255),
    ),
    min_size=1,
    max_size=5,
)
REAL = named(
    "memberlist-messages", "memberlist-packets", "memberlist-streams", "accept", "hostile",
    "serf-messages", "serf-filters", "tags-and-coordinates", "live-plain", "live-compressed",
)  # fmt: skip
SMALL = [wire(vector) for vector in REAL.values() if len(vector["hex"]) < 4000]


@given(st.sampled_from(SMALL), CHANGES)
def test_damaged_real_bytes(data: bytes, changes: list[tuple[str, int, int]]) -> None:
    read_all(damaged(data, changes))


@given(st.lists(strategies.messages, min_size=1, max_size=4), CHANGES, st.booleans())
def test_damage_within_the_layers(
    messages: list[Message], changes: list[tuple[str, int, int]], crc: bool
) -> None:
    body = damaged(packet.encode(messages, PLAIN), changes) or b"\0"
    for envelope in (PLAIN, RECEIVERS["label"], RECEIVERS["keys"]):
        inner = packet.checksummed(body) if crc else body
        data = packet.enclosed(inner, envelope, NONCE)
        refusal(lambda data=data, envelope=envelope: packet.decode(data, envelope))
    packed = compressed(body)
    refusal(lambda: packet.decode(packed, PLAIN))
    refusal(lambda: stream.decode(packed, PLAIN, first=True))


@given(strategies.gossip | strategies.enclosed, CHANGES)
def test_damaged_serf_messages(message: Any, changes: list[tuple[str, int, int]]) -> None:
    read_all(damaged(serf.encode(message), changes))


# --- bombs ------------------------------------------------------------------------------------


@contextmanager
def bounded(mib: float, seconds: float = 30.0) -> Iterator[None]:
    """No more than this at its peak, and no longer than this.

    Tracing makes everything slower; the time is a guard against hangs, not a measurement.
    """
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        yield
        assert time.perf_counter() - begun < seconds
        assert tracemalloc.get_traced_memory()[1] < mib * MIB
    finally:
        tracemalloc.stop()


def deep(head: bytes, depth: int, last: bytes = b"\xc0") -> bytes:
    return b"\0\x81\xa1z" + head * depth + last


ALL_ONES = b"\xff\xff\xff\xff"
BOMBS = {  # a datagram of at most 64 KiB
    "a text of 4 GiB": b"\0\x81\xa4Node\xdb" + ALL_ONES,
    "bytes of 4 GiB": b"\2\x81\xa7Payload\xc6" + ALL_ONES,
    "numbers of 4 GiB": b"\2\x81\xa7Payload\xdd" + ALL_ONES,
    "a struct of 2**32 - 1 fields": b"\0\xdf" + ALL_ONES,
    "a struct of 2**32 - 1 elements": b"\0\xdd" + ALL_ONES,
    "an array nobody wants": b"\0\x81\xa1z\xdd" + ALL_ONES,
    "a map nobody wants": b"\0\x81\xa1z\xdf" + ALL_ONES,
    "an ext nobody wants": b"\0\x81\xa1z\xc9" + ALL_ONES,
    "arrays in arrays": deep(b"\x91", 60_000),
    "maps in maps": deep(b"\x81\xc0", 30_000),
    "wide arrays in wide arrays": deep(b"\xdc\xff\xff", 20_000),
    "as wide as there are bytes": deep(b"\xdd\0\0\xea\x60", 12_000),
    "maps as keys of maps": deep(b"\x81", 60_000),
    "60,000 nils nobody wants": b"\0\x81\xa1z\xdd\0\0\xea\x60" + b"\xc0" * 60_000,
    "one key 8,000 times": b"\0\xde\x1f\x40" + b"\xa5SeqNo\x01" * 8_000,
    "60,000 numbers for bytes": b"\2\x81\xa7Payload\xdc\xea\x60" + bytes(60_000),
    "compounds in compounds": wire(REAL["hostile:compound-deep"]) * 20,
    "255 empty parts, twice": packet.compound([b"\x07\xff" + bytes(2 * 255)] * 120),
    "parts of one byte": packet.compound([b"\x07\xff" + b"\0\1" * 255 + b"\x08" * 255] * 80),
    "8 MiB of zeros": wire(REAL["hostile:compress-bomb"]),
    "compressed, again and again": compressed(compressed(compressed(bytes(64 * MIB // 64)))),
    "clears and nothing else": (
        b"\x09\x82\xa4Algo\0\xa3Buf" + BYTES.write(bytes.fromhex("000102040810204080") * 7_000)
    ),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_small_packet_stays_small(data: bytes) -> None:
    assert len(data) <= 0x1_0000
    with bounded(mib=40):
        refusal(lambda: packet.decode(data, PLAIN))
    with bounded(mib=40):
        refusal(lambda: stream.decode(data, PLAIN, first=True))


def layered(bomb: bytes, depth: int) -> bytes:
    for _ in range(depth):
        bomb = compressed(bomb)
    return bomb


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_bombs_in_bombs(depth: int) -> None:
    """Each layer of zeros is a thousandth of the next: 512 MiB would come from a few bytes."""
    data = layered(b"\x08" + bytes(4 * MIB), depth)
    with bounded(mib=12):
        error = refusal(lambda: packet.decode(data, PLAIN))
    assert error is not None
    assert error.what in ("too-large", "too-deep")
    tight = replace(PLAIN, limits=Limits(decompressed=MIB))
    with bounded(mib=12):
        assert refusal(lambda: stream.decode(data, tight, first=True)) is not None


def test_a_packet_of_bombs() -> None:
    """Many compressed parts, each within the limit: all together they are not."""
    part = compressed(b"\x08" + bytes(600_000))
    data = packet.compound([part] * 30)
    assert len(data) < 0x1_0000
    with bounded(mib=12):
        decoded = packet.decode(data, PLAIN)
    assert len(decoded.messages) == 1
    assert {error.what for error in decoded.refusals} == {"too-large"}


SERF = {
    "a buffer of 2**32 - 1 slots": b"\2\x81\xa6Events\xdd" + ALL_ONES,
    "a buffer of a million nils": b"\2\x81\xa6Events\xdd\0\x10\0\0" + b"\xc0" * MIB,
    "as many members as bytes": b"\2\x81\xabLeftMembers\xdd\0\x0f\0\0",
    "2**32 - 1 ltimes": b"\2\x81\xacStatusLTimes\xdf" + ALL_ONES,
    "a query of 2**32 - 1 filters": b"\4\x81\xa7Filters\xdd" + ALL_ONES,
    "a coordinate of 65,535 numbers": b"\1\x81\xa3Vec\xdc\xff\xff" + bytes(0xFFFF),
}


@pytest.mark.parametrize("data", SERF.values(), ids=SERF)
def test_serf_bombs(data: bytes) -> None:
    with bounded(mib=30):
        refusal(lambda: serf.decode(data))
        refusal(lambda: serf.decode_coordinate(data))
        refusal(lambda: serf.decode_filter(data[:1] + data[10:]))


# --- streams ----------------------------------------------------------------------------------


def feed_all(envelope: Envelope, portions: Iterator[bytes]) -> WireError | None:
    decoder = stream.accepted(envelope)

    def read() -> None:
        nonlocal decoder
        for portion in portions:
            decoder, _ = stream.feed(decoder, portion)

    return refusal(read)


def portions(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_a_plain_stream_is_refused_at_its_limit_and_holds_no_more() -> None:
    """A push/pull of records with ever more fields that nobody knows."""
    envelope = replace(PLAIN, limits=Limits(stream=2 * MIB))
    head = b"\x06\x83\xa4Join\xc2\xa5Nodes\xcd\xff\xff\xacUserStateLen\0"
    record = b"\x8f" + b"\xa1z\xda\x01\0" + bytes(256) + b"\xa1z\xc0" * 14
    with bounded(mib=8):
        error = feed_all(envelope, portions(head + record * 10_000, 1000))
    assert error is not None
    assert error.what == "too-large"


def test_a_finely_cut_stream_is_held_in_few_pieces() -> None:
    data = stream.encode(stream.User(bytes(200_000)), PLAIN, first=True)
    decoder = stream.accepted(PLAIN)
    most = 0
    with bounded(mib=2):
        for portion in portions(data[:-1], 7):
            decoder, _ = stream.feed(decoder, portion)
            most = max(most, len(decoder.pieces))
    assert most <= 18
    assert b"".join(decoder.pieces) == data[:-1]


FINE = {
    "a long text": stream.encode(stream.User(bytes(100_000)), PLAIN, first=True),
    "a table": b"\x06\x83\xa4Join\xc2\xa5Nodes\xcd\x27\x10\xacUserStateLen\0"
    + b"\x81\xa4Name\xa1n" * 10_000,
    "one record": b"\x06\x83\xa4Join\xc2\xa5Nodes\x01\xacUserStateLen\0"
    + b"\x81\xa1z\xdc\x4e\x20" + b"\xa3abc" * 20_000,
    "compressed": stream.encode(stream.User(bytes(range(256)) * 500), Envelope(), first=True),
}  # fmt: skip


@pytest.mark.parametrize("data", FINE.values(), ids=FINE)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_the_work_for_a_stream_grows_with_its_bytes(
    data: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is scanned about once, copied log(n) times, and looked at in a few stages."""
    scanned = copied = stages = 0
    scan, held = stream.scan, stream._held

    def counting_scan(window: bytes, at: int, *rest: int) -> tuple[int, int]:
        nonlocal scanned
        reach, left = scan(window, at, *rest)
        scanned += min(reach, len(window)) - min(at, len(window))
        return reach, left

    def counting_held(pieces: tuple[bytes, ...], data: bytes) -> tuple[bytes, ...]:
        nonlocal copied
        after = held(pieces, data)
        copied += len(after[-1])
        return after

    def counting_stage(stage: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal stages
            stages += 1
            return stage(*args)

        return call

    monkeypatch.setattr(stream, "scan", counting_scan)
    monkeypatch.setattr(stream, "_held", counting_held)
    for name, stage in stream._STAGES.items():
        monkeypatch.setitem(stream._STAGES, name, counting_stage(stage))
    decoder, message = stream.accepted(PLAIN), None
    for portion in portions(data, size):
        decoder, message = stream.feed(decoder, portion)
    assert message is not None
    assert scanned <= len(data)
    assert copied <= len(data) * len(data).bit_length()
    assert stages <= 5


def test_a_bomb_in_a_stream() -> None:
    envelope = replace(PLAIN, limits=Limits(decompressed=4 * MIB))
    data = bytes((COMPRESS,)) + compressed(bytes(64 * MIB // 8))[1:]
    with bounded(mib=20):
        error = refusal(lambda: stream.decode(data, envelope, first=True))
    assert error is not None
    assert error.what == "too-large"


def test_a_table_of_nothing_is_bounded_by_the_limit_of_nodes() -> None:
    """A nil is a record: 20,000 of them compress to some 500 bytes."""
    body = b"\x06\x83\xa4Join\xc2\xa5Nodes\xcd\x4e\x20\xacUserStateLen\0" + b"\xc0" * 20_000
    data = compressed(body)
    with bounded(mib=12):
        found = stream.decode(data, PLAIN, first=True)
    assert isinstance(found, stream.PushPull)
    assert len(found.states) == 20_000
    limited = replace(PLAIN, limits=Limits(nodes=1000))
    with bounded(mib=1):
        assert refusal(lambda: stream.decode(data, limited, first=True)) is not None
