"""What is run: crashes, a piece of news, a rest; what they cost, and whether they are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal

import numpy as np
from msgspec import Struct

from backends.sim import Cluster, Network
from backends.sim.checks import Inspector, Observer
from backends.sim.host import Host
from backends.sim.network import Bernoulli
from experiments import bench, dissemination
from experiments.experiment import Row
from swimsim import LAN, SECOND, rng
from swimsim.effects import Effect, Event, Failed, Send, Suspected
from swimsim.inputs import Input
from swimsim.members import build
from swimsim.node import Node, with_table
from swimsim.terms import Micros, NodeId

LIMIT = 120 * SECOND  # after a crash; a run that lasts longer is censored
REST = 3 * SECOND

REPLAY = """
from backends.sim import Cluster
from swimsim import SECOND
cluster = Cluster({nodes}, seed={seed}, record=())
cluster.run(3 * SECOND)
cluster.kill(cluster.hosts[0].name)
cluster.run(30 * SECOND)
print(cluster.digest())
"""


class Params(Struct, frozen=True):
    """One cell of the experiment."""

    nodes: int
    what: Literal["suspicion", "crash", "crashes", "news", "rest", "cost", "dense", "replay"]
    """One crash until somebody suspects, or until all know; 1 % crash; one piece of news; packets
    at rest; time and memory; the same run with tables of their own; the same run elsewhere."""
    loss: float = 0.0  # of each packet, by itself


def run(params: Params, seed: int) -> list[Row]:
    """One run; times are seconds after the crash or the news, None where they never came."""
    match params.what:
        case "suspicion" | "crash" | "crashes":
            return [_run_crash(params, seed)]
        case "news":
            news = dissemination.Params(params.nodes, loss=params.loss)
            return dissemination.run(news, seed)
        case "rest":
            return [_run_rest(params, seed)]
        case "cost":
            cost = bench.apart("warm", params.nodes)
            return [{name: float(value) for name, value in cost.items() if name != "nodes"}]
        case "dense":
            return [_run_dense(params, seed)]
        case "replay":
            return [_run_replay(params, seed)]


# --- crashes ---------------------------------------------------------------------------------


class Toll(Observer):
    """How the deaths of some become known to those who survive.

    As ``checks.Detection``, for many deaths at once: it counts who knows and does not keep whom.
    """

    def __init__(self, victims: list[NodeId], survivors: int) -> None:
        self.suspected_at: dict[NodeId, Micros] = {}
        self.declared_at: dict[NodeId, Micros] = {}  # by the first to do so
        self.verdicts = dict.fromkeys(victims, 0)
        self.missing = len(victims) * survivors
        self.last: Micros = 0
        self.mistaken = 0  # verdicts about somebody who lives

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of suspicions and verdicts."""
        if isinstance(event, Suspected):
            if event.node in self.verdicts:
                self.suspected_at.setdefault(event.node, now)
        elif isinstance(event, Failed):
            if event.node not in self.verdicts:
                self.mistaken += 1
                return
            self.declared_at.setdefault(event.node, now)
            self.verdicts[event.node] += 1
            self.missing -= 1
            self.last = now


def _run_crash(params: Params, seed: int) -> Row:
    loss = Bernoulli(params.loss, hits=("packets",)) if params.loss else None
    cluster = Cluster(params.nodes, network=Network(loss=loss), seed=seed, record=())
    chance = Random(rng.seed(seed, "fault schedule"))
    crashing = params.nodes // 100 if params.what == "crashes" else 1
    victims = [host.name for host in chance.sample(cluster.hosts, crashing)]
    cluster.run(LAN.probe_interval + chance.randrange(LAN.probe_interval))
    died = cluster.now
    toll = Toll(victims, params.nodes - crashing)
    cluster.observers.append(toll)
    for victim in victims:
        cluster.kill(victim)
    over = _suspected(toll) if params.what == "suspicion" else _known(toll)
    cluster.run_until(over, died + LIMIT)
    return {
        "t_suspicion": _mean_after(died, toll.suspected_at.values(), crashing),
        "t_first": _mean_after(died, toll.declared_at.values(), crashing),
        "t_full": None if toll.missing else (toll.last - died) / SECOND,
        "residue": toll.missing / (crashing * (params.nodes - crashing)),
        "mistaken": toll.mistaken,
        "limit_s": LIMIT / SECOND,
    }


def _suspected(toll: Toll) -> Callable[[], bool]:
    return lambda: bool(toll.suspected_at)


def _known(toll: Toll) -> Callable[[], bool]:
    return lambda: not toll.missing


def _mean_after(start: Micros, instants: Iterable[Micros], wanted: int) -> float | None:
    """The mean over the victims; None when it never came for one of them."""
    found = list(instants)
    return float(np.mean(found) - start) / SECOND if len(found) == wanted else None


# --- what it costs, and whether it is the same ------------------------------------------------


class Sent(Inspector):
    """Packets handed to the network."""

    def __init__(self) -> None:
        self.packets = 0

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Count what goes out."""
        self.packets += sum(type(effect) is Send for effect in effects)


def _run_rest(params: Params, seed: int) -> Row:
    cluster = Cluster(params.nodes, seed=seed, record=())
    cluster.run(SECOND)
    sent = Sent()
    cluster.inspectors.append(sent)
    cluster.run_for(REST)
    return {"packets_per_node_s": sent.packets / params.nodes / (REST / SECOND)}


class Dense(Cluster):
    """A cluster whose nodes share no table."""

    def _with_shared_table(self, changed: Node) -> Node:
        return changed


def _run_dense(params: Params, seed: int) -> Row:
    """The same crash with a table that all share and with as many tables as nodes."""
    digests = []
    for kind in (Cluster, Dense):
        cluster = kind(params.nodes, seed=seed, record=())
        if kind is Dense:
            for host in cluster.hosts:
                assert host.node is not None
                host.node = with_table(host.node, build(list(host.node.members)))
        cluster.run(SECOND)
        cluster.kill(cluster.hosts[0].name)
        cluster.run(30 * SECOND)
        digests.append(cluster.digest())
    return {"shared": digests[0], "other": digests[1]}


def _run_replay(params: Params, seed: int) -> Row:
    """The same crash in two processes that order their hash tables differently."""
    program = REPLAY.format(nodes=params.nodes, seed=seed)
    digests = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        digests.append(done.stdout.strip())
    return {"shared": digests[0], "other": digests[1]}
