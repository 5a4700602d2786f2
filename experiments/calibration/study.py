"""Crashes and events among real processes, then ten times as many in the simulator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pandas as pd

from backends.sim import Cluster, Network
from backends.sim.checks import Detection, FalsePositives
from backends.sim.inspectors import Infection
from backends.sim.network import LogNormal
from experiments.calibration.cell import Params, config_of, hush, infection
from experiments.calibration.real import RealGroup
from experiments.engines import processes
from experiments.experiment import Row
from swimsim import SECOND, Micros, rng
from swimsim.effects import UserEventReceived
from swimsim.inputs import FireEvent

LIMIT: Micros = 600 * SECOND  # simulated, for one crash


def run(params: Params, seed: int) -> list[Row]:
    """Real crashes, then ten times as many simulated ones with the latency that was measured."""
    with ThreadPoolExecutor(params.groups) as executor:
        seeds = [rng.seed(seed, "group", number) for number in range(params.groups)]
        rows = [row for group in executor.map(partial(_real, params), seeds) for row in group]
    measured = pd.DataFrame(rows)
    trips = {"rtt_us": measured.rtt_us.mean(), "rtt_sigma": measured.rtt_sigma.mean()}
    latency = LogNormal(max(1, int(trips["rtt_us"] / 2)), float(trips["rtt_sigma"]))
    numbers = range(10 * params.crashes * params.groups)
    with processes() as executor:
        found = executor.map(partial(_simulated, params, seed, latency), numbers, chunksize=20)
        rows += [{"world": "simulated", **row, **trips} for pair in found for row in pair]
    return rows


def _real(params: Params, seed: int) -> list[Row]:
    """Crashes, then events, then the packets of one group."""
    real = RealGroup(params, seed)
    try:
        quiet = real.settle()
        rows = [{**real.crash(), **quiet} for _ in range(params.crashes)]
        rows += [real.tell(number) for number in range(params.crashes)]
        rows += real.packets()
    finally:
        real.end()
    return [{"world": "real", **row} for row in rows]


# --- the simulated world -----------------------------------------------------------------------


def _simulated(params: Params, seed: int, latency: LogNormal, number: int) -> list[Row]:
    """A crash and an event, each in a group of its own."""
    return [_crash(params, seed, latency, number), _tell(params, seed, latency, number)]


def _crash(params: Params, seed: int, latency: LogNormal, number: int) -> Row:
    config = config_of(params)
    own = rng.seed(seed, "simulated", number)
    record: tuple[Any, ...] = ("messages",) if number == 0 else ()
    cluster = Cluster(params.nodes, config, Network(latency=latency), seed=own, record=record)
    phase, own = rng.below(own, params.probe_interval)
    victim, own = rng.below(own, params.nodes)
    load: Row = {}
    if number == 0:
        cluster.run(params.quiet)
        load = _load(cluster, params)
    cluster.run_for(2 * params.probe_interval + phase)
    name = cluster.hosts[victim].name
    wrong = FalsePositives()
    watch = Detection(name, (host.name for host in cluster.hosts), cluster.now)
    cluster.observers += [watch, wrong]
    cluster.kill(name)
    cluster.run_until(lambda: watch.done, cluster.now + LIMIT)
    return {
        "t_ping": _since(watch.ended, watch.first_ping),
        "t_suspicion": _since(watch.ended, watch.first_suspicion),
        "t_first": _since(watch.ended, watch.first_detection),
        "t_full": _since(watch.ended, watch.full),
        "false_positives": len(wrong.found),
        **load,
    }


def _tell(params: Params, seed: int, latency: LogNormal, number: int) -> Row:
    config = config_of(params)
    own = rng.seed(seed, "event", number)
    cluster = Cluster(params.nodes, config, Network(latency=latency), seed=own, record=())
    phase, own = rng.below(own, params.probe_interval)
    origin, own = rng.below(own, params.nodes)
    cluster.run(phase + 1)
    name = cluster.hosts[origin].name
    watch = Infection(
        lambda _: False, lambda event: isinstance(event, UserEventReceived), cluster.hosts[0].name
    )
    cluster.observers.append(watch)
    began = cluster.now
    cluster.request(name, FireEvent(1, "news-0", None, coalesce=False))
    everybody = params.nodes
    cluster.run_until(lambda: len(watch.known_at) == everybody, began + hush(params))
    told = [at - began for who, at in watch.known_at.items() if who != name]
    return infection(params, [at / SECOND for at in told])


def _since(start: Micros, instant: Micros | None) -> float | None:
    return None if instant is None else (instant - start) / SECOND


def _load(cluster: Cluster, params: Params) -> Row:
    counts = cluster.trace.messages()
    sent = counts[(counts.kind == "packet") & (counts.fate == "sent")]
    node_s = params.nodes * params.quiet / SECOND
    return {
        "packets_node_s": sent.messages.sum() / node_s,
        "bytes_node_s": sent.bytes.sum() / node_s,
    }
