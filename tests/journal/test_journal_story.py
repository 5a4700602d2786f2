"""Why a node believes what it believes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim import journal, story
from swimsim.config import LAN, Config
from swimsim.effects import Emit, Suspected
from swimsim.inputs import Join, Leave, Received, UpdateMeta
from swimsim.journal import Gap, Happened, Header, Raised, replay
from swimsim.messages import Dead, Suspect
from swimsim.story import Entry, standing
from swimsim.terms import MS, SECOND, NodeId
from tests.builders import A, B, at
from tests.journal.journals import Witness, read_all, scenario
from tests.journal.test_journal_format import lived
from tests.test_properties import CONFIGS, DEEDS, Deed, do
from tests.world import World


def witnessed(config: Config = LAN, hosts: str = "ABCD", **options: Any) -> tuple[World, Witness]:
    """A world, and the witness of A's life in it."""
    world = World(hosts, config, seed=1, **options)
    witness = Witness("A")
    world.watchers.append(witness)
    return world, witness


def of(witness: Witness, member: str) -> list[Entry]:
    return list(story.story(replay(witness.records), NodeId(member)))


def words(entries: list[Entry]) -> str:
    """All that was told."""
    return "\n".join(
        line for entry in entries for line in (entry.arrived, *(f"-> {c}" for c in entry.changed))
    )


# --- properties --------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(2, 5),
    st.sampled_from(sorted(CONFIGS)),
    st.integers(0, 99),
    st.lists(DEEDS, min_size=4, max_size=30),
)
def test_a_story_leaves_out_nothing_that_changed_the_member(
    n: int, config: str, seed: int, deeds: list[Deed]
) -> None:
    witness = lived(deeds, n, config, seed)
    steps = list(replay(witness.records))
    for member in map(NodeId, "ABCDEx"):
        entries = of(witness, member)
        told = {entry.number for entry in entries}
        assert sorted(entry.number for entry in entries) == [entry.number for entry in entries]
        for step in steps:
            before, after = step.before, step.after
            changed = before.members.get(member) != after.members.get(member)
            suspicions = before.membership.suspicions, after.membership.suspicions
            changed |= suspicions[0].get(member) != suspicions[1].get(member)
            if changed:
                assert step.number in told
        if steps:
            last = steps[-1].after.members.get(member)
            status = "unknown" if last is None else last.status.name.lower()
            assert entries[-1].status == status
            assert standing(steps[-1].after, member).split(",")[0] == status


def test_every_line_says_something() -> None:
    witness = lived([("run", 2500 * MS), ("kill", "B"), ("run", 30 * SECOND)])
    for entry in of(witness, "B"):
        assert entry.arrived
        assert entry.changed
        assert all(entry.changed)


# --- scenes ------------------------------------------------------------------------------


def test_rounds_that_are_answered_are_counted_and_not_told() -> None:
    world, witness = witnessed()
    world.run(60 * SECOND)
    beginning, rounds, *rest = of(witness, "B")
    assert beginning.changed == ("B is alive, incarnation 1",)
    assert rounds.changed[0].startswith("the last of 2")
    assert " rounds that it answered since " in rounds.changed[0]
    assert len(rest) <= 1  # one that has begun and is not over
    assert all(entry.changed[0].endswith(" s") for entry in rest)


def test_the_round_that_fails_is_told_from_its_beginning() -> None:
    world, witness = witnessed(hosts="AB")
    world.run(10 * SECOND)
    world.kill("B")
    world.run(9 * SECOND)
    told = words(of(witness, "B"))
    last = told[told.index("rounds that it answered") :]
    assert "pings it; failed if there is no answer by" in last
    assert "had no answer: opened a stream to it" in last
    assert "stream to B (10.0.0.66:7946) failed: refused" in last
    assert "failed: nobody reached it" in last
    assert "-> alive -> suspect, incarnation 1" in last
    assert "-> suspected by A: dead at " in last
    assert "timer: the suspicion of B that began at " in last
    assert "-> suspect -> dead, incarnation 1" in last


def test_the_dead_are_tried_again_and_forgotten() -> None:
    config = replace(LAN, gossip_to_the_dead_time=40 * SECOND, reconnect_interval=5 * SECOND)
    world, witness = witnessed(config)
    world.run(2 * SECOND)
    world.kill("B")
    world.run(90 * SECOND)
    told = words(of(witness, "B"))
    assert "timer: ReconnectTick\n-> tries to reach it again, over a stream" in told
    assert "-> push/pull: it was not reached over a stream" in told
    assert "-> forgotten" in told
    assert of(witness, "B")[-1].status == "unknown"


def test_confirmations_name_the_accuser_and_what_they_change() -> None:
    world, witness = witnessed(hosts="ABCDE")
    for source in "CDE":
        world.feed("A", Received(at(source), (Suspect(1, B, NodeId(source)),)))
    told = words(of(witness, "B"))
    assert (
        "packet from C (10.0.0.67:7946): C suspects B, incarnation 1\n"
        "-> alive -> suspect, incarnation 1\n"
        "-> suspected by C: dead at 24.000000 s unless it refutes, "
        "at 4.000000 s with 2 more accusers\n"
        "packet from D (10.0.0.68:7946): D suspects B, incarnation 1\n"
        "-> D confirms, 1 of 2: dead at 11.381000 s instead of 24.000000 s\n"
        "packet from E (10.0.0.69:7946): E suspects B, incarnation 1\n"
        "-> E confirms, 2 of 2: dead at 4.000000 s instead of 11.381000 s"
    ) in told
    assert standing(world.nodes["A"], B) == (
        "suspect, incarnation 1, suspected by C, D and E, dead at 4.000000 s unless it refutes"
    )


def test_helpers_and_streams_are_told_of() -> None:
    config = replace(LAN, nack_percent=80, stream_ping=False)
    world, witness = witnessed(config)
    world.cut("A", "B")
    world.run(20 * SECOND)
    told = words(of(witness, "B"))
    assert "late or through a helper" in told
    assert "asked C and D to ping it" in told or "asked D and C to ping it" in told
    world, witness = witnessed(config)
    world.kill("B")
    world.run(6 * SECOND)
    assert "a helper hears nothing of it either" in words(of(witness, "B"))
    world, witness = witnessed()
    world.cut("A", "B", "C", "D", streams=False)
    world.run(9 * SECOND)
    told = words(of(witness, "B"))
    assert "it answered over a stream, packets may be lost" in told
    assert "succeeds, by the stream alone" in told


def test_what_a_push_pull_brought_is_told_with_whom_it_came_from() -> None:
    world, witness = witnessed(settled=False, hosts="ABC")
    world.feed("C", Join((at("B"),)))
    world.run(SECOND)
    world.feed("A", Join((at("C"),)))
    world.run(SECOND)
    told = words(of(witness, "B"))
    assert "stream to 10.0.0.67:7946 answered: a join, it holds B alive, incarnation 1" in told
    assert "-> now a member: alive, incarnation 1, 10.0.0.66:7946" in told
    assert "it does not know" not in told
    world, witness = witnessed(settled=False, hosts="AB")
    world.feed("B", Join((at("A"),)))
    world.run(SECOND)
    told = words(of(witness, "B"))
    assert "stream from 10.0.0.66:7946: a join, it holds B alive, incarnation 1" in told


def test_farewells_metadata_and_impostors() -> None:
    world, witness = witnessed()
    world.feed("B", UpdateMeta(b"m"))
    world.run(SECOND)
    do(world, ("impostor", "B", "A"))
    world.run(SECOND)
    world.feed("B", Leave(5 * SECOND))
    world.run(5 * SECOND)
    told = words(of(witness, "B"))
    assert "-> still alive, incarnation 1 -> 2\n-> metadata b'' -> b'm'" in told
    assert "-> 10.0.0.120:7946 claims its name: ignored, 10.0.0.66:7946 has it" in told
    assert ": B has left, incarnation 2\n-> alive -> left, incarnation 2" in told
    world.kill("B")
    do(world, ("impostor", "B", "A"))
    world.run(5 * SECOND)
    told = words(of(witness, "B"))
    assert "-> left -> alive" in told
    assert "-> address 10.0.0.66:7946 -> 10.0.0.120:7946" in told


def test_one_s_own_story_is_of_accusations_and_of_health() -> None:
    world, witness = witnessed(replace(LAN, stream_ping=False))
    world.feed("A", Received(at("C"), (Dead(1, A, NodeId("C")),)))
    world.run(SECOND)
    do(world, ("deaf", "A"))
    world.run(8 * SECOND)
    told = words(of(witness, "A"))
    assert (
        "packet from C (10.0.0.67:7946): A is dead, incarnation 1, says C\n"
        "-> refuted, incarnation 1 -> 2\n-> own health 0 -> 1\n"
    ) in told
    assert "-> own health 1 -> 0: round 1 of " in told
    assert " was answered" in told
    assert " failed" in told


def test_a_node_that_stood_still_sees_its_late_timers() -> None:
    world, witness = witnessed()
    world.run(SECOND)
    for due in [due for due in world.pending if due.host == "A"]:
        world.pending.remove(due)
        world.pending.append(due._replace(time=due.time + 4 * SECOND))
    world.cut("A", "BCD")
    world.run(9 * SECOND)
    assert any("timer: probe tick, 4.000 s late" in words(of(witness, name)) for name in "BCD")


def test_gaps_lives_and_failures_stand_in_the_story() -> None:
    world, witness = witnessed()
    world.run(2 * SECOND)
    world.spawn("A")
    world.run(SECOND)
    told = words(of(witness, "B"))
    assert "the recording begins\n-> B is alive, incarnation 1" in told
    assert "the node lives anew\n-> B is unknown" in told
    node = witness.nodes[-1]
    number = witness.number
    witness.records += [
        Gap(7, 1, 2, "the disk was too slow"),
        journal.snapshot(number + 7, 3, journal.GAP, node),
        Raised(3, Leave(5), "ZeroDivisionError: division by zero"),
    ]
    told = words(of(witness, "B"))
    assert "the journal goes on: 7 inputs are missing, the disk was too slow\n" in told
    assert "owner: leave\n-> step raised ZeroDivisionError" not in told  # it does not, in fact
    rotated = [
        Header("", piece=3),
        journal.snapshot(9, 3, journal.ROTATION, node),
        Happened(3, Received(at("B"), ()), 0, 0),
    ]
    (entry,) = story.story(replay(rotated), B)
    assert (entry.number, entry.arrived) == (10, "the files begin")


def test_what_raised_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise KeyError("B")

    witness = lived([("run", 2 * SECOND)])
    monkeypatch.setattr(journal.protocol, "step", fails)
    assert "-> step raised KeyError: 'B'" in words(of(witness, "B"))


@pytest.mark.parametrize("wire", [False, True], ids=["objects", "bytes"])
def test_the_story_of_every_member_can_be_told(tmp_path: Path, wire: bool) -> None:
    scenario("everything", {"node-00": tmp_path / "j"}, wire=wire)
    steps = list(replay(read_all(tmp_path / "j")))
    told = {
        name: words(list(story.story(steps, NodeId(name))))
        for name in sorted({str(name) for name in steps[-1].after.members.slots})
    }
    suspected = {
        effect.event.node
        for step in steps
        for effect in step.effects
        if isinstance(effect, Emit) and isinstance(effect.event, Suspected)
    }
    assert len(suspected) > 3
    for name in suspected & set(told):
        assert "-> suspected by " in told[name]
