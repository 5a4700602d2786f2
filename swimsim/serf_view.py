"""What a node's owner may want to read of Serf's layer. Nothing here changes a node."""

from __future__ import annotations

from collections.abc import Mapping

from swimsim.node import Node
from swimsim.serf import coordinates
from swimsim.serf.coordinates import ORIGIN
from swimsim.serf.messages import Coordinate, MemberInfo
from swimsim.serf.metadata import tags_of
from swimsim.serf.standings import Standings
from swimsim.serf_layer import known
from swimsim.terms import LamportTime, NodeId

NOBODY = Standings()
distance = coordinates.distance


def members(node: Node) -> list[MemberInfo]:
    """Everybody Serf knows, sorted by name; without Serf's layer, who is in the table."""
    standings = _standings(node)
    names = {*node.members.slots, *standings.about}
    told = (standings.info(name, node.members) for name in sorted(names))
    return [info for info in told if info is not None]


def member(node: Node, name: NodeId) -> MemberInfo | None:
    """One of them, or None."""
    return _standings(node).info(name, node.members)


def tags(node: Node) -> Mapping[str, str]:
    """The tags that this node carries."""
    return tags_of(node.membership.me.meta)


def clocks(node: Node) -> tuple[LamportTime, LamportTime, LamportTime]:
    """The clocks of intents, events and queries."""
    serf = node.serf
    if serf is None:
        return 0, 0, 0
    return serf.intents.clock, serf.events.clock, serf.queries.clock


def coordinate(node: Node, name: NodeId) -> Coordinate | None:
    """Where this node is, or where another said it is; None where that is not known."""
    if node.serf is None or not node.config.coordinates:
        return None
    if name == node.name:
        return node.serf.coordinates.mine
    return node.serf.coordinates.cache.get(name)


def stats(node: Node) -> dict[str, str]:
    """Serf's statistics, in its words (spec serf.md, 2.18)."""
    serf, standings = node.serf, _standings(node)
    member_time, event_time, query_time = clocks(node)
    intents, queries, events = (0, 0, 0)
    if serf is not None:
        intents, queries, events = (len(lane.queue) for lane in serf.lanes)
    numbers = {
        "members": node.members.present if serf is None else known(serf, node.members),
        "failed": standings.failed,
        "left": standings.left,
        "health_score": node.health,
        "member_time": member_time,
        "event_time": event_time,
        "query_time": query_time,
        "intent_queue": intents,
        "event_queue": events,
        "query_queue": queries,
        "coordinate_resets": 0 if serf is None else serf.coordinates.resets,
    }
    told = {name: str(number) for name, number in numbers.items()}
    return {**told, "encrypted": "true" if node.config.encrypted else "false"}


def _standings(node: Node) -> Standings:
    return NOBODY if node.serf is None else node.serf.intents.standings


__all__ = [
    "ORIGIN",
    "clocks",
    "coordinate",
    "distance",
    "member",
    "members",
    "stats",
    "tags",
]
