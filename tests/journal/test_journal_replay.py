"""A recorded life lived again: the same, but where the code is another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backends.sim import Cluster, Network
from backends.sim.faults import Churn, Flap, Kill, Partition, Pause, Restart, hosts
from backends.sim.network import Bernoulli, Uniform
from swimsim import journal
from swimsim import node as protocol
from swimsim.effects import After, Emit, Failed, Send, Suspected
from swimsim.fingerprint import fingerprint
from swimsim.inputs import Leave, ProbeTick, Received
from swimsim.journal import (
    Checkpoint,
    End,
    Gap,
    Happened,
    Header,
    Raised,
    Replayed,
    Snapshot,
    first_difference,
    replay,
)
from swimsim.node import Node
from swimsim.serf import reconnect
from swimsim.swim import awareness, broadcast, membership, probe, push_pull, suspicion
from swimsim.terms import MS, SECOND, NodeId
from tests.builders import at, settled
from tests.journal.journals import data_of, read, read_all, recorded, scenario
from tests.journal.test_journal_format import lived
from tests.test_properties import CONFIGS, DEEDS, Deed


def _later(timer: After) -> After:
    return After(timer.delay + 1, timer.input)


def lives(records: list[Any]) -> Counter[str]:
    return Counter(record.why for record in records if isinstance(record, Snapshot))


# --- the same code -----------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(2, 5),
    st.sampled_from(sorted(CONFIGS)),
    st.integers(0, 99),
    st.lists(DEEDS, min_size=4, max_size=25),
)
def test_whatever_happens_replays_as_it_was(
    n: int, config: str, seed: int, deeds: list[Deed]
) -> None:
    witness = lived(deeds, n, config, seed)
    steps = list(replay(read(data_of(witness.end()))))
    assert all(step.agrees for step in steps)
    assert len(steps) == witness.number
    for step in steps:  # every state, and not only its checksum
        if not step.resumed:
            assert step.before == witness.nodes[step.number - 1]
        assert step.after == witness.nodes[step.number]


@pytest.mark.parametrize("wire", [False, True], ids=["objects", "bytes"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_simulated_node_among_faults_of_every_kind_replays(
    tmp_path: Path, seed: int, wire: bool
) -> None:
    """node-11 is killed and restarted, 05 stopped, 06 slow, 08 cut off, 09 leaves, 00 watches."""
    names = ("node-00", "node-05", "node-06", "node-08", "node-09", "node-11")
    paths = {name: tmp_path / f"{name}.journal" for name in names}
    scenario("everything", paths, wire=wire, seed=seed)
    seen: Counter[type] = Counter()
    for name, path in paths.items():
        steps = list(replay(read_all(path)))
        assert len(steps) > 100
        assert [step for step in steps if not step.agrees] == []
        assert {step.before.name for step in steps} == {name}
        seen.update(type(step.input) for step in steps)
    assert len(seen) > 12
    assert lives(read_all(paths["node-11"]))[journal.LIFE] == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_node_that_is_cut_off_and_restarted_again_and_again_replays(
    tmp_path: Path, seed: int
) -> None:
    network = Network(
        latency=Uniform(MS, 30 * MS), loss=Bernoulli(0.1), duplicate=0.05, reorder=0.1
    )
    victim = hosts("node-4")
    faults = (
        Partition(at=2 * SECOND, groups=(victim,), heal_after=8 * SECOND),
        Flap(at=15 * SECOND, hosts=victim, down=3 * SECOND, up=4 * SECOND, until=40 * SECOND),
        Pause(at=45 * SECOND, hosts=victim, duration=3 * SECOND),
        Kill(at=55 * SECOND, hosts=hosts("node-1")),
        Restart(at=60 * SECOND, hosts=victim, join=False),
        Churn(at=60 * SECOND, rate=30.0, downtime=2 * SECOND, until=80 * SECOND),
    )
    cluster = Cluster(8, network=network, seed=seed, warm=False, faults=faults)
    recorders = [
        recorded(cluster, name, tmp_path / name, checkpoint=50) for name in ("node-4", "node-0")
    ]
    cluster.run(90 * SECOND)
    for recorder in recorders:
        recorder.close()
    for name in ("node-4", "node-0"):
        records = read_all(tmp_path / name)
        assert first_difference(records) is None
        assert sum(isinstance(record, Checkpoint) for record in records) > 5
    assert lives(read_all(tmp_path / "node-4"))[journal.LIFE] >= 4


def test_shared_tables_are_no_other_life(tmp_path: Path) -> None:
    """The cluster swaps equal tables, which a node cannot notice, nor its journal."""
    cluster = Cluster(6, seed=2, warm=False)
    recorder = recorded(cluster, "node-3", tmp_path / "j")
    cluster.run(20 * SECOND)
    recorder.close()
    assert lives(read_all(tmp_path / "j")) == {journal.START: 1}


def test_a_branch_does_not_write_in_the_journal_of_its_origin(tmp_path: Path) -> None:
    cluster = Cluster(5, seed=2)
    recorder = recorded(cluster, "node-3", tmp_path / "j")
    cluster.run(5 * SECOND)
    before = recorder.inputs
    cluster.branch(seed=9).run(20 * SECOND)
    assert recorder.inputs == before > 0
    cluster.run(9 * SECOND)
    recorder.close()
    assert first_difference(read_all(tmp_path / "j")) is None


def test_recording_changes_nothing(tmp_path: Path) -> None:
    digests = set()
    for is_recorded in (False, True):
        cluster = Cluster(6, seed=5, faults=(Kill(at=SECOND, hosts=hosts("node-2")),))
        if is_recorded:
            recorder = recorded(cluster, "node-3", tmp_path / "j", size=2000, checkpoint=3)
        cluster.run(15 * SECOND)
        digests.add(cluster.digest())
    recorder.close()
    assert len(digests) == 1


# --- another code ------------------------------------------------------------------------


def troubled(tmp_path: Path) -> tuple[list[Any], list[Replayed]]:
    """Journal and life of a node that sees much."""
    path = tmp_path / "troubled"
    network = Network(latency=Uniform(MS, 60 * MS), loss=Bernoulli(0.15))
    faults = (
        Kill(at=3 * SECOND, hosts=hosts("node-2", "node-3")),
        Pause(at=15 * SECOND, hosts=hosts("node-1"), duration=4 * SECOND),
        Partition(at=25 * SECOND, groups=(hosts("node-1", "node-5"),), heal_after=20 * SECOND),
        Restart(at=60 * SECOND, hosts=hosts("node-2")),
    )
    cluster = Cluster(8, network=network, seed=4, faults=faults)
    recorder = recorded(cluster, "node-1", path, checkpoint=100)
    cluster.run(100 * SECOND)
    recorder.close()
    records = read_all(path)
    steps = list(replay(records))
    assert all(step.agrees for step in steps)
    return records, steps


def altered(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def one_worse(answer: Any) -> Any:
    score, effects = answer
    return min(7, score + 1), effects


MUTATIONS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "health gets worse": (awareness, "step", one_worse),
    "suspicions last longer": (suspicion, "bounds", lambda b: (b[0], b[1] + 1)),
    "a confirmation shortens more": (
        suspicion,
        "confirm",
        lambda s: replace(s, deadline=s.deadline - 1000) if len(s.accusers) > 1 else s,
    ),
    "nobody confirms": (suspicion, "confirmations", lambda k: 0),
    "news is told once more": (broadcast, "retransmit_limit", lambda limit: limit + 1),
    "gossip is late by 1 us": (broadcast, "_next_tick", _later),
    "gossip has less room": (broadcast, "room_beside", lambda room: room // 30),
    "everything is news": (membership, "outranks", lambda _: True),
    "nothing is news": (membership, "outranks", lambda _: False),
    "the dead are kept": (membership, "_forget", None),
    "nacks come early": (probe, "_nack_time", lambda wait: wait - 1),
    "an answer is an answer to nobody": (probe, "answer", lambda effects: ()),
    "a target is skipped": (probe, "_next_target", lambda p: (replace(p[0], cursor=1), p[1])),
    "push/pull is rare": (push_pull, "period", lambda wait: wait * 2),
    "exchanges are counted twice": (
        push_pull,
        "_on_tick",
        lambda answer: (replace(answer[0], exchange=answer[0].exchange + 1), answer[1]),
    ),
    "reconnects are late": (reconnect, "_until_tick", lambda wait: wait + 1),
    "refutations overshoot": (membership, "_refute", None),
}


def mutate(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module, function, change = MUTATIONS[name]
    original = getattr(module, function)
    if name == "the dead are kept":
        mutant: Callable[..., Any] = lambda state, now, config: state  # noqa: E731
    elif name == "refutations overshoot":
        mutant = lambda state, accused: original(state, accused + 1)  # noqa: E731
    else:
        assert change is not None
        mutant = altered(original, change)
    monkeypatch.setattr(module, function, mutant)


def outcome(step: Callable[..., Any], *args: Any) -> Any:
    try:
        return step(*args)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_transition_is_found_at_the_right_input(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At the very first input of which the mutant makes anything else."""
    records, steps = troubled(tmp_path)
    mutate(monkeypatch, name)
    expected = next(
        step.number
        for step in steps
        if outcome(protocol.step, step.before, step.now, step.input) != (step.after, step.effects)
    )
    found = first_difference(records)
    assert found is not None
    assert found.number == expected
    assert found.before == steps[expected - 1].before
    assert found.input == steps[expected - 1].input
    assert found.differs in (
        "the effects", "the state", "the effects and the state", f"it raises {found.raised}",
    )  # fmt: skip


def test_a_difference_deep_in_the_state_is_found_at_the_next_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = Cluster(60, seed=1)
    for index in range(20, 50):
        cluster.kill(f"node-{index}")
    recorder = recorded(cluster, "node-01", tmp_path / "j", checkpoint=40)
    cluster.run(28 * SECOND)
    recorder.close()
    records = read_all(tmp_path / "j")
    steps = list(replay(records))
    crowded = next(
        step.number for step in steps if len(step.before.membership.departed) > journal.FEW
    )
    original, calls = protocol.step, Counter[str]()

    def forgetful(node: Node, now: int, input: Any) -> Any:
        after, effects = original(node, now, input)
        calls["step"] += 1
        if calls["step"] == crowded:
            known = after.membership
            name = min(known.departed)
            departed = known.departed.set(name, known.departed[name] + 1)
            after = replace(after, membership=replace(known, departed=departed))
        return after, effects

    monkeypatch.setattr(protocol, "step", forgetful)
    found = first_difference(records)
    assert found is not None
    checkpoint = -(-crowded // 40) * 40
    assert found.number == min(checkpoint, len(steps))
    assert found.differs == f"the state, at some input since {checkpoint - 40 + 1}"


def test_after_a_difference_the_next_snapshot_sets_it_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    witness = lived([("run", 3 * SECOND), ("kill", "B"), ("run", 20 * SECOND)])
    records = witness.end()
    middle = len(records) // 2
    number = middle - 2
    records.insert(middle, journal.snapshot(number, 0, journal.ROTATION, witness.nodes[number]))
    original = protocol.step

    def mistaken(node: Node, now: int, input: Any) -> Any:
        after, effects = original(node, now, input)
        return replace(after, rng=5) if now < SECOND else after, effects

    monkeypatch.setattr(protocol, "step", mistaken)
    steps = list(replay(records))
    assert not steps[0].agrees
    assert all(step.agrees for step in steps[number:])
    assert "the state" in steps[number - 1].differs


# --- what step raised --------------------------------------------------------------------


def test_an_input_that_made_step_raise_does_so_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = settled()
    good = Received(at("B"), ())
    digest = journal.digest(node, journal.Digest()).value
    records = [
        Header(""),
        journal.snapshot(0, 1, journal.START, node),
        Happened(1, good, journal.checksum(()), digest),
        Raised(2, Leave(5), "ZeroDivisionError: division by zero"),
        Happened(3, good, journal.checksum(()), digest),
        End(3, fingerprint(node)),
    ]
    steps = list(replay(records))
    assert [step.differs for step in steps[:2]] == [
        "", "it raised ZeroDivisionError: division by zero",
    ]  # fmt: skip
    original = protocol.step

    def fails(node: Node, now: int, input: Any) -> Any:
        return 1 / 0 if isinstance(input, Leave) else original(node, now, input)

    monkeypatch.setattr(protocol, "step", fails)
    steps = list(replay(records))
    assert [step.differs for step in steps] == ["", "", ""]
    assert steps[1].raised == "ZeroDivisionError: division by zero"
    assert steps[1].after is steps[1].before
    records[3] = Happened(2, Leave(5), 0, 0)
    found = first_difference(records)
    assert found is not None
    assert (found.number, found.differs) == (2, f"it raises {found.raised}")


# --- gaps, and what must not be ----------------------------------------------------------


def test_a_gap_resumes_with_the_snapshot_after_it() -> None:
    witness = lived([("run", 3 * SECOND), ("kill", "B"), ("run", 20 * SECOND)])
    records = witness.end()
    gap = Gap(5, 8, 9, "the disk was too slow")
    resumed = journal.snapshot(13, 10, journal.GAP, witness.nodes[13])
    steps = list(replay([*records[:10], gap, resumed, *records[15:]]))
    assert [step.number for step in steps] == [*range(1, 9), *range(14, witness.number + 1)]
    assert all(step.agrees for step in steps)
    assert steps[0].resumed == journal.START
    assert steps[8].resumed == "5 inputs are missing, the disk was too slow"
    assert [step.number for step in steps if step.resumed] == [1, 14]


def test_a_gap_at_the_end_is_no_difference() -> None:
    witness = lived([("run", 3 * SECOND)])
    *records, end = witness.end()
    assert isinstance(end, End)
    records += [Gap(3, 8, 9, "why"), End(end.number + 3, 12345)]
    assert all(step.agrees for step in replay(records))


@pytest.mark.parametrize("place", [1, 2])
def test_an_input_of_a_node_that_nobody_knows_is_refused(place: int) -> None:
    witness = lived([("run", 3 * SECOND)])
    records = witness.end()
    if place == 1:
        del records[1]  # the snapshot
    else:
        records.insert(5, Gap(1, 2, 3, "why"))
    with pytest.raises(ValueError, match="nothing is known of the node before input"):
        list(replay(records))


def test_a_wrong_fingerprint_is_a_difference_of_the_last_input() -> None:
    witness = lived([("run", 3 * SECOND)])
    *records, end = witness.end()
    assert isinstance(end, End)
    records.append(End(end.number, end.fingerprint ^ 1))
    found = first_difference(records)
    assert found is not None
    assert found.number == end.number
    assert found.differs == "the state, at some input since 1"


def test_a_replay_is_lazy() -> None:
    witness = lived([("run", 3 * SECOND)])
    records = iter(witness.end())
    first = next(replay(records))
    assert first.number == 1
    assert isinstance(first.input, Received | ProbeTick)
    assert sum(1 for _ in records) > 5


def test_a_replayed_input_shows_all_that_there_is(tmp_path: Path) -> None:
    scenario("crash", {"node-1": tmp_path / "j"})
    steps = list(replay(read_all(tmp_path / "j")))
    told = [
        (step.now, effect.event)
        for step in steps
        for effect in step.effects
        if isinstance(effect, Emit) and isinstance(effect.event, Suspected | Failed)
    ]
    assert told == [
        (3_812_234, Suspected(NodeId("node-3"), 1, NodeId("node-1"))),
        (7_812_234, Failed(NodeId("node-3"), 1, NodeId("node-1"))),
    ]
    assert any(isinstance(effect, Send) for step in steps for effect in step.effects)
