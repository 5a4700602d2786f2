"""One message: a type byte and its body (spec memberlist.md, sections 2.1 and 4).

The records below are the messages' fields in Go's order of declaration. All numbers are
unsigned. What a sender may leave out is the source of a ping, which nodes before memberlist
0.2.0 did not send; everything else is always there, an empty Meta or Payload as nil.

Whether a decoded message makes sense (an address of 4 or 16 bytes, six version bytes, a name
one knows) is for those to say who act on it: Go's decoder takes them all, and so does this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from swimsim.member import peer
from swimsim.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    Nack,
    Ping,
    Suspect,
    User,
)
from swimsim.terms import Address
from swimsim.wire.errors import WireError
from swimsim.wire.msgpack import (
    BYTES,
    BYTES_OR_NIL,
    FLAG,
    TEXT,
    U16,
    U32,
    Field,
    read,
    record,
)

PING, INDIRECT_PING, ACK, SUSPECT, ALIVE, DEAD = range(6)
USER = 8
NACK = 11

_SOURCE: tuple[Field, ...] = (
    ("SourceAddr", BYTES, "omitted"),
    ("SourcePort", U16, "omitted"),
    ("SourceNode", TEXT, "omitted"),
)
_PING = record(("SeqNo", U32), ("Node", TEXT), *_SOURCE)
_INDIRECT_PING = record(
    ("SeqNo", U32), ("Target", BYTES), ("Port", U16), ("Node", TEXT), ("Nack", FLAG), *_SOURCE
)
_ACK = record(("SeqNo", U32), ("Payload", BYTES_OR_NIL))
_NACK = record(("SeqNo", U32))
_RUMOUR = record(("Incarnation", U32), ("Node", TEXT), ("From", TEXT))
_ALIVE = record(
    ("Incarnation", U32),
    ("Node", TEXT),
    ("Addr", BYTES_OR_NIL),
    ("Port", U16),
    ("Meta", BYTES_OR_NIL),
    ("Vsn", BYTES_OR_NIL),
)


def encode(message: Message) -> bytes:
    """The message, its type byte first."""
    match message:
        case Ping(seq_no, target, (host, port), source_node):
            return b"\x00" + _PING.write((seq_no, target, host, port, source_node))
        case Ack(seq_no, payload):
            return b"\x02" + _ACK.write((seq_no, payload))
        case Suspect(incarnation, node, source):
            return b"\x03" + _RUMOUR.write((incarnation, node, source))
        case Alive(incarnation, about):
            host, port = about.address
            facts = (incarnation, about.name, host, port, about.meta, about.vsn)
            return b"\x04" + _ALIVE.write(facts)
        case Dead(incarnation, node, source):
            return b"\x05" + _RUMOUR.write((incarnation, node, source))
        case User(payload):
            return b"\x08" + payload
        case IndirectPing(seq_no, target, at, nack, source, source_node):
            asked = (seq_no, at.host, at.port, target, nack, source.host, source.port, source_node)
            return b"\x01" + _INDIRECT_PING.write(asked)
        case Nack(seq_no):
            return b"\x0b" + _NACK.write((seq_no,))


def decode(data: bytes) -> Message:
    """The one message that ``data``, not empty, holds; raises ``WireError``.

    What follows the message is ignored, except that a user message has no end of its own.
    """
    decoder = DECODERS.get(data[0])
    if decoder is None:
        raise WireError("unknown-type", f"message type {data[0]}", "byte 0")
    return decoder(data)


def _ping(data: bytes) -> Ping:
    (seq_no, target, host, port, node), _ = read(_PING, data, 1)
    return Ping(seq_no, target, Address(host, port), node)


def _indirect_ping(data: bytes) -> IndirectPing:
    (seq_no, target_host, target_port, target, nack, host, port, node), _ = read(
        _INDIRECT_PING, data, 1
    )
    at = Address(target_host, target_port)
    return IndirectPing(seq_no, target, at, nack, Address(host, port), node)


def _ack(data: bytes) -> Ack:
    (seq_no, payload), _ = read(_ACK, data, 1)
    return Ack(seq_no, payload)


def _nack(data: bytes) -> Nack:
    (seq_no,), _ = read(_NACK, data, 1)
    return Nack(seq_no)


def _suspect(data: bytes) -> Suspect:
    (incarnation, node, source), _ = read(_RUMOUR, data, 1)
    return Suspect(incarnation, node, source)


def _alive(data: bytes) -> Alive:
    (incarnation, name, host, port, meta, vsn), _ = read(_ALIVE, data, 1)
    return Alive(incarnation, peer(name, Address(host, port), meta, vsn))


def _dead(data: bytes) -> Dead:
    (incarnation, node, source), _ = read(_RUMOUR, data, 1)
    return Dead(incarnation, node, source)


def _user(data: bytes) -> User:
    return User(data[1:])


Decoder: TypeAlias = Callable[[bytes], Message]
DECODERS: dict[int, Decoder] = {
    PING: _ping,
    INDIRECT_PING: _indirect_ping,
    ACK: _ack,
    SUSPECT: _suspect,
    ALIVE: _alive,
    DEAD: _dead,
    USER: _user,
    NACK: _nack,
}
"""How each message that may be in a packet is read, by its type byte."""
