"""Addresses as people and sockets write them, and as the protocol holds them."""

from __future__ import annotations

import asyncio
import socket
from functools import lru_cache
from ipaddress import ip_address

from swimsim.terms import Address

DEFAULT_PORT = 7946
WILDCARDS = ("0.0.0.0", "::")


class AddressError(ValueError):
    """A text that is no address; it says what is wrong and what was expected."""


def parse(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``; the host as written."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise AddressError(f"{text!r}: expected [host]:port")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if ":" in host and not _is_v6(host):
        raise AddressError(f"{text!r}: {host!r} is no IPv6 address, expected host:port")
    if not host:
        raise AddressError(f"{text!r}: the host is missing")
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise AddressError(f"{text!r}: the port is {port!r}, expected 0 to 65535")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """``host:port``, which ``parse`` reads back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_v6(host: str) -> bool:
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False


@lru_cache(maxsize=65_536)
def from_socket(host: str, port: int) -> Address:
    """The protocol's address of a socket's; an IPv4 address in IPv6 clothes sheds them."""
    ip = ip_address(host.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return Address(ip.packed, port)


@lru_cache(maxsize=65_536)
def to_socket(address: Address) -> tuple[str, int] | None:
    """The socket's address of the protocol's; None where there can be none."""
    if len(address.host) not in (4, 16) or not 0 < address.port <= 0xFFFF:
        return None
    ip = ip_address(address.host)
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ip), address.port


async def look_up(host: str, port: int) -> list[Address]:
    """Every address of a host, IPv4 first, as Go prefers it. Raises OSError.

    Only names are asked of the resolver, which has a thread of its own and takes its time.
    """
    try:
        try:
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except socket.gaierror:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError as error:  # no name at all: an empty or endless label, a NUL
        raise OSError(f"{host!r} is no name of a host: {error}") from error
    places = (from_socket(str(where[0]), int(where[1])) for *_, where in found)
    return sorted(dict.fromkeys(places), key=lambda place: len(place.host))


def own_address(wildcard: str) -> str:
    """The address of this machine that others are likely to reach, for one that listens on all.

    It is the source address of the default route; asking for it sends nothing. Who listens on
    all of IPv6 listens on all of IPv4 as well. Loopback where there is no route.
    """
    routes = [(socket.AF_INET, "192.0.2.1")]
    if ":" in wildcard:
        routes.insert(0, (socket.AF_INET6, "2001:db8::1"))
    for family, target in routes:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return "::1" if ":" in wildcard else "127.0.0.1"
