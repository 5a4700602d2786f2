"""What is run: members that block, in lock step, once or again and again.

The set-up is that of the paper (spec experiments.md, 4.2): 128 members, 15 s to settle, C random
ones of them blocked by the anomaly model of ``backends.sim.process``; K = 3, S = 8, a nack after
80 % of the probe timeout, a failed probe that costs 1 beside its missed nacks, and local health
that stretches probe interval and timeout. The group has only just formed, so it exchanges no states
in its first 90 s. ``drain`` is the rate at which a member works off what queued up while it
was blocked. The paper does not say it, and the counts of false positives depend on it.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.checks import Observer, Tap
from backends.sim.faults import Hosts
from backends.sim.host import Host
from backends.sim.strikes import select
from experiments.experiment import Row
from swimsim import LAN, MS, SECOND, Config
from swimsim.effects import Event, Failed, HealthChanged, Refuted
from swimsim.member import ALIVE
from swimsim.messages import Message, packet_size
from swimsim.terms import Micros, NodeId

SETTLE: Micros = 15 * SECOND
LONGEST: Micros = 120 * SECOND
WEIGH_EVERY = 16  # packets; the bytes of a run are estimated from those weighed

Protocol: TypeAlias = Literal["swim", "lha-probe", "lha-suspicion", "buddy", "lifeguard"]
PROTOCOLS: tuple[Protocol, ...] = ("swim", "lha-probe", "lha-suspicion", "buddy", "lifeguard")


class Params(Struct, frozen=True):
    """One cell: a protocol, who blocks how long, and which question the cell is for.

    ``threshold``: one block; how fast is it detected? ``interval``: blocks again and again; whom
    does that slander, and at what cost? The others are as ``interval`` on smaller grids:
    ``tuning`` for other alphas and betas, ``drains`` for other drain rates, ``old group`` for
    a group that formed long ago and exchanges states all along.
    """

    part: Literal["threshold", "interval", "tuning", "drains", "old group"]
    protocol: Protocol
    blocked: int  # C
    duration_ms: int  # D
    pause_ms: int = 0  # I, between two blocks; not for the threshold
    drain_us: int = 10  # for each queued packet
    alpha: int = 5
    beta: int = 6  # where the protocol has LHA-Suspicion
    nodes: int = 128


# --- one run ---------------------------------------------------------------------------------


def config_of(params: Params) -> Config:
    """The protocol settings of a cell, as the paper has them."""
    whole = params.protocol == "lifeguard"
    return replace(
        LAN,
        suspicion_mult=params.alpha,
        suspicion_max_timeout_mult=params.beta,
        max_confirmations=3,
        awareness_max=8,
        scale_probe_timeout=True,
        failed_probe_is_one=True,
        nack_percent=80,
        reconnect_interval=0,
        lha_probe=whole or params.protocol == "lha-probe",
        lha_suspicion=whole or params.protocol == "lha-suspicion",
        buddy_system=whole or params.protocol == "buddy",
    )


class Watch(Observer, Tap):
    """What a run is about: who is called dead, rightly or not, and what was sent."""

    def __init__(self, blocked: set[NodeId], healthy: int, config: Config) -> None:
        self.blocked = blocked
        self.healthy = healthy
        self.config = config
        self.false_positives = 0
        self.at_healthy = 0  # of these, by observers that are not blocked themselves
        self.first: dict[NodeId, Micros] = {}
        self.full: dict[NodeId, Micros] = {}
        self.knows: dict[NodeId, set[NodeId]] = {name: set() for name in blocked}
        self.sent = 0
        self.weighed = 0
        self.bytes = 0  # of the packets weighed
        self.happened: Counter[type[Event]] = Counter()
        self.worst_health = 0

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Count a verdict of death, a refutation, a change of health."""
        self.happened[type(event)] += 1
        if isinstance(event, HealthChanged):
            self.worst_health = max(self.worst_health, event.score)
        if not isinstance(event, Failed):
            return
        subject = event.node
        if subject not in self.blocked:
            self.false_positives += 1
            self.at_healthy += host.name not in self.blocked
            return
        if host.name != subject:
            self.first.setdefault(subject, now)
        if host.name not in self.blocked:
            knows = self.knows[subject]
            knows.add(host.name)
            if len(knows) == self.healthy:
                self.full.setdefault(subject, now)

    def on_sent(
        self, now: Micros, source: Host, target: Host, messages: tuple[Message, ...]
    ) -> None:
        """Count a packet, and weigh some."""
        if self.sent % WEIGH_EVERY == 0:
            self.weighed += 1
            self.bytes += packet_size(messages, False, self.config)
        self.sent += 1


def run(params: Params, seed: int) -> list[Row]:
    """One run; times are seconds after the (first) block began, None where they never came."""
    config = config_of(params)
    cluster = Cluster(params.nodes, config, seed=seed, fresh=params.part != "old group", record=())
    cluster.run(SETTLE)
    victims = select(cluster, Hosts(random=params.blocked))
    watch = Watch({host.name for host in victims}, params.nodes - params.blocked, config)
    cluster.observers.append(watch)
    cluster.taps.append(watch)
    began = cluster.now
    if params.part == "threshold":
        _block(cluster, victims, params)
        cluster.run_until(lambda: _is_well(cluster), began + LONGEST)
    else:
        while True:
            _block(cluster, victims, params)
            if cluster.now - began >= LONGEST:
                break
            cluster.run_for(params.pause_ms * MS)
    return _rows(params, cluster, watch, victims, began)


def _block(cluster: Cluster, victims: list[Host], params: Params) -> None:
    for host in victims:
        cluster.pause(host.name, "block", params.drain_us)
    cluster.run_for(params.duration_ms * MS)
    for host in victims:
        cluster.resume(host.name)


def _is_well(cluster: Cluster) -> bool:
    """Whether everybody holds everybody alive."""
    n = len(cluster.hosts)
    return all(host.node is not None and host.node.members.count(ALIVE) == n
               for host in cluster.hosts)  # fmt: skip


def _rows(
    params: Params, cluster: Cluster, watch: Watch, victims: list[Host], began: Micros
) -> list[Row]:
    lasted = (cluster.now - began) / SECOND
    whole: Row = {
        "kind": "run",
        "false_positives": watch.false_positives,
        "at_healthy": watch.at_healthy,
        "messages": watch.sent,
        "bytes": float(watch.bytes * watch.sent / max(1, watch.weighed)),
        "refutations": watch.happened[Refuted],
        "worst_health": watch.worst_health,
        "is_well": _is_well(cluster),
        "lasted_s": lasted,
    }
    if params.part != "threshold":
        return [whole]

    def after(instant: Micros | None) -> float | None:
        return None if instant is None else (instant - began) / SECOND

    return [
        whole,
        *(
            {
                "kind": "detection",
                "first_s": after(watch.first.get(host.name)),
                "full_s": after(watch.full.get(host.name)),
                "limit_s": lasted,
            }
            for host in victims
        ),
    ]
