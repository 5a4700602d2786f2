"""What must hold of Serf's layer after any step; ``invariants`` calls it.

As there: counted and rebuilt from plain definitions, at a cost of O(members).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from swimsim.member import SUSPECT
from swimsim.node import Node
from swimsim.serf.coordinates import SERF, Coordinates
from swimsim.serf.lamport import LAST
from swimsim.serf.messages import STATUS_ALIVE, STATUS_FAILED, STATUS_LEAVING, STATUS_LEFT
from swimsim.serf.standings import PLAIN, Standing, Standings
from swimsim.serf_layer import Serf
from swimsim.terms import NodeId


def check(node: Node, serf: Serf) -> Iterator[str]:
    """Everything that is wrong with the layer."""
    yield from _standings(node, serf.intents.standings)
    yield from _clocks(node, serf)
    yield from _queries(serf)
    yield from _coordinates(node, serf.intents.standings, serf.coordinates)
    if any(lane.queue for lane in serf.lanes) and not serf.checking:
        yield "something waits in a lane and nobody looks how long it is"
    if len(serf.intents.recent) > node.config.recent_intent_limit:
        yield f"{len(serf.intents.recent)} intents about strangers"
    changing = any(each.operation != "list" for each in serf.keys.running.values())
    if serf.keys.waiting and not changing:
        yield "a change of keys waits for nothing"
    if not 0 <= serf.vote.matching <= serf.vote.votes:
        yield "the votes do not add up"


def _standings(node: Node, standings: Standings) -> Iterator[str]:
    rebuilt = Standings()
    for name, standing in standings.about.items():
        rebuilt = rebuilt.put(name, standing)
        yield from _standing(node, name, standing)
    if rebuilt != standings:
        yield "the standings do not agree with their counts or their digest"
    for name in node.upkeep.reconnect.lost:
        known = standings.about.get(name)
        if known is None or known.status != STATUS_FAILED:
            yield f"{name} is looked for and has not failed"


def _standing(node: Node, name: NodeId, standing: Standing) -> Iterator[str]:
    known = node.members.get(name)
    is_present = known is not None and known.status <= SUSPECT
    if standing == PLAIN:
        yield f"the standing of {name} is plain and kept"
    if standing.status in (STATUS_FAILED, STATUS_LEFT):
        if is_present:
            yield f"{name} is present and gone at once"
        if standing.peer is None or standing.peer.name != name:
            yield f"{name} is gone and nobody knows who it was"
    elif standing.status in (STATUS_ALIVE, STATUS_LEAVING):
        if not is_present:
            yield f"{name} is not present and has not gone"
        if standing.peer is not None or standing.since:
            yield f"{name} is here and remembered as gone"
    else:
        yield f"{name} has the status {standing.status}"


def _clocks(node: Node, serf: Serf) -> Iterator[str]:
    for clock in (serf.intents.clock, serf.events.clock, serf.queries.clock):
        if not 0 < clock <= LAST:
            yield f"a clock stands at {clock}"
    for name, standing in serf.intents.standings.about.items():
        if standing.ltime > min(serf.intents.clock, LAST):
            yield f"{name} was heard of in the future"
    for place, slot in serf.events.ring.items():
        if slot.ltime % node.config.event_buffer != place or slot.ltime > serf.events.clock:
            yield f"the events of {slot.ltime} lie in the wrong place"
        if not slot.events or len(set(slot.events)) != len(slot.events):
            yield f"an event of {slot.ltime} was told twice"
    for place, asked in serf.queries.ring.items():
        if asked.ltime % node.config.query_buffer != place or asked.ltime > serf.queries.clock:
            yield f"the queries of {asked.ltime} lie in the wrong place"
        if not asked.ids or len(set(asked.ids)) != len(asked.ids):
            yield f"a query of {asked.ltime} was told twice"


def _queries(serf: Serf) -> Iterator[str]:
    for ltime in serf.queries.open:
        if ltime > serf.queries.clock:
            yield f"query {ltime} is open before its time"
    for (ltime, query_id), asked in serf.queries.asked.items():
        if (asked.query.ltime, asked.query.query_id) != (ltime, query_id):
            yield f"query {ltime} is kept under another name"


def _coordinates(node: Node, standings: Standings, state: Coordinates) -> Iterator[str]:
    mine = state.mine
    if (
        len(mine.vec) != SERF.dimensions
        or len(state.window) != SERF.window
        or not 0 <= state.index < SERF.window
    ):
        yield "the coordinate has another shape"
    if not all(map(math.isfinite, (*mine.vec, mine.error, mine.height, mine.adjustment))):
        yield "the coordinate is nowhere"
    for name in {*state.cache, *state.samples}:
        if name not in node.members.slots and name not in standings.about:
            yield f"the coordinate of {name} is kept, who is forgotten"
    if any(not 0 < len(samples) <= SERF.filter for samples in state.samples.values()):
        yield "a latency filter has another length"
