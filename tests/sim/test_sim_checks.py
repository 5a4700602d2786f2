"""Observers from outside, against sequences of events made by hand and against small runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from backends.sim import Cluster
from backends.sim.checks import Deaths, Detection, FalsePositives, Observer, Tap
from backends.sim.faults import Kill, Leave, Pause, Restart, hosts
from backends.sim.host import Host
from backends.sim.network import Bernoulli, Network
from backends.sim.trace import Column
from swimsim.config import LAN
from swimsim.effects import Cleared, Failed, HealthChanged, Left, Suspected
from swimsim.messages import Ack, Ping
from swimsim.terms import SECOND, Address, Micros, NodeId
from tests.sim.worlds import machine, names, watched

HOSTS = {f"n{index}": machine(index) for index in range(5)}
N0, N1, N2, N3, N4 = map(NodeId, HOSTS)
PING = Ping(1, N0, Address(b"", 0), N1)


def says(now: Micros, who: str, event: Any) -> Callable[[Observer], None]:
    return lambda watch: watch.on_event(now, HOSTS[who], event)


def unheard(now: Micros, source: str, target: str, *messages: Any) -> Callable[[Observer], None]:
    return lambda watch: watch.on_unheard(now, HOSTS[source], HOSTS[target], messages)


def down(now: Micros, who: str) -> Callable[[Observer], None]:
    return lambda watch: watch.on_down(now, HOSTS[who])


def up(now: Micros, who: str) -> Callable[[Observer], None]:
    return lambda watch: watch.on_up(now, HOSTS[who])


def told(watch: Any, *happened: Callable[[Observer], None]) -> Any:
    for each in happened:
        each(watch)
    return watch


def suspected(who: str = N0) -> Suspected:
    return Suspected(NodeId(who), 1, N4)


def failed(who: str = N0) -> Failed:
    return Failed(NodeId(who), 1, N4)


def left(who: str = N0) -> Left:
    return Left(NodeId(who), 1, NodeId(who))


# --- one death -----------------------------------------------------------------------------------

STORIES: dict[str, tuple[list[Callable[[Observer], None]], dict[str, Any]]] = {
    "nothing yet": (
        [],
        {"first_ping": None, "first_suspicion": None, "first_detection": None, "full": None},
    ),
    "the first ping counts": (
        [unheard(5, N1, N0, PING), unheard(6, N2, N0, PING)],
        {"first_ping": 5},
    ),
    "a ping among others counts": ([unheard(5, N1, N0, Ack(3), PING)], {"first_ping": 5}),
    "only pings count": ([unheard(5, N1, N0, Ack(3)), unheard(6, N1, N0)], {"first_ping": None}),
    "pings of others do not count": ([unheard(5, N1, N2, PING)], {"first_ping": None}),
    "the first suspicion counts": (
        [says(7, N1, suspected()), says(8, N2, suspected())],
        {"first_suspicion": 7, "first_detection": None},
    ),
    "suspicions of others do not": ([says(7, N1, suspected(N2))], {"first_suspicion": None}),
    "the first verdict counts": (
        [says(8, N2, failed()), says(9, N1, failed())],
        {"first_detection": 8, "known_at": {N2: 8, N1: 9}, "full": None, "left": False},
    ),
    "verdicts on others do not": (
        [says(8, N2, failed(N3))],
        {"first_detection": None, "known_at": {}},
    ),
    "a farewell is a verdict": (
        [says(8, N2, left())],
        {"first_detection": 8, "left": True, "known_at": {N2: 8}},
    ),
    "what the victim says of itself is none": (
        [says(8, N0, left())],
        {"first_detection": None, "left": False, "known_at": {}, "full": None},
    ),
    "all know when the last one knows": (
        [says(8, N2, failed()), says(9, N1, failed()), says(12, N3, failed())],
        {"first_detection": 8, "full": 12, "done": True},
    ),
    "who knows twice knew the first time": (
        [says(8, N2, failed()), says(9, N2, failed())],
        {"known_at": {N2: 8}, "done": False},
    ),
    "the dead are not waited for": (
        [says(8, N2, failed()), down(9, N1), down(11, N3)],
        {"full": 11, "done": True, "known_at": {N2: 8}, "witnesses": 3},
    ),
    "somebody else's death changes nothing": (
        [down(9, N4), says(10, N1, failed()), says(11, N2, failed()), says(12, N3, failed())],
        {"full": 12, "done": True},
    ),
    "the rest does not matter": (
        [says(8, N2, HealthChanged(1)), says(9, N2, Cleared(N0, 2))],
        {"first_suspicion": None, "first_detection": None},
    ),
}


@pytest.mark.parametrize(("story", "wanted"), STORIES.values(), ids=STORIES)
def test_a_detection_notes(story: list[Callable[[Observer], None]], wanted: dict[str, Any]) -> None:
    watch = told(Detection(N0, [N0, N1, N2, N3], ended=3), *story)
    assert (watch.ended, watch.victim) == (3, N0)
    assert {name: getattr(watch, name) for name in wanted} == wanted


def test_a_death_without_witnesses_is_known_to_all() -> None:
    watch = Detection(N0, [N0], ended=3)
    assert watch.done
    assert watch.witnesses == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_detection_agrees_with_what_was_reported(seed: int) -> None:
    cluster = Cluster(names(12), seed=seed)
    log = watched(cluster)
    cluster.run(3 * SECOND)
    cluster.kill("n7")
    watch = Detection(NodeId("n7"), (NodeId(name) for name in names(12)), cluster.now)
    cluster.observers.append(watch)
    assert cluster.run_until(lambda: watch.done, 60 * SECOND)
    verdicts = [at for at, _, event in log.of(Failed) if event.node == "n7"]
    doubts = [at for at, _, event in log.of(Suspected) if event.node == "n7"]
    assert watch.first_ping == min(at for at, _, target in log.unheard if target == "n7")
    assert watch.first_suspicion == min(doubts)
    assert watch.first_detection == min(verdicts)
    assert watch.full == max(verdicts)
    assert len(watch.known_at) == watch.witnesses == 11
    assert watch.ended < watch.first_ping < watch.first_suspicion < watch.first_detection


# --- deaths --------------------------------------------------------------------------------------


def test_every_death_is_watched_by_those_that_run_at_the_time() -> None:
    watch = told(
        Deaths(HOSTS),
        down(1, N0),
        says(5, N1, failed(N0)),
        down(6, N1),
        says(7, N2, failed(N0)),
        says(8, N2, failed(N1)),
        says(9, N3, failed(N1)),
    )
    first, second = watch.found
    assert (first.victim, first.ended, first.witnesses) == (N0, 1, 4)
    assert first.known_at == {N1: 5, N2: 7}
    assert first.waiting == {N3, N4}
    assert (second.victim, second.ended, second.witnesses) == (N1, 6, 3)
    assert second.known_at == {N2: 8, N3: 9}
    assert not watch.done
    told(watch, says(10, N4, failed(N0)), says(11, N3, failed(N0)), says(12, N4, failed(N1)))
    assert watch.done
    assert (first.full, second.full) == (11, 12)


def test_a_death_ends_when_the_dead_are_back() -> None:
    watch = told(Deaths(HOSTS), down(1, N0), says(5, N1, failed(N0)))
    assert not watch.done
    told(watch, up(6, N0), says(7, N2, failed(N0)))
    assert watch.done, "nobody has to know any more"
    assert watch.found[0].known_at == {N1: 5}
    told(watch, down(8, N0), says(9, N1, failed(N0)))
    assert [death.ended for death in watch.found] == [1, 8]
    assert watch.found[1].known_at == {N1: 9}


def test_a_farewell_is_watched_from_when_it_is_said() -> None:
    watch = told(
        Deaths(HOSTS),
        says(2, N0, left(N0)),
        says(3, N1, left(N0)),
        down(4, N0),
        says(5, N2, left(N0)),
        says(5, N3, left(N0)),
        says(6, N4, left(N0)),
    )
    (death,) = watch.found
    assert (death.victim, death.ended, death.left, death.full) == (N0, 2, True, 6)
    assert watch.done


def test_pings_that_the_dead_do_not_hear_are_theirs_alone() -> None:
    watch = told(
        Deaths(HOSTS),
        unheard(1, N1, N0, PING),  # not dead as far as is known
        down(2, N0),
        down(2, N1),
        unheard(3, N2, N1, PING),
        unheard(4, N2, N0, PING),
    )
    assert [death.first_ping for death in watch.found] == [4, 3]


def test_newcomers_are_witnesses_of_later_deaths() -> None:
    watch = told(Deaths([N0, N1]), up(1, N2), down(2, N0))
    assert watch.found[0].waiting == {N1, N2}


def test_deaths_of_a_run_are_all_found_and_all_known() -> None:
    cluster = Cluster(
        names(12),
        faults=[
            Kill(at=2 * SECOND, hosts=hosts("n1", "n2")),
            Leave(at=5 * SECOND, hosts=hosts("n3")),
            Restart(at=30 * SECOND, hosts=hosts("n1")),
            Kill(at=40 * SECOND, hosts=hosts("n1")),
        ],
    )
    deaths = Deaths(host.name for host in cluster.running)
    cluster.observers.append(deaths)
    cluster.run(100 * SECOND)
    assert [(death.victim, death.left) for death in deaths.found] == [
        ("n1", False),
        ("n2", False),
        ("n3", True),
        ("n1", False),
    ]
    assert [death.ended for death in deaths.found] == [
        2 * SECOND,
        2 * SECOND,
        5 * SECOND,
        40 * SECOND,
    ]
    assert deaths.done
    assert all(death.full for death in deaths.found)
    assert deaths.found[2].first_suspicion is None


# --- false positives -----------------------------------------------------------------------------


def test_verdicts_about_the_living_are_false_one_for_each_observer_and_verdict() -> None:
    watch = told(
        FalsePositives(),
        says(1, N1, failed(N0)),
        says(2, N2, failed(N0)),
        says(3, N1, failed(N0)),
        says(4, N1, left(N3)),
        says(5, N1, suspected(N3)),
    )
    assert watch.found == [(1, N1, N0), (2, N2, N0), (3, N1, N0)]


def test_verdicts_about_those_that_died_or_are_hindered_on_purpose_are_not() -> None:
    watch = told(
        FalsePositives([N4]),
        says(1, N1, failed(N4)),
        down(2, N0),
        says(3, N1, failed(N0)),
        up(4, N0),
        says(5, N2, failed(N0)),  # late news of the first life
        says(6, N2, failed(N3)),
    )
    assert watch.found == [(6, N2, N3)]


def test_a_calm_run_has_no_false_positives_and_a_long_pause_has() -> None:
    for pauses, wronged in (([], set()), ([Pause(at=SECOND, hosts=hosts("n2"),
                                                 duration=30 * SECOND)], {"n2"})):  # fmt: skip
        cluster = Cluster(names(8), faults=pauses)
        watch = FalsePositives()
        cluster.observers.append(watch)
        cluster.strike(Kill(at=2 * SECOND, hosts=hosts("n5")))
        cluster.run(30 * SECOND)
        assert {subject for _, _, subject in watch.found if subject != "n2"} == set()
        assert {subject for _, _, subject in watch.found} == wronged
        if wronged:
            assert {observer for _, observer, _ in watch.found} >= set(names(8)) - {"n2", "n5"}


def test_watchers_that_note_nothing_may_be_added_to_any_run() -> None:
    cluster = Cluster(names(4), faults=[Kill(at=SECOND, hosts=hosts("n1"))])
    cluster.observers.append(Observer())
    cluster.run(30 * SECOND)
    assert cluster.converged()


class Count(Tap):
    """How many packets are sent by each host."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()

    def on_sent(self, now: Micros, source: Host, target: Host, messages: Any) -> None:
        assert messages
        self.sent[source.name] += 1


@pytest.mark.parametrize("loss", [None, Bernoulli(0.2)])
def test_a_tap_hears_of_every_packet_and_changes_nothing(loss: Bernoulli | None) -> None:
    kill = Kill(at=SECOND, hosts=hosts("n1"))
    streamless = replace(LAN, push_pull_interval=0, stream_ping=False)
    digests = set()
    records: list[tuple[Column, ...]] = [(), ("packets",)]
    for record in records:
        for tapped in (False, True):
            cluster = Cluster(
                names(5), streamless, Network(loss=loss), seed=3, record=record, faults=[kill]
            )
            count = Count()
            if tapped:
                cluster.taps.append(count)
            cluster.run(20 * SECOND)
            digests.add(cluster.digest())
    assert len(digests) == 1
    sent = cluster.trace.packets().query("fate == 'sent'")
    assert count.sent == Counter(sent["source"])
    assert set(count.sent) == set(names(5))
