"""The table against a plain dict, and the fairness of what is drawn from it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim import rng
from swimsim.member import ALIVE, DEAD, LEFT, SUSPECT, Member, Status, digest, state_size
from swimsim.members import EMPTY, Members, VersionUse, build
from swimsim.terms import NodeId
from tests.builders import VSN, VSN_OLD, A, B, C, D, E, at, group, record, table
from tests.fairness import p_uniform

Change: TypeAlias = Member | str  # put this record, or remove this name

RECORDS = st.builds(
    record,
    st.sampled_from("ABCDEFG"),
    st.integers(1, 300),
    st.sampled_from(Status),
    st.sampled_from([b"", b"m", b"x" * 40]),
    address=st.sampled_from([at("p"), at("q")]),
    vsn=st.sampled_from([VSN, VSN_OLD, b""]),
)
CHANGES: st.SearchStrategy[list[Change]] = st.lists(RECORDS | st.sampled_from("ABCDEFG"))


def applied(changes: list[Change]) -> tuple[Members, dict[NodeId, Member], list[NodeId]]:
    """The table after these changes, the oracle beside it, and the oracle's seating."""
    members, oracle, seats = EMPTY, {}, []
    for change in changes:
        if isinstance(change, Member):
            name = change.peer.name
            if name not in oracle:
                seats.append(name)
            oracle[name] = change
            members = members.put(change)
        elif change in oracle:
            del oracle[change]
            seat, last = seats.index(change), seats.pop()
            if last != change:
                seats[seat] = last
            members = members.remove(change)
    return members, oracle, seats


@given(CHANGES)
def test_any_changes_leave_what_a_dict_would_hold(changes: list[Change]) -> None:
    members, oracle, seats = applied(changes)
    assert len(members) == len(oracle)
    assert {name: members[name] for name in members.slots} == oracle
    assert all(members.get(name) == oracle.get(name) for name in "ABCDEFGZ")
    assert [member.peer.name for member in members] == seats


@given(CHANGES)
def test_any_changes_leave_the_sums_of_a_table_made_at_once(changes: list[Change]) -> None:
    members, oracle, seats = applied(changes)
    assert members == build([oracle[name] for name in seats])


@given(CHANGES)
def test_the_sums_are_what_one_gets_by_counting(changes: list[Change]) -> None:
    members, oracle, _ = applied(changes)
    known = list(oracle.values())
    assert members.counts == tuple(sum(m.status == status for m in known) for status in Status)
    assert members.size == sum(map(state_size, known))
    assert members.digest == sum(map(digest, known)) % 2**64
    in_use = {m.peer.vsn for m in known}
    assert members.versions == tuple(
        VersionUse(
            vsn,
            sum(m.peer.vsn == vsn and m.status == ALIVE for m in known),
            sum(m.peer.vsn == vsn for m in known),
        )
        for vsn in sorted(in_use)
    )


@given(st.lists(RECORDS, unique_by=lambda member: member.peer.name), st.randoms())
def test_digests_do_not_see_the_order_of_learning(known: list[Member], random: object) -> None:
    shuffled = known.copy()
    random.shuffle(shuffled)
    one, other = build(known), build(shuffled)
    assert one.digest == other.digest
    assert (one.slots_digest == other.slots_digest) == (one.slots == other.slots)


@given(CHANGES, RECORDS)
def test_a_digest_sees_every_change(changes: list[Change], change: Member) -> None:
    members, oracle, _ = applied(changes)
    changed = members.put(change)
    assert (changed.digest == members.digest) == (oracle.get(change.peer.name) == change)


@given(CHANGES, RECORDS)
def test_a_change_leaves_the_old_table_as_it_was(changes: list[Change], change: Member) -> None:
    members, oracle, _ = applied(changes)
    members.put(change)
    for name in oracle:
        members.remove(name)
    assert members == applied(changes)[0]


def test_new_metadata_keeps_the_seat_and_its_digest_honest() -> None:
    """Two nodes that hold one table must be seen to do so, whenever they learned of the change."""
    late = group("AB").put(record(B, 2, meta=b"new"))
    early = table(record(A), record(B, 2, meta=b"new"))
    assert late == early


def test_a_member_that_leaves_gives_its_seat_to_the_last() -> None:
    members = group("ABCD").remove(B)
    assert [member.peer.name for member in members] == [A, D, C]
    assert [member.peer.name for member in members.remove(C)] == [A, D]
    assert members.remove(A).remove(D).remove(C) == EMPTY


def test_a_newcomer_takes_the_seat_at_the_end() -> None:
    assert group("ABC").put(record(D)).slots[D] == 3


def test_an_unknown_name_is_nobody() -> None:
    members = group("AB")
    assert members.get(C) is None
    with pytest.raises(KeyError):
        members[C]
    with pytest.raises(KeyError):
        members.remove(C)


def test_one_name_twice_makes_no_table() -> None:
    with pytest.raises(ValueError, match="one name"):
        build([record(A), record(B), record(A, 2)])


def test_counting_adds_up_the_statuses_asked_for() -> None:
    members = table(
        record(A), record(B), record(C, 1, SUSPECT), record(D, 1, DEAD), record(E, 1, LEFT)
    )
    assert members.counts == (2, 1, 1, 1)
    assert members.count(ALIVE, SUSPECT) == 3
    assert members.count(DEAD) == 1
    assert members.count() == 0
    assert members.present == 3
    present = {name: members.others_present(name) for name in (A, C, D, E, NodeId("Z"))}
    assert present == {A: 2, C: 2, D: 3, E: 3, "Z": 3}


# --- random members ---------------------------------------------------------------------


def anybody(member: Member) -> bool:
    return True


def alive(member: Member) -> bool:
    return member.status == ALIVE


def crowd(n: int, gone: int = 0) -> Members:
    """``n`` members, the first ``gone`` of them dead."""
    return build(
        [record(f"{i:03}", 1, DEAD if i < gone else ALIVE, address=at("x")) for i in range(n)]
    )


@given(st.integers(0, rng.MASK), st.integers(0, 40), st.integers(0, 40), st.integers(0, 8))
def test_a_sample_is_of_different_eligible_members(seed: int, n: int, gone: int, k: int) -> None:
    members = crowd(n, gone)
    chosen, after = members.sample(seed, k, alive)
    names = [member.peer.name for member in chosen]
    assert len(set(names)) == len(names) <= k
    assert all(members[name].status == ALIVE for name in names)
    assert (chosen, after) == members.sample(seed, k, alive)
    if n < 3 * k:
        assert len(names) == min(k, members.count(ALIVE)), "a small table is looked through"


@given(st.integers(0, rng.MASK))
def test_a_sample_of_nobody_is_empty(seed: int) -> None:
    for n in (0, 1, 2, 5, 50):
        assert crowd(n).sample(seed, 0, anybody)[0] == []


@given(st.integers(0, rng.MASK))
def test_nobody_eligible_is_an_empty_sample(seed: int) -> None:
    for n in (1, 2, 9, 10, 50):
        assert crowd(n, gone=n).sample(seed, 3, alive)[0] == []


@given(st.integers(0, rng.MASK))
def test_the_whole_of_a_small_table_can_be_sampled(seed: int) -> None:
    chosen, _ = group("ABC").sample(seed, 3, anybody)
    assert {member.peer.name for member in chosen} == {A, B, C}


@pytest.mark.parametrize(
    ("n", "gone", "k"),
    [(5, 0, 3), (5, 2, 1), (6, 1, 2), (9, 0, 3), (10, 0, 3), (12, 4, 2), (40, 20, 1), (16, 0, 5)],
)
def test_every_eligible_member_is_as_likely(n: int, gone: int, k: int) -> None:
    members, state = crowd(n, gone), rng.seed("sample", n, gone, k)
    counts: Counter[NodeId] = Counter()
    for _ in range(400 * (n - gone)):
        chosen, state = members.sample(state, k, alive)
        counts.update(member.peer.name for member in chosen)
    eligible = [member.peer.name for member in members if alive(member)]
    assert set(counts) <= set(eligible)
    assert p_uniform(counts[name] for name in eligible) > 1e-4


@pytest.mark.parametrize(("n", "k"), [(4, 2), (5, 2), (7, 2), (8, 2)])
def test_every_pair_is_as_likely(n: int, k: int) -> None:
    """So members are drawn independently, by shuffling (n up to 5) as by picking (beyond)."""
    members, state = crowd(n), rng.seed("pairs", n)
    counts: Counter[frozenset[NodeId]] = Counter()
    for _ in range(8000):
        chosen, state = members.sample(state, k, anybody)
        counts[frozenset(member.peer.name for member in chosen)] += 1
    pairs = combinations([member.peer.name for member in members], k)
    assert p_uniform(counts[frozenset(pair)] for pair in pairs) > 1e-4


def test_few_eligible_in_a_large_table_are_mostly_found() -> None:
    """memberlist draws three times the length: each is missed with chance e**-3 (6.16)."""
    members, state, found = crowd(60, gone=58), rng.seed("few"), 0
    for _ in range(2000):
        chosen, state = members.sample(state, 3, alive)
        found += len(chosen)
    assert 0.93 < found / 4000 < 0.97


def test_only_a_table_shorter_than_three_samples_is_looked_through() -> None:
    """6.16: below 3 k members a shuffle finds whoever there is, from there on draws may miss."""

    def missed(n: int) -> int:
        members = crowd(n, gone=n - 1)
        return sum(members.sample(seed, 3, alive)[0] == [] for seed in range(400))

    assert missed(8) == 0
    assert 2 <= missed(9) <= 40  # (8 / 9) ** 27 is 4 %


def test_the_work_of_a_sample_does_not_grow_with_the_table() -> None:
    looked: list[Member] = []

    def watched(member: Member) -> bool:
        looked.append(member)
        return True

    for seed in range(50):
        crowd(500).sample(seed, 3, watched)
    assert len(looked) == 150


def test_a_table_is_a_value() -> None:
    assert group("ABC") == group("ABC")
    assert group("ABC") != group("ACB")
    assert replace(group("AB"), size=0) != group("AB")
