"""The real world: packets over UDP, streams over TCP, one node behind them."""

from backends.udp.runtime import JoinError, Runtime

__all__ = ["Runtime", "JoinError"]
