"""Durations as people write them: "500ms", "30s", "1h30m" (Go's notation, which Serf uses)."""

from __future__ import annotations

import re
from fractions import Fraction

from swimsim.terms import HOUR, MINUTE, MS, SECOND, US, Micros

_UNITS: dict[str, Fraction] = {
    "h": Fraction(HOUR),
    "m": Fraction(MINUTE),
    "s": Fraction(SECOND),
    "ms": Fraction(MS),
    "us": Fraction(US),
    "\u00b5s": Fraction(US),  # the micro sign
    "\u03bcs": Fraction(US),  # the Greek letter
    "ns": Fraction(US, 1000),
}
_LETTERS = "|".join(sorted(_UNITS, key=len, reverse=True))
_PART = re.compile(rf"(\d+(?:\.\d*)?|\.\d+)({_LETTERS})", re.ASCII)
_WHOLE = re.compile(rf"\+?(?:{_PART.pattern})+", re.ASCII)
_LONGEST = (1 << 63) // 1000  # what Go's nanoseconds can hold


def duration(text: object) -> Micros:
    """Microseconds; raises ValueError, saying what is expected, for anything else."""
    expected = f'expected a duration such as "500ms" or "1h30m", got {text!r}'
    if not isinstance(text, str):
        raise ValueError(expected)
    if text == "0":
        return 0
    if re.fullmatch(r"-(\d.*)", text):
        raise ValueError(f"expected a duration that is not negative, got {text!r}")
    if not _WHOLE.fullmatch(text):
        raise ValueError(expected)
    micros = round(sum(Fraction(count) * _UNITS[unit] for count, unit in _PART.findall(text)))
    if micros > _LONGEST:
        raise ValueError(f"expected a duration of at most {_LONGEST // HOUR}h, got {text!r}")
    return micros


def in_words(micros: Micros) -> str:
    """The notation that ``duration`` reads back as ``micros``."""
    words = ""
    for unit, letters in ((HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (MS, "ms"), (US, "us")):
        count, micros = divmod(micros, unit)
        words += f"{count}{letters}" if count else ""
    return words or "0s"
