"""Random numbers: splitmix64 as published, and what is built on it is fair."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import factorial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimsim import rng
from tests.builders import permute
from tests.fairness import p_uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GENERATORS = st.integers(0, rng.MASK)

PUBLISHED = {  # seed: the first outputs of splitmix64
    # Rosetta Code, "Pseudo-random numbers/Splitmix64"
    1234567: (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ),
    # the test values of Vigna's splitmix64.c, as most ports of it carry them
    0: (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC),
}


def drawn(state: rng.Rng, draw: Callable[[rng.Rng], tuple[int, rng.Rng]]) -> Iterator[int]:
    while True:
        value, state = draw(state)
        yield value


@pytest.mark.parametrize("seed", PUBLISHED)
def test_draw_is_splitmix64(seed: int) -> None:
    wanted = PUBLISHED[seed]
    assert tuple(islice(drawn(seed, rng.draw), len(wanted))) == wanted


def test_below_gives_the_published_counts_of_five_buckets() -> None:
    fifths = islice(drawn(987654321, lambda state: rng.below(state, 5)), 100_000)
    assert Counter(fifths) == {0: 20027, 1: 19892, 2: 20073, 3: 19978, 4: 20030}


def test_the_next_generator_is_the_state_moved_by_the_golden_gamma() -> None:
    assert rng.draw(0)[1] == 0x9E37_79B9_7F4A_7C15
    assert rng.draw(rng.MASK)[1] == 0x9E37_79B9_7F4A_7C14


@given(GENERATORS, st.integers(1, 1 << 40), st.integers(0, 9))
def test_several_draws_are_those_of_one_after_the_other(state: int, n: int, k: int) -> None:
    several, after = rng.several_below(state, n, k)
    for value in several:
        once, state = rng.below(state, n)
        assert once == value
    assert (len(several), after) == (k, state)


@given(GENERATORS, st.integers(1, 2**40))
def test_below_stays_below(state: int, n: int) -> None:
    value, after = rng.below(state, n)
    assert 0 <= value < n
    assert after == rng.draw(state)[1]


@given(GENERATORS)
def test_draw_stays_within_64_bits(state: int) -> None:
    value, after = rng.draw(state)
    assert 0 <= value <= rng.MASK
    assert 0 <= after <= rng.MASK


@given(GENERATORS)
def test_draw_mixes_the_moved_state(state: int) -> None:
    value, after = rng.draw(state)
    assert value == rng.mix(after)


def test_mix_is_a_bijection_as_far_as_one_can_look() -> None:
    some = [*range(5000), *(rng.MASK - i for i in range(5000))]
    assert len({rng.mix(value) for value in some}) == len(some)


@pytest.mark.parametrize("bit", range(0, 64, 7))
def test_mix_spreads_one_bit_over_half_of_them(bit: int) -> None:
    flips = [
        (rng.mix(value) ^ rng.mix(value ^ 1 << bit)).bit_count()
        for value in islice(drawn(rng.seed("avalanche"), rng.draw), 500)
    ]
    assert 30 < sum(flips) / len(flips) < 34


@pytest.mark.parametrize("n", [2, 3, 7, 10, 64])
def test_below_is_uniform(n: int) -> None:
    counts = Counter(islice(drawn(rng.seed("below", n), lambda s: rng.below(s, n)), 500 * n))
    assert p_uniform(counts[value] for value in range(n)) > 1e-4


# --- seeds and forks --------------------------------------------------------------------

SEEDS = [
    ("a",), ("a", ""), ("", "a"), ("ab",), ("a", "b"), (1,), ("1",), (1, 1), (11,), ("a", 1),
    (1, "a"), (-1,), (2**64,), (0,), (), ("",), ("\udcff",), ("a\x1fstr:b",),
    ("astr:1:b",), (":",), ("1:a",),
]  # fmt: skip


def test_other_parts_are_another_generator() -> None:
    assert len({rng.seed(*parts) for parts in SEEDS}) == len(SEEDS)


def test_equal_parts_are_one_generator_on_every_machine() -> None:
    # Golden: a seed of today must give the same run tomorrow.
    assert rng.seed("run", 7, "node-1") == 0xE94D_808D_EB30_470B
    assert rng.seed() == 0xE4A6_A057_7479_B2B4  # BLAKE2b-64 of nothing


@given(GENERATORS)
def test_a_fork_is_neither_its_parent_nor_what_the_parent_draws(state: int) -> None:
    child, after = rng.fork(state)
    assert after == rng.draw(state)[1]
    assert child not in (state, after, rng.draw(state)[0])


def test_parent_and_children_draw_independently() -> None:
    """Pairs of what two streams draw fall evenly on a grid of 8 by 8."""
    parent = rng.seed("fork")
    first, parent = rng.fork(parent)
    second, parent = rng.fork(parent)

    def eighths(state: int) -> list[int]:
        return list(islice(drawn(state, lambda s: rng.below(s, 8)), 20_000))

    streams = {"first": eighths(first), "second": eighths(second), "parent": eighths(parent)}
    for one, other in (("first", "second"), ("first", "parent"), ("second", "parent")):
        pairs = Counter(zip(streams[one], streams[other], strict=True))
        assert p_uniform(pairs[x, y] for x in range(8) for y in range(8)) > 1e-4, (one, other)


def test_a_fork_is_not_its_parent_a_few_draws_later() -> None:
    parent = rng.seed("overlap")
    child, _ = rng.fork(parent)
    ahead = set(islice(drawn(parent, rng.draw), 2000))
    assert ahead.isdisjoint(islice(drawn(child, rng.draw), 2000))


# --- the keyed permutation --------------------------------------------------------------


@given(GENERATORS, st.integers(0, 11))
def test_permute_visits_every_value_once(key: int, bits: int) -> None:
    assert sorted(permute(key, bits, i) for i in range(1 << bits)) == list(range(1 << bits))


@pytest.mark.parametrize("bits", [16, 17])
def test_permute_visits_every_value_of_a_large_table_once(bits: int) -> None:
    key = rng.seed("permute", bits)
    assert len({permute(key, bits, i) for i in range(1 << bits)}) == 1 << bits


def plainly(key: int, bits: int, index: int) -> int:
    """The same, one index at a time."""
    for round_ in range(max(4, 12 - bits)):
        if round_:
            key = (key * 0xD134_2543_DE82_EF95 + 0x9E37_79B9_7F4A_7C15) % 2**64
            key ^= key >> 29
        index = (index + key) * (key >> 20 | 1) % 2**bits
        index ^= index >> (bits + 1) // 2
    return index


@given(GENERATORS, st.integers(0, 40), st.data())
def test_a_page_holds_what_is_computed_one_by_one(key: int, bits: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, (1 << bits) - 1))
    assert permute(key, bits, index) == plainly(key, bits, index)


def test_no_bits_permute_the_one_value_there_is() -> None:
    assert {permute(rng.seed("none", key), 0, 0) for key in range(100)} == {0}


def test_one_bit_is_kept_or_swapped_evenly() -> None:
    kept = sum(permute(rng.seed("bit", key), 1, 0) == 0 for key in range(4000))
    assert p_uniform((kept, 4000 - kept)) > 1e-4


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("place", ["first", "second", "middle", "last"])
def test_every_value_is_as_likely_at_every_place(bits: int, place: str) -> None:
    n = 1 << bits
    index = {"first": 0, "second": 1, "middle": n // 2, "last": n - 1}[place]
    keys = islice(drawn(rng.seed("marginal", bits, place), rng.draw), 300 * n)
    counts = Counter(permute(key, bits, index) for key in keys)
    assert p_uniform(counts[value] for value in range(n)) > 1e-4


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_every_order_of_a_few_members_is_as_likely(n: int) -> None:
    """memberlist shuffles its list uniformly (6.3); of many members a key cannot say as much."""
    bits, keys = (n - 1).bit_length(), islice(drawn(rng.seed("orders", n), rng.draw), 24_000)
    orders = Counter(
        tuple(slot for i in range(1 << bits) if (slot := permute(key, bits, i)) < n) for key in keys
    )
    assert len(orders) == factorial(n)
    assert p_uniform(orders.values()) > 1e-4


def test_two_keys_give_two_orders() -> None:
    orders = {
        tuple(permute(rng.seed("orders", key), 6, i) for i in range(64)) for key in range(500)
    }
    assert len(orders) == 500
