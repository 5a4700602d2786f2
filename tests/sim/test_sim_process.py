"""Hindered processes: the anomaly model of Lifeguard (spec experiments.md, section 1 point 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from backends.sim import Cluster, Network, process
from backends.sim.clock import Clock
from backends.sim.faults import Pause, hosts
from backends.sim.host import Host
from backends.sim.network import Constant
from backends.sim.process import INBOX_BYTES, Process
from swimsim.config import LAN
from swimsim.effects import (
    After,
    Cleared,
    Effect,
    Emit,
    Exchange,
    Failed,
    HealthChanged,
    Joined,
    Refuted,
    Reply,
    Send,
    Suspected,
)
from swimsim.inputs import (
    GossipTick,
    Input,
    LeaveTimeout,
    ProbeTick,
    ProbeTimeout,
    PushPullTick,
    Received,
    ReconnectTick,
    RelayTimeout,
    SuspicionTimeout,
    UpdateMeta,
    World,
)
from swimsim.members import EMPTY
from swimsim.messages import Nack, PushPull, Suspect, User, packet_size
from swimsim.terms import MS, SECOND, Address, Micros, NodeId
from tests.sim.worlds import Log, Steps, machine, watched, with_config

ELSEWHERE = Address(bytes((10, 0, 0, 99)), 7946)
NOTE = Emit(HealthChanged(1))
LATER = After(5, LeaveTimeout())


def send(number: int) -> Send:
    return Send(ELSEWHERE, (Nack(number),))


def ask(number: int) -> Exchange:
    return Exchange(number, ELSEWHERE, PushPull(False, EMPTY), SECOND)


def packet(number: int, size: int = 0) -> Received:
    return Received(ELSEWHERE, (Suspect(number, NodeId("x"), NodeId("y")), User(bytes(size))))


class Bench:
    """One process on a bench: what it does is in ``does``, what became of it in ``log``."""

    def __init__(self, does: dict[Any, Sequence[Effect]] | None = None) -> None:
        self.env = Clock()
        self.host = machine(0)
        self.does = does or {}
        self.log: list[tuple[Micros, str, Any]] = []

    # What a process needs of a cluster.

    def feed(self, host: Host, input: Input, *, perform: process.Perform | None = None) -> None:
        assert host.node is not None
        self.log.append((self.env.micros, "step", input))
        effects = tuple(self.does.get(input, self.does.get(type(input), ())))
        (perform or self.perform)(host, effects)

    def perform(self, host: Host, effects: tuple[Effect, ...]) -> None:
        self.log += [(self.env.micros, "does", effect) for effect in effects]

    def work_later(self, host: Host, delay: Micros) -> None:
        self.env.later(delay, lambda host, *_: process.work(self, host), host, None)

    def drop(self, host: Host, input: Input) -> None:
        self.log.append((self.env.micros, "drop", input))

    # What happens to it.

    def arrive(self, *inputs: Input) -> None:
        for input in inputs:
            if self.host.process is None:
                self.feed(self.host, input)
            else:
                process.arrive(self, self.host, self.host.process, input)

    def fire(self, *inputs: Input) -> None:
        for input in inputs:
            if self.host.process is None:
                self.feed(self.host, input)
            else:
                process.fire(self, self.host, self.host.process, input)

    def halt(self, how: Any = "block", drain: Micros = 10) -> None:
        process.halt(self.host, how, drain)

    def resume(self, how: Any = None) -> None:
        process.resume(self, self.host, how)

    def slow_down(self, service: Micros) -> None:
        process.slow_down(self.host, service)

    def speed_up(self, service: Micros | None = None) -> None:
        process.speed_up(self, self.host, service)

    def at(self, time: Micros) -> None:
        if time > self.env.micros:
            self.env.run(time)

    def of(self, what: str) -> list[tuple[Micros, Any]]:
        return [(at, about) for at, kind, about in self.log if kind == what]

    def steps(self) -> list[Any]:
        return [about for _, about in self.of("step")]

    def done(self) -> list[Any]:
        return [about for _, about in self.of("does")]


TICK, TOO_LATE = ProbeTick(1), ProbeTick(2)
EXPIRED = SuspicionTimeout(NodeId("x"), 0)

# --- blocked -------------------------------------------------------------------------------------

BLOCKED: dict[str, tuple[Sequence[Effect], Sequence[Effect]]] = {  # asked for; done at once
    "a packet": ((send(1),), ()),
    "an exchange": ((ask(1),), ()),
    "a reply": ((Reply(1, None),), ()),
    "a timer": ((LATER,), (LATER,)),
    "an event": ((NOTE,), (NOTE,)),
    "all of them": ((send(1), LATER, ask(2), NOTE, Reply(1, None), send(3)), (LATER, NOTE)),
}


@pytest.mark.parametrize("timer", [TICK, EXPIRED, GossipTick(), RelayTimeout(4), LeaveTimeout()])
@pytest.mark.parametrize(("asked", "at_once"), BLOCKED.values(), ids=BLOCKED)
def test_timers_fire_while_blocked_and_only_what_is_to_be_sent_is_held_back(
    timer: Input, asked: Sequence[Effect], at_once: Sequence[Effect]
) -> None:
    bench = Bench({timer: asked})
    bench.halt()
    bench.fire(timer)
    assert bench.steps() == [timer]
    assert bench.done() == list(at_once)
    bench.resume()
    held = [effect for effect in asked if effect not in at_once]
    assert bench.done() == [*at_once, *held], "in the order in which it was to be sent"


def test_what_arrives_while_blocked_is_not_handled() -> None:
    bench = Bench()
    bench.halt()
    bench.arrive(packet(1), packet(2))
    bench.at(3600 * SECOND)
    assert bench.log == []


LOOPS: dict[str, tuple[Input, Input]] = {  # what stalls the loop; what then has to wait
    "probe": (ProbeTick(1), ProbeTick(2)),
    "probe, asking helpers": (ProbeTimeout(1), ProbeTick(2)),
    "probe, pinging": (ProbeTick(1), ProbeTimeout(1)),
    "gossip": (GossipTick(), GossipTick()),
    "push/pull": (PushPullTick(), PushPullTick()),
    "reconnect": (ReconnectTick(), ReconnectTick()),
}


@pytest.mark.parametrize(("first", "second"), LOOPS.values(), ids=LOOPS)
def test_each_loop_is_blocked_in_one_send_at_most(first: Input, second: Input) -> None:
    bench = Bench({type(first): (send(1),), type(second): (send(2),)})
    if type(first) is type(second):
        bench.does = {type(first): (send(1),)}
    bench.halt()
    bench.fire(first, second, second)
    assert bench.steps() == [first], "the loop stands still"
    bench.resume()
    assert bench.steps() == [first, second, second], "and goes on"
    assert bench.done()[0] == send(1)


@pytest.mark.parametrize(("stalled", "other"), [(TICK, GossipTick()), (GossipTick(), TICK)])
def test_a_loop_that_is_blocked_does_not_hold_up_the_others(stalled: Input, other: Input) -> None:
    bench = Bench({stalled: (send(1),), other: (send(2),)})
    bench.halt()
    bench.fire(stalled, other, PushPullTick(), EXPIRED)
    assert bench.steps() == [stalled, other, PushPullTick(), EXPIRED]


def test_a_loop_that_has_nothing_to_send_goes_round_while_blocked() -> None:
    bench = Bench({GossipTick(): (LATER,)})
    bench.halt()
    bench.fire(GossipTick(), GossipTick(), GossipTick())
    assert bench.steps() == [GossipTick()] * 3


def test_what_belongs_to_no_loop_is_never_stalled() -> None:
    bench = Bench({RelayTimeout: (send(1),)})
    bench.halt()
    bench.fire(*(RelayTimeout(number) for number in range(5)))
    assert len(bench.steps()) == 5
    bench.resume()
    assert bench.done() == [send(1)] * 5


def test_on_resume_it_sends_then_the_loops_go_on_then_the_queue_drains() -> None:
    bench = Bench({TICK: (send(1),), TOO_LATE: (send(2),)})
    bench.halt(drain=10)
    bench.arrive(packet(1))
    bench.fire(TICK, TOO_LATE)
    bench.at(1_000)
    del bench.log[:]
    bench.resume()
    bench.at(2_000)
    assert bench.log == [
        (1_000, "does", send(1)),
        (1_000, "step", TOO_LATE),
        (1_000, "does", send(2)),
        (1_010, "step", packet(1)),
    ]


def test_a_request_of_the_owner_is_heeded_while_blocked_but_not_sent() -> None:
    bench = Bench({UpdateMeta: (send(1), NOTE)})
    bench.halt()
    bench.fire(UpdateMeta(b"x"))
    assert bench.done() == [NOTE]


# --- stopped -------------------------------------------------------------------------------------


def test_nothing_at_all_happens_while_stopped_and_overdue_timers_fire_in_their_order() -> None:
    bench = Bench({Input: ()})
    timers = [TICK, GossipTick(), EXPIRED, LeaveTimeout(), TOO_LATE, RelayTimeout(3)]
    bench.halt("stop", drain=10)
    for at, timer in enumerate(timers, start=1):
        bench.at(at * 100)
        bench.fire(timer)
        bench.arrive(packet(at))
    bench.at(5_000)
    assert bench.log == []
    bench.resume()
    assert bench.of("step") == [(5_000, timer) for timer in timers]
    bench.at(6_000)
    drained = bench.of("step")[len(timers) :]
    assert drained == [(5_000 + 10 * number, packet(number)) for number in range(1, 7)]


def test_a_timer_that_kills_the_process_on_resume_is_its_last() -> None:
    class Mortal(Bench):
        def perform(self, host: Host, effects: tuple[Effect, ...]) -> None:
            super().perform(host, effects)
            if NOTE in effects:  # as a cluster does when the farewell is said
                host.node = host.process = None

    bench = Mortal({LeaveTimeout(): (NOTE,)})
    bench.halt("stop")
    bench.arrive(packet(1))
    bench.fire(TICK, LeaveTimeout(), GossipTick(), TOO_LATE)
    bench.at(100)
    bench.resume()
    bench.at(10_000)
    assert bench.steps() == [TICK, LeaveTimeout()]


# --- the queue -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["block", "stop"])
@pytest.mark.parametrize("drain", [1, 10, 5_000])
def test_the_queue_drains_at_its_rate_in_the_order_of_arrival(how: Any, drain: Micros) -> None:
    bench = Bench()
    bench.halt(how, drain)
    bench.arrive(*map(packet, range(5)))
    bench.at(100)
    bench.resume()
    bench.at(10**6)
    assert bench.of("step") == [(100 + drain * (turn + 1), packet(turn)) for turn in range(5)]


def test_what_arrives_during_the_drain_waits_its_turn() -> None:
    bench = Bench()
    bench.halt(drain=100)
    bench.arrive(packet(1), packet(2))
    bench.resume()
    bench.at(150)
    bench.arrive(packet(3))
    bench.at(10_000)
    assert bench.of("step") == [(100, packet(1)), (200, packet(2)), (300, packet(3))]


def test_timers_do_not_wait_for_the_drain() -> None:
    bench = Bench()
    bench.halt(drain=100)
    bench.arrive(packet(1), packet(2))
    bench.resume()
    bench.at(150)
    bench.fire(TICK)
    assert bench.of("step") == [(100, packet(1)), (150, TICK)]


def test_a_drained_process_is_unhindered_again() -> None:
    bench = Bench()
    bench.halt(drain=100)
    bench.arrive(packet(1))
    bench.resume()
    assert bench.host.process is not None
    bench.at(101)
    assert bench.host.process is None
    bench.arrive(packet(2))
    assert bench.of("step")[-1] == (101, packet(2))


@pytest.mark.parametrize("how", ["block", "stop"])
def test_a_new_halt_interrupts_the_drain(how: Any) -> None:
    bench = Bench()
    bench.halt(how, drain=100)
    bench.arrive(*map(packet, range(6)))
    bench.resume()
    bench.at(250)
    bench.halt(how, drain=100)
    bench.at(5_000)
    assert bench.steps() == [packet(0), packet(1)]
    bench.resume()
    bench.at(5_050)
    assert bench.steps() == [packet(0), packet(1)], "the drain begins anew"
    bench.at(10_000)
    assert bench.steps() == list(map(packet, range(6)))
    times = [at for at, _ in bench.of("step")]
    assert times[2:] == [5_100, 5_200, 5_300, 5_400]


def test_a_halt_of_no_length_costs_nobody_their_turn() -> None:
    bench = Bench()
    bench.halt(drain=100)
    bench.arrive(*map(packet, range(4)))
    bench.resume()
    bench.at(250)
    bench.halt(drain=100)
    bench.resume()
    bench.at(10_000)
    assert bench.steps() == list(map(packet, range(4)))
    assert len(set(bench.of("step"))) == 4


def test_the_queue_holds_two_mebibytes_and_what_does_not_fit_is_dropped() -> None:
    size = packet_size(packet(1_000, 1_000).messages, False, LAN)
    fits = INBOX_BYTES // size
    bench = Bench()
    bench.halt(drain=1)
    arrived = [packet(1_000 + number, 1_000) for number in range(fits + 3)]
    bench.arrive(*arrived)
    assert INBOX_BYTES == 2 * 1024 * 1024
    assert [input for _, input in bench.of("drop")] == arrived[fits:]
    rest = INBOX_BYTES - fits * size
    small = packet(9)
    assert packet_size(small.messages, False, LAN) <= rest, "the sizes were to leave some room"
    bench.arrive(small)
    assert len(bench.of("drop")) == 3, "a small one still fits"
    bench.resume()
    bench.at(10**9)
    assert bench.steps() == [*arrived[:fits], small]


def test_draining_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    size = packet_size(packet(1).messages, False, LAN)
    monkeypatch.setattr(process, "INBOX_BYTES", 3 * size)
    bench = Bench()
    bench.halt(drain=100)
    bench.arrive(*map(packet, range(5)))
    bench.resume()
    bench.at(150)
    bench.arrive(packet(5), packet(6))
    bench.at(10_000)
    assert bench.steps() == [packet(0), packet(1), packet(2), packet(5)]
    assert [input for _, input in bench.of("drop")] == [packet(3), packet(4), packet(6)]


def test_streams_take_no_room_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a stream brings waits in buffers of its own.
    monkeypatch.setattr(process, "INBOX_BYTES", 0)
    bench = Bench()
    bench.halt()
    bench.arrive(EXPIRED)
    bench.resume()
    bench.at(100)
    assert bench.steps() == [EXPIRED]


# --- halts that overlap --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["block", "stop"])
def test_it_goes_on_when_the_last_of_overlapping_halts_ends(how: Any) -> None:
    bench = Bench({RelayTimeout: (send(1),)})
    bench.halt(how)
    bench.halt(how)
    bench.fire(RelayTimeout(1))
    bench.resume(how)
    bench.at(1_000)
    assert bench.done() == []
    bench.resume(how)
    assert bench.of("does") == [(1_000, send(1))]
    bench.resume(how)
    assert bench.of("does") == [(1_000, send(1))], "one resume too many does no harm"


def test_all_halts_can_be_ended_at_once() -> None:
    bench = Bench({RelayTimeout: (send(1),)})
    for how in ("block", "stop", "block"):
        bench.halt(how)
    bench.fire(RelayTimeout(1))
    bench.resume()
    assert bench.done() == [send(1)]
    assert bench.host.process is None


@pytest.mark.parametrize("order", [("stop", "block"), ("block", "stop")])
def test_a_stop_stops_even_what_is_blocked_as_well(order: tuple[Any, Any]) -> None:
    bench = Bench()
    for how in order:
        bench.halt(how)
    bench.fire(EXPIRED)
    assert bench.log == [], "timers do not fire in a stopped process"


@pytest.mark.parametrize("order", [("stop", "block"), ("block", "stop")])
def test_when_a_stop_ends_and_a_block_is_left_timers_fire_and_the_rest_waits_on(
    order: tuple[Any, Any],
) -> None:
    bench = Bench({TICK: (send(1), LATER), TOO_LATE: (send(2),), EXPIRED: (NOTE,)})
    for how in order:
        bench.halt(how)
    bench.arrive(packet(1))
    bench.fire(TICK, EXPIRED, TOO_LATE)
    bench.at(100)
    bench.resume("stop")
    assert bench.log == [
        (100, "step", TICK),
        (100, "does", LATER),
        (100, "step", EXPIRED),
        (100, "does", NOTE),
    ]
    bench.at(200)
    del bench.log[:]
    bench.resume("block")
    bench.at(300)
    assert bench.log == [
        (200, "does", send(1)),
        (200, "step", TOO_LATE),
        (200, "does", send(2)),
        (210, "step", packet(1)),
    ]


def test_when_a_block_ends_and_a_stop_is_left_nothing_happens() -> None:
    bench = Bench({TICK: (send(1),)})
    bench.halt("block")
    bench.fire(TICK)
    bench.halt("stop")
    bench.arrive(packet(1))
    bench.fire(EXPIRED)
    bench.resume("block")
    bench.at(100)
    assert bench.log == [(0, "step", TICK)]
    bench.resume("stop")
    assert bench.log[1:] == [(100, "does", send(1)), (100, "step", EXPIRED)]


def test_of_overlapping_halts_the_slower_drain_counts() -> None:
    bench = Bench()
    bench.halt("block", 100)
    bench.halt("stop", 30)
    bench.arrive(packet(1), packet(2))
    bench.resume("block")
    bench.resume("stop")
    bench.at(1_000)
    assert bench.of("step") == [(100, packet(1)), (200, packet(2))]
    bench.halt("block", 7)
    bench.arrive(packet(3))
    bench.resume()
    bench.at(2_000)
    assert bench.of("step")[-1] == (1_007, packet(3)), "an earlier halt's does not"


def test_a_resume_of_what_is_not_halted_changes_nothing() -> None:
    bench = Bench()
    bench.resume()
    assert bench.host.process is None
    bench.slow_down(50)
    bench.resume()
    bench.arrive(packet(1))
    bench.at(1_000)
    assert bench.of("step") == [(50, packet(1))]


# --- slow ----------------------------------------------------------------------------------------


def test_a_slow_process_handles_one_input_at_a_time() -> None:
    bench = Bench()
    bench.slow_down(100)
    bench.at(7)
    bench.arrive(packet(1))
    bench.fire(TICK)
    bench.arrive(packet(2))
    bench.at(1_000)
    bench.arrive(packet(3))
    bench.at(2_000)
    assert bench.of("step") == [
        (107, packet(1)),
        (207, TICK),
        (307, packet(2)),
        (1_100, packet(3)),
    ]


def test_at_full_speed_again_what_waits_is_handled_and_nothing_waits_any_more() -> None:
    bench = Bench()
    bench.slow_down(100)
    bench.arrive(*map(packet, range(10)))
    bench.at(250)
    bench.speed_up()
    bench.at(301)
    assert bench.steps() == list(map(packet, range(10)))
    assert bench.host.process is None


def test_of_overlapping_slowdowns_the_worst_counts_until_it_ends() -> None:
    bench = Bench()
    bench.slow_down(100)
    bench.slow_down(300)
    bench.arrive(packet(1))
    bench.at(1_000)
    bench.speed_up(300)
    bench.arrive(packet(2))
    bench.at(2_000)
    bench.speed_up(100)
    bench.arrive(packet(3))
    assert bench.of("step") == [(300, packet(1)), (1_100, packet(2)), (2_000, packet(3))]
    assert bench.host.process is None


def test_a_slow_process_that_was_halted_is_still_slow_afterwards() -> None:
    bench = Bench()
    bench.slow_down(100)
    bench.halt(drain=10)
    bench.arrive(packet(1), packet(2))
    bench.at(1_000)
    bench.resume()
    bench.at(5_000)
    bench.arrive(packet(3))
    bench.at(9_000)
    assert bench.of("step") == [(1_100, packet(1)), (1_200, packet(2)), (5_100, packet(3))]


@pytest.mark.parametrize("wait", [0, 50, 99])
def test_a_drain_slower_than_the_service_is_what_counts(wait: Micros) -> None:
    bench = Bench()
    bench.slow_down(wait)
    bench.halt(drain=100)
    bench.arrive(packet(1), packet(2))
    bench.resume()
    bench.at(1_000)
    assert bench.of("step") == [(100, packet(1)), (200, packet(2))]


def test_once_the_queue_is_empty_a_slow_process_is_as_slow_as_before() -> None:
    bench = Bench()
    bench.slow_down(10)
    bench.halt(drain=100)
    bench.arrive(packet(1))
    bench.resume()
    bench.at(1_000)
    bench.arrive(packet(2))
    bench.at(2_000)
    assert bench.of("step") == [(100, packet(1)), (1_010, packet(2))]


# --- copies --------------------------------------------------------------------------------------


def test_a_copy_is_in_the_same_state_and_separate() -> None:
    original = Process()
    original.inbox.append((TICK, 3))
    original.inbox_bytes = 3
    original.held.append(send(1))
    original.stalled.add("probe")
    original.deferred.append(TOO_LATE)
    original.halts.append(("stop", 3))
    original.services.append(5)
    original.working, original.drain = True, 7
    twin = original.copy()
    slots = Process.__slots__
    assert [getattr(twin, slot) for slot in slots] == [getattr(original, slot) for slot in slots]
    twin.inbox.clear()
    twin.held.clear()
    twin.stalled.clear()
    twin.deferred.clear()
    twin.halts.clear()
    twin.services.clear()
    assert (len(original.inbox), len(original.held)) == (1, 1)
    assert (original.stalled, original.deferred) == ({"probe"}, [TOO_LATE])
    assert (original.mode, original.service) == ("stop", 5)


# --- in a cluster --------------------------------------------------------------------------------

BEGIN, END = 20 * SECOND, 50 * SECOND


def group(count: int = 10, seed: int = 3, **options: Any) -> tuple[Cluster, Log]:
    cluster = Cluster(count, seed=seed, **options)
    return cluster, watched(cluster)


@pytest.mark.parametrize("how", ["block", "stop"])
@pytest.mark.parametrize("seed", range(3))
def test_a_paused_node_sends_nothing(how: Any, seed: int) -> None:
    pause = Pause(at=BEGIN, hosts=hosts("node-4"), duration=END - BEGIN, how=how)
    cluster, _ = group(seed=seed, faults=[pause], record=("packets",))
    cluster.run(END + 10 * SECOND)
    packets = cluster.trace.packets()
    mine = packets[(packets.source == "node-4") & (packets.fate == "sent")]
    during = mine[(mine.time_s >= BEGIN / SECOND) & (mine.time_s < END / SECOND)]
    assert len(during) == 0
    assert len(mine[mine.time_s >= END / SECOND]) > 10


def test_a_suspicion_expires_while_its_holder_is_blocked_and_not_while_it_is_stopped() -> None:
    # This is where most false positives come from (Lifeguard): nobody can refute to a node
    # that does not listen.
    for how, expires in (("block", True), ("stop", False)):
        cluster, log = group(seed=5)
        cluster.run(5 * SECOND)
        cluster.kill("node-0")
        assert cluster.run_until(lambda: bool(log.of(Suspected, by="node-7")), 60 * SECOND)  # noqa: B023
        cluster.pause("node-7", how)
        paused = cluster.now
        node = cluster.host("node-7").node
        assert node is not None
        deadline = node.membership.suspicions[NodeId("node-0")].deadline
        cluster.run(deadline + 10 * SECOND)
        ((said, _, failed),) = log.of(Failed, by="node-7") or [(None, None, None)]
        if expires:
            assert (said, failed.node, failed.source) == (deadline, "node-0", "node-7")
        else:
            assert said is None
            resumed = cluster.now
            cluster.resume("node-7")
            found = [at for at, _, event in log.of(Failed, by="node-7") if event.node == "node-0"]
            assert found == [resumed]
        assert paused < deadline


@pytest.mark.parametrize("how", ["block", "stop"])
@pytest.mark.parametrize("seed", range(5))
def test_a_probe_whose_deadline_passed_in_the_pause_fails_at_once_on_resume(
    how: Any, seed: int
) -> None:
    cluster, log = group(seed=seed, network=Network(Constant(50 * MS)))
    cluster.run(BEGIN)

    def probing() -> bool:
        node = cluster.host("node-4").node
        return node is not None and node.probe.round is not None

    assert cluster.run_until(probing, BEGIN + 2 * SECOND, every=1 * MS)
    cluster.pause("node-4", how)
    cluster.run(END)
    before = len(log.of(Suspected, by="node-4"))
    cluster.resume("node-4")
    accused = log.of(Suspected, by="node-4")[before:]
    assert len(accused) == 1, "one probe was under way"
    ((at, _, event),) = accused
    assert (at, event.source) == (END, "node-4")


def test_a_short_pause_fails_no_probe() -> None:
    cluster, log = group()
    cluster.strike(Pause(at=BEGIN, hosts=hosts("node-4"), duration=300 * MS))
    cluster.run(BEGIN + 30 * SECOND)
    assert log.of(Suspected, Failed) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_long_pause_costs_a_node_its_reputation_until_it_can_refute(seed: int) -> None:
    cluster, log = group(seed=seed)
    cluster.strike(Pause(at=BEGIN, hosts=hosts("node-4"), duration=END - BEGIN))
    cluster.run(END - 1)
    assert cluster.believed("node-4") == {
        "alive": 0,
        "suspect": 0,
        "dead": 9,
        "left": 0,
        "unknown": 0,
    }
    assert cluster.run_until(cluster.converged, END + 120 * SECOND)
    assert log.of(Refuted, by="node-4")


def test_in_the_pause_loops_hold_one_send_each_and_what_arrives_waits() -> None:
    cluster, _ = group(seed=2, config=with_config(push_pull_interval=2 * SECOND))
    cluster.run(BEGIN)
    cluster.pause("node-4")
    cluster.request("node-4", UpdateMeta(b"news"))  # so that there is something to gossip
    cluster.run(END)
    waiting = cluster.host("node-4").process
    assert waiting is not None
    assert waiting.stalled == {"probe", "gossip", "push/pull"}
    exchanges = [effect for effect in waiting.held if isinstance(effect, Exchange)]
    packets = [effect for effect in waiting.held if isinstance(effect, Send)]
    assert len(exchanges) <= 2, "one push/pull, and the stream ping of a probe"
    assert len(packets) <= LAN.gossip_nodes + LAN.indirect_checks
    assert len(waiting.inbox) > 10


def test_a_blocked_node_that_has_lost_many_holds_one_attempt_to_reconnect() -> None:
    cluster, _ = group(count=6, seed=1, config=with_config(reconnect_interval=1 * SECOND))
    for name in ("node-0", "node-1", "node-2", "node-3"):
        cluster.kill(name)
    cluster.run(40 * SECOND)
    assert cluster.believed("node-0")["dead"] == 2
    cluster.pause("node-4")
    cluster.run_for(60 * SECOND)
    waiting = cluster.host("node-4").process
    assert waiting is not None
    tries = [
        effect
        for effect in waiting.held
        if isinstance(effect, Exchange)
        and isinstance(effect.request, PushPull)
        and effect.request.join
    ]
    assert len(tries) <= 1


@pytest.mark.parametrize("drain", [10, 20 * MS])
def test_after_the_pause_a_node_handles_a_packet_each_drain(drain: Micros) -> None:
    cluster, _ = group()
    cluster.strike(Pause(at=BEGIN, hosts=hosts("node-4"), duration=END - BEGIN, drain=drain))
    cluster.run(END - 1)
    waiting = cluster.host("node-4").process
    assert waiting is not None
    queued = len(waiting.inbox)
    steps = Steps("node-4")
    cluster.inspectors.append(steps)
    cluster.run_for(10 * SECOND)
    handled = [at for at, input in steps.inputs if isinstance(input, World)]
    assert queued > 10
    assert handled[:queued] == [END + drain * (turn + 1) for turn in range(queued)]
    assert cluster.host("node-4").process is None


def test_a_slow_node_takes_its_time_for_each_input() -> None:
    service = 70 * MS
    cluster, _ = group(count=6)
    cluster.run(BEGIN)
    steps = Steps("node-4")
    cluster.inspectors.append(steps)
    cluster.slow_down("node-4", service)
    cluster.run_for(30 * SECOND)
    handled = [at for at, _ in steps.inputs]
    assert len(handled) > 100
    assert all(later - earlier >= service for earlier, later in zip(handled, handled[1:]))  # noqa: B905, RUF007
    cluster.speed_up("node-4")
    cluster.run_for(1 * SECOND)
    assert cluster.host("node-4").process is None


def test_a_node_too_slow_to_answer_is_accused_and_comes_back_at_full_speed() -> None:
    cluster, log = group(count=8, seed=1)
    cluster.run(BEGIN)
    cluster.slow_down("node-4", 400 * MS)
    cluster.run_for(60 * SECOND)
    cluster.speed_up("node-4")
    assert {event.node for _, _, event in log.of(Suspected)} >= {"node-4"}
    assert cluster.run_until(cluster.converged, cluster.now + 120 * SECOND)
    assert log.of(Cleared, Joined)


# --- pauses and deaths ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["block", "stop"])
def test_a_node_that_is_killed_in_its_pause_stays_dead(how: Any) -> None:
    cluster, _ = group()
    cluster.strike(Pause(at=BEGIN, hosts=hosts("node-4"), duration=END - BEGIN, how=how))
    cluster.run(BEGIN + 10 * SECOND)
    cluster.kill("node-4")
    host = cluster.host("node-4")
    assert (host.node, host.process) == (None, None)
    cluster.run(END + 60 * SECOND)
    assert (host.node, host.process) == (None, None)
    assert cluster.converged()


@pytest.mark.parametrize("how", ["block", "stop"])
def test_a_new_life_knows_nothing_of_the_pause_before_it(how: Any) -> None:
    cluster, _ = group()
    cluster.strike(Pause(at=BEGIN, hosts=hosts("node-4"), duration=END - BEGIN, how=how))
    cluster.run(BEGIN + 10 * SECOND)
    cluster.restart("node-4")
    assert cluster.host("node-4").process is None
    cluster.pause("node-4", how)  # a pause of its own, which the end of the old one must not end
    cluster.run(END + 1)
    waiting = cluster.host("node-4").process
    assert waiting is not None
    assert len(waiting.halts) == 1
    cluster.resume("node-4")
    assert cluster.run_until(cluster.converged, END + 120 * SECOND)


def test_pausing_what_is_down_does_nothing() -> None:
    cluster, _ = group()
    cluster.kill("node-4")
    cluster.pause("node-4")
    cluster.slow_down("node-4", 100)
    cluster.resume("node-4")
    cluster.speed_up("node-4")
    assert cluster.host("node-4").process is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["block", "stop"])
def test_a_node_that_was_paused_while_it_left_ends_when_it_goes_on(how: Any, seed: int) -> None:
    cluster, log = group(count=5, seed=seed)
    cluster.run(3 * SECOND)
    cluster.leave("node-1", 1 * SECOND)
    cluster.pause("node-1", how)
    cluster.run_for(10 * SECOND)
    cluster.resume("node-1")
    cluster.run_for(10 * SECOND)
    assert cluster.host("node-1").node is None
    assert [who for _, who in log.down] == ["node-1"]


OVERLAPS: dict[str, tuple[tuple[str, str], list[str]]] = {
    # how from 0 to 20 s and from 10 to 30 s; the state at 5, 15 and 25 s
    "blocked twice": (("block", "block"), ["block", "block", "block"]),
    "stopped twice": (("stop", "stop"), ["stop", "stop", "stop"]),
    "stopped, then blocked": (("stop", "block"), ["stop", "stop", "block"]),
    "blocked, then stopped": (("block", "stop"), ["block", "stop", "stop"]),
}


@pytest.mark.parametrize(("how", "wanted"), OVERLAPS.values(), ids=OVERLAPS)
def test_overlapping_pauses_of_a_schedule_end_one_by_one(
    how: tuple[Any, Any], wanted: list[str]
) -> None:
    faults = [
        Pause(at=BEGIN, hosts=hosts("node-4"), duration=20 * SECOND, how=how[0]),
        Pause(at=BEGIN + 10 * SECOND, hosts=hosts("node-4"), duration=20 * SECOND, how=how[1]),
    ]
    cluster, _ = group(faults=faults)
    found = []
    for at in (5, 15, 25):
        cluster.run(BEGIN + at * SECOND)
        waiting = cluster.host("node-4").process
        assert waiting is not None
        found.append(waiting.mode)
    assert found == wanted
    cluster.run(BEGIN + 31 * SECOND)
    assert cluster.host("node-4").process is None
