"""Local health: Lifeguard IV-A, spec memberlist.md 6.7."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import Effect, Emit, HealthChanged
from swimsim.inputs import HealthChange
from swimsim.swim.awareness import step


def now(score: int) -> tuple[Effect, ...]:
    return (Emit(HealthChanged(score)),)


TABLE: dict[str, tuple[dict[str, Any], int, int, int, tuple[Effect, ...]]] = {
    # settings, score, delta, score after, effects
    "bad news is a worse score": ({}, 0, +1, 1, now(1)),
    "three missed nacks weigh three": ({}, 2, +3, 5, now(5)),
    "good news is a better score": ({}, 3, -1, 2, now(2)),
    "back to health": ({}, 1, -1, 0, now(0)),
    "no better than healthy": ({}, 0, -1, 0, ()),
    "no worse than the worst": ({}, 7, +1, 7, ()),
    "at most the worst": ({}, 6, +3, 7, now(7)),
    "nothing learned": ({}, 3, 0, 3, ()),
    "the paper's worst is eight": ({"awareness_max": 8}, 7, +3, 8, now(8)),
    "a node that may not be sick": ({"awareness_max": 0}, 0, +1, 0, ()),
    "without LHA-Probe there is no health": ({"lha_probe": False}, 0, +1, 0, ()),
}


@pytest.mark.parametrize(
    ("settings", "score", "delta", "after", "effects"), TABLE.values(), ids=TABLE
)
def test_step(
    settings: dict[str, Any], score: int, delta: int, after: int, effects: tuple[Effect, ...]
) -> None:
    assert step(score, HealthChange(delta), replace(LAN, **settings)) == (after, effects)


@given(st.lists(st.integers(-3, 4)), st.integers(0, 9))
def test_the_score_is_the_clamped_sum_and_told_when_it_changes(
    deltas: list[int], worst: int
) -> None:
    config = replace(LAN, awareness_max=worst)
    score = 0
    for delta in deltas:
        wanted = max(0, min(score + delta, worst))
        told = () if wanted == score else now(wanted)
        assert step(score, HealthChange(delta), config) == (wanted, told)
        score = wanted
