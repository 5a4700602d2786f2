"""The real world: packets over UDP, streams over TCP, one node behind them."""

from backends.udp.events import JoinError
from backends.udp.requests import Answers, RequestError
from backends.udp.runtime import SERF, Runtime

__all__ = ["Runtime", "SERF", "Answers", "JoinError", "RequestError"]
