"""Messages of every kind, and the envelopes around them, for Hypothesis to draw."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from swimsim.member import Member, Status, peer
from swimsim.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    Ping,
    PushPull,
    Suspect,
    User,
)
from swimsim.serf import messages as said
from swimsim.terms import U32, Address
from swimsim.wire import Envelope, ErrorReply, keyring

EDGES = [0, 1, 31, 32, 127, 128, 255, 256, 65_535, 65_536, U32 - 1, U32]


def number(bits: int) -> st.SearchStrategy[int]:
    most = (1 << bits) - 1
    return st.sampled_from([edge for edge in EDGES if edge <= most]) | st.integers(0, most)


u8, u16, u32, u64 = map(number, (8, 16, 32, 64))
i64 = st.integers(-(1 << 63), (1 << 63) - 1)
data = st.binary(max_size=80) | st.sampled_from([0, 31, 32, 255, 256, 513]).map(bytes)
texts = data.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
hosts = st.binary(max_size=16)
addresses = st.builds(Address, hosts, u16)
peers = st.builds(peer, texts, addresses, data, st.binary(max_size=9))
members = st.builds(Member, peers, u32, st.sampled_from(Status))

pings = st.builds(Ping, u32, texts, addresses, texts)
acks = st.builds(Ack, u32, data)
users = st.builds(User, data)
messages = st.one_of(
    pings,
    st.builds(IndirectPing, u32, texts, addresses, st.booleans(), addresses, texts),
    acks,
    st.builds(Nack, u32),
    st.builds(Suspect, u32, texts, texts),
    st.builds(Alive, u32, peers),
    st.builds(Dead, u32, texts, texts),
    users,
)
push_pulls = st.builds(PushPull, st.booleans(), st.lists(members, max_size=5).map(tuple), data)
streams = st.one_of(pings, acks, users, push_pulls, st.builds(ErrorReply, texts))


# --- envelopes --------------------------------------------------------------------------------

KEYS = [bytes((index,)) * size for index, size in enumerate((16, 24, 32, 16))]
rings = st.lists(st.sampled_from(KEYS), min_size=1, unique=True).map(keyring.keyring)
envelopes = st.builds(
    Envelope,
    label=st.sampled_from([b"", b"l", b"label", bytes(255)]),
    keyring=st.none() | rings,
    encryption_version=st.sampled_from((0, 1)),
    compress=st.booleans(),
)
nonces = st.binary(min_size=12, max_size=12)


# --- Serf -------------------------------------------------------------------------------------


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def tuples(values: st.SearchStrategy[Any], **sizes: Any) -> st.SearchStrategy[Any]:
    return st.lists(values, max_size=4, **sizes).map(tuple)


def entries(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Pairs with different names, in any order."""
    return st.dictionaries(texts, values, max_size=4).map(lambda pairs: tuple(pairs.items()))


floats = st.floats(allow_nan=False)
payloads = optional(data)
past_events = st.builds(said.PastEvent, texts, payloads)
slots = st.builds(said.EventSlot, u64, tuples(past_events))
buffers = st.builds(
    lambda length, taken: said.EventBuffer(length, tuple(sorted(taken.items()))),
    st.integers(40, 600),
    st.dictionaries(st.integers(0, 39), slots, max_size=4),
)
states = st.builds(
    said.SerfState,
    u64,
    u64,
    u64,
    optional(entries(u64)),
    optional(tuples(texts)),
    optional(buffers),
)
infos = st.builds(
    said.MemberInfo,
    texts,
    addresses,
    st.binary(min_size=6, max_size=6),
    st.integers(0, 4),
    optional(entries(texts)),
)
gossip = st.one_of(
    st.builds(said.JoinIntent, u64, texts),
    st.builds(said.LeaveIntent, u64, texts, st.booleans()),
    st.builds(said.UserEvent, u64, texts, payloads, st.booleans()),
    st.builds(
        said.Query, u64, u32, addresses, texts, texts, i64, payloads, optional(tuples(data)),
        u32, u8,
    ),
    st.builds(said.QueryResponse, u64, u32, texts, u32, payloads),
    st.builds(said.Relay, addresses, texts, data, texts),
)  # fmt: skip
enclosed = st.one_of(
    states,
    st.builds(said.ConflictResponse, optional(infos)),
    st.builds(said.KeyRequest, payloads),
    st.builds(said.KeyResponse, st.booleans(), texts, optional(tuples(texts)), texts),
)
filters = st.one_of(
    st.builds(said.NodeFilter, tuples(texts)), st.builds(said.TagFilter, texts, texts)
)
tags = st.dictionaries(texts, texts, max_size=3)
coordinates = st.builds(said.Coordinate, tuples(floats), floats, floats, floats)
