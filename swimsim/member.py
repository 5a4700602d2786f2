"""One member's record, and the only place that ranks alive, suspect, dead and left.

A record is what a node believes of a member: the ``Peer`` (what the member says of itself),
the incarnation it said it in, and a ``Status``. News about a member is taken in when it
*outranks* the record (SWIM 4.2; spec memberlist.md, 6.9 to 6.11):

============  =======================  ==========================================
the news      beats                    because
============  =======================  ==========================================
alive, i      anything at j < i        only its owner raises an incarnation
suspect, i    alive at j <= i          an accusation holds until it is refuted
dead, i       alive, suspect at j <= i a death is final for its incarnation
left, i       alive, suspect at j <= i so is a farewell
============  =======================  ==========================================
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b

from msgspec import Struct

from swimsim import rng, sizes
from swimsim.terms import Address, Incarnation, NodeId

_STATE = sizes.fields("State")  # its key, and one byte of value in place of the map's head


class Status(IntEnum):
    """What a node believes of a member; the numbers are those of the wire."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


ALIVE, SUSPECT, DEAD, LEFT = Status


class Peer(Struct, frozen=True, gc=False):
    """What a member says of itself. Build it with ``peer``, which derives the last two."""

    name: NodeId
    address: Address
    meta: bytes  # the application's, at most 512 bytes
    vsn: bytes  # protocol min, max, current; delegate min, max, current
    fingerprint: int  # 64 bits, a function of the four above on every machine
    alive_size: int  # bytes of an alive message about it, its incarnation left out


def peer(name: NodeId, address: Address, meta: bytes, vsn: bytes) -> Peer:
    """The ``Peer`` of these four facts."""
    host, port = address
    text = name.encode("utf-8", "surrogateescape")
    parts = (text, host, port.to_bytes(4, "big"), meta, vsn)
    told = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    hashed = blake2b(told, digest_size=8)
    fixed = 1 + sizes.fields("Addr", "Incarnation", "Meta", "Node", "Port", "Vsn")
    size = fixed + sizes.raw(len(host)) + sizes.uint(port) + sizes.raw(len(text))
    size += sizes.optional(meta) + sizes.optional(vsn)
    return Peer(name, address, meta, vsn, int.from_bytes(hashed.digest(), "big"), size)


class Member(Struct, frozen=True, gc=False):
    """A member as one node knows it."""

    peer: Peer
    incarnation: Incarnation
    status: Status


def digest(member: Member) -> int:
    """64 bits that depend on all of the record and on nothing else."""
    return rng.mix(member.peer.fingerprint ^ (member.incarnation << 2 | member.status))


def state_size(member: Member) -> int:
    """Bytes of the record in a push/pull: an alive's fields and a state, without a type byte."""
    return member.peer.alive_size - 1 + _STATE + sizes.uint(member.incarnation)


def outranks(status: Status, incarnation: Incarnation, known: Member) -> bool:
    """Whether news of this status and incarnation changes what ``known`` says."""
    if status == ALIVE:
        return incarnation > known.incarnation
    if status == SUSPECT:
        return known.status == ALIVE and incarnation >= known.incarnation
    return known.status <= SUSPECT and incarnation >= known.incarnation
