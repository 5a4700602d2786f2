"""What is run: members that join, crash, flap, come and go, or talk too much."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.checks import FalsePositives, Observer
from backends.sim.faults import Churn, Flap, Hosts
from backends.sim.host import Host
from backends.sim.network import Link
from backends.sim.roster import address_of
from backends.sim.strikes import select
from experiments.experiment import Row
from experiments.film import Film
from swimsim import LAN, MINUTE, SECOND, Config
from swimsim.effects import Event, Failed, Joined, JoinFinished
from swimsim.inputs import UpdateMeta
from swimsim.member import ALIVE, peer
from swimsim.messages import COMPOUND_PART, Alive, size
from swimsim.swim.broadcast import retransmit_limit
from swimsim.terms import Micros, NodeId

META = b"0123456789"  # what an update carries
DOWN: Micros = 20 * SECOND  # of a flip-flop, and as long up
FLAP: Micros = 60 * SECOND  # Serf's FlapTimeout: back within that is a flap


class Params(Struct, frozen=True):
    """One cell of the experiment. Which fields count depends on ``trouble``."""

    trouble: Literal["join", "flip-flop", "egress", "crash", "sessions", "updates"]
    nodes: int
    crashed: int = 0  # members that die at once
    joins_per_s: int = 0  # 0: all at once
    session_s: int = 0  # mean life of a process
    load: float = 0.0  # updates offered, in units of F15
    lifeguard: bool = True
    watch_s: int = 200
    film: bool = False  # also record what every node believes, each second

    @property
    def troubled(self) -> int:
        """Members with a bad network: one in a hundred."""
        return max(1, self.nodes // 100)


def config_of(params: Params) -> Config:
    """Memberlist's LAN settings."""
    if params.lifeguard:
        return LAN
    return replace(LAN, lha_probe=False, lha_suspicion=False, buddy_system=False)


def capacity(nodes: int, config: Config = LAN) -> float:
    """F15: updates a second that gossip can carry, for an update of the size measured here."""
    update = Alive(1000, peer(NodeId("node-000"), address_of(0), META, config.vsn))
    each = math.floor(config.packet_size / (size(update) + COMPOUND_PART))
    packets = config.gossip_nodes * SECOND / config.gossip_interval
    return packets * each / retransmit_limit(nodes, config)


# --- one run ---------------------------------------------------------------------------------


def run(params: Params, seed: int) -> list[Row]:
    """One run of one kind of trouble."""
    match params.trouble:
        case "join":
            return _run_join(params, seed)
        case "crash":
            return _run_crash(params, seed)
        case "updates":
            return _run_updates(params, seed)
        case "flip-flop" | "egress":
            return _run_bad_network(params, seed)
        case "sessions":
            return _run_sessions(params, seed)


class Tally(Observer):
    """What each node told of its members: who failed, and who came back."""

    def __init__(self, subjects: set[NodeId] | None = None) -> None:
        self.subjects = subjects  # None: everybody
        self.failed: Counter[NodeId] = Counter()  # by observer
        self.returned: Counter[NodeId] = Counter()  # from failed to alive, by observer
        self.flaps = 0  # returns within ``FLAP``
        self.refused = 0  # joins that reached nobody
        self.lost_at: dict[tuple[NodeId, NodeId], Micros] = {}

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Count a loss or a return."""
        if isinstance(event, JoinFinished):
            self.refused += not event.contacted
        elif isinstance(event, Failed):
            if self.subjects is None or event.node in self.subjects:
                self.failed[host.name] += 1
                self.lost_at[host.name, event.node] = now
        elif isinstance(event, Joined):
            lost = self.lost_at.pop((host.name, event.peer.name), None)
            if lost is not None:
                self.returned[host.name] += 1
                self.flaps += now - lost <= FLAP


def _queues(cluster: Cluster) -> list[int]:
    return [len(host.node.broadcasts.queue) for host in cluster.hosts if host.node]


def _counts(cluster: Cluster) -> list[int]:
    return [host.node.members.count(ALIVE) for host in cluster.hosts if host.node]


def _run_join(params: Params, seed: int) -> list[Row]:
    """All but one join that one; looked at each second, as Rapid did."""
    every = SECOND // params.joins_per_s if params.joins_per_s else 0
    cluster = Cluster(
        params.nodes, LAN, seed=seed, warm=False, seeds=1, join_every=every, record=()
    )
    tally, film = Tally(), Film(0)
    cluster.observers.append(tally)
    sizes: set[int] = set()
    longest, most, nearly = 0, 0, None
    while cluster.now < params.watch_s * SECOND:
        film.play(cluster, cluster.now + SECOND)
        counts = _counts(cluster)
        sizes.update(counts)
        longest = max(longest, *_queues(cluster))
        most = max(counts)
        whole = counts.count(params.nodes)
        if nearly is None and whole >= 0.99 * params.nodes:
            nearly = cluster.now / SECOND
        if whole == params.nodes:
            break
    done = cluster.now / SECOND if whole == params.nodes else None
    row: Row = {
        "kind": "join",
        "all_s": done,
        "nearly_s": nearly,
        "limit_s": float(params.watch_s),
        "sizes": len(sizes),
        "largest": most,
        "queue_max": longest,
        "refused": tally.refused,
    }
    return [row, *(film.rows if params.film else [])]


def _run_crash(params: Params, seed: int) -> list[Row]:
    """Several processes end in one instant."""
    cluster = Cluster(params.nodes, config_of(params), seed=seed, record=())
    cluster.run(2 * SECOND)
    began = cluster.now
    victims = {host.name for host in select(cluster, Hosts(random=params.crashed))}
    wrong, removals = FalsePositives(), Removals(victims)
    cluster.observers += [wrong, removals]
    film = Film(began)
    for name in sorted(victims):
        cluster.kill(name)
    pairs = len(victims) * (params.nodes - len(victims))
    limit, longest = began + params.watch_s * SECOND, 0
    between: dict[NodeId, set[int]] = {}
    while len(removals.at) < pairs and cluster.now < limit:
        film.play(cluster, cluster.now + SECOND)
        longest = max(longest, *_queues(cluster))
        for host in cluster.running:
            assert host.node is not None
            between.setdefault(host.name, set()).add(host.node.members.present)
    ends = {params.nodes, params.nodes - len(victims)}
    steps = sorted(len(seen - ends) for seen in between.values())
    times = sorted(instant - began for instant in removals.at.values())
    whole = len(times) == pairs
    row: Row = {
        "kind": "crash",
        "first_s": times[0] / SECOND if times else None,
        "half_s": times[len(times) // 2] / SECOND if times else None,
        "everywhere_s": times[-1] / SECOND if whole else None,
        "limit_s": float(params.watch_s),
        "survivor_dead": len(wrong.found),
        "intermediate_sizes": float(np.median(steps)),
        "observers_with_two": sum(step >= 2 for step in steps) / len(steps),
        "queue_max": longest,
    }
    return [row, *(film.rows if params.film else [])]


class Removals(Observer):
    """When each survivor first held each victim dead."""

    def __init__(self, victims: set[NodeId]) -> None:
        self.victims = victims
        self.at: dict[tuple[NodeId, NodeId], Micros] = {}

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of a verdict about a victim."""
        if isinstance(event, Failed) and event.node in self.victims:
            self.at.setdefault((host.name, event.node), now)


def _run_bad_network(params: Params, seed: int) -> list[Row]:
    """One member in a hundred hears nothing half of the time, or loses 80 % of what it sends."""
    cluster = Cluster(params.nodes, LAN, seed=seed, record=())
    cluster.run(2 * SECOND)
    began, end = cluster.now, cluster.now + params.watch_s * SECOND
    names = tuple(host.name for host in select(cluster, Hosts(random=params.troubled)))
    if params.trouble == "flip-flop":
        victims = Hosts(names=names)
        cluster.strike(Flap(at=began, hosts=victims, down=DOWN, up=DOWN, until=end, how="cut"))
    else:
        cluster.fabric.relink(tuple(Link(source=name, loss=0.8) for name in names))
    tally, wrong = Tally(set(names)), FalsePositives(names)
    cluster.observers += [tally, wrong]
    film = Film(began)
    held_dead = longest = 0
    while cluster.now < end:
        film.play(cluster, cluster.now + SECOND)
        longest = max(longest, *_queues(cluster))
        held_dead += sum(count < params.nodes for count in _present(cluster))
    healthy = [host.name for host in cluster.hosts if host.name not in names]
    cycles = params.watch_s * SECOND / (2 * DOWN) * len(names)
    hours = params.nodes * params.watch_s / 3600
    present = _present(cluster)
    row: Row = {
        "kind": "network",
        "oscillating": sum(tally.returned[name] >= math.floor(cycles) for name in healthy)
        / len(healthy),
        "returns_per_cycle": sum(tally.returned[name] for name in healthy)
        / len(healthy) / cycles,
        "flaps_per_observer_hour": tally.flaps / hours,
        "wrongly_dead": len(wrong.found),
        "views_at_end": len(set(present)),
        "removed_for_good": float(np.mean([size <= params.nodes - len(names) for size in present])),
        "time_incomplete": held_dead / (params.nodes * params.watch_s),
        "queue_max": longest,
    }  # fmt: skip
    return [row, *(film.rows if params.film else [])]


def _present(cluster: Cluster) -> list[int]:
    return [host.node.members.present for host in cluster.hosts if host.node]


def _run_sessions(params: Params, seed: int) -> list[Row]:
    """Processes end at random and are replaced after half a minute."""
    deaths = params.nodes * MINUTE / (params.session_s * SECOND)
    churn = Churn(
        at=2 * SECOND, rate=deaths, downtime=30 * SECOND, until=(2 + params.watch_s) * SECOND
    )
    cluster = Cluster(params.nodes, LAN, seed=seed, record=(), faults=(churn,))
    tally, wrong = Tally(), FalsePositives()
    cluster.observers += [tally, wrong]
    lengths: list[float] = []
    longest = 0
    for _ in range(params.watch_s):
        cluster.run_for(SECOND)
        queues = _queues(cluster)
        lengths.append(float(np.mean(queues)))
        longest = max(longest, *queues)
    return [
        {
            "kind": "sessions",
            "deaths": sum(host.life - 1 for host in cluster.hosts),
            "survivor_dead": len(wrong.found),
            "flaps_per_observer_hour": tally.flaps / (params.nodes * params.watch_s / 3600),
            "queue_mean": float(np.mean(lengths)),
            "queue_early": float(np.mean(lengths[params.watch_s // 3 : 2 * params.watch_s // 3])),
            "queue_late": float(np.mean(lengths[2 * params.watch_s // 3 :])),
            "queue_max": longest,
        }
    ]


def _run_updates(params: Params, seed: int) -> list[Row]:
    """Members take turns in publishing new metadata, at a multiple of what F15 allows."""
    config = replace(LAN, push_pull_interval=0)
    cluster = Cluster(params.nodes, config, seed=seed, meta=META, record=())
    cluster.run(2 * SECOND)
    offered = params.load * capacity(params.nodes, config)
    began, published = cluster.now, 0
    rows: list[Row] = []
    for tick in range(params.watch_s * 10):
        cluster.run(began + (tick + 1) * SECOND // 10)
        while published < offered * (tick + 1) / 10:
            host = cluster.hosts[published % params.nodes]
            meta = f"{published:010}".encode()
            cluster.request(host.name, UpdateMeta(meta))
            published += 1
        if tick % 10 == 9:
            queues = _queues(cluster)
            rows.append(
                {
                    "kind": "queue",
                    "time_s": (cluster.now - began) / SECOND,
                    "offered_per_s": offered,
                    "queue_mean": float(np.mean(queues)),
                    "queue_max": max(queues),
                }
            )
    return rows
