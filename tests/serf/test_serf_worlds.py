"""What holds of a few nodes with Serf's layer, whatever the network does to them.

``World`` checks every node's invariants after every step, and that no Lamport clock goes back.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swimsim.config import LAN
from swimsim.effects import (
    Effect,
    Emit,
    KeysFinished,
    LeaveFinished,
    MemberChanged,
    MergeRefused,
    QueryAnswered,
    QueryFinished,
    QueryReceived,
    RequestDone,
    RequestRefused,
    UserEventReceived,
)
from swimsim.inputs import (
    AskQuery,
    ExchangeRequested,
    FireEvent,
    ForceLeave,
    Input,
    Join,
    Leave,
    ManageKeys,
    Received,
    RespondQuery,
    SetTags,
)
from swimsim.messages import PushPull, User
from swimsim.node import Node, step
from swimsim.serf.messages import (
    EventBuffer,
    EventSlot,
    JoinIntent,
    LeaveIntent,
    PastEvent,
    Query,
    QueryResponse,
    Relay,
    SerfState,
    UserEvent,
)
from swimsim.terms import MS, SECOND, Micros, NodeId
from swimsim.wire import serf
from tests.builders import at, record
from tests.test_properties import DEEDS, HOSTS, RUN, do
from tests.world import World

Deed: TypeAlias = tuple[Any, ...]
SERF = replace(LAN, serf=True)
SHORT = replace(
    SERF,
    suspicion_mult=1,
    suspicion_max_timeout_mult=1,
    push_pull_interval=5 * SECOND,
    gossip_to_the_dead_time=3 * SECOND,
    reconnect_interval=4 * SECOND,
    reconnect_timeout=20 * SECOND,
    tombstone_timeout=10 * SECOND,
    reap_interval=2 * SECOND,
    recent_intent_timeout=5 * SECOND,
    recent_intent_limit=2,
    broadcast_timeout=2 * SECOND,
    event_buffer=4,
    query_buffer=4,
    max_queue_depth=3,
    queue_depth_warning=2,
    queue_check_interval=SECOND,
    packet_size=512,
)
CONFIGS = {"serf": SERF, "short": SHORT, "nowhere": replace(SERF, coordinates=False)}
ENDINGS = (RequestDone, RequestRefused, QueryFinished, KeysFinished)


class Owners:
    """Every node's owner: answers each query once, and counts what it is told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.numbers = count(1)
        self.asked: dict[int, tuple[str, int]] = {}  # request: host and life
        self.ended: Counter[int] = Counter()
        self.heard: Counter[tuple[str, int, str, bytes | None]] = Counter()
        world.watchers.append(self)

    def __call__(
        self,
        world: World,
        host: str,
        before: Node,
        input: Input,
        after: Node,
        effects: tuple[Effect, ...],
    ) -> None:
        for effect in effects:
            if not isinstance(effect, Emit):
                continue
            event = effect.event
            if isinstance(event, ENDINGS):
                self.ended[event.request] += 1
            elif isinstance(event, UserEventReceived):
                self.heard[host, world.lives[host], event.name, event.payload] += 1

    def ask(self, host: str, make: Any) -> None:
        if host in self.world.nodes:
            number = next(self.numbers)
            self.asked[number] = (host, self.world.lives[host])
            self.world.feed(host, make(number))

    def answer(self) -> None:
        """Answer every query that has been told, at its end at the latest."""
        for _, host, event in list(self.world.told):
            if isinstance(event, QueryReceived):
                self.ask(
                    host, lambda number, e=event: RespondQuery(number, e.ltime, e.query_id, b"so")
                )

    def living(self) -> set[int]:
        lives = {(host, self.world.lives[host]) for host in self.world.nodes}
        return {number for number, life in self.asked.items() if life in lives}


def act(world: World, owners: Owners, deed: Deed) -> None:
    match deed:
        case ("fire", one, size):
            owners.ask(one, lambda n: FireEvent(n, f"event-{n}", b"x" * size))
        case ("ask", one, relay, ack):
            owners.ask(
                one,
                lambda n: AskQuery(
                    n, "q", b"?", tags=(("role", ""),), ack=ack, relay_factor=relay, timeout=SECOND
                ),
            )
        case ("answer",):
            owners.answer()
        case ("tags", one, value):
            owners.ask(one, lambda n: SetTags(n, (("role", value),)))
        case ("force", one, name, prune, force):
            owners.ask(one, lambda n: ForceLeave(n, NodeId(name), prune, force))
        case ("keys", one, operation):
            owners.ask(one, lambda n: ManageKeys(n, operation, "AAAAAAAAAAAAAAAAAAAAAA=="))
        case ("say", one, payload) if one in world.nodes:
            world.feed(one, Received(at("B"), (User(payload),)))
        case _:
            do(world, deed)


ONE = st.sampled_from(HOSTS)
TIME = st.sampled_from([0, 1, 2, 3, 5, 600, 2**64 - 1])
NAME = st.sampled_from([NodeId(each) for each in "ABCDEZ"])
SAID = st.one_of(
    st.builds(JoinIntent, TIME, NAME),
    st.builds(LeaveIntent, TIME, NAME, st.booleans()),
    st.builds(UserEvent, TIME, st.sampled_from("xy"), st.sampled_from([None, b"", b"p"])),
    st.builds(
        Query,
        TIME,
        st.integers(0, 3),
        st.sampled_from([at("A"), at("C"), at("?")]),
        NAME,
        st.sampled_from(
            ["q", "_serf_ping", "_serf_conflict", "_serf_install-key", "_serf_list-keys", "_serf_x"]
        ),
        st.sampled_from([-(2**63), 0, 10**9, 2**63 - 1]),
        st.sampled_from([None, b"", b"A", b"\x07\x81\xa3Key\xa0"]),
        st.sampled_from([None, (), (b"",), (b"\x09",), (b"\x01\x82\xa4Expr\xa1[\xa3Tag\xa0",)]),
        st.integers(0, 3),
        st.integers(0, 4),
    ),
    st.builds(QueryResponse, TIME, st.integers(0, 3), NAME, st.integers(0, 1)),
    st.builds(Relay, st.just(at("A")), NAME, st.sampled_from([b"", b"\x09", b"x"])),
).map(serf.encode)
SERF_DEEDS: st.SearchStrategy[Deed] = st.one_of(
    RUN,
    RUN,
    DEEDS,
    st.tuples(st.just("fire"), ONE, st.sampled_from([0, 40, 480, 600])),
    st.tuples(st.just("ask"), ONE, st.integers(0, 3), st.booleans()),
    st.tuples(st.just("answer")),
    st.tuples(st.just("tags"), ONE, st.sampled_from(["", "db", "x" * 600])),
    st.tuples(st.just("force"), ONE, NAME, st.booleans(), st.booleans()),
    st.tuples(st.just("keys"), ONE, st.sampled_from(["install", "list", "use", "remove"])),
    st.tuples(st.just("say"), ONE, SAID),
)


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(CONFIGS)),
    st.integers(0, 99),
    st.booleans(),
    st.lists(SERF_DEEDS, min_size=8, max_size=35),
)
def test_nothing_that_happens_breaks_an_invariant_and_every_request_ends_once(
    config: str, seed: int, warm: bool, deeds: list[Deed]
) -> None:
    world = World(HOSTS, CONFIGS[config], seed=seed, settled=warm)
    owners = Owners(world)
    if not warm:
        for host in HOSTS[1:]:
            world.feed(host, Join((at("A"),)))
    for deed in deeds:
        act(world, owners, deed)
    world.run(12 * SECOND)
    assert {number: owners.ended[number] for number in owners.living()} == dict.fromkeys(
        owners.living(), 1
    )
    assert max(owners.ended.values(), default=1) == 1


TROUBLE: st.SearchStrategy[Deed] = st.one_of(
    RUN,
    RUN,
    st.tuples(st.just("fire"), ONE, st.sampled_from([0, 40, 470])),
    st.tuples(st.sampled_from(["drop", "repeat"]), st.integers(0, 60)),
    st.tuples(st.just("lose"), st.integers(0, 2)),
    st.tuples(st.just("cut"), st.sampled_from(["A", "B", "AB", "CDE", "ABCD"]), st.booleans()),
    st.tuples(st.just("heal")),
)


@settings(max_examples=40)
@given(st.integers(0, 999), st.lists(TROUBLE, min_size=5, max_size=30))
def test_an_event_is_told_once_to_everybody_who_lives_to_hear_it(
    seed: int, deeds: list[Deed]
) -> None:
    """Over losses, repetitions and cuts: at the latest when the group is whole again."""
    world = World(HOSTS, SERF, seed=seed)
    owners = Owners(world)
    for deed in [*deeds, ("fire", "A", 3)]:
        act(world, owners, deed)
    world.heal()
    wanted = {(host, 1, f"event-{number}") for host in HOSTS for number, _ in owners.asked.items()}

    def told() -> set[tuple[str, int, str]]:
        return {(host, life, name) for host, life, name, _ in owners.heard}

    for _ in range(30):
        if told() == wanted and world.all_alive():
            break
        world.run(30 * SECOND)
    assert told() == wanted
    assert set(owners.heard.values()) == {1}


@settings(max_examples=40)
@given(
    st.integers(0, 999),
    st.sampled_from(sorted(CONFIGS)),
    st.lists(
        st.one_of(RUN, st.tuples(st.just("repeat"), st.integers(0, 60))), min_size=1, max_size=8
    ),
    st.sampled_from(HOSTS),
)
def test_a_leave_is_never_taken_for_a_failure(
    seed: int, config: str, deeds: list[Deed], leaver: str
) -> None:
    world = World(HOSTS, CONFIGS[config], seed=seed)
    for deed in deeds:
        do(world, deed)
    world.feed(leaver, Leave(5 * SECOND))
    while not world.events(LeaveFinished, by=leaver):
        world.run(100 * MS)
    world.kill(leaver)
    world.run(8 * SECOND)
    told = [event for event in world.events(MemberChanged) if isinstance(event, MemberChanged)]
    assert {each.kind for each in told} == {"leave"}
    assert len(told) == len(HOSTS)


def test_what_is_failed_can_be_made_to_leave_and_be_pruned() -> None:
    world = World(HOSTS, SERF, seed=4)
    owners = Owners(world)
    world.kill("E")
    world.run(30 * SECOND)
    act(world, owners, ("force", "A", "E", False, False))
    world.run(2 * SECOND)
    act(world, owners, ("force", "B", "E", True, False))
    world.run(3 * SECOND)
    for host in "ABCD":
        told = [e for e in world.events(MemberChanged, by=host) if isinstance(e, MemberChanged)]
        assert [each.kind for each in told] == ["failed", "leave", "reap"]
    assert {type(e) for e in world.events(RequestDone)} == {RequestDone}


def test_who_is_told_to_leave_and_lives_refutes_and_is_not_pruned() -> None:
    """2.10, better than Serf: nobody waits, nobody vanishes."""
    world = World(HOSTS, SERF, seed=4)
    owners = Owners(world)
    act(world, owners, ("force", "A", "E", True, False))
    (refused,) = world.events(RequestRefused)
    assert refused.reason == "member E is alive and would refute: not pruned unless forced"
    act(world, owners, ("force", "A", "E", True, True))
    world.run(20 * SECOND)
    assert world.events(MemberChanged) == []
    standings = [node.serf.intents.standings.about[NodeId("E")] for node in world.nodes.values()]
    assert {(each.status, each.ltime) for each in standings} == {(1, 2)}


def test_answers_come_back_and_the_query_ends_at_its_deadline() -> None:
    world = World(HOSTS, SERF, seed=4)
    owners = Owners(world)
    begun: Micros = world.now
    act(world, owners, ("ask", "A", 2, True))
    world.run(500 * MS)
    owners.answer()
    world.run(499 * MS)
    assert world.events(QueryFinished) == []
    world.run(1 * MS)
    assert world.now == begun + SECOND
    answers = world.events(QueryAnswered, by="A")
    assert sorted(each.node for each in answers) == list(HOSTS)
    assert world.events(QueryFinished) == [QueryFinished(1, 5, 5)]


def test_a_ring_longer_than_ours_is_taken_in_as_far_as_ours_goes() -> None:
    state = SerfState(
        1, 9000, 1, None, None,
        EventBuffer(600, ((3, EventSlot(8990, (PastEvent("x"), PastEvent("x")))),)),
    )  # fmt: skip
    world = World("AB", SERF, seed=1)
    request = ExchangeRequested(1, at("B"), PushPull(False, (), serf.encode(state)))
    node, effects = step(world.nodes["A"], 0, request)
    heard = [e.event for e in effects if isinstance(e, Emit)]
    assert heard == [UserEventReceived(8990, "x", None, False)]
    assert node.serf.events.clock == 9000


def test_of_a_peer_that_cannot_be_merged_nothing_is_taken_in() -> None:
    """Its members' versions are none that anybody here speaks: its events are not told either."""
    state = serf.encode(SerfState(9, 9, 9, (), (), EventBuffer(8, ((0, PAST),))))
    foreign = (record("Z", vsn=bytes((1, 5, 2, 0, 0, 0))),)
    node = World("AB", SERF, seed=1).nodes["A"]
    request = ExchangeRequested(1, at("Z"), PushPull(True, foreign, state))
    after, effects = step(node, 0, request)
    told = [effect.event for effect in effects if isinstance(effect, Emit)]
    assert [type(event) for event in told] == [MergeRefused]
    assert after == node


PAST = EventSlot(8, (PastEvent("x"),))
