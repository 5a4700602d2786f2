"""What packets and streams have in common around a message (spec memberlist.md, section 2).

An ``Envelope`` is how a node wraps what it sends and what it demands of what it gets: the
cluster's label, its keys, whether to compress, and the limits that hold for strangers' bytes.
This module has the layers that both carriers know; ``packet`` and ``stream`` put them together.

====================  =============================================  ===========
layer                 bytes                                          spec
====================  =============================================  ===========
label                 ``f4 | n | n bytes | rest``                    2.3
encryption            ``version | nonce | ciphertext | tag``         2.4
compression           ``09 | {Algo: 0, Buf: LZW of the rest}``       2.6
====================  =============================================  ===========
"""

from __future__ import annotations

from msgspec import Struct

from swimsim.wire import lzw
from swimsim.wire.errors import WireError
from swimsim.wire.keyring import Keyring, Version
from swimsim.wire.msgpack import BYTES, U8, read, record

LABEL = 244
COMPRESS = 9
MAX_LABEL = 255
MAX_REFUSALS = 255  # complaints about parts of one packet or stream that are kept
MIB = 1 << 20

_COMPRESSED = record(("Algo", U8), ("Buf", BYTES))
_LZW = 0


class Limits(Struct, frozen=True, gc=False):
    """How much of a stranger's bytes is looked at.

    Those of streams are memberlist's own. Go lets each compressed layer of a packet grow to
    40 MiB; no node sends more than a datagram's worth before it compresses.
    """

    packet: int = 1 * MIB  # bytes to which all compressed layers of one packet may add up
    layers: int = 3  # compressed layers and compounds within one another
    frame: int = 20 * MIB  # bytes of an encrypted stream
    stream: int = 40 * MIB  # bytes of a plain stream
    decompressed: int = 40 * MIB  # bytes of a stream that was compressed
    user: int = 20 * MIB  # the application's bytes in a push/pull or in a message on a stream
    nodes: int = 1_048_576  # records in a push/pull; so many take some 400 MB


class Envelope(Struct, frozen=True, gc=False):
    """How a node wraps what it sends, and what it demands of what it gets."""

    label: bytes = b""  # the cluster's, at most 255 bytes; empty: none
    skip_label_check: bool = False  # somebody in front strips the label and checks it
    keyring: Keyring | None = None  # None: no encryption
    encryption_version: Version = 1
    verify_incoming: bool = True  # refuse what is not encrypted, if there are keys
    verify_outgoing: bool = True  # encrypt, if there are keys
    compress: bool = True
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if len(self.label) > MAX_LABEL:
            raise ValueError(f"label has {len(self.label)} bytes, expected at most {MAX_LABEL}")
        if self.encryption_version not in (0, 1):
            raise ValueError(f"encryption version is {self.encryption_version}, expected 0 or 1")

    @property
    def outgoing(self) -> Keyring | None:
        """The keys with which to encrypt what is sent."""
        return self.keyring if self.verify_outgoing else None


PLAIN = Envelope(compress=False)
"""Neither label, keys nor compression."""


def label_header(label: bytes) -> bytes:
    """What goes before everything else in a cluster that has a label."""
    return bytes((LABEL, len(label))) + label if label else b""


def label_end(data: bytes, envelope: Envelope) -> int:
    """Where the label header ends, if its label is the right one; raises ``WireError``.

    Raises IndexError when ``data`` ends within it.
    """
    label = b""
    end = 0
    if data[0] == LABEL:
        end = 2 + data[1]
        if end == 2:
            raise WireError("label", "a label header without a label", "byte 1")
        label = data[2:end]
        if len(data) < end:
            raise IndexError
    if envelope.skip_label_check:
        if label:
            raise WireError("label", "a label where another was stripped before")
    elif label != envelope.label:
        raise WireError("label", f"label {label!r}, expected {envelope.label!r}")
    return end


def compressed(plain: bytes) -> bytes:
    """``plain`` as a compressed message."""
    return bytes((COMPRESS,)) + _COMPRESSED.write((_LZW, lzw.compress(plain)))


def decompressed(data: bytes, limit: int) -> bytes:
    """What a compressed message holds, not empty; raises ``WireError``."""
    (algorithm, packed), _ = read(_COMPRESSED, data, 1)
    if algorithm != _LZW:
        raise WireError("compression", f"algorithm {algorithm}, expected 0", "Algo")
    plain = lzw.decompress(packed, limit)
    if not plain:
        raise WireError("empty", "nothing was compressed")
    return plain
