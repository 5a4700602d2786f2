"""Every golden vector decodes to its fields and, where asked, encodes to its bytes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from swimsim.messages import Ack, size
from swimsim.wire import Envelope, WireError, keyring, lzw, packet, serf, stream
from swimsim.wire import messages as single
from swimsim.wire.envelope import compressed, decompressed
from tests.wire.vectors import (
    LIVE,
    VECTORS,
    Fields,
    Vector,
    coordinate,
    expected,
    layers,
    load,
    message,
    named,
    raw,
    rebuilt,
    ring,
    sender,
    serf_filter,
    serf_message,
    stream_message,
    wire,
)

CODEC = (
    "memberlist-messages", "memberlist-packets", "memberlist-streams", "accept", *LIVE,
    "serf-messages", "serf-filters", "tags-and-coordinates", "lzw", "crypto",
)  # fmt: skip
REFUSED = ("reject", "hostile")  # test_wire_refusals.py

PACKETS = named(*CODEC, kind="packet")
STREAMS = named(*CODEC, kind="stream")
NIL_OR_EMPTY = "memberlist-messages:ack-empty-payload"  # an Ack does not tell which


def each(vectors: dict[str, Vector]) -> Any:
    return pytest.mark.parametrize("vector", vectors.values(), ids=vectors)


def exact(vectors: dict[str, Vector]) -> dict[str, Vector]:
    return {
        name: vector
        for name, vector in vectors.items()
        if vector["reencode"] == "exact" and name != NIL_OR_EMPTY
    }


def test_no_vector_is_left_out() -> None:
    files = {path.stem for path in VECTORS.glob("*.json") if not path.stem.startswith("rpc-")}
    assert files == {*CODEC, *REFUSED}
    counts = Counter(vector["kind"] for vector in named(*CODEC).values())
    assert counts == {
        "packet": 359, "stream": 68, "serf": 45, "filter": 7, "tags": 8, "ack-payload": 6,
        "lzw": 39, "crypto": 60,
    }  # fmt: skip


# --- packets ----------------------------------------------------------------------------------


@each(PACKETS)
def test_a_packet_says_what_its_fields_say(vector: Vector) -> None:
    decoded = packet.decode(wire(vector), Envelope(keyring=ring(vector)))
    assert list(decoded.messages) == expected(vector["fields"])
    lost = vector["fields"].get("$truncated", 0)
    wanted = (WireError("truncated", f"lacks {lost} parts"),) if lost else ()
    assert decoded.refusals == wanted


@each(exact(PACKETS))
def test_a_packet_is_rebuilt_layer_by_layer(vector: Vector) -> None:
    assert rebuilt(vector["fields"]) == wire(vector)


def as_sent(fields: Fields) -> bool:
    """Whether its messages alone make the packet: no compound in a compound, or of less than 2."""
    if "$tail" in fields:
        return False
    inner = fields.get("plain") or fields.get("body") or fields
    while inner.get("plain") or inner.get("body"):
        inner = inner.get("plain") or inner.get("body")
    parts = inner.get("parts")
    return parts is None or (len(parts) > 1 and all(p["type"] != "compound" for p in parts))


SENT = {name: vector for name, vector in exact(PACKETS).items() if as_sent(vector["fields"])}


@each(SENT)
def test_a_packet_is_encoded_as_the_real_node_did(vector: Vector) -> None:
    envelope, crc, nonce = sender(vector["fields"])
    messages = expected(vector["fields"])
    assert packet.encode(messages, envelope, crc=crc, nonce=nonce) == wire(vector)


def test_few_packets_are_not_of_the_shape_that_is_sent() -> None:
    odd = sorted(name.partition(":")[2] for name in set(exact(PACKETS)) - set(SENT))
    assert odd == ["compound-0", "compound-1", "compound-nested", "ping-tail"]


COMPRESSING = {
    name: vector
    for name, vector in PACKETS.items()
    if vector["description"].endswith("compression true") or name.startswith("live-compressed:")
}


@each({n: v for n, v in COMPRESSING.items() if "compress" not in layers(v["fields"])})
def test_a_packet_is_not_compressed_when_that_makes_it_longer(vector: Vector) -> None:
    envelope, crc, nonce = sender(vector["fields"])
    compressing = replace(envelope, compress=True)
    messages = expected(vector["fields"])
    assert packet.encode(messages, compressing, crc=crc, nonce=nonce) == wire(vector)


def test_an_empty_payload_is_written_as_nil() -> None:
    (vector,) = (v for v in load("memberlist-messages") if v["name"] == "ack-empty-payload")
    assert vector["fields"]["Payload"] == {"hex": ""}
    said = Ack(vector["fields"]["SeqNo"])
    assert packet.decode(wire(vector), Envelope()).messages == (said,)
    assert single.encode(said) == wire(vector).replace(b"Payload\xa0", b"Payload\xc0")


@each(named("memberlist-messages"))
def test_size_is_the_length_of_the_encoding(vector: Vector) -> None:
    said = message(vector["fields"])
    assert size(said) == len(single.encode(said)) == len(wire(vector))


# --- streams ----------------------------------------------------------------------------------


def plain_in_a_cluster_with_keys(vector: Vector) -> bool:
    return "keys" in vector and vector["fields"]["type"] != "encrypt-stream"


@each(STREAMS)
def test_a_stream_says_what_its_fields_say(vector: Vector) -> None:
    envelope = Envelope(keyring=ring(vector))
    if plain_in_a_cluster_with_keys(vector):
        with pytest.raises(WireError) as caught:
            stream.decode(wire(vector), envelope, first=True)
        assert caught.value.what == "unencrypted"
        envelope = replace(envelope, verify_incoming=False)
    for first in (True, False):
        said = stream.decode(wire(vector), envelope, first=first)
        assert said == stream_message(vector["fields"])


@each(exact(STREAMS))
def test_a_stream_is_rebuilt_layer_by_layer(vector: Vector) -> None:
    assert rebuilt(vector["fields"]) == wire(vector)


@each(exact(STREAMS))
def test_a_stream_is_encoded_as_the_real_node_did(vector: Vector) -> None:
    envelope, _, nonce = sender(vector["fields"])
    said = stream_message(vector["fields"])
    encoded = stream.encode(said, envelope, first=True, nonce=nonce)
    assert encoded + raw(vector["fields"].get("$tail")) == wire(vector)
    assert encoded == stream.encode(said, envelope, first=False, nonce=nonce)


# --- Serf -------------------------------------------------------------------------------------


def spoken(fields: Any) -> list[Fields]:
    """All Serf messages anywhere in these fields."""
    if isinstance(fields, list):
        return [found for each in fields for found in spoken(each)]
    if not isinstance(fields, dict):
        return []
    here = [fields] if str(fields.get("type", "")).startswith("serf-") else []
    return here + [found for value in fields.values() for found in spoken(value)]


@each(named("serf-messages"))
def test_a_serf_message_says_what_its_fields_say(vector: Vector) -> None:
    assert serf.decode(wire(vector)) == serf_message(vector["fields"])


@each(named("serf-messages"))
def test_a_serf_message_is_encoded_as_the_real_node_did(vector: Vector) -> None:
    assert vector["reencode"] == "exact"
    assert serf.encode(serf_message(vector["fields"])) == wire(vector)


@each(named(*CODEC))
def test_every_serf_message_within_decodes_to_its_fields(vector: Vector) -> None:
    for fields in spoken(vector["fields"]):
        said = serf_message(fields)
        assert serf.decode(serf.encode(said)) == said
        blobs, filters = fields.get("Filters") or (), fields.get("$filters") or ()
        assert [serf.decode_filter(raw(blob)) for blob in blobs] == list(map(serf_filter, filters))
        if "$payload" in fields:
            assert serf.decode(raw(fields["Payload"])) == serf_message(fields["$payload"])


def within(fields: Any, key: str) -> list[Fields]:
    """All dictionaries in these fields that have ``key``."""
    if isinstance(fields, list):
        return [found for each in fields for found in within(each, key)]
    if not isinstance(fields, dict):
        return []
    here = [fields] if key in fields else []
    return here + [found for value in fields.values() for found in within(value, key)]


@each(named(*CODEC))
def test_every_meta_decodes_to_its_tags(vector: Vector) -> None:
    for fields in within(vector["fields"], "$tags"):
        meta = raw(fields["Meta"]) if "Meta" in fields else wire(vector)
        assert serf.decode_tags(meta) == (fields["$tags"], None)


@each(named(*CODEC))
def test_every_payload_decodes_to_its_coordinate(vector: Vector) -> None:
    for fields in within(vector["fields"], "$coordinate"):
        assert serf.decode_coordinate(raw(fields["Payload"])) == coordinate(fields["$coordinate"])


@each(named("tags-and-coordinates", kind="tags"))
def test_tags_are_encoded_as_the_real_node_did(vector: Vector) -> None:
    fields = vector["fields"]
    protocol = 2 if fields["legacy"] else 5
    assert serf.encode_tags(fields["$tags"], protocol) == wire(vector)


@each(named("tags-and-coordinates", kind="ack-payload"))
def test_a_coordinate_is_encoded_as_the_real_node_did(vector: Vector) -> None:
    place = coordinate(vector["fields"])
    assert serf.decode_coordinate(wire(vector)) == place
    assert serf.encode_coordinate(place) == wire(vector)


@each(named("serf-filters"))
def test_a_filter_both_ways(vector: Vector) -> None:
    wanted = serf_filter(vector["fields"])
    assert serf.decode_filter(wire(vector)) == wanted
    assert serf.encode_filter(wanted) == wire(vector)


# --- LZW and encryption alone -----------------------------------------------------------------


@each(named("lzw"))
def test_a_text_is_compressed_as_the_real_node_did(vector: Vector) -> None:
    fields = vector["fields"]
    plain = raw(fields["plain"])
    assert len(plain) == fields["plain_len"]
    assert compressed(plain) == wire(vector)
    packed = lzw.compress(plain)
    assert len(packed) == fields["compressed_len"]
    assert lzw.decompress(packed, len(plain)) == plain
    if plain:
        assert decompressed(wire(vector), len(plain)) == plain
        with pytest.raises(WireError, match="more than"):
            lzw.decompress(packed, len(plain) - 1)


@each(named("crypto"))
def test_a_text_is_encrypted_as_the_real_node_did(vector: Vector) -> None:
    fields = vector["fields"]
    ring = keyring.keyring([raw(fields["key"])])
    plain, nonce, aad = raw(fields["plain"]), raw(fields["nonce"]), raw(fields["aad"])
    block = keyring.seal(ring, plain, nonce, aad, fields["version"])
    assert block == wire(vector)
    assert keyring.sealed_size(len(plain), fields["version"]) == len(block)
    assert keyring.unseal(ring, block, aad) == plain
