"""The vocabulary as types: who, when, how often.

Identities are ``NewType``s, quantities with arithmetic are plain aliases. Time is whole
microseconds everywhere, so no float ever decides an order.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple, NewType, TypeAlias

NodeId = NewType("NodeId", str)
"""A member's name. Bytes that are not UTF-8 are kept with ``surrogateescape``."""

SeqNo: TypeAlias = int  # names a probe and its acks; 32 bits, first value 1
LamportTime: TypeAlias = int  # orders what happened without clocks; 64 bits
RequestId: TypeAlias = int  # an owner's own number for what it asked; comes back in the answer
Incarnation: TypeAlias = int  # version of a member's own state, raised only by its owner; 32 bits
Micros: TypeAlias = int  # a duration or an instant, microseconds

US: Micros = 1
MS: Micros = 1_000
SECOND: Micros = 1_000_000
MINUTE: Micros = 60 * SECOND
HOUR: Micros = 60 * MINUTE

U32 = 0xFFFF_FFFF


class Address(NamedTuple):
    """Where a member listens, for packets and for streams alike.

    ``host`` holds the raw 4 or 16 bytes that travel: memberlist compares addresses as bytes,
    so an IPv4 address and its IPv6-mapped form are two different addresses (spec
    memberlist.md, P5).
    """

    host: bytes
    port: int

    def __str__(self) -> str:
        if len(self.host) not in (4, 16):
            return f"{self.host.hex()}:{self.port}"
        ip = ip_address(self.host)
        return f"{ip}:{self.port}" if ip.version == 4 else f"[{ip}]:{self.port}"
