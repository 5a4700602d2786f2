"""Every invariant is seen to fire on a node that breaks it: ``check`` is not vacuous."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from immutables import Map
from msgspec.structs import replace

from swimsim import invariants
from swimsim.inputs import Leave, ProbeTick, Received
from swimsim.invariants import InvariantError, check
from swimsim.member import ALIVE, DEAD, LEFT, SUSPECT, Member
from swimsim.members import Members, build
from swimsim.messages import Dead, IndirectPing, Suspect
from swimsim.node import Node, create
from swimsim.serf.reconnect import Absence
from swimsim.swim.broadcast import Broadcasts
from swimsim.swim.probe import Round
from swimsim.terms import SECOND, U32
from tests.builders import LAN, A, B, C, D, E, at, fed, group, queue, record, settled, who

NOW = 10 * SECOND


def busy() -> Node:
    """A node that has one of everything: a suspect, a dead member, one that left, a round in
    flight, a relay, news to tell, somebody to reach again."""
    node, _ = fed(
        settled(A, now=NOW),
        NOW,
        Received(at(B), (Suspect(1, C, B), Dead(1, D, B), Dead(1, E, E))),
        Received(at(B), (IndirectPing(7, C, at(C), True, at(B), B),)),
    )
    return fed(node, node.probe.tick, ProbeTick(node.probe.tick))[0]


BUSY = busy()
LEAVING = fed(BUSY, NOW, Leave(SECOND))[0]


def table(members: Members, of: Node = BUSY) -> Node:
    return replace(of, membership=replace(of.membership, members=members))


def fields(**changed: Any) -> Node:
    """Other fields of the table."""
    return table(replace(BUSY.members, **changed))


def records(*changed: Member, of: Node = BUSY) -> Node:
    """Other records, in an orderly table."""
    by_name = {member.peer.name: member for member in (*of.members, *changed)}
    return table(build(list(by_name.values())), of)


def membership(**changed: Any) -> Node:
    return replace(BUSY, membership=replace(BUSY.membership, **changed))


def suspicion(**changed: Any) -> Node:
    """Another suspicion of C."""
    running = replace(BUSY.membership.suspicions[C], **changed)
    return membership(suspicions=Map({C: running}))


def broadcasts(state: Broadcasts) -> Node:
    return replace(BUSY, broadcasts=state)


def probe(**changed: Any) -> Node:
    return replace(BUSY, probe=replace(BUSY.probe, **changed))


def round_(**changed: Any) -> Node:
    assert BUSY.probe.round is not None
    return probe(round=replace(BUSY.probe.round, **changed))


def reconnect(**changed: Any) -> Node:
    lost = replace(BUSY.upkeep.reconnect, **changed)
    return replace(BUSY, upkeep=replace(BUSY.upkeep, reconnect=lost))


SWAPPED = Map({A: 1, B: 0, C: 2, D: 3, E: 4})
FIRST, *REST = BUSY.broadcasts.queue
MIXED = queue(replace(FIRST, transmits=2), *REST, of=BUSY.broadcasts)

BROKEN: dict[str, tuple[Node, str]] = {
    # the table
    "a slot is empty": (
        fields(records=BUSY.members.records.delete(2)), "the slots are not 0 .. len - 1",
    ),
    "a slot too many": (
        fields(records=BUSY.members.records.set(5, record("F"))), "the slots are not 0 .. len - 1",
    ),
    "two names in each other's slots": (
        fields(slots=SWAPPED), "a record lies in another member's slot",
    ),
    "a miscount": (fields(counts=(9, 1, 1, 1)), "members.counts does not agree"),
    "a wrong size": (fields(size=BUSY.members.size + 1), "members.size does not agree"),
    "a wrong use of versions": (fields(versions=()), "members.versions does not agree"),
    "a wrong digest": (
        fields(digest=BUSY.members.digest ^ 1), "members.digest does not agree",
    ),
    "a wrong digest of slots": (
        fields(slots_digest=BUSY.members.slots_digest ^ 1), "members.slots_digest does not agree",
    ),
    "a peer with a foreign fingerprint": (
        records(Member(replace(who(B), fingerprint=1), 1, ALIVE)), "the peer B was not made by",
    ),
    "a peer of a wrong size": (
        records(Member(replace(who(B), alive_size=1), 1, ALIVE)), "the peer B was not made by",
    ),
    "incarnation zero": (records(record(B, 0)), "B has incarnation 0"),
    "an incarnation of 33 bits": (records(record(B, U32 + 1)), f"B has incarnation {U32 + 1}"),
    "a status that is a mere number": (
        records(Member(who(B), 1, 0)), "B has the status 0",
    ),
    # the membership
    "a suspicion of nobody suspected": (
        records(record(C, 1, ALIVE)), "suspicions and suspect members differ",
    ),
    "a suspect without a suspicion": (
        membership(suspicions=Map()), "suspicions and suspect members differ",
    ),
    "a departure of somebody present": (
        records(record(D, 1, ALIVE)), "departed and dead or left members differ",
    ),
    "a dead member that never departed": (
        membership(departed=BUSY.membership.departed.delete(D)),
        "departed and dead or left members differ",
    ),
    "a left member that never departed": (
        membership(departed=BUSY.membership.departed.delete(E)),
        "departed and dead or left members differ",
    ),
    "a suspicion that ends too early": (
        suspicion(deadline=NOW + 4 * SECOND - 1), "the suspicion of C ends outside of its bounds",
    ),
    "a suspicion that ends too late": (
        suspicion(deadline=NOW + 24 * SECOND + 1), "the suspicion of C ends outside of its bounds",
    ),
    "an accuser heard twice": (
        suspicion(accusers=(B, D, B)), "an accuser of C counts twice",
    ),
    "a suspicion by nobody": (suspicion(accusers=()), "C has 0 accusers"),
    "an accuser too many": (suspicion(accusers=(B, D, E, A)), "C has 4 accusers"),
    "a node that is not in its table": (
        replace(settled(A, "ABCD"), membership=replace(
            settled(A, "ABCD").membership, members=group("BCD"),
        )),
        "the node is not a member of its own table",
    ),
    "a node that says otherwise than its record: metadata": (
        membership(me=who(A, b"other")), "the node's own record is not what it says of itself",
    ),
    "a node that says otherwise than its record: incarnation": (
        membership(incarnation=9), "the node's own record is not what it says of itself",
    ),
    "a node that believes itself dead": (
        table(BUSY.members.put(record(A, 1, DEAD)),
              membership(departed=BUSY.membership.departed.set(A, NOW))),
        "the node believes itself dead",
    ),
    "a node that believes itself suspect": (
        records(record(A, 1, SUSPECT)), "the node believes itself suspect",
    ),
    "a node that has left and does not know": (
        replace(LEAVING, membership=replace(LEAVING.membership, leaving=False, waiting=False)),
        "the node believes itself left",
    ),
    "a node that believes it is here after it left": (
        membership(leaving=True), "the node believes itself alive",
    ),
    "a wait for a farewell that was not said": (
        membership(waiting=True), "somebody waits for a farewell that was not said",
    ),
    # the queue
    "a broadcast missing from the index": (
        broadcasts(replace(BUSY.broadcasts, named=BUSY.broadcasts.named.delete(C))),
        "the queue and its index by name differ",
    ),
    "an index to what is not queued": (
        broadcasts(replace(BUSY.broadcasts, queue=BUSY.broadcasts.queue[1:])),
        "the queue and its index by name differ",
    ),
    "an index to another count": (
        broadcasts(replace(MIXED, named=MIXED.named.set(C, -99))),
        "the queue and its index by name differ",
    ),
    "two broadcasts about one member": (
        broadcasts(replace(
            BUSY.broadcasts, queue=tuple(sorted((*BUSY.broadcasts.queue, replace(FIRST, age=-99)))),
        )),
        "two broadcasts about one member are queued",
    ),
    "a queue out of order": (
        broadcasts(replace(BUSY.broadcasts, queue=BUSY.broadcasts.queue[::-1])),
        "the queue is out of order",
    ),
    "a broadcast under another name": (
        broadcasts(queue(replace(FIRST, name=A), *REST, of=BUSY.broadcasts)), "is mislabelled",
    ),
    "a broadcast of another length": (
        broadcasts(queue(replace(FIRST, shortness=-1), *REST, of=BUSY.broadcasts)),
        "is mislabelled",
    ),
    "news without a tick": (
        broadcasts(replace(BUSY.broadcasts, ticking=False)),
        "there is something to say and no gossip tick is on its way",
    ),
    # the prober
    "health better than the best": (replace(BUSY, health=-1), "the health score is -1"),
    "health worse than the worst": (
        replace(BUSY, health=LAN.awareness_max + 1), "the health score is 8",
    ),
    "a sequence number of 33 bits": (
        probe(seq_no=U32 + 1), f"the sequence number is {U32 + 1}",
    ),
    "a negative sequence number": (
        probe(seq_no=-1, relays=Map()), "the sequence number is -1",
    ),
    "a kept tick between rounds": (
        probe(round=None, grid=7), "a tick is kept for a round that is over",
    ),
    "a node that probes itself": (round_(target=A), "the node probes itself"),
    "more nacks due than helpers": (
        round_(nacks_due=2, nack_count=1), "the nacks do not add up",
    ),
    "fewer nacks due than none": (round_(nacks_due=-1), "the nacks do not add up"),
    "more helpers than there may be": (
        round_(nacks_due=4, nack_count=4), "the nacks do not add up",
    ),
    # reaching the lost
    "somebody lost and present": (
        reconnect(lost=Map({B: Absence(at(B), NOW)})), "B is lost and present at once",
    ),
    "somebody lost and no tick": (
        reconnect(ticking=False), "somebody is lost and no reconnect tick is on its way",
    ),
    "somebody lost to who does not look": (
        replace(BUSY, config=replace(LAN, reconnect_interval=0)),
        "somebody is lost to a node that does not reconnect",
    ),
}  # fmt: skip


def test_a_busy_node_is_sound() -> None:
    """And has one of everything, so that the corruptions below are corruptions."""
    check(BUSY)
    check(LEAVING)
    check(settled(A))
    assert [member.status for member in BUSY.members] == [ALIVE, ALIVE, SUSPECT, DEAD, LEFT]
    assert len(BUSY.broadcasts.queue) == 3
    assert isinstance(BUSY.probe.round, Round)
    assert len(BUSY.probe.relays) == 1
    assert set(BUSY.upkeep.reconnect.lost) == {D}


@pytest.mark.parametrize(("node", "complaint"), BROKEN.values(), ids=BROKEN)
def test_an_invariant_fires(node: Node, complaint: str) -> None:
    with pytest.raises(InvariantError, match=re.escape(complaint)):
        check(node)


def test_a_node_that_has_not_begun_is_sound() -> None:
    fresh = create(A, at(A), LAN, seed=1)
    check(fresh)
    assert len(fresh.members) == 0


def test_all_that_is_wrong_is_named_at_once() -> None:
    node = replace(probe(seq_no=-1, relays=Map()), health=99)
    with pytest.raises(InvariantError, match=r"^A: the health score is 99; the sequence .* -1$"):
        check(node)


def complaint_of(node: Node) -> str:
    try:
        check(node)
    except InvariantError as error:
        return str(error)
    except LookupError:  # a table so broken that nothing else can be looked at
        return ""
    return ""


def test_every_complaint_has_been_seen() -> None:
    """A new invariant asks for a node that breaks it."""
    source = Path(invariants.__file__).read_text()
    complaints = re.findall(r'yield f?"([^"]+)"', source)
    assert len(complaints) > 25
    seen = [complaint_of(node) for node, _ in BROKEN.values()]
    for complaint in complaints:
        literal = [re.escape(part) for part in re.split(r"\{[^}]*\}", complaint)]
        assert any(re.search(".+".join(literal), said) for said in seen), complaint
