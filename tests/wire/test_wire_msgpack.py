"""The dialect: what Go writes, and all that Go's codecs read (spec memberlist.md, 3)."""

from __future__ import annotations

import struct
from typing import Any

import msgpack as other
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swimsim.wire.errors import WireError
from swimsim.wire.msgpack import (
    BYTES,
    BYTES_OR_NIL,
    FLAG,
    FLOAT,
    I64,
    MAX_ELEMENTS,
    MAX_PASSED,
    TEXT,
    U8,
    U16,
    U32,
    U64,
    Kind,
    array,
    entries,
    mapped,
    mapping,
    optional,
    passed,
    read,
    record,
    scan,
    sparse,
)

PAIR = record(("Right", U32), ("Left", TEXT), ("Extra", BYTES, "omitted"))
MAP_ONLY = record(("Right", U32), declared=False)
BIG = (1 << 64) - 1

WRITTEN: dict[str, tuple[Kind[Any], Any, str]] = {
    "text": (TEXT, "n1", "a26e31"),
    "empty text": (TEXT, "", "a0"),
    "text of 31": (TEXT, "x" * 31, "bf" + "78" * 31),
    "text of 32": (TEXT, "x" * 32, "da0020" + "78" * 32),
    "text of 255, never str8": (TEXT, "x" * 255, "da00ff" + "78" * 255),
    "text of 65,536": (TEXT, "x" * 65_536, "db00010000" + "78" * 65_536),
    "text that is no UTF-8": (TEXT, "bad\udcff\udcfe", "a5626164fffe"),
    "bytes": (BYTES, b"\0\1", "a20001"),
    "no bytes": (BYTES, b"", "a0"),
    "no bytes as nil": (BYTES_OR_NIL, b"", "c0"),
    "0": (U32, 0, "00"),
    "127": (U32, 127, "7f"),
    "128": (U32, 128, "cc80"),
    "255": (U32, 255, "ccff"),
    "256": (U32, 256, "cd0100"),
    "65,535": (U32, 65_535, "cdffff"),
    "65,536": (U32, 65_536, "ce00010000"),
    "2**32 - 1": (U32, (1 << 32) - 1, "ceffffffff"),
    "2**32": (U64, 1 << 32, "cf0000000100000000"),
    "2**64 - 1": (U64, BIG, "cf" + "ff" * 8),
    "200 with a sign": (I64, 200, "ccc8"),
    "-1": (I64, -1, "ff"),
    "-32": (I64, -32, "e0"),
    "-33": (I64, -33, "d0df"),
    "-128": (I64, -128, "d080"),
    "-129": (I64, -129, "d1ff7f"),
    "-32,769": (I64, -32_769, "d2ffff7fff"),
    "-2**31 - 1": (I64, -(1 << 31) - 1, "d3ffffffff7fffffff"),
    "true": (FLAG, True, "c3"),
    "false": (FLAG, False, "c2"),
    "1.5": (FLOAT, 1.5, "cb3ff8000000000000"),
    "nil": (optional(TEXT), None, "c0"),
    "not nil": (optional(TEXT), "", "a0"),
    "array": (array(U8), (1, 2), "920102"),
    "array of none": (array(U8), (), "90"),
    "array of 16": (array(U8), (0,) * 16, "dc0010" + "00" * 16),
    "array of 65,536": (array(U8), (0,) * 65_536, "dd00010000" + "00" * 65_536),
    "map, in its order": (mapping(U8), (("b", 1), ("a", 2)), "82a16201a16102"),
    "map of none": (mapping(U8), (), "80"),
    "map of 16": (
        mapping(U8),
        tuple((chr(97 + n), n) for n in range(16)),
        "de0010" + "".join(f"a1{97 + n:02x}{n:02x}" for n in range(16)),
    ),
    "mostly nil": (sparse(U8), (4, ((2, 7),)), "94c0c007c0"),
    "struct, keys in byte order": (
        PAIR, [1, "n", b"e"], "83a54578747261a165a44c656674a16ea5526967687401",
    ),
    "struct without what is omitted": (PAIR, [0, "", b""], "82a44c656674a0a5526967687400"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "text"), WRITTEN.values(), ids=WRITTEN)
def test_written_and_read_again(kind: Kind[Any], value: Any, text: str) -> None:
    data = bytes.fromhex(text)
    assert kind.write(value) == data
    assert read(kind, data) == (value, len(data))
    assert read(kind, b"??" + data + b"??", 2) == (value, 2 + len(data))


READ: dict[str, tuple[Kind[Any], str, Any]] = {
    "str8 for a text": (TEXT, "d9026e31", "n1"),
    "raw16 for a short text": (TEXT, "da00026e31", "n1"),
    "raw32 for a short text": (TEXT, "db000000026e31", "n1"),
    "bin for a text (new codec)": (TEXT, "c4026e31", "n1"),
    "nil for a text": (TEXT, "c0", ""),
    "bin8 for bytes": (BYTES, "c4020001", b"\0\1"),
    "bin16 for bytes": (BYTES, "c500020001", b"\0\1"),
    "bin32 for bytes": (BYTES, "c6000000020001", b"\0\1"),
    "str8 for bytes": (BYTES, "d9020001", b"\0\1"),
    "numbers for bytes": (BYTES, "9301ccffc0", b"\1\xff\0"),
    "16 numbers for bytes": (BYTES, "dc0010" + "07" * 16, b"\7" * 16),
    "no numbers for bytes": (BYTES, "90", b""),
    "nil for bytes": (BYTES, "c0", b""),
    "a0 for bytes that are written as nil": (BYTES_OR_NIL, "a0", b""),
    "wide number": (U8, "cf0000000000000007", 7),
    "number with a sign": (U8, "d007", 7),
    "wide number with a sign": (U32, "d30000000000000107", 263),
    "positive number of the new codec": (I64, "d100c8", 200),
    "nil for a number": (U32, "c0", 0),
    "1 for true": (FLAG, "01", True),
    "0 for false": (FLAG, "00", False),
    "nil for false": (FLAG, "c0", False),
    "float32": (FLOAT, "ca3fc00000", 1.5),
    "number for a float": (FLOAT, "d0ff", -1),
    "nil for a float": (FLOAT, "c0", 0),
    "nil for an array": (array(U8), "c0", ()),
    "array16 for a short array": (array(U8), "dc000107", (7,)),
    "array32 for a short array": (array(U8), "dd0000000107", (7,)),
    "nil in an array": (array(U8), "92c001", (0, 1)),
    "nil for a map": (mapping(U8), "c0", ()),
    "key twice in a map": (mapping(U8), "83a16101a16202a16103", (("a", 3), ("b", 2))),
    "map32": (mapping(U8), "df00000001a16101", (("a", 1),)),
    "nothing but nils": (sparse(U8), "dc0003c0c0c0", (3, ())),
    "nil for a sparse array": (sparse(U8), "c0", (0, ())),
    "keys in another order": (PAIR, "82a5526967687401a44c656674a16e", [1, "n", b""]),
    "missing key": (PAIR, "81a5526967687401", [1, "", b""]),
    "no key": (PAIR, "80", [0, "", b""]),
    "nil for a struct": (PAIR, "c0", [0, "", b""]),
    "nil for a field": (PAIR, "82a44c656674c0a5526967687401", [1, "", b""]),
    "key twice": (PAIR, "82a5526967687401a5526967687402", [2, "", b""]),
    "keys have a case": (PAIR, "81a5726967687401", [0, "", b""]),
    "map16 for a struct": (PAIR, "de0001a5526967687401", [1, "", b""]),
    "map32 for a struct": (PAIR, "df00000001a5526967687401", [1, "", b""]),
    "key as str8": (PAIR, "81d905526967687401", [1, "", b""]),
    "key as raw16": (PAIR, "81da0005526967687401", [1, "", b""]),
    "key as bin (new codec)": (PAIR, "81c405526967687401", [1, "", b""]),
    "nil as a key": (PAIR, "82c005a5526967687401", [1, "", b""]),
    "unknown key": (PAIR, "82a17a93019280c0cb0000000000000000a5526967687401", [1, "", b""]),
    "array, as declared": (PAIR, "9301a16ea165", [1, "n", b"e"]),
    "short array": (PAIR, "9101", [1, "", b""]),
    "empty array": (PAIR, "90", [0, "", b""]),
    "long array": (PAIR, "9501a16ea1659180c0", [1, "n", b"e"]),
    "array16 for a struct": (PAIR, "dc000101", [1, "", b""]),
    "array32 for a struct": (PAIR, "dd0000000101", [1, "", b""]),
    "nil in an array for a struct": (PAIR, "92c0a16e", [0, "n", b""]),
}


@pytest.mark.parametrize(("kind", "text", "value"), READ.values(), ids=READ)
def test_read_although_go_does_not_write_it(kind: Kind[Any], text: str, value: Any) -> None:
    data = bytes.fromhex(text)
    assert read(kind, data) == (value, len(data))
    assert read(kind, data + b"tail") == (value, len(data))
    for end in range(len(data)):
        with pytest.raises(WireError) as caught:
            read(kind, data[:end])
        assert caught.value.what == "truncated"


REFUSED: dict[str, tuple[Kind[Any], str, str, str]] = {  # ... category, where
    "nothing": (U8, "", "truncated", "byte 0"),
    "a byte that is nothing": (U8, "c1", "malformed", "byte 0"),
    "text for a number": (U8, "a131", "malformed", "byte 0"),
    "float for a number": (U8, "cb3ff0000000000000", "malformed", "byte 0"),
    "truth for a number": (U8, "c3", "malformed", "byte 0"),
    "ext for a number": (U8, "d4017f", "malformed", "byte 0"),
    "negative": (U32, "ff", "out-of-range", "byte 0"),
    "negative of 64 bits": (U64, "d3" + "ff" * 8, "out-of-range", "byte 0"),
    "port of 65,536": (U16, "ce00010000", "out-of-range", "byte 0"),
    "2**32 in 32 bits": (U32, "cf0000000100000000", "out-of-range", "byte 0"),
    "2**63 with a sign": (I64, "cf8000000000000000", "out-of-range", "byte 0"),
    "2 for a truth": (FLAG, "02", "malformed", "byte 0"),
    "text for a truth": (FLAG, "a0", "malformed", "byte 0"),
    "number for a text": (TEXT, "05", "malformed", "byte 0"),
    "array for a text": (TEXT, "9161", "malformed", "byte 0"),
    "map for bytes": (BYTES, "80", "malformed", "byte 0"),
    "256 among numbers for bytes": (BYTES, "91cd0100", "out-of-range", "byte 1"),
    "text for a float": (FLOAT, "a0", "malformed", "byte 0"),
    "map for an array": (array(U8), "80", "malformed", "byte 0"),
    "array for a map": (mapping(U8), "90", "malformed", "byte 0"),
    "number as a key": (mapping(U8), "810101", "malformed", "byte 1"),
    "text for a struct": (PAIR, "a0", "malformed", "byte 0"),
    "number for a struct": (PAIR, "01", "malformed", "byte 0"),
    "number as a field's key": (PAIR, "810101", "malformed", "byte 1"),
    "wrong field": (PAIR, "81a44c65667401", "malformed", "Left, byte 6"),
    "wrong field of an array": (PAIR, "920101", "malformed", "Left, byte 2"),
    "a field cut short": (PAIR, "81a44c656674a36161", "truncated", "Left, byte 9"),
    "a field that lacks": (PAIR, "81a44c656674", "truncated", "Left, byte 6"),
    "an array cut short": (PAIR, "9201", "truncated", "Left, byte 2"),
    "nonsense in an unknown field": (PAIR, "81a17a93c1c1c1", "malformed", "byte 4"),
    "array where the order is not known": (MAP_ONLY, "9101", "malformed", "byte 0"),
    "4 GiB of text": (TEXT, "dbffffffff", "truncated", "byte 5"),
    "more elements than bytes": (array(U8), "dc010000", "truncated", "byte 0"),
    "more keys than bytes": (PAIR, "de0100a17a00", "truncated", "byte 0"),
    "2**32 - 1 elements": (array(U8), "ddffffffff", "too-large", "byte 0"),
    "2**32 - 1 keys": (PAIR, "dfffffffff", "too-large", "byte 0"),
    "2**32 - 1 slots": (sparse(U8), "ddffffffff", "too-large", "byte 0"),
    "2**32 - 1 elements nobody wants": (PAIR, "81a17addffffffff", "too-large", "byte 3"),
}


@pytest.mark.parametrize(("kind", "text", "what", "where"), REFUSED.values(), ids=REFUSED)
def test_refused(kind: Kind[Any], text: str, what: str, where: str) -> None:
    with pytest.raises(WireError) as caught:
        read(kind, bytes.fromhex(text))
    assert (caught.value.what, caught.value.where) == (what, where)


UNWRITABLE: dict[str, tuple[Kind[Any], Any, str]] = {
    "negative": (U32, -1, "-1 is not from 0"),
    "too big": (U16, 65_536, "65536 is not from 0 to 65535"),
    "in a field": (PAIR, [1 << 32, "", b""], "Right: 4294967296 is not from 0"),
    "a text that never was bytes": (TEXT, "\ud800", "surrogates not allowed"),
    "an index beyond": (sparse(U8), (2, ((2, 0),)), "element 2 of 2"),
    "indices out of order": (sparse(U8), (9, ((2, 0), (1, 0))), "element 1 of 9, after element 2"),
}


@pytest.mark.parametrize(("kind", "value", "words"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_cannot_be_written_is_the_callers_mistake(
    kind: Kind[Any], value: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        kind.write(value)
    assert not isinstance(caught.value, WireError)


# --- against the other implementation ---------------------------------------------------------

binary = st.binary(max_size=300)
numbers = st.integers(-(1 << 63), BIG)
trees = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | binary | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20)
    ),
    max_leaves=20,
)


@given(trees, st.booleans(), binary)
def test_any_value_is_passed(tree: Any, new: bool, tail: bytes) -> None:
    data = other.packb(tree, use_bin_type=new)
    assert passed(data + tail, 0) == len(data)
    assert scan(data + tail, 0, 1) == (len(data), 0)
    unknown = b"\x82\xa1z" + data + b"\xa5Right\x07" + tail
    assert read(PAIR, unknown) == ([7, "", b""], len(unknown) - len(tail))


@given(trees, st.data())
def test_a_scan_goes_on_where_it_stopped(tree: Any, draw: st.DataObject) -> None:
    data = other.packb(tree, use_bin_type=True)
    at, left, end = 0, 1, 0
    while end < len(data):
        end = draw.draw(st.integers(end + 1, len(data)))
        before = at
        at, left = scan(data[:end], at, left)
        assert at >= before
        assert at > end - 9  # it lacks at most a part of one head
    assert (at, left) == (len(data), 0)


@given(st.binary(max_size=300) | st.integers(0, BIG) | st.booleans() | st.floats())
def test_scalars_are_written_as_the_other_one_writes_them(value: Any) -> None:
    kind: Kind[Any] = {bytes: BYTES, int: U64, bool: FLAG, float: FLOAT}[type(value)]
    assert kind.write(value) == other.packb(value, use_bin_type=False)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed_numbers_are_written_as_the_other_one_writes_them(value: int) -> None:
    assert I64.write(value) == other.packb(value)
    assert read(I64, I64.write(value))[0] == value


@given(st.integers(-(1 << 63), BIG), st.sampled_from("bBhHiIqQ"))
def test_a_number_of_any_width_is_read(value: int, form: str) -> None:
    try:
        body = struct.pack(">" + form, value)
    except struct.error:
        return
    head = {"b": 0xD0, "B": 0xCC, "h": 0xD1, "H": 0xCD, "i": 0xD2, "I": 0xCE, "q": 0xD3, "Q": 0xCF}
    kind = I64 if value < 0 else U64
    assert read(kind, bytes((head[form],)) + body) == (value, 1 + len(body))


@given(st.integers(0, (1 << 32) - 1), st.binary(max_size=50), st.binary(max_size=50))
def test_a_struct_is_written_as_the_other_one_writes_a_sorted_map(
    number: int, name: bytes, extra: bytes
) -> None:
    fields: dict[str, Any] = {"Left": name, "Right": number}
    if extra:
        fields = {"Extra": extra} | fields
    text = name.decode("utf-8", "surrogateescape")
    assert PAIR.write([number, text, extra]) == other.packb(fields, use_bin_type=False)


@given(st.lists(st.none() | st.integers(0, 255), max_size=60))
def test_a_sparse_array_is_an_array(values: list[int | None]) -> None:
    taken = tuple((index, value) for index, value in enumerate(values) if value is not None)
    data = sparse(U8).write((len(values), taken))
    assert data == other.packb(values)
    assert read(sparse(U8), data) == ((len(values), taken), len(data))


# --- kinds of kinds ---------------------------------------------------------------------------


def test_entries_come_until_the_first_that_is_bad() -> None:
    found = entries(U8, bytes.fromhex("83a16101a16202a163a0"), 0)
    assert next(found) == ("a", 1)
    assert next(found) == ("b", 2)
    with pytest.raises(WireError) as caught:
        next(found)
    assert caught.value.what == "malformed"
    with pytest.raises(WireError) as caught:
        list(entries(U8, bytes.fromhex("82a16101a162"), 0))
    assert caught.value.what == "truncated"


def test_a_kind_may_be_made_of_another() -> None:
    hexed = mapped(BYTES, bytes.hex, bytes.fromhex)
    assert hexed.write("00ff") == b"\xa2\x00\xff"
    assert read(hexed, b"\xa2\x00\xff") == ("00ff", 3)
    assert hexed.zero == ""


def test_zeros_are_not_shared() -> None:
    first, _ = read(PAIR, b"\x80")
    first[0] = 9  # type: ignore[index]
    assert read(PAIR, b"\x80")[0] == [0, "", b""]


def test_limits_of_what_is_passed_and_read() -> None:
    within = b"\xdd" + MAX_PASSED.to_bytes(4, "big") + b"\xc0" * MAX_PASSED
    assert passed(within, 0) == len(within)
    with pytest.raises(WireError, match="announces 65537 elements"):
        passed(b"\xdd" + (MAX_PASSED + 1).to_bytes(4, "big") + b"\xc0" * (MAX_PASSED + 1), 0)
    many = b"\xdd" + MAX_ELEMENTS.to_bytes(4, "big") + b"\xc0" * MAX_ELEMENTS
    assert read(sparse(U8), many)[0] == (MAX_ELEMENTS, ())
    with pytest.raises(WireError, match="announces 1048577 elements"):
        read(sparse(U8), b"\xdd" + (MAX_ELEMENTS + 1).to_bytes(4, "big") + bytes(MAX_ELEMENTS + 1))
