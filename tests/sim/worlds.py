"""Small worlds, and watchers of them, that the tests of the simulated one share."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from backends.sim.checks import Inspector, Observer
from backends.sim.cluster import Cluster
from backends.sim.faults import (
    Churn,
    Degrade,
    Fault,
    Flap,
    Heal,
    Join,
    Kill,
    Leave,
    Partition,
    Pause,
    Restart,
    Slow,
    hosts,
)
from backends.sim.host import Host
from backends.sim.network import Bernoulli, Constant, Link, Network
from swimsim import node, rng
from swimsim.config import LAN, Config
from swimsim.effects import Event
from swimsim.inputs import Input
from swimsim.terms import HOUR, MS, SECOND, Address, Micros, NodeId

STILL = replace(LAN, probe_interval=100 * HOUR, push_pull_interval=0, stagger=False)
"""A protocol that does nothing by itself after the first instant: what happens was asked for."""

HOP = 10 * MS
EVEN = Network(Constant(HOP))
"""Every packet takes ``HOP``, nothing is lost."""


class Steps(Inspector):
    """Every input that one host handles, and when."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[tuple[Micros, Input]] = []

    def on_step(self, now: Micros, host: Host, before: Any, input: Input, effects: Any) -> None:
        if host.name == self.name:
            self.inputs.append((now, input))


class Log(Observer):
    """Everything an observer is told of, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[Micros, NodeId, Event]] = []
        self.down: list[tuple[Micros, NodeId]] = []
        self.up: list[tuple[Micros, NodeId]] = []
        self.unheard: list[tuple[Micros, NodeId, NodeId]] = []

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        self.events.append((now, host.name, event))

    def on_unheard(self, now: Micros, source: Host, target: Host, messages: Any) -> None:
        self.unheard.append((now, source.name, target.name))

    def on_down(self, now: Micros, host: Host) -> None:
        self.down.append((now, host.name))

    def on_up(self, now: Micros, host: Host) -> None:
        self.up.append((now, host.name))

    def of(self, *kinds: type[Any], by: str | None = None) -> list[tuple[Micros, NodeId, Any]]:
        """The events of these types, and by this observer if one is named."""
        return [
            (at, who, event)
            for at, who, event in self.events
            if isinstance(event, kinds) and by in (None, who)
        ]


def watched(cluster: Cluster) -> Log:
    """A log of what happens in ``cluster`` from here on."""
    log = Log()
    cluster.observers.append(log)
    return log


def names(count: int) -> list[str]:
    """As many short names, the same ones first whatever the count."""
    return [f"n{index}" for index in range(count)]


def machine(index: int, *, up: bool = True) -> Host:
    """A host outside of any cluster, with a node that has not started."""
    name = NodeId(f"n{index}")
    address = Address(bytes((10, 0, 0, index + 1)), 7946)
    host = Host(index=index, name=name, address=address)
    if up:
        host.life = 1
        host.node = node.create(name, address, seed=rng.seed(index))
    return host


def statuses(cluster: Cluster, of: str) -> dict[str, str]:
    """What every other running node believes of one member, or "unknown"."""
    found = {}
    for host in cluster.running:
        if host.name != of:
            assert host.node is not None
            known = host.node.members.get(NodeId(of))
            found[host.name] = "unknown" if known is None else known.status.name.lower()
    return found


def with_config(**changes: Any) -> Config:
    """The LAN profile with these changes."""
    return replace(LAN, **changes)


def busy(seed: int = 1, **options: Any) -> Cluster:
    """Fourteen nodes on a bad network to which everything happens in the first minute."""
    options.setdefault("network", Network(loss=Bernoulli(0.05), duplicate=0.02, reorder=0.05))
    at = SECOND
    faults: tuple[Fault, ...] = (
        Kill(at=3 * at, hosts=hosts("n4")),
        Partition(at=5 * at, groups=(hosts("n1", "n5", "n6"),), heal_after=6 * at),
        Pause(at=6 * at, hosts=hosts("n7"), duration=8 * at),
        Pause(at=7 * at, hosts=hosts("n8"), duration=8 * at, how="stop", drain=2 * MS),
        Slow(at=8 * at, hosts=hosts("n9"), duration=9 * at, service=30 * MS),
        Join(at=9 * at, names=("late-a", "late-b"), every=3 * at),
        Degrade(at=10 * at, links=(Link("n2", "*", 0.3, 5 * MS),), duration=9 * at),
        Churn(at=12 * at, rate=20, downtime=5 * at, until=40 * at),
        Restart(at=15 * at, hosts=hosts("n4")),
        Flap(at=16 * at, hosts=hosts("n10"), down=3 * at, up=3 * at, until=30 * at),
        Flap(at=17 * at, hosts=hosts("n11"), down=3 * at, up=3 * at, until=30 * at, how="pause"),
        Flap(at=18 * at, hosts=hosts("n12"), down=3 * at, up=3 * at, until=30 * at, how="cut"),
        Leave(at=20 * at, hosts=hosts("n13")),
        Partition(at=25 * at, groups=(hosts("n3"),), one_way=True, name="mute"),
        Heal(at=33 * at, name="mute"),
    )
    return Cluster(names(14), seed=seed, faults=faults, **options)
