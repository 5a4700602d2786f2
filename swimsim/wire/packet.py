"""A packet: messages, and the layers around them (spec memberlist.md, sections 2.2 to 2.7).

From the outside in, each layer optional::

    label ( encryption ( CRC ( compression ( compound ( messages )))))

=============  ================================================================
compound       ``07 | count | count u16 lengths | parts``, each with its own type byte
compression    ``09 | {Algo: 0, Buf: LZW of the rest}``; only where it makes the packet shorter
CRC            ``0c | u32 CRC-32 of the rest | rest``; to nodes that are known to read it
encryption     ``version | nonce | ciphertext | tag``, no type byte; the label is authenticated
label          ``f4 | n | n bytes | rest``
=============  ================================================================

Readers unfold compounds and compressed messages in any nesting, here up to ``Limits.layers``;
within them a CRC, a label or an encrypted block are nothing but unknown types. A part of a
compound that cannot be read costs only itself. Memberlist 0.2.2 misreads compounds of 128
parts and more and crashes on an empty part, so neither is ever written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

from msgspec import Struct

from swimsim.messages import Message, size
from swimsim.wire.envelope import (
    COMPRESS,
    MAX_REFUSALS,
    Envelope,
    Limits,
    compressed,
    decompressed,
    label_end,
    label_header,
)
from swimsim.wire.errors import WireError
from swimsim.wire.keyring import seal, unseal
from swimsim.wire.messages import DECODERS
from swimsim.wire.messages import decode as decode_one
from swimsim.wire.messages import encode as encode_one

COMPOUND = 7
CRC = 12
MAX_PARTS = 127
MAX_PART = 0xFFFF


class Packet(Struct, frozen=True):
    """What a datagram said: its messages in order, and what in it could not be read."""

    messages: tuple[Message, ...]
    refusals: tuple[WireError, ...] = ()


# --- writing ----------------------------------------------------------------------------------


def encode(
    messages: Sequence[Message],
    envelope: Envelope,
    *,
    crc: bool = False,
    nonce: bytes | None = None,
) -> bytes:
    """The datagram of 1 to 127 messages; a lone one is not wrapped in a compound.

    ``crc`` for receivers that speak protocol version 5; ``nonce``, 12 bytes never used before,
    where the envelope encrypts. Raises ValueError where this cannot be done.
    """
    if not messages:
        raise ValueError("a packet of no messages")
    parts = [encode_one(each) for each in messages]
    body = parts[0] if len(parts) == 1 else compound(parts)
    if envelope.compress:
        shorter = compressed(body)
        body = shorter if len(shorter) < len(body) else body
    return enclosed(checksummed(body) if crc else body, envelope, nonce)


def split(messages: Iterable[Message]) -> list[tuple[Message, ...]]:
    """The messages in their order, in portions that ``encode`` takes.

    A user message that is too long for a compound is a portion of its own.
    """
    portions: list[tuple[Message, ...]] = []
    portion: list[Message] = []
    for each in messages:
        alone = size(each) > MAX_PART
        if portion and (alone or len(portion) == MAX_PARTS):
            portions.append(tuple(portion))
            portion = []
        if alone:
            portions.append((each,))
        else:
            portion.append(each)
    return [*portions, tuple(portion)] if portion else portions


def compound(parts: Sequence[bytes]) -> bytes:
    """Encoded messages as one compound."""
    if len(parts) > MAX_PARTS:
        raise ValueError(f"{len(parts)} parts, old nodes read at most {MAX_PARTS}: use split")
    for index, part in enumerate(parts):
        if not 1 <= len(part) <= MAX_PART:
            raise ValueError(f"part {index} has {len(part)} bytes, expected 1 to {MAX_PART}")
    lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
    return bytes((COMPOUND, len(parts))) + lengths + b"".join(parts)


def checksummed(body: bytes) -> bytes:
    """``body`` behind its CRC."""
    return bytes((CRC,)) + crc32(body).to_bytes(4, "big") + body


def enclosed(body: bytes, envelope: Envelope, nonce: bytes | None = None) -> bytes:
    """``body`` within encryption and label."""
    if envelope.outgoing is not None:
        if nonce is None:
            raise ValueError("encryption needs a nonce")
        body = seal(envelope.outgoing, body, nonce, envelope.label, envelope.encryption_version)
    return label_header(envelope.label) + body


# --- reading ----------------------------------------------------------------------------------


def decode(data: bytes, envelope: Envelope) -> Packet:
    """What a datagram says; raises ``WireError`` when it is bad as a whole."""
    body = _verified(opened(data, envelope))
    if body[0] in DECODERS:
        return Packet((decode_one(body),))
    return _unfolded(body, envelope.limits)


def opened(data: bytes, envelope: Envelope) -> bytes:
    """What is within label and encryption, not empty; raises ``WireError``."""
    if not data:
        raise WireError("empty", "an empty datagram")
    try:
        body = data[label_end(data, envelope) :]
    except IndexError:
        raise WireError("truncated", "ends within its label", f"byte {len(data)}") from None
    if envelope.keyring is not None:
        try:
            return unseal(envelope.keyring, body, envelope.label)
        except WireError:
            if envelope.verify_incoming:
                raise
    if not body:
        raise WireError("empty", "nothing after the label")
    return body


def _verified(body: bytes) -> bytes:
    """What is behind the CRC, if there is one."""
    if body[0] != CRC or len(body) < 5:
        return body
    said, body = int.from_bytes(body[1:5], "big"), body[5:]
    if said != crc32(body):
        raise WireError("checksum", f"CRC {crc32(body):08x}, the packet says {said:08x}")
    if not body:
        raise WireError("empty", "nothing after the CRC")
    return body


def _unfolded(body: bytes, limits: Limits) -> Packet:
    """The messages within compounds and compressed messages.

    Within a part of a compound whatever is wrong is a refusal; as long as there was no compound
    it is the whole that is bad. ``layers`` is a stack of what is still to be looked at: the
    bytes, and the numbers of the parts that lead to them; so messages keep their order.
    """
    messages: list[Message] = []
    refusals: list[WireError] = []
    budget = limits.packet
    layers: list[tuple[bytes, tuple[int, ...], int]] = [(body, (), 0)]
    while layers:
        body, path, depth = layers.pop()
        try:
            if not body:
                raise WireError("empty", "a message of no bytes")
            if body[0] not in (COMPOUND, COMPRESS):
                messages.append(decode_one(body))
            elif depth == limits.layers:
                raise WireError("too-deep", f"more than {depth} layers")
            elif body[0] == COMPRESS:
                plain = decompressed(body, budget)
                budget -= len(plain)
                layers.append((plain, path, depth + 1))
            else:
                parts, missing = _parts(body)
                inner = [(part, (*path, n), depth + 1) for n, part in enumerate(parts)]
                layers += reversed(inner)
                if missing:
                    _refuse(refusals, path, WireError("truncated", f"lacks {missing} parts"))
        except WireError as error:
            if not path:
                raise
            _refuse(refusals, path, error)
    return Packet(tuple(messages), tuple(refusals))


def _refuse(refusals: list[WireError], path: tuple[int, ...], error: WireError) -> None:
    for number in reversed(path):
        error = error.within(f"part {number}")
    if len(refusals) < MAX_REFUSALS:
        refusals.append(error)


def _parts(body: bytes) -> tuple[list[bytes], int]:
    """The parts of a compound that are all there, and how many are not."""
    if len(body) < 2:
        raise WireError("truncated", "a compound without a count", "byte 1")
    count = body[1]
    at = 2 + 2 * count
    if len(body) < at:
        raise WireError("truncated", f"a compound without its {count} lengths", "byte 2")
    parts: list[bytes] = []
    for place in range(2, at, 2):
        stop = at + (body[place] << 8 | body[place + 1])
        if stop > len(body):
            break
        parts.append(body[at:stop])
        at = stop
    return parts, count - len(parts)
