"""What is wrong with bytes that were refused.

``WireError`` is all that a decoder of ``swimsim.wire`` raises, whatever bytes it is given
(spec memberlist.md, section 11: one datagram must not bring a node down). Encoders raise plain
``ValueError``: there the caller is at fault, not a stranger.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

What: TypeAlias = Literal[
    "empty",  # no message where one belongs
    "truncated",  # ends before what it announces
    "unknown-type",  # a type byte that has no business here
    "malformed",  # not msgpack, or not the kind of value the field holds
    "out-of-range",  # a number that the field cannot hold
    "too-large",  # over a limit of length or number
    "too-deep",  # layers within layers within layers
    "label",  # no label, a wrong one, or one where none belongs
    "unencrypted",  # plain, where a key is installed
    "unexpected-encryption",  # encrypted, where no key is installed
    "encryption",  # no encrypted block: its version, its length or its padding is wrong
    "undecryptable",  # no key fits
    "checksum",  # damaged on its way
    "compression",  # not what the compressor writes
]
"""Why bytes were refused: a closed set, short enough to be the label of a counter."""


class WireError(ValueError):
    """Bytes were refused: ``what`` is the category, ``where`` the place, ``text`` the rest."""

    def __init__(self, what: What, text: str, where: str = "") -> None:
        super().__init__(what, text, where)
        self.what: What = what
        self.text = text
        self.where = where

    def within(self, place: str) -> WireError:
        """The same complaint, seen from one level further out."""
        return WireError(self.what, self.text, f"{place}, {self.where}" if self.where else place)

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WireError) and self.args == other.args

    def __hash__(self) -> int:
        return self.args.__hash__()
