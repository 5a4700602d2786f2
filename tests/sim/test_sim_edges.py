"""No lie at the edges: what a user will conclude from long, calm, stormy and unlucky runs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, get_args

import pytest

from backends.sim import Cluster, Network
from backends.sim.checks import FalsePositives
from backends.sim.faults import (
    Churn,
    Degrade,
    Fault,
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
    hosts,
)
from backends.sim.network import Bernoulli, GilbertElliott, Link, LogNormal
from swimsim.config import PROFILES
from swimsim.effects import Failed, Joined, Left, Refuted, Suspected
from swimsim.inputs import META_LIMIT
from swimsim.terms import HOUR, MINUTE, MS, SECOND, Micros
from tests.sim.worlds import names, watched, with_config

# --- calm ----------------------------------------------------------------------------------------


def calm(cluster: Cluster, span: Micros) -> None:
    """Without loss and without faults nobody ever has a reason to doubt anybody."""
    log = watched(cluster)
    cluster.run(span)
    assert log.of(Suspected, Failed, Left, Refuted, Joined) == []
    assert log.events == []
    assert cluster.converged()
    assert (cluster.views().health == 0).all()


def test_an_hour_of_a_hundred_nodes_is_without_events() -> None:
    calm(Cluster(100, seed=1), 1 * HOUR)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_a_day_of_a_hundred_nodes_is_without_events() -> None:
    calm(Cluster(100, seed=2), 24 * HOUR)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 10, 32, 33, 99, 101])
def test_minutes_of_any_size_are_without_events(count: int) -> None:
    # 10, 32 and 100 are where the protocol's scales step
    calm(Cluster(count, seed=count), 10 * MINUTE if count < 20 else 3 * MINUTE)


@pytest.mark.parametrize("profile", PROFILES)
def test_minutes_of_any_profile_are_without_events(profile: str) -> None:
    calm(Cluster(20, PROFILES[profile], seed=3), 10 * MINUTE)


def test_nor_does_a_world_wide_network_make_any() -> None:
    # One-way delays of 140 ms, now and then 250: a round trip can outlast the ping's timeout,
    # and then helpers and a stream are asked, all within the round.
    network = Network(LogNormal(140 * MS, 0.2))
    calm(Cluster(30, seed=4, network=network), 10 * MINUTE)


def test_packets_that_come_twice_and_out_of_order_make_no_events() -> None:
    network = Network(duplicate=0.5, reorder=0.5, reorder_delay=50 * MS)
    calm(Cluster(30, seed=5, network=network), 10 * MINUTE)


def test_a_lossy_network_makes_suspicions_but_no_deaths() -> None:
    # 10 % loss: every probe fails directly now and then; helpers and streams make up for it.
    watch = FalsePositives()
    cluster = Cluster(50, seed=6, network=Network(loss=Bernoulli(0.1)))
    cluster.observers.append(watch)
    cluster.run(10 * MINUTE)
    assert watch.found == []
    assert cluster.converged()


@pytest.mark.parametrize("count", [30, 100])
def test_cold_joins_are_without_doubts(count: int) -> None:
    cluster = Cluster(count, warm=False, join_every=50 * MS, seed=7)
    log = watched(cluster)
    cluster.run(2 * MINUTE)
    assert log.of(Suspected, Failed, Left, Refuted) == []
    assert cluster.converged()
    # Each of them joined once at everybody, itself included.
    assert len(log.of(Joined)) == count * count


def test_the_largest_metadata_and_the_longest_names_spread_all_the_same() -> None:
    long = [f"{'x' * 120}-{index}" for index in range(12)]
    cluster = Cluster(long, meta=b"m" * META_LIMIT, warm=False, seed=8, check=True)
    assert cluster.run_until(lambda: len(cluster.running) == 12 and cluster.converged(), MINUTE)


# --- cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(24))
def test_a_short_cut_heals_without_anybody_reconnecting(seed: int) -> None:
    # memberlist alone: at most 15 s, while gossip still reaches the dead (spec experiments.md, E6)
    random = Random(seed)
    count = random.randint(10, 40)
    side = random.sample(names(count), random.randint(1, count - 1))
    lasts = random.randint(1, 15_000) * MS
    cut = Partition(
        at=20 * SECOND,
        groups=(hosts(*side),),
        one_way=random.random() < 0.2,
        heal_after=lasts,
    )
    cluster = Cluster(names(count), with_config(reconnect_interval=0), seed=seed, faults=[cut])
    before = dict.fromkeys(names(count), 1)
    cluster.run(20 * SECOND + lasts)
    assert cluster.run_until(cluster.converged, cluster.now + 5 * MINUTE, every=SECOND)
    cluster.run_for(MINUTE)
    assert cluster.converged(), "and stays healed"
    for name in names(count):
        view = cluster.view(name).set_index("member")
        assert (view.status == "alive").all()
        assert all(view.incarnation[member] >= before[member] for member in names(count))


@pytest.mark.parametrize("seed", range(8))
def test_a_long_cut_heals_by_reconnecting(seed: int) -> None:
    random = Random(1_000 + seed)
    count = random.randint(10, 40)
    side = random.sample(names(count), random.randint(1, count - 1))
    lasts = random.randint(60, 600) * SECOND
    cut = Partition(at=5 * SECOND, groups=(hosts(*side),), heal_after=lasts)
    cluster = Cluster(names(count), seed=seed, faults=[cut], record=())
    watch = FalsePositives()
    cluster.observers.append(watch)
    cluster.run(5 * SECOND + lasts)
    same_side = [
        (observer, subject)
        for _, observer, subject in watch.found
        if (observer in side) == (subject in side)
    ]
    assert same_side == [], "nobody on one's own side is wronged"
    assert cluster.run_until(cluster.converged, cluster.now + 5 * MINUTE, every=SECOND)


@pytest.mark.parametrize("seed", range(3))
def test_without_reconnecting_a_long_cut_never_heals(seed: int) -> None:
    cut = Partition(at=5 * SECOND, groups=(Hosts(share=0.5),), heal_after=5 * MINUTE)
    cluster = Cluster(20, with_config(reconnect_interval=0), seed=seed, faults=[cut], record=())
    cluster.run(15 * MINUTE)
    assert cluster.agreement() == 0.5


# --- farewells -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(16))
def test_whoever_left_is_never_said_to_have_failed_and_never_comes_back(seed: int) -> None:
    # 5 % loss. A farewell is sent to 8 or more: that all of them are lost to somebody is a matter
    # of less than one run in a thousand, and the seeds are fixed.
    random = Random(seed)
    count = random.randint(10, 40)
    gone = random.sample(names(count), random.randint(1, 5))
    faults = [Leave(at=random.randrange(5, 30) * SECOND, hosts=hosts(name)) for name in gone]
    network = Network(loss=Bernoulli(0.05))
    cluster = Cluster(names(count), network=network, seed=seed, faults=faults)
    log = watched(cluster)
    cluster.run(4 * MINUTE)
    assert log.of(Failed) == []
    assert log.of(Joined) == []
    assert [event for _, _, event in log.of(Suspected) if event.node in gone] == []
    left = {(who, event.node) for _, who, event in log.of(Left)}
    assert left >= {(name, other) for name in names(count) for other in gone if name not in gone}
    assert sorted(who for _, who in log.down) == sorted(gone)
    assert cluster.converged()


@pytest.mark.parametrize("seed", range(4))
def test_a_farewell_in_a_short_cut_is_a_farewell_once_it_heals(seed: int) -> None:
    # The other side may think that it failed meanwhile, but not that it is back.
    faults = [
        Partition(at=10 * SECOND, groups=(hosts(*names(8)[:4]),), heal_after=6 * SECOND),
        Leave(at=12 * SECOND, hosts=hosts("n1")),
    ]
    cluster = Cluster(names(8), seed=seed, faults=faults)
    log = watched(cluster)
    cluster.run(5 * MINUTE)
    assert cluster.converged()
    ends = [(at, who) for at, who, event in log.of(Failed, Left) if event.node == "n1"]
    backs = [(at, who) for at, who, event in log.of(Joined) if event.peer.name == "n1"]
    assert {who for _, who in ends} >= {host.name for host in cluster.running}
    assert backs == []


# --- storms --------------------------------------------------------------------------------------

LENGTH = 40 * SECOND


def storm(seed: int, kinds: list[str], count: int, times: int) -> list[Fault]:
    """Faults of these kinds, at random times, on random hosts."""
    random = Random(seed)

    def span(least: Micros, most: Micros) -> Micros:
        return random.randrange(least, most)

    def some() -> Hosts:
        return hosts(*random.sample(names(count), random.randint(1, max(1, count // 3))))

    newcomers = iter(range(1_000))

    def make(kind: str) -> Fault:
        at = span(1 * SECOND, LENGTH)
        brief = span(50 * MS, 9 * SECOND)
        if kind == "flap":
            return Flap(
                at=at,
                hosts=some(),
                down=brief,
                up=span(0, 4 * SECOND),
                until=min(LENGTH, at + span(0, 20 * SECOND)),
                how=random.choice(["kill", "pause", "cut"]),  # type: ignore[arg-type]
            )
        if kind in ("flap by pause", "flap by cut"):
            how: Any = kind.removeprefix("flap by ")
            return Flap(at=at, hosts=some(), down=brief, up=brief, until=LENGTH, how=how)
        makers: dict[str, Callable[[], Fault]] = {
            "kill": lambda: Kill(at=at, hosts=some()),
            "restart": lambda: Restart(at=at, hosts=some(), join=random.random() < 0.9),
            "pause": lambda: Pause(
                at=at,
                hosts=some(),
                duration=brief,
                how=random.choice(["block", "stop"]),  # type: ignore[arg-type]
                drain=random.choice([0, 10, 20 * MS]),
            ),
            "slow": lambda: Slow(
                at=at, hosts=some(), duration=brief, service=span(1 * MS, 300 * MS)
            ),
            "leave": lambda: Leave(at=at, hosts=some(), timeout=span(1 * MS, 6 * SECOND)),
            "join": lambda: Join(
                at=at,
                names=tuple(f"new-{next(newcomers)}" for _ in range(random.randint(1, 3))),
                every=span(0, 2 * SECOND),
            ),
            "partition": lambda: Partition(
                at=at,
                groups=(some(),),
                one_way=random.random() < 0.3,
                hits=random.choice([("packets",), ("streams",), ("packets", "streams")]),  # type: ignore[arg-type]
                heal_after=brief,
            ),
            "heal": lambda: Heal(at=at),
            "degrade": lambda: Degrade(
                at=at,
                links=(
                    Link(
                        random.choice(names(count)),
                        "*",
                        random.random(),
                        span(0, 300 * MS),
                    ),
                ),
                duration=brief,
            ),
            "churn": lambda: Churn(at=at, rate=20, downtime=3 * SECOND, until=LENGTH),
        }
        return makers[kind]()

    chosen = kinds + [random.choice(kinds) for _ in range(max(0, times - len(kinds)))]
    return [make(kind) for kind in chosen]


EVERY = [
    "kill",
    "restart",
    "pause",
    "slow",
    "leave",
    "join",
    "flap",
    "partition",
    "heal",
    "degrade",
    "churn",
]

NETWORKS: list[Network] = [
    Network(),
    Network(loss=Bernoulli(0.1), duplicate=0.1),
    Network(LogNormal(40 * MS, 0.4), reorder=0.2, reorder_delay=200 * MS),
    Network(loss=GilbertElliott(0.1, 2 * SECOND, "node"), bandwidth=200_000, queue=4_000),
]


def test_a_storm_is_of_every_kind() -> None:
    assert {kind.__struct_config__.tag for kind in get_args(Fault)} == set(EVERY)


@pytest.mark.parametrize("seed", range(12))
def test_in_a_storm_of_everything_no_invariant_breaks(seed: int) -> None:
    count = 5 + seed
    cluster = Cluster(
        names(count),
        with_config(push_pull_interval=5 * SECOND, reconnect_interval=7 * SECOND),
        NETWORKS[seed % len(NETWORKS)],
        seed=seed,
        warm=seed % 3 != 0,
        faults=storm(seed, EVERY, count, 24),
        check=True,
    )
    log = watched(cluster)
    cluster.run(LENGTH + 20 * SECOND)
    times = [at for at, _, _ in log.events]
    assert times == sorted(times), "time does not go back"
    assert len(log.up) >= len(log.down) - count
    lives = [host.life for host in cluster.hosts]
    ups = {host.name: sum(who == host.name for _, who in log.up) for host in cluster.hosts}
    warm = seed % 3 != 0
    assert lives == [ups[host.name] + (warm and host.index < count) for host in cluster.hosts]
    for host in cluster.running:
        assert host.node is not None
        assert host.process is None or host.process.mode != "run" or host.process.inbox


@pytest.mark.parametrize("seed", range(6))
def test_a_storm_that_is_branched_anywhere_goes_the_same_way(seed: int) -> None:
    count = 6 + seed
    network = NETWORKS[seed % len(NETWORKS)]
    original = Cluster(
        names(count), network=network, seed=seed, faults=storm(seed, EVERY, count, 24)
    )
    twins = []
    for moment in sorted(Random(seed).sample(range(LENGTH), 6)):
        original.run(moment)
        twins.append(original.branch())
    for cluster in (original, *twins):
        cluster.run(LENGTH)
    assert {twin.digest() for twin in twins} == {original.digest()}


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", range(100, 200))
def test_in_many_storms_no_invariant_breaks(seed: int) -> None:
    count = 4 + seed % 20
    cluster = Cluster(
        names(count),
        network=NETWORKS[seed % len(NETWORKS)],
        seed=seed,
        faults=storm(seed, EVERY, count, 40),
        check=True,
    )
    cluster.run(LENGTH + 20 * SECOND)


HINDRANCES = ["pause", "slow", "partition", "degrade", "flap by pause", "flap by cut"]


@pytest.mark.parametrize("seed", range(12))
def test_after_a_storm_in_which_nobody_died_all_agree_again(seed: int) -> None:
    count = 8 + 2 * seed
    faults = storm(seed, HINDRANCES, count, 12)
    cluster = Cluster(names(count), seed=seed, faults=faults, record=())
    cluster.run(LENGTH + 15 * SECOND)
    assert cluster.fabric.cuts == ()
    assert cluster.fabric.links == ()
    assert all(host.process is None for host in cluster.hosts)
    assert cluster.run_until(cluster.converged, cluster.now + 10 * MINUTE, every=SECOND)
    assert len(cluster.running) == count


@pytest.mark.parametrize("seed", range(6))
def test_after_a_storm_of_deaths_the_survivors_agree(seed: int) -> None:
    count = 10 + 3 * seed
    faults: list[Fault] = [
        Kill(at=10 * SECOND, hosts=Hosts(share=0.3)),
        Restart(at=25 * SECOND, hosts=Hosts(random=2)),
        Leave(at=30 * SECOND, hosts=Hosts(random=2)),
        Join(at=31 * SECOND, names=("new-a", "new-b")),
        Kill(at=32 * SECOND, hosts=Hosts(random=1)),
    ]
    cluster = Cluster(names(count), seed=seed, faults=faults, check=True)
    cluster.run(40 * SECOND)
    assert cluster.run_until(cluster.converged, cluster.now + 5 * MINUTE, every=SECOND)
