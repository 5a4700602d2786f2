"""Who is in a simulated cluster: names, addresses, and the table of a settled group."""

from __future__ import annotations

from functools import lru_cache

from swimsim.member import ALIVE, Member, peer
from swimsim.members import Members, build
from swimsim.terms import Address, NodeId

PORT = 7946
_FIRST = 10 << 24 | 1  # the first host is 10.0.0.1


def node_names(count: int) -> tuple[NodeId, ...]:
    """The names of the nodes of a cluster that is given by their number."""
    if count < 1:
        raise ValueError(f"a cluster of {count} nodes, expected at least 1")
    width = len(str(count - 1))
    return tuple(NodeId(f"node-{index:0{width}}") for index in range(count))


def address_of(index: int) -> Address:
    """Where the host of this index listens."""
    return Address((_FIRST + index).to_bytes(4, "big"), PORT)


def index_of(address: Address) -> int:
    """The index of the host that listens there; out of range for any other address."""
    return int.from_bytes(address.host, "big") - _FIRST


@lru_cache(maxsize=4)
def settled(names: tuple[NodeId, ...], meta: bytes, vsn: bytes) -> Members:
    """The table of a settled group: everybody alive, in the first incarnation."""
    return build(
        [
            Member(peer(name, address_of(index), meta, vsn), 1, ALIVE)
            for index, name in enumerate(names)
        ]
    )
