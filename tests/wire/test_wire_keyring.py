"""Keys, and what is encrypted with them (spec memberlist.md, 2.4)."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimsim.wire import KeyringError, WireError
from swimsim.wire.keyring import (
    OVERHEAD,
    Keyring,
    Version,
    add,
    format_key,
    keyring,
    parse_key,
    remove,
    seal,
    sealed_size,
    unseal,
    use,
)

K1, K2, K3, K4 = (bytes((index,)) * size for index, size in enumerate((16, 24, 32, 16)))
RING = keyring([K1, K2, K3])
NONCE = bytes(12)
TEXTS = st.binary(min_size=1, max_size=100)
VERSIONS = st.sampled_from((0, 1))

# --- rings ------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[Callable[[Keyring, bytes], Keyring], bytes, tuple[bytes, ...]]] = {
    "a new key comes last": (add, K4, (K1, K2, K3, K4)),
    "a key that is there": (add, K2, (K1, K2, K3)),
    "another primary": (use, K3, (K3, K1, K2)),
    "the same primary": (use, K1, (K1, K2, K3)),
    "a key goes": (remove, K2, (K1, K3)),
    "a key goes that is not there": (remove, K4, (K1, K2, K3)),
}


@pytest.mark.parametrize(("change", "key", "after"), CHANGES.values(), ids=CHANGES)
def test_changes(
    change: Callable[[Keyring, bytes], Keyring], key: bytes, after: tuple[bytes, ...]
) -> None:
    assert change(RING, key).keys == after
    assert RING.keys == (K1, K2, K3)


REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "no key": (lambda: keyring([]), "a keyring needs a key"),
    "a short key": (lambda: keyring([bytes(15)]), "key size must be 16, 24 or 32 bytes"),
    "a short key added": (lambda: add(RING, b""), "key size must be 16, 24 or 32 bytes"),
    "an unknown primary": (lambda: use(RING, K4), "requested key is not in the keyring"),
    "without its primary": (
        lambda: remove(RING, K1),
        "removing the primary key is not allowed",
    ),
    "not base64": (lambda: parse_key("not a key!"), "illegal base64 data at input byte 3"),
    "not even ASCII": (lambda: parse_key("schlüssel"), "illegal base64 data at input byte 4"),
    "a space that is not ASCII's": (
        lambda: parse_key("TTT=\N{NO-BREAK SPACE}"),
        "illegal base64 data at input byte 4",
    ),
    "half a character": (lambda: parse_key("AA\ud800"), "illegal base64 data at input byte 2"),
    "padding lacks": (lambda: parse_key("AAAA" * 5 + "A"), "illegal base64 data at input byte 20"),
    "17 bytes of base64": (
        lambda: parse_key(base64.b64encode(bytes(17)).decode()),
        "key size must be 16, 24 or 32 bytes",
    ),
}


@pytest.mark.parametrize(("refused", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_no_ring_takes(refused: Callable[[], object], words: str) -> None:
    with pytest.raises(KeyringError, match=words):
        refused()


def test_a_key_twice_is_one_key() -> None:
    assert keyring([K1, K2, K1]).keys == (K1, K2)


def test_rings_of_the_same_keys_are_equal() -> None:
    assert keyring([K1, K2]) == keyring([K1, K2])
    assert hash(keyring([K1, K2])) == hash(keyring([K1, K2]))
    assert keyring([K1, K2]) != keyring([K2, K1])
    assert keyring([K1]) != K1


def test_keys_are_not_shown() -> None:
    assert repr(RING) == "Keyring(3 keys)"


@pytest.mark.parametrize("key", [K1, K2, K3, bytes(range(200, 232))], ids=len)
def test_base64_both_ways(key: bytes) -> None:
    assert parse_key(format_key(key)) == key
    assert parse_key(f"  {format_key(key)}\n") == key


# --- blocks -----------------------------------------------------------------------------------


@given(TEXTS, VERSIONS, st.binary(min_size=12, max_size=12), st.binary(max_size=20))
def test_unseal_undoes_seal(text: bytes, version: Version, nonce: bytes, aad: bytes) -> None:
    block = seal(RING, text, nonce, aad, version)
    assert len(block) == sealed_size(len(text), version)
    assert block[: 1 + 12] == bytes((version,)) + nonce
    assert unseal(RING, block, aad) == text


@pytest.mark.parametrize("version", [0, 1])
def test_no_block_is_shorter_than_the_overhead(version: Version) -> None:
    assert min(sealed_size(size, version) for size in range(40)) == OVERHEAD[version]


@given(VERSIONS, st.permutations([K1, K2, K3]))
def test_any_key_of_the_ring_decrypts(version: Version, keys: list[bytes]) -> None:
    for key in keys:
        block = seal(keyring([key]), b"text", NONCE, b"", version)
        assert unseal(keyring(keys), block, b"") == b"text"
    stranger = seal(keyring([K4]), b"text", NONCE, b"", version)
    with pytest.raises(WireError) as caught:
        unseal(keyring(keys), stranger, b"")
    assert caught.value.what == "undecryptable"


def test_the_primary_encrypts() -> None:
    block = seal(RING, b"text", NONCE, b"")
    assert unseal(keyring([K1]), block, b"") == b"text"
    assert seal(use(RING, K3), b"text", NONCE, b"") == seal(keyring([K3]), b"text", NONCE, b"")


@given(TEXTS, VERSIONS, st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_block_is_refused(text: bytes, version: Version, at: int, flip: int) -> None:
    block = bytearray(seal(RING, text, NONCE, b"aad", version))
    block[1 + at % (len(block) - 1)] ^= flip
    with pytest.raises(WireError) as caught:
        unseal(RING, bytes(block), b"aad")
    assert caught.value.what == "undecryptable"


def test_the_version_is_not_authenticated() -> None:
    """So a block of version 0 may be relabelled; its padding then belongs to the text."""
    block = b"\1" + seal(RING, b"text", NONCE, b"", 0)[1:]
    assert unseal(RING, block, b"") == b"text" + b"\x0c" * 12


@given(TEXTS, VERSIONS)
def test_other_data_around_it_is_refused(text: bytes, version: Version) -> None:
    block = seal(RING, text, NONCE, b"aad", version)
    for aad in (b"", b"aa", b"AAD"):
        with pytest.raises(WireError) as caught:
            unseal(RING, block, aad)
        assert caught.value.what == "undecryptable"


def padded(text: bytes) -> bytes:
    """A version 0 block of this text as if it were padded already."""
    return b"\0" + seal(keyring([K1]), text, NONCE, b"", 1)[1:]


PADDINGS = {
    "of no bytes": bytes(16),
    "longer than a block": bytes(31) + b"\x11",
    "not all alike": bytes(13) + b"\x02\x03\x03",
}


@pytest.mark.parametrize("text", PADDINGS.values(), ids=PADDINGS)
def test_a_padding_that_nobody_writes_is_refused(text: bytes) -> None:
    with pytest.raises(WireError, match="padding") as caught:
        unseal(RING, padded(text), b"")
    assert caught.value.what == "encryption"


@pytest.mark.parametrize("padding", range(1, 16))
def test_every_padding_is_taken_off(padding: int) -> None:
    text = bytes(16 - padding) + bytes((padding,)) * padding
    assert unseal(RING, padded(text), b"") == bytes(16 - padding)


BLOCKS = {  # bytes, category
    "nothing": (b"", "encryption"),
    "version 2": (b"\2" * 60, "encryption"),
    "version 255": (b"\xff" * 60, "encryption"),
    "28 bytes of version 1": (b"\1" + bytes(27), "encryption"),
    "44 bytes of version 0": (bytes(44), "encryption"),
    "29 bytes of version 1": (b"\1" + bytes(28), "undecryptable"),
    "45 bytes of version 0": (bytes(45), "undecryptable"),
    "nothing encrypted": (b"\1" + NONCE + RING.ciphers[0].encrypt(NONCE, b"", b""), "empty"),
    "nothing but padding": (padded(b"\x10" * 16), "empty"),
}


@pytest.mark.parametrize(("block", "what"), BLOCKS.values(), ids=BLOCKS)
def test_what_is_no_block_is_refused(block: bytes, what: str) -> None:
    with pytest.raises(WireError) as caught:
        unseal(RING, block, b"")
    assert caught.value.what == what


def test_what_must_not_be_sealed() -> None:
    with pytest.raises(ValueError, match="an empty text must not be encrypted"):
        seal(RING, b"", NONCE, b"")
    with pytest.raises(ValueError, match="a nonce has 12 bytes, not 11"):
        seal(RING, b"text", bytes(11), b"")
