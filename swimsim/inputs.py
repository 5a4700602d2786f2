"""Everything that can happen to a node.

Four kinds: what the world brings (a packet, the end of a stream exchange), timers that the
node asked for itself, requests of its owner, and news that one mechanism has for another
within one step. A backend feeds the first three and never sees the fourth.

A timer is never cancelled. It carries what makes it recognisable, and the transition that
receives a stale one changes nothing.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from swimsim.member import Peer
from swimsim.members import Members
from swimsim.messages import Alive, Dead, Message, Request, Response, Suspect, User
from swimsim.terms import Address, Incarnation, Micros, NodeId, SeqNo

META_LIMIT = 512  # bytes of a member's metadata

# --- the world ---------------------------------------------------------------------------


class Received(Struct, frozen=True, gc=False, tag=True):
    """A packet arrived from ``source``."""

    source: Address
    messages: tuple[Message, ...]


class ExchangeRequested(Struct, frozen=True, gc=False, tag=True):
    """A peer opened a stream and sent ``request``; ``exchange`` is the backend's name for it."""

    exchange: int
    source: Address
    request: Request


class Exchanged(Struct, frozen=True, gc=False, tag=True):
    """The stream exchange that this node asked for ended with a reply."""

    exchange: int
    response: Response


class ExchangeFailed(Struct, frozen=True, gc=False, tag=True):
    """The stream exchange that this node asked for came to nothing."""

    exchange: int
    reason: str


# --- timers ------------------------------------------------------------------------------


class ProbeTick(Struct, frozen=True, gc=False, tag=True):
    """Time to end a round or to begin one."""

    at: Micros  # when it was due; any other than the node's next tick is stale


class ProbeTimeout(Struct, frozen=True, gc=False, tag=True):
    """The direct ack of round ``seq_no`` is overdue."""

    seq_no: SeqNo


class RelayTimeout(Struct, frozen=True, gc=False, tag=True):
    """The ack that this helper waits for, under its own ``seq_no``, is overdue."""

    seq_no: SeqNo


class SuspicionTimeout(Struct, frozen=True, gc=False, tag=True):
    """Nobody refuted in time the suspicion of ``node`` that started then."""

    node: NodeId
    started: Micros


class GossipTick(Struct, frozen=True, gc=False, tag=True):
    """Time to gossip, if there is anything to say."""


class PushPullTick(Struct, frozen=True, gc=False, tag=True):
    """Time to exchange full states with somebody."""


class ReconnectTick(Struct, frozen=True, gc=False, tag=True):
    """Time to try to reach somebody who was lost."""


class LeaveTimeout(Struct, frozen=True, gc=False, tag=True):
    """Waited long enough for the farewell to spread."""


# --- requests of the owner ---------------------------------------------------------------


class Start(Struct, frozen=True, gc=False, tag=True):
    """Begin to live.

    Without ``members`` the node is alone and announces itself. With them it wakes in the
    middle of a settled group whose table that is (itself included, alive): nothing to
    announce, and each timer at a random phase of its period.
    """

    members: Members | None = None


class Join(Struct, frozen=True, gc=False, tag=True):
    """Exchange states with each of these addresses in turn; ends in a ``JoinFinished`` event."""

    addresses: tuple[Address, ...]


class Leave(Struct, frozen=True, gc=False, tag=True):
    """Say farewell; ends in a ``LeaveFinished`` event. There is no way back."""

    timeout: Micros


class UpdateMeta(Struct, frozen=True, gc=False, tag=True):
    """Carry this metadata from now on; ends in an ``UpdateFinished`` event.

    Raises ValueError when it is longer than ``META_LIMIT``.
    """

    meta: bytes

    def __post_init__(self) -> None:
        if len(self.meta) > META_LIMIT:
            raise ValueError(f"metadata has {len(self.meta)} bytes, expected at most {META_LIMIT}")


# --- news between mechanisms, through ``Then`` ----------------------------------------------


class ProbeFailed(Struct, frozen=True, gc=False, tag=True):
    """Nobody could reach ``node``, last known in this incarnation."""

    node: NodeId
    incarnation: Incarnation


class HealthChange(Struct, frozen=True, gc=False, tag=True):
    """This node has learned something of its own health; below zero is better."""

    delta: int


class RoundEnded(Struct, frozen=True, gc=False, tag=True):
    """Every member had its turn to be probed: forget those long gone."""


class ProbeNext(Struct, frozen=True, gc=False, tag=True):
    """Go on looking for a member to probe; ``checked`` were looked at in this tick."""

    checked: int


class Lost(Struct, frozen=True, gc=False, tag=True):
    """A member failed."""

    peer: Peer


class Regained(Struct, frozen=True, gc=False, tag=True):
    """A member that was dead, or had left, is back."""

    node: NodeId


class JoinNext(Struct, frozen=True, gc=False, tag=True):
    """One exchange of a join is over: on to the next."""


class AnnounceLeave(Struct, frozen=True, gc=False, tag=True):
    """Tell everybody that this node is about to leave (Serf's leave intent)."""


class WitnessState(Struct, frozen=True, gc=False, tag=True):
    """A push/pull brought the application's state of the peer."""

    user_state: bytes


class Announce(Struct, frozen=True, gc=False, tag=True):
    """Tell everybody. ``notify``: give ``Announced`` when this has been sent often enough."""

    message: Alive | Suspect | Dead | User
    notify: bool = False


class Announced(Struct, frozen=True, gc=False, tag=True):
    """The announcement has been sent as often as it will be, or a newer one displaced it."""

    message: Alive | Suspect | Dead | User


Timer: TypeAlias = (
    ProbeTick
    | ProbeTimeout
    | RelayTimeout
    | SuspicionTimeout
    | GossipTick
    | PushPullTick
    | ReconnectTick
    | LeaveTimeout
)
World: TypeAlias = Received | ExchangeRequested | Exchanged | ExchangeFailed
OwnerRequest: TypeAlias = Start | Join | Leave | UpdateMeta
Rumour: TypeAlias = Alive | Suspect | Dead
News: TypeAlias = (
    ProbeFailed
    | HealthChange
    | RoundEnded
    | ProbeNext
    | Lost
    | Regained
    | JoinNext
    | AnnounceLeave
    | WitnessState
    | Announce
    | Announced
    | Rumour
)
Input: TypeAlias = World | Timer | OwnerRequest
