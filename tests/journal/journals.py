"""Journals to look at: of a node in a world that a test drives, of a node in a cluster."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from backends.recorder import Recorder
from backends.sim import Cluster
from backends.sim.scenario import load
from swimsim import journal
from swimsim.effects import Effect
from swimsim.fingerprint import fingerprint
from swimsim.inputs import Input
from swimsim.journal import Cut, Digest, End, Happened, Header, Record
from swimsim.node import Node
from swimsim.terms import Micros
from tests.world import World

SCENARIOS = Path(__file__).parent.parent / "scenarios"


class Witness:
    """Watches one host of a world, and keeps what a recorder would."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.records: list[Record] = [Header("test")]
        self.nodes: list[Node] = []  # before each input, and after the last
        self.number = 0
        self.digest = Digest()

    def __call__(
        self,
        world: World,
        host: str,
        before: Node,
        input: Input,
        after: Node,
        effects: tuple[Effect, ...],
    ) -> None:
        if host == self.host:
            self.see(before, world.now, input, after, effects)

    def see(
        self, before: Node, now: Micros, input: Input, after: Node, effects: tuple[Effect, ...]
    ) -> None:
        if not self.nodes:
            self.records.append(journal.snapshot(0, now, journal.START, before))
            self.nodes.append(before)
        elif before is not self.nodes[-1]:
            self.records.append(journal.snapshot(self.number, now, journal.LIFE, before))
        self.digest = journal.digest(after, self.digest)
        self.records.append(Happened(now, input, journal.checksum(effects), self.digest.value))
        self.nodes.append(after)
        self.number += 1

    def end(self) -> list[Record]:
        if self.nodes:
            self.records.append(End(self.number, fingerprint(self.nodes[-1])))
        return self.records


def data_of(records: list[Record]) -> bytes:
    """The file that holds these."""
    return journal.MAGIC + b"".join(map(journal.encode, records))


def read(data: bytes) -> list[Record | Cut]:
    return [record for _, record in journal.read(data)]


def read_all(*paths: Path) -> list[Record | Cut]:
    """What stands in these files, one after the other."""
    return [record for path in paths for record in read(path.read_bytes())]


def recorded(cluster: Cluster, name: str, path: Path, **limits: int) -> Recorder:
    """Journal a node of a cluster; the recorder waits for the disk."""
    recorder = Recorder(path, patient=True, **limits)
    cluster.record(name, recorder)
    return recorder


def scenario(name: str, recorders: dict[str, Path], *, wire: bool = False, seed: int | None = None):
    """Run a scenario of ``tests/scenarios`` while these nodes are recorded."""
    plan = load(SCENARIOS / f"{name}.toml")
    if wire:
        table = replace(plan.scenario.cluster, wire=True)
        plan.scenario = replace(plan.scenario, cluster=table)
    cluster = plan.build(plan.scenario.seeds[0] if seed is None else seed)
    open_ = [recorded(cluster, node, path) for node, path in recorders.items()]
    cluster.run(plan.scenario.until)
    for recorder in open_:
        assert recorder.close()
    return cluster


if __name__ == "__main__":  # what a process of another hash seed writes
    scenario("everything", {"node-03": Path(sys.argv[1])})
    sys.stdout.write(sha256(Path(sys.argv[1]).read_bytes()).hexdigest())
