"""AES-GCM with a ring of keys (spec memberlist.md, section 2.4).

An encrypted block is ``version | nonce (12) | ciphertext | tag (16)``. A key of 16, 24 or 32
bytes selects AES-128, -192 or -256. Version 1 encrypts the text as it is; version 0, of nodes
that speak protocol version 1, pads it first to whole blocks of 16 bytes, always by 1 to 16,
each of which says how many there are (PKCS7). Who reads takes both.

The ring's first key, the primary, encrypts; all are tried in their order to decrypt, so that a
cluster can change its key while it runs: install the new one everywhere, make it primary
everywhere, remove the old one. A ring is a value: ``add``, ``use`` and ``remove`` give another.

The nonce is an argument. Whoever calls ``seal`` answers for its never being used twice.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from string import whitespace
from typing import Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from swimsim.wire.errors import WireError

Version: TypeAlias = Literal[0, 1]

KEY_SIZES = (16, 24, 32)
NONCE = 12
TAG = 16
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
BLOCK = 16  # what version 0 pads to
OVERHEAD = {0: 1 + NONCE + BLOCK + TAG, 1: 1 + NONCE + TAG}
"""Bytes that encryption adds at most, by version; no encrypted block is shorter."""


class KeyringError(ValueError):
    """A key or a change that no ring can take; the texts are those that Serf's users know."""


class Keyring(Struct, frozen=True, eq=False):
    """Keys that differ from one another, the primary first. Make it with ``keyring``."""

    keys: tuple[bytes, ...]
    ciphers: tuple[AESGCM, ...]  # made of the keys, in their order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and self.keys == other.keys

    def __hash__(self) -> int:
        return self.keys.__hash__()

    def __repr__(self) -> str:
        return f"Keyring({len(self.keys)} keys)"  # keys do not belong into logs


def keyring(keys: Iterable[bytes]) -> Keyring:
    """The ring of these keys, the primary first; raises ``KeyringError``."""
    distinct = tuple(dict.fromkeys(keys))
    if not distinct:
        raise KeyringError("a keyring needs a key")
    return Keyring(distinct, tuple(AESGCM(checked(key)) for key in distinct))


def checked(key: bytes) -> bytes:
    """The key, if it has a length that AES knows; raises ``KeyringError``."""
    if len(key) not in KEY_SIZES:
        raise KeyringError("key size must be 16, 24 or 32 bytes")
    return key


def parse_key(text: str) -> bytes:
    """The key that ``text`` is the base64 of; raises ``KeyringError``."""
    data = text.strip(whitespace)  # of all that Unicode calls space, only ASCII's
    wrong = wrong_at(data)
    if wrong is not None:
        raise KeyringError(f"illegal base64 data at input byte {wrong}")
    return checked(b64decode(data))


def wrong_at(text: str) -> int | None:
    """At which byte a text stops being base64, as Go counts, or None."""
    data = text.encode("utf-8", "surrogatepass").decode("latin-1")
    place, filled = 0, 0
    while place < len(data):
        character = data[place]
        if character in "\r\n":
            place += 1
            continue
        if character in _ALPHABET:
            filled, place = (filled + 1) % 4, place + 1
            continue
        if character != "=" or filled < 2:
            return place
        return _wrong_padding(data, place, filled)
    return len(data) - filled if filled else None


def _wrong_padding(data: str, place: int, filled: int) -> int | None:
    """The same from the first ``=`` on, after two or three good characters."""
    rest = place + 1
    if filled == 2:
        while rest < len(data) and data[rest] in "\r\n":
            rest += 1
        if rest == len(data):
            return rest
        if data[rest] != "=":
            return rest - 1
        rest += 1
    while rest < len(data) and data[rest] in "\r\n":
        rest += 1
    return None if rest == len(data) else rest


def format_key(key: bytes) -> str:
    """The base64 of a key."""
    return b64encode(key).decode("ascii")


def add(ring: Keyring, key: bytes) -> Keyring:
    """The ring with ``key`` in the last place; the same ring when it holds the key."""
    checked(key)
    return ring if key in ring.keys else keyring((*ring.keys, key))


def use(ring: Keyring, key: bytes) -> Keyring:
    """The ring with ``key``, which it holds, as its primary."""
    if key not in ring.keys:
        raise KeyringError("requested key is not in the keyring")
    return keyring((key, *ring.keys))


def remove(ring: Keyring, key: bytes) -> Keyring:
    """The ring without ``key``, which is not its primary; the same ring when it lacks the key."""
    if key == ring.keys[0]:
        raise KeyringError("removing the primary key is not allowed")
    return keyring(held for held in ring.keys if held != key) if key in ring.keys else ring


def sealed_size(size: int, version: Version) -> int:
    """Bytes of the block that holds an encrypted text of ``size`` bytes."""
    padding = BLOCK - size % BLOCK if version == 0 else 0
    return 1 + NONCE + size + padding + TAG


def seal(ring: Keyring, text: bytes, nonce: bytes, aad: bytes, version: Version = 1) -> bytes:
    """``text``, not empty, encrypted with the primary key."""
    if not text:
        raise ValueError("an empty text must not be encrypted: real nodes crash on it")
    if len(nonce) != NONCE:
        raise ValueError(f"a nonce has {NONCE} bytes, not {len(nonce)}")
    if version == 0:
        padding = BLOCK - len(text) % BLOCK
        text += bytes((padding,)) * padding
    return bytes((version,)) + nonce + ring.ciphers[0].encrypt(nonce, text, aad)


def unseal(ring: Keyring, block: bytes, aad: bytes) -> bytes:
    """The text, not empty, of an encrypted block; raises ``WireError``."""
    version = block[0] if block else 0
    if version not in OVERHEAD:
        raise WireError("encryption", f"encryption version {version}, expected 0 or 1")
    if len(block) < OVERHEAD[version]:
        least = OVERHEAD[version]
        raise WireError("encryption", f"{len(block)} bytes, an encrypted block has {least} or more")
    text = _decrypted(ring, block[1 : 1 + NONCE], block[1 + NONCE :], aad)
    if version == 0:
        text = _unpadded(text)
    if not text:
        raise WireError("empty", "nothing was encrypted")
    return text


def _decrypted(ring: Keyring, nonce: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    for cipher in ring.ciphers:
        try:
            return cipher.decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            continue
    raise WireError("undecryptable", f"none of {len(ring.ciphers)} keys decrypts it")


def _unpadded(text: bytes) -> bytes:
    padding = text[-1] if text else 0
    if not 1 <= padding <= min(BLOCK, len(text)) or text[-padding:] != text[-1:] * padding:
        raise WireError("encryption", f"padding of {padding} bytes is not as version 0 pads")
    return text[:-padding]
