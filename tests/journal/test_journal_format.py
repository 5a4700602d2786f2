"""Records to bytes and back; and what becomes of bytes that are none."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace

from swimsim import inputs as inputs_
from swimsim import journal, messages
from swimsim.config import LAN
from swimsim.effects import Emit, Failed, Left, Suspected
from swimsim.fingerprint import fingerprint
from swimsim.inputs import (
    Exchanged,
    ExchangeFailed,
    ExchangeRequested,
    Leave,
    Received,
    Start,
    UpdateMeta,
)
from swimsim.journal import (
    MAGIC,
    Checkpoint,
    Cut,
    End,
    Gap,
    Happened,
    Header,
    JournalError,
    Raised,
    Snapshot,
)
from swimsim.members import Members
from swimsim.messages import Alive, PushPull, Suspect, User
from swimsim.node import Node, create
from swimsim.serf.messages import LeaveIntent
from swimsim.swim.broadcast import Lane
from swimsim.terms import MS, SECOND, NodeId
from swimsim.wire import serf
from tests.builders import A, at, fed, group, record, settled, table, who
from tests.journal.journals import Witness, data_of, read
from tests.test_properties import CONFIGS, DEEDS, HOSTS, Deed, do
from tests.world import World

SERF = replace(LAN, serf=True)
ODD = NodeId(b"caf\xe9 \xff".decode("utf-8", "surrogateescape"))
MARK = NodeId("\U0010fffd00dcff")  # what looks as if it had been escaped


def lived(deeds: list[Deed], n: int = 5, config: str = "lan", seed: int = 0) -> Witness:
    """The witness of A's life in a world to which all this happens."""
    world = World(HOSTS[:n], CONFIGS[config], seed=seed)
    witness = Witness("A")
    world.watchers.append(witness)
    for deed in deeds:
        do(world, deed)
    return witness


def small() -> bytes:
    """A short journal with every kind of record in it."""
    witness = Witness("A")
    world = World("ABC", seed=3)
    world.watchers.append(witness)
    world.run(SECOND)
    world.kill("C")
    world.run(2 * SECOND)
    records = witness.end()[:22]
    *_, last = witness.nodes[: len(records) - 1]
    more = (
        Checkpoint(fingerprint(last)),
        Gap(3, 5, 7, "the disk was too slow"),
        journal.snapshot(23, 9, journal.GAP, last),
        Raised(10, Leave(5), "ValueError: no"),
        End(24, fingerprint(last)),
    )
    return data_of([*records, *more])


SMALL = small()
WHOLE = list(journal.read(SMALL))


# --- there and back ----------------------------------------------------------------------


@settings(max_examples=100)
@given(
    st.integers(2, 5),
    st.sampled_from(sorted(CONFIGS)),
    st.integers(0, 99),
    st.lists(DEEDS, min_size=4, max_size=25),
)
def test_what_a_node_lives_through_comes_back_as_it_was(
    n: int, config: str, seed: int, deeds: list[Deed]
) -> None:
    witness = lived(deeds, n, config, seed)
    records = witness.end()
    back = read(data_of(records))
    assert back == records
    for one, other in zip(back, records, strict=True):
        assert repr(one) == repr(other) or "Map(" in repr(other)
    if witness.nodes:
        node = witness.nodes[-1]
        again = read(data_of([Header(""), journal.snapshot(1, 2, "start", node)]))[1]
        assert isinstance(again, Snapshot)
        assert again.node == node
        assert again.node.members.slots == node.members.slots
        event("suspicions", str(len(node.membership.suspicions)))
        event("departed", str(len(node.membership.departed)))
        event("relays", str(len(node.probe.relays)))


def test_a_table_stays_a_table_and_a_tuple_a_tuple() -> None:
    """``push_pull.differences`` treats them differently."""
    members = group("ABC").put(record("D", 3)).remove(A)
    for states in (members, tuple(members), (), table()):
        said = PushPull(True, states, b"\xff")
        for input in (Exchanged(7, said), ExchangeRequested(7, at("B"), said)):
            back = round_trip(Happened(1, input, 2, 3))
            assert back == Happened(1, input, 2, 3)
            held = back.input.response if isinstance(input, Exchanged) else back.input.request
            assert type(held.states) is type(states)
            if isinstance(states, Members):
                assert list(held.states) == list(states)
                assert held.states.slots == states.slots


def round_trip(record: Any) -> Any:
    return read(data_of([Header(""), record]))[1]


def test_every_input_and_message_has_a_tag_of_its_own() -> None:
    kinds = [
        kind
        for module in (inputs_, messages)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        if kind.__module__ == module.__name__
    ]
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert tags == [kind.__name__ for kind in kinds]
    assert len(set(tags)) == len(tags) > 30


@pytest.mark.parametrize("name", [ODD, MARK, NodeId("\U0010fffd"), NodeId("ü\n\0"), NodeId("")])
def test_names_may_be_any_bytes(name: NodeId) -> None:
    news = (Alive(1, who(name + "x")), Suspect(1, name, ODD))
    for input in (Received(at("B"), news), ExchangeFailed(1, name), Received(at("B"), ())):
        assert round_trip(Happened(1, input, 2, 3)) == Happened(1, input, 2, 3)
    node = create(NodeId(name + "x"), at("A"), SERF, seed=1)
    for said in (name, ODD):
        payload = serf.encode(LeaveIntent(3, said))
        node, _ = fed(node, 0, Received(at("B"), (User(payload),)))
    assert node.serf is not None
    assert set(node.serf.intents.recent) == {name, ODD}
    back = round_trip(journal.snapshot(0, 0, "start", node))
    assert back.node == node


def test_numbers_may_be_larger_than_msgpack_has_them() -> None:
    """A Lamport clock that was pushed to its end by a stranger has 64 bits."""
    for number in (2**64 - 1, 2**64, 2**70, -(2**63) - 1):
        node = with_clock(settled(config=SERF), number)
        assert round_trip(journal.snapshot(0, 0, "start", node)).node == node
        assert round_trip(Happened(1, Leave(number), 2, 3)) == Happened(1, Leave(number), 2, 3)


@given(st.text(st.characters(codec=None), max_size=20))
@example("\ud800\udfff\U0010fffd0010ffff")
def test_any_text_comes_back(text: str) -> None:
    input = ExchangeFailed(1, text)
    assert round_trip(Happened(1, input, 2, 3)).input == input
    assert round_trip(Raised(1, input, text)).error == text


def test_the_bytes_of_the_format_are_these() -> None:
    """Whoever reads journals of format 1 elsewhere may rely on them."""
    header = journal.encode(Header("0.1.0", "monday", 2))
    assert MAGIC == b"swimsim journal 1\n"
    assert header[10:] == bytes.fromhex("94a6686561646572a5302e312e30a66d6f6e64617902")
    assert header[:10].hex() == "000000160f3f6a7f3f3e"[:8] + header[4:10].hex()
    happened = journal.encode(Happened(5, UpdateMeta(b"m"), 6, 7))
    assert msgspec.msgpack.decode(happened[10:]) == [
        "input", 5, {"type": "UpdateMeta", "meta": b"m"}, 6, 7,
    ]  # fmt: skip
    assert msgspec.msgpack.decode(journal.encode(Gap(1, 2, 3, "why"))[10:]) == [
        "gap", 1, 2, 3, "why",
    ]  # fmt: skip


# --- the state in few bytes --------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 99), st.lists(DEEDS, min_size=4, max_size=15))
def test_a_digest_depends_on_the_state_alone(seed: int, deeds: list[Deed]) -> None:
    witness = lived(deeds, seed=seed)
    last = journal.Digest()
    for node in witness.nodes:
        last = journal.digest(node, last)
        assert last.value == journal.digest(node, journal.Digest()).value
        copy = read(data_of([Header(""), journal.snapshot(0, 0, "start", node)]))[1]
        assert isinstance(copy, Snapshot)
        assert journal.digest(copy.node, last).value == last.value


def changes(node: Node) -> dict[str, Node]:
    """The same node, but for one thing."""
    known, probe, queue, upkeep = node.membership, node.probe, node.broadcasts, node.upkeep
    busy = replace(upkeep.anti_entropy, exchange=77)
    later = replace(upkeep.reconnect, origin=77)
    return {
        "rng": replace(node, upkeep=replace(upkeep, rng=upkeep.rng ^ 1)),
        "health": replace(node, health=node.health + 1),
        "config": replace(node, config=replace(LAN, gossip_nodes=7)),
        "members": replace(node, membership=replace(known, members=known.members.remove(A))),
        "departed": replace(node, membership=replace(known, departed=Map({A: 5}))),
        "leaving": replace(node, membership=replace(known, leaving=True)),
        "seq_no": replace(node, probe=replace(probe, seq_no=77)),
        "cursor": replace(node, probe=replace(probe, cursor=77)),
        "arrivals": replace(node, broadcasts=replace(queue, arrivals=77)),
        "ticking": replace(node, broadcasts=replace(queue, ticking=not queue.ticking)),
        "exchange": replace(node, upkeep=replace(upkeep, anti_entropy=busy)),
        "lost": replace(node, upkeep=replace(upkeep, reconnect=later)),
        "clock": with_clock(node, 77),
        "lane": replace(node, serf=replace(node.serf, lanes=(Lane(77), Lane(), Lane()))),
    }


def with_clock(node: Node, clock: int) -> Node:
    assert node.serf is not None
    return replace(node, serf=replace(node.serf, intents=replace(node.serf.intents, clock=clock)))


@pytest.mark.parametrize("what", changes(settled(config=SERF)))
def test_a_digest_tells_of_every_part(what: str) -> None:
    node = settled(config=SERF)
    digest = journal.digest(node, journal.Digest())
    assert journal.digest(changes(node)[what], digest).value != digest.value


def test_effects_of_different_kinds_have_different_checksums() -> None:
    sums = {journal.checksum((Emit(kind(A, 1, A)),)) for kind in (Failed, Left, Suspected)}
    assert len(sums) == 3
    assert journal.checksum(()) != journal.checksum(((),))
    assert journal.checksum((Emit(Left(ODD, 1, A)),)) != journal.checksum((Emit(Left(A, 1, A)),))


# --- files that are cut ------------------------------------------------------------------


def test_a_journal_that_is_cut_anywhere_is_read_up_to_there() -> None:
    bounds = {offset for offset, _ in WHOLE} | {len(MAGIC), len(SMALL)}
    for end in range(len(SMALL)):
        found = list(journal.read(SMALL[:end]))
        if end in bounds:
            assert found == [(offset, record) for offset, record in WHOLE if offset < end]
            continue
        *before, (offset, cut) = found
        assert before == WHOLE[: len(before)]
        assert isinstance(cut, Cut)
        assert (
            offset
            == cut.offset
            == max((b for b in bounds if b <= end), default=0) * (end > len(MAGIC))
        )
        assert cut.left == end - offset


def test_a_journal_that_is_cut_anywhere_replays_up_to_there() -> None:
    whole = list(journal.replay(record for _, record in WHOLE))
    for end in range(len(MAGIC), len(SMALL), 7):
        found = list(journal.replay(record for _, record in journal.read(SMALL[:end])))
        assert [step.number for step in found] == [step.number for step in whole[: len(found)]]
        assert all(step.agrees for step in found[:-1])


def test_zeros_that_a_loss_of_power_left_are_a_cut() -> None:
    for end in (len(SMALL), len(SMALL) - 3, WHOLE[5][0], WHOLE[5][0] + 4, len(MAGIC)):
        found = list(journal.read(SMALL[:end] + bytes(700)))
        assert isinstance(found[-1][1], Cut)
        assert found[:-1] == WHOLE[: len(found) - 1]
        assert len(found) - 1 == sum(offset < end for offset, _ in WHOLE) - (
            end not in {offset for offset, _ in WHOLE} | {len(MAGIC), len(SMALL)}
        )
    with pytest.raises(JournalError, match="no record begins here"):
        read(SMALL + bytes(100))
    with pytest.raises(JournalError, match=f"byte {WHOLE[3][0]}: a damaged record"):
        read(SMALL[: WHOLE[4][0] - 1] + b"?" + SMALL[WHOLE[4][0] :] + bytes(700))


# --- files that are damaged --------------------------------------------------------------


def test_no_byte_can_be_changed_unnoticed() -> None:
    random = Random(1)
    for place in range(len(SMALL)):
        data = bytearray(SMALL)
        data[place] ^= random.randrange(1, 256)
        with pytest.raises(JournalError) as caught:
            read(bytes(data))
        begin = max((offset for offset, _ in WHOLE if offset <= place), default=0)
        assert caught.value.offset == (begin if place >= len(MAGIC) else 0)
        assert str(caught.value).startswith(f"byte {caught.value.offset}: ")


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_journal_a_cut_or_an_error(data: bytes, begins: bool) -> None:
    offset = refusal(MAGIC + data if begins else data)
    assert offset is None or 0 <= offset <= len(MAGIC) + len(data)


def refusal(data: bytes) -> int | None:
    """Where the error is, if there is one."""
    try:
        read(data)
    except JournalError as error:
        return error.offset
    return None


@settings(max_examples=400)
@given(st.data())
def test_a_record_with_a_good_checksum_is_not_trusted_either(data: st.DataObject) -> None:
    offset, _ = data.draw(st.sampled_from(WHOLE))
    end = min((other for other, _ in WHOLE if other > offset), default=len(SMALL))
    payload = bytearray(SMALL[offset + 10 : end])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(payload) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if how == "set":
            payload[place] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del payload[place : place + data.draw(st.integers(1, 9))]
        else:
            payload[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        if not payload:
            break
    forged = SMALL[:offset] + journal._framed(bytes(payload)) + SMALL[end:]
    assert refusal(forged) in (None, offset)


FOREIGN = {
    "nothing of the kind": (b"PAR1\0\0", "not a journal of swimsim"),
    "another format": (b"swimsim journal 2\n...", "a journal of format 2, this swimsim reads 1"),
    "a format of no number": (b"swimsim journal x\n...", "not a journal of swimsim"),
}


@pytest.mark.parametrize(("data", "what"), FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_said_to_be_one(data: bytes, what: str) -> None:
    with pytest.raises(JournalError, match=f"^byte 0: {what}$"):
        read(data)


PAYLOADS: dict[str, Any] = {
    "no array": {"a": 1},
    "no kind": [],
    "an unknown kind": ["dream", 1],
    "too short": ["input", 5],
    "an unknown input": ["input", 5, {"type": "Dream"}, 1, 2],
    "a timer that is news": ["input", 5, {"type": "RoundEnded"}, 1, 2],
    "an input of wrong types": ["input", 5, {"type": "Leave", "timeout": "1"}, 1, 2],
    "metadata that is too long": ["input", 5, {"type": "UpdateMeta", "meta": bytes(513)}, 1, 2],
    "a snapshot of nothing": ["snapshot", 1, 2, "start", {}, 3],
    "an odd record in an odd one": ["odd", msgspec.msgpack.encode(["odd", b""])],
    "an odd record of no character": [
        "odd",
        msgspec.msgpack.encode(["gap", 1, 2, 3, "\U0010fffdffffff"]),
    ],
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_that_is_no_record_is_an_error(payload: Any) -> None:
    with pytest.raises(JournalError, match=f"^byte {len(MAGIC)}: a record of another kind: "):
        read(MAGIC + journal._framed(msgspec.msgpack.encode(payload)))


def test_a_nest_without_end_is_an_error() -> None:
    with pytest.raises(JournalError, match="another kind"):
        read(MAGIC + journal._framed(b"\x91" * 200_000))


def test_a_snapshot_that_is_not_the_node_it_says_is_an_error() -> None:
    node = settled()
    forged = Snapshot(0, 0, "start", node, fingerprint(node) ^ 1)
    with pytest.raises(JournalError, match="a snapshot of another node than it says"):
        read(data_of([Header(""), forged]))


def test_what_a_journal_cannot_hold_is_said_at_once() -> None:
    with pytest.raises(NotImplementedError, match="a journal cannot hold a object"):
        journal.encode(Happened(1, object(), 2, 3))  # type: ignore[arg-type]


def test_start_with_a_table_comes_back() -> None:
    input = Start(group("ABCDE").put(record("F", 2, meta=b"m")))
    assert round_trip(Happened(MS, input, 0, 0)).input == input


def test_a_user_message_is_any_bytes() -> None:
    input = Received(at("B"), (User(bytes(range(256)) + bytes(700)),))
    assert round_trip(Happened(MS, input, 0, 0)).input == input
