"""Anti-entropy and join: spec memberlist.md 5.2, 6.2, 6.13 and 6.14."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim import rng
from swimsim.config import LAN, LOCAL, WAN, Config
from swimsim.effects import (
    After,
    Effect,
    Emit,
    Exchange,
    JoinFinished,
    MergeRefused,
    Reply,
    Then,
)
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    Join,
    JoinNext,
    PushPullTick,
)
from swimsim.member import ALIVE, DEAD, LEFT, SUSPECT, Member, Status
from swimsim.members import Members, VersionUse
from swimsim.messages import Alive, Dead, PushPull, Suspect
from swimsim.swim.push_pull import (
    AntiEntropy,
    Joining,
    PushPullInput,
    differences,
    incompatible,
    merge,
    period,
    step,
)
from swimsim.terms import MINUTE, SECOND, U32, Micros
from tests.builders import VSN, VSN_3, A, B, C, D, E, at, group, of_type, record, table, who

# --- how often (6.2) --------------------------------------------------------------------

PERIODS: dict[str, tuple[Config, int, Micros]] = {
    "alone": (LAN, 1, 30 * SECOND),
    "32": (LAN, 32, 30 * SECOND),
    "33": (LAN, 33, 60 * SECOND),
    "64": (LAN, 64, 60 * SECOND),
    "65": (LAN, 65, 90 * SECOND),
    "128": (LAN, 128, 90 * SECOND),
    "129": (LAN, 129, 120 * SECOND),
    "256": (LAN, 256, 120 * SECOND),
    "1000": (LAN, 1000, 180 * SECOND),  # spec experiments.md 2
    "10,000": (LAN, 10_000, 300 * SECOND),
    "100,000": (LAN, 100_000, 390 * SECOND),
    "wide area": (WAN, 200, 4 * MINUTE),
    "one machine": (LOCAL, 5, 15 * SECOND),
}


@pytest.mark.parametrize(("config", "n", "wanted"), PERIODS.values(), ids=PERIODS)
def test_period(config: Config, n: int, wanted: Micros) -> None:
    assert period(n, config) == wanted


# --- the mechanism ----------------------------------------------------------------------

Row: TypeAlias = tuple[AntiEntropy, PushPullInput, dict[str, Any], AntiEntropy, tuple[Effect, ...]]

SEED = 7
TOGETHER = group("ABC")
IDLE = AntiEntropy(SEED)
ARMED = AntiEntropy(SEED, armed=True, exchange=U32 + 4)
AGAIN = After(30 * SECOND, PushPullTick())
X, Y = at("x"), at("y")


def check(row: Row) -> None:
    """The third is what is not usual: ``members``, ``suspects``, or a setting."""
    before, input, unusual, after, effects = row
    known = {"members": TOGETHER, "suspects": ()} | unusual
    members, suspects = known.pop("members"), known.pop("suspects")
    told = step(before, input, A, members, suspects, replace(LAN, **known))
    assert told == (after, effects)


def asked(to: Any, exchange: int, *, join: bool, members: Members = TOGETHER) -> Exchange:
    return Exchange(exchange, to, PushPull(join, members), 10 * SECOND)


def partner(names: str, members: Members = TOGETHER) -> tuple[Member, int]:
    """Whom of these the generator picks, and the generator after that."""
    (chosen,), rng_ = members.sample(SEED, 1, lambda member: member.peer.name in names)
    return chosen, rng_


def synced(names: str, members: Members = TOGETHER) -> tuple[AntiEntropy, tuple[Effect, ...]]:
    chosen, rng_ = partner(names, members)
    after = replace(ARMED, rng=rng_, exchange=U32 + 5)
    return after, (asked(chosen.peer.address, U32 + 5, join=False, members=members), AGAIN)


MIXED = table(record(A), record(B), record(C, 1, SUSPECT), record(D, 1, DEAD), record(E, 1, LEFT))
DEPARTING = table(record(A, 1, LEFT), record(B))
NOBODY = table(record(A), record(C, 1, SUSPECT), record(D, 1, DEAD), record(E, 1, LEFT))

TICKS: dict[str, Row] = {
    "after the stagger a whole period passes before the first exchange": (
        IDLE, PushPullTick(), {}, AntiEntropy(SEED, armed=True), (AGAIN,),
    ),
    "then one with anybody else": (ARMED, PushPullTick(), {}, *synced("BC")),
    "only the living will do, no suspects": (
        ARMED, PushPullTick(), {"members": MIXED}, *synced("B", MIXED),
    ),
    "without anybody it waits for the next": (
        ARMED, PushPullTick(), {"members": NOBODY}, ARMED, (AGAIN,),
    ),
    "alone it waits for the next": (
        ARMED, PushPullTick(), {"members": group("A")}, ARMED, (AGAIN,),
    ),
    "who has left itself still exchanges with the only other (6.14)": (
        ARMED, PushPullTick(), {"members": DEPARTING}, *synced("B", DEPARTING),
    ),
    "a join under way is no hindrance": (
        replace(ARMED, joining=Joining(U32 + 4, (X,))), PushPullTick(), {},
        replace(synced("BC")[0], joining=Joining(U32 + 4, (X,))), synced("BC")[1],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", TICKS.values(), ids=TICKS)
def test_tick(row: Row) -> None:
    check(row)


def test_the_period_grows_with_the_group() -> None:
    crowd = group("A")
    for i in range(40):
        crowd = crowd.put(record(f"{i}", address=at("x")))
    _, effects = step(ARMED, PushPullTick(), A, crowd, (), LAN)
    assert effects[-1] == After(60 * SECOND, PushPullTick())


@given(st.integers(0, rng.MASK))
def test_a_partner_is_alive_and_somebody_else(seed: int) -> None:
    members = MIXED.put(record("F"))
    _, effects = step(replace(ARMED, rng=seed), PushPullTick(), A, members, (), LAN)
    exchanges = of_type(Exchange, effects)
    assert [exchange.to for exchange in exchanges] in ([at(B)], [at("F")], [])  # few may be missed
    assert all(exchange.request == PushPull(False, members) for exchange in exchanges)


# --- join (6.14) ------------------------------------------------------------------------

REMOTE = PushPull(True, (record(B), record(D)))  # D is news to A
GAINED = Then(Alive(1, who(D)))
FIRST = replace(IDLE, exchange=U32 + 1, joining=Joining(U32 + 1, (X, Y)))
SECOND_LEG = replace(IDLE, exchange=U32 + 1, joining=Joining(U32 + 1, (Y,), 1))
BAD_PEER = PushPull(True, (record(D, vsn=bytes((1, 5, 2, 0, 0, 0))),))
REFUSAL = "delegate version 5 is outside of 2 to 0"

JOINS: dict[str, Row] = {
    "a join begins": (
        IDLE, Join((X, Y)), {}, replace(IDLE, joining=Joining(0, (X, Y))), (Then(JoinNext()),),
    ),
    "its first address is asked": (
        replace(IDLE, joining=Joining(0, (X, Y))), JoinNext(), {}, FIRST,
        (asked(X, U32 + 1, join=True),),
    ),
    "an answer is taken in, and the next is asked": (
        FIRST, Exchanged(U32 + 1, REMOTE), {}, SECOND_LEG, (GAINED, Then(JoinNext())),
    ),
    "a failure is remembered, and the next is asked": (
        FIRST, ExchangeFailed(U32 + 1, "refused"), {},
        replace(FIRST, joining=Joining(U32 + 1, (Y,), 0, ((X, "refused"),))), (Then(JoinNext()),),
    ),
    "one failure after the other": (
        replace(FIRST, joining=Joining(U32 + 1, (Y,), 2, ((X, "refused"),))),
        ExchangeFailed(U32 + 1, "timed out"), {},
        replace(FIRST, joining=Joining(U32 + 1, (), 2, ((X, "refused"), (Y, "timed out")))),
        (Then(JoinNext()),),
    ),
    "the next is asked under another number": (
        SECOND_LEG, JoinNext(), {},
        replace(IDLE, exchange=U32 + 2, joining=Joining(U32 + 2, (Y,), 1)),
        (asked(Y, U32 + 2, join=True),),
    ),
    "after the last the owner is told": (
        replace(FIRST, joining=Joining(U32 + 1, (), 1, ((X, "refused"),))), JoinNext(), {},
        replace(FIRST, joining=None), (Emit(JoinFinished(1, ((X, "refused"),))),),
    ),
    "a join of nobody is over": (
        replace(IDLE, joining=Joining(0, ())), JoinNext(), {}, IDLE, (Emit(JoinFinished(0, ())),),
    ),
    "more addresses are asked after those under way": (
        FIRST, Join((at("z"),)), {},
        replace(FIRST, joining=Joining(U32 + 1, (X, Y, at("z")))), (),
    ),
    "the end of a join that is over": (IDLE, JoinNext(), {}, IDLE, ()),
    "an answer of another exchange is taken in and does not advance the join": (
        FIRST, Exchanged(U32 + 9, REMOTE), {}, FIRST, (GAINED,),
    ),
    "a failure of another exchange is nothing": (
        FIRST, ExchangeFailed(U32 + 9, "refused"), {}, FIRST, (),
    ),
    "a failure of the periodic exchange is nothing": (
        ARMED, ExchangeFailed(U32 + 4, "refused"), {}, ARMED, (),
    ),
    "a failed stream ping is nothing": (ARMED, ExchangeFailed(11, "refused"), {}, ARMED, ()),
    "an answer to the periodic exchange is taken in": (
        ARMED, Exchanged(U32 + 4, replace(REMOTE, join=False)), {}, ARMED, (GAINED,),
    ),
    # the other side
    "who is asked replies before taking in": (
        ARMED, ExchangeRequested(3, X, REMOTE), {}, ARMED,
        (Reply(3, PushPull(True, TOGETHER)), GAINED),
    ),
    "the reply says what kind of exchange it is": (
        ARMED, ExchangeRequested(3, X, replace(REMOTE, join=False)), {}, ARMED,
        (Reply(3, PushPull(False, TOGETHER)), GAINED),
    ),
    "who is asked replies even if it refuses": (
        ARMED, ExchangeRequested(3, X, BAD_PEER), {}, ARMED,
        (Reply(3, PushPull(True, TOGETHER)), Emit(MergeRefused(REFUSAL))),
    ),
    "a refused state is not taken in": (
        ARMED, Exchanged(U32 + 4, BAD_PEER), {}, ARMED, (Emit(MergeRefused(REFUSAL)),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", JOINS.values(), ids=JOINS)
def test_join(row: Row) -> None:
    check(row)


def finished(state: AntiEntropy, input: PushPullInput) -> tuple[JoinFinished, ...]:
    """How a join of X alone ends when this comes of it."""
    state, effects = step(state, input, A, TOGETHER, (), LAN)
    if Then(JoinNext()) in effects:
        _, effects = step(state, JoinNext(), A, TOGETHER, (), LAN)
    return tuple(
        effect.event
        for effect in effects
        if isinstance(effect, Emit) and isinstance(effect.event, JoinFinished)
    )


JOINING_X = replace(FIRST, joining=Joining(U32 + 1, (X,)))


def test_a_join_that_is_refused_has_reached_nobody() -> None:
    """6.14: the result is the number of successes; a merge that is rejected is an error."""
    (end,) = finished(JOINING_X, Exchanged(U32 + 1, BAD_PEER))
    assert end.contacted == 0
    assert [address for address, _ in end.failures] == [X]


# --- merging (6.13) ---------------------------------------------------------------------

LOCAL_TABLE = table(record(A, 3), record(B, 5), record(C, 5, SUSPECT), record(D, 5, DEAD))

MERGES: dict[str, tuple[tuple[Member, ...], tuple[Effect, ...]]] = {  # remote records, news
    "nothing": ((), ()),
    "what is known is no news": ((record(A, 3), record(B, 5), record(D, 5, DEAD)), ()),
    "a new member": ((record(E),), (Then(Alive(1, who(E))),)),
    "a newer incarnation": ((record(B, 6),), (Then(Alive(6, who(B))),)),
    "an older one is for membership to drop": ((record(B, 4),), (Then(Alive(4, who(B))),)),
    "new metadata": ((record(B, 6, meta=b"m"),), (Then(Alive(6, who(B, b"m"))),)),
    "another address": (
        (record(B, 5, address=at("x")),), (Then(Alive(5, who(B, address=at("x")))),),
    ),
    "a suspect is suspected by oneself (P11)": (
        (record(B, 5, SUSPECT),), (Then(Suspect(5, B, A)),),
    ),
    "the dead are only suspected, by oneself": ((record(B, 5, DEAD),), (Then(Suspect(5, B, A)),)),
    "a new dead member as well": ((record(E, 2, DEAD),), (Then(Suspect(2, E, A)),)),
    "who has left has left": ((record(B, 5, LEFT),), (Then(Dead(5, B, B)),)),
    "an equal suspicion is a confirmation": (
        (record(C, 5, SUSPECT),), (Then(Suspect(5, C, A)),),
    ),
    "what they say of oneself": ((record(A, 9, DEAD),), (Then(Suspect(9, A, A)),)),
    "what they say of an earlier life of oneself": ((record(A, 9),), (Then(Alive(9, who(A))),)),
    "in the order of the entries": (
        (record(E), record(B, 5, LEFT), record(C, 6)),
        (Then(Alive(1, who(E))), Then(Dead(5, B, B)), Then(Alive(6, who(C)))),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("remote", "news"), MERGES.values(), ids=MERGES)
def test_merge(remote: tuple[Member, ...], news: tuple[Effect, ...]) -> None:
    assert merge(LOCAL_TABLE, remote, (C,), A) == news


@pytest.mark.parametrize(("remote", "news"), MERGES.values(), ids=MERGES)
def test_merging_a_table_is_merging_its_records(
    remote: tuple[Member, ...], news: tuple[Effect, ...]
) -> None:
    """In the simulator the table itself travels; its news come in the order of its slots."""
    assert merge(LOCAL_TABLE, table(*remote), (C,), A) == news


def test_equal_tables_share_nothing_but_suspicions() -> None:
    same = table(record(A, 3), record(C, 5, SUSPECT), record(D, 5, DEAD), record(B, 5))
    for remote in (LOCAL_TABLE, same):
        assert differences(LOCAL_TABLE, remote, (C,)) == [record(C, 5, SUSPECT)]
        assert merge(LOCAL_TABLE, remote, (C,), A) == (Then(Suspect(5, C, A)),)
    assert differences(TOGETHER, group("CBA"), ()) == []


RECORDS = st.builds(
    record,
    st.sampled_from("ABCDEF"),
    st.integers(1, 3),
    st.sampled_from(Status),
    st.sampled_from([b"", b"m"]),
)
TABLES = st.lists(RECORDS, unique_by=lambda member: member.peer.name).map(lambda m: table(*m))


@given(TABLES, TABLES)
def test_differences_are_what_a_plain_comparison_finds(local: Members, remote: Members) -> None:
    """Everything that differs, and every suspicion; nothing that is the same."""
    known = set(local)
    wanted = [m for m in remote if m.status == SUSPECT or m not in known]
    suspects = [member.peer.name for member in local if member.status == SUSPECT]
    assert differences(local, remote, suspects) == wanted
    assert differences(local, tuple(remote), suspects) == wanted


@given(TABLES)
def test_a_table_made_from_another_differs_where_it_was_changed(local: Members) -> None:
    """Shared records are passed over by identity; the result is the same."""
    remote = local.put(record(B, 9, LEFT)).put(record("Z"))
    changed = {record(B, 9, LEFT), record("Z")}
    wanted = [m for m in remote if m.status == SUSPECT or m in changed]
    assert differences(local, remote, ()) == wanted


# --- versions that do not go together (6.13 step 1) -------------------------------------

SERF = (VSN, 1, 1)
PLAIN = bytes((1, 5, 2, 0, 0, 0))


def uses(*drawn: tuple[bytes, int, int]) -> tuple[VersionUse, ...]:
    return tuple(VersionUse(vsn, alive, total) for vsn, alive, total in drawn)


VERSIONS: dict[str, tuple[tuple[VersionUse, ...], tuple[VersionUse, ...], str]] = {
    "everybody alike": (uses(SERF), uses((VSN, 3, 4)), ""),
    "nobody there": (uses(SERF), (), ""),
    "other ranges that hold everybody's current version": (
        uses(SERF), uses((VSN_3, 1, 1), (bytes((2, 3, 2, 2, 5, 5)), 1, 1)), "",
    ),
    "a serf and a plain memberlist": (uses(SERF), uses((PLAIN, 1, 1)), REFUSAL),
    "whichever side it is on": (
        uses((PLAIN, 1, 1)), uses(SERF), "delegate version 0 is outside of 2 to 0",
    ),
    "too old": (
        uses(SERF), uses((bytes((3, 5, 3, 2, 5, 5)), 1, 1)),
        "protocol version 2 is outside of 3 to 5",
    ),
    "too new": (
        uses(SERF), uses((bytes((1, 9, 7, 2, 5, 5)), 1, 1)),
        "protocol version 7 is outside of 1 to 5",
    ),
    "a delegate too new": (
        uses(SERF), uses((bytes((1, 5, 2, 2, 9, 6)), 1, 1)),
        "delegate version 6 is outside of 2 to 5",
    ),
    "the dead do not narrow the range": (
        uses(SERF), uses((bytes((3, 4, 3, 3, 4, 4)), 0, 1)), "",
    ),
    "but must be in it": (
        uses(SERF), uses((bytes((1, 9, 7, 2, 5, 5)), 0, 1)),
        "protocol version 7 is outside of 1 to 5",
    ),
    "one's own dead must be in it as well": (
        uses(SERF, (bytes((1, 9, 7, 2, 5, 5)), 0, 1)), uses((VSN, 2, 2)),
        "protocol version 7 is outside of 1 to 5",
    ),
    "no versions count as zero": (
        uses(SERF), uses((b"", 1, 1)), "protocol version 0 is outside of 1 to 5",
    ),
    "nobody alive: anything goes": (
        uses((VSN, 0, 1)), uses((PLAIN, 0, 1), (b"", 0, 2)), "",
    ),
    "the same veto on both sides": (
        uses(SERF, (PLAIN, 1, 1)), uses(SERF, (PLAIN, 1, 1)), REFUSAL,
    ),
    "a version outside of its own range, though everybody speaks it": (
        uses((bytes((1, 5, 7, 2, 5, 5)), 1, 1)), uses((bytes((1, 5, 7, 2, 5, 5)), 1, 1)),
        "protocol version 7 is outside of 1 to 5",
    ),
    "no versions on either side, and somebody lives": (
        # memberlist takes A over the living that *have* versions: there are none
        uses((b"", 1, 1)), uses((b"", 1, 1)), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("local", "remote", "complaint"), VERSIONS.values(), ids=VERSIONS)
def test_incompatible(
    local: tuple[VersionUse, ...], remote: tuple[VersionUse, ...], complaint: str
) -> None:
    assert incompatible(local, remote) == complaint


SIX = st.tuples(*[st.integers(0, 4)] * 6).map(bytes) | st.just(b"")
USES = st.lists(
    st.tuples(SIX, st.integers(0, 2), st.just(2)), unique_by=lambda use: use[0], max_size=3
)


@given(USES, USES)
def test_a_veto_is_what_the_specification_says(
    local: list[tuple[bytes, int, int]], remote: list[tuple[bytes, int, int]]
) -> None:
    """6.13 step 1, over every record one by one."""
    everybody = [*local, *remote]
    living = [vsn for vsn, alive, _ in everybody if alive and len(vsn) == 6]
    fine = True
    for part in (0, 3):
        least = max((vsn[part] for vsn in living), default=0)
        most = min((vsn[part + 1] for vsn in living), default=255)
        for vsn, _, _ in everybody:
            fine &= least <= (vsn[part + 2] if vsn else 0) <= most
    assert (incompatible(uses(*local), uses(*remote)) == "") == fine


def test_a_veto_holds_for_records_and_tables_alike() -> None:
    remote = (record(B), record(E, 1, DEAD, vsn=bytes((1, 9, 7, 2, 5, 5))))
    refused = (Emit(MergeRefused("protocol version 7 is outside of 1 to 5")),)
    assert merge(LOCAL_TABLE, remote, (), A) == refused
    assert merge(LOCAL_TABLE, table(*remote), (), A) == refused


def test_the_dead_of_a_peer_narrow_no_range() -> None:
    remote = (record(B, 5), record(E, 1, DEAD, vsn=bytes((3, 4, 3, 3, 4, 4))))
    news = (Then(Suspect(1, E, A)),)
    assert merge(LOCAL_TABLE, remote, (), A) == news
    assert merge(LOCAL_TABLE, table(*remote), (), A) == news


@given(TABLES)
def test_merging_is_told_by_whom(remote: Members) -> None:
    """What is only suspected is suspected by oneself; only a farewell is by its owner."""
    for then in merge(TOGETHER, remote, (), A):
        news = then.news
        if isinstance(news, Suspect):
            assert news.source == A
            assert remote[news.node].status in (SUSPECT, DEAD)
        elif isinstance(news, Dead):
            assert news.source == news.node
            assert remote[news.node].status == LEFT
        else:
            assert remote[news.peer.name].status == ALIVE
