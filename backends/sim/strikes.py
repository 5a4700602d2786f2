"""Carrying out a schedule of faults on a cluster.

A fault strikes at its time; what follows from it later (a resume, a restart, the next death
of a churn) is an *order*, scheduled like the fault itself. Both are data in the event queue,
so a branched cluster has the same future troubles as the original.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from backends.sim.faults import (
    Churn,
    Degrade,
    Fault,
    FaultError,
    Flap,
    Heal,
    Hosts,
    Join,
    Kill,
    Leave,
    Partition,
    Pause,
    Restart,
    Slow,
)
from backends.sim.host import Host
from backends.sim.network import Cut, Link
from backends.sim.process import Halt
from swimsim.terms import MINUTE, SECOND, Micros, NodeId

if TYPE_CHECKING:
    from backends.sim.cluster import Cluster


LEAVE_TIMEOUT: Micros = 5 * SECOND


class Resume(Struct, frozen=True):
    """The end of a pause."""

    host: int
    life: int  # a process that died meanwhile is not resumed
    how: Halt


class SpeedUp(Struct, frozen=True):
    """The end of a slowdown."""

    host: int
    life: int
    service: Micros


class Lift(Struct, frozen=True):
    """The end of one cut."""

    cut: Cut


class Mend(Struct, frozen=True):
    """The end of a ``Degrade``."""

    links: tuple[Link, ...]


class Revive(Struct, frozen=True):
    """The restart that follows a death, unless somebody was faster."""

    host: int
    life: int  # that died


class FlapDown(Struct, frozen=True):
    """The next time that flapping hosts go down."""

    flap: Flap
    hosts: tuple[int, ...]


class NextDeath(Struct, frozen=True):
    """The next death of a churn."""

    churn: Churn


Consequence: TypeAlias = Resume | SpeedUp | Lift | Mend | Revive | FlapDown | NextDeath
Order: TypeAlias = Fault | Consequence


def select(cluster: Cluster, wanted: Hosts) -> list[Host]:
    """The hosts meant, in the order of their index; raises FaultError when there are none."""
    chosen = cluster.hosts
    if wanted.names:
        chosen = [cluster.host(name) for name in wanted.names]
    for key, value in wanted.where.items():
        chosen = [host for host in chosen if host.attributes.get(key) == value]
    if wanted.random or wanted.share:
        chosen = [host for host in chosen if host.node is not None]
        count = wanted.random or math.ceil(wanted.share * len(chosen) - 1e-9)
        if count > len(chosen):
            raise FaultError(f"{count} random hosts wanted, {len(chosen)} are up")
        chosen = cluster.fault_random.sample(chosen, count)
    if not chosen:
        raise FaultError(f"no host is meant by {wanted}")
    return sorted(chosen, key=lambda host: host.index)


def strike(cluster: Cluster, order: Order) -> None:
    """Carry out one fault or order, now."""
    match order:
        case Kill():
            for host in select(cluster, order.hosts):
                cluster.kill(host.name)
        case Restart():
            for host in select(cluster, order.hosts):
                cluster.restart(host.name, join=order.join)
        case Leave():
            for host in select(cluster, order.hosts):
                cluster.leave(host.name, order.timeout or LEAVE_TIMEOUT)
        case Join():
            for place, name in enumerate(order.names):
                cluster.add(NodeId(name), order.attributes, delay=place * order.every)
        case Pause():
            for host in select(cluster, order.hosts):
                cluster.pause(host.name, order.how, order.drain)
                cluster.later(order.duration, Resume(host.index, host.life, order.how))
        case Slow():
            for host in select(cluster, order.hosts):
                cluster.slow_down(host.name, order.service)
                end = SpeedUp(host.index, host.life, order.service)
                cluster.later(order.duration, end)
        case Partition():
            _cut(cluster, order)
        case Heal():
            cluster.fabric.heal(order.name)
        case Degrade():
            cluster.fabric.relink((*cluster.fabric.links, *order.links))
            cluster.later(order.duration, Mend(order.links))
        case Flap():
            flapping = tuple(host.index for host in select(cluster, order.hosts))
            strike(cluster, FlapDown(order, flapping))
        case Churn():
            cluster.later(_wait(cluster, MINUTE / order.rate), NextDeath(order))
        case _:
            _follow(cluster, order)


def _follow(cluster: Cluster, order: Consequence) -> None:
    match order:
        case Resume(index, life, how) if cluster.hosts[index].life == life:
            cluster.resume(cluster.hosts[index].name, how)
        case SpeedUp(index, life, service) if cluster.hosts[index].life == life:
            cluster.speed_up(cluster.hosts[index].name, service)
        case Lift(cut):
            cluster.fabric.lift(cut)
        case Mend(links):
            left = list(cluster.fabric.links)
            for link in links:
                left.remove(link)
            cluster.fabric.relink(tuple(left))
        case Revive(index, life):
            host = cluster.hosts[index]
            if host.node is None and host.life == life:
                cluster.restart(host.name)
        case FlapDown(flap, hosts):
            _flap(cluster, flap, [cluster.hosts[index] for index in hosts])
        case NextDeath(churn):
            _next_death(cluster, churn)
        case _:
            """A process that is no more is neither resumed nor sped up."""


def _cut(cluster: Cluster, partition: Partition) -> None:
    side: dict[int, int] = {}
    for number, group in enumerate(partition.groups):
        for host in select(cluster, group):
            if host.index in side:
                raise FaultError(f"partition {partition.name!r}: {host.name} is in two groups")
            side[host.index] = number
    rest = 1 if len(partition.groups) == 1 else None
    cut = Cut(partition.name, side, partition.one_way, partition.hits, rest)
    cluster.fabric.cut(cut)
    if partition.heal_after:
        cluster.later(partition.heal_after, Lift(cut))


def _flap(cluster: Cluster, flap: Flap, hosts: list[Host]) -> None:
    now = cluster.now
    if now >= flap.until:
        return
    for host in hosts:
        match flap.how:
            case "kill":
                cluster.kill(host.name)
                cluster.later(flap.down, Revive(host.index, host.life))
            case "pause":
                cluster.pause(host.name, "block")
                cluster.later(flap.down, Resume(host.index, host.life, "block"))
            case "cut":
                deaf = Degrade(at=0, links=(Link(target=host.name, loss=1.0),), duration=flap.down)
                strike(cluster, deaf)
    again = FlapDown(flap, tuple(host.index for host in hosts))
    cluster.later(flap.down + flap.up, again)


def _next_death(cluster: Cluster, churn: Churn) -> None:
    if cluster.now >= churn.until:
        return
    mortal = [host for host in cluster.hosts if host.node and host.name not in cluster.seeds]
    if mortal:
        host = mortal[int(cluster.fault_random.random() * len(mortal))]
        cluster.kill(host.name)
        cluster.later(_wait(cluster, churn.downtime), Revive(host.index, host.life))
    cluster.later(_wait(cluster, MINUTE / churn.rate), NextDeath(churn))


def _wait(cluster: Cluster, mean: float) -> Micros:
    """A time Exp(mean)."""
    return round(-mean * math.log(1.0 - cluster.fault_random.random()))
