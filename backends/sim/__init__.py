"""The simulated world: a virtual clock, a network to choose, faults to plan."""

from backends.sim.cluster import Cluster
from backends.sim.network import Network

__all__ = ["Cluster", "Network"]
