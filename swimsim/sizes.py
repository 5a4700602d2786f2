"""How many bytes a value takes on the wire, without encoding it.

memberlist writes the old msgpack specification: text and bytes are both *raw*, integers take
their shortest unsigned form (spec memberlist.md, section 3.1). Packing a packet to its limit
and counting bytes need only these lengths, so the simulator never has to encode.
"""

from __future__ import annotations

from swimsim.terms import NodeId


def raw(length: int) -> int:
    """Bytes of a raw (text or bytes) of ``length`` bytes."""
    if length <= 31:
        return 1 + length
    return (3 if length <= 0xFFFF else 5) + length


def uint(value: int) -> int:
    """Bytes of an unsigned integer of at most 64 bits."""
    if value <= 0x7F:
        return 1
    if value <= 0xFF:
        return 2
    if value <= 0xFFFF:
        return 3
    return 5 if value <= 0xFFFF_FFFF else 9


def name(node: NodeId) -> int:
    """Bytes of a member's name."""
    return raw(len(node) if node.isascii() else len(node.encode("utf-8", "surrogateescape")))


def optional(value: bytes) -> int:
    """Bytes of a byte string that is written as nil when it is empty."""
    return raw(len(value)) if value else 1


def fields(*keys: str) -> int:
    """Bytes of a map's head and of its keys, all of at most 31 letters; the values come on top."""
    return 1 + sum(1 + len(key) for key in keys)
