"""LZW: both ways, against a second and slower implementation, and with a stranger's codes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swimsim.wire import WireError, lzw
from swimsim.wire.lzw import CLEAR, END, compress, decompress
from tests.wire.dumb_lzw import dumb_codes, dumb_text, scheduled

MANY = 1 << 30


def outcome(data: bytes) -> bytes | None:
    try:
        return decompress(data, MANY)
    except WireError as error:
        return None if error.what == "compression" else b"refused for another reason"


# --- both agree -------------------------------------------------------------------------------

texts = st.one_of(
    st.binary(max_size=600),
    st.lists(st.sampled_from(b"ab"), max_size=900).map(bytes),
    st.tuples(st.binary(min_size=1, max_size=5), st.integers(0, 300)).map(lambda t: t[0] * t[1]),
)


@given(texts)
def test_the_clever_compressor_agrees_with_the_dumb_one(text: bytes) -> None:
    assert compress(text) == scheduled(dumb_codes(text))


@given(texts)
def test_decompress_undoes_compress(text: bytes) -> None:
    assert decompress(compress(text), len(text)) == text


def scrambled(count: int, symbols: int = 256) -> bytes:
    """Bytes without an order."""
    made, x = bytearray(), 7
    for _ in range(count):
        x = (x * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & ((1 << 64) - 1)
        made.append((x >> 33) % symbols)
    return bytes(made)


WIDTHS = [255, 767, 1791, 3838, 2 * 3838]


@pytest.mark.parametrize("count", [width + off for width in WIDTHS for off in (-1, 0, 1, 2)])
def test_where_widths_and_dictionaries_end(count: int) -> None:
    mixed = bytes(at * 7 % 256 if at % 2 else at // 512 for at in range(count))
    for text in (scrambled(count), scrambled(count, 3), bytes(count), mixed):
        data = compress(text)
        assert decompress(data, count) == text == dumb_text(data)
        if count < 2000:
            assert data == scheduled(dumb_codes(text))


@given(st.binary(max_size=400))
def test_any_bytes_mean_the_same_to_both(data: bytes) -> None:
    assert outcome(data) == dumb_text(data)


@given(texts, st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4))
def test_damaged_streams_mean_the_same_to_both(text: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(compress(text))
    for place, byte in damage:
        data[place % len(data)] = byte
    assert outcome(bytes(data)) == dumb_text(bytes(data))


codes = st.lists(st.sampled_from([65, 66, 255, CLEAR, 258, 259, 260, 300, 510]), max_size=1500)


@settings(max_examples=50)
@given(codes)
def test_any_codes_mean_the_same_to_both(found: list[int]) -> None:
    data = scheduled([*found, END])
    assert outcome(data) == dumb_text(data)


# --- what other encoders may write ------------------------------------------------------------

PATIENT = {
    "no clear at the beginning": [65, 66, END],
    "several clears": [CLEAR, CLEAR, 65, CLEAR, CLEAR, 66, CLEAR, END],
    "a clear at every width": [
        *(CLEAR, *[65] * 300, CLEAR, *[66] * 800, CLEAR, *[67] * 1800, CLEAR, 68, END)
    ],
    "a string that is just being added": [CLEAR, 65, 258, 259, 260, END],
}


@pytest.mark.parametrize("found", PATIENT.values(), ids=PATIENT)
def test_odd_streams_are_read(found: list[int]) -> None:
    data = scheduled(found)
    text = dumb_text(data)
    assert text is not None
    assert decompress(data, MANY) == text


@pytest.mark.parametrize("extra", [0, 1, 300, 5000])
def test_a_full_dictionary_is_read_on(extra: int) -> None:
    """An encoder that never clears: 12 bits for ever, and nothing more is added (spec 2.6)."""
    found = [CLEAR, *scrambled(3839 + extra, 250)]
    tail = [4094, 4095, 300, 4095, CLEAR, 65, 66, 258]
    data = scheduled([*found, *tail, END])
    text = dumb_text(data)
    assert text is not None
    assert decompress(data, MANY) == text


def test_what_follows_the_end_is_ignored() -> None:
    assert decompress(compress(b"text") + b"more", 4) == b"text"


BAD = {  # codes, what is said
    "nothing": ([], "0 bytes of LZW without an end code"),
    "no end": ([CLEAR, 65], "without an end code"),
    "a code of no entry": ([CLEAR, 65, 300, END], "bit 18: LZW code 300 names no entry"),
    "an entry with nothing before it": ([CLEAR, 258, END], "LZW code 258 names no entry"),
    "the same after a clear": ([CLEAR, 65, 66, CLEAR, 258, END], "code 258 names no entry"),
}


@pytest.mark.parametrize(("found", "words"), BAD.values(), ids=BAD)
def test_bad_streams_are_refused(found: list[int], words: str) -> None:
    with pytest.raises(WireError, match=words) as caught:
        decompress(scheduled(found), MANY)
    assert caught.value.what == "compression"


@pytest.mark.parametrize("text", [b"a", bytes(100_000), scrambled(5000)], ids=len)
def test_the_limit_is_exact(text: bytes) -> None:
    data = compress(text)
    assert decompress(data, len(text)) == text
    with pytest.raises(WireError) as caught:
        decompress(data, len(text) - 1)
    assert caught.value.what == "too-large"


def test_the_reader_stops_soon_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One megabyte too many at most, of 4 that there would be."""
    data = compress(bytes(4 << 20))
    seen = []
    original = lzw._codes

    def counting(*args: object) -> list[int]:
        seen.append(args)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(lzw, "_codes", counting)
    with pytest.raises(WireError):
        decompress(data, 1 << 20)
    assert len(seen) * 256 < 3600  # codes, of some 5000
