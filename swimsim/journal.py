"""The flight recorder: what happened to one node, as bytes, and its life lived again.

``step`` is pure, so a node's state and its inputs are all of its past. A journal keeps them: a
snapshot, then every input with its time. Whoever has one can run ``step`` over it, years later
and elsewhere, and look at every decision the node took. This module knows bytes and values;
files are written by ``backends.recorder`` and read by ``swimsim replay``.

A journal is ``MAGIC``, which ends in the number of the format, and then records:

    4 bytes   length of the payload, big-endian, as are all
    2 bytes   check of the length, so that a damaged length is no early end of the file
    4 bytes   CRC-32 of the payload, begun with the length
    payload   msgpack: an array, its first item the record's kind

    header      swimsim's version, when the recording began (text, for people), number of the file
    snapshot    inputs so far, the next input's time, why there is a snapshot, the whole node,
                and its fingerprint
    input       now, the input, CRC-32 of its effects, CRC-32 of the state after it
    raised      now, the input, what ``step`` raised instead of an answer
    checkpoint  the fingerprint of the node at this point
    gap         how many inputs are missing, the times of the first and the last, why
    end         inputs so far, the fingerprint, whether another file goes on from here
    odd         the payload of another record, with ``escape`` applied to its text

Structs of the protocol are maps of their fields; those that stand in a union name their type
under ``type``. An ``immutables.Map`` is its sorted pairs, so bytes do not depend on hash seeds.
Each file begins with a header and a snapshot and can be read alone. After a gap comes a snapshot,
with which the replay goes on. What ends in the middle of a record was cut short by a crash, and
so was what ends in zeros: it is read up to there, and ``Cut`` says so. Anything else that is not
as it should be is a ``JournalError``.

The checksums of an input cover its effects, and the state but for the depths of its longer tables
and of its queue (``digest``); fingerprints, at every checkpoint, cover the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from operator import is_
from struct import Struct as Layout
from typing import Any, TypeAlias, get_args
from zlib import crc32

from immutables import Map
from msgspec import Struct, convert
from msgspec.msgpack import Decoder, Encoder
from msgspec.structs import astuple, replace

from swimsim import node as protocol
from swimsim.effects import Effect
from swimsim.fingerprint import fingerprint
from swimsim.inputs import Input
from swimsim.node import Node
from swimsim.serf_layer import Serf
from swimsim.swim.broadcast import Broadcasts
from swimsim.terms import Micros

FORMAT = 1
_NAME = b"swimsim journal "
MAGIC = _NAME + b"%d\n" % FORMAT

# --- records -----------------------------------------------------------------------------


class Header(Struct, frozen=True, gc=False, array_like=True, tag="header"):
    """How a file begins."""

    swimsim: str  # the version that recorded
    began: str = ""  # when, as the recorder's owner put it; nothing depends on it
    piece: int = 0  # how many files of this recording came before


class Snapshot(Struct, frozen=True, gc=False, array_like=True, tag="snapshot"):
    """The whole node, just before the input that follows."""

    number: int  # inputs so far, lost ones included
    now: Micros  # of the input that follows
    why: str  # one of ``START``, ``ROTATION``, ``GAP``, ``LIFE``
    node: Node
    fingerprint: int


class Happened(Struct, frozen=True, gc=False, array_like=True, tag="input"):
    """An input, and what became of it in few bytes."""

    now: Micros
    input: Input
    effects: int  # CRC-32
    state: int  # CRC-32, see ``digest``


class Raised(Struct, frozen=True, gc=False, array_like=True, tag="raised"):
    """An input at which ``step`` failed; the node stayed what it was."""

    now: Micros
    input: Input
    error: str  # the exception's type, a colon, its text


class Checkpoint(Struct, frozen=True, gc=False, array_like=True, tag="checkpoint"):
    """All of the state after the last input, in 64 bits."""

    fingerprint: int


class Gap(Struct, frozen=True, gc=False, array_like=True, tag="gap"):
    """Inputs that are missing: the disk was too slow."""

    lost: int
    since: Micros
    until: Micros
    why: str


class End(Struct, frozen=True, gc=False, array_like=True, tag="end"):
    """The file was ended, not cut."""

    number: int  # inputs in all, lost ones included
    fingerprint: int
    continued: bool = False  # in another file


class _Odd(Struct, frozen=True, gc=False, array_like=True, tag="odd"):
    """A record that msgpack cannot hold as it is."""

    payload: bytes


class Cut(Struct, frozen=True, gc=False):
    """Read, never written: the file ends within the record that begins at ``offset``."""

    offset: int
    left: int  # bytes that are there of it


Record: TypeAlias = Header | Snapshot | Happened | Raised | Checkpoint | Gap | End

START = "start"  # the recording begins
ROTATION = "rotation"  # the file before was full
GAP = "gap"  # inputs were lost
LIFE = "another life"  # the node is not the one that the last input left


class JournalError(ValueError):
    """A file that is no journal, or a damaged one: what is wrong, and at which byte."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"byte {offset}: {what}")
        self.offset = offset
        self.what = what


# --- values that msgpack does not know -----------------------------------------------------

_TO_ESCAPE = re.compile("[\ud800-\udfff\U0010fffd]")  # lone surrogates, and the mark itself
_ESCAPED = re.compile("\U0010fffd([0-9a-f]{6})")


def escape(value: Any) -> Any:
    """The value with text that UTF-8 cannot hold made plain, and numbers past 64 bits as text.

    A member's name may be any bytes (``terms.NodeId``). The reading is lenient where it expects
    a number, so numbers come back by themselves and text by ``_unescape``.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return _walk(value, escape, lambda text: _TO_ESCAPE.sub(_hexadecimal, text))


def _unescape(value: Any) -> Any:
    return _walk(value, _unescape, lambda text: _ESCAPED.sub(_character, text))


def _hexadecimal(found: re.Match[str]) -> str:
    return f"\U0010fffd{ord(found[0]):06x}"


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _walk(value: Any, each: Callable[[Any], Any], text: Callable[[str], str]) -> Any:
    """The same value with ``text`` applied to all of its text."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Struct):
        return type(value)(*map(each, astuple(value)))
    if isinstance(value, Map):
        return Map({each(key): each(held) for key, held in value.items()})
    if isinstance(value, tuple):
        items = map(each, value)
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def _pairs(value: Any) -> Any:
    """A map as msgpack has it: sorted, whatever the hash seed."""
    if isinstance(value, Map):
        return sorted(value.items())
    raise NotImplementedError(f"a journal cannot hold a {type(value).__name__}")


def _from_pairs(wanted: Any, pairs: Any) -> Any:
    pair: Any = tuple.__class_getitem__(get_args(wanted))
    return Map(convert(pairs, tuple[pair, ...], dec_hook=_from_pairs))


_encode = Encoder(enc_hook=_pairs).encode
_decode = Decoder(Record | _Odd, dec_hook=_from_pairs).decode
_decode_odd = Decoder(Record, dec_hook=_from_pairs, strict=False).decode


# --- bytes -------------------------------------------------------------------------------

_HEAD = Layout(">IHI")  # length, its check, CRC-32
_SECTOR = 512  # bytes that are written together


def snapshot(number: int, now: Micros, why: str, node: Node) -> Snapshot:
    """The record of a whole node."""
    return Snapshot(number, now, why, node, fingerprint(node))


def encode(record: Record) -> bytes:
    """The record's bytes, to be appended to a file that begins with ``MAGIC``."""
    try:
        payload = _encode(record)
    except (UnicodeEncodeError, OverflowError):
        payload = _encode(_Odd(_encode(escape(record))))
    return _framed(payload)


def _framed(payload: bytes) -> bytes:
    length = len(payload)
    return _HEAD.pack(length, _check(length), crc32(payload, length)) + payload


def read(data: bytes) -> Iterator[tuple[int, Record | Cut]]:
    """Every record and the byte at which it begins; a ``Cut``, if there is one, comes last.

    Raises ``JournalError``.
    """
    if not data.startswith(MAGIC):
        if not MAGIC.startswith(data):
            raise JournalError(0, _stranger(data))
        yield 0, Cut(0, len(data))
        return
    offset, written, view = len(MAGIC), _written(data), memoryview(data)
    while offset < len(data):
        end, wrong = _extent(view, offset)
        if wrong and end <= written:
            raise JournalError(offset, wrong)
        if wrong or end > len(data):
            yield offset, Cut(offset, max(0, written - offset))
            return
        yield offset, _record(offset, view[offset + _HEAD.size : end])
        offset = end


def _extent(view: memoryview, begin: int) -> tuple[int, str]:
    """Where the record that begins there ends, in the file or past it, and what is wrong."""
    body = begin + _HEAD.size
    if body > len(view):
        return body, ""
    length, check, crc = _HEAD.unpack_from(view, begin)
    if check != _check(length):
        return body, "no record begins here"
    payload = view[body : body + length]
    is_damaged = len(payload) == length and crc32(payload, length) != crc
    return body + length, "a damaged record" if is_damaged else ""


def _written(data: bytes) -> int:
    """Where a file ends that lost power while it grew: before the zeros, if they are many."""
    return len(data.rstrip(b"\0")) if data.endswith(bytes(_SECTOR)) else len(data)


def _check(length: int) -> int:
    return ((length ^ length >> 16) * 0x9E37 + 0x79B9) & 0xFFFF


def _stranger(data: bytes) -> str:
    """What a file is that does not begin as it should."""
    version = re.match(re.escape(_NAME) + rb"(\d{1,9})\n", data)
    if version is None:
        return "not a journal of swimsim"
    return f"a journal of format {int(version[1])}, this swimsim reads {FORMAT}"


def _record(offset: int, payload: memoryview) -> Record:
    """One record; what it holds is of the right types, and a snapshot is the node's."""
    try:
        read = _decode(payload)
        record: Record = _unescape(_decode_odd(read.payload)) if isinstance(read, _Odd) else read
        sound = not isinstance(record, Snapshot) or fingerprint(record.node) == record.fingerprint
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise JournalError(offset, f"a record of another kind: {error}") from error
    if not sound:
        raise JournalError(offset, "a snapshot of another node than it says")
    return record


# --- the state in few bytes --------------------------------------------------------------

FEW = 16  # so many entries of a table, or broadcasts of the queue, are looked at


class Digest(Struct, frozen=True):
    """The state's parts, a checksum of each, and one of all. A part that is kept costs nothing."""

    parts: tuple[Any, ...] = (None,) * len(Node.__struct_fields__)
    crcs: tuple[int, ...] = (0,) * len(Node.__struct_fields__)
    value: int = 0


def digest(node: Node, last: Digest) -> Digest:
    """The node's digest; ``last`` is that of an earlier state, of any state for that matter.

    ``value`` is a function of the node alone. It covers all of the node but what lies beyond the
    first ``FEW`` broadcasts, and tables longer than that, of which it covers the length (and the
    digests that ``Members`` keeps).
    """
    parts, crcs = astuple(node), list(last.crcs)
    for place, is_kept in enumerate(map(is_, parts, last.parts)):
        if not is_kept:
            crcs[place] = checksum(_front(parts[place]))
    return Digest(parts, tuple(crcs), crc32(_short(crcs)))


def checksum(value: Any) -> int:
    """CRC-32 of effects, or of a part of a node."""
    try:
        return crc32(_short(value))
    except (UnicodeEncodeError, OverflowError):
        return crc32(_short(escape(value)))


def _front(part: Any) -> Any:
    if type(part) is Serf:
        lanes = [(lane.arrivals, len(lane.queue), lane.queue[:FEW]) for lane in part.lanes]
        return replace(part, lanes=()), lanes
    if type(part) is not Broadcasts:
        return part
    queue = part.queue
    return part.rng, part.origin, part.ticking, part.arrivals, len(queue), queue[:FEW]


def _few(value: Any) -> Any:
    return len(value) if isinstance(value, Map) and len(value) > FEW else _pairs(value)


_short = Encoder(enc_hook=_few).encode


# --- replay ------------------------------------------------------------------------------


class Replayed(Struct, frozen=True, gc=False):
    """One input, and what the code that runs now makes of it."""

    number: int  # the first input is 1
    now: Micros
    input: Input
    before: Node
    effects: tuple[Effect, ...]
    after: Node
    raised: str = ""  # what ``step`` raised; then ``after`` is ``before``
    differs: str = ""  # in what this is not what was recorded
    resumed: str = ""  # why ``before`` is not what the input before this one left

    @property
    def agrees(self) -> bool:
        """Whether this is what was recorded."""
        return not self.differs


class _Place(Struct, frozen=True):
    """How far a replay has come."""

    node: Node | None = None  # None: not known, a snapshot must follow
    number: int = 0  # of the last input
    compared: int = 0  # the last input after which all of the state was compared
    resumed: str = ""  # for the next input
    digest: Digest = Digest()


def replay(records: Iterable[Record | Cut]) -> Iterator[Replayed]:
    """Live a recorded life again, input by input.

    ``records`` may be those of several files, one after the other. After a difference the replay
    goes on from the state that it came to itself, until a snapshot says otherwise. Raises
    ``ValueError`` when an input comes before any snapshot.
    """
    place = _Place()
    last: Replayed | None = None  # waits for what follows it, which may tell of its state
    for record in records:
        if isinstance(record, Happened | Raised):
            if last is not None:
                yield last
            place, last = _relive(place, record)
        else:
            if last is not None and last.agrees and not _confirms(place, record):
                differs = f"the state, at some input since {place.compared + 1}"
                last = replace(last, differs=differs)
            place = _take_up(place, record)
    if last is not None:
        yield last


def first_difference(records: Iterable[Record | Cut]) -> Replayed | None:
    """The first input of which the code that runs now makes something else, if there is one."""
    return next((step for step in replay(records) if not step.agrees), None)


def _relive(place: _Place, record: Happened | Raised) -> tuple[_Place, Replayed]:
    """Let one input happen again, and compare what came of it then and now."""
    before, number = place.node, place.number + 1
    if before is None:
        raise ValueError(f"nothing is known of the node before input {number}")
    after, raised = before, ""
    effects: tuple[Effect, ...] = ()
    try:
        after, effects = protocol.step(before, record.now, record.input)
    except Exception as error:  # whatever it is, it is what comes of this input
        raised = told(error)
    digest_ = digest(after, place.digest)
    if isinstance(record, Raised):
        differs = "" if _kind(raised) == _kind(record.error) else f"it raised {record.error}"
    elif raised:
        differs = f"it raises {raised}"
    else:
        same = (checksum(effects) == record.effects, digest_.value == record.state)
        differs = _DIFFERENCES[same]
    step = Replayed(
        number, record.now, record.input, before, effects, after, raised, differs, place.resumed
    )
    return replace(place, node=after, number=number, resumed="", digest=digest_), step


_DIFFERENCES = {
    (True, True): "",
    (False, True): "the effects",
    (True, False): "the state",
    (False, False): "the effects and the state",
}


def _confirms(place: _Place, record: Record | Cut) -> bool:
    """Whether what follows an input agrees with the state that it left."""
    match record:
        case Checkpoint(expected) | End(_, expected):
            return place.node is None or fingerprint(place.node) == expected
        case Snapshot(number, _, why, node):
            return why != ROTATION or number != place.number or place.node == node
        case _:
            return True


def _take_up(place: _Place, record: Record | Cut) -> _Place:
    """Go on from what a record says that is no input."""
    match record:
        case Checkpoint():
            return replace(place, compared=place.number)
        case Gap(lost, _, _, why):
            resumed = f"{lost} inputs are missing, {why}"
            return replace(place, node=None, number=place.number + lost, resumed=resumed)
        case Snapshot(number, _, why, node):
            follows = why == ROTATION and number == place.number and place.node is not None
            resumed = "" if follows else place.resumed or why
            return replace(place, node=node, number=number, compared=number, resumed=resumed)
        case _:
            return place


def told(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _kind(raised: str) -> str:
    return raised.partition(":")[0]
