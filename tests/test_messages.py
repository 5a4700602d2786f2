"""Sizes: what ``size`` says of a message is how long the real implementation wrote it.

The vectors are bytes that memberlist 0.2.2 sent, with their fields (tests/vectors).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim import sizes
from swimsim.config import LAN
from swimsim.member import Member, Status, peer
from swimsim.members import build
from swimsim.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    PushPull,
    Suspect,
    User,
    envelope,
    packet_size,
    size,
)
from swimsim.terms import U32, Address, NodeId
from tests.builders import A, B, at, group, record, who

VECTORS = Path(__file__).parent / "vectors"


@cache
def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["vectors"]
    return found


def raw(value: dict[str, str] | None) -> bytes:
    return b"" if value is None else bytes.fromhex(value["hex"])


def text(value: str | dict[str, str]) -> NodeId:
    if isinstance(value, dict):
        return NodeId(raw(value).decode("utf-8", "surrogateescape"))
    return NodeId(value)


def source(fields: dict[str, Any]) -> tuple[Address, NodeId]:
    address = Address(raw(fields.get("SourceAddr")), fields.get("SourcePort", 0))
    return address, text(fields.get("SourceNode", ""))


def message(fields: dict[str, Any], wire: bytes) -> Message:
    """The message that has these fields; ``wire`` for what the fields do not say."""
    match fields["type"]:
        case "ping":
            return Ping(fields["SeqNo"], text(fields["Node"]), *source(fields))
        case "indirect-ping":
            target = Address(raw(fields["Target"]), fields["Port"])
            asked = (fields["SeqNo"], text(fields["Node"]), target, fields["Nack"])
            return IndirectPing(*asked, *source(fields))
        case "ack":
            return Ack(fields["SeqNo"], raw(fields["Payload"]))
        case "nack":
            return Nack(fields["SeqNo"])
        case "suspect":
            return Suspect(fields["Incarnation"], text(fields["Node"]), text(fields["From"]))
        case "dead":
            return Dead(fields["Incarnation"], text(fields["Node"]), text(fields["From"]))
        case "alive":
            return Alive(fields["Incarnation"], about(fields, fields["Node"]))
        case "user":
            return User(wire[1:])
    raise ValueError(fields["type"])


def about(fields: dict[str, Any], name: str | dict[str, str]) -> Any:
    address = Address(raw(fields["Addr"]), fields["Port"])
    return peer(text(name), address, raw(fields["Meta"]), raw(fields["Vsn"]))


def named(found: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in found]


# --- one message ------------------------------------------------------------------------


def test_the_vectors_are_of_every_kind() -> None:
    kinds = {vector["fields"]["type"] for vector in vectors("memberlist-messages.json")}
    assert kinds == {
        "ping", "indirect-ping", "ack", "nack", "suspect", "alive", "dead", "user",
    }  # fmt: skip


@pytest.mark.parametrize("vector", named(vectors("memberlist-messages.json")))
def test_size_is_what_the_real_node_wrote(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["hex"])
    assert size(message(vector["fields"], wire)) == len(wire)


SPEC = {  # spec memberlist.md 13: message, bytes
    "13.1, a ping": (
        Ping(1, NodeId("n2"), Address(b"\x7f\0\0\1", 7946), NodeId("n1")),
        "0085a44e6f6465a26e32a55365714e6f01aa536f7572636541646472a47f000001"
        "aa536f757263654e6f6465a26e31aa536f75726365506f7274cd1f0a",
    ),
    "13.1, without source": (
        Ping(300, NodeId("n2"), Address(b"", 0), NodeId("")),
        "0082a44e6f6465a26e32a55365714e6fcd012c",
    ),
    "13.2, an indirect ping": (
        IndirectPing(
            70_000,
            NodeId("n3"),
            Address(b"\x7f\0\0\1", 7947),
            True,
            Address(b"\x7f\0\0\1", 7946),
            NodeId("n1"),
        ),
        "0188a44e61636bc3a44e6f6465a26e33a4506f7274cd1f0ba55365714e6fce00011170"
        "aa536f7572636541646472a47f000001aa536f757263654e6f6465a26e31"
        "aa536f75726365506f7274cd1f0aa6546172676574a47f000001",
    ),
    "13.3, an ack": (Ack(1), "0282a75061796c6f6164c0a55365714e6f01"),
    "13.3, an ack of 40 bytes": (
        Ack(128, bytes(40)),
        "0282a75061796c6f6164da0028" + "00" * 40 + "a55365714e6fcc80",
    ),
    "13.3, a nack": (Nack(U32), "0b81a55365714e6fceffffffff"),
    "13.4, an alive": (
        Alive(
            1,
            peer(NodeId("n1"), Address(b"\x7f\0\0\1", 7946), b"", bytes((1, 5, 2, 2, 5, 4))),
        ),
        "0486a441646472a47f000001ab496e6361726e6174696f6e01a44d657461c0a44e6f6465a26e31"
        "a4506f7274cd1f0aa356736ea6010502020504",
    ),
    "13.4, a suspect": (
        Suspect(3, NodeId("n2"), NodeId("n1")),
        "0383a446726f6da26e31ab496e6361726e6174696f6e03a44e6f6465a26e32",
    ),
    "13.4, a leave": (
        Dead(3, NodeId("n2"), NodeId("n2")),
        "0583a446726f6da26e32ab496e6361726e6174696f6e03a44e6f6465a26e32",
    ),
}


@pytest.mark.parametrize(("said", "wire"), SPEC.values(), ids=SPEC)
def test_size_is_that_of_the_specs_examples(said: Message, wire: str) -> None:
    assert size(said) == len(bytes.fromhex(wire))


WIDTHS = [(0, 1), (127, 1), (128, 2), (255, 2), (256, 3), (65_535, 3), (65_536, 5), (U32, 5)]


@pytest.mark.parametrize(("number", "width"), WIDTHS)
def test_numbers_take_their_shortest_form(number: int, width: int) -> None:
    for make in (
        lambda n: Ping(n, B, at(A), A),
        lambda n: IndirectPing(n, B, at(B), False, at(A), A),
        Ack,
        Nack,
        lambda n: Suspect(n, B, A),
        lambda n: Dead(n, B, A),
        lambda n: Alive(n, who(B)),
    ):
        assert size(make(number)) - size(make(1)) == width - 1


def test_a_number_of_more_than_32_bits_takes_nine_bytes() -> None:
    assert [sizes.uint(number) for number in (U32, U32 + 1, 2**64 - 1)] == [5, 9, 9]


LENGTHS = [(0, 1), (1, 2), (31, 32), (32, 35), (255, 258), (256, 259), (65_535, 65_538)]


@pytest.mark.parametrize(("length", "width"), [*LENGTHS, (65_536, 65_541)])
def test_bytes_take_their_shortest_form(length: int, width: int) -> None:
    filler = bytes(length)
    assert size(Ack(1, filler)) - size(Ack(1)) == width - 1
    assert size(Alive(1, who(B, filler))) - size(Alive(1, who(B))) == width - 1
    assert size(Suspect(1, NodeId("x" * length), A)) - size(Suspect(1, NodeId(""), A)) == width - 1


def test_an_absent_source_takes_no_room() -> None:
    keys = [("SourceAddr", 4 + 1), ("SourcePort", 3), ("SourceNode", 1 + 1)]
    full = size(Ping(1, B, at(A), A))
    for (key, value), ping in zip(
        keys,
        (
            Ping(1, B, Address(b"", 7946), A),
            Ping(1, B, Address(at(A).host, 0), A),
            Ping(1, B, at(A), NodeId("")),
        ),
        strict=True,
    ):
        assert full - size(ping) == 1 + len(key) + value


# --- streams ----------------------------------------------------------------------------

PUSH_PULLS = [
    vector
    for vector in vectors("memberlist-streams.json")
    if vector["fields"]["type"] == "push-pull" and "keys" not in vector
]


def push_pull(vector: dict[str, Any]) -> tuple[PushPull, int]:
    """What was said, and in how many bytes."""
    fields, wire = vector["fields"], bytes.fromhex(vector["hex"])
    states = tuple(
        Member(about(node, node["Name"]), node["Incarnation"], Status(node["State"]))
        for node in fields["nodes"]
    )
    length = len(wire) - len(raw(fields.get("$tail")))
    user = wire[length - fields["header"]["UserStateLen"] : length]
    return PushPull(fields["header"]["Join"], states, user), length


def test_the_plain_push_pulls_are_all_here() -> None:
    assert {vector["name"] for vector in PUSH_PULLS} == {
        "push-pull-join",
        "push-pull-sync",
        "push-pull-one",
        "push-pull-no-user-state",
        "push-pull-then-tail",
    }
    assert {len(vector["fields"]["nodes"]) for vector in PUSH_PULLS} == {1, 2, 5}


@pytest.mark.parametrize("vector", named(PUSH_PULLS))
def test_a_push_pull_is_as_long_as_the_real_one(vector: dict[str, Any]) -> None:
    said, length = push_pull(vector)
    assert size(said) == length


@pytest.mark.parametrize("vector", named(PUSH_PULLS))
def test_a_table_weighs_what_its_records_do(vector: dict[str, Any]) -> None:
    said, _ = push_pull(vector)
    assert isinstance(said.states, tuple)
    assert size(replace(said, states=build(said.states))) == size(said)


@pytest.mark.parametrize("name", ["ping-plain", "ack-plain"])
def test_a_stream_ping_is_as_long_as_the_real_one(name: str) -> None:
    (vector,) = (v for v in vectors("memberlist-streams.json") if v["name"] == name)
    wire = bytes.fromhex(vector["hex"])
    assert size(message(vector["fields"], wire)) == len(wire)


def test_the_header_of_a_push_pull_counts_nodes_and_user_bytes() -> None:
    empty = size(PushPull(True, ()))
    assert empty == len(bytes.fromhex("0683a44a6f696ec3a54e6f64657301ac5573657253746174654c656e02"))
    assert size(PushPull(False, ())) == empty
    assert size(PushPull(True, (), b"x" * 300)) == empty + 300 + 2
    crowd = tuple(record(A) for _ in range(200))
    one = size(PushPull(True, crowd[:1])) - empty
    assert size(PushPull(True, crowd)) == empty + 200 * one + 1


# --- packets ----------------------------------------------------------------------------


def parts(fields: dict[str, Any], wire: bytes) -> list[Message]:
    """The messages of a packet without envelopes, from its fields and its framing."""
    if fields["type"] != "compound":
        return [message(fields, wire)]
    assert wire[0] == 7
    count, place = wire[1], 2 + 2 * wire[1]
    found = []
    for index in range(count):
        length = int.from_bytes(wire[2 + 2 * index : 4 + 2 * index], "big")
        found.append(message(fields["parts"][index], wire[place : place + length]))
        place += length
    assert place == len(wire)
    return found


def unwrapped(vector: dict[str, Any]) -> tuple[dict[str, Any], bool, bool]:
    """The fields within the envelopes, whether there is a CRC, whether it is encrypted."""
    fields, crc, encrypted = vector["fields"], False, False
    if fields["type"] == "encrypt":
        encrypted, fields = True, fields["plain"]
    if fields["type"] == "crc":
        crc, fields = True, fields["body"]
    return fields, crc, encrypted


def packable(vector: dict[str, Any]) -> bool:
    """Whether this node could send such a packet: nothing compressed, no compound in a compound,
    no compound of none or one, no padded encryption."""
    fields, _, encrypted = unwrapped(vector)
    if vector["reencode"] != "exact" or (encrypted and vector["fields"]["version"] == 0):
        return False
    if fields["type"] == "compound":
        return len(fields["parts"]) > 1 and all(p["type"] != "compound" for p in fields["parts"])
    return fields["type"] != "compress"


PACKETS = [vector for vector in vectors("memberlist-packets.json") if packable(vector)]


def test_the_packets_have_every_envelope() -> None:
    shapes = {(unwrapped(v)[0]["type"] == "compound", *unwrapped(v)[1:]) for v in PACKETS}
    assert {(True, False, False), (True, True, False), (False, True, True)} <= shapes
    assert len(PACKETS) > 12


@pytest.mark.parametrize("vector", named(PACKETS))
def test_packet_size_is_what_the_real_node_wrote(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["hex"])
    fields, crc, encrypted = unwrapped(vector)
    inner = wire[5:] if crc and not encrypted else wire
    if encrypted:  # the framing is not to be seen; these hold one message
        assert fields["type"] != "compound"
        length = vector["fields"]["plain_len"] - (5 if crc else 0)
        held = [message(fields, bytes(length))]
    else:
        held = parts(fields, inner)
    config = replace(LAN, encrypted=encrypted)
    assert packet_size(tuple(held), crc, config) == len(wire)


def test_a_suspect_is_pinged_in_the_specs_packet() -> None:
    """Spec memberlist.md 13.5: CRC around a compound of a ping and a suspicion, 104 bytes."""
    ping = Ping(1, NodeId("n2"), Address(b"\x7f\0\0\1", 7946), NodeId("n1"))
    accusation = Suspect(3, NodeId("n2"), NodeId("n1"))
    assert packet_size((ping, accusation), True, LAN) == 5 + 2 + 2 * 2 + 61 + 31


ENVELOPES = {  # spec memberlist.md 2.3, 2.4 and 13.8
    "bare": ({}, 0),
    "a label": ({"label_size": 3}, 2 + 3),
    "the longest label": ({"label_size": 255}, 257),
    "a key": ({"encrypted": True}, 29),
    "both": ({"label_size": 3, "encrypted": True}, 34),
}


@pytest.mark.parametrize(("settings", "wanted"), ENVELOPES.values(), ids=ENVELOPES)
def test_envelope(settings: dict[str, Any], wanted: int) -> None:
    config = replace(LAN, **settings)
    assert envelope(config) == wanted
    assert packet_size((Nack(7),), False, config) == 9 + wanted


@given(st.lists(st.sampled_from([Nack(1), Ack(300), Suspect(1, B, A), Alive(1, who(B))])))
def test_a_packet_is_the_sum_of_its_parts(messages: list[Message]) -> None:
    sizes = sum(map(size, messages))
    framing = 2 + 2 * len(messages) if len(messages) > 1 else 0
    assert packet_size(tuple(messages), False, LAN) == sizes + framing
    assert packet_size(tuple(messages), True, LAN) == sizes + framing + 5


def test_a_table_says_its_own_size() -> None:
    members = group("ABCDE", meta=b"m")
    assert size(PushPull(False, members)) == size(PushPull(False, tuple(members)))
