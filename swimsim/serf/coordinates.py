"""Network coordinates: round-trip times that nobody measured (spec serf.md, 2.17).

Vivaldi (Dabek et al., SIGCOMM 2004): every node has a place in a space of eight dimensions, and
a height above it for its own link, and moves as if springs were between it and those whose
round-trip time it measures. The distance between two places then estimates theirs. Serf adds
an adjustment of what the space cannot express (Lee et al., ICDCS 2006), a median filter, and a
weak pull towards the origin so that the whole cloud does not drift.

A coordinate rides in the ack of every direct ping, so it costs no message. The order of the
arithmetic is Serf's, operation by operation: the results are equal bit for bit.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim import rng
from swimsim.effects import Counted, Effect, Emit, Noted
from swimsim.rng import Rng
from swimsim.serf.messages import Coordinate
from swimsim.terms import SECOND, Micros, NodeId
from swimsim.wire import serf
from swimsim.wire.errors import WireError

MOST_ERROR = 1.5  # also where it begins
ERROR_GAIN = 0.25  # CE
LEAST_HEIGHT = 10e-6
ZERO = 1e-6
LONGEST: Micros = 10 * SECOND  # no round trip takes longer

Vector: TypeAlias = tuple[float, ...]


class Space(Struct, frozen=True, gc=False):
    """In what space nodes move, and how. The defaults are Serf's, and what agents must agree on."""

    dimensions: int = 8
    height: bool = True  # nodes stand above the space on their own links
    gain: float = 0.25  # CC, what share of a spring's tension moves a node
    window: int = 20  # adjustment samples; 0: no adjustment
    filter: int = 3  # round trips of one node of which the median counts
    gravity: float = 150.0  # seconds from the origin at which it pulls by one; 0: no pull

    @property
    def origin(self) -> Coordinate:
        """Where everybody begins."""
        height = LEAST_HEIGHT if self.height else 0.0
        return Coordinate((0.0,) * self.dimensions, MOST_ERROR, 0.0, height)


SERF = Space()
ORIGIN = SERF.origin


class Coordinates(Struct, frozen=True, gc=False):
    """Where this node is, where the others said they are, and the latest round trips."""

    rng: Rng
    mine: Coordinate = ORIGIN
    window: Vector = (0.0,) * SERF.window  # adjustment samples, seconds
    index: int = 0  # of the next one
    samples: Map[NodeId, Vector] = Map()  # the last round trips, seconds
    cache: Map[NodeId, Coordinate] = Map()
    resets: int = 0  # how often the arithmetic went astray


Step: TypeAlias = tuple[Coordinates, tuple[Effect, ...]]


def observe(state: Coordinates, node: NodeId, rtt: Micros, payload: bytes) -> Step:
    """A direct probe of ``node`` was acked after ``rtt`` with this payload."""
    if not payload:
        return state, ()
    try:
        other = serf.decode_coordinate(payload)
    except WireError as error:
        if error.what == "unknown-type":
            text = f"serf: Unsupported ping version: {payload[0]}"
        else:
            text = f"serf: Failed to decode coordinate from ping: {error}"
        return state, (Emit(Noted("ERR", text)),)
    if _flaw(other) or not 0 <= rtt <= LONGEST:
        return state, (Emit(Counted("serf.coordinate.rejected")),)
    state = update(state, node, other, rtt / SECOND)
    state = replace(state, cache=state.cache.set(node, other))
    return state, () if rtt else (Emit(Counted("serf.coordinate.zero-rtt")),)


def forget(state: Coordinates, node: NodeId) -> Coordinates:
    """Without what is known of a member that is forgotten."""
    if node in state.samples:
        state = replace(state, samples=state.samples.delete(node))
    if node in state.cache:
        state = replace(state, cache=state.cache.delete(node))
    return state


def begin(rng_: Rng, space: Space) -> Coordinates:
    """A node at the origin of any space."""
    return Coordinates(rng_, space.origin, (0.0,) * space.window)


def update(
    state: Coordinates, node: NodeId, other: Coordinate, rtt: float, space: Space = SERF
) -> Coordinates:
    """Move after one measurement of ``rtt`` seconds; ``other`` must be sound, and of this space."""
    samples = (*state.samples.get(node, ()), rtt)[-space.filter :]
    state = replace(state, samples=state.samples.set(node, samples))
    rtt = sorted(samples)[len(samples) // 2]
    mine, rng_ = _spring(state.mine, other, rtt, state.rng, space)
    window, index = state.window, state.index
    if window:
        window = (*window[:index], rtt - _raw(mine, other), *window[index + 1 :])
        total = 0.0
        for sample in window:
            total += sample
        mine = replace(mine, adjustment=total / (2.0 * space.window))
        index = (index + 1) % space.window
    if space.gravity:
        far = distance(space.origin, mine) / space.gravity
        mine, rng_ = _force(mine, -1.0 * (far * far), space.origin, rng_, space)
    state = replace(state, rng=rng_, window=window, index=index)
    if not _is_finite(mine):
        return replace(state, mine=space.origin, resets=state.resets + 1)
    return replace(state, mine=mine)


def distance(one: Coordinate, other: Coordinate) -> float:
    """The round-trip time between two places, seconds, in whole nanoseconds."""
    raw = _raw(one, other)
    adjusted = raw + one.adjustment + other.adjustment
    seconds = adjusted if adjusted > 0.0 else raw
    nanoseconds = seconds * 1e9
    return int(nanoseconds) / 1e9 if math.isfinite(nanoseconds) else seconds


def _spring(
    mine: Coordinate, other: Coordinate, rtt: float, rng_: Rng, space: Space
) -> tuple[Coordinate, Rng]:
    """Vivaldi's own step: how wrong was the estimate, and where to go."""
    estimate, rtt = distance(mine, other), max(rtt, ZERO)
    wrongness = abs(estimate - rtt) / rtt
    total = max(mine.error + other.error, ZERO)
    weight = mine.error / total
    error = ERROR_GAIN * weight * wrongness + mine.error * (1.0 - ERROR_GAIN * weight)
    mine = replace(mine, error=min(error, MOST_ERROR))
    return _force(mine, space.gain * weight * (rtt - estimate), other, rng_, space)


def _force(
    mine: Coordinate, force: float, other: Coordinate, rng_: Rng, space: Space
) -> tuple[Coordinate, Rng]:
    """Pushed away from ``other`` by so much; below zero is towards it."""
    unit, magnitude, rng_ = _unit(mine.vec, other.vec, rng_)
    vec = tuple(
        [place + direction * force for place, direction in zip(mine.vec, unit, strict=True)]
    )
    height = mine.height
    if space.height and magnitude > ZERO:
        height = max((height + other.height) * force / magnitude + height, LEAST_HEIGHT)
    return replace(mine, vec=vec, height=height), rng_


def _unit(one: Vector, other: Vector, rng_: Rng) -> tuple[Vector, float, Rng]:
    """The direction from ``other`` to ``one`` and how far it is; anywhere if they are one place."""
    between = tuple([a - b for a, b in zip(one, other, strict=True)])
    magnitude = _length(between)
    if magnitude > ZERO:
        return _scaled(between, magnitude), magnitude, rng_
    anywhere: list[float] = []
    for _ in one:
        bits, rng_ = rng.draw(rng_)
        anywhere.append((bits >> 11) / (1 << 53) - 0.5)
    length = _length(tuple(anywhere))
    if length > ZERO:
        return _scaled(tuple(anywhere), length), 0.0, rng_
    return (1.0, *(0.0,) * (len(one) - 1)), 0.0, rng_


def _scaled(vector: Vector, length: float) -> Vector:
    factor = 1.0 / length
    return tuple([part * factor for part in vector])


def _length(vector: Vector) -> float:
    total = 0.0
    for part in vector:
        total += part * part
    return math.sqrt(total)


def _raw(one: Coordinate, other: Coordinate) -> float:
    between = tuple([a - b for a, b in zip(one.vec, other.vec, strict=True)])
    return _length(between) + one.height + other.height


def _flaw(other: Coordinate) -> str:
    """Why a coordinate cannot be reckoned with, or ""."""
    if len(other.vec) != SERF.dimensions:
        return "dimensions aren't compatible"
    return "" if _is_finite(other) else "coordinate is invalid"


def _is_finite(place: Coordinate) -> bool:
    parts = (*place.vec, place.error, place.adjustment, place.height)
    return all(map(math.isfinite, parts))
