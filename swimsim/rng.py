"""Random numbers as a value.

A generator is one 64-bit integer, the state of splitmix64 (Steele, Lea and Flood, OOPSLA
2014). Every draw returns what was drawn and the generator to use next; nothing is mutated, so
a node's future is a function of its state. Not for secrets.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

Rng: TypeAlias = int

MASK = 0xFFFF_FFFF_FFFF_FFFF
PAGE = 8  # values that ``permute_page`` computes in one go
_GAMMA = 0x9E37_79B9_7F4A_7C15


def seed(*parts: str | int) -> Rng:
    """A generator named by ``parts``: equal parts, equal stream; any other parts, another one."""
    hashed = blake2b(digest_size=8)
    for part in parts:
        text = str(part).encode("utf-8", "surrogateescape")
        hashed.update(f"{type(part).__name__}:{len(text)}:".encode() + text)
    return int.from_bytes(hashed.digest(), "big")


def mix(value: int) -> int:
    """Scatter 64 bits: every input bit reaches every output bit (splitmix64's finaliser)."""
    value = ((value ^ (value >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
    return value ^ (value >> 31)


def draw(rng: Rng) -> tuple[int, Rng]:
    """64 uniform bits, and the next generator."""
    rng = (rng + _GAMMA) & MASK
    value = ((rng ^ (rng >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
    return value ^ (value >> 31), rng


def below(rng: Rng, n: int) -> tuple[int, Rng]:
    """A uniform integer in ``[0, n)``; the bias is under ``n / 2**64``."""
    value, rng = draw(rng)
    return (value * n) >> 64, rng


def several_below(rng: Rng, n: int, k: int) -> tuple[list[int], Rng]:
    """``k`` draws of ``below`` one after the other; some may be equal."""
    drawn: list[int] = []
    for _ in range(k):
        rng = (rng + _GAMMA) & MASK  # ``draw``, written out: gossip picks its targets by this
        value = ((rng ^ (rng >> 30)) * 0xBF58_476D_1CE4_E5B9) & MASK
        value = ((value ^ (value >> 27)) * 0x94D0_49BB_1331_11EB) & MASK
        drawn.append(((value ^ (value >> 31)) * n) >> 64)
    return drawn, rng


def fork(rng: Rng) -> tuple[Rng, Rng]:
    """An independent child generator, and the next generator."""
    child, rng = draw(rng)
    return mix(child ^ _GAMMA), rng


def permute_page(key: int, bits: int, first: int) -> int:
    """Where a keyed bijection on ``[0, 2**bits)`` sends the ``PAGE`` indices from ``first`` on.

    Rounds of add, multiply by an odd number, fold the high half down: each is invertible
    modulo a power of two, so walking the index from 0 upwards visits every value once, in an
    order that ``key`` chooses, without holding that order in memory. The fewer the bits, the
    less a round scatters and the more rounds there are.

    The values lie side by side in one number: that of ``first + i`` is the low ``bits`` of it
    shifted right by ``i`` lanes, each ``2 * bits + 1`` wide: room for a product, so that a round
    costs hardly more for all than for one. What lies beyond the last index is undefined.
    """
    mask, half = (1 << bits) - 1, (bits + 1) >> 1
    ones, numbers = _lanes(bits)
    masks = ones * mask
    rounds = max(4, 12 - bits)
    page = first * ones + numbers
    while True:
        page = (page + (key & mask) * ones & masks) * ((key >> 20 | 1) & mask) & masks
        page ^= page >> half & masks
        rounds -= 1
        if not rounds:
            return page
        key = (key * 0xD134_2543_DE82_EF95 + _GAMMA) & MASK
        key ^= key >> 29


@lru_cache(maxsize=64)
def _lanes(bits: int) -> tuple[int, int]:
    """In every lane of a page a one, and the number of the lane."""
    places = [(2 * bits + 1) * lane for lane in range(PAGE)]
    return sum(1 << place for place in places), sum(i << at for i, at in enumerate(places))
