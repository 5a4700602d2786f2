"""What a node can ask of its backend, and the events it reports to its owner.

Effects are orders, to be carried out in the order given. ``Then`` is for the node itself:
``node.step`` handles it before it returns, so no backend ever sees one.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, final

from msgspec import Struct

from swimsim.inputs import Input, KeyOperation, KeyringAnswered, News
from swimsim.member import Peer
from swimsim.messages import Message, Request, Response, User
from swimsim.terms import Address, Incarnation, LamportTime, Micros, NodeId, RequestId

# --- events ------------------------------------------------------------------------------


class Joined(Struct, frozen=True, gc=False, tag=True):
    """A member appeared, or one that was dead or had left is back."""

    peer: Peer
    incarnation: Incarnation


class Updated(Struct, frozen=True, gc=False, tag=True):
    """A member changed its metadata."""

    peer: Peer
    incarnation: Incarnation


class Suspected(Struct, frozen=True, gc=False, tag=True):
    """A member is suspected from now on; ``source`` is the first accuser heard of."""

    node: NodeId
    incarnation: Incarnation
    source: NodeId


class Cleared(Struct, frozen=True, gc=False, tag=True):
    """A suspected member refuted: it is alive in this incarnation."""

    node: NodeId
    incarnation: Incarnation


class Failed(Struct, frozen=True, gc=False, tag=True):
    """A member is dead by the word of ``source``."""

    node: NodeId
    incarnation: Incarnation
    source: NodeId


class Left(Struct, frozen=True, gc=False, tag=True):
    """A member said farewell."""

    node: NodeId
    incarnation: Incarnation
    source: NodeId


class Conflict(Struct, frozen=True, gc=False, tag=True):
    """Two addresses claim one name; ``existing`` keeps it, ``other`` is ignored."""

    existing: Peer
    other: Peer


class Refuted(Struct, frozen=True, gc=False, tag=True):
    """This node was accused and answered with a higher incarnation."""

    incarnation: Incarnation


class HealthChanged(Struct, frozen=True, gc=False, tag=True):
    """This node's local health score is now ``score``; 0 is healthy."""

    score: int


class MergeRefused(Struct, frozen=True, gc=False, tag=True):
    """The state of a peer was not taken in."""

    reason: str


class JoinFinished(Struct, frozen=True, gc=False, tag=True):
    """A ``Join`` reached ``contacted`` of its addresses; the rest failed, and why."""

    contacted: int
    failures: tuple[tuple[Address, str], ...]


class LeaveFinished(Struct, frozen=True, gc=False, tag=True):
    """The farewell has been sent as often as it will be, or nobody is there to hear it."""

    timed_out: bool


class UpdateFinished(Struct, frozen=True, gc=False, tag=True):
    """The new metadata has been sent as often as it will be, or something newer was."""

    incarnation: Incarnation


# --- events of Serf's layer --------------------------------------------------------------

MemberEvent: TypeAlias = Literal["join", "leave", "failed", "update", "reap"]


class MemberChanged(Struct, frozen=True, gc=False, tag=True):
    """A member came, left, failed, changed its tags, or is forgotten: Serf's word on it."""

    kind: MemberEvent
    peer: Peer
    flap: bool = False  # of a join: it had failed only moments ago


class UserEventReceived(Struct, frozen=True, gc=False, tag=True):
    """A user event, told once; this node's own as well."""

    ltime: LamportTime
    name: str
    payload: bytes | None
    coalesce: bool


class QueryReceived(Struct, frozen=True, gc=False, tag=True):
    """Somebody asks this node something; ``RespondQuery`` answers, until ``deadline``."""

    ltime: LamportTime
    query_id: int
    name: str
    payload: bytes | None
    source: Address
    source_node: NodeId
    deadline: Micros


class QueryStarted(Struct, frozen=True, gc=False, tag=True):
    """The owner's query is on its way under this time and number."""

    request: RequestId
    ltime: LamportTime
    query_id: int
    deadline: Micros


class QueryAcked(Struct, frozen=True, gc=False, tag=True):
    """``node`` was asked; told once for each node."""

    request: RequestId
    node: NodeId


class QueryAnswered(Struct, frozen=True, gc=False, tag=True):
    """``node`` answers; told once for each node."""

    request: RequestId
    node: NodeId
    payload: bytes | None


class QueryFinished(Struct, frozen=True, gc=False, tag=True):
    """The query's time is over."""

    request: RequestId
    acks: int
    answers: int


class KeyReport(Struct, frozen=True, gc=False):
    """What became of a ``ManageKeys``. Pairs are sorted by their first part."""

    nodes: int  # members that are alive
    responses: int
    errors: int
    messages: tuple[tuple[NodeId, str], ...] = ()
    keys: tuple[tuple[str, int], ...] = ()  # base64, and how many have it
    primary_keys: tuple[tuple[str, int], ...] = ()
    error: str = ""  # "" when every node succeeded


class KeysFinished(Struct, frozen=True, gc=False, tag=True):
    """Everybody has answered a ``ManageKeys``, or its time is over."""

    request: RequestId
    report: KeyReport


class RequestDone(Struct, frozen=True, gc=False, tag=True):
    """What the owner asked for is done."""

    request: RequestId


class RequestRefused(Struct, frozen=True, gc=False, tag=True):
    """What the owner asked for is not done, and why, in Serf's words where it has some."""

    request: RequestId
    reason: str


class NameContested(Struct, frozen=True, gc=False, tag=True):
    """The others have voted on who has this node's name.

    ``lost``: they hold it to be another's, and the owner should end this node.
    """

    lost: bool
    matching: int  # votes for this node
    votes: int


class Noted(Struct, frozen=True, gc=False, tag=True):
    """Something for the log, in Serf's words."""

    level: Literal["INFO", "WARN", "ERR"]
    text: str


class Counted(Struct, frozen=True, gc=False, tag=True):
    """Something happened that Serf counts and no other event tells of."""

    metric: str


SerfEvent: TypeAlias = (
    MemberChanged
    | UserEventReceived
    | QueryReceived
    | QueryStarted
    | QueryAcked
    | QueryAnswered
    | QueryFinished
    | KeysFinished
    | RequestDone
    | RequestRefused
    | NameContested
    | Noted
    | Counted
)

Event: TypeAlias = (
    Joined
    | Updated
    | Suspected
    | Cleared
    | Failed
    | Left
    | Conflict
    | Refuted
    | HealthChanged
    | MergeRefused
    | JoinFinished
    | LeaveFinished
    | UpdateFinished
    | SerfEvent
)

SerfNews: TypeAlias = Input | News | User | Event
"""What Serf's layer takes in: what is its own, and what the membership tells the owner."""

# --- effects -----------------------------------------------------------------------------


@final
class Send(Struct, frozen=True, gc=False, tag=True):
    """Send one packet that holds these messages."""

    to: Address
    messages: tuple[Message, ...]
    crc: bool = False  # the receiver's record is at hand and it understands the CRC layer
    piggyback: bool = False  # for ``node.step``: fill what room is left with broadcasts


@final
class After(Struct, frozen=True, gc=False, tag=True):
    """Feed ``input`` back once ``delay`` has passed; it is never cancelled."""

    delay: Micros
    input: Input


@final
class Exchange(Struct, frozen=True, gc=False, tag=True):
    """Open a stream, send ``request``, read the reply: all within ``timeout``.

    The backend answers with ``Exchanged`` or ``ExchangeFailed`` under the same ``exchange``.
    """

    exchange: int
    to: Address
    request: Request
    timeout: Micros


@final
class Reply(Struct, frozen=True, gc=False, tag=True):
    """End the exchange that a peer requested; None closes it without a word."""

    exchange: int
    response: Response | None


@final
class Emit(Struct, frozen=True, gc=False, tag=True):
    """Tell the owner."""

    event: Event


@final
class ChangeKeyring(Struct, frozen=True, gc=False, tag=True):
    """Install, use or remove this key, or list all keys; ``KeyringAnswered`` says how it went.

    Keys live in the backend's envelope; ``no_keyring`` is the answer of one that has none. The
    texts of other errors are in spec serf.md, 2.14.
    """

    ltime: LamportTime  # of the query that asks for it, as is the next
    query_id: int
    operation: KeyOperation
    key: bytes


@final
class Then(Struct, frozen=True, gc=False, tag=True):
    """News for another mechanism of the same node, to be handled before ``step`` returns."""

    news: News


Effect: TypeAlias = Send | After | Exchange | Reply | Emit | ChangeKeyring | Then


def no_keyring(effect: ChangeKeyring) -> KeyringAnswered:
    """What a backend answers that encrypts nothing."""
    what = "Keyring is empty" if effect.operation == "list" else "No keyring to modify"
    error = f"{what} (encryption not enabled)"
    return KeyringAnswered(effect.ltime, effect.query_id, effect.operation, error)
