"""How long a suspicion lasts: SWIM 4.2, Lifeguard IV-B, spec memberlist.md 6.8."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN, LOCAL, SWIM_2002, WAN, Config
from swimsim.swim.suspicion import Suspicion, begin, bounds, confirm, confirmations
from swimsim.terms import MS, SECOND, Micros, NodeId
from tests.builders import A, B, C, D, E

START = 7 * SECOND + 123  # any instant

# --- the least and the most -------------------------------------------------------------

BOUNDS: dict[str, tuple[Config, int, Micros, Micros]] = {  # settings, N, least, most
    "nobody known counts as one": (LAN, 0, 4 * SECOND, 24 * SECOND),
    "alone": (LAN, 1, 4 * SECOND, 24 * SECOND),
    "the worked example": (LAN, 5, 4 * SECOND, 24 * SECOND),
    "ten are still no more than one": (LAN, 10, 4 * SECOND, 24 * SECOND),
    "the logarithm has three decimals, cut off": (LAN, 11, 4164 * MS, 24_984 * MS),
    # spec experiments.md 2, scaled values
    "16": (LAN, 16, 4816 * MS, 28_896 * MS),
    "32": (LAN, 32, 6020 * MS, 36_120 * MS),
    "64": (LAN, 64, 7224 * MS, 43_344 * MS),
    "128": (LAN, 128, 8428 * MS, 50_568 * MS),
    "1000": (LAN, 1000, 12 * SECOND, 72 * SECOND),
    "5000": (LAN, 5000, 14_792 * MS, 88_752 * MS),
    "100,000": (LAN, 100_000, 20 * SECOND, 120 * SECOND),
    "wide area": (WAN, 5, 30 * SECOND, 180 * SECOND),
    "wide area, many": (WAN, 100, 60 * SECOND, 360 * SECOND),
    "one machine": (LOCAL, 5, 3 * SECOND, 18 * SECOND),
    "beta of one": (replace(LAN, suspicion_max_timeout_mult=1), 5, 4 * SECOND, 4 * SECOND),
    "a short interval keeps its microseconds": (
        replace(LAN, probe_interval=333_333), 11, 1_387_998, 6 * 1_387_998,
    ),
    "alpha of zero": (replace(LAN, suspicion_mult=0), 5, 0, 0),
    # SWIM figure 3c: 9, 12, 15 periods of 2 s; spec experiments.md 2
    "the prototype's 9 periods": (SWIM_2002, 19, 18 * SECOND, 18 * SECOND),
    "the prototype's 12 periods": (SWIM_2002, 20, 24 * SECOND, 24 * SECOND),
    "the prototype's 12 periods still": (SWIM_2002, 53, 24 * SECOND, 24 * SECOND),
    "the prototype's 15 periods": (SWIM_2002, 54, 30 * SECOND, 30 * SECOND),
}  # fmt: skip


@pytest.mark.parametrize(("config", "n", "least", "most"), BOUNDS.values(), ids=BOUNDS)
def test_bounds(config: Config, n: int, least: Micros, most: Micros) -> None:
    assert bounds(n, config) == (least, most)


@given(st.integers(1, 110_000), st.sampled_from([LAN, WAN, LOCAL]))
def test_bounds_are_the_specs_formula(n: int, config: Config) -> None:
    nanoseconds = 1000 * config.probe_interval
    thousandths = math.floor(1000 * max(1.0, math.log10(max(1, n))))
    wanted = config.suspicion_mult * thousandths * nanoseconds // 1000
    assert bounds(n, config) == (wanted // 1000, 6 * wanted // 1000)


@given(st.integers(1, 100_000), st.sampled_from([LAN, SWIM_2002]))
def test_bounds_grow_with_the_group(n: int, config: Config) -> None:
    assert bounds(n, config)[0] <= bounds(n + 1, config)[0]


# --- K, how many confirmations count ----------------------------------------------------

K: dict[str, tuple[dict[str, Any], int, int]] = {  # settings, N, K
    "alpha minus two": ({}, 5, 2),
    "just enough members": ({}, 4, 2),
    "one member too few": ({}, 3, 0),
    "two members": ({}, 2, 0),
    "alone": ({}, 1, 0),
    "wide area": ({"suspicion_mult": 6}, 6, 4),
    "wide area, one member too few": ({"suspicion_mult": 6}, 5, 0),
    "alpha of three": ({"suspicion_mult": 3}, 3, 1),
    "alpha of two": ({"suspicion_mult": 2}, 100, 0),
    "alpha of one": ({"suspicion_mult": 1}, 100, 0),
    "alpha of zero": ({"suspicion_mult": 0}, 100, 0),
    "the paper's three": ({"max_confirmations": 3}, 5, 3),
    "the paper's three, one member too few": ({"max_confirmations": 3}, 4, 0),
    "none by choice": ({"max_confirmations": 0}, 100, 0),
    "without LHA-Suspicion": ({"lha_suspicion": False}, 100, 0),
    "without LHA-Suspicion whatever K": ({"lha_suspicion": False, "max_confirmations": 3}, 100, 0),
}


@pytest.mark.parametrize(("settings", "n", "wanted"), K.values(), ids=K)
def test_confirmations(settings: dict[str, Any], n: int, wanted: int) -> None:
    assert confirmations(n, replace(LAN, **settings)) == wanted


# --- the beginning ----------------------------------------------------------------------


def suspicion(
    wait: Micros, most: Micros, wanted: int, *accusers: NodeId, least: Micros = 4 * SECOND
) -> Suspicion:
    return Suspicion(START, START + wait, least, most, wanted, accusers)


BEGIN: dict[str, tuple[dict[str, Any], int, Suspicion]] = {
    "it waits for the most": ({}, 5, suspicion(24 * SECOND, 24 * SECOND, 2, A)),
    "with nobody to confirm it waits for the least": (
        {}, 3, suspicion(4 * SECOND, 4 * SECOND, 0, A),
    ),
    "without LHA-Suspicion it waits for the least": (
        {"lha_suspicion": False}, 5, suspicion(4 * SECOND, 4 * SECOND, 0, A),
    ),
    "with K of zero it waits for the least": (
        {"max_confirmations": 0}, 5, suspicion(4 * SECOND, 4 * SECOND, 0, A),
    ),
    "with K of three": (
        {"max_confirmations": 3}, 5, suspicion(24 * SECOND, 24 * SECOND, 3, A),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "n", "wanted"), BEGIN.values(), ids=BEGIN)
def test_begin(settings: dict[str, Any], n: int, wanted: Suspicion) -> None:
    assert begin(START, A, n, replace(LAN, **settings)) == wanted


# --- confirmations ----------------------------------------------------------------------

ALONE = suspicion(24 * SECOND, 24 * SECOND, 2, A)
CONFIRMED = suspicion(11_381 * MS, 24 * SECOND, 2, A, B)
SETTLED = suspicion(4 * SECOND, 24 * SECOND, 2, A, B, C)
OF_THREE = suspicion(24 * SECOND, 24 * SECOND, 3, A)
SHORT = suspicion(4 * SECOND, 4 * SECOND, 0, A)

CONFIRM: dict[str, tuple[Suspicion, NodeId, Suspicion]] = {
    # spec memberlist.md 6.8, the worked example: N = 5, 4 s, 24 s, 11.381 s
    "one more accuser draws the end nearer": (ALONE, B, CONFIRMED),
    "the last that counts draws it to the least": (CONFIRMED, C, SETTLED),
    "the first accuser never confirms": (ALONE, A, ALONE),
    "nobody confirms twice": (CONFIRMED, B, CONFIRMED),
    "enough is enough": (SETTLED, D, SETTLED),
    "nothing shortens the shortest": (SHORT, B, SHORT),
    "one of three": (OF_THREE, B, replace(OF_THREE, deadline=START + 14 * SECOND, accusers=(A, B))),
    "two of three": (
        replace(OF_THREE, deadline=START + 14 * SECOND, accusers=(A, B)),
        C,
        replace(OF_THREE, deadline=START + 8150 * MS, accusers=(A, B, C)),
    ),
    "three of three": (
        replace(OF_THREE, deadline=START + 8150 * MS, accusers=(A, B, C)),
        D,
        replace(OF_THREE, deadline=START + 4 * SECOND, accusers=(A, B, C, D)),
    ),
    "the least is no whole millisecond, and kept": (
        suspicion(3000, 3000, 1, A, least=1500),
        B,
        suspicion(1500, 3000, 1, A, B, least=1500),
    ),
}


@pytest.mark.parametrize(("before", "accuser", "after"), CONFIRM.values(), ids=CONFIRM)
def test_confirm(before: Suspicion, accuser: NodeId, after: Suspicion) -> None:
    confirmed = confirm(before, accuser)
    assert confirmed == after
    assert (confirmed is before) == (before == after), "no news is the very same object"


@given(st.integers(2, 60), st.sampled_from([LAN, WAN, LOCAL]), st.integers(0, 5) | st.none())
def test_the_wait_falls_from_most_to_least_by_the_log_of_accusers(
    n: int, config: Config, k: int | None
) -> None:
    config = replace(config, max_confirmations=k)
    running = begin(START, NodeId("0"), n, config)
    least, most = bounds(n, config)
    wanted = confirmations(n, config)
    waits = [running.deadline - START]
    for accuser in range(1, 9):
        running = confirm(running, NodeId(str(accuser)))
        waits.append(running.deadline - START)
    assert waits == sorted(waits, reverse=True), "an accuser never postpones the end"
    assert waits[0] == (most if wanted else least)
    assert set(waits[wanted:]) == {least}
    for c, wait in enumerate(waits[:wanted]):
        exact = most - (most - least) * math.log(c + 1) / math.log(wanted + 1)
        assert max(least, exact - MS) <= wait <= max(least, exact)
        assert wait % MS == 0
    assert len(running.accusers) == wanted + 1


@given(st.permutations([B, C, D, E]))
def test_the_wait_depends_on_how_many_accuse_not_on_who(order: list[NodeId]) -> None:
    running = begin(START, A, 5, LAN)
    for accuser in order:
        running = confirm(running, accuser)
    assert running.deadline == START + 4 * SECOND
    assert running.accusers == (A, *order[:2])
