"""Who is in a simulated cluster: names, addresses, and the table of a settled group."""

from __future__ import annotations

from functools import lru_cache

from swimsim.member import ALIVE, Member, peer
from swimsim.members import Members, build
from swimsim.terms import Address, NodeId

PORT = 7946
MOST_NODES = 1_000_000  # of a cluster that is given by their number; they take some 6 GB
LONGEST_NAME = 128  # bytes, Serf's bound
_FIRST = 10 << 24 | 1  # the first host is 10.0.0.1, the others follow


def node_names(count: int) -> tuple[NodeId, ...]:
    """The names of the nodes of a cluster that is given by their number."""
    if not 1 <= count <= MOST_NODES:
        raise ValueError(f"a cluster of {count} nodes, expected 1 to {MOST_NODES}")
    width = len(str(count - 1))
    return tuple(NodeId(f"node-{index:0{width}}") for index in range(count))


def check_name(name: str) -> None:
    """Raise ValueError for what no node can be called."""
    if name == "*" or not 0 < len(name.encode("utf-8", "surrogateescape")) <= LONGEST_NAME:
        short = name if len(name) <= LONGEST_NAME else f"{name[:20]}..."
        raise ValueError(f"expected a name of 1 to {LONGEST_NAME} bytes, not '*', got {short!r}")


def address_of(index: int) -> Address:
    """Where the host of this index listens."""
    return Address((_FIRST + index).to_bytes(4, "big"), PORT)


@lru_cache(maxsize=4)
def settled(names: tuple[NodeId, ...], meta: bytes, vsn: bytes) -> Members:
    """The table of a settled group: everybody alive, in the first incarnation."""
    return build(
        [
            Member(peer(name, address_of(index), meta, vsn), 1, ALIVE)
            for index, name in enumerate(names)
        ]
    )
