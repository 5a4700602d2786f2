"""Serf's messages (spec serf.md, sections 1.2 to 1.10), which memberlist carries unseen.

A message is a type byte and a msgpack map in memberlist's dialect. Every field is always there.
What it is depends on where it travels: agents take types 0, 1, 3, 4, 5 and 9 from packets
(``decode_gossip``); 2 is the user state of a push/pull; 6, 7 and 8 are payloads of queries and
of responses. Filters, tags and coordinates are not messages, and have functions of their own.

===  ==================  ========================================
  0  leave intent        Node, since when, whether to forget it
  1  join intent         Node, since when
  2  push/pull           clocks, who was last heard of when, who left, the event buffer
  3  user event          Name, Payload
  4  query               Name, Payload, Filters, where the answers go
  5  query response      answer or ack
  6  conflict response   a member, or nil
  7  key request         Key
  8  key response        Result, Keys
  9  relay               where to, then a whole message
===  ==================  ========================================

The specification does not give the order of declaration of Serf's structs, and nobody writes
them as arrays; so, unlike memberlist's, they are read from maps only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import astuple

from swimsim.serf.messages import (
    ConflictResponse,
    Coordinate,
    EventBuffer,
    EventSlot,
    Filter,
    Gossip,
    JoinIntent,
    KeyRequest,
    KeyResponse,
    LeaveIntent,
    MemberInfo,
    NodeFilter,
    PastEvent,
    Query,
    QueryResponse,
    Relay,
    SerfMessage,
    SerfState,
    TagFilter,
    UserEvent,
)
from swimsim.terms import Address, NodeId
from swimsim.wire.errors import WireError
from swimsim.wire.msgpack import (
    BYTES,
    FLAG,
    FLOAT,
    I64,
    TEXT,
    U8,
    U16,
    U32,
    U64,
    Field,
    Kind,
    array,
    entries,
    mapped,
    mapping,
    optional,
    read,
    record,
    sparse,
)

LEAVE, JOIN, PUSH_PULL, USER_EVENT, QUERY, QUERY_RESPONSE = range(6)
CONFLICT_RESPONSE, KEY_REQUEST, KEY_RESPONSE, RELAY = range(6, 10)

META_LIMIT = 512  # bytes of encoded tags
TAGS_SINCE = 3  # Serf protocol version with more tags than ``role``
_TAGS_MAGIC = b"\xff"
_COORDINATE_VERSION = b"\x01"

StructT = TypeVar("StructT", bound=Struct)


# --- the messages' bodies ---------------------------------------------------------------------


def _plain(make: Callable[..., StructT], *fields: Field) -> Kind[StructT]:
    """A struct that has just these fields, in this order."""
    return mapped(record(*fields, declared=False), lambda values: make(*values), astuple)


_PAYLOAD = optional(BYTES)

_LEAVE = _plain(LeaveIntent, ("LTime", U64), ("Node", TEXT), ("Prune", FLAG))
_JOIN = _plain(JoinIntent, ("LTime", U64), ("Node", TEXT))
_USER_EVENT = _plain(UserEvent, ("LTime", U64), ("Name", TEXT), ("Payload", _PAYLOAD), ("CC", FLAG))
_QUERY_RESPONSE = _plain(
    QueryResponse,
    ("LTime", U64),
    ("ID", U32),
    ("From", TEXT),
    ("Flags", U32),
    ("Payload", _PAYLOAD),
)
_KEY_REQUEST = _plain(KeyRequest, ("Key", optional(BYTES)))
_KEY_RESPONSE = _plain(
    KeyResponse,
    ("Result", FLAG),
    ("Message", TEXT),
    ("Keys", optional(array(TEXT))),
    ("PrimaryKey", TEXT),
)
_PAST_EVENT = _plain(PastEvent, ("Name", TEXT), ("Payload", _PAYLOAD))
_EVENT_SLOT = _plain(EventSlot, ("LTime", U64), ("Events", array(_PAST_EVENT)))
_STATE = _plain(
    SerfState,
    ("LTime", U64),
    ("EventLTime", U64),
    ("QueryLTime", U64),
    ("StatusLTimes", optional(mapping(U64))),
    ("LeftMembers", optional(array(TEXT))),
    ("Events", optional(mapped(sparse(_EVENT_SLOT), lambda taken: EventBuffer(*taken), astuple))),
)
_TAG_FILTER = _plain(TagFilter, ("Tag", TEXT), ("Expr", TEXT))
_NODE_FILTER: Kind[NodeFilter] = mapped(
    array(TEXT), lambda names: NodeFilter(tuple(map(NodeId, names))), lambda chosen: chosen.nodes
)
_COORDINATE = _plain(
    Coordinate, ("Vec", array(FLOAT)), ("Error", FLOAT), ("Adjustment", FLOAT), ("Height", FLOAT)
)


def _query(values: Sequence[Any]) -> Query:
    ltime, query_id, host, port, *rest = values
    return Query(ltime, query_id, Address(host, port), *rest)


def _query_values(query: Query) -> Sequence[Any]:
    ltime, query_id, (host, port), *rest = astuple(query)
    return (ltime, query_id, host, port, *rest)


_QUERY = mapped(
    record(
        ("LTime", U64),
        ("ID", U32),
        ("Addr", BYTES),
        ("Port", U16),
        ("SourceNode", TEXT),
        ("Name", TEXT),
        ("Timeout", I64),
        ("Payload", _PAYLOAD),
        ("Filters", optional(array(BYTES))),
        ("Flags", U32),
        ("RelayFactor", U8),
        declared=False,
    ),
    _query,
    _query_values,
)


def _member(values: Sequence[Any]) -> MemberInfo:
    name, host, port, status, tags, *vsn = values
    return MemberInfo(name, Address(host, port), bytes(vsn), status, tags)


def _member_values(member: MemberInfo) -> Sequence[Any]:
    if len(member.vsn) != 6:
        raise ValueError(f"vsn has {len(member.vsn)} bytes, expected 6")
    host, port = member.address
    return (member.name, host, port, member.status, member.tags, *member.vsn)


_MEMBER = mapped(
    record(
        ("Name", TEXT),
        ("Addr", BYTES),
        ("Port", U16),
        ("Status", I64),
        ("Tags", optional(mapping(TEXT))),
        ("ProtocolMin", U8),
        ("ProtocolMax", U8),
        ("ProtocolCur", U8),
        ("DelegateMin", U8),
        ("DelegateMax", U8),
        ("DelegateCur", U8),
        declared=False,
    ),
    _member,
    _member_values,
)
_CONFLICT_RESPONSE = mapped(optional(_MEMBER), ConflictResponse, lambda answer: answer.member)

_RELAY = record(
    ("DestAddr", record(("IP", BYTES), ("Port", U16), ("Zone", TEXT), declared=False)),
    ("DestName", TEXT),
    declared=False,
)

_BODIES: dict[int, tuple[type[SerfMessage], Kind[Any]]] = {
    LEAVE: (LeaveIntent, _LEAVE),
    JOIN: (JoinIntent, _JOIN),
    PUSH_PULL: (SerfState, _STATE),
    USER_EVENT: (UserEvent, _USER_EVENT),
    QUERY: (Query, _QUERY),
    QUERY_RESPONSE: (QueryResponse, _QUERY_RESPONSE),
    CONFLICT_RESPONSE: (ConflictResponse, _CONFLICT_RESPONSE),
    KEY_REQUEST: (KeyRequest, _KEY_REQUEST),
    KEY_RESPONSE: (KeyResponse, _KEY_RESPONSE),
}
_TYPES = {struct: (bytes((number,)), body) for number, (struct, body) in _BODIES.items()}


# --- messages ---------------------------------------------------------------------------------


def encode(message: SerfMessage) -> bytes:
    """The message, its type byte first."""
    if isinstance(message, Relay):
        (host, port), node = message.address, message.node
        header = _RELAY.write(((host, port, message.zone), node))
        return bytes((RELAY,)) + header + message.message
    number, body = _TYPES[type(message)]
    return number + body.write(message)


def decode(data: bytes) -> SerfMessage:
    """The one message, of any type, that ``data`` holds; raises ``WireError``.

    What follows it is ignored.
    """
    if not data:
        raise WireError("empty", "a Serf message of no bytes")
    if data[0] == RELAY:
        ((host, port, zone), node), at = read(_RELAY, data, 1)
        return Relay(Address(host, port), node, data[at:], zone)
    if data[0] not in _BODIES:
        raise WireError("unknown-type", f"Serf message type {data[0]}", "byte 0")
    message: SerfMessage
    message, _ = read(_BODIES[data[0]][1], data, 1)
    return message


def decode_gossip(data: bytes) -> Gossip:
    """The message, of a type that may come in a packet; raises ``WireError``."""
    if data and data[0] in (PUSH_PULL, CONFLICT_RESPONSE, KEY_REQUEST, KEY_RESPONSE):
        raise WireError("unknown-type", f"Serf message type {data[0]} in a packet", "byte 0")
    message = decode(data)
    assert isinstance(message, Gossip)  # as no other type is left
    return message


def decode_key_request(payload: bytes) -> KeyRequest:
    """The key that a query brings, whatever its type byte says; raises ``WireError``."""
    if not payload:
        raise WireError("empty", "a key request of no bytes")
    request, _ = read(_KEY_REQUEST, payload, 1)
    return request


# --- filters, tags, coordinates ---------------------------------------------------------------


def encode_filter(chosen: Filter) -> bytes:
    """The filter as it goes into a query."""
    if isinstance(chosen, NodeFilter):
        return b"\x00" + _NODE_FILTER.write(chosen)
    return b"\x01" + _TAG_FILTER.write(chosen)


def decode_filter(data: bytes) -> Filter:
    """A filter of a query; raises ``WireError``, and then lets nobody pass (spec 1.5)."""
    if not data:
        raise WireError("empty", "a filter of no bytes")
    if data[0] > 1:
        raise WireError("unknown-type", f"filter type {data[0]}", "byte 0")
    return read(_TAG_FILTER, data, 1)[0] if data[0] else read(_NODE_FILTER, data, 1)[0]


def encode_tags(
    tags: Mapping[str, str], protocol: int = 5, *, limit: int | None = META_LIMIT
) -> bytes:
    """The Meta of a member with these tags, in their order; before version 3 only its role."""
    if protocol < TAGS_SINCE:
        meta = tags.get("role", "").encode("utf-8", "surrogateescape")
    else:
        meta = _TAGS_MAGIC + mapping(TEXT).write(tuple(tags.items()))
    if limit is not None and len(meta) > limit:
        raise ValueError(f"Encoded length of tags exceeds limit of {limit} bytes")
    return meta


def decode_tags(meta: bytes) -> tuple[dict[str, str], WireError | None]:
    """The tags of a member, and what is wrong with its Meta, if anything.

    Then there are the tags before the mistake, as Serf has it.
    """
    if not meta.startswith(_TAGS_MAGIC):
        return {"role": meta.decode("utf-8", "surrogateescape")}, None
    tags: dict[str, str] = {}
    try:
        tags.update(entries(TEXT, meta, 1))  # one by one, so those before a mistake stay
    except WireError as error:
        return tags, error
    return tags, None


def encode_coordinate(coordinate: Coordinate) -> bytes:
    """The payload of an ack."""
    return _COORDINATE_VERSION + _COORDINATE.write(coordinate)


def decode_coordinate(payload: bytes) -> Coordinate:
    """The coordinate in the payload, not empty, of an ack; raises ``WireError``.

    Whether it is one that can be reckoned with (its length, NaN) is not asked here.
    """
    if not payload:
        raise WireError("empty", "a coordinate of no bytes")
    if payload[:1] != _COORDINATE_VERSION:
        raise WireError("unknown-type", f"ping version {payload[0]}, expected 1", "byte 0")
    return read(_COORDINATE, payload, 1)[0]
