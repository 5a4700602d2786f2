"""What Serf's layer lets a node's owner do: tags, events, queries, keys, coordinates.

``Runtime`` is one of these; the settings must have ``serf`` (``backends.udp.SERF``). What the
node refuses raises ``RequestError`` with Serf's words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from backends.udp.requests import Answers, Requests
from swimsim import serf_view
from swimsim.effects import KeyReport, KeysFinished
from swimsim.inputs import (
    AskQuery,
    FireEvent,
    ForceLeave,
    KeyOperation,
    ManageKeys,
    RespondQuery,
    SetTags,
)
from swimsim.node import Node
from swimsim.serf.messages import Coordinate, MemberInfo
from swimsim.terms import LamportTime, Micros, NodeId


class SerfVerbs(ABC):
    """A node that can be asked what Serf's agents are asked."""

    _requests: Requests

    @abstractmethod
    def _running(self) -> Node:
        """The node as it is; raises RuntimeError when it does not run."""

    @property
    def roster(self) -> list[MemberInfo]:
        """Everybody, with Serf's statuses and tags, sorted by name."""
        return serf_view.members(self._running())

    @property
    def tags(self) -> dict[str, str]:
        """Its own tags."""
        return dict(serf_view.tags(self._running()))

    async def set_tags(self, tags: Mapping[str, str]) -> None:
        """Carry these tags, and no others; returns when the others were told.

        Raises ``RequestError``, as do the requests that follow.
        """
        wanted = tuple(sorted(tags.items()))
        await self._requests.wait(lambda number: SetTags(number, wanted))

    def event(self, name: str, payload: bytes | None = None, *, coalesce: bool = True) -> None:
        """Tell every member something."""
        self._running()
        self._requests.now(lambda number: FireEvent(number, name, payload, coalesce))

    def query(
        self,
        name: str,
        payload: bytes | None = None,
        *,
        nodes: Iterable[str] = (),
        tags: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        acks: bool = True,
        relay_factor: int = 0,
        timeout: Micros = 0,
    ) -> Answers:
        """Ask every member, or those of these names and with tags that these patterns match.

        What comes back can be iterated over until the timeout, which by default grows with the
        cluster (0).
        """
        self._running()
        names = tuple(map(NodeId, nodes))
        patterns = tuple(tags.items() if isinstance(tags, Mapping) else tags)
        return self._requests.ask(
            lambda number: AskQuery(
                number, name, payload, names, patterns, acks, relay_factor, timeout
            )
        )

    def respond(self, ltime: LamportTime, query_id: int, payload: bytes) -> None:
        """Answer a query that ``QueryReceived`` told of."""
        self._running()
        self._requests.now(lambda number: RespondQuery(number, ltime, query_id, payload))

    async def force_leave(self, node: str, *, prune: bool = False, force: bool = False) -> None:
        """Have everybody take a failed member for one that left, or forget it."""
        self._running()
        await self._requests.wait(lambda number: ForceLeave(number, NodeId(node), prune, force))

    async def keys(self, operation: KeyOperation, key: str = "") -> KeyReport:
        """Have everybody install, use, remove or list keys, in base64."""
        self._running()
        finished = await self._requests.wait(lambda number: ManageKeys(number, operation, key))
        assert isinstance(finished, KeysFinished)
        return finished.report

    def coordinate(self, node: str) -> Coordinate | None:
        """Where a member is in the space of round-trip times, if that is known."""
        return serf_view.coordinate(self._running(), NodeId(node))

    def rtt(self, one: str, other: str | None = None) -> float | None:
        """Seconds to a member and back, from here or from another, as coordinates have it."""
        places = self.coordinate(one), self.coordinate(other or self._running().name)
        if places[0] is None or places[1] is None:
            return None
        return serf_view.distance(places[0], places[1])
