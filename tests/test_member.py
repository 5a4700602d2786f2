"""Records: the ranking of news, row by row, and what digests and sizes depend on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.member import (
    ALIVE,
    DEAD,
    LEFT,
    SUSPECT,
    Member,
    Status,
    digest,
    outranks,
    peer,
    state_size,
)
from swimsim.terms import U32, Address, NodeId
from tests.builders import VSN, B, at, record, who

# What the news says: what is known, how the incarnation of the news compares, whether it beats.
# SWIM 4.2; spec memberlist.md 6.9 step 6, 6.10 steps 2 and 4, 6.11 steps 2 and 4.
RANKS = {
    ALIVE: {
        ALIVE: {"lower": False, "equal": False, "higher": True},
        SUSPECT: {"lower": False, "equal": False, "higher": True},
        DEAD: {"lower": False, "equal": False, "higher": True},
        LEFT: {"lower": False, "equal": False, "higher": True},
    },
    SUSPECT: {
        ALIVE: {"lower": False, "equal": True, "higher": True},
        SUSPECT: {"lower": False, "equal": False, "higher": False},
        DEAD: {"lower": False, "equal": False, "higher": False},
        LEFT: {"lower": False, "equal": False, "higher": False},
    },
    DEAD: {
        ALIVE: {"lower": False, "equal": True, "higher": True},
        SUSPECT: {"lower": False, "equal": True, "higher": True},
        DEAD: {"lower": False, "equal": False, "higher": False},
        LEFT: {"lower": False, "equal": False, "higher": False},
    },
    LEFT: {
        ALIVE: {"lower": False, "equal": True, "higher": True},
        SUSPECT: {"lower": False, "equal": True, "higher": True},
        DEAD: {"lower": False, "equal": False, "higher": False},
        LEFT: {"lower": False, "equal": False, "higher": False},
    },
}

ROWS = [
    pytest.param(news, known, how, beats, id=f"{news.name} {how} than {known.name}".lower())
    for news, by_known in RANKS.items()
    for known, by_how in by_known.items()
    for how, beats in by_how.items()
]


@pytest.mark.parametrize(("news", "known", "how", "beats"), ROWS)
@pytest.mark.parametrize("incarnation", [1, 7, U32 - 1])
def test_ranking(news: Status, known: Status, how: str, beats: bool, incarnation: int) -> None:
    said = incarnation + {"lower": -1, "equal": 0, "higher": 1}[how]
    assert outranks(news, said, record(B, incarnation, known)) is beats


STATUSES = st.sampled_from(Status)
INCARNATIONS = st.integers(0, 4)


@given(STATUSES, INCARNATIONS, STATUSES, INCARNATIONS)
def test_of_two_different_beliefs_at_most_one_wins(
    one: Status, i: int, other: Status, j: int
) -> None:
    assert not (outranks(one, i, record(B, j, other)) and outranks(other, j, record(B, i, one)))


@given(STATUSES, INCARNATIONS)
def test_news_taken_in_is_news_no_longer(status: Status, incarnation: int) -> None:
    assert not outranks(status, incarnation, record(B, incarnation, status))


@given(STATUSES, INCARNATIONS, INCARNATIONS)
def test_what_is_gone_returns_only_in_a_higher_incarnation(news: Status, i: int, j: int) -> None:
    for gone in (DEAD, LEFT):
        if outranks(news, i, record(B, j, gone)):
            assert news == ALIVE
            assert i > j


def test_statuses_have_the_numbers_of_the_wire() -> None:
    assert [(status.name, status.value) for status in Status] == [
        ("ALIVE", 0),
        ("SUSPECT", 1),
        ("DEAD", 2),
        ("LEFT", 3),
    ]


# --- functions of content ---------------------------------------------------------------

PEERS = {  # one fact changed in each
    "the name": peer(NodeId("b"), at(B), b"meta", VSN),
    "a longer name": peer(NodeId("BB"), at(B), b"meta", VSN),
    "the host": peer(B, Address(b"\x0a\0\0\1", 7946), b"meta", VSN),
    "the same host mapped to IPv6": peer(
        B, Address(bytes(10) + b"\xff\xff" + at(B).host, 7946), b"meta", VSN
    ),
    "the port": peer(B, at(B, 7947), b"meta", VSN),
    "a port that shares its low byte": peer(B, at(B, 7946 % 256), b"meta", VSN),
    "the meta": peer(B, at(B), b"metA", VSN),
    "no meta": peer(B, at(B), b"", VSN),
    "the versions": peer(B, at(B), b"meta", bytes((1, 5, 3, 2, 5, 5))),
    "a byte moved from meta to versions": peer(B, at(B), b"met", b"a" + VSN),
    "a byte moved from name to host": peer(
        NodeId("B\n"), Address(at(B).host[1:], 7946), b"meta", VSN
    ),
}
ORIGINAL = peer(B, at(B), b"meta", VSN)


@pytest.mark.parametrize("changed", PEERS.values(), ids=PEERS)
def test_a_fingerprint_depends_on_every_fact(changed: object) -> None:
    assert changed.fingerprint != ORIGINAL.fingerprint


def test_no_two_of_these_peers_share_a_fingerprint() -> None:
    assert len({made.fingerprint for made in PEERS.values()}) == len(PEERS)


@given(st.text(), st.binary(max_size=16), st.integers(0, 65535), st.binary(max_size=40))
def test_peer_is_a_function_of_its_facts(name: str, host: bytes, port: int, meta: bytes) -> None:
    facts = (NodeId(name), Address(host, port), meta, VSN)
    made = peer(*facts)
    assert made == peer(*facts)
    assert (made.name, made.address, made.meta, made.vsn) == facts
    assert 0 <= made.fingerprint < 2**64


def test_names_that_are_not_utf_8_are_told_apart() -> None:
    assert who("\udcff").fingerprint != who("\udcfe").fingerprint
    assert who("\udcff").alive_size == who("x").alive_size  # one byte each


def test_digest_depends_on_peer_incarnation_and_status() -> None:
    known = [
        Member(about, incarnation, status)
        for about in (ORIGINAL, *PEERS.values())
        for incarnation in (0, 1, 2, 3, 4, 8, 2**16, U32 - 1, U32)
        for status in Status
    ]
    assert len({digest(member) for member in known}) == len(known)


@given(INCARNATIONS, STATUSES)
def test_digest_is_a_function_of_content(incarnation: int, status: Status) -> None:
    one = Member(peer(B, at(B), b"meta", VSN), incarnation, status)
    other = Member(peer(B, at(B), b"meta", VSN), incarnation, status)
    assert one.peer is not other.peer
    assert digest(one) == digest(other)
    assert 0 <= digest(one) < 2**64


def test_digests_agree_between_processes_with_other_hash_seeds() -> None:
    """A digest that hung on ``hash`` would differ from one process to the next."""
    code = (
        "from swimsim.member import *; from swimsim.terms import Address;"
        f"print(digest(Member(peer('B', {at(B)!r}, b'm', {VSN!r}), 3, ALIVE)))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{digest(record(B, 3, meta=b'm'))}\n"}


def test_a_state_weighs_what_its_alive_does_and_a_state_byte() -> None:
    """An alive has a type byte more, a node state the key ``State`` and one byte of value."""
    for incarnation, width in ((1, 1), (127, 1), (128, 2), (256, 3), (65_536, 5)):
        member = record(B, incarnation, meta=b"x" * 40)
        assert state_size(member) == member.peer.alive_size - 1 + len("?State?") + width
        assert state_size(replace(member, status=DEAD)) == state_size(member)
