"""What an agent offers to whoever stands in front of it: the RPC server, a test, a service.

``Surface`` is the whole of it, so that a server can be written and tested against a stand-in.
Values are those of ``swimsim.serf.messages`` where they exist there. What Serf would refuse
raises ``AgentError``, whose text is Serf's own (spec serf.md, 1.9, 2.13, 2.14, 2.18, 4.3).
Everything happens in one event loop; what is not ``async`` is done when it returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from swimsim.serf.messages import Coordinate, MemberInfo
from swimsim.terms import LamportTime

T_co = TypeVar("T_co", covariant=True)

KeyAction: TypeAlias = Literal["install", "use", "remove", "list"]
MemberKind: TypeAlias = Literal[
    "member-join", "member-leave", "member-failed", "member-update", "member-reap"
]
STATUS_NAMES = ("none", "alive", "leaving", "left", "failed")
"""How the numbers of ``MemberInfo.status`` are called."""


class AgentError(Exception):
    """The agent refuses, or it failed; the text is what Serf would say."""


# --- events, as handlers and streams see them ----------------------------------------------


class MemberEvent(Struct, frozen=True):
    """The same happened to these members."""

    kind: MemberKind
    members: tuple[MemberInfo, ...]


class UserMessage(Struct, frozen=True):
    """A user event."""

    ltime: LamportTime
    name: str
    payload: bytes | None
    coalesce: bool


class Question(Struct, frozen=True):
    """A query that this agent is meant to answer."""

    ltime: LamportTime
    query_id: int  # with ``ltime`` it names the query, for ``Surface.respond``
    name: str
    payload: bytes | None
    expires: float  # when answers are no longer taken, in the event loop's ``time()``


AgentEvent: TypeAlias = MemberEvent | UserMessage | Question


# --- what is asked, and what comes back ----------------------------------------------------


class QueryRequest(Struct, frozen=True):
    """A question to the cluster."""

    name: str
    payload: bytes | None = None
    nodes: tuple[str, ...] = ()  # only these; empty: no such filter
    tags: tuple[tuple[str, str], ...] = ()  # tag and expression, all of which must be found
    acks: bool = False
    relay_factor: int = 0
    timeout_ns: int = 0  # 0: the default for this many members


class Answer(Struct, frozen=True):
    """An ack (``payload`` is None and ``is_ack``) or an answer."""

    source: str
    payload: bytes | None
    is_ack: bool


class KeyReport(Struct, frozen=True):
    """How a change of keys, or a listing, went on all members."""

    nodes: int  # alive when it was asked
    responses: int
    errors: int
    messages: Mapping[str, str]  # by member: what it had to say, errors above all
    keys: Mapping[str, int]  # base64: how many members have it
    primary_keys: Mapping[str, int]  # base64: how many members encrypt with it
    error: str = ""  # Serf's verdict; empty when all went well


class Source(Protocol[T_co]):
    """Things as they come, for one reader."""

    def __aiter__(self) -> AsyncIterator[T_co]:
        """It is its own iterator."""

    async def __anext__(self) -> T_co:
        """Wait for the next one."""

    def close(self) -> None:
        """Ask for no more; a reader that waits sees the end."""


Feed: TypeAlias = Source[AgentEvent]
"""Events from now on. Whoever does not read loses the newest, and that is logged."""

Lines: TypeAlias = Source[str]
"""Log lines without their newline, those still remembered first."""

Answers: TypeAlias = Source[Answer]
"""What comes back, until the query's deadline."""


class Surface(Protocol):
    """An agent, as it is asked."""

    @property
    def name(self) -> str:
        """Its node's name."""

    def members(self) -> Sequence[MemberInfo]:
        """Everybody it knows, whatever their status, sorted by name."""

    def event(self, name: str, payload: bytes | None, coalesce: bool) -> None:
        """Send a user event; an ``AgentError`` says what does not fit, and its size."""

    def query(self, request: QueryRequest) -> Answers:
        """Ask the cluster."""

    def respond(self, ltime: LamportTime, query_id: int, payload: bytes) -> None:
        """Answer a ``Question``. Only the first answer counts."""

    async def join(self, addresses: Sequence[str], replay: bool) -> int:
        """Join; how many addresses answered. An ``AgentError`` when none did."""

    async def leave(self) -> None:
        """Say farewell. The process still runs; ``shutdown`` ends it."""

    def shutdown(self) -> None:
        """End the process, soon, with status 0."""

    async def force_leave(self, node: str, prune: bool, force: bool = False) -> None:
        """Make a failed member a left one. Pruning one that is alive needs ``force``."""

    def tags(self) -> Mapping[str, str]:
        """Its own tags."""

    async def set_tags(self, tags: Mapping[str, str], delete: Sequence[str]) -> None:
        """Delete, then set; returns when the others were told."""

    async def keys(self, action: KeyAction, key: str = "") -> KeyReport:
        """Have all members install, use, remove or list keys. ``key`` is base64.

        A failure of some members is in the report; a key that is none is an ``AgentError``.
        """

    def stats(self) -> Mapping[str, Mapping[str, str]]:
        """Sections agent, runtime, serf, tags and event_handlers."""

    def coordinate(self, node: str) -> Coordinate | None:
        """Where a member is in the space of round-trip times; None: not known."""

    def stream(self, filters: str) -> Feed:
        """The events that these filters let pass (spec serf.md, 3.5); empty: all."""

    def monitor(self, level: str) -> Lines:
        """Log lines at this level and above, in any case."""

    def why(self, member: str) -> Sequence[str]:
        """Why it believes what it believes of a member: lines of text, oldest first."""

    def log(self, level: str, text: str) -> None:
        """Log a line; ``level`` is TRACE, DEBUG, INFO, WARN or ERR."""

    def count(self, key: str, amount: float = 1) -> None:
        """Count for telemetry, say ``agent.ipc.accept``."""

    def sample(self, key: str, value: float) -> None:
        """One measurement for telemetry, in milliseconds where it is a time."""
