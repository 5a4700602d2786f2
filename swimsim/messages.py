"""What two nodes say to each other: one frozen struct for each wire message, and its size.

A packet carries one or more of ``Message`` (spec memberlist.md, section 4); a stream carries
one request and at most one reply (section 5). In the simulator the structs themselves travel;
``size`` says how many bytes the wire would have carried.
"""

from __future__ import annotations

from typing import TypeAlias, final

from msgspec import Struct

from swimsim import sizes
from swimsim.config import Config
from swimsim.member import Member, Peer, state_size
from swimsim.members import Members
from swimsim.terms import Address, Incarnation, NodeId, SeqNo


class Ping(Struct, frozen=True, gc=False, tag=True):
    """Are you there? Answered by an ``Ack`` to ``source``."""

    seq_no: SeqNo
    target: NodeId  # who is meant; anybody else stays silent
    source: Address  # where the ack goes
    source_node: NodeId


class IndirectPing(Struct, frozen=True, gc=False, tag=True):
    """Ping ``target`` for me, under your own sequence number, and tell ``source``."""

    seq_no: SeqNo
    target: NodeId
    target_address: Address
    nack: bool  # say so when the target is silent
    source: Address
    source_node: NodeId


@final
class Ack(Struct, frozen=True, gc=False, tag=True):
    """I am here, or the one you asked me to ping is."""

    seq_no: SeqNo
    payload: bytes = b""  # the application's; network coordinates in Serf


class Nack(Struct, frozen=True, gc=False, tag=True):
    """I heard you, but the one you asked me to ping is silent (Lifeguard IV-A)."""

    seq_no: SeqNo


@final
class Suspect(Struct, frozen=True, gc=False, tag=True):
    """``source`` says that ``node`` does not answer."""

    incarnation: Incarnation
    node: NodeId
    source: NodeId


@final
class Alive(Struct, frozen=True, gc=False, tag=True):
    """``peer`` is alive in this incarnation, and this is what it says of itself."""

    incarnation: Incarnation
    peer: Peer


@final
class Dead(Struct, frozen=True, gc=False, tag=True):
    """``source`` says that ``node`` is dead; when both are one, the node is leaving."""

    incarnation: Incarnation
    node: NodeId
    source: NodeId


class User(Struct, frozen=True, gc=False, tag=True):
    """Bytes that belong to the application."""

    payload: bytes


class PushPull(Struct, frozen=True, gc=False, tag=True):
    """One side's whole state, sent over a stream and answered by the other's.

    ``states`` is a table when it comes from a simulated peer, which shares it, and a tuple of
    records when it was decoded from a stream.
    """

    join: bool  # an explicit join, not periodic anti-entropy
    states: Members | tuple[Member, ...]
    user: bytes = b""


Message: TypeAlias = Ping | IndirectPing | Ack | Nack | Suspect | Alive | Dead | User
Request: TypeAlias = Ping | PushPull
Response: TypeAlias = Ack | PushPull

STREAM_PING_SINCE = 3  # protocol version from which a member answers pings on a stream,
NACK_SINCE = 4  # sends nacks,
CRC_SINCE = 5  # understands the CRC layer

COMPOUND_HEADER = 2  # type byte and count
COMPOUND_PART = 2  # length of one part
CRC_HEADER = 5  # type byte and CRC-32
_ENCRYPTION = 29  # version, nonce and tag

_TYPE = 1  # the byte before the map
_FLAG = 1  # a boolean
_PING = _TYPE + sizes.fields("Node", "SeqNo")
_INDIRECT_PING = _TYPE + sizes.fields("Nack", "Node", "Port", "SeqNo", "Target") + _FLAG
_ACK = _TYPE + sizes.fields("Payload", "SeqNo")
_NACK = _TYPE + sizes.fields("SeqNo")
_RUMOUR = _TYPE + sizes.fields("From", "Incarnation", "Node")
_PUSH_PULL = _TYPE + sizes.fields("Join", "Nodes", "UserStateLen") + _FLAG
_SOURCE_ADDRESS, _SOURCE_NODE, _SOURCE_PORT = (
    sizes.fields(key) - 1 for key in ("SourceAddr", "SourceNode", "SourcePort")
)


def size(message: Message | PushPull) -> int:
    """Bytes of the message on the wire, its type byte included, before any envelope."""
    if type(message) is Ack:  # the usual ones first: a match is slow to say no
        return _ACK + sizes.optional(message.payload) + sizes.uint(message.seq_no)
    if type(message) is Suspect or type(message) is Dead:
        rumour = sizes.uint(message.incarnation) + sizes.name(message.node)
        return _RUMOUR + rumour + sizes.name(message.source)
    match message:
        case Ping(seq_no, target, source, source_node):
            return _PING + sizes.name(target) + sizes.uint(seq_no) + _source(source, source_node)
        case Alive(incarnation, peer):
            return peer.alive_size + sizes.uint(incarnation)
        case User(payload):
            return _TYPE + len(payload)
        case IndirectPing(seq_no, target, (host, port), _, source, source_node):
            at = sizes.name(target) + sizes.raw(len(host)) + sizes.uint(port)
            return _INDIRECT_PING + sizes.uint(seq_no) + at + _source(source, source_node)
        case Nack(seq_no):
            return _NACK + sizes.uint(seq_no)
        case PushPull(_, states, user):
            nodes = states.size if isinstance(states, Members) else sum(map(state_size, states))
            return _PUSH_PULL + sizes.uint(len(states)) + sizes.uint(len(user)) + nodes + len(user)


def _source(source: Address, node: NodeId) -> int:
    """Bytes of the three source fields, each of which is left out when it is empty."""
    size = _SOURCE_NODE + sizes.name(node) if node else 0
    if source.host:
        size += _SOURCE_ADDRESS + sizes.raw(len(source.host))
    if source.port:
        size += _SOURCE_PORT + sizes.uint(source.port)
    return size


def packet_size(messages: tuple[Message, ...], crc: bool, config: Config) -> int:
    """Bytes of the whole datagram payload before compression (spec memberlist.md, section 2.2)."""
    body = sum(map(size, messages))
    if len(messages) > 1:
        body += COMPOUND_HEADER + COMPOUND_PART * len(messages)
    return body + (CRC_HEADER if crc else 0) + envelope(config)


def most_bytes(config: Config) -> int:
    """Bytes of the largest message that gossip can carry: one that has a packet for itself."""
    return config.packet_size - COMPOUND_HEADER - COMPOUND_PART - envelope(config)


def most_user_bytes(config: Config) -> int:
    """The same of the application's bytes in a ``User``."""
    return most_bytes(config) - _TYPE


def envelope(config: Config) -> int:
    """Bytes that label and encryption add to a packet (L and E of spec memberlist.md, 2.8)."""
    label = 2 + config.label_size if config.label_size else 0
    return label + (_ENCRYPTION if config.encrypted else 0)
