"""What a node can ask of its backend, and the events it reports to its owner.

Effects are orders, to be carried out in the order given. ``Then`` is for the node itself:
``node.step`` handles it before it returns, so no backend ever sees one.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from swimsim.inputs import Input, News
from swimsim.member import Peer
from swimsim.messages import Message, Request, Response
from swimsim.terms import Address, Incarnation, Micros, NodeId

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
)

# --- effects -----------------------------------------------------------------------------


class Send(Struct, frozen=True, gc=False, tag=True):
    """Send one packet that holds these messages."""

    to: Address
    messages: tuple[Message, ...]
    crc: bool = False  # the receiver's record is at hand and it understands the CRC layer
    piggyback: bool = False  # for ``node.step``: fill what room is left with broadcasts


class After(Struct, frozen=True, gc=False, tag=True):
    """Feed ``input`` back once ``delay`` has passed; it is never cancelled."""

    delay: Micros
    input: Input


class Exchange(Struct, frozen=True, gc=False, tag=True):
    """Open a stream, send ``request``, read the reply: all within ``timeout``.

    The backend answers with ``Exchanged`` or ``ExchangeFailed`` under the same ``exchange``.
    """

    exchange: int
    to: Address
    request: Request
    timeout: Micros


class Reply(Struct, frozen=True, gc=False, tag=True):
    """End the exchange that a peer requested; None closes it without a word."""

    exchange: int
    response: Response | None


class Emit(Struct, frozen=True, gc=False, tag=True):
    """Tell the owner."""

    event: Event


class Then(Struct, frozen=True, gc=False, tag=True):
    """News for another mechanism of the same node, to be handled before ``step`` returns."""

    news: News


Effect: TypeAlias = Send | After | Exchange | Reply | Emit | Then
