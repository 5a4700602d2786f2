"""Round-trip times between many sites: measured ones from files, and made ones that are like them.

A matrix is in milliseconds, from row to column, with zero on the diagonal. ``read_rtt`` knows two
formats: rows of numbers as in the NetLatency data (spec experiments.md, section 1 point 11), and
the topology files of p2psim, in which the King data are kept. ``stand_in`` needs no download: seven
regions of the world, after section 1 point 12. ``describe`` says what a matrix is like.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from backends.sim.network import NetworkError
from swimsim import rng

Rtt: TypeAlias = NDArray[np.float64]
Unit: TypeAlias = Literal["ms", "us"]

PER_MS = {"ms": 1.0, "us": 1000.0}

# --- files -----------------------------------------------------------------------------------

P2PSIM = re.compile(r"(topology|failure_model|node)\b|\d+,\d+\s")
NODE = re.compile(r"node\s+(\d+)\s*")
PAIR = re.compile(r"(\d+),(\d+)\s+(\S+)\s*")

Line: TypeAlias = tuple[int, str]


def read_rtt(path: Path, *, unit: Unit = "ms") -> Rtt:
    """Measured round-trip times from a file, gzipped or not.

    Numbers row by row are round trips. A p2psim topology holds one-way delays, "1,2 45" between
    nodes 1 and 2; of the King files "mking" is in milliseconds, "uking" in microseconds. Raises
    ``NetworkError`` for anything else, with the line and what was expected there, and OSError.
    """
    lines = list(_lines(path))
    if not lines:
        raise NetworkError(f"{path}: expected rows of numbers or a p2psim topology, it is empty")
    if P2PSIM.match(lines[0][1]):
        return 2 * _p2psim(path, lines) / PER_MS[unit]
    return _rows(path, lines) / PER_MS[unit]


def _lines(path: Path) -> Iterator[Line]:
    """Numbered lines, without comments and those that are empty."""
    data = path.read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        text = data.decode("utf-8")
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise NetworkError(f"{path}: not text: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if told := line.partition("#")[0].strip():
            yield number, told


def _rows(path: Path, lines: list[Line]) -> Rtt:
    size = len(lines[0][1].split())
    rtt = np.zeros((size, size))
    for row, (number, line) in enumerate(lines):
        where = f"{path}:{number}"
        words = line.split()
        if row == size:
            raise NetworkError(
                f"{where}: expected {size} rows, as many as columns, here is one more"
            )
        if len(words) != size:
            raise NetworkError(
                f"{where}: expected {size} numbers as in the first row, got {len(words)}"
            )
        for column, word in enumerate(words):
            if column != row:
                rtt[row, column] = _time(f"{where}: column {column + 1}", word)
            else:
                _number(f"{where}: column {column + 1}", word)
    if len(lines) < size:
        raise NetworkError(f"{path}: expected {size} rows, as many as columns, got {len(lines)}")
    return rtt


def _p2psim(path: Path, lines: list[Line]) -> Rtt:
    """One-way delays; those of one direction hold for the other where that says nothing."""
    nodes: dict[str, int] = {}
    given: dict[tuple[int, int], float] = {}
    for number, line in lines:
        where = f"{path}:{number}"
        if node := NODE.fullmatch(line):
            if node[1] in nodes:
                raise NetworkError(f"{where}: node {node[1]} is there already")
            nodes[node[1]] = len(nodes)
        elif pair := PAIR.fullmatch(line):
            for name in pair.group(1, 2):
                if name not in nodes:
                    raise NetworkError(f"{where}: there is no node {name}")
            given[nodes[pair[1]], nodes[pair[2]]] = _time(where, pair[3])
        elif given or not line.startswith(("topology", "failure_model")):
            raise NetworkError(f'{where}: expected "node 1" or "1,2 45", got {line[:40]!r}')
    delay = np.zeros((len(nodes), len(nodes)))
    names = list(nodes)
    for i in range(len(nodes)):
        for j in range(len(nodes)):
            if i != j:
                found = given.get((i, j), given.get((j, i)))
                if found is None:
                    raise NetworkError(f"{path}: no delay between nodes {names[i]} and {names[j]}")
                delay[i, j] = found
    if not nodes:
        raise NetworkError(f"{path}: expected nodes, there are none")
    return delay


def _number(where: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise NetworkError(f"{where}: expected a number, got {word[:40]!r}") from None


def _time(where: str, word: str) -> float:
    value = _number(where, word)
    if not 0 < value < math.inf:
        raise NetworkError(f"{where}: expected a time above zero, got {word[:40]}")
    return value


# --- the world, made -------------------------------------------------------------------------


class Region(Struct, frozen=True):
    """Where some sites lie: around a place, with a spread in degrees, and how many of all."""

    name: str
    latitude: float
    longitude: float
    spread: float
    share: float


REGIONS = (
    Region("us-east", 40, -77, 4, 0.27),
    Region("us-central", 39, -95, 8, 0.10),
    Region("us-west", 37, -120, 3, 0.15),
    Region("europe", 50, 8, 6, 0.28),
    Region("asia", 36, 130, 6, 0.12),
    Region("south-america", -25, -50, 5, 0.04),
    Region("australia", -34, 150, 4, 0.04),
)

EARTH_KM = 6371.0
FIBRE_KM_PER_MS = 200.0
DETOUR, DETOUR_SIGMA = 1.9, 0.12  # how much longer than the great circle a way is
ODD_SHARE, ODD_LOW, ODD_HIGH = 0.05, 1.2, 2.0  # pairs whose way is longer still
HEIGHT_MS, HEIGHT_SIGMA = 2.0, 0.9  # what it takes to leave a site: median, spread


class Site(Struct, frozen=True):
    """A place of the made world."""

    region: str
    latitude: float
    longitude: float
    height_ms: float


def stand_in(sites: int, seed: int = 1) -> tuple[tuple[Site, ...], Rtt]:
    """Places in the seven regions and the round trips between them: symmetric, always the same.

    The regions have their share of the sites to within one; the sites come in random order.
    """
    if sites < 1:
        raise NetworkError(f"regions: sites is {sites}, expected at least 1")
    # The stream of RandomState is frozen: it is the same in every version of numpy.
    random = np.random.RandomState(rng.seed(seed, "regions") % 2**32)
    region = random.permutation(np.repeat(np.arange(len(REGIONS)), _counts(sites)))
    centre, spread = (
        np.array([(r.latitude, r.longitude) for r in REGIONS])[region],
        np.array([(r.spread, 1.5 * r.spread) for r in REGIONS])[region],
    )
    places = centre + spread * random.standard_normal((sites, 2))
    heights = HEIGHT_MS * np.exp(HEIGHT_SIGMA * random.standard_normal(sites))
    upper = np.triu_indices(sites, 1)
    factor = DETOUR * np.exp(DETOUR_SIGMA * random.standard_normal(len(upper[0])))
    odd = random.random_sample(len(upper[0])) < ODD_SHARE
    factor *= np.where(odd, random.uniform(ODD_LOW, ODD_HIGH, len(upper[0])), 1.0)
    rtt = np.zeros((sites, sites))
    way = 2 * _great_circle(places)[upper] / FIBRE_KM_PER_MS
    rtt[upper] = way * factor + heights[upper[0]] + heights[upper[1]]
    told = tuple(
        Site(REGIONS[r].name, float(place[0]), float(place[1]), float(height))
        for r, place, height in zip(region, places, heights, strict=True)
    )
    return told, rtt + rtt.T


def _counts(sites: int) -> list[int]:
    """How many sites each region has: its share, what is left to the largest remainders."""
    exact = [region.share * sites for region in REGIONS]
    counts = [int(value) for value in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for index in by_rest[: sites - sum(counts)]:
        counts[index] += 1
    return counts


def _great_circle(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances on the sphere in kilometres, between all of these latitudes and longitudes."""
    latitude, longitude = np.radians(places).T
    points = np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )
    angles: NDArray[np.float64] = np.arccos(np.clip(points.T @ points, -1.0, 1.0))
    return EARTH_KM * angles


# --- what a matrix is like -------------------------------------------------------------------


class Likeness(Struct, frozen=True):
    """A matrix of round trips in a few numbers, milliseconds."""

    sites: int
    mean: float
    largest: float
    percentiles: dict[int, float]
    symmetric: bool
    violations: float  # of random triples: share in which the way over a third site is shorter


def describe(
    rtt: Rtt, percentiles: Iterable[int] = (1, 10, 25, 50, 75, 90, 99), triples: int = 200_000
) -> Likeness:
    """Quantiles over the pairs, symmetry, and how often the triangle inequality is violated."""
    size = len(rtt)
    pairs = rtt[~np.eye(size, dtype=bool)]
    a, b, c = np.random.RandomState(1).randint(0, size, (3, triples))
    apart = (a != b) & (b != c) & (a != c)
    a, b, c = a[apart], b[apart], c[apart]
    shorter = rtt[a, b] + rtt[b, c] < rtt[a, c]
    return Likeness(
        size,
        float(pairs.mean()) if len(pairs) else 0.0,
        float(pairs.max()) if len(pairs) else 0.0,
        {p: float(np.percentile(pairs, p)) for p in percentiles} if len(pairs) else {},
        bool(np.array_equal(rtt, rtt.T)),
        float(shorter.mean()) if len(a) else 0.0,
    )
