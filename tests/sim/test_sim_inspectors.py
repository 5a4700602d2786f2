"""Inspectors see every step, change nothing, and count what the trace counts."""

from __future__ import annotations

from backends.sim import Cluster, Network
from backends.sim.checks import Inspector
from backends.sim.host import Host
from backends.sim.inspectors import Infection
from backends.sim.network import Bernoulli
from swimsim import LAN, SECOND, Config
from swimsim.effects import Effect, Event, Updated
from swimsim.inputs import Input, UpdateMeta
from swimsim.messages import Alive, Message
from swimsim.node import Node
from swimsim.terms import Micros

LOSSY = Network(loss=Bernoulli(0.2))


class Log(Inspector):
    """Every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[Micros, str, Node, Input, tuple[Effect, ...], Node | None]] = []

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        self.steps.append((now, host.name, before, input, effects, host.node))


def is_news(message: Message) -> bool:
    return isinstance(message, Alive) and message.peer.meta == b"news"


def tells(event: Event) -> bool:
    return isinstance(event, Updated)


def spread(config: Config = LAN, seed: int = 3) -> tuple[Cluster, Infection]:
    cluster = Cluster(20, config, seed=seed, record=("packets",))
    watch = Infection(is_news, tells, cluster.hosts[0].name)
    cluster.observers.append(watch)
    cluster.inspectors.append(watch)
    cluster.run(SECOND)
    cluster.request(cluster.hosts[0].name, UpdateMeta(b"news"))
    cluster.run(6 * SECOND)
    return cluster, watch


def test_an_inspector_sees_every_step_and_changes_none() -> None:
    watched, alone = (Cluster(8, LAN, LOSSY, seed=2) for _ in range(2))
    log = Log()
    watched.inspectors.append(log)
    before = watched.steps
    for cluster in (watched, alone):
        cluster.run(10 * SECOND)
    assert watched.digest() == alone.digest()
    assert len(log.steps) == watched.steps - before > 100
    last: dict[str, Node | None] = {}
    for _, name, first, _, _, after in log.steps:
        assert first is last.get(name, first) or first.members == last[name].members  # type: ignore[union-attr]
        last[name] = after


def test_inspectors_stay_with_the_original() -> None:
    cluster = Cluster(3, LAN)
    cluster.inspectors.append(Log())
    assert cluster.branch().inspectors == []


def test_an_infection_knows_who_learned_of_the_news_and_when() -> None:
    cluster, watch = spread()
    assert set(watch.known_at) == {host.name for host in cluster.hosts}
    assert watch.known_at[cluster.hosts[0].name] == 1 * SECOND
    assert min(watch.known_at.values()) == 1 * SECOND


def test_an_infection_counts_the_packets_and_copies_that_the_trace_shows() -> None:
    cluster, watch = spread()
    packets = cluster.trace.packets()
    about = packets[packets.kinds.str.contains("alive")]
    sent = about[about.fate == "sent"].kinds
    rides = sent.str.contains("ping|ack|nack")
    assert (watch.packets, watch.rides) == ((~rides).sum(), rides.sum())
    assert watch.rides > 0
    received = about[about.fate == "received"].kinds
    assert watch.copies == received.str.count("alive").sum()
