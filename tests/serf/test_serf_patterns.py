"""Regular expressions: Go's syntax and anchors, bounded in time and memory."""

from __future__ import annotations

from time import process_time

import pytest

from swimsim.serf.patterns import MAX_LENGTH, PatternError, pattern, whole

FOUND = {  # what it shows: expression, text, whether it is found in it
    "a filter is not anchored": (pattern, "web", "my-web-1", True),
    "unless it says so": (pattern, "^web$", "my-web-1", False),
    "a whole expression is anchored at both ends": (whole, "br.*", "abravo", False),
    "and takes what fits": (whole, "br.*", "bravo", True),
    "its anchors are put without grouping: ^a": (whole, "a|b", "axx", True),
    "its anchors are put without grouping: b$": (whole, "a|b", "xxb", True),
    "not in the middle": (whole, "a|b", "xax", False),
    "the end is the end, not a last newline": (whole, "a", "a\n", False),
    "classes of Go's": (whole, r"\pL+", "grün", True),
    "a byte that is not UTF-8 is one character": (whole, "a.b", "a\udce9b", True),
}


@pytest.mark.parametrize(("make", "text", "subject", "found"), FOUND.values(), ids=FOUND)
def test_found(make, text: str, subject: str, found: bool) -> None:
    assert make(text).found_in(subject) is found


@pytest.mark.parametrize(
    "text",
    ["(((", r"(a)\1", "(?=a)", "a**", "(a{1000}){1000}", r"\pL{900}", "x" * (MAX_LENGTH + 1)],
)
def test_what_go_would_refuse_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        pattern(text)


def test_the_classic_bomb_takes_linear_time() -> None:
    start = process_time()
    assert not whole("(a+)+").found_in("a" * 100_000 + "b")
    assert process_time() - start < 5
