"""What running nodes believe of the group, compared with each other and with the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from backends.sim.host import Host
from swimsim.member import SUSPECT, Status
from swimsim.members import Members
from swimsim.node import Node
from swimsim.terms import NodeId


def of_one(host: Host) -> pd.DataFrame:
    """The table of one node: member, status, incarnation, address; ValueError when it is down."""
    if host.node is None:
        raise ValueError(f"{host.name} is down and believes nothing")
    rows = [
        (known.peer.name, known.status.name.lower(), known.incarnation, str(known.peer.address))
        for known in sorted(host.node.members, key=lambda known: known.peer.name)
    ]
    return pd.DataFrame(rows, columns=["member", "status", "incarnation", "address"])


def of_all(running: Sequence[Host]) -> pd.DataFrame:
    """One row a node: node, alive, suspect, dead, left, health, agrees (with the truth)."""
    truth = _truth(running)
    rows = [
        (node.name, *node.members.counts, node.health, _agrees(node.members, truth))
        for node in _nodes(running)
    ]
    names = ["node", "alive", "suspect", "dead", "left", "health", "agrees"]
    return pd.DataFrame(rows, columns=names)


def of_somebody(name: NodeId, running: Sequence[Host]) -> dict[str, int]:
    """How many of the others hold this member alive, suspect, dead, left, unknown."""
    tally: Counter[str] = Counter()
    for node in _nodes(running):
        if node.name != name:
            known = node.members.get(name)
            tally["unknown" if known is None else known.status.name.lower()] += 1
    words = (*(status.name.lower() for status in Status), "unknown")
    return {word: tally[word] for word in words}


def agreement(running: Sequence[Host]) -> float:
    """The largest share that hold the same members present; 1 where nobody runs."""
    present = Counter(frozenset(_present(node.members)) for node in _nodes(running))
    return max(present.values()) / present.total() if present else 1.0


def converged(running: Sequence[Host]) -> bool:
    """Whether each holds alive exactly those whose process runs."""
    truth = _truth(running)
    tables = (node.members for node in _nodes(running))
    distinct = {(known.digest, known.slots_digest): known for known in tables}
    return all(_agrees(known, truth) for known in distinct.values())


def _nodes(running: Sequence[Host]) -> Iterator[Node]:
    return (host.node for host in running if host.node is not None)


def _truth(running: Sequence[Host]) -> set[NodeId]:
    return {host.name for host in running}


def _agrees(known: Members, truth: set[NodeId]) -> bool:
    """Whether a table holds alive exactly these."""
    return known.count(SUSPECT) == 0 and _present(known) == truth


def _present(known: Members) -> set[NodeId]:
    return {member.peer.name for member in known if member.status <= SUSPECT}
