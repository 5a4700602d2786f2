"""Inspectors see every step, change nothing, and count what the trace counts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from backends.sim import Cluster, Network
from backends.sim.checks import Inspector
from backends.sim.host import Host
from backends.sim.inspectors import Infection, Mistakes, Traffic
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


# --- mistakes --------------------------------------------------------------------------------

DEAF = replace(LAN, stream_ping=False, push_pull_interval=0, indirect_checks=1)


def mistaken(config: Config, loss: float, seconds: int, seed: int = 1) -> tuple[Cluster, Mistakes]:
    cluster = Cluster(12, config, Network(loss=Bernoulli(loss)), seed=seed)
    watch = Mistakes(0)
    cluster.observers.append(watch)
    cluster.inspectors.append(watch)
    cluster.run(seconds * SECOND)
    return cluster, watch


def test_without_loss_nobody_is_wronged() -> None:
    _, watch = mistaken(DEAF, 0.0, 20)
    assert 12 * 19 <= watch.rounds <= 12 * 20
    assert (watch.failed_probes, watch.suspicions, watch.false_positives) == (0, 0, 0)
    assert (watch.flaps, watch.standing, watch.mistaken_time(20 * SECOND)) == (0, 0, 0)


def test_without_suspicion_each_failed_probe_is_a_verdict_unless_it_was_known() -> None:
    cluster, watch = mistaken(replace(DEAF, suspicion=False), 0.2, 60)
    events = cluster.trace.events()
    failed = events[events.event == "failed"]
    own = failed[failed.source == failed.observer]
    assert len(failed) == watch.false_positives > 100
    assert len(own) <= watch.failed_probes <= 1.3 * len(own)
    assert watch.suspicions == 0
    assert len(watch.episodes) == len(failed.groupby(["member", "incarnation"]))


def test_suspicions_that_others_told_of_are_not_first_hand() -> None:
    cluster, watch = mistaken(replace(DEAF, suspicion_mult=100), 0.2, 60)
    events = cluster.trace.events()
    suspected = events[events.event == "suspected"]
    assert 0 < watch.suspicions <= (suspected.source == suspected.observer).sum()
    assert watch.suspicions < len(suspected) / 4
    assert watch.suspicions <= watch.failed_probes
    assert watch.refutations
    assert all(0 < wait < 5 * SECOND for wait in watch.refutations)


def test_a_mistake_lasts_from_the_verdict_to_the_return() -> None:
    cluster, watch = mistaken(replace(DEAF, suspicion=False), 0.1, 60)
    events = cluster.trace.events()
    verdicts = events[events.event.isin(["failed", "joined"])]
    total, returns = 0.0, 0
    for _, told in verdicts.groupby(["observer", "member"]):
        since = None
        for at, event in zip(told.time_s, told.event, strict=True):
            if event == "failed":
                since = at
            elif since is not None:
                total, returns, since = total + at - since, returns + 1, None
        total += 60 - since if since is not None else 0
    assert len(watch.mistakes) == returns == watch.flaps > 50
    assert watch.mistaken_time(60 * SECOND) / SECOND == pytest.approx(total)


def test_a_probe_that_a_stream_answers_has_not_failed() -> None:
    config = replace(DEAF, stream_ping=True)
    cluster = Cluster(6, config, Network(loss=Bernoulli(0.5, hits=("packets",))), seed=1)
    watch = Mistakes(0)
    cluster.observers.append(watch)
    cluster.inspectors.append(watch)
    cluster.run(30 * SECOND)
    assert watch.rounds > 6 * 28
    assert watch.failed_probes == 0


# --- traffic ---------------------------------------------------------------------------------


def test_traffic_counts_the_packets_of_each_member_and_period() -> None:
    cluster = Cluster(6, LAN, seed=4, record=("packets",))
    cluster.run(3 * SECOND)
    watch = Traffic(cluster.now, SECOND, 6)
    cluster.inspectors.append(watch)
    cluster.run(13 * SECOND)
    watch.close(cluster.now)
    packets = cluster.trace.packets()
    packets = packets[packets.time_s.between(3, 13) & ~packets.kinds.str.startswith("stream")]
    for fate, end, found in (
        ("sent", "source", watch.sent),
        ("received", "target", watch.received),
    ):
        seen = packets[packets.fate == fate]
        each = seen.groupby([end, seen.time_s.astype(int)]).size()
        assert found.total() == 60
        assert sum(count * times for count, times in found.items()) == len(seen)
        assert {c: t for c, t in found.items() if c} == each.value_counts().to_dict()
