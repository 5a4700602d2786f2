"""How each member stands with Serf: alive, leaving, left or failed (spec serf.md, 2.2).

SWIM's table says who answers. Serf adds what members say of themselves (an intent moves
``ltime`` on) and remembers those that are gone long after SWIM's table has forgotten them. Only
what is not plain is kept here: a member that SWIM believes alive and of whom nothing was said
has no entry, so that a settled group costs nothing.

A member is known to Serf when it is present (alive or suspect) in SWIM's table, or when its
standing is *failed* or *left*; it has one of these exactly when it is not present.
"""

from __future__ import annotations

from immutables import Map
from msgspec import Struct

from swimsim import rng
from swimsim.member import SUSPECT, Peer
from swimsim.members import Members
from swimsim.rng import MASK
from swimsim.serf.messages import STATUS_ALIVE, STATUS_FAILED, STATUS_LEFT, MemberInfo
from swimsim.serf.metadata import tags_of
from swimsim.terms import LamportTime, Micros, NodeId


class Standing(Struct, frozen=True, gc=False):
    """How one member stands."""

    status: int  # ``STATUS_ALIVE`` to ``STATUS_FAILED``
    ltime: LamportTime = 0  # of the newest intent about it
    since: Micros = 0  # when it left or failed
    peer: Peer | None = None  # of one that left or failed: SWIM's table may forget it


PLAIN = Standing(STATUS_ALIVE)


class Standings(Struct, frozen=True, gc=False):
    """Every standing that is not plain."""

    about: Map[NodeId, Standing] = Map()
    failed: int = 0
    left: int = 0
    digest: int = 0  # order-free, of names, statuses and times

    def get(self, name: NodeId, members: Members) -> Standing | None:
        """How a member stands, or None when Serf does not know it."""
        standing = self.about.get(name)
        if standing is None:
            known = members.get(name)
            if known is not None and known.status <= SUSPECT:
                return PLAIN
        return standing

    def info(self, name: NodeId, members: Members) -> MemberInfo | None:
        """All that Serf knows of a member, or None when it does not know it."""
        standing, known = self.get(name, members), members.get(name)
        peer = standing.peer if standing is not None else None
        if peer is None and known is not None:
            peer = known.peer
        if standing is None or peer is None:
            return None
        tags = tuple(tags_of(peer.meta).items())
        return MemberInfo(name, peer.address, peer.vsn, standing.status, tags)

    def known(self, members: Members) -> int:
        """How many members Serf knows."""
        return members.present + self.failed + self.left

    def put(self, name: NodeId, standing: Standing) -> Standings:
        """With this standing in place of the member's old one."""
        return self._replaced(name, None if standing == PLAIN else standing)

    def remove(self, name: NodeId) -> Standings:
        """Without the member's."""
        return self._replaced(name, None)

    def _replaced(self, name: NodeId, new: Standing | None) -> Standings:
        old, about, digest = self.about.get(name), self.about, self.digest
        if old is not None:
            about, digest = about.delete(name), digest - _mark(name, old)
        if new is not None:
            about, digest = about.set(name, new), digest + _mark(name, new)
        change = _is(new, STATUS_FAILED) - _is(old, STATUS_FAILED)
        return Standings(
            about,
            self.failed + change,
            self.left + _is(new, STATUS_LEFT) - _is(old, STATUS_LEFT),
            digest & MASK,
        )


def _is(standing: Standing | None, status: int) -> bool:
    return standing is not None and standing.status == status


def _mark(name: NodeId, standing: Standing) -> int:
    return rng.seed(name, standing.status, standing.ltime)
