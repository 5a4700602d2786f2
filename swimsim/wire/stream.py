"""A stream: one message each way (spec memberlist.md, sections 2.2 to 2.4 and 5).

Who connects writes its label header, if it has one, and a message; who accepts may answer with
a message and never with a label. From the outside in, the first three optional::

    label header ( encryption ( compression ( message )))

=============  =====================================================================
message        ``type | map``; after a push/pull's header its node states, one map each,
               and the application's bytes; after a user message's header its bytes
compression    ``09 | {Algo: 0, Buf: LZW of the message}``; always, where it is switched on
encryption     ``0a | u32 length | block``; these five bytes and the label are authenticated
label header   ``f4 | n | n bytes``; once, from the side that connects
=============  =====================================================================

TCP delivers bytes in any portions. A ``Decoder`` is what has come so far: ``feed`` gives the
next one, and the message when it is complete, which the framing alone tells. It looks at each
byte a bounded number of times and holds its pieces so that a stream of n bytes costs
O(n log n) of copying however finely it was cut. Only what is complete is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from swimsim.member import Member, Status, peer
from swimsim.messages import Ack, Ping, PushPull, User
from swimsim.terms import Address
from swimsim.wire import messages
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
from swimsim.wire.errors import What, WireError
from swimsim.wire.keyring import OVERHEAD, seal, sealed_size, unseal
from swimsim.wire.msgpack import (
    BYTES_OR_NIL,
    FLAG,
    I64,
    MAX_PASSED,
    TEXT,
    U16,
    U32,
    read,
    record,
    scan,
)

PUSH_PULL = 6
ENCRYPT = 10
ERROR = 13
FRAME = 5  # type byte and length of an encrypted block


class ErrorReply(Struct, frozen=True, gc=False):
    """The other side could not read the request, and says why."""

    text: str


StreamMessage: TypeAlias = PushPull | Ping | Ack | User | ErrorReply

_HEADER = record(("Nodes", I64), ("UserStateLen", I64), ("Join", FLAG))
_STATE = record(
    ("Name", TEXT),
    ("Addr", BYTES_OR_NIL),
    ("Port", U16),
    ("Meta", BYTES_OR_NIL),
    ("Incarnation", U32),
    ("State", I64),
    ("Vsn", BYTES_OR_NIL),
)
_USER = record(("UserMsgLen", I64))
_ERROR = record(("Error", TEXT))
_STATUSES = tuple(Status)


# --- writing ----------------------------------------------------------------------------------


def encode(
    message: StreamMessage, envelope: Envelope, *, first: bool, nonce: bytes | None = None
) -> bytes:
    """All that one side writes: a request (``first``: it connects) or the reply to one.

    ``nonce``, 12 bytes never used before, where the envelope encrypts.
    """
    body = _encoded(message)
    if envelope.compress:
        body = compressed(body)
    if envelope.outgoing is not None:
        if nonce is None:
            raise ValueError("encryption needs a nonce")
        version = envelope.encryption_version
        frame = bytes((ENCRYPT,)) + sealed_size(len(body), version).to_bytes(4, "big")
        body = frame + seal(envelope.outgoing, body, nonce, frame + envelope.label, version)
    return label_header(envelope.label) + body if first else body


def _encoded(message: StreamMessage) -> bytes:
    """The message, its type byte first."""
    match message:
        case Ping() | Ack():
            return messages.encode(message)
        case PushPull(join, states, user):
            header = _HEADER.write((len(states), len(user), join))
            return b"".join((b"\x06", header, *map(_encoded_state, states), user))
        case User(payload):
            return b"\x08" + _USER.write((len(payload),)) + payload
        case ErrorReply(text):
            return b"\x0d" + _ERROR.write((text,))


def _encoded_state(member: Member) -> bytes:
    about = member.peer
    host, port = about.address
    return _STATE.write(
        (about.name, host, port, about.meta, member.incarnation, member.status, about.vsn)
    )


_ANSWERS: dict[What, str] = {
    "unencrypted": "encryption is configured but remote state is not encrypted",
    "unexpected-encryption": "remote state is encrypted and encryption is not configured",
    "undecryptable": "no installed keys could decrypt the message",
    "encryption": "message is not encrypted as expected",
    "compression": "message could not be decompressed",
}


def answer(error: WireError) -> ErrorReply | None:
    """What to tell who sent a request that was refused; None: close without a word.

    The layers are complained of, not the message within (spec 5.1), and nothing is told to
    anybody that is not known to the whole world.
    """
    text = _ANSWERS.get(error.what)
    return None if text is None else ErrorReply(text)


# --- reading ----------------------------------------------------------------------------------

Stage: TypeAlias = Literal["label", "type", "frame", "block", "header", "states", "body", "done"]


class Decoder(Struct, frozen=True):
    """What has come of a stream so far. ``accepted`` or ``connected`` is where to begin."""

    envelope: Envelope
    stage: Stage = "label"  # the part of the stream that is awaited
    start: int = 0  # where the message begins, behind the label header
    end: int = 1  # where the stage ends; where the next value begins as long as there are any
    values: int = 0  # msgpack values that the stage still lacks
    most: int = 0  # which it may ever lack, however the stream is cut
    head: bytes = b""  # of the next value, as long as not all of its head is there
    size: int = 0  # bytes that have come
    pieces: tuple[bytes, ...] = ()  # they themselves, each piece longer than the next
    refusals: tuple[WireError, ...] = ()  # records that the message goes without


def accepted(envelope: Envelope) -> Decoder:
    """Before the first byte of a stream that somebody else opened."""
    return Decoder(envelope)


def connected(envelope: Envelope) -> Decoder:
    """Before the first byte of the reply on a stream that this node opened."""
    return Decoder(envelope, stage="type")


def decode(data: bytes, envelope: Envelope, *, first: bool) -> StreamMessage:
    """The message of a whole stream; raises ``WireError``, also when a part of it lacks."""
    decoder, message = feed(accepted(envelope) if first else connected(envelope), data)
    if message is None:
        raise ended(decoder)
    return message


def ended(decoder: Decoder) -> WireError:
    """What to think of a stream that ends here, without a message."""
    if decoder.size == 0:
        return WireError("empty", "a stream of no bytes")
    return WireError("truncated", f"ends within its {decoder.stage}", f"byte {decoder.size}")


def feed(decoder: Decoder, data: bytes) -> tuple[Decoder, StreamMessage | None]:
    """The decoder with ``data`` come in, and the message if that completes it.

    What comes after the message is ignored. Raises ``WireError``; then the stream is of no use.
    """
    if decoder.stage == "done":
        return decoder, None
    envelope = decoder.envelope
    window, offset = decoder.head + data, decoder.size - len(decoder.head)
    pieces, size = _held(decoder.pieces, data), decoder.size + len(data)
    while True:
        stage, start, end, values = decoder.stage, decoder.start, decoder.end, decoder.values
        if values:
            reach, values = scan(window, end - offset, values, decoder.most, offset)
            end = offset + reach
        if stage != "block" and end - start > envelope.limits.stream:
            raise WireError("too-large", f"more than {envelope.limits.stream} bytes", stage)
        if values or end > size:
            head = window[end - offset :] if values else b""
            most = decoder.most
            return Decoder(envelope, stage, start, end, values, most, head, size, pieces), None
        whole = b"".join(pieces)
        decoder, message = _STAGES[stage](decoder, whole, end)
        if message is not None:
            return decoder, message
        window, offset, pieces = whole, 0, (whole,)


def _held(pieces: tuple[bytes, ...], data: bytes) -> tuple[bytes, ...]:
    """The pieces with one more, which swallows those before it that are no longer than it is."""
    while pieces and len(pieces[-1]) <= len(data):
        pieces, data = pieces[:-1], pieces[-1] + data
    return (*pieces, data) if data else pieces


# A stage is over: what follows from ``whole``, all that has come, of which it ends at ``end``.

Outcome: TypeAlias = tuple[Decoder, StreamMessage | None]


def _on_label(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    try:
        start = label_end(whole, decoder.envelope)
    except IndexError:
        return replace(decoder, end=2 if end == 1 else 2 + whole[1]), None
    return replace(decoder, stage="type", start=start, end=start + 1), None


def _on_type(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    kind, ring = whole[decoder.start], decoder.envelope.keyring
    if kind == ENCRYPT:
        if ring is None:
            raise WireError("unexpected-encryption", "an encrypted stream, and no key for it")
        return replace(decoder, stage="frame", end=decoder.start + FRAME), None
    if ring is not None and decoder.envelope.verify_incoming:
        raise WireError("unencrypted", "a plain stream where encryption is on")
    if kind in (PUSH_PULL, messages.USER):
        return replace(decoder, stage="header", end=end, values=1, most=1 + MAX_PASSED), None
    if kind in (messages.PING, messages.ACK, ERROR, COMPRESS):
        return replace(decoder, stage="body", end=end, values=1, most=1 + MAX_PASSED), None
    raise _unknown(kind)


def _on_frame(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    size = int.from_bytes(whole[end - 4 : end], "big")
    if size < min(OVERHEAD.values()):
        raise WireError("encryption", f"an encrypted block of {size} bytes")
    if size > decoder.envelope.limits.frame:
        raise WireError("too-large", f"an encrypted block of {size} bytes")
    return replace(decoder, stage="block", end=end + size), None


def _on_block(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    envelope, block = decoder.envelope, decoder.start + FRAME
    assert envelope.keyring is not None  # or the stage would not have begun
    aad = whole[decoder.start : block] + envelope.label
    return _complete(decoder, unseal(envelope.keyring, whole[block:end], aad))


def _on_header(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    limits = decoder.envelope.limits
    if whole[decoder.start] == messages.USER:
        size, _ = _user_header(whole, decoder.start, limits)
        return replace(decoder, stage="body", end=end + size, values=0), None
    (nodes, _, _), _ = _push_pull_header(whole, decoder.start, limits)
    most = nodes + MAX_PASSED
    return replace(decoder, stage="states", end=end, values=nodes, most=most), None


def _on_states(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    (_, size, _), _ = _push_pull_header(whole, decoder.start, decoder.envelope.limits)
    return replace(decoder, stage="body", end=end + size, values=0), None


def _on_body(decoder: Decoder, whole: bytes, end: int) -> Outcome:
    return _complete(decoder, whole[decoder.start : end])


_STAGES: dict[Stage, Callable[[Decoder, bytes, int], Outcome]] = {
    "label": _on_label,
    "type": _on_type,
    "frame": _on_frame,
    "block": _on_block,
    "header": _on_header,
    "states": _on_states,
    "body": _on_body,
}


# --- a message that is all there --------------------------------------------------------------


def _complete(decoder: Decoder, body: bytes) -> Outcome:
    """The message of ``body``, not empty, which is all there and within the encryption."""
    limits = decoder.envelope.limits
    if body[0] == COMPRESS:
        body = decompressed(body, limits.decompressed)
    message, refusals = _decoded(body, limits)
    return Decoder(decoder.envelope, "done", refusals=refusals), message


def _decoded(body: bytes, limits: Limits) -> tuple[StreamMessage, tuple[WireError, ...]]:
    kind = body[0]
    if kind == PUSH_PULL:
        return _push_pull(body, limits)
    if kind in (messages.PING, messages.ACK):
        message = messages.decode(body)
        assert isinstance(message, Ping | Ack)
        return message, ()
    if kind == messages.USER:
        size, at = _user_header(body, 0, limits)
        return User(_application(body, at, size)), ()
    if kind == ERROR:
        (text,), _ = read(_ERROR, body, 1)
        return ErrorReply(text), ()
    raise _unknown(kind)


def _unknown(kind: int) -> WireError:
    return WireError("unknown-type", f"message type {kind} on a stream", "byte 0")


def _push_pull(body: bytes, limits: Limits) -> tuple[PushPull, tuple[WireError, ...]]:
    """The push/pull, and what was left out of it: records in a state that nobody knows."""
    (nodes, size, join), at = _push_pull_header(body, 0, limits)
    states: list[Member] = []
    refusals: list[WireError] = []
    for index in range(nodes):
        try:
            (name, host, port, meta, incarnation, state, vsn), at = read(_STATE, body, at)
        except WireError as error:
            raise error.within(f"node {index}") from None
        if 0 <= state < len(_STATUSES):
            about = peer(name, Address(host, port), meta, vsn)
            states.append(Member(about, incarnation, _STATUSES[state]))
        elif len(refusals) < MAX_REFUSALS:
            text = f"state {state}, expected 0 to 3"
            refusals.append(WireError("out-of-range", text, f"node {index}, State"))
    return PushPull(join, tuple(states), _application(body, at, size)), tuple(refusals)


def _push_pull_header(data: bytes, start: int, limits: Limits) -> tuple[tuple[int, int, bool], int]:
    """Nodes, bytes of the application and the join flag; and where the header ends."""
    (nodes, size, join), at = read(_HEADER, data, start + 1)
    _within("Nodes", nodes, limits.nodes)
    _within("UserStateLen", size, limits.user)
    return (nodes, size, join), at


def _user_header(data: bytes, start: int, limits: Limits) -> tuple[int, int]:
    """How many bytes the application sends, and where they begin."""
    (size,), at = read(_USER, data, start + 1)
    _within("UserMsgLen", size, limits.user)
    return size, at


def _within(field: str, value: int, limit: int) -> None:
    if value < 0:
        raise WireError("out-of-range", f"{value} is negative", field)
    if value > limit:
        raise WireError("too-large", f"{value}, the limit is {limit}", field)


def _application(data: bytes, at: int, size: int) -> bytes:
    """The application's bytes."""
    if at + size > len(data):
        text = f"{len(data) - at} of the application's {size} bytes"
        raise WireError("truncated", text, f"byte {at}")
    return data[at : at + size]
