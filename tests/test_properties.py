"""What holds of a few nodes whatever the network does to them.

``World`` checks the invariants of every node after every step, that no ``Then`` gets out, that
incarnations never fall, that only its owner raises one, and that the dead return only in a
higher one. So each test here first of all drives worlds into trouble.
"""

from __future__ import annotations

from random import Random
from typing import Any, TypeAlias

import pytest
from hypothesis import assume, event, given, settings, target
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN, SWIM_2002, Config
from swimsim.effects import Cleared, Failed, Joined, LeaveFinished, Left, Refuted, Updated
from swimsim.inputs import Join, Leave, Received, UpdateMeta
from swimsim.member import ALIVE, DEAD, LEFT, Status
from swimsim.messages import Ack, Alive, Dead, Message, Nack, Ping, Suspect
from swimsim.terms import MS, SECOND, NodeId
from tests.builders import VSN, at, who
from tests.world import World, together

HOSTS = "ABCDE"
Deed: TypeAlias = tuple[Any, ...]

PAPER = replace(
    LAN,
    scale_probe_timeout=True,
    nack_percent=80,
    failed_probe_is_one=True,
    max_confirmations=3,
    awareness_max=8,
)
HASTY = replace(LAN, suspicion_mult=1, suspicion_max_timeout_mult=1, push_pull_interval=5 * SECOND)
FORGETFUL = replace(HASTY, gossip_to_the_dead_time=2 * SECOND, dead_node_reclaim_time=SECOND)
CONFIGS = {
    "lan": LAN,
    "paper": PAPER,
    "hasty": HASTY,
    "forgetful": FORGETFUL,
    "swim": replace(SWIM_2002, probe_interval=SECOND),
    "basic": replace(LAN, suspicion=False, probe_order="random", lha_probe=False),
    "quiet": replace(HASTY, piggyback=False, stream_ping=False, buddy_system=False),
}


def do(world: World, deed: Deed) -> None:
    """One deed of the world; what it needs and does not find makes it nothing."""
    match deed:
        case ("run", duration):
            world.run(duration)
        case ("any" | "drop" | "repeat" as how, place):
            if world.pending:
                due = world.pending[place % len(world.pending)]
                {"any": world.deliver, "drop": world.drop, "repeat": world.repeat}[how](due)
        case ("lose", share):  # some of all that is on its way
            for due in world.pending[:: share + 1]:
                world.drop(due)
        case ("cut", one, streams):
            world.cut(one, "".join(sorted(set(HOSTS) - set(one))), streams=streams)
        case ("deaf", one):  # hears nothing, and is heard
            world.lost_packets |= {(other, one) for other in HOSTS}
        case ("heal",):
            world.heal()
        case ("kill", one):
            world.kill(one)
        case ("restart", one, other):
            world.spawn(one)
            world.feed(one, Join((at(other),)))
        case ("leave", one, timeout) if one in world.nodes:
            world.feed(one, Leave(timeout))
        case ("update", one, meta) if one in world.nodes:
            world.feed(one, UpdateMeta(meta))
        case ("join", one, other) if one in world.nodes:
            world.feed(one, Join((at(other), at("?"))))
        case ("impostor", name, other):  # the same name at another address
            world.spawn("x", name=name)
            world.feed("x", Join((at(other),)))
        case ("stranger", other):  # of versions that nobody here speaks
            config = replace(world.config, vsn=bytes((1, 5, 2, 0, 0, 0)))
            world.spawn("y", config=config)
            world.feed("y", Join((at(other),)))


ONE = st.sampled_from(HOSTS)
RUN = st.tuples(st.just("run"), st.integers(1, 2500).map(MS.__mul__))
CHANCE = st.tuples(st.sampled_from(["any", "drop", "repeat"]), st.integers(0, 60))
DEEDS: st.SearchStrategy[Deed] = st.one_of(
    RUN,
    RUN,
    RUN,
    CHANCE,
    CHANCE,
    st.tuples(st.just("lose"), st.integers(0, 2)),
    st.tuples(st.just("cut"), st.sampled_from(["A", "B", "AB", "CDE", "ABCD"]), st.booleans()),
    st.tuples(st.just("deaf"), ONE),
    st.tuples(st.just("heal")),
    st.tuples(st.just("kill"), ONE),
    st.tuples(st.just("restart"), ONE, ONE),
    st.tuples(st.just("leave"), ONE, st.sampled_from([0, SECOND])),
    st.tuples(st.just("update"), ONE, st.sampled_from([b"", b"m", b"x" * 512])),
    st.tuples(st.just("join"), ONE, ONE),
    st.tuples(st.just("impostor"), ONE, ONE),
    st.tuples(st.just("stranger"), ONE),
)


@settings(max_examples=300)
@given(
    st.integers(2, 5),
    st.sampled_from(sorted(CONFIGS)),
    st.integers(0, 99),
    st.booleans(),
    st.lists(DEEDS, min_size=8, max_size=40),
)
def test_nothing_that_happens_to_a_group_breaks_an_invariant(
    n: int, config: str, seed: int, warm: bool, deeds: list[Deed]
) -> None:
    world = World(HOSTS[:n], CONFIGS[config], seed=seed, settled=warm)
    if not warm:
        for host in HOSTS[1:n]:
            world.feed(host, Join((at("A"),)))
    for deed in deeds:
        do(world, deed)
    target(float(len(+world.seen)), label="kinds of cases reached")
    for case in +world.seen:
        event(case)


def storm(seed: int) -> World:
    """A group in trouble of many kinds, all of it drawn from ``seed``."""
    random = Random(seed)
    world = World(HOSTS, CONFIGS[random.choice(sorted(CONFIGS))], seed=seed)
    for _ in range(40):
        one, other = random.choice(HOSTS), random.choice(HOSTS)
        deed = random.choice(
            [
                ("run", random.randrange(3 * SECOND)),
                ("run", random.randrange(8 * SECOND)),
                ("any", random.randrange(99)),
                ("drop", random.randrange(99)),
                ("repeat", random.randrange(99)),
                ("lose", random.randrange(3)),
                ("cut", one, random.random() < 0.5),
                ("deaf", one),
                ("heal",),
                ("kill", one),
                ("restart", one, other),
                ("leave", one, random.choice([0, 5 * SECOND])),
                ("update", one, random.choice([b"", b"m"])),
                ("join", one, other),
                ("impostor", one, other),
                ("stranger", other),
            ]
        )
        do(world, deed)
    return world


RARE = {
    # what owners are told
    "Suspected", "Cleared", "Failed", "Left", "Joined", "Updated", "Refuted", "Conflict",
    "HealthChanged", "MergeRefused", "JoinFinished", "LeaveFinished", "UpdateFinished",
    # the prober
    "IndirectPing", "Nack", "relayed ack", "stream ping", "kept tick", "buddy ping",
    "worse health", "better health", "changed nothing",
    # the membership
    "confirmed", "rejoined", "reclaimed", "forgotten", "failed exchange",
}  # fmt: skip


def test_storms_reach_every_rare_case() -> None:
    """The properties above would be worth little if these never happened."""
    worlds = [storm(seed) for seed in range(60)]
    reached = together(worlds)
    assert {case: reached[case] for case in RARE if reached[case] < 3} == {}
    farewells = [end for world in worlds for end in world.events(LeaveFinished)]
    assert {end.timed_out for end in farewells if isinstance(end, LeaveFinished)} == {True, False}


# --- a live node that can be reached refutes --------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(2, 5),
    st.sampled_from(["lan", "paper", "hasty", "swim", "quiet"]),
    st.integers(0, 999),
    st.sampled_from([Suspect, Dead]),
    st.integers(0, 3),
    st.integers(0, 4000),
    st.data(),
)
def test_a_live_node_that_can_be_reached_refutes(
    n: int,
    config: str,
    seed: int,
    kind: Any,
    ahead: int,
    when: int,
    data: st.DataObject,
) -> None:
    """SWIM 4.2. The accusation may be of any incarnation from the node's own upwards."""
    assume(kind is Suspect or CONFIGS[config].refute_death)
    hosts = HOSTS[:n]
    world = World(hosts, CONFIGS[config], seed=seed, owners_only=False)
    world.run(when * MS)
    victim = data.draw(st.sampled_from(hosts), "accused")
    listener = data.draw(st.sampled_from([h for h in hosts if h != victim]), "who hears of it")
    said = world.nodes[victim].membership.incarnation + ahead
    accusation = kind(said, NodeId(victim), NodeId("?"))
    world.feed(listener, Received(at("?"), (accusation,)))
    world.run(6 * SECOND if config != "swim" else 40 * SECOND)
    assert world.events(Refuted, by=victim)
    assert world.nodes[victim].membership.incarnation > said
    assert world.all_alive()
    if kind is Suspect:
        assert world.events(Failed) == []
        assert world.events(Cleared)


@settings(max_examples=40)
@given(
    st.integers(0, 999),
    st.sampled_from(["A", "AB", "ABC", "ABCD"]),
    st.booleans(),
    st.integers(0, 3000),
)
def test_a_short_cut_leaves_no_scar(seed: int, side: str, streams: bool, length: int) -> None:
    """Shorter than the shortest suspicion (4 s with five members): nobody is declared dead."""
    world = World(HOSTS, seed=seed)
    world.run(2 * SECOND)
    world.cut(side, "".join(sorted(set(HOSTS) - set(side))), streams=streams)
    world.run(length * MS)
    world.heal()
    world.run(30 * SECOND)
    assert world.events(Failed) == []
    assert world.all_alive()
    assert all(node.health == 0 for node in world.nodes.values())
    assert all(node.broadcasts.queue == () for node in world.nodes.values())


@settings(max_examples=40)
@given(st.integers(0, 999), st.lists(DEEDS, max_size=25))
def test_after_a_storm_everybody_who_lives_knows_everybody_who_lives(
    seed: int, deeds: list[Deed]
) -> None:
    """Gossip, anti-entropy, reconnection and refutation together repair whatever has happened."""
    world = World(HOSTS, seed=seed)
    for deed in deeds:
        if deed[0] not in ("leave", "impostor", "stranger"):
            do(world, deed)
    world.heal()
    for host in HOSTS:
        if host not in world.nodes:
            do(world, ("restart", host, "A" if host != "A" else "B"))
    for _ in range(20):
        world.run(30 * SECOND)
        if world.all_alive():
            break
    world.run(10 * SECOND)
    assert world.all_alive()


# --- life and death ---------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.integers(2, 5),
    st.sampled_from(["lan", "paper", "hasty", "forgetful", "swim", "basic", "quiet"]),
    st.integers(0, 999),
    st.integers(0, 3000),
)
def test_a_crash_is_noticed_by_everybody_and_nobody_else_is_blamed(
    n: int, config: str, seed: int, when: int
) -> None:
    hosts = HOSTS[:n]
    world = World(hosts, CONFIGS[config], seed=seed)
    world.run(when * MS)
    victim = hosts[-1]
    world.kill(victim)
    world.run(90 * SECOND)
    failures = world.events(Failed)
    assert {end.node for end in failures if isinstance(end, Failed)} == {victim}
    assert len(failures) == n - 1
    assert world.events(Refuted) == []
    assert world.all_alive()


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(0, 40), st.booleans())
def test_a_restarted_node_overtakes_its_earlier_life(seed: int, pause: int, updated: bool) -> None:
    """6.12: whether or not its death was noticed, or forgotten, before it came back."""
    world = World(HOSTS, seed=seed)
    if updated:
        world.feed("E", UpdateMeta(b"earlier life"))
    world.run(2 * SECOND)
    world.kill("E")
    world.run(pause * SECOND)
    world.spawn("E", meta=b"m")
    world.feed("E", Join((at("A"),)))
    world.run(40 * SECOND)
    assert world.all_alive()
    assert all(node.members[NodeId("E")].peer == who("E", b"m") for node in world.nodes.values())


@settings(max_examples=30)
@given(st.integers(2, 5), st.sampled_from(sorted(CONFIGS)), st.integers(0, 999))
def test_a_farewell_is_no_failure(n: int, config: str, seed: int) -> None:
    hosts = HOSTS[:n]
    world = World(hosts, CONFIGS[config], seed=seed)
    world.run(SECOND)
    leaver = hosts[-1]
    world.feed(leaver, Leave(60 * SECOND))
    world.run(30 * SECOND)
    world.kill(leaver)
    world.run(30 * SECOND)
    assert world.events(LeaveFinished) == [LeaveFinished(timed_out=False)]
    assert world.events(Failed) == []
    farewells = world.events(Left)
    assert {(end.node, end.source) for end in farewells if isinstance(end, Left)} == {
        (leaver, leaver)
    }
    assert len(farewells) == n


@settings(max_examples=30)
@given(st.integers(2, 5), st.sampled_from(["lan", "hasty", "quiet", "swim"]), st.integers(0, 999))
def test_new_metadata_is_told_to_everybody_once(n: int, config: str, seed: int) -> None:
    hosts = HOSTS[:n]
    world = World(hosts, CONFIGS[config], seed=seed)
    world.run(SECOND)
    world.feed("A", UpdateMeta(b"new"))
    world.run(30 * SECOND)
    assert all(node.members[NodeId("A")].peer == who("A", b"new") for node in world.nodes.values())
    assert len(world.events(Updated)) == n


@settings(max_examples=30)
@given(st.integers(2, 5), st.sampled_from(["lan", "hasty", "quiet"]), st.integers(0, 999))
def test_a_group_comes_together_by_joining_one(n: int, config: str, seed: int) -> None:
    hosts = HOSTS[:n]
    world = World(hosts, CONFIGS[config], seed=seed, settled=False)
    for host in hosts[1:]:
        world.feed(host, Join((at("A"),)))
    world.run(40 * SECOND)
    assert world.all_alive()
    assert len(world.events(Joined)) == n * n
    assert world.events(Refuted) == []


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_in_peace_there_is_nothing_but_pings_and_acks(n: int) -> None:
    world = World(HOSTS[:n], seed=n)
    world.run(120 * SECOND)
    kinds: set[type[Message]] = {type(m) for _, _, send in world.sent for m in send.messages}
    assert kinds == {Ping, Ack}
    assert world.told == []
    assert len(world.messages(Ping)) == len(world.messages(Ack))
    if n >= 4:
        assert abs(len(world.messages(Ping)) - 120 * n) <= n


# --- names and addresses ----------------------------------------------------------------


def test_of_two_nodes_with_one_name_the_first_keeps_it() -> None:
    """P17: the first seen holds the name, the other is told of and ignored."""
    world = World("ABC", seed=1)
    world.run(SECOND)
    do(world, ("impostor", "B", "A"))
    world.run(20 * SECOND)
    assert world.seen["Conflict"] > 0
    for host in "ABC":
        assert world.nodes[host].members[NodeId("B")].peer == who("B")


def test_the_name_of_who_has_left_can_be_taken_over() -> None:
    world = World("ABC", seed=1)
    world.feed("B", Leave(5 * SECOND))
    world.run(5 * SECOND)
    world.kill("B")
    do(world, ("impostor", "B", "A"))
    world.run(5 * SECOND)
    for host in "AC":
        known = world.nodes[host].members[NodeId("B")]
        assert (known.peer.address, known.status) == (at("x"), ALIVE)
    assert world.seen["reclaimed"] == 2


def test_the_name_of_the_dead_cannot_be_taken_over_until_it_is_forgotten() -> None:
    """P17, with the default reclaim time of zero."""
    world = World("ABCD", replace(LAN, reconnect_interval=0), seed=1)
    world.kill("B")
    world.run(20 * SECOND)
    do(world, ("impostor", "B", "A"))
    world.run(3 * SECOND)
    assert [world.status(host, "B") for host in "ACD"] == [DEAD] * 3
    assert world.seen["Conflict"] > 0
    world.run(60 * SECOND)
    do(world, ("join", "x", "A"))
    world.run(3 * SECOND)
    for host in "ACD":
        assert world.nodes[host].members[NodeId("B")].peer.address == at("x")


# --- what only helpers can tell ---------------------------------------------------------


def test_a_lost_link_between_two_is_bridged_by_the_others() -> None:
    """SWIM 3.1: nobody is suspected, though A and B never hear each other."""
    config = replace(LAN, stream_ping=False)
    world = World("ABCD", config, seed=1)
    world.cut("A", "B")
    world.run(30 * SECOND)
    assert world.seen["relayed ack"] > 5
    assert world.seen["Suspected"] == 0
    assert all(node.health == 0 for node in world.nodes.values())


def test_where_packets_are_lost_a_stream_saves_the_round() -> None:
    """6.4 step 6: with all packets lost and streams whole nobody is ever suspected."""
    world = World("ABCD", seed=1)
    world.cut("A", "B", "C", "D", streams=False)
    world.run(30 * SECOND)
    assert world.seen["stream ping"] > 50
    assert world.seen["Suspected"] == 0


def test_a_node_that_hears_nothing_blames_itself_first() -> None:
    """Lifeguard IV-A: all its probes fail, no helper says nack, and its health is the worst."""
    world = World(HOSTS, replace(LAN, stream_ping=False), seed=1)
    do(world, ("deaf", "A"))
    world.run(15 * SECOND)
    assert world.nodes["A"].health == 7
    assert max(node.health for host, node in world.nodes.items() if host != "A") <= 3


def test_helpers_that_can_be_heard_say_nack() -> None:
    config = replace(LAN, nack_percent=80, stream_ping=False)
    world = World(HOSTS, config, seed=1)
    world.kill("E")
    world.run(10 * SECOND)
    assert len(world.messages(Nack)) > 6
    assert world.seen["worse health"] == 0, "every missing ack is excused by three nacks"


# --- from one step to the next, for one node alone --------------------------------------

NEWS = st.one_of(
    st.builds(
        lambda kind, i, name, source: kind(i, NodeId(name), NodeId(source)),
        st.sampled_from([Suspect, Dead]),
        st.integers(0, 5),
        st.sampled_from("ABC"),
        st.sampled_from("ABCDE"),
    ),
    st.builds(
        lambda i, name, meta: Alive(i, who(name, meta, vsn=VSN)),
        st.integers(0, 5),
        st.sampled_from("ABC"),
        st.sampled_from([b"", b"m"]),
    ),
)


@given(
    st.lists(NEWS | st.integers(0, 3000).map(MS.__mul__), max_size=40),
    st.sampled_from([LAN, HASTY]),
)
def test_forged_news_cannot_break_a_node_nor_silence_it(news: list[Any], config: Config) -> None:
    """Whatever is said of it, A believes itself alive, in the highest incarnation it heard of."""
    world = World("ABC", config, owners_only=False)
    world.kill("B")
    world.kill("C")
    highest = 1
    for item in news:
        if isinstance(item, int):
            world.run(item)
            continue
        world.feed("A", Received(at("B"), (item,)))
        about = item.peer.name if isinstance(item, Alive) else item.node
        if about == "A":
            highest = max(highest, item.incarnation)
        mine = world.nodes["A"].members[NodeId("A")]
        assert (mine.status, mine.peer) == (ALIVE, who("A"))
        assert mine.incarnation >= highest


def test_statuses_seen_by_the_living_are_of_every_kind() -> None:
    """A storm leaves tables with the living, the suspect, the dead and the left in them."""
    found: set[Status | None] = set()
    for seed in range(12):
        world = storm(seed)
        found |= {world.status(one, other) for one in world.nodes for other in HOSTS}
    assert found >= {*Status, None}
    assert LEFT in found
