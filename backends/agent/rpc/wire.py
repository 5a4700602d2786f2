"""The bytes of RPC: msgpack values back to back (spec serf.md, 4.1).

A request is a header ``{Command, Seq}`` and, for most commands, a body; a response a header
``{Error, Seq}`` and, for some commands, a body. No frame tells where a value ends, so
``Values`` finds the ends: it passes over what has come without building anything, and a value
that announces more than its limit is refused before it is there.

This is the modern dialect, in which text and bytes are different things, so ``encode`` is the
msgpack library's. Requests are read with ``swimsim.wire``'s kinds, lenient as Go's codec is:
fields may be missing, unknown or nil, a payload may be written as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgpack

from swimsim.wire.errors import WireError
from swimsim.wire.msgpack import (
    BYTES,
    FLAG,
    I64,
    MAX_PASSED,
    TEXT,
    U8,
    U64,
    Kind,
    array,
    mapping,
    optional,
    record,
    scan,
)

MAX_REQUEST = 1 << 20  # bytes of one value that a server takes
MAX_RESPONSE = 1 << 28  # and a client: the members of the largest cluster fit well
VERSION = 1

HEADER = record(("Command", optional(TEXT)), ("Seq", optional(U64)))
"""A request's header; what is missing is that of the request before (``session``)."""

_KEY = record(("Key", TEXT))
BODIES: Mapping[str, Kind[Any] | None] = {
    "handshake": record(("Version", I64)),
    "auth": record(("AuthKey", TEXT)),
    "event": record(("Name", TEXT), ("Payload", optional(BYTES)), ("Coalesce", FLAG)),
    "force-leave": record(("Node", TEXT), ("Prune", FLAG), ("Force", FLAG), declared=False),
    "join": record(("Existing", array(TEXT)), ("Replay", FLAG)),
    "members": None,
    "members-filtered": record(
        ("Tags", mapping(TEXT)), ("Status", TEXT), ("Name", TEXT), declared=False
    ),
    "tags": record(("Tags", mapping(TEXT)), ("DeleteTags", array(TEXT))),
    "stream": record(("Type", TEXT)),
    "monitor": record(("LogLevel", TEXT)),
    "stop": record(("Stop", U64)),
    "leave": None,
    "query": record(
        ("FilterNodes", array(TEXT)),
        ("FilterTags", mapping(TEXT)),
        ("RequestAck", FLAG),
        ("RelayFactor", U8),
        ("Timeout", I64),
        ("Name", TEXT),
        ("Payload", optional(BYTES)),
    ),
    "respond": record(("ID", U64), ("Payload", optional(BYTES))),
    "install-key": _KEY,
    "use-key": _KEY,
    "remove-key": _KEY,
    "list-keys": None,
    "stats": None,
    "get-coordinate": record(("Node", TEXT)),
    "why": record(("Node", TEXT)),
}
"""Every command and the fields of its body, in Serf's order. ``why`` and ``Force`` are ours."""


class Values:
    """The values in a stream of bytes. A value of more than ``limit`` bytes is refused."""

    def __init__(self, limit: int, elements: int = MAX_PASSED) -> None:
        self._limit = limit
        self._elements = elements
        self._data = bytearray()
        self._at = 0  # where the scan goes on; it may be beyond the end
        self._left = 1  # values to pass until the end of the first one

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._data += data

    def take(self) -> bytes | None:
        """The next value, once it is complete; raises ``WireError`` on what is none."""
        data = cast(bytes, self._data)  # it is only looked at
        self._at, self._left = scan(data, self._at, self._left, self._elements)
        if self._at > self._limit:
            raise WireError("too-large", f"over {self._limit} bytes", "value")
        if self._left or self._at > len(data):
            if len(data) > self._limit:
                raise WireError("too-large", f"over {self._limit} bytes", "value")
            return None
        value = bytes(self._data[: self._at])
        del self._data[: self._at]
        self._at, self._left = 0, 1
        return value


def encode(*values: Any) -> bytes:
    """The values one after another, keys in byte order as Go writes them."""
    return b"".join(_packed(_sorted(value)) for value in values)


def _packed(value: Any) -> bytes:
    return cast(bytes, msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape"))


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [_sorted(each) for each in value]
        case _:
            return value


def decode(data: bytes) -> Any:
    """One complete value, as ``Values`` gives it: it is known to announce no more than it has."""
    try:
        return msgpack.unpackb(data, raw=False, unicode_errors="surrogateescape")
    except (ValueError, msgpack.exceptions.UnpackException, TypeError) as error:
        raise WireError("malformed", str(error) or type(error).__name__, "value") from None
