"""The msgpack dialect of memberlist and Serf (spec memberlist.md, section 3; serf.md, 1.2).

Go writes msgpack as it was before 2013: text and bytes are both *raw* (a0 to bf, da, db),
numbers take their shortest unsigned form, and a struct is a map from its fields' names, in byte
order, to their values. A nil is c0. Writers are strict, readers lenient: fields may come in any
order, be unknown, missing or nil (which means zero), be there twice (the last counts); a struct
may be an array in order of declaration; numbers may be of any width, texts of any kind, bytes
even an array of numbers; what follows a value is ignored. Two generations of Go's codec differ
in little: the newer one writes positive signed numbers in signed forms and takes *bin* for a
text. Here both are read, and the older is written, which everybody reads.

A ``Kind`` says how one sort of value is read and written; ``record``, ``array``, ``mapping`` and
``optional`` make kinds of kinds. So a message is declared once, and both ways follow::

    SUSPECT = record(("Incarnation", U32), ("Node", TEXT), ("From", TEXT))
    SUSPECT.write([3, "n2", "n1"])  # 83 a4"From" a2"n1" ab"Incarnation" 03 a4"Node" a2"n2"

Nothing is allocated on the word of a stranger: a length is compared with the bytes at hand
before it is used, and arrays grow as their elements arrive. Values that nobody asked for are
not built at all, only passed (``scan``), without recursion; so there is no depth to be limited.

Why not the C extension: from bytes to checked fields an alive takes 2.0 us here and 0.8 us with
``msgpack.unpackb`` (CPython 3.11), writing takes 1.2 and 0.5; but in a datagram's 64 KiB arrays
may nest, each of which announces as many elements as there are bytes, and ``unpackb`` allocates
half a gigabyte for them; maps with numbers as keys can be made to collide; and what follows a
value, as in UDP bodies and push/pulls, comes as an exception with a copy of it. A strict fast
path in front of a lenient slow one would be two readers that have to agree. This is one, and
the tests compare what it writes and passes with the other's.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

from swimsim.wire.errors import WireError

T = TypeVar("T")
U = TypeVar("U")

NIL = 0xC0
NIL_BYTE = b"\xc0"
MAX_PASSED = 65_536  # values within an unknown field
MAX_ELEMENTS = 1_048_576  # elements of an array or a map

Reader: TypeAlias = Callable[[bytes, int], tuple[T, int]]  # data, at -> value, at behind it
Writer: TypeAlias = Callable[[T], bytes]


class Kind(Struct, Generic[T], frozen=True):
    """One sort of value: how it is read and written, and what it is when it is missing or nil."""

    read: Reader[T]
    write: Writer[T]
    zero: T


def read(kind: Kind[T], data: bytes, at: int = 0) -> tuple[T, int]:
    """The value at ``at`` and where it ends; raises ``WireError``."""
    try:
        return kind.read(data, at)
    except IndexError:
        raise _truncated(data) from None


def _truncated(data: bytes) -> WireError:
    return WireError("truncated", "ends within a value", f"byte {len(data)}")


def _unfit(data: bytes, at: int, expected: str, origin: int = 0) -> WireError:
    text = f"expected {expected}, found {data[at]:02x}"
    return WireError("malformed", text, f"byte {origin + at}")


# --- numbers ----------------------------------------------------------------------------------

_SIZES = {  # of a number, and whether it has a sign
    **{0xCC + power: (1 << power, False) for power in range(4)},
    **{0xD0 + power: (1 << power, True) for power in range(4)},
}
_SMALL = [bytes((value,)) for value in range(128)]


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A number of any form; nil is 0."""
    head = data[at]
    if head <= 0x7F:
        return head, at + 1
    if head >= 0xE0:
        return head - 0x100, at + 1
    if head == NIL:
        return 0, at + 1
    if head not in _SIZES:
        raise _unfit(data, at, "a number")
    size, signed = _SIZES[head]
    stop = at + 1 + size
    if stop > len(data):
        raise _truncated(data)
    return int.from_bytes(data[at + 1 : stop], "big", signed=signed), stop


def _write_unsigned(value: int) -> bytes:
    if value <= 0x7F:
        return _SMALL[value]
    if value <= 0xFF:
        return b"\xcc" + value.to_bytes(1, "big")
    if value <= 0xFFFF:
        return b"\xcd" + value.to_bytes(2, "big")
    if value <= 0xFFFF_FFFF:
        return b"\xce" + value.to_bytes(4, "big")
    return b"\xcf" + value.to_bytes(8, "big")


def _write_negative(value: int) -> bytes:
    if value >= -32:
        return (value + 0x100).to_bytes(1, "big")
    power = next(power for power in range(4) if value >= -1 << (8 << power) - 1)
    return bytes((0xD0 + power,)) + value.to_bytes(1 << power, "big", signed=True)


def _number(least: int, most: int) -> Kind[int]:
    """Numbers from ``least`` to ``most``."""

    def take(data: bytes, at: int) -> tuple[int, int]:
        head = data[at]
        if head <= 0x7F:
            return head, at + 1
        value, stop = _integer(data, at)
        if not least <= value <= most:
            text = f"{value} is not from {least} to {most}"
            raise WireError("out-of-range", text, f"byte {at}")
        return value, stop

    def write(value: int) -> bytes:
        if not least <= value <= most:
            raise ValueError(f"{value} is not from {least} to {most}")
        return _write_unsigned(value) if value >= 0 else _write_negative(value)

    return Kind(take, write, 0)


U8 = _number(0, 0xFF)
U16 = _number(0, 0xFFFF)
U32 = _number(0, 0xFFFF_FFFF)
U64 = _number(0, (1 << 64) - 1)
I64 = _number(-1 << 63, (1 << 63) - 1)


def _read_flag(data: bytes, at: int) -> tuple[bool, int]:
    head = data[at]
    if head in (0xC2, 0xC3):
        return head == 0xC3, at + 1
    value, stop = _integer(data, at)
    if value not in (0, 1):
        raise _unfit(data, at, "a truth value")
    return value == 1, stop


FLAG: Kind[bool] = Kind(_read_flag, lambda value: b"\xc3" if value else b"\xc2", False)


def _read_float(data: bytes, at: int) -> tuple[float, int]:
    head = data[at]
    if head not in (0xCA, 0xCB):
        return _integer(data, at)
    form = ">f" if head == 0xCA else ">d"
    stop = at + 1 + struct.calcsize(form)
    if stop > len(data):
        raise _truncated(data)
    (value,) = struct.unpack_from(form, data, at + 1)
    return value, stop


FLOAT: Kind[float] = Kind(_read_float, lambda value: b"\xcb" + struct.pack(">d", value), 0.0)


# --- text and bytes ---------------------------------------------------------------------------

_LENGTHS = {0xDA: 2, 0xDB: 4, 0xD9: 1, 0xC4: 1, 0xC5: 2, 0xC6: 4}  # bytes that hold the length
_HEADS = [bytes((0xA0 + size,)) for size in range(32)]


def _read_raw(data: bytes, at: int) -> tuple[bytes, int]:
    """A text or bytes, in the form of raw, str8 or bin; nil is empty."""
    head = data[at]
    if 0xA0 <= head <= 0xBF:
        start, stop = at + 1, at + head - 0x9F
    elif head in _LENGTHS:
        start = at + 1 + _LENGTHS[head]
        stop = start + int.from_bytes(data[at + 1 : start], "big")
    elif head == NIL:
        return b"", at + 1
    else:
        raise _unfit(data, at, "a text or bytes")
    if stop > len(data) or start > len(data):
        raise _truncated(data)
    return data[start:stop], stop


def _write_raw(value: bytes) -> bytes:
    size = len(value)
    if size <= 31:
        return _HEADS[size] + value
    if size <= 0xFFFF:
        return b"\xda" + size.to_bytes(2, "big") + value
    return b"\xdb" + size.to_bytes(4, "big") + value


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """Bytes; also as an array of numbers."""
    head = data[at]
    if 0xA0 <= head <= 0xBF:
        stop = at + head - 0x9F
        if stop > len(data):
            raise _truncated(data)
        return data[at + 1 : stop], stop
    if 0x90 <= head <= 0x9F or head in (0xDC, 0xDD):
        numbers, stop = _NUMBERS.read(data, at)
        return bytes(numbers), stop
    return _read_raw(data, at)


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    value, stop = _read_raw(data, at)
    return value.decode("utf-8", "surrogateescape"), stop


def _write_text(value: str) -> bytes:
    return _write_raw(value.encode("utf-8", "surrogateescape"))


TEXT: Kind[str] = Kind(_read_text, _write_text, "")
"""A text. What is not UTF-8 in it survives as ``surrogateescape``."""

BYTES: Kind[bytes] = Kind(_read_bytes, _write_raw, b"")
"""Bytes, written as a0 when there are none."""

BYTES_OR_NIL: Kind[bytes] = Kind(
    _read_bytes, lambda value: _write_raw(value) if value else NIL_BYTE, b""
)
"""Bytes, written as c0 when there are none, as Go writes a slice that was never made."""


# --- kinds of kinds ---------------------------------------------------------------------------


def optional(kind: Kind[T]) -> Kind[T | None]:
    """``kind``, or nil where nil is not the same as zero."""

    def take(data: bytes, at: int) -> tuple[T | None, int]:
        return (None, at + 1) if data[at] == NIL else kind.read(data, at)

    def write(value: T | None) -> bytes:
        return NIL_BYTE if value is None else kind.write(value)

    return Kind(take, write, None)


def _count(data: bytes, at: int, small: int, wide: int) -> tuple[int, int]:
    """How many entries the array (90, dc) or map (80, de) at ``at`` has, and where they begin."""
    head = data[at]
    if small <= head <= small + 15:
        return head - small, at + 1
    if head == NIL:
        return 0, at + 1
    if head not in (wide, wide + 1):
        raise _unfit(data, at, "an array" if small == 0x90 else "a map")
    start = at + (3 if head == wide else 5)
    if start > len(data):
        raise _truncated(data)
    count = int.from_bytes(data[at + 1 : start], "big")
    if count > MAX_ELEMENTS:
        raise WireError("too-large", f"announces {count} elements", f"byte {at}")
    if count > len(data) - start:
        text = f"announces {count} elements in {len(data) - start} bytes"
        raise WireError("truncated", text, f"byte {at}")
    return count, start


def head(count: int, small: int, wide: int) -> bytes:
    """The head of an array (90, dc) or a map (80, de)."""
    if count <= 15:
        return bytes((small + count,))
    if count <= 0xFFFF:
        return bytes((wide,)) + count.to_bytes(2, "big")
    return bytes((wide + 1,)) + count.to_bytes(4, "big")


def array(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """An array of one kind; nil is empty."""
    element = kind.read

    def take(data: bytes, at: int) -> tuple[tuple[T, ...], int]:
        count, at = _count(data, at, 0x90, 0xDC)
        values: list[T] = []
        for _ in range(count):
            value, at = element(data, at)
            values.append(value)
        return tuple(values), at

    def write(values: tuple[T, ...]) -> bytes:
        return head(len(values), 0x90, 0xDC) + b"".join(map(kind.write, values))

    return Kind(take, write, ())


_NUMBERS = array(U8)


def mapping(kind: Kind[T]) -> Kind[tuple[tuple[str, T], ...]]:
    """A map from texts to one kind, in the order in which it was written; nil is empty.

    Of a key that is there twice the last value counts.
    """

    def take(data: bytes, at: int) -> tuple[tuple[tuple[str, T], ...], int]:
        count, at = _count(data, at, 0x80, 0xDE)
        entries: dict[str, T] = {}
        for _ in range(count):
            key, at = _read_text(data, at)
            entries[key], at = kind.read(data, at)
        return tuple(entries.items()), at

    def write(entries: tuple[tuple[str, T], ...]) -> bytes:
        written = [_write_text(key) + kind.write(value) for key, value in entries]
        return head(len(entries), 0x80, 0xDE) + b"".join(written)

    return Kind(take, write, ())


def entries(kind: Kind[T], data: bytes, at: int) -> Iterator[tuple[str, T]]:
    """The entries of a map one after another; raises ``WireError`` at the first that is bad."""
    try:
        count, at = _count(data, at, 0x80, 0xDE)
        for _ in range(count):
            key, at = _read_text(data, at)
            value, at = kind.read(data, at)
            yield key, value
    except IndexError:
        raise _truncated(data) from None


def mapped(kind: Kind[T], make: Callable[[T], U], take: Callable[[U], T]) -> Kind[U]:
    """``kind`` for values that are made of its values and taken apart into them again."""
    inner = kind.read

    def reader(data: bytes, at: int) -> tuple[U, int]:
        value, at = inner(data, at)
        return make(value), at

    return Kind(reader, lambda value: kind.write(take(value)), make(kind.zero))


_NILS = re.compile(rb"\xc0*")


def sparse(kind: Kind[T]) -> Kind[tuple[int, tuple[tuple[int, T], ...]]]:
    """An array that is mostly nil: its length, and the elements that are not with their index."""

    def take(data: bytes, at: int) -> tuple[tuple[int, tuple[tuple[int, T], ...]], int]:
        count, at = _count(data, at, 0x90, 0xDC)
        values: list[tuple[int, T]] = []
        index = 0
        while index < count:
            nils = _NILS.match(data, at, at + count - index)
            assert nils is not None  # it matches nothing as well
            index, at = index + nils.end() - at, nils.end()
            if index < count:
                value, at = kind.read(data, at)
                values.append((index, value))
                index += 1
        return (count, tuple(values)), at

    def write(array: tuple[int, tuple[tuple[int, T], ...]]) -> bytes:
        count, values = array
        parts = [head(count, 0x90, 0xDC)]
        index = 0
        for place, value in values:
            if not index <= place < count:
                raise ValueError(f"element {place} of {count}, after element {index - 1}")
            parts += (NIL_BYTE * (place - index), kind.write(value))
            index = place + 1
        parts.append(NIL_BYTE * (count - index))
        return b"".join(parts)

    return Kind(take, write, (0, ()))


Field: TypeAlias = tuple[str, Kind[Any]] | tuple[str, Kind[Any], Literal["omitted"]]


def record(*fields: Field, declared: bool = True) -> Kind[Sequence[Any]]:
    """A struct: the values of its fields, in the order in which they are given here.

    That is the order of declaration, in which an array is read; ``declared=False`` where it is
    not known and arrays are refused. A field marked ``"omitted"`` is left out when it is zero.
    """
    zeros = [kind.zero for _, kind, *_ in fields]
    from_array = _array_reader(fields, zeros) if declared else None
    return Kind(_record_reader(fields, zeros, from_array), _record_writer(fields), zeros)


def _record_reader(
    fields: Sequence[Field], zeros: list[Any], from_array: Reader[Sequence[Any]] | None
) -> Reader[Sequence[Any]]:
    places = {
        name.encode(): (slot, kind.read, name) for slot, (name, kind, *_) in enumerate(fields)
    }

    def take(data: bytes, at: int) -> tuple[Sequence[Any], int]:
        head = data[at]
        if 0x80 <= head <= 0x8F:
            count, at = head - 0x80, at + 1
        elif head == 0x90:  # an array of nothing needs no order
            return zeros.copy(), at + 1
        elif from_array and (0x90 <= head <= 0x9F or head in (0xDC, 0xDD)):
            return from_array(data, at)
        else:
            count, at = _count(data, at, 0x80, 0xDE)
        values = zeros.copy()
        for _ in range(count):
            head = data[at]
            if 0xA0 <= head <= 0xBF:
                stop = at + head - 0x9F
                key, at = data[at + 1 : stop], stop
            else:
                key, at = _read_raw(data, at)
            if key not in places:
                at = passed(data, at)
                continue
            slot, element, name = places[key]
            try:
                values[slot], at = element(data, at)
            except IndexError:
                raise _truncated(data).within(name) from None
            except WireError as error:
                raise error.within(name) from None
        return values, at

    return take


def _array_reader(fields: Sequence[Field], zeros: list[Any]) -> Reader[Sequence[Any]]:
    def take(data: bytes, at: int) -> tuple[Sequence[Any], int]:
        count, at = _count(data, at, 0x90, 0xDC)
        values = zeros.copy()
        for slot, (name, kind, *_) in enumerate(fields[:count]):
            try:
                values[slot], at = kind.read(data, at)
            except IndexError:
                raise _truncated(data).within(name) from None
            except WireError as error:
                raise error.within(name) from None
        return values, passed(data, at, max(0, count - len(fields)))

    return take


def _record_writer(fields: Sequence[Field]) -> Writer[Sequence[Any]]:
    in_order = sorted(
        (name, _write_text(name), slot, kind.write, bool(omitted))
        for slot, (name, kind, *omitted) in enumerate(fields)
    )

    def write(values: Sequence[Any]) -> bytes:
        parts = [b""]
        for name, key, slot, put, omitted in in_order:
            value = values[slot]
            if value or not omitted:
                try:
                    parts += (key, put(value))
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
        parts[0] = head(len(parts) >> 1, 0x80, 0xDE)
        return b"".join(parts)

    return write


# --- values that are only passed --------------------------------------------------------------

_COUNTED = {  # by head: bytes of the count, values for each counted, bytes on top of them
    **{head: (size, 0, 0) for head, size in _LENGTHS.items()},
    **{0xC7 + power: (1 << power, 0, 1) for power in range(3)},  # ext: a byte for its type
    **{0xDC + power: (2 << power, 1, 0) for power in range(2)},
    **{0xDE + power: (2 << power, 2, 0) for power in range(2)},
}
_FIXED = {0xCA: 4, 0xCB: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # floats and fixext


def _extent(head: int) -> tuple[int, int]:
    """Bytes and inner values of what has this head; 0 bytes when it counts them, or is nothing."""
    if 0x80 <= head <= 0x8F:
        return 1, 2 * (head - 0x80)
    if 0x90 <= head <= 0x9F:
        return 1, head - 0x90
    if 0xA0 <= head <= 0xBF:
        return 1 + head - 0xA0, 0
    if head in _COUNTED or head == 0xC1:
        return 0, 0
    return 1 + (_SIZES[head][0] if head in _SIZES else _FIXED.get(head, 0)), 0


_EXTENTS = [_extent(head) for head in range(256)]


def scan(
    data: bytes, at: int, left: int, limit: int = MAX_PASSED, origin: int = 0
) -> tuple[int, int]:
    """Pass ``left`` values: where the next one begins, and how many are left.

    When ``data`` ends first, some are left and the scan goes on from there with more data: the
    place is that of a head which is not complete, or beyond the end of ``data``. At the end of
    the last value it may be beyond the end as well. ``limit`` bounds how many values may be
    announced at once; ``origin`` is where ``data`` begins, for the words of a refusal.
    """
    size = len(data)
    while left and at < size:
        head = data[at]
        step, inner = _EXTENTS[head]
        if step:
            at += step
            left += inner - 1
            continue
        if head == 0xC1:
            raise _unfit(data, at, "a value", origin)
        width, values, extra = _COUNTED[head]
        start = at + 1 + width
        if start > size:
            break
        count = int.from_bytes(data[at + 1 : start], "big")
        left += values * count - 1
        if left > limit:
            text = f"announces {count} elements"
            raise WireError("too-large", text, f"byte {origin + at}")
        at = start if values else start + count + extra
    return at, left


def passed(data: bytes, at: int, left: int = 1) -> int:
    """Where ``left`` values that begin at ``at`` end."""
    at, left = scan(data, at, left)
    if left or at > len(data):
        raise _truncated(data)
    return at
