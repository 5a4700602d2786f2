"""The clock: one history, in the order in which things were scheduled, however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st
from simpy.events import NORMAL, URGENT

from backends.sim import clock as clock_module
from backends.sim.clock import ERA, LONG, WIDEST, Clock, Due, slot_for
from backends.sim.host import Host
from swimsim.terms import SECOND, Micros
from tests.sim.worlds import machine

HOST = machine(0)
SLOT: Micros = WIDEST
MANY = 3_000

Happened = list[tuple[Micros, int]]
Program = list[list[Micros]]  # the j-th list is scheduled as the j-th event happens; the first at 0


def played(
    program: Program, clock: Clock, stops: list[Micros] | None = None, *, simpys: bool = True
) -> Happened:
    """When each event of ``program`` happened on ``clock``; events are numbered as scheduled.

    ``simpys``: it stops by SimPy's own ``run``, else by ``run_to``.
    """
    happened: Happened = []
    numbers = count()
    turn = iter(program)

    def schedule() -> None:
        for delay in next(turn, []):
            clock.later(delay, happen, HOST, next(numbers))

    def happen(host: Host, what: int, life: int) -> None:
        happened.append((clock.micros, what))
        schedule()

    schedule()
    for stop in stops or []:
        if stop > clock.micros:
            if simpys:
                clock.run(stop)
            else:
                clock.run_to(stop)
            assert clock.micros == stop
    clock.run()
    return happened


def expected(program: Program) -> Happened:
    """The same on a plain heap."""
    heap: list[tuple[Micros, int]] = []
    happened: Happened = []
    numbers = count()
    now = 0
    for step, delays in enumerate(program):
        for delay in delays:
            heapq.heappush(heap, (now + delay, next(numbers)))
        if not heap:
            return happened
        if step < len(program) - 1:
            happened.append(heapq.heappop(heap))
            now = happened[-1][0]
    return happened + sorted(heap)


BORDERS = st.sampled_from([0, 1, SLOT - 1, SLOT, SLOT + 1, 2 * SLOT - 1, 2 * SLOT, 2 * SLOT + 1])
DELAYS = BORDERS | st.integers(0, 40 * SLOT)
PROGRAMS = st.lists(st.lists(DELAYS, max_size=8), min_size=1, max_size=40)

SLOTS = st.sampled_from([1, 7, 1_000, SLOT])
BOUNDS = st.fixed_dictionaries(
    {"ERA": st.sampled_from([1, SLOT, 5 * SLOT, ERA]), "LONG": st.sampled_from([1, 3, LONG])}
)
"""With short eras much of a program is due in a later one; what is soon too long lies in pieces."""


@given(PROGRAMS, SLOTS, BOUNDS)
def test_the_order_is_that_of_a_plain_heap(
    program: Program, slot: Micros, bounds: dict[str, int]
) -> None:
    with patch.multiple(clock_module, **bounds):
        assert played(program, Clock(0, slot)) == expected(program)


@given(PROGRAMS, st.integers(0, 5 * SECOND), BOUNDS)
def test_the_order_does_not_depend_on_when_the_clock_began(
    program: Program, start: Micros, bounds: dict[str, int]
) -> None:
    with patch.multiple(clock_module, **bounds):
        later = played(program, Clock(start, SLOT))
    assert [(at - start, number) for at, number in later] == expected(program)


@given(
    PROGRAMS,
    st.lists(BORDERS | st.integers(0, 40 * SLOT), max_size=6).map(sorted),
    st.booleans(),
    SLOTS,
    BOUNDS,
)
def test_stopping_on_the_way_changes_nothing(
    program: Program, stops: list[Micros], simpys: bool, slot: Micros, bounds: dict[str, int]
) -> None:
    with patch.multiple(clock_module, **bounds):
        assert played(program, Clock(0, slot), stops, simpys=simpys) == expected(program)


ACTS = st.lists(st.tuples(st.sampled_from(["ours", "theirs", "urgent"]), DELAYS), max_size=6)


def mixed(acts: list[list[tuple[str, Micros]]], env: simpy.Environment, later: Any) -> list[Any]:
    """What happens in which order, if each event that happens schedules the next list of acts."""
    happened: list[tuple[Micros, int]] = []
    numbers, turn = count(), iter(acts)

    def act() -> None:
        for kind, delay in next(turn, []):
            number = next(numbers)
            if kind == "ours":
                later(delay, lambda number=number: happen(number))
                continue
            event = simpy.Event(env)
            event._ok, event._value = True, None
            event.callbacks.append(lambda _, number=number: happen(number))
            priority = URGENT if kind == "urgent" else NORMAL
            env.schedule(event, priority, 0 if kind == "urgent" else delay)

    def happen(number: int) -> None:
        happened.append((int(env.now), number))
        act()

    act()
    env.run()
    return happened


@given(st.lists(ACTS, min_size=1, max_size=30), SLOTS, BOUNDS)
def test_with_events_of_others_the_order_is_that_of_simpy(
    acts: list[list[tuple[str, Micros]]], slot: Micros, bounds: dict[str, int]
) -> None:
    plain = simpy.Environment()

    def timeout(delay: Micros, action: Any) -> None:
        simpy.Timeout(plain, delay).callbacks.append(lambda _: action())

    with patch.multiple(clock_module, **bounds):
        clock = Clock(0, slot)
        ours = mixed(
            acts, clock, lambda delay, action: clock.later(delay, lambda *_: action(), HOST, 0)
        )
    assert ours == mixed(acts, plain, timeout)


@pytest.mark.parametrize("eras", [2, 3, 1_000])
def test_what_is_due_when_a_far_era_begins_is_not_lost(eras: int) -> None:
    clock = Clock(0, SLOT)
    begin = clock._per_era * SLOT * eras
    seen: list[tuple[Micros, int]] = []
    for number, at in enumerate([begin, begin, begin + 1, begin - 1]):
        clock.later(at, lambda _, what, life: seen.append((clock.micros, what)), HOST, number)
    clock.run()
    assert seen == [(begin - 1, 3), (begin, 0), (begin, 1), (begin + 1, 2)]


def test_when_all_has_happened_there_may_be_more() -> None:
    clock, seen = Clock(0, SLOT), []
    for _ in range(3):
        clock.later(5, lambda *_: seen.append(clock.micros), HOST, None)
        clock.run()
    assert seen == [5, 10, 15]


@pytest.mark.parametrize("at", [0, SLOT // 2, 3 * SLOT])
def test_time_does_not_go_back(at: Micros) -> None:
    clock = Clock(0, SLOT)
    clock.run_to(at)
    with pytest.raises(ValueError, match="a delay of -1 us: time does not go back"):
        clock.later(-1, lambda *_: None, HOST, None)
    clock.later(4 * SLOT, lambda *_: clock.later(-3 * SLOT, lambda *_: None, HOST, None), HOST, 0)
    with pytest.raises(ValueError, match=f"a delay of {-3 * SLOT} us"):
        clock.run()


def test_a_callback_that_fails_has_had_its_turn_and_the_others_have_theirs() -> None:
    clock, seen = Clock(0, SLOT), []

    def fail(*_: Any) -> None:
        raise RuntimeError("failed")

    for number, callback in enumerate([lambda _, what, life: seen.append(what), fail] * 2):
        clock.later(7, callback, HOST, number)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="failed"):
            clock.run_to(9 * SLOT)
        assert clock.micros == 7
    clock.run_to(9 * SLOT)
    assert (seen, clock.micros, clock.pending()) == ([0, 2], 9 * SLOT, [])


@pytest.mark.parametrize("onward", ["step", "run_to", "run", "run to the end"])
def test_whoever_lets_time_go_on_from_inside_loses_nothing(onward: str) -> None:
    clock, seen = Clock(0, SLOT), []
    ways: dict[str, Callable[[], Any]] = {
        "step": clock.step,
        "run_to": lambda: clock.run_to(SLOT + 2),
        "run": lambda: clock.run(SLOT + 2),
        "run to the end": clock.run,
    }
    clock.later(10, lambda *_: ways[onward](), HOST, None)
    for at in (SLOT, SLOT + 1, SLOT + 3, 4 * SLOT):
        clock.later(at, lambda *_: seen.append(clock.micros), HOST, None)
    clock.run_to(6 * SLOT)
    assert (seen, clock.micros) == ([SLOT, SLOT + 1, SLOT + 3, 4 * SLOT], 6 * SLOT)


def test_who_went_on_beyond_the_end_of_a_run_is_not_taken_back() -> None:
    clock, seen = Clock(0, SLOT), []
    clock.later(10, lambda *_: clock.run_to(3 * SLOT), HOST, None)
    clock.later(4 * SLOT, lambda *_: seen.append(clock.micros), HOST, None)
    clock.run_to(2 * SLOT)
    assert (clock.micros, seen) == (3 * SLOT, [])
    clock.run_to(5 * SLOT)
    assert seen == [4 * SLOT]


def run_for_an_event(env: simpy.Environment) -> list[str]:
    """Two wait for an event besides a run; the first of them makes a third."""
    seen: list[str] = []
    done = env.timeout(5)

    def child() -> Generator[Any, Any, None]:
        seen.append("child")
        yield env.timeout(0)

    def first() -> Generator[Any, Any, None]:
        yield done
        seen.append("first")
        env.process(child())

    def second() -> Generator[Any, Any, None]:
        yield env.timeout(1)
        yield done
        seen.append("second")

    env.process(first())
    env.process(second())
    env.step()
    env.step()
    env.run(done)
    env.run()
    return seen


def test_the_order_is_simpys_after_a_run_for_an_event_too() -> None:
    assert run_for_an_event(Clock()) == run_for_an_event(simpy.Environment())


def test_what_never_happens_is_waited_for_like_anything_else() -> None:
    clock = Clock(0, SLOT)
    simpy.Timeout(clock, simpy.core.Infinity).callbacks.append(print)
    clock.run(10)
    clock.run_to(ERA * 10)
    assert len(clock.pending()) == 1


@pytest.mark.parametrize("spread", [1, 200])
def test_a_slot_in_which_much_happens_lies_in_pieces(spread: Micros) -> None:
    clock, random, seen, longest = Clock(0, SLOT), Random(7), count(), 0

    def again(*_: Any) -> None:
        nonlocal longest
        longest = max(longest, len(clock._line), *map(len, clock._pieces), 0)
        if next(seen) < 20 * LONG:
            clock.later(random.randrange(spread), again, HOST, None)

    for _ in range(4 * LONG):
        again()
    clock.run()
    assert next(seen) == 24 * LONG
    assert longest <= 3 * LONG + 1


def test_of_what_happens_in_one_instant_only_the_last_is_kept() -> None:
    clock, turns, longest = Clock(0, SLOT), count(), 0

    def again(*_: Any) -> None:
        nonlocal longest
        longest = max(longest, len(clock._line))
        if next(turns) < 10 * LONG:
            clock.later(0, again, HOST, None)

    again()
    clock.run_to(1)
    assert next(turns) == 10 * LONG + 1
    assert longest <= LONG + 2


def test_an_end_that_a_failed_run_left_behind_ends_no_run_to() -> None:
    clock = Clock()

    def broken() -> Generator[Any, Any, None]:
        yield clock.timeout(5)
        raise RuntimeError("broken")

    clock.process(broken())
    with pytest.raises(RuntimeError, match="broken"):
        clock.run(10)
    seen: list[Micros] = []
    clock.later(10, lambda *_: seen.append(clock.micros), HOST, None)
    clock.run_to(30)
    assert (seen, clock.micros) == ([15], 30)

    def enough(*_: Any) -> None:
        raise simpy.core.StopSimulation("enough")

    clock.later(1, enough, HOST, None)
    with pytest.raises(simpy.core.StopSimulation, match="enough"):
        clock.run_to(40)


@pytest.mark.parametrize("nodes", [1, 100, 10_000, 1_000_000, 10**9])
def test_the_more_nodes_the_narrower_the_slots(nodes: int) -> None:
    assert 1 <= slot_for(nodes) <= WIDEST
    assert slot_for(nodes) >= slot_for(nodes + 1)


def test_an_error_of_somebody_elses_process_comes_through() -> None:
    clock = Clock()

    def broken() -> Generator[Any, Any, None]:
        yield clock.timeout(SLOT)
        raise RuntimeError("broken")

    clock.process(broken())
    with pytest.raises(RuntimeError, match="broken"):
        clock.run_to(3 * SLOT)
    assert clock.micros == SLOT
    clock.run_to(3 * SLOT)
    assert clock.micros == 3 * SLOT


@pytest.mark.parametrize("seed", range(3))
def test_thousands_wait_and_come_in_order(seed: int) -> None:
    random = Random(seed)
    program = [[random.randrange(30 * SLOT) for _ in range(MANY)]]
    for _ in range(20_000):
        ties = random.choice([0, SLOT, random.randrange(30 * SLOT)])
        program.append([ties] * random.choice([0, 0, 1, 2]))
    assert played(program, Clock()) == expected(program)


def test_things_of_one_instant_happen_as_they_were_scheduled() -> None:
    clock = Clock()
    order: list[int] = []
    for number in range(MANY):
        clock.later(5 * SLOT, lambda _, what, life: order.append(what), HOST, number)
    clock.run()
    assert order == list(range(MANY))


def test_pending_is_all_that_will_happen_in_the_order_in_which_it_will() -> None:
    random = Random(5)
    clock = Clock()
    happened: list[tuple[Micros, int]] = []

    def happen(host: Host, what: int, life: int) -> None:
        happened.append((clock.micros, what))

    for number in range(MANY):
        clock.later(random.randrange(20 * SLOT), happen, HOST, number)
    stops = [0, 1, SLOT - 1, SLOT, 3 * SLOT + 17, 8 * SLOT, 19 * SLOT, 20 * SLOT]
    foretold: list[tuple[Micros, list[tuple[Micros, int]]]] = []
    for stop in stops:
        if stop > clock.micros:
            clock.run(stop)
        dues = [(at, due) for at, due in clock.pending() if isinstance(due, Due)]
        foretold.append((stop, [(at, due.what) for at, due in dues]))
    assert [len(found) for _, found in foretold][::7] == [MANY, 0]
    for stop, found in foretold:
        assert found == [(at, number) for at, number in happened if at >= stop]


def test_a_stop_leaves_nothing_pending() -> None:
    clock = Clock()
    for number in range(10):
        clock.later(number * SLOT, lambda *_: None, HOST, number)
    for stop in (SLOT, 3 * SLOT, 20 * SLOT):
        clock.run(stop)
        assert all(isinstance(due, Due) for _, due in clock.pending())
    assert clock.pending() == []


def test_pending_names_what_others_wait_for_too() -> None:
    clock = Clock()

    def sleeper() -> Generator[Any, Any, None]:
        yield clock.timeout(3 * SLOT)

    clock.process(sleeper())
    clock.later(SLOT, lambda *_: None, HOST, "due")
    clock.run(1)
    waits = [(at, isinstance(due, Due)) for at, due in clock.pending() if at > 1]
    assert waits == [(SLOT, True), (3 * SLOT, False)]


def test_an_event_carries_the_life_that_its_host_had_when_it_was_scheduled() -> None:
    clock, host = Clock(), machine(1)
    lives: list[tuple[int, int]] = []
    clock.later(10, lambda it, _, life: lives.append((life, it.life)), host, None)
    host.life += 1
    clock.run()
    assert lives == [(1, 2)]


def test_simpys_step_and_peek_see_what_is_scheduled_here() -> None:
    clock = Clock()
    seen: list[tuple[Micros, str]] = []
    assert clock.peek() == simpy.core.Infinity
    with pytest.raises(simpy.core.EmptySchedule):
        clock.step()
    clock.timeout(20).callbacks.append(lambda _: seen.append((clock.micros, "theirs")))
    for delay, what in [(20, "ours, later"), (5, "ours")]:
        clock.later(delay, lambda _, what, life: seen.append((clock.micros, what)), HOST, what)
    for at in (5, 20, 20):
        assert clock.peek() == at
        clock.step()
    assert seen == [(5, "ours"), (20, "theirs"), (20, "ours, later")]
    assert clock.peek() == simpy.core.Infinity


# --- with processes of others --------------------------------------------------------------------


def crowd(clock: Clock, count: int, until: Micros) -> list[Micros]:
    """Have many other things happen as well; returns when each was done."""
    random, done = Random(count), []
    for _ in range(count):
        clock.later(random.randrange(until), lambda *_: done.append(clock.micros), HOST, None)
    return done


@pytest.mark.parametrize("others", [0, MANY])
def test_a_process_of_others_sees_the_right_times(others: int) -> None:
    clock = Clock()
    done = crowd(clock, others, 60 * SLOT)
    seen: list[Micros] = []

    def ticker(env: simpy.Environment, period: Micros) -> Generator[Any, Any, None]:
        for _ in range(10):
            yield env.timeout(period)
            seen.append(int(env.now))
            assert env.now == clock.micros

    clock.process(ticker(clock, 5 * SLOT + 3))
    clock.run()
    assert seen == [turn * (5 * SLOT + 3) for turn in range(1, 11)]
    assert done == sorted(done)
    assert len(done) == others


@pytest.mark.parametrize("others", [0, MANY])
@pytest.mark.parametrize("simpys", [True, False])
def test_processes_of_others_and_deliveries_interleave_by_time_and_then_by_turn(
    simpys: bool, others: int
) -> None:
    clock = Clock()
    crowd(clock, others, 60 * SLOT)
    order: list[tuple[Micros, str]] = []

    def note(host: Host, what: str, life: int) -> None:
        order.append((clock.micros, what))

    def process(env: simpy.Environment) -> Generator[Any, Any, None]:
        for turn in range(4):
            clock.later(2 * SLOT, note, HOST, f"before {turn}")
            pause = env.timeout(2 * SLOT)
            clock.later(2 * SLOT, note, HOST, f"after {turn}")
            clock.later(SLOT, note, HOST, f"between {turn}")
            yield pause
            order.append((int(env.now), f"process {turn}"))

    clock.process(process(clock))
    if simpys:
        clock.run()
    else:
        clock.run_to(99 * SLOT)
    wanted = []
    for turn in range(4):
        begin, end = 2 * turn * SLOT, 2 * (turn + 1) * SLOT
        wanted += [
            (begin + SLOT, f"between {turn}"),
            (end, f"before {turn}"),
            (end, f"process {turn}"),
            (end, f"after {turn}"),
        ]
    # What a process waits for happens between what was scheduled before and after it; what comes
    # after the process in the same instant has to wait until it has gone on.
    assert sorted(order, key=lambda noted: noted[0]) == order
    assert order == wanted


def test_processes_of_others_may_wait_for_each_other_in_the_crowd() -> None:
    clock = Clock()
    crowd(clock, MANY, 60 * SLOT)
    store = simpy.Store(clock)
    got: list[tuple[Micros, int]] = []

    def producer() -> Generator[Any, Any, None]:
        for item in range(5):
            yield clock.timeout(7 * SLOT)
            yield store.put(item)

    def consumer() -> Generator[Any, Any, None]:
        while True:
            item = yield store.get()
            got.append((int(clock.now), item))

    clock.process(producer())
    clock.process(consumer())
    clock.run(50 * SLOT)
    assert got == [(7 * SLOT * (item + 1), item) for item in range(5)]
    assert clock.micros == 50 * SLOT


def test_an_interrupted_process_of_others_goes_on_at_the_time_of_the_interrupt() -> None:
    clock = Clock()
    crowd(clock, MANY, 60 * SLOT)
    woken: list[Micros] = []

    def sleeper() -> Generator[Any, Any, None]:
        try:
            yield clock.timeout(50 * SLOT)
        except simpy.Interrupt:
            woken.append(int(clock.now))

    asleep = clock.process(sleeper())
    clock.later(20 * SLOT + 1, lambda *_: asleep.interrupt(), HOST, None)
    clock.run()
    assert woken == [20 * SLOT + 1]
