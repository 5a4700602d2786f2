"""A real node's life among HashiCorp's agents, lived again: the fixture ``real.journal``.

When this fails because ``step`` or what it works on has changed on purpose, make the fixture anew
with ``python -m tests.interop.record`` and commit it with the change.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.replay import replay
from swimsim import journal
from swimsim.journal import Cut, End, Replayed
from swimsim.terms import NodeId
from swimsim.wire import serf

PATH = Path(__file__).parent / "real.journal"
DATA = PATH.read_bytes()


@pytest.fixture(scope="module")
def steps() -> list[Replayed]:
    return list(journal.replay(record for _, record in journal.read(DATA)))


def statuses(steps: list[Replayed], name: str) -> list[str]:
    """What the node believed of this member, one after the other."""
    told: list[str] = []
    for step in steps:
        slot = step.after.members.slots.get(NodeId(name))
        status = "unknown" if slot is None else step.after.members.records[slot].status.name.lower()
        if [status] != told[-1:]:
            told.append(status)
    return told


def test_it_replays_exactly(steps: list[Replayed]) -> None:
    *_, (_, end) = journal.read(DATA)
    assert isinstance(end, End)
    assert end.number == len(steps) > 100
    assert [step.number for step in steps if not step.agrees or step.raised] == []


def test_the_kill_is_in_it(steps: list[Replayed]) -> None:
    assert statuses(steps, "serf-2") == ["unknown", "alive", "suspect", "dead", "alive", "left"]
    assert statuses(steps, "serf-1") == ["unknown", "alive"]
    assert statuses(steps, "ours-2") == ["unknown", "alive", "left"]


def test_the_cluster_was_one_of_serf_agents(steps: list[Replayed]) -> None:
    members = {each.peer.name: each for each in steps[-1].after.members}
    assert serf.decode_tags(members[NodeId("serf-1")].peer.meta) == ({"role": "db"}, None)
    carried = {type(step.input).__name__ for step in steps}
    assert {"Received", "Exchanged", "ExchangeRequested"} <= carried


def test_cut_anywhere_it_replays_up_to_the_cut(steps: list[Replayed]) -> None:
    for size in range(len(DATA) // 3, len(DATA), 4_999):
        records = [record for _, record in journal.read(DATA[:size])]
        assert isinstance(records[-1], Cut)
        lived = list(journal.replay(records))
        assert lived == steps[: len(lived)]
        assert all(step.agrees for step in lived)


def test_the_command_finds_no_difference_and_tells_the_chain() -> None:
    said = CliRunner().invoke(replay, [str(PATH)])
    assert said.exit_code == 0, said.output
    assert "replayed: no difference" in said.output
    why = CliRunner().invoke(replay, [str(PATH), "--why", "serf-2"]).output
    chain = ["now a member: alive", "alive -> suspect", "suspect -> dead", "dead -> alive"]
    places = [why.index(link) for link in [*chain, "alive -> left"]]
    assert places == sorted(places)
