"""LZW once more, as spec memberlist.md 2.6 tells it: slow, and too simple to be wrong."""

from __future__ import annotations

from collections.abc import Iterable

from swimsim.wire.lzw import CLEAR, END


def packed(codes: Iterable[tuple[int, int]]) -> bytes:
    """Codes and their widths as bytes, the least significant bit first."""
    bits = "".join(f"{code:0{width}b}"[::-1] for code, width in codes)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))


def scheduled(codes: Iterable[int]) -> bytes:
    """Codes as bytes, their widths by the schedule of the specification."""
    since, widths = 0, []
    for code in codes:
        width = 9 if since < 255 else 10 if since < 767 else 11 if since < 1791 else 12
        widths.append((code, width))
        since = 0 if code == CLEAR else since + 1
    return packed(widths)


def dumb_codes(data: bytes) -> list[int]:
    """The codes of ``data``, found by trying ever longer strings."""
    codes, at = [CLEAR], 0
    entries: list[bytes] = []
    since = 0
    while at < len(data):
        size, code = 1, data[at]
        for index, entry in enumerate(entries):
            if len(entry) > size and data.startswith(entry, at):
                size, code = len(entry), 258 + index
        codes.append(code)
        at += size
        since += 1
        if since == 3838:
            codes.append(CLEAR)
            entries, since = [], 0
        elif at < len(data):
            entries.append(data[at - size : at + 1])
    return [*codes, END]


def dumb_text(data: bytes) -> bytes | None:
    """The text of a stream, or None for a bad one; code by code and bit by bit."""
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    text, entries, last, width, at = b"", {}, b"", 9, 0
    next_code = 257  # the decoder's hi
    while at + width <= len(bits):
        code = int(bits[at : at + width][::-1], 2)
        at += width
        if code == END:
            return text
        if code == CLEAR:
            entries, last, width, next_code = {}, b"", 9, 257
            continue
        if code < 256:
            string = bytes((code,))
        elif code in entries:
            string = entries[code]
        elif code == next_code and last:
            string = last + last[:1]
        else:
            return None
        text += string
        if last:
            entries[next_code] = last + string[:1]
        last = string
        next_code += 1
        if next_code == 1 << width:
            if width == 12:
                last, next_code = b"", 4095
            else:
                width += 1
    return None
