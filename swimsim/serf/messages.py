"""What Serf's agents say to each other: one frozen struct for each message (spec serf.md, 1.4).

They travel as the application's bytes of memberlist: in ``User`` messages, in the user state of
a push/pull, in the Meta of a member (tags) and in the payload of an ack (a coordinate). The
codec is ``swimsim.wire.serf``.

Where Go tells nil from empty on the wire, so do these structs, with ``None``: a rebroadcast
must not change a message. To whoever acts on one, both are the same.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from swimsim.terms import Address, LamportTime, NodeId

ACK_FLAG = 1  # in a query: acks are wanted; in a response: this is an ack
NO_BROADCAST_FLAG = 2  # in a query: do not pass it on

STATUS_NONE, STATUS_ALIVE, STATUS_LEAVING, STATUS_LEFT, STATUS_FAILED = range(5)


class JoinIntent(Struct, frozen=True, gc=False):
    """``node`` has come."""

    ltime: LamportTime
    node: NodeId


class LeaveIntent(Struct, frozen=True, gc=False):
    """``node`` goes, or is made to go."""

    ltime: LamportTime
    node: NodeId
    prune: bool = False  # forget it altogether


class UserEvent(Struct, frozen=True, gc=False):
    """Something that the agents' owners tell one another."""

    ltime: LamportTime
    name: str
    payload: bytes | None = None
    coalesce: bool = False  # of several with one name only the last matters


class Query(Struct, frozen=True):
    """A question to all members that ``filters`` let pass."""

    ltime: LamportTime
    query_id: int  # 32 bits; with ``ltime`` it names the query
    source: Address  # where the answers go
    source_node: NodeId
    name: str
    timeout_ns: int  # how long answers are waited for; signed, 64 bits
    payload: bytes | None = None
    filters: tuple[bytes, ...] | None = None  # encoded: who cannot read one is not meant
    flags: int = 0  # 32 bits, ``ACK_FLAG`` and ``NO_BROADCAST_FLAG``
    relay_factor: int = 0  # over how many members the answers go as well; 8 bits


class QueryResponse(Struct, frozen=True, gc=False):
    """An answer to a query, or the ack that it arrived."""

    ltime: LamportTime  # of the query
    query_id: int  # of the query
    source: NodeId
    flags: int = 0  # ``ACK_FLAG``
    payload: bytes | None = None


class PastEvent(Struct, frozen=True, gc=False):
    """A user event that somebody remembers."""

    name: str
    payload: bytes | None = None


class EventSlot(Struct, frozen=True):
    """The user events of one Lamport time."""

    ltime: LamportTime
    events: tuple[PastEvent, ...]


class EventBuffer(Struct, frozen=True):
    """The ring of events that an agent remembers, by Lamport time modulo ``length``."""

    length: int = 512
    slots: tuple[tuple[int, EventSlot], ...] = ()  # the taken ones, index first, in order


class SerfState(Struct, frozen=True):
    """Serf's part of a push/pull."""

    ltime: LamportTime
    event_ltime: LamportTime
    query_ltime: LamportTime
    status_ltimes: tuple[tuple[NodeId, LamportTime], ...] | None = ()  # when each last changed
    left_members: tuple[NodeId, ...] | None = ()
    events: EventBuffer | None = EventBuffer()


class Relay(Struct, frozen=True, gc=False):
    """Send ``message`` on to ``node`` for me."""

    address: Address
    node: NodeId
    message: bytes  # an encoded Serf message, not looked into
    zone: str = ""  # of an IPv6 address


class MemberInfo(Struct, frozen=True):
    """What an agent knows of a member."""

    name: NodeId
    address: Address
    vsn: bytes  # protocol min, max, current; delegate min, max, current
    status: int  # ``STATUS_NONE`` to ``STATUS_FAILED``
    tags: tuple[tuple[str, str], ...] | None = ()


class ConflictResponse(Struct, frozen=True):
    """Whom the asked one knows by a name that two claim; None: nobody."""

    member: MemberInfo | None


class KeyRequest(Struct, frozen=True, gc=False):
    """Install, use or remove ``key``; which of them, the name of the query says."""

    key: bytes | None


class KeyResponse(Struct, frozen=True):
    """How a ``KeyRequest`` went."""

    result: bool
    message: str = ""  # what went wrong
    keys: tuple[str, ...] | None = None  # base64, the primary first; of a list request
    primary_key: str = ""


class NodeFilter(Struct, frozen=True):
    """Lets these members pass."""

    nodes: tuple[NodeId, ...]


class TagFilter(Struct, frozen=True, gc=False):
    """Lets members pass in whose tag ``tag`` the regular expression is found."""

    tag: str
    expression: str


class Coordinate(Struct, frozen=True):
    """A place in the space in which distances are round-trip times; seconds."""

    vec: tuple[float, ...]
    error: float
    adjustment: float
    height: float


Gossip: TypeAlias = JoinIntent | LeaveIntent | UserEvent | Query | QueryResponse | Relay
"""What comes in packets."""

Enclosed: TypeAlias = SerfState | ConflictResponse | KeyRequest | KeyResponse
"""What comes within a push/pull, a query or the response to one."""

SerfMessage: TypeAlias = Gossip | Enclosed
Filter: TypeAlias = NodeFilter | TagFilter
