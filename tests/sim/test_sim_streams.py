"""The simulated twin of a TCP stream, flight by flight."""

from __future__ import annotations

from typing import Any

import pytest

from backends.sim import Cluster
from backends.sim.clock import Clock
from backends.sim.faults import Partition, Pause, hosts
from backends.sim.host import Host
from backends.sim.network import (
    Bernoulli,
    Constant,
    Cut,
    Fabric,
    GilbertElliott,
    Link,
    Network,
    Uniform,
)
from backends.sim.streams import RETRY_DATA, RETRY_HANDSHAKE, SEGMENT, Streams
from backends.sim.trace import Trace
from swimsim.effects import Exchange, JoinFinished
from swimsim.inputs import Exchanged, ExchangeFailed, ExchangeRequested, Join
from swimsim.members import EMPTY
from swimsim.messages import Ack, Ping, PushPull, Request, Response, size
from swimsim.terms import MS, SECOND, Address, Micros, NodeId
from tests.sim.worlds import HOP, STILL, machine, statuses, watched

TIMEOUT = 10 * SECOND
STATE = PushPull(False, EMPTY)
BOTH = {0: 0, 1: 1}  # the sides of a cut between client and server


class Line:
    """A client (host 0), a server (host 1) and others, with nothing but streams between them."""

    def __init__(self, network: Network | None = None, count: int = 2, **options: Any) -> None:
        self.env = Clock()
        self.hosts = [machine(index) for index in range(count)]
        network = network or Network(Constant(HOP))
        self.fabric = Fabric(network, [host.name for host in self.hosts], options.get("seed", 1))
        self.trace = Trace(self.hosts, ("packets",))
        self.got: list[tuple[Micros, int, Any]] = []  # when, by which host, what
        self.answers: Response | None = STATE
        self.answers_after: Micros | None = 0  # None: never
        self.streams = Streams(self.env, self.hosts, self.at, self.fabric, self.deliver, self.trace)

    def at(self, address: Address) -> Host | None:
        return next((host for host in self.hosts if host.address == address), None)

    def answer(self, host: Host, connection: int, life: int) -> None:
        self.streams.reply(connection, self.answers)

    def deliver(self, host: Host, what: Any, life: int) -> None:
        if host.node is None or host.life != life:
            return
        self.got.append((self.env.micros, host.index, what))
        if isinstance(what, ExchangeRequested) and self.answers_after is not None:
            self.env.later(self.answers_after, self.answer, host, what.exchange)

    def ask(
        self, exchange: int = 7, request: Request = STATE, timeout: Micros = TIMEOUT, by: int = 0
    ) -> None:
        self.streams.begin(
            self.hosts[by], Exchange(exchange, self.hosts[1].address, request, timeout)
        )

    def kill(self, index: int) -> None:
        """End a process, as a cluster does."""
        self.hosts[index].node = None
        self.streams.reset(self.hosts[index])

    def start(self, index: int) -> None:
        """Begin a new one."""
        self.hosts[index].life += 1
        self.hosts[index].node = machine(index).node

    def restart(self, index: int) -> None:
        self.kill(index)
        self.start(index)

    def after(self, delay: Micros, action: Any) -> None:
        self.env.later(delay, lambda *_: action(), machine(99), None)

    def cut_between(self, begin: Micros, end: Micros, cut: Cut | None = None) -> None:
        """A cut from one instant to another."""
        self.after(begin, lambda: self.fabric.cut(cut or Cut("c", BOTH)))
        self.after(end, lambda: self.fabric.heal("c"))

    def end(self) -> tuple[Micros, Any]:
        """When and how the one exchange ended for its client."""
        self.env.run()
        ends = [(at, what) for at, host, what in self.got if host == 0]
        assert len(ends) == 1, "an exchange ends once"
        assert not self.streams.open
        return ends[0]

    def asked(self) -> list[Micros]:
        """When the server was given requests."""
        return [at for at, _, what in self.got if isinstance(what, ExchangeRequested)]


# --- when all goes well --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (PushPull(True, EMPTY), PushPull(True, EMPTY)),
        (Ping(3, NodeId("n1"), Address(b"", 0), NodeId("")), Ack(3)),
    ],
)
def test_an_exchange_takes_four_one_way_delays(request_: Request, response: Response) -> None:
    line = Line()
    line.answers = response
    line.ask(7, request_)
    assert line.end() == (4 * HOP, Exchanged(7, response))
    requested = ExchangeRequested(1, line.hosts[0].address, request_)
    assert line.got[0] == (3 * HOP, 1, requested)


def test_a_server_that_takes_its_time_is_waited_for() -> None:
    line = Line()
    line.answers_after = 3 * SECOND
    line.ask()
    assert line.end() == (4 * HOP + 3 * SECOND, Exchanged(7, STATE))


def test_a_server_that_closes_without_a_word_fails_the_exchange() -> None:
    line = Line()
    line.answers = None
    line.ask()
    at, failed = line.end()
    assert (at, type(failed), failed.exchange) == (4 * HOP, ExchangeFailed, 7)
    assert failed.reason == "close by 10.0.0.2:7946"


def test_each_flight_takes_the_delay_of_its_direction() -> None:
    line = Line(Network(Constant(HOP), links=(Link("n1", "n0", delay=100 * MS),)))
    line.ask()
    assert line.end()[0] == 4 * HOP + 200 * MS


def test_flights_take_their_share_of_the_bandwidth() -> None:
    line = Line(Network(Constant(HOP), bandwidth=8_000))  # a byte a millisecond
    line.ask()
    state = SEGMENT + size(STATE)
    assert line.end()[0] == 4 * HOP + (2 * SEGMENT + 2 * state) * MS
    assert [row[-2:] for row in line.trace._packets] == [(size(STATE), "sent")] * 2


def test_exchanges_do_not_mix() -> None:
    line = Line(Network(Uniform(1 * MS, 50 * MS)), count=6)
    for by in (0, 2, 3, 4, 5):
        for number in range(3):
            line.ask(10 * by + number, by=by)
    line.env.run()
    ended = sorted((host, what.exchange) for _, host, what in line.got if host != 1)
    assert ended == [(by, 10 * by + number) for by in (0, 2, 3, 4, 5) for number in range(3)]
    assert all(isinstance(what, Exchanged) for _, host, what in line.got if host != 1)


# --- what is lost is sent again ------------------------------------------------------------------

# The flights begin at 0, 1, 2 and 3 hops. Each case cuts the line while some are sent.
WAITS: dict[str, tuple[Micros, Micros, Micros]] = {  # cut from, to; when the exchange ends
    "the first attempt to connect": (0, 1, 4 * HOP + 1 * SECOND),
    "two attempts to connect": (0, 2 * SECOND, 4 * HOP + 3 * SECOND),
    "three attempts to connect": (0, 5 * SECOND, 4 * HOP + 7 * SECOND),
    "the handshake's answer": (HOP, HOP + 1, 4 * HOP + 1 * SECOND),
    "the request": (2 * HOP, 2 * HOP + 1, 4 * HOP + 200 * MS),
    "the request twice": (2 * HOP, 400 * MS, 4 * HOP + 600 * MS),
    "the request three times": (2 * HOP, 1_000 * MS, 4 * HOP + 1_400 * MS),
    "the reply": (3 * HOP, 3 * HOP + 1, 4 * HOP + 200 * MS),
    "the reply five times": (3 * HOP, 5 * SECOND, 4 * HOP + (200 + 400 + 800 + 1600 + 3200) * MS),
}


@pytest.mark.parametrize(("begin", "end", "ends"), WAITS.values(), ids=WAITS)
def test_lost_flights_are_sent_again_with_the_timeouts_of_a_kernel(
    begin: Micros, end: Micros, ends: Micros
) -> None:
    line = Line()
    line.cut_between(begin, end)
    if begin == 0:
        line.fabric.cut(Cut("c", BOTH))
    line.ask()
    assert line.end() == (ends, Exchanged(7, STATE))
    assert len(line.asked()) == 1, "the server is asked once, however often a flight was lost"


def test_a_cut_line_fails_at_the_timeout_and_not_before() -> None:
    line = Line()
    line.fabric.cut(Cut("c", BOTH))
    line.ask(timeout=4_321 * MS)
    at, failed = line.end()
    assert (at, failed) == (4_321 * MS, ExchangeFailed(7, "timed out"))


@pytest.mark.parametrize("begin", [HOP, 2 * HOP, 3 * HOP])
def test_a_cut_in_the_middle_fails_at_the_timeout_from_the_start(begin: Micros) -> None:
    line = Line()
    line.cut_between(begin, 3600 * SECOND)
    line.ask()
    assert line.end() == (TIMEOUT, ExchangeFailed(7, "timed out"))


@pytest.mark.parametrize("one_way", [False, True])
def test_a_line_that_is_cut_one_way_is_cut(one_way: bool) -> None:
    line = Line()
    line.fabric.cut(Cut("c", {1: 0, 0: 1}, one_way=one_way))  # what the server sends
    line.ask()
    assert line.end() == (TIMEOUT, ExchangeFailed(7, "timed out"))
    assert line.asked() == []


def test_a_cut_of_packets_alone_does_not_hinder_streams() -> None:
    line = Line()
    line.fabric.cut(Cut("c", BOTH, hits=("packets",)))
    line.ask()
    assert line.end()[0] == 4 * HOP


@pytest.mark.parametrize("loss", [Bernoulli(0.3), GilbertElliott(0.3, 500 * MS)])
def test_on_a_lossy_line_every_exchange_ends_once_and_most_succeed(loss: Any) -> None:
    line = Line(Network(Constant(HOP), loss=loss), seed=4)
    for number in range(300):
        line.after(number * SECOND, lambda number=number: line.ask(number, timeout=30 * SECOND))
    line.env.run()
    ends = [what for _, host, what in line.got if host == 0]
    assert sorted(what.exchange for what in ends) == list(range(300))
    # Each flight is lost with a chance of 0.3; to lose the five attempts to connect that fit
    # 30 s has one of 0.002, the eight of data one of 0.0001.
    assert sum(isinstance(what, Exchanged) for what in ends) > 290
    assert not line.streams.open


def test_a_reply_that_comes_too_late_changes_nothing() -> None:
    line = Line()
    line.answers_after = 20 * SECOND
    line.ask()
    assert line.end() == (TIMEOUT, ExchangeFailed(7, "timed out"))


# --- servers that are not there, or not quite ----------------------------------------------------


def test_a_machine_on_which_nothing_listens_refuses_at_once() -> None:
    line = Line()
    line.hosts[1].node = None
    line.ask()
    at, failed = line.end()
    assert (at, failed) == (2 * HOP, ExchangeFailed(7, "refusal by 10.0.0.2:7946"))


def test_nobody_at_an_address_is_said_so() -> None:
    line = Line()
    nowhere = Address(bytes((10, 9, 9, 9)), 7946)
    line.streams.begin(line.hosts[0], Exchange(7, nowhere, STATE, TIMEOUT))
    assert line.end() == (0, ExchangeFailed(7, "no route to 10.9.9.9:7946"))


@pytest.mark.parametrize("dies", [HOP + 1, 2 * HOP + 1, 3 * HOP - 1])
def test_a_server_that_dies_after_the_handshake_resets_the_connection(dies: Micros) -> None:
    line = Line()
    line.after(dies, lambda: line.kill(1))
    line.ask()
    assert line.end() == (dies + HOP, ExchangeFailed(7, "refusal by 10.0.0.2:7946"))
    assert line.asked() == []


def test_a_server_that_dies_before_it_has_answered_resets_the_connection() -> None:
    line = Line()
    line.answers_after = None
    line.after(2 * SECOND, lambda: line.kill(1))
    line.ask()
    assert line.end() == (2 * SECOND + HOP, ExchangeFailed(7, "refusal by 10.0.0.2:7946"))


def test_a_reset_that_is_lost_is_made_up_for() -> None:
    line = Line()
    line.answers_after = None
    line.cut_between(2 * SECOND - 1, 2 * SECOND + 1)
    line.after(2 * SECOND, lambda: line.kill(1))
    line.ask()
    at, failed = line.end()
    assert failed == ExchangeFailed(7, "refusal by 10.0.0.2:7946")
    assert 2 * SECOND + HOP < at < TIMEOUT


@pytest.mark.parametrize("restarts", [HOP + 1, 2 * HOP])
def test_a_server_that_was_restarted_after_the_handshake_does_not_know_the_connection(
    restarts: Micros,
) -> None:
    line = Line()
    line.after(restarts, lambda: line.restart(1))
    line.ask()
    assert line.end() == (restarts + HOP, ExchangeFailed(7, "refusal by 10.0.0.2:7946"))
    assert line.asked() == []


def test_a_server_that_was_restarted_before_the_handshake_serves_it() -> None:
    line = Line()
    line.after(HOP - 1, lambda: line.restart(1))
    line.ask()
    assert line.end() == (4 * HOP, Exchanged(7, STATE))


def test_a_server_that_comes_up_while_the_client_tries_serves_it() -> None:
    line = Line()
    line.kill(1)
    line.fabric.cut(Cut("c", BOTH))
    line.cut_between(0, 500 * MS)
    line.after(700 * MS, lambda: line.start(1))
    line.ask()
    assert line.end() == (4 * HOP + 1 * SECOND, Exchanged(7, STATE))


def test_a_client_that_was_restarted_gets_nothing_of_its_earlier_lifes() -> None:
    line = Line()
    line.after(3 * HOP + 1, lambda: line.restart(0))
    line.ask()
    line.env.run()
    assert line.asked() == [3 * HOP]
    assert [what for _, host, what in line.got if host == 0] == []
    assert not line.streams.open


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_a_client_that_died_sends_no_request(cut: bool, restarts: bool) -> None:
    # While its attempt to connect is under way, or is repeated because the line is cut.
    line = Line()
    if cut:
        line.fabric.cut(Cut("c", BOTH))
        line.cut_between(0, 2 * SECOND)
    line.after(HOP // 2, lambda: line.restart(0) if restarts else line.kill(0))
    line.ask()
    line.env.run()
    assert line.asked() == [], "a process that is gone has said something"
    assert not line.streams.open


def test_a_client_that_died_takes_no_place_at_the_server() -> None:
    line = crowded(STATE, 127)
    line.kill(5)
    line.answers_after = 0
    line.ask(7)
    line.env.run(2 * SECOND)
    assert fate_of(line) == (1 * SECOND + 4 * HOP, Exchanged(7, STATE))


def test_a_new_life_of_the_server_has_all_its_places() -> None:
    line = crowded(STATE, 127)
    line.restart(1)
    line.answers_after = 0
    line.ask(7)
    line.env.run(2 * SECOND)
    assert fate_of(line) == (1 * SECOND + 4 * HOP, Exchanged(7, STATE))


# --- crowds --------------------------------------------------------------------------------------


def crowded(waiting: Request, count: int) -> Line:
    """A server that answers nobody, and has this many exchanges of ``waiting`` on its hands."""
    line = Line(count=2 + count)
    line.answers_after = None
    for by in range(2, 2 + count):
        line.ask(by, waiting, by=by)
    line.env.run(1 * SECOND)
    assert len(line.asked()) == count
    return line


def fate_of(line: Line) -> tuple[Micros, Any] | None:
    ends = [(at, what) for at, host, what in line.got if host == 0]
    return ends[0] if ends else None


def test_127_push_pulls_are_served_at_once_and_the_128th_is_refused() -> None:
    line = crowded(STATE, 126)
    line.ask(7)
    line.env.run(2 * SECOND)
    assert fate_of(line) is None, "the 127th waits to be served"
    assert len(line.asked()) == 127
    line.ask(8)
    line.env.run(3 * SECOND)
    failed = ExchangeFailed(8, "close by 10.0.0.2:7946")
    assert fate_of(line) == (2 * SECOND + 4 * HOP, failed)
    assert len(line.asked()) == 127


def test_a_crowded_server_still_answers_stream_pings() -> None:
    line = crowded(STATE, 127)
    ping = Ping(3, NodeId("n1"), Address(b"", 0), NodeId(""))
    line.answers, line.answers_after = Ack(3), 0
    line.ask(7, ping)
    line.env.run(2 * SECOND)
    assert fate_of(line) == (1 * SECOND + 4 * HOP, Exchanged(7, Ack(3)))


def test_stream_pings_take_no_place_of_a_push_pull() -> None:
    # memberlist counts push/pulls alone (spec memberlist.md, 5.2)
    ping = Ping(3, NodeId("n1"), Address(b"", 0), NodeId(""))
    line = crowded(ping, 127)
    line.answers_after = 0
    line.ask(7)
    line.env.run(2 * SECOND)
    assert fate_of(line) == (1 * SECOND + 4 * HOP, Exchanged(7, STATE))


def test_a_served_push_pull_gives_its_place_back() -> None:
    line = crowded(STATE, 127)
    line.streams.reply(5, STATE)
    line.answers_after = 0
    line.ask(7)
    line.env.run(2 * SECOND)
    assert fate_of(line) == (1 * SECOND + 4 * HOP, Exchanged(7, STATE))


def test_a_crowd_at_one_server_takes_no_place_at_another() -> None:
    line = crowded(STATE, 127)
    line.answers_after = 0
    other = line.hosts[2]
    line.streams.begin(line.hosts[0], Exchange(7, other.address, STATE, TIMEOUT))
    line.env.run(2 * SECOND)
    assert fate_of(line) == (1 * SECOND + 4 * HOP, Exchanged(7, STATE))


def test_of_a_crowd_that_comes_in_one_instant_127_are_served_all_the_same() -> None:
    line = Line(count=202)
    for by in range(2, 202):
        line.ask(by, by=by)
    line.env.run()
    ends = [what for _, host, what in line.got if host >= 2]
    assert len(ends) == 200
    assert sum(isinstance(what, Exchanged) for what in ends) >= 127


# --- in a cluster --------------------------------------------------------------------------------


def pair(**options: Any) -> Cluster:
    """Two nodes that know nothing of each other, and say nothing unless asked."""
    cluster = Cluster(["a", "b"], STILL, Network(Constant(HOP)), warm=False, seeds=0, **options)
    cluster.run(1 * SECOND)
    return cluster


def test_a_join_ends_four_delays_later_with_both_sides_knowing() -> None:
    cluster = pair()
    log = watched(cluster)
    cluster.request("a", Join((cluster.host("b").address,)))
    cluster.run_for(3 * HOP)
    assert statuses(cluster, "b") == {"a": "unknown"}
    cluster.run_for(HOP + 1)
    assert statuses(cluster, "b") == {"a": "alive"}
    assert statuses(cluster, "a") == {"b": "alive"}
    assert [at for at, _, _ in log.of(JoinFinished)] == [1 * SECOND + 4 * HOP]


@pytest.mark.parametrize(
    ("duration", "joined"),
    [(STILL.stream_timeout - SECOND, True), (STILL.stream_timeout + SECOND, False)],
)
@pytest.mark.parametrize("how", ["block", "stop"])
def test_a_paused_server_gets_its_connection_and_answers_when_it_goes_on_or_never(
    how: Any, duration: Micros, joined: bool
) -> None:
    cluster = pair()
    log = watched(cluster)
    cluster.strike(Pause(at=1 * SECOND, hosts=hosts("b"), duration=duration, how=how))
    cluster.run_for(1)
    cluster.request("a", Join((cluster.host("b").address,)))
    cluster.run_for(30 * SECOND)
    ((_, _, finished),) = log.of(JoinFinished)
    assert finished.contacted == joined
    if not joined:
        assert finished.failures == ((cluster.host("b").address, "timed out"),)
    # A request that waited in the kernel is read, whether or not somebody still wants a reply.
    assert statuses(cluster, "a") == {"b": "alive"}


@pytest.mark.parametrize(
    ("heals_after", "joined"), [(2 * SECOND, True), (6 * SECOND, True), (40 * SECOND, False)]
)
def test_a_join_across_a_cut_succeeds_once_it_heals_if_that_is_soon(
    heals_after: Micros, joined: bool
) -> None:
    cluster = pair()
    log = watched(cluster)
    cut = Partition(at=1 * SECOND, groups=(hosts("a"), hosts("b")), heal_after=heals_after)
    cluster.strike(cut)
    cluster.run_for(1)
    cluster.request("a", Join((cluster.host("b").address,)))
    cluster.run_for(60 * SECOND)
    ((_, _, finished),) = log.of(JoinFinished)
    assert finished.contacted == joined
    assert statuses(cluster, "b") == {"a": "alive" if joined else "unknown"}


@pytest.mark.parametrize("again", [False, True])
def test_a_server_that_is_killed_in_its_pause_resets_what_waited(again: bool) -> None:
    cluster = pair()
    log = watched(cluster)
    cluster.pause("b", "stop")
    cluster.request("a", Join((cluster.host("b").address,)))
    cluster.run_for(3 * SECOND)
    if again:
        cluster.restart("b", join=False)
    else:
        cluster.kill("b")
    cluster.run_for(HOP + 1)
    ((at, _, finished),) = log.of(JoinFinished, by="a")
    assert at == 4 * SECOND + HOP
    assert finished.failures == ((cluster.host("b").address, "refusal by 10.0.0.2:7946"),)


def test_the_retries_are_those_of_the_documentation() -> None:
    assert (RETRY_HANDSHAKE, RETRY_DATA) == (1 * SECOND, 200 * MS)
