"""Fuzz the compressor: ``python -m tests.fuzz.fuzz_lzw -max_total_time=60`` (see harness.py).

Any text comes back from its compressed form; any bytes are a stream, or none, to this
implementation and to the dumb one of the tests alike.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["swimsim.wire"]):
    from swimsim.wire import WireError, lzw

from tests.fuzz.harness import fuzz
from tests.wire.dumb_lzw import dumb_codes, dumb_text, scheduled

LIMIT = 1 << 30


def check(data: bytes) -> None:
    """Take it for a text, and for a compressed one."""
    packed = lzw.compress(data)
    assert lzw.decompress(packed, len(data)) == data
    if len(data) < 500:
        assert packed == scheduled(dumb_codes(data))
    assert text_of(data) == dumb_text(data)


def text_of(data: bytes) -> bytes | None:
    """The text of a stream, or None for a bad one."""
    try:
        return lzw.decompress(data, LIMIT)
    except WireError:
        return None


if __name__ == "__main__":
    fuzz(check, "lzw", "packet")
