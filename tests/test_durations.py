"""Durations as people write them, in Go's notation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.durations import duration, in_words
from swimsim.terms import HOUR, MINUTE, MS, SECOND, Micros

READ: dict[str, Micros] = {
    "0": 0,
    "0s": 0,
    "1us": 1,
    "1µs": 1,  # U+00B5, the micro sign
    "1μs": 1,  # U+03BC, the Greek letter
    "500ms": 500 * MS,
    "1s": SECOND,
    "1.5s": 1_500 * MS,
    ".5s": 500 * MS,
    "0.25ms": 250,
    "2000ns": 2,
    "1m": MINUTE,
    "1h": HOUR,
    "1h30m": 90 * MINUTE,
    "1h2m3s4ms5us": HOUR + 2 * MINUTE + 3 * SECOND + 4 * MS + 5,
    "90m": 90 * MINUTE,
    "24h": 24 * HOUR,
    "+3s": 3 * SECOND,
    "100ms100ms": 200 * MS,
}


@pytest.mark.parametrize(("text", "micros"), READ.items(), ids=READ)
def test_a_duration_is_read(text: str, micros: Micros) -> None:
    found = duration(text)
    assert found == micros
    assert type(found) is int


NOT_ONE: list[Any] = [
    "", "s", "3", "-", "+", "soon", "1 s", " 1s", "1s ", "1e3s", "1,5s", "nan", "inf", "1S", "1sec",
    "1.2.3s", "1s2", "s1", None, 3, 3.0, True, [], {"s": 1},
    # What Go does not take either:
    "1m-1s", "1s and 1s", "5s, 2s", "1d", "1w", "1y", "500mm",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_ONE, ids=repr)
def test_anything_else_is_refused_and_it_says_what_was_expected(text: Any) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        duration(text)
    wanted = f'expected a duration such as "500ms" or "1h30m", got {text!r}'
    assert str(caught.value) == wanted


@pytest.mark.parametrize("text", ["-1s", "-1h30m", "-1us"])
def test_a_negative_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        duration(text)
    assert str(caught.value) == f"expected a duration that is not negative, got {text!r}"


WRITTEN: dict[Micros, str] = {
    0: "0s",
    1: "1us",
    999: "999us",
    1_000: "1ms",
    1_500: "1ms500us",
    SECOND: "1s",
    90 * MINUTE: "1h30m",
    24 * HOUR: "24h",
    HOUR + 1: "1h1us",
}


@pytest.mark.parametrize(("micros", "text"), WRITTEN.items(), ids=map(str, WRITTEN))
def test_a_duration_is_written(micros: Micros, text: str) -> None:
    assert in_words(micros) == text


@given(st.integers(0, 100 * 365 * 24 * HOUR) | st.integers(0, 10 * SECOND))
def test_what_is_written_is_read_back_to_the_microsecond(micros: Micros) -> None:
    assert duration(in_words(micros)) == micros


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["h", "m", "s", "ms", "us"]))))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts) or "0"
    sizes = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": MS, "us": 1}
    assert duration(text) == sum(count * sizes[unit] for count, unit in parts)


def test_a_duration_longer_than_go_can_hold_is_refused_with_the_limit() -> None:
    with pytest.raises(ValueError, match=r"at most 2562047h, got '999999999999999h'"):
        duration("999999999999999h")
