"""Fuzz packets: ``python -m tests.fuzz.fuzz_packet -max_total_time=60`` (see harness.py).

Any datagram is read or refused, by a node with and without label and keys; and what was read,
written again, is read as the same.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["swimsim.wire"]):
    from swimsim.wire import PLAIN, Envelope, WireError, keyring, packet, serf

from swimsim.messages import User
from tests.fuzz.harness import fuzz

KEYS = keyring.keyring([bytes(16), bytes(32)])
RECEIVERS = [PLAIN, Envelope(label=b"lbl"), Envelope(keyring=KEYS, verify_incoming=False)]


def check(data: bytes) -> None:
    """Read it in three ways, and once more from within encryption and label."""
    for envelope in RECEIVERS:
        read(data, envelope)
    if data:
        sealing = Envelope(label=b"lbl", keyring=KEYS)
        read(packet.enclosed(data, sealing, bytes(12)), sealing)


def read(data: bytes, envelope: Envelope) -> None:
    """Decode, and encode and decode again what is found."""
    try:
        found = packet.decode(data, envelope)
    except WireError:
        return
    assert all(isinstance(refusal, WireError) for refusal in found.refusals)
    for portion in packet.split(found.messages):
        written = packet.encode(portion, Envelope(), crc=True)
        assert packet.decode(written, PLAIN) == packet.Packet(portion)
    for message in found.messages:
        if isinstance(message, User):
            read_serf(message.payload)


def read_serf(payload: bytes) -> None:
    """The same for what Serf says."""
    try:
        found = serf.decode(payload)
    except WireError:
        return
    written = serf.encode(found)
    assert serf.encode(serf.decode(written)) == written


if __name__ == "__main__":
    fuzz(check, "packet", "serf")
