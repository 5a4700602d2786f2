"""All that a node is, as 64 bits: by these a run has a digest, and a recording can be checked."""

from __future__ import annotations

from typing import Any

from immutables import Map
from msgspec import Struct
from msgspec.structs import astuple, replace

from swimsim import rng
from swimsim.node import Node
from swimsim.serf_layer import Serf


def fingerprint(node: Node) -> int:
    """64 bits of all that the node is; different, but for chance, where nodes are different."""
    known, queue, upkeep = node.membership, node.broadcasts, node.upkeep
    return rng.seed(
        upkeep.rng,
        node.health,
        known.members.digest,
        known.members.slots_digest,
        repr((known.me, known.incarnation, known.leaving, known.waiting)),
        repr(sorted(known.suspicions.items())),
        repr(sorted(known.departed.items())),
        repr(replace(node.probe, relays=Map())),
        repr(sorted(node.probe.relays.items())),
        repr(replace(queue, named=Map())),
        repr(upkeep.anti_entropy),
        repr(replace(upkeep.reconnect, lost=Map())),
        repr(sorted(upkeep.reconnect.lost.items())),
        *_serf_parts(node.serf),
    )


def _serf_parts(serf: Serf | None) -> tuple[int, str]:
    """What Serf's layer is, in an order that does not depend on hashes."""
    return (1, "[]") if serf is None else (serf.intents.clock, repr(_plain(serf)))


def _plain(value: Any) -> Any:
    """The value as tuples, maps sorted."""
    if isinstance(value, Struct):
        return tuple(map(_plain, astuple(value)))
    if isinstance(value, Map):
        return sorted((key, _plain(held)) for key, held in value.items())
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value
