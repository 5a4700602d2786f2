"""Names, peers and tables that the tests of the protocol share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from swimsim import node as node_
from swimsim import rng
from swimsim.config import LAN, Config
from swimsim.effects import Effect, Emit, Event
from swimsim.inputs import Input, Start
from swimsim.member import ALIVE, Member, Peer, Status, peer
from swimsim.members import Members, build
from swimsim.node import Node
from swimsim.rng import Rng
from swimsim.swim.broadcast import Broadcast, Broadcasts
from swimsim.terms import MS, SECOND, U32, Address, Incarnation, Micros, NodeId

A, B, C, D, E = NAMES = tuple(map(NodeId, "ABCDE"))
STRANGER = NodeId("Z")
VSN = LAN.vsn
VSN_OLD = bytes((1, 2, 2, 2, 5, 5))  # speaks neither stream pings, nacks nor the CRC layer
VSN_3 = bytes((1, 3, 3, 2, 5, 5))  # answers pings on a stream, sends no nacks
VSN_4 = bytes((1, 4, 4, 2, 5, 5))  # sends nacks, does not know the CRC layer

__all__ = ["ALIVE", "LAN", "MS", "SECOND", "U32"]


def at(name: str, port: int = 7946) -> Address:
    """Where ``name`` listens."""
    return Address(bytes((10, 0, 0, ord(name[0]) & 0xFF)), port)


def who(name: str, meta: bytes = b"", *, address: Address | None = None, vsn: bytes = VSN) -> Peer:
    """What ``name`` says of itself."""
    return peer(NodeId(name), address or at(name), meta, vsn)


def record(
    name: str,
    incarnation: Incarnation = 1,
    status: Status = ALIVE,
    meta: bytes = b"",
    *,
    address: Address | None = None,
    vsn: bytes = VSN,
) -> Member:
    """What somebody knows of ``name``."""
    return Member(who(name, meta, address=address, vsn=vsn), incarnation, status)


def table(*members: Member) -> Members:
    """The table of these records, in slots 0, 1, 2, ..."""
    return build(members)


def group(names: Iterable[str], **fields: Any) -> Members:
    """The table of a settled group: everybody alive in incarnation 1."""
    return table(*(record(name, **fields) for name in names))


def settled(
    name: str = A,
    names: Iterable[str] = NAMES,
    config: Config = LAN,
    *,
    seed: Rng = 1,
    now: Micros = 0,
) -> Node:
    """A node that wakes in the middle of a settled group."""
    fresh = node_.create(NodeId(name), at(name), config, seed=rng.seed(seed, name))
    started, _ = node_.step(fresh, now, Start(group(names, vsn=config.vsn)))
    return started


def fed(
    node: Node, now: Micros, *inputs: Input, step: Callable[..., Any] = node_.step
) -> tuple[Node, tuple[Effect, ...]]:
    """The node after these inputs, and all effects of them."""
    effects: tuple[Effect, ...] = ()
    for input in inputs:
        node, more = step(node, now, input)
        effects += more
    return node, effects


def events(effects: Iterable[Effect]) -> list[Event]:
    """What the owner is told."""
    return [effect.event for effect in effects if isinstance(effect, Emit)]


def of_type(kind: type[Any], effects: Iterable[Any]) -> list[Any]:
    """The effects, events or messages of one type, in their order."""
    return [effect for effect in effects if type(effect) is kind]


def queue(*broadcasts: Broadcast, of: Broadcasts | None = None, **fields: Any) -> Broadcasts:
    """A queue that holds these, in order whatever the order of the arguments."""
    return replace(
        of or Broadcasts(0),
        queue=tuple(sorted(broadcasts)),
        named=Broadcasts(0).named.update({each.name: each.age for each in broadcasts}),
        **fields,
    )


def permute(key: int, bits: int, index: int) -> int:
    """Where the keyed permutation sends one index, read off its page."""
    page = rng.permute_page(key, bits, index - index % rng.PAGE)
    return page >> index % rng.PAGE * (2 * bits + 1) & ((1 << bits) - 1)
