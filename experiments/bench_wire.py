"""What the wire costs: bytes to messages and back, in microseconds of CPU each.

Part of ``swimsim bench --agents``. A ping is the usual packet; a full packet is what gossip makes
of busy times; a push/pull is what a join carries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pandas as pd
from msgspec import Struct, to_builtins
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.member import ALIVE, Member, peer
from swimsim.messages import Alive, Message, Ping, PushPull
from swimsim.terms import Address, NodeId
from swimsim.wire import PLAIN, Envelope, keyring, packet, serf, stream

NONCE = bytes(12)  # nothing secret is encrypted here
MEMBERS = 1_000
ALIVES = 9  # of them fill a packet
SPAN_S = 0.3  # of CPU for each figure
TRIES = 3  # of which the fastest counts

ENVELOPES: dict[str, Envelope] = {
    "plain": PLAIN,
    "compressed": replace(PLAIN, compress=True),
    "encrypted": replace(PLAIN, keyring=keyring.keyring([bytes(32)])),
}


class Cost(Struct, frozen=True):
    """One carrier in one envelope."""

    what: str
    envelope: str
    bytes: int
    encode_us: float
    decode_us: float


def measure() -> pd.DataFrame:
    """One row for each carrier and envelope."""
    about = [_member(number) for number in range(MEMBERS)]
    ping = Ping(7, NodeId("member-7"), Address(bytes((10, 0, 0, 7)), 7946), NodeId("member-8"))
    alives = [Alive(each.incarnation, each.peer) for each in about[:ALIVES]]
    rows = []
    for name, envelope in ENVELOPES.items():
        rows.append(_packet("a ping", name, envelope, (ping,)))
        rows.append(_packet(f"{ALIVES} alives in a packet", name, envelope, alives))
        rows.append(_stream(f"a push/pull of {MEMBERS:,}", name, envelope, about))
    return pd.DataFrame([to_builtins(row) for row in rows])


def _member(number: int) -> Member:
    place = Address(bytes((10, 0, number >> 8, number & 255)), 7946)
    meta = serf.encode_tags({"role": "web", "zone": f"z{number % 3}"})
    return Member(peer(NodeId(f"member-{number}"), place, meta, LAN.vsn), 1, ALIVE)


def _packet(what: str, name: str, envelope: Envelope, messages: Sequence[Message]) -> Cost:
    said = tuple(messages)
    data = packet.encode(said, envelope, crc=True, nonce=NONCE)
    return Cost(
        what,
        name,
        len(data),
        _cost(lambda: packet.encode(said, envelope, crc=True, nonce=NONCE)),
        _cost(lambda: packet.decode(data, envelope)),
    )


def _stream(what: str, name: str, envelope: Envelope, members: Sequence[Member]) -> Cost:
    said = PushPull(False, tuple(members))
    data = stream.encode(said, envelope, first=True, nonce=NONCE)
    return Cost(
        what,
        name,
        len(data),
        _cost(lambda: stream.encode(said, envelope, first=True, nonce=NONCE)),
        _cost(lambda: stream.decode(data, envelope, first=True)),
    )


def _cost(work: Callable[[], object]) -> float:
    """Microseconds of CPU for one call, in the fastest of a few tries."""
    best = float("inf")
    for _ in range(TRIES):
        calls, spent, began = 0, 0.0, time.process_time()
        while spent < SPAN_S / TRIES:
            work()
            calls += 1
            spent = time.process_time() - began
        best = min(best, spent / calls)
    return best * 1e6
