"""Real bytes change nothing: the trace is the same with and without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.codec import over_stream, through_wire
from backends.sim.scenario import Plan, load
from swimsim import LAN, SECOND
from swimsim.effects import Send
from swimsim.member import ALIVE, SUSPECT, Member, peer
from swimsim.members import build
from swimsim.messages import Ack, Alive, Ping, PushPull, Suspect
from swimsim.terms import Address, NodeId

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))
HERE = Address(bytes([10, 0, 0, 1]), 7946)
ME = peer(NodeId("me"), HERE, b"", LAN.vsn)


def in_bytes(plan: Plan) -> Plan:
    scenario = replace(plan.scenario, cluster=replace(plan.scenario.cluster, wire=True))
    return Plan(scenario, plan.config, plan.network, plan.meta)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_has_the_same_digest_in_bytes(path: Path) -> None:
    plan = load(path)
    outcome, cluster = in_bytes(plan).run(plan.scenario.seeds[0])
    assert cluster.wire
    assert f"digest {outcome.digest}\n" in path.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", range(3))
def test_a_join_storm_with_metadata_is_the_same_in_bytes(seed: int) -> None:
    digests = set()
    for wire in (False, True):
        cluster = Cluster(12, seed=seed, warm=False, meta=b"m" * 200, join_every=1000, wire=wire)
        cluster.run(3 * SECOND)
        cluster.leave("node-05")
        cluster.kill("node-07")
        cluster.run(20 * SECOND)
        digests.add(cluster.digest())
    assert len(digests) == 1


def test_what_comes_out_is_what_went_in() -> None:
    send = Send(HERE, (Ping(1, NodeId("you"), HERE, NodeId("me")), Alive(3, ME)), crc=True)
    assert through_wire(send, LAN) == send
    assert over_stream(Ack(7)) == Ack(7)
    records = (Member(ME, 3, ALIVE), Member(peer(NodeId("x"), HERE, b"y", LAN.vsn), 1, SUSPECT))
    assert over_stream(PushPull(True, build(records))) == PushPull(True, records)


def test_a_size_that_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.sim.codec.packet_size", lambda *_: 1)
    with pytest.raises(AssertionError, match="was taken for 1"):
        through_wire(Send(HERE, (Suspect(1, NodeId("a"), NodeId("b")),)), LAN)
