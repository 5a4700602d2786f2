"""Where an agent's RPC is: ``host:port``, or ``unix:///path`` of a socket's file."""

from __future__ import annotations

from typing import NamedTuple

UNIX = "unix://"
DEFAULT_ADDRESS = "127.0.0.1:7373"


class TcpPlace(NamedTuple):
    """A port; no host: all interfaces."""

    host: str
    port: int


class UnixPlace(NamedTuple):
    """A file."""

    path: str


def place(text: str) -> TcpPlace | UnixPlace:
    """The place that ``text`` names; raises ValueError in Go's words."""
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not path:
            raise ValueError(f"address {text}: missing path")
        return UnixPlace(path)
    host, colon, port = text.rpartition(":")
    if not colon or host.endswith(":") or (host.startswith("[") and not host.endswith("]")):
        raise ValueError(f"address {text}: missing port in address")
    if ":" in host and not host.startswith("["):
        raise ValueError(f"address {text}: too many colons in address")
    if not (port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ValueError(f"address {text}: invalid port")
    return TcpPlace(host.strip("[]"), int(port))
