"""Everything that can happen to a node.

Four kinds: what the world brings (a packet, the end of a stream exchange), timers that the
node asked for itself, requests of its owner, and news that one mechanism has for another
within one step. A backend feeds the first three and never sees the fourth.

A timer is never cancelled. It carries what makes it recognisable, and the transition that
receives a stale one changes nothing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, final

from msgspec import Struct

from swimsim.member import Peer
from swimsim.members import Members
from swimsim.messages import Alive, Dead, Message, Request, Response, Suspect, User
from swimsim.terms import Address, Incarnation, LamportTime, Micros, NodeId, RequestId, SeqNo

META_LIMIT = 512  # bytes of a member's metadata

KeyOperation: TypeAlias = Literal["install", "use", "remove", "list"]
LaneName: TypeAlias = Literal["intents", "queries", "events"]  # in the order of their turns
Asker: TypeAlias = Literal["", "keys", "conflict"]  # whose query it is; "": the owner's

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


class KeyringAnswered(Struct, frozen=True, gc=False, tag=True):
    """The backend's answer to a ``ChangeKeyring`` effect, under the same names.

    ``error`` is "" when it was done. ``keys`` and ``primary`` are base64, of a "list".
    """

    ltime: LamportTime
    query_id: int
    operation: KeyOperation
    error: str = ""
    keys: tuple[str, ...] = ()  # the primary first
    primary: str = ""


# --- timers ------------------------------------------------------------------------------


@final
class ProbeTick(Struct, frozen=True, gc=False, tag=True):
    """Time to end a round or to begin one."""

    at: Micros  # when it was due; any other than the node's next tick is stale


@final
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


@final
class GossipTick(Struct, frozen=True, gc=False, tag=True):
    """Time to gossip, if there is anything to say."""


class PushPullTick(Struct, frozen=True, gc=False, tag=True):
    """Time to exchange full states with somebody."""


class ReconnectTick(Struct, frozen=True, gc=False, tag=True):
    """Time to try to reach somebody who was lost."""


class LeaveTimeout(Struct, frozen=True, gc=False, tag=True):
    """Waited long enough for the farewell to be said."""


class LeaveSettled(Struct, frozen=True, gc=False, tag=True):
    """Waited long enough for the farewell, once said, to spread (Serf)."""

    timed_out: bool


class PruneDue(Struct, frozen=True, gc=False, tag=True):
    """A member that was leaving, and was to be forgotten, should have left by now."""

    node: NodeId
    ltime: LamportTime  # of the intent; a newer one makes this timer stale


class ReapDue(Struct, frozen=True, gc=False, tag=True):
    """A member has been gone for so long that it is forgotten, if it still is."""

    node: NodeId
    since: Micros  # when it went


class RequestTimeout(Struct, frozen=True, gc=False, tag=True):
    """Waited long enough for what the owner asked for."""

    request: RequestId


class QueryTimeout(Struct, frozen=True, gc=False, tag=True):
    """The answers to this node's own query have had their time."""

    ltime: LamportTime


class QueueCheck(Struct, frozen=True, gc=False, tag=True):
    """Time to look whether Serf's queues have grown too long."""


# --- requests of the owner ---------------------------------------------------------------


class Start(Struct, frozen=True, gc=False, tag=True):
    """Begin to live.

    Without ``members`` the node is alone and announces itself. With them it wakes in the
    middle of a settled group whose table that is (itself included, alive): nothing to
    announce, and each timer at a random phase of its period. A ``fresh`` group has only just
    formed: its first push/pulls are as far off as after a join.
    """

    members: Members | None = None
    fresh: bool = False


class Join(Struct, frozen=True, gc=False, tag=True):
    """Exchange states with each of these addresses in turn; ends in a ``JoinFinished`` event."""

    addresses: tuple[Address, ...]
    ignore_old: bool = False  # user events from before it are not told (Serf: no replay)
    quiet: bool = False  # no join intent follows: of a node that takes up where it left off


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


class Restore(Struct, frozen=True, gc=False, tag=True):
    """What an earlier life remembered; to be fed before ``Start``.

    Events and queries up to these times were seen then and are not told again. The node speaks
    in incarnations above ``incarnation``, so that nobody holds its past against it.
    """

    clock: LamportTime = 0
    event_clock: LamportTime = 0
    query_clock: LamportTime = 0
    incarnation: Incarnation = 0


class FireEvent(Struct, frozen=True, gc=False, tag=True):
    """Tell every member something: a user event. Ends in ``RequestDone`` or ``RequestRefused``."""

    request: RequestId
    name: str
    payload: bytes | None = None
    coalesce: bool = True  # of several with one name only the last matters


class AskQuery(Struct, frozen=True, gc=False, tag=True):
    """Ask every member that the filters let pass.

    Begins with ``QueryStarted``, goes on with ``QueryAcked`` and ``QueryAnswered``, ends with
    ``QueryFinished`` at the timeout and never before it; or is ``RequestRefused`` at once.
    """

    request: RequestId
    name: str
    payload: bytes | None = None
    nodes: tuple[NodeId, ...] = ()  # only these, if any
    tags: tuple[tuple[str, str], ...] = ()  # tag and regular expression; all must be found
    ack: bool = False  # everybody who is asked says that it was
    relay_factor: int = 0  # over how many other members answers come as well; 0 to 255
    timeout: Micros = 0  # 0: the default, which grows with the group


class RespondQuery(Struct, frozen=True, gc=False, tag=True):
    """Answer a query that ``QueryReceived`` told of. Ends in ``RequestDone`` or a refusal."""

    request: RequestId
    ltime: LamportTime
    query_id: int
    payload: bytes | None = None


class SetTags(Struct, frozen=True, gc=False, tag=True):
    """Carry these tags, and no others, from now on. Ends in ``RequestDone`` or a refusal."""

    request: RequestId
    tags: tuple[tuple[str, str], ...]


class ForceLeave(Struct, frozen=True, gc=False, tag=True):
    """Tell everybody that a failed member has left. Ends in ``RequestDone`` or a refusal.

    With ``prune`` everybody forgets it at once. To prune a member that is alive is refused
    unless ``force`` is set: it would refute.
    """

    request: RequestId
    node: NodeId
    prune: bool = False
    force: bool = False


class ManageKeys(Struct, frozen=True, gc=False, tag=True):
    """Have every member change or list its keys. Ends in ``KeysFinished`` or a refusal."""

    request: RequestId
    operation: KeyOperation
    key: str = ""  # base64; not of a "list"


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


@final
class ProbeNext(Struct, frozen=True, gc=False, tag=True):
    """Go on looking for a member to probe; ``checked`` were looked at in this tick."""

    checked: int


class Lost(Struct, frozen=True, gc=False, tag=True):
    """A member failed."""

    peer: Peer


class Regained(Struct, frozen=True, gc=False, tag=True):
    """A member need not be looked for: it is back, has left after all, or is forgotten."""

    node: NodeId


class JoinNext(Struct, frozen=True, gc=False, tag=True):
    """One exchange of a join is over: on to the next."""


class AnnounceLeave(Struct, frozen=True, gc=False, tag=True):
    """Tell everybody that this node is about to leave (Serf's leave intent)."""

    alone: bool = False  # nobody is there to hear it


class SayFarewell(Struct, frozen=True, gc=False, tag=True):
    """The leave intent has been told: now the farewell itself."""


class WitnessState(Struct, frozen=True, gc=False, tag=True):
    """A push/pull brought the application's state of the peer."""

    user_state: bytes
    join: bool = False  # one side is joining


class Erased(Struct, frozen=True, gc=False, tag=True):
    """Serf has forgotten a member."""

    node: NodeId


class Tell(Struct, frozen=True, gc=False, tag=True):
    """Tell everybody, by one of Serf's lanes; ``notify`` as in ``Announce``."""

    lane: LaneName
    message: User
    notify: bool = False


class Ask(Struct, frozen=True, gc=False, tag=True):
    """A mechanism asks every member something; it is told ``Answer`` and ``AnswersEnd``."""

    asker: Asker
    query: AskQuery  # its request is a number of the mechanism's own


class Answer(Struct, frozen=True, gc=False, tag=True):
    """A member answers what a mechanism asked."""

    asker: Asker
    request: int
    source: NodeId
    payload: bytes | None


class AnswersEnd(Struct, frozen=True, gc=False, tag=True):
    """The time for answers is over, or the question could not be asked."""

    asker: Asker
    request: int
    refusal: str = ""  # why it could not be


class InternalQuery(Struct, frozen=True, gc=False, tag=True):
    """Somebody's mechanism asks this node something."""

    ltime: LamportTime
    query_id: int
    name: str
    payload: bytes | None


class AnswerInternal(Struct, frozen=True, gc=False, tag=True):
    """Answer an ``InternalQuery``."""

    ltime: LamportTime
    query_id: int
    payload: bytes


@final
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
    | LeaveSettled
    | PruneDue
    | ReapDue
    | RequestTimeout
    | QueryTimeout
    | QueueCheck
)
World: TypeAlias = Received | ExchangeRequested | Exchanged | ExchangeFailed | KeyringAnswered
SerfRequest: TypeAlias = FireEvent | AskQuery | RespondQuery | SetTags | ForceLeave | ManageKeys
OwnerRequest: TypeAlias = Start | Join | Leave | UpdateMeta | Restore | SerfRequest
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
    | Erased
    | Tell
    | Ask
    | Answer
    | AnswersEnd
    | InternalQuery
    | AnswerInternal
    | SayFarewell
    | UpdateMeta
    | Announce
    | Announced
    | Rumour
)
Input: TypeAlias = World | Timer | OwnerRequest
