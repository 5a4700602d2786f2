"""Fuzz streams: ``python -m tests.fuzz.fuzz_stream -max_total_time=60`` (see harness.py).

Any bytes are read or refused, in the same way however they are cut (the last byte of an input
says how); and what was read, written again, is read as the same.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["swimsim.wire"]):
    from swimsim.wire import PLAIN, Envelope, WireError, keyring, stream

from tests.fuzz.harness import fuzz

KEYS = keyring.keyring([bytes(16)])
RECEIVERS = [PLAIN, Envelope(label=b"lbl"), Envelope(keyring=KEYS)]


def check(data: bytes) -> None:
    """Read it whole and in portions, in every way."""
    size = 1 + data[-1] % 64 if data else 1
    for envelope in RECEIVERS:
        for begin in (stream.accepted(envelope), stream.connected(envelope)):
            whole = outcome(begin, data, max(1, len(data)))
            assert outcome(begin, data, size) == whole
            if not isinstance(whole, str):
                written = stream.encode(whole, Envelope(), first=True)
                assert stream.decode(written, PLAIN, first=True) == whole


def outcome(decoder: stream.Decoder, data: bytes, size: int) -> stream.StreamMessage | str:
    """The message that comes of it in portions of this size, or what is said against it."""
    try:
        for at in range(0, len(data), size):
            decoder, message = stream.feed(decoder, data[at : at + size])
            if message is not None:
                return message
    except WireError as error:
        return str(error)
    return str(stream.ended(decoder))


if __name__ == "__main__":
    fuzz(check, "stream")
