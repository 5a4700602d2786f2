"""A simulated machine: its name and address for good, and the process that runs there now."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from swimsim.node import Node
from swimsim.terms import Address, NodeId

if TYPE_CHECKING:
    from backends.sim.process import Process


NOTHING: Mapping[str, str] = MappingProxyType({})


class Host:
    """One machine. ``life`` counts the processes that have run on it."""

    __slots__ = ("address", "attributes", "index", "life", "name", "node", "process")

    def __init__(
        self, index: int, name: NodeId, address: Address, attributes: Mapping[str, str]
    ) -> None:
        self.index = index
        self.name = name
        self.address = address
        self.attributes = attributes or NOTHING  # such as zone; faults and partitions may name them
        self.node: Node | None = None  # None: no process runs
        self.process: Process | None = None  # None: it runs unhindered
        self.life = 0

    def __repr__(self) -> str:
        return f"<Host {self.name} {'up' if self.node else 'down'}>"

    def copy(self) -> Host:
        """An independent twin in the same state."""
        twin = Host(self.index, self.name, self.address, self.attributes)
        twin.node, twin.life = self.node, self.life
        twin.process = self.process and self.process.copy()
        return twin
