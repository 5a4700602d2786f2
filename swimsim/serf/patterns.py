"""Regular expressions as Serf takes them: Go's syntax, which is RE2's, in linear time.

Tag filters of queries come from any peer, and those of ``members`` from any client, so an
expression must not be able to stop the agent: RE2 never backtracks, and one that would need too
much memory is refused. ``$`` is the end of the text, not the place before a last newline (spec
serf.md, section 9).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2

MAX_LENGTH = 4096  # bytes of an expression
MAX_MEMORY = 1 << 19  # bytes of a compiled one; RE2 refuses what needs more
KEPT = 64  # compiled expressions


class PatternError(ValueError):
    """The text is no expression, or too large a one."""


class Pattern:
    """A compiled expression."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str, compiled: Any) -> None:
        self.text = text
        self._compiled = compiled

    def found_in(self, text: str) -> bool:
        """Whether some part of ``text`` matches, as Serf's tag filters ask."""
        return self._compiled.search(_bytes(text)) is not None


@lru_cache(KEPT)
def pattern(text: str) -> Pattern:
    """The expression ``text``; raises ``PatternError``."""
    written = _bytes(text)
    if len(written) > MAX_LENGTH:
        raise PatternError(f"an expression of {len(written)} bytes, the limit is {MAX_LENGTH}")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MAX_MEMORY
    try:
        return Pattern(text, re2.compile(written, options))
    except re2.error as error:
        raise PatternError(_words(error)) from None


def whole(text: str) -> Pattern:
    """``^text$`` as Serf's ``members`` puts it: ``a|b`` is ``^a`` or ``b$``."""
    return pattern(f"^{text}$")


def _bytes(text: str) -> bytes:
    """UTF-8; a byte that is not UTF-8 becomes U+FFFD, which is how Go reads it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


def _words(error: re2.error) -> str:
    reason = error.args[0]
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
