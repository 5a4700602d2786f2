"""LZW as memberlist compresses with it (spec memberlist.md, section 2.6).

A text becomes *codes*: 0 to 255 stand for the bytes themselves, 256 (``CLEAR``) empties the
dictionary, 257 (``END``) ends the stream, and from 258 on each code stands for a string seen
before. Writer and reader build the same dictionary without sending it: whenever the writer
emits a code for the longest string it knows, it adds that string plus the byte that follows.
The reader learns that byte one code later, so its dictionary lags by one entry, and a code
that it is just about to add can only mean the previous string plus its own first byte.

Codes are packed least significant bit first. They are 9 bits wide after a ``CLEAR`` and grow
by a bit when the count of codes since reaches 255, 767 and 1791, up to 12 bits. When the
writer would have to name entry 4095 it clears instead. The reader is more patient: with a full
dictionary it reads on, 12 bits a time, until somebody clears.

Byte for byte what Go's ``compress/lzw`` writes (order LSB, literals of 8 bits). The writer keeps
its dictionary as one flat ``dict`` from (code, byte) to code; a trie of dicts is 1.6 times as
fast on a push/pull but 1.6 times as slow on the packets of a hundred bytes that gossip consists of.
The reader takes codes out of the stream up to 256 at a time, eight codes of ``w`` bits from ``w``
bytes. 105 kB of push/pull compress in some 12 ms and decompress in 2.
"""

from __future__ import annotations

from itertools import islice

from swimsim.wire.errors import WireError

CLEAR = 256
END = 257
FULL = 4095  # the entry that is never written
MAX_WIDTH = 12

_RUN = 256  # codes taken out at a time; bounds what is produced between two looks at the limit
_CHUNK = 256  # bits gathered before they become bytes
_CHUNK_MASK = (1 << _CHUNK) - 1
_LITERALS = [bytes((byte,)) for byte in range(256)] + [b"", b""]  # CLEAR and END mean no text


def compress(data: bytes) -> bytes:
    """``data`` as an LZW stream."""
    out = bytearray()
    pending, bits = CLEAR, 9  # codes not yet in ``out``, and how many bits they take
    width, last, overflow = 9, END, 512  # last: the newest entry
    entries: dict[int, int] = {}
    if data:
        prefix = data[0]
        for byte in islice(data, 1, None):
            pair = prefix << 8 | byte
            if pair in entries:
                prefix = entries[pair]
                continue
            pending |= prefix << bits
            bits += width
            last += 1
            if last == overflow:
                width, overflow = width + 1, overflow << 1
            if last == FULL:
                pending |= CLEAR << bits
                bits += width
                width, last, overflow = 9, END, 512
                entries.clear()
            else:
                entries[pair] = last
            prefix = byte
            if bits >= _CHUNK:
                out += (pending & _CHUNK_MASK).to_bytes(_CHUNK // 8, "little")
                pending, bits = pending >> _CHUNK, bits - _CHUNK
        pending |= prefix << bits
        bits += width
        last += 1  # nothing follows to be added, and yet the width of END goes by this count
        if last == FULL:
            pending |= CLEAR << bits
            bits, width = bits + width, 9
        elif last == overflow:
            width += 1
    pending |= END << bits
    bits += width
    return bytes(out + pending.to_bytes(-(-bits // 8), "little"))


def decompress(data: bytes, limit: int) -> bytes:
    """The text of an LZW stream; raises ``WireError``, also when it has more than ``limit`` bytes.

    What follows ``END`` is ignored. Of a text over the limit at most 1 MiB too many is produced.
    """
    texts: list[bytes] = []  # of each run of codes
    size = 0
    entries = _LITERALS.copy()
    at, end, width = 0, 8 * len(data), 9
    previous = b""  # the string before this one; none right after a CLEAR
    code = CLEAR
    while code != END:
        room = (1 << width) - len(entries) + (not previous)  # after a CLEAR one code adds nothing
        used, step = min(room or _RUN, _RUN, (end - at) // width), width
        if used == 0:
            raise WireError("compression", f"{len(data)} bytes of LZW without an end code")
        grow = entries.append if room else _ignore  # a full dictionary takes nothing more
        strings: list[bytes] = []
        for place, code in enumerate(_codes(data, at, width, used)):
            if code < len(entries):
                string = entries[code]
            elif code == len(entries) and previous:
                string = previous + previous[:1]
            else:
                bit = at + place * width
                raise WireError("compression", f"LZW code {code} names no entry", f"bit {bit}")
            if string:
                strings.append(string)
                if previous:
                    grow(previous + string[:1])
                previous = string
                continue
            if code == END:
                break
            del entries[len(_LITERALS) :]
            previous = b""
            if width > 9:  # the codes that follow were cut at the old width
                used, width = place + 1, 9
                break
        at += used * step
        texts.append(b"".join(strings))
        size += len(texts[-1])
        if size > limit:
            raise WireError("too-large", f"decompresses to more than {limit} bytes")
        if len(entries) == 1 << width and width < MAX_WIDTH:
            width += 1
    return b"".join(texts)


def _ignore(entry: bytes) -> None:
    """Where entries go that find no room."""


def _codes(data: bytes, at: int, width: int, count: int) -> list[int]:
    """``count`` codes of ``width`` bits each, from bit ``at`` of ``data`` on."""
    first, last = at >> 3, (at + count * width + 7) >> 3
    bits = int.from_bytes(data[first:last], "little") >> (at & 7)
    packed = bits.to_bytes(last - first + width, "little")
    mask = (1 << width) - 1
    codes: list[int] = []
    for start in range(0, -(-count // 8) * width, width):
        eight = int.from_bytes(packed[start : start + width], "little")
        codes += (
            eight & mask,
            eight >> width & mask,
            eight >> 2 * width & mask,
            eight >> 3 * width & mask,
            eight >> 4 * width & mask,
            eight >> 5 * width & mask,
            eight >> 6 * width & mask,
            eight >> 7 * width & mask,
        )
    del codes[count:]
    return codes
