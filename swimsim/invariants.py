"""What must hold of any node after any step.

``check`` is written against plain definitions, by counting and rebuilding, so that it says
when the incremental bookkeeping of the protocol has gone astray. It costs O(members): tests
and the simulator's ``check=True`` call it, the protocol never does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from swimsim import members as members_
from swimsim import serf_invariants
from swimsim.member import ALIVE, DEAD, LEFT, SUSPECT, Member, Status, digest, peer
from swimsim.members import Members, VersionUse
from swimsim.messages import size
from swimsim.node import Node
from swimsim.rng import MASK
from swimsim.swim.broadcast import Broadcasts, Lane, about, has_news
from swimsim.terms import U32


class InvariantError(AssertionError):
    """A node is in a state that no sequence of inputs may lead to."""


def check(node: Node) -> None:
    """Raise ``InvariantError``, naming everything that is wrong with ``node``."""
    wrong = list(_members(node.members))
    if not wrong:
        wrong = [*_membership(node), *_broadcasts(node), *_probe(node), *_reconnect(node)]
        if node.serf is not None:
            wrong += serf_invariants.check(node, node.serf)
        elif node.config.serf:
            wrong.append("Serf's layer is on and not there")
    if wrong:
        raise InvariantError(f"{node.name}: " + "; ".join(wrong))


def _members(members: Members) -> Iterator[str]:
    slots = dict(members.slots)
    if sorted(members.records) != list(range(len(slots))):
        yield "the slots are not 0 .. len - 1"
        return
    records = list(members)
    if {member.peer.name: slot for slot, member in enumerate(records)} != slots:
        yield "a record lies in another member's slot"
        return
    rebuilt = members_.build(records)
    for field in ("counts", "size", "versions", "digest", "slots_digest"):
        if getattr(members, field) != getattr(rebuilt, field):
            yield f"members.{field} does not agree with the records"
    for member in records:
        yield from _record(member)
    uses = Counter(member.peer.vsn for member in records)
    living = Counter(member.peer.vsn for member in records if member.status == ALIVE)
    if members.versions != tuple(VersionUse(vsn, living[vsn], uses[vsn]) for vsn in sorted(uses)):
        yield "members.versions does not agree with the records"
    if members.digest != sum(map(digest, records)) & MASK:
        yield "members.digest does not agree with the records"


def _record(member: Member) -> Iterator[str]:
    told = member.peer
    if told != peer(told.name, told.address, told.meta, told.vsn):
        yield f"the peer {told.name} was not made by peer()"
    if not 0 < member.incarnation <= U32:
        yield f"{told.name} has incarnation {member.incarnation}"
    if not isinstance(member.status, Status):
        yield f"{told.name} has the status {member.status!r}"


def _membership(node: Node) -> Iterator[str]:
    state, members = node.membership, node.members
    by_status = {
        status: {member.peer.name for member in members if member.status == status}
        for status in Status
    }
    if set(state.suspicions) != by_status[SUSPECT]:
        yield "suspicions and suspect members differ"
    if set(state.departed) != by_status[DEAD] | by_status[LEFT]:
        yield "departed and dead or left members differ"
    for name, suspicion in state.suspicions.items():
        if not suspicion.least <= suspicion.deadline - suspicion.started <= suspicion.most:
            yield f"the suspicion of {name} ends outside of its bounds"
        if len(set(suspicion.accusers)) != len(suspicion.accusers):
            yield f"an accuser of {name} counts twice"
        if not 1 <= len(suspicion.accusers) <= suspicion.wanted + 1:
            yield f"{name} has {len(suspicion.accusers)} accusers"
    mine = members.get(node.name)
    if mine is None:
        if len(members):
            yield "the node is not a member of its own table"
        return
    if mine.peer != state.me or mine.incarnation != state.incarnation:
        yield "the node's own record is not what it says of itself"
    if mine.status != (LEFT if state.leaving else ALIVE):
        yield f"the node believes itself {mine.status.name.lower()}"
    if state.waiting and not state.leaving:
        yield "somebody waits for a farewell that was not said"


def _broadcasts(node: Node) -> Iterator[str]:
    state, lanes = node.broadcasts, () if node.serf is None else node.serf.lanes
    for queue in (state, *lanes):
        yield from _queue(queue)
    if has_news(state, lanes) and not state.ticking and node.config.gossip_nodes:
        yield "there is something to say and no gossip tick is on its way"


def _queue(state: Broadcasts | Lane) -> Iterator[str]:
    if {broadcast.name: broadcast.age for broadcast in state.queue} != dict(state.named):
        yield "the queue and its index by name differ"
    if len(state.named) != len(state.queue):
        yield "two broadcasts about one member are queued"
    if list(state.queue) != sorted(state.queue):
        yield "the queue is out of order"
    for broadcast in state.queue:
        message = broadcast.message
        name = about(message, -broadcast.age)
        if broadcast.name != name or broadcast.shortness != -size(message):
            yield f"the broadcast about {name} is mislabelled"


def _probe(node: Node) -> Iterator[str]:
    state, config = node.probe, node.config
    if not 0 <= node.health <= config.awareness_max:
        yield f"the health score is {node.health}"
    if not 0 <= state.seq_no <= U32:
        yield f"the sequence number is {state.seq_no}"
    if state.round is None:
        if state.kept:
            yield "a tick is kept for a round that is over"
        return
    if state.round.target == node.name:
        yield "the node probes itself"
    if not 0 <= state.round.nacks_due <= state.round.nack_count <= config.indirect_checks:
        yield "the nacks do not add up"


def _reconnect(node: Node) -> Iterator[str]:
    state = node.upkeep.reconnect
    for name in state.lost:
        known = node.members.get(name)
        if known is not None and known.status not in (DEAD, LEFT):
            yield f"{name} is lost and present at once"
    if state.lost and not state.ticking:
        yield "somebody is lost and no reconnect tick is on its way"
    if state.lost and not node.config.reconnect_interval:
        yield "somebody is lost to a node that does not reconnect"
