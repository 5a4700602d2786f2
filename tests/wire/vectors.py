"""The golden vectors as messages, and as bytes again (tests/vectors/README.md).

``expected`` gives what a vector's fields say in the structs of the codec; ``rebuilt`` its bytes,
layer by layer, in whatever nesting the vector has.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from swimsim.member import Member, Peer, Status, peer
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
)
from swimsim.serf import messages as said
from swimsim.terms import Address, NodeId
from swimsim.wire import Envelope, ErrorReply, keyring, packet, serf, stream
from swimsim.wire import messages as single
from swimsim.wire.envelope import PLAIN, compressed

VECTORS = Path(__file__).parents[1] / "vectors"
LIVE = ("live-plain", "live-compressed", "live-encrypted", "live-encrypted-uncompressed")

Fields = dict[str, Any]
Vector = dict[str, Any]


@cache
def load(name: str) -> list[Vector]:
    found: list[Vector] = json.loads((VECTORS / f"{name}.json").read_text())["vectors"]
    return found


def named(*files: str, kind: str | None = None) -> dict[str, Vector]:
    """The vectors of these files, by file and name."""
    return {
        f"{file}:{vector['name']}": vector
        for file in files
        for vector in load(file)
        if kind in (None, vector["kind"])
    }


def wire(vector: Vector) -> bytes:
    return bytes.fromhex(vector["hex"])


def ring(vector: Vector) -> keyring.Keyring | None:
    """The receiver's keys."""
    keys = [bytes.fromhex(key) for key in vector.get("keys", ())]
    return keyring.keyring(keys) if keys else None


def raw(value: dict[str, str] | None) -> bytes:
    return b"" if value is None else bytes.fromhex(value["hex"])


def nullable(value: dict[str, str] | None) -> bytes | None:
    return None if value is None else raw(value)


def text(value: str | dict[str, str]) -> NodeId:
    if isinstance(value, dict):
        return NodeId(raw(value).decode("utf-8", "surrogateescape"))
    return NodeId(value)


# --- memberlist -------------------------------------------------------------------------------


def message(fields: Fields) -> Message:
    match fields["type"]:
        case "ping":
            return Ping(fields["SeqNo"], text(fields["Node"]), *_source(fields))
        case "indirect-ping":
            target = Address(raw(fields["Target"]), fields["Port"])
            asked = (fields["SeqNo"], text(fields["Node"]), target, fields["Nack"])
            return IndirectPing(*asked, *_source(fields))
        case "ack":
            return Ack(fields["SeqNo"], raw(fields["Payload"]))
        case "nack":
            return Nack(fields["SeqNo"])
        case "suspect":
            return Suspect(fields["Incarnation"], text(fields["Node"]), text(fields["From"]))
        case "dead":
            return Dead(fields["Incarnation"], text(fields["Node"]), text(fields["From"]))
        case "alive":
            return Alive(fields["Incarnation"], _about(fields, fields["Node"]))
        case "user":
            return User(_application(fields))
    raise ValueError(fields["type"])


def _source(fields: Fields) -> tuple[Address, NodeId]:
    address = Address(raw(fields.get("SourceAddr")), fields.get("SourcePort", 0))
    return address, text(fields.get("SourceNode", ""))


def _about(fields: Fields, name: str | dict[str, str]) -> Peer:
    address = Address(raw(fields["Addr"]), fields["Port"])
    return peer(text(name), address, raw(fields["Meta"]), raw(fields["Vsn"]))


def _application(fields: Fields) -> bytes:
    if "serf" in fields:
        return serf.encode(serf_message(fields["serf"]))
    return raw(fields["data"])


def push_pull(fields: Fields) -> PushPull:
    states = tuple(
        Member(_about(node, node["Name"]), node["Incarnation"], Status(node["State"]))
        for node in fields["nodes"]
    )
    user = serf.encode(serf_message(fields["user_state"])) if "user_state" in fields else b""
    assert fields["header"]["Nodes"] == len(states)
    assert fields["header"]["UserStateLen"] == len(user)
    return PushPull(fields["header"]["Join"], states, user)


def stream_message(fields: Fields) -> stream.StreamMessage:
    match fields["type"]:
        case "compress" | "encrypt-stream":
            return stream_message(fields["plain"])
        case "push-pull":
            return push_pull(fields)
        case "user-stream":
            return User(_application(fields))
        case "err":
            return ErrorReply(fields["Error"])
    found = message(fields)
    assert isinstance(found, Ping | Ack)
    return found


def expected(fields: Fields) -> list[Message]:
    """The messages within all layers of a packet, in order."""
    match fields["type"]:
        case "compress" | "encrypt":
            return expected(fields["plain"])
        case "crc":
            return expected(fields["body"])
        case "compound":
            return [message for part in fields["parts"] for message in expected(part)]
    return [message(fields)]


def layers(fields: Fields) -> list[str]:
    """The layers of a packet or stream, outermost first."""
    inner = fields.get("plain") or fields.get("body")
    if fields["type"] in ("compress", "encrypt", "encrypt-stream", "crc"):
        return [fields["type"], *layers(inner)]
    return [fields["type"]] if fields["type"] == "compound" else []


def rebuilt(fields: Fields) -> bytes:
    """The bytes of these fields."""
    match fields["type"]:
        case "compound":
            body = packet.compound([rebuilt(part) for part in fields["parts"]])
        case "crc":
            body = packet.checksummed(rebuilt(fields["body"]))
        case "compress":
            body = compressed(rebuilt(fields["plain"]))
        case "encrypt" | "encrypt-stream":
            body = _sealed(fields)
        case "push-pull" | "user-stream" | "err":
            body = stream.encode(stream_message(fields), PLAIN, first=False)
        case _:
            body = single.encode(message(fields))
    return body + raw(fields.get("$tail"))


def _sealed(fields: Fields) -> bytes:
    ring, nonce = keyring.keyring([raw(fields["key"])]), raw(fields["nonce"])
    plain, aad = rebuilt(fields["plain"]), raw(fields.get("aad"))
    return aad + keyring.seal(ring, plain, nonce, aad, fields["version"])


def sender(fields: Fields) -> tuple[Envelope, bool, bytes | None]:
    """How the sender of a packet or stream wraps it, whether in a CRC, and the nonce."""
    outer, wrapped = fields, layers(fields)
    envelope = Envelope(compress="compress" in wrapped)
    if outer["type"] not in ("encrypt", "encrypt-stream"):
        return envelope, "crc" in wrapped, None
    ring = keyring.keyring([raw(outer["key"])])
    sealed = Envelope(keyring=ring, encryption_version=outer["version"], compress=envelope.compress)
    return sealed, "crc" in wrapped, raw(outer["nonce"])


# --- Serf -------------------------------------------------------------------------------------


def _each(values: list[Any] | None, make: Any = lambda value: value) -> tuple[Any, ...] | None:
    return None if values is None else tuple(map(make, values))


def serf_message(fields: Fields) -> said.SerfMessage:
    match fields["type"]:
        case "serf-join":
            return said.JoinIntent(fields["LTime"], text(fields["Node"]))
        case "serf-leave":
            return said.LeaveIntent(fields["LTime"], text(fields["Node"]), fields["Prune"])
        case "serf-user-event":
            payload = nullable(fields["Payload"])
            return said.UserEvent(fields["LTime"], text(fields["Name"]), payload, fields["CC"])
        case "serf-query":
            return said.Query(
                fields["LTime"],
                fields["ID"],
                Address(raw(fields["Addr"]), fields["Port"]),
                text(fields["SourceNode"]),
                text(fields["Name"]),
                fields["Timeout"],
                nullable(fields["Payload"]),
                _each(fields["Filters"], raw),
                fields["Flags"],
                fields["RelayFactor"],
            )
        case "serf-query-response":
            names = (fields["LTime"], fields["ID"], text(fields["From"]))
            return said.QueryResponse(*names, fields["Flags"], nullable(fields["Payload"]))
        case "serf-push-pull":
            return _state(fields)
        case "serf-conflict-response":
            return said.ConflictResponse(fields["Member"] and _member(fields["Member"]))
        case "serf-key-request":
            return said.KeyRequest(nullable(fields["Key"]))
        case "serf-key-response":
            keys = _each(fields["Keys"])
            return said.KeyResponse(fields["Result"], fields["Message"], keys, fields["PrimaryKey"])
        case "serf-relay":
            header = fields["header"]
            address = Address(raw(header["DestAddr"]["IP"]), header["DestAddr"]["Port"])
            inner = serf.encode(serf_message(fields["message"]))
            zone = header["DestAddr"]["Zone"]
            return said.Relay(address, text(header["DestName"]), inner, zone)
    raise ValueError(fields["type"])


def _state(fields: Fields) -> said.SerfState:
    events, ltimes = fields["Events"], fields["StatusLTimes"]
    return said.SerfState(
        fields["LTime"],
        fields["EventLTime"],
        fields["QueryLTime"],
        ltimes if ltimes is None else tuple((text(name), at) for name, at in ltimes.items()),
        _each(fields["LeftMembers"], text),
        events and said.EventBuffer(events["len"], _slots(events["set"])),
    )


def _slots(taken: dict[str, Any]) -> tuple[tuple[int, said.EventSlot], ...]:
    return tuple(
        (
            int(index),
            said.EventSlot(
                slot["LTime"],
                tuple(
                    said.PastEvent(text(event["Name"]), nullable(event["Payload"]))
                    for event in slot["Events"]
                ),
            ),
        )
        for index, slot in taken.items()
    )


def _member(fields: Fields) -> said.MemberInfo:
    protocol = (fields["ProtocolMin"], fields["ProtocolMax"], fields["ProtocolCur"])
    delegate = (fields["DelegateMin"], fields["DelegateMax"], fields["DelegateCur"])
    return said.MemberInfo(
        text(fields["Name"]),
        Address(raw(fields["Addr"]), fields["Port"]),
        bytes((*protocol, *delegate)),
        fields["Status"],
        tuple(fields["Tags"].items()),
    )


def serf_filter(fields: Fields) -> said.Filter:
    if fields["type"] == "filter-node":
        return said.NodeFilter(tuple(map(text, fields["nodes"])))
    return said.TagFilter(fields["Tag"], fields["Expr"])


def coordinate(fields: Fields) -> said.Coordinate:
    vec = tuple(fields["Vec"])
    return said.Coordinate(vec, fields["Error"], fields["Adjustment"], fields["Height"])
