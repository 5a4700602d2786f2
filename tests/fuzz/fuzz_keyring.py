"""Fuzz encryption: ``python -m tests.fuzz.fuzz_keyring -max_total_time=60`` (see harness.py).

Any block is decrypted or refused; what was sealed is unsealed with each key of a ring, and
refused when a bit of it has changed.
"""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["swimsim.wire"]):
    from swimsim.wire import WireError, keyring

from tests.fuzz.harness import fuzz

RING = keyring.keyring([bytes(16), bytes(24), bytes(32)])


def check(data: bytes) -> None:
    """Take it for a block, for a text, for a padded text and for a key."""
    unsealed(data, b"")
    unsealed(b"\0" + keyring.seal(RING, data or b"\0", bytes(12), b"", 1)[1:], b"")
    for version in (0, 1):
        sealed(data or b"\0", version)
    try:
        key = keyring.parse_key(data.decode("latin-1"))
    except keyring.KeyringError:
        return
    assert keyring.parse_key(keyring.format_key(key)) == key


def unsealed(block: bytes, aad: bytes) -> bytes | None:
    """The text of a block, or None when it is refused."""
    try:
        return keyring.unseal(RING, block, aad)
    except WireError:
        return None


def sealed(text: bytes, version: keyring.Version) -> None:
    """There and back, with another key as primary, and damaged."""
    nonce, aad = text[:12].ljust(12, b"n"), text[-5:]
    for key in RING.keys:
        block = keyring.seal(keyring.use(RING, key), text, nonce, aad, version)
        assert len(block) == keyring.sealed_size(len(text), version)
        assert unsealed(block, aad) == text
    place = 1 + text[0] * 7 % (len(block) - 1)
    changed = bytes((block[place] ^ 1 << len(text) % 8,))
    assert unsealed(block[:place] + changed + block[place + 1 :], aad) is None
    assert unsealed(block, aad + b"!") is None


if __name__ == "__main__":
    fuzz(check, "crypto")
