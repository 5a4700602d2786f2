"""A simulated machine: its name and address for good, and the process that runs there now."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from swimsim.node import Node
from swimsim.terms import Address, NodeId

if TYPE_CHECKING:
    from backends.sim.process import Process

NOTHING: Mapping[str, str] = MappingProxyType({})


class Host(Struct, kw_only=True, eq=False, gc=False):
    """One machine. What every step looks at stands first, and so together in memory."""

    node: Node | None = None  # None: no process runs
    life: int = 0  # how many processes have run on it
    process: Process | None = None  # None: it runs unhindered
    index: int
    address: Address
    name: NodeId
    attributes: Mapping[str, str] = NOTHING  # such as zone; faults and partitions may name them

    def __repr__(self) -> str:
        return f"<Host {self.name} {'up' if self.node else 'down'}>"

    def copy(self) -> Host:
        """An independent twin in the same state."""
        return Host(
            node=self.node,
            life=self.life,
            process=self.process and self.process.copy(),
            index=self.index,
            address=self.address,
            name=self.name,
            attributes=self.attributes,
        )
