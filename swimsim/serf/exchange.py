"""Serf's part of a push/pull (spec serf.md, 1.4, 2.6).

Both sides send their clocks, when each member was last heard of, who has left, and the whole ring
of user events. That is as long as the list of members, and the one thing in Serf's layer that
is. It is built only when an exchange is due, and nodes that hold the same share the bytes.
"""

from __future__ import annotations

from functools import lru_cache

from swimsim.members import Members
from swimsim.serf.messages import STATUS_LEFT, EventBuffer, SerfState
from swimsim.serf.standings import Standings
from swimsim.terms import LamportTime, NodeId
from swimsim.wire import serf
from swimsim.wire.errors import WireError


class Known:
    """A table and what stands beside it, as the key of a cache: equal when the digests are."""

    __slots__ = ("key", "members", "standings")

    def __init__(self, members: Members, standings: Standings) -> None:
        self.members = members
        self.standings = standings
        self.key = members.digest, members.slots_digest, standings.digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.key == other.key

    def __hash__(self) -> int:
        return (self.key[0] ^ self.key[2]) >> 3  # within what Python keeps as it is


def local_state(
    known: Known,
    clocks: tuple[LamportTime, LamportTime, LamportTime],
    events: EventBuffer,
) -> bytes:
    """What this node sends."""
    times, left = _about_members(known)
    return serf.encode(SerfState(*clocks, times, left, events))


@lru_cache(maxsize=8)
def _about_members(
    known: Known,
) -> tuple[tuple[tuple[NodeId, LamportTime], ...], tuple[NodeId, ...]]:
    """The time of the newest intent about every member, and who has left; sorted by name."""
    members, about = known.members, known.standings.about
    times = {member.peer.name: 0 for member in members if member.status <= 1}
    times.update((name, standing.ltime) for name, standing in about.items())
    left = (name for name, standing in about.items() if standing.status == STATUS_LEFT)
    return tuple(sorted(times.items())), tuple(sorted(left))


@lru_cache(maxsize=8)
def read(user_state: bytes) -> SerfState | str:
    """What a peer sent, or what is wrong with it, in Serf's words."""
    if not user_state:
        return "serf: Remote state is zero bytes"
    if user_state[0] != serf.PUSH_PULL:
        return f"serf: Remote state has bad type prefix: {user_state[0]}"
    try:
        told = serf.decode(user_state)
    except WireError as error:
        return f"serf: Failed to decode remote state: {error}"
    assert isinstance(told, SerfState)
    return told
