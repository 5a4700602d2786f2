"""swimsim: gossip membership (SWIM, Lifeguard) as pure transition functions.

    step(node, now, input) -> (node, effects)

The names here are what an embedder needs; the simulated world is ``backends.sim``.
"""

from swimsim.config import LAN, LOCAL, PROFILES, SWIM_2002, WAN, Config, ConfigError
from swimsim.node import Node, create, step
from swimsim.terms import HOUR, MINUTE, MS, SECOND, US, Address, Micros, NodeId

__version__ = "0.1.0"

__all__ = [
    # the protocol
    "Node",
    "create",
    "step",
    # its settings
    "Config",
    "ConfigError",
    "LAN",
    "WAN",
    "LOCAL",
    "SWIM_2002",
    "PROFILES",
    # its vocabulary
    "Address",
    "NodeId",
    "Micros",
    "US",
    "MS",
    "SECOND",
    "MINUTE",
    "HOUR",
    "__version__",
]
