"""The record of a run: frames that agree with each other and with what happened."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, get_args

import pandas as pd
import pytest

from backends.sim import Cluster, Network
from backends.sim.faults import Degrade, Kill, Pause, Restart, hosts
from backends.sim.network import Bernoulli, Constant, Link
from backends.sim.trace import COLUMNS, KINDS, SERF_KINDS, Trace, subject
from swimsim.config import LAN
from swimsim.effects import (
    Cleared,
    Conflict,
    Counted,
    Event,
    Failed,
    HealthChanged,
    Joined,
    JoinFinished,
    KeyReport,
    KeysFinished,
    LeaveFinished,
    Left,
    MemberChanged,
    MergeRefused,
    NameContested,
    Noted,
    QueryAcked,
    QueryAnswered,
    QueryFinished,
    QueryReceived,
    QueryStarted,
    Refuted,
    RequestDone,
    RequestRefused,
    SerfEvent,
    Suspected,
    Updated,
    UpdateFinished,
    UserEventReceived,
)
from swimsim.inputs import Join, UpdateMeta
from swimsim.member import peer
from swimsim.messages import Ack, Ping, PushPull, packet_size, size
from swimsim.terms import MS, SECOND, Address, NodeId
from tests.sim.worlds import EVEN, HOP, STILL, busy, machine, names, watched, with_config

EVERYTHING = ("events", "health", "messages", "packets", "serf")
A, B = NodeId("a"), NodeId("b")
PEER = peer(A, Address(bytes((10, 0, 0, 1)), 7946), b"", LAN.vsn)
OTHER = peer(A, Address(bytes((10, 0, 0, 9)), 7946), b"", LAN.vsn)

# --- events --------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Event, tuple[str, str, int, str] | None]] = {
    # what node n0 reported: event, member, incarnation, source
    "joined": (Joined(PEER, 3), ("joined", "a", 3, "a")),
    "updated": (Updated(PEER, 4), ("updated", "a", 4, "a")),
    "suspected": (Suspected(A, 5, B), ("suspected", "a", 5, "b")),
    "cleared": (Cleared(A, 6), ("cleared", "a", 6, "a")),
    "failed": (Failed(A, 7, B), ("failed", "a", 7, "b")),
    "left": (Left(A, 8, A), ("left", "a", 8, "a")),
    "conflict": (Conflict(PEER, OTHER), ("conflict", "a", 0, "10.0.0.9:7946")),
    "refuted": (Refuted(9), ("refuted", "n0", 9, "n0")),
    "health": (HealthChanged(2), None),  # has a frame of its own
    "merge refused": (MergeRefused("why"), ("merge refused", "n0", 0, "why")),
    "join finished": (JoinFinished(2, ()), ("join finished", "n0", 2, "n0")),
    "leave finished": (LeaveFinished(False), ("leave finished", "n0", 0, "n0")),
    "update finished": (UpdateFinished(4), ("update finished", "n0", 4, "n0")),
}


SERF_ROWS: dict[str, tuple[SerfEvent, tuple[str, str, int, str]]] = {
    # what node n0 reported: event, subject, number, detail
    "member": (MemberChanged("join", PEER), ("member", "a", 0, "join")),
    "user event": (
        UserEventReceived(7, "deploy", b"v1", True),
        ("user event", "deploy", 7, "v1"),
    ),
    "query": (
        QueryReceived(8, 99, "load", None, PEER.address, A, 5_000_000),
        ("query", "load", 8, "a"),
    ),
    "query started": (QueryStarted(3, 8, 99, 5_000_000), ("query started", "n0", 3, "8")),
    "ack": (QueryAcked(3, A), ("ack", "a", 3, "")),
    "answer": (QueryAnswered(3, A, b"0.5"), ("answer", "a", 3, "0.5")),
    "query finished": (
        QueryFinished(3, 2, 1),
        ("query finished", "n0", 3, "2 acks, 1 answers"),
    ),
    "keys finished": (
        KeysFinished(4, KeyReport(3, 2, 1, error="1/3 nodes reported failure")),
        ("keys finished", "n0", 4, "2 of 3 answered, 1 errors 1/3 nodes reported failure"),
    ),
    "done": (RequestDone(5), ("done", "n0", 5, "")),
    "refused": (RequestRefused(6, "why"), ("refused", "n0", 6, "why")),
    "name contested": (NameContested(True, 1, 3), ("name contested", "n0", 3, "lost, 1 votes")),
    "note": (Noted("WARN", "serf: so"), ("note", "n0", 0, "WARN serf: so")),
    "count": (Counted("serf.query_acks"), ("count", "n0", 0, "serf.query_acks")),
}


def test_every_kind_of_event_is_tested_here() -> None:
    tested = {type(event) for event, _ in (*ROWS.values(), *SERF_ROWS.values())}
    assert tested == set(get_args(Event)) == {*KINDS, *SERF_KINDS}
    assert set(ROWS) == set(KINDS.values())
    assert set(SERF_ROWS) == set(SERF_KINDS.values())


@pytest.mark.parametrize(("event", "row"), SERF_ROWS.values(), ids=SERF_ROWS)
def test_an_event_of_serfs_is_one_row_of_its_own_frame(
    event: SerfEvent, row: tuple[str, str, int, str]
) -> None:
    trace = Trace([machine(0)], EVERYTHING)
    trace.event(2_500_000, trace.hosts[0], event)
    found = trace.serf()
    assert list(found.columns) == ["time_s", "observer", "event", "subject", "number", "detail"]
    assert [tuple(line) for line in found.itertuples(index=False)] == [(2.5, "n0", *row)]
    assert len(trace.events()) == 0


@pytest.mark.parametrize(("event", "row"), ROWS.values(), ids=ROWS)
def test_an_event_is_one_row_of_plain_values(
    event: Event, row: tuple[str, str, int, str] | None
) -> None:
    trace = Trace([machine(0)], EVERYTHING)
    trace.event(2_500_000, trace.hosts[0], event)
    found = trace.events()
    assert list(found.columns) == [
        "time_s",
        "observer",
        "event",
        "member",
        "incarnation",
        "source",
    ]
    if row is None:
        assert len(found) == 0
        assert trace.health().to_dict("records") == [{"time_s": 2.5, "node": "n0", "score": 2}]
    else:
        assert [tuple(line) for line in found.itertuples(index=False)] == [(2.5, "n0", *row)]
        assert len(trace.health()) == 0


def test_events_are_what_each_observer_saw_when_it_saw_it() -> None:
    cluster = busy(record=EVERYTHING)
    log = watched(cluster)
    cluster.run(60 * SECOND)
    wanted = [
        (at / SECOND, who, KINDS[type(event)], *subject(event, who))
        for at, who, event in log.events
        if not isinstance(event, HealthChanged)
    ]
    events = cluster.trace.events()
    assert [tuple(row) for row in events.itertuples(index=False)] == wanted
    assert len(wanted) > 300
    assert events.time_s.is_monotonic_increasing
    health = cluster.trace.health()
    scores = [(at / SECOND, who, event.score) for at, who, event in log.of(HealthChanged)]
    assert [tuple(row) for row in health.itertuples(index=False)] == scores != []


def test_units_and_types_of_the_columns() -> None:
    cluster = busy(record=EVERYTHING[:-1])  # Serf's layer is off, and its frame would be empty
    cluster.run(30 * SECOND)
    kinds = {
        name: {column: kind.kind for column, kind in frame.dtypes.items()}
        for name, frame in cluster.trace.frames().items()
    }
    text = pd.Series(["x"]).dtype.kind
    assert kinds == {
        "events": {
            "time_s": "f",
            "observer": text,
            "event": text,
            "member": text,
            "incarnation": "i",
            "source": text,
        },
        "health": {"time_s": "f", "node": text, "score": "i"},
        "messages": {"node": text, "kind": text, "fate": text, "messages": "i", "bytes": "i"},
        "packets": {
            "time_s": "f",
            "source": text,
            "target": text,
            "kinds": text,
            "bytes": "i",
            "fate": text,
        },
    }
    for frame in (cluster.trace.events(), cluster.trace.health(), cluster.trace.packets()):
        assert 1 < frame.time_s.max() < 30, "seconds of simulated time"


def test_frames_of_nothing_have_their_columns_all_the_same() -> None:
    empty = Trace([], EVERYTHING)
    cluster = busy(record=EVERYTHING)
    cluster.run(5 * SECOND)
    for name, frame in empty.frames().items():
        assert len(frame) == 0
        assert list(frame.columns) == list(cluster.trace.frames()[name].columns)
    assert list(empty.lives().columns) == ["node", "began_s", "ended_s"]


# --- what was asked for --------------------------------------------------------------------------


@pytest.mark.parametrize("column", COLUMNS)
def test_what_was_not_recorded_cannot_be_had(column: Any) -> None:
    others = tuple(other for other in COLUMNS if other != column)
    cluster = Cluster(names(3), record=others)
    cluster.run(3 * SECOND)
    assert tuple(cluster.trace.frames()) == others
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        getattr(cluster.trace, column)()
    assert str(caught.value) == f"{column} were not recorded; ask for record=({column!r},)"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_holds_the_same_whatever_else_is_recorded(column: Any) -> None:
    alone, together = busy(record=(column,)), busy(record=EVERYTHING)
    for cluster in (alone, together):
        cluster.run(25 * SECOND)
    pd.testing.assert_frame_equal(alone.trace.frames()[column], together.trace.frames()[column])


# --- lives ---------------------------------------------------------------------------------------


def test_lives_say_when_each_process_began_and_ended() -> None:
    cluster = Cluster(
        names(3),
        record=(),
        faults=[
            Kill(at=2 * SECOND, hosts=hosts("n1")),
            Restart(at=5 * SECOND, hosts=hosts("n1")),
            Restart(at=7 * SECOND, hosts=hosts("n2")),
        ],
    )
    log = watched(cluster)
    cluster.run(10 * SECOND)
    lives = cluster.trace.lives().sort_values(["node", "began_s"])
    rows = [tuple(row) for row in lives.fillna(-1).itertuples(index=False)]
    assert rows == [
        ("n0", 0.0, -1),
        ("n1", 0.0, 2.0),
        ("n1", 5.0, -1),
        ("n2", 0.0, 7.0),
        ("n2", 7.0, -1),
    ]
    assert [(at, who) for at, who in log.down] == [(2 * SECOND, "n1"), (7 * SECOND, "n2")]


# --- packets and counts --------------------------------------------------------------------------


def finished(cluster: Cluster) -> Cluster:
    """The same cluster after everybody has died and nothing is under way any more."""
    for host in cluster.running:
        cluster.kill(host.name)
    cluster.run_for(60 * SECOND)
    return cluster


def settled(**options: Any) -> Cluster:
    """A run with some trouble, and without duplicates, that is over."""
    loss = Network(loss=Bernoulli(0.1), reorder=0.1)
    cluster = busy(2, network=options.pop("network", loss), record=EVERYTHING, **options)
    cluster.run(40 * SECOND)
    return finished(cluster)


def test_counts_agree_with_the_packets_one_by_one() -> None:
    cluster = settled()
    packets, messages = cluster.trace.packets(), cluster.trace.messages()
    wanted: Counter[tuple[str, str, str]] = Counter()
    wanted_bytes: Counter[tuple[str, str, str]] = Counter()
    for row in packets.itertuples():
        owner = row.source if row.fate in ("sent", "lost") else row.target
        if row.kinds.startswith("stream"):
            wanted[owner, row.kinds, row.fate] += 1
            wanted_bytes[owner, row.kinds, row.fate] += row.bytes
            continue
        wanted[owner, "packet", row.fate] += 1
        wanted_bytes[owner, "packet", row.fate] += row.bytes
        for kind in row.kinds.split("+"):
            wanted[owner, kind, row.fate] += 1
    found = {(row.node, row.kind, row.fate): row.messages for row in messages.itertuples()}
    assert found == dict(wanted)
    for row in messages.itertuples():
        if row.kind == "packet" or row.kind.startswith("stream"):
            assert row.bytes == wanted_bytes[row.node, row.kind, row.fate]


def test_bytes_of_packets_are_those_of_their_messages_and_of_the_envelope() -> None:
    # A compound adds 2 bytes and 2 for each part, a CRC 5 (spec memberlist.md, section 2).
    cluster = settled()
    packets, messages = cluster.trace.packets(), cluster.trace.messages()
    packets = packets[(packets.fate == "sent") & ~packets.kinds.str.startswith("stream")]
    parts = packets.kinds.str.count(r"\+") + 1
    compounds = parts[parts > 1]
    sent = messages[messages.fate == "sent"].groupby("kind").bytes.sum()
    of_messages = sum(
        bytes_
        for kind, bytes_ in sent.items()
        if kind != "packet" and not str(kind).startswith("stream")
    )
    overhead = packets.bytes.sum() - of_messages - 2 * len(compounds) - 2 * compounds.sum()
    assert overhead % 5 == 0
    # Pings and acks have no CRC but for a ping to a suspect; all gossip has one.
    kinds = packets.kinds.str.split("+")
    gossip = kinds.map(lambda found: set(found) <= {"alive", "suspect", "dead"}).sum()
    buddies = (packets.kinds == "ping+suspect").sum()
    assert 5 * gossip <= overhead <= 5 * (gossip + buddies)


@pytest.mark.parametrize(
    ("settings", "extra"), [({}, 0), ({"encrypted": True}, 29), ({"label_size": 7}, 9)]
)
def test_the_size_of_a_ping_is_that_on_the_wire(settings: dict[str, Any], extra: int) -> None:
    cluster = Cluster(names(2), with_config(**settings), record=EVERYTHING)
    cluster.run(5 * SECOND)
    packets = cluster.trace.packets()
    (ping, ack) = (packets[packets.kinds == kind] for kind in ("ping", "ack"))
    address = cluster.hosts[0].address
    message = Ping(1, NodeId("n1"), address, NodeId("n0"))
    assert set(ping.bytes) == {size(message) + extra}
    assert set(ping.bytes) == {packet_size((message,), False, cluster.config)}
    assert set(ack.bytes) == {size(Ack(1)) + extra}
    counts = cluster.trace.messages()
    of_pings = counts[(counts.kind == "ping") & (counts.fate == "sent")]
    assert (of_pings.bytes == of_pings.messages * size(message)).all(), "without the envelope"


@pytest.mark.parametrize("what", ["messages", "bytes"])
def test_every_packet_that_was_sent_was_lost_received_or_dropped(what: str) -> None:
    packets = settled().trace.packets()
    packets = packets[~packets.kinds.str.startswith("stream")]
    by_link: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in packets.itertuples():
        amount = 1 if what == "messages" else row.bytes
        by_link[row.source, row.target, row.kinds][row.fate] += amount
    assert {row.fate for row in packets.itertuples()} == {"sent", "lost", "received", "dropped"}
    for link, fates in by_link.items():
        assert fates["sent"] == fates["lost"] + fates["received"] + fates["dropped"], link


def test_a_duplicate_is_received_twice_and_sent_once() -> None:
    cluster = Cluster(names(3), network=Network(duplicate=1.0), record=EVERYTHING)
    cluster.run(20 * SECOND)
    finished(cluster)
    packets = cluster.trace.packets()
    fates = Counter(packets[~packets.kinds.str.startswith("stream")].fate)
    assert fates["received"] + fates["dropped"] == 2 * fates["sent"]


def test_a_packet_is_received_one_delay_after_it_was_sent() -> None:
    cluster = Cluster(names(4), network=EVEN, record=("packets",))
    cluster.run(20 * SECOND)
    packets = cluster.trace.packets()
    keys = ["source", "target", "kinds", "bytes"]
    sent = packets[packets.fate == "sent"].groupby(keys).time_s.apply(sorted)
    received = packets[packets.fate == "received"].groupby(keys).time_s.apply(sorted)
    for key, times in received.items():
        for before, after in zip(sent[key], times, strict=False):
            assert round((after - before) * SECOND) == HOP


def test_what_is_sent_to_the_dead_is_dropped_and_what_was_cut_is_lost() -> None:
    cluster = Cluster(names(3), network=EVEN, record=EVERYTHING)
    cluster.strike(Kill(at=SECOND, hosts=hosts("n1")))
    cluster.strike(Degrade(at=SECOND, links=(Link("n0", "n2", loss=1.0),), duration=60 * SECOND))
    cluster.run(5 * SECOND)
    packets = cluster.trace.packets()
    packets = packets[~packets.kinds.str.startswith("stream") & (packets.time_s > 1.02)]
    fates = packets.groupby(["source", "target"]).fate.agg(set)
    assert fates["n0", "n2"] == {"sent", "lost"}
    assert fates["n2", "n0"] == {"sent", "received"}
    assert fates["n0", "n1"] == {"sent", "dropped"}


def test_a_packet_that_waits_for_a_paused_process_has_one_fate() -> None:
    cluster = Cluster(names(4), network=EVEN, record=EVERYTHING)
    cluster.strike(Pause(at=SECOND, hosts=hosts("n1"), duration=5 * SECOND))
    cluster.run(3 * SECOND)
    finished(cluster)
    packets = cluster.trace.packets()
    fates = Counter(packets[~packets.kinds.str.startswith("stream")].fate)
    assert fates["sent"] == fates["received"] + fates["dropped"]


def test_a_packet_that_finds_the_queue_full_has_one_fate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.sim.process.INBOX_BYTES", 300)
    cluster = Cluster(names(4), network=EVEN, record=EVERYTHING)
    cluster.strike(Pause(at=SECOND, hosts=hosts("n1"), duration=20 * SECOND))
    cluster.run(30 * SECOND)
    finished(cluster)
    packets = cluster.trace.packets()
    fates = Counter(packets[~packets.kinds.str.startswith("stream")].fate)
    assert fates["sent"] == fates["received"] + fates["dropped"]


# --- streams -------------------------------------------------------------------------------------


def pair(network: Network = EVEN) -> Cluster:
    cluster = Cluster(["a", "b"], STILL, network, warm=False, seeds=0, record=EVERYTHING)
    cluster.run(SECOND)
    return cluster


def exchanged(cluster: Cluster) -> list[tuple[float, str, str, str, int, str]]:
    cluster.request("a", Join((cluster.host("b").address,)))
    cluster.run_for(20 * SECOND)
    packets = cluster.trace.packets()
    streams = packets[packets.kinds.str.startswith("stream")]
    return [tuple(row) for row in streams.itertuples(index=False)]


def test_an_exchange_is_a_request_and_a_reply_with_their_bytes() -> None:
    cluster = pair()
    state = {name: cluster.host(name).node for name in "ab"}
    assert state["a"] is not None
    assert state["b"] is not None
    asked = size(PushPull(True, state["a"].members))
    told = size(PushPull(True, state["b"].members))
    assert exchanged(cluster) == [
        (1 + 2 * HOP / SECOND, "a", "b", "stream push/pull", asked, "sent"),
        (1 + 3 * HOP / SECOND, "b", "a", "stream push/pull", told, "sent"),
    ]
    counts = cluster.trace.messages()
    counts = counts[counts.kind == "stream push/pull"]
    rows = [tuple(row) for row in counts.itertuples(index=False)]
    assert rows == [
        ("a", "stream push/pull", "sent", 1, asked),
        ("b", "stream push/pull", "sent", 1, told),
    ]


def test_a_flight_that_was_lost_was_sent_too_as_a_packet_is() -> None:
    # "sent: handed to the network; lost: lost in it"
    cluster = pair()
    cluster.strike(
        Degrade(at=SECOND + 2 * HOP - 1, links=(Link("a", "b", loss=1.0),), duration=100 * MS)
    )
    flights = [(row[1], row[5]) for row in exchanged(cluster)]
    assert Counter(flights) == {("a", "sent"): 2, ("a", "lost"): 1, ("b", "sent"): 1}


def test_stream_pings_are_told_from_packets() -> None:
    # Packets between two nodes are cut, streams are not: the probe falls back on a stream.
    cluster = Cluster(names(2), network=EVEN, record=EVERYTHING)
    cut = Link("n0", "n1", loss=1.0, hits=("packets",))
    cluster.strike(Degrade(at=0, links=(cut,), duration=60 * SECOND))
    cluster.run(10 * SECOND)
    kinds = set(cluster.trace.messages().kind)
    assert {"stream ping", "stream ack", "ping", "ack", "packet"} <= kinds


# --- copies, digests -----------------------------------------------------------------------------


def test_a_copy_is_the_same_past_and_a_future_of_its_own() -> None:
    cluster = busy(record=EVERYTHING)
    cluster.run(20 * SECOND)
    twin = cluster.trace.copy(cluster.hosts)
    assert twin.rolling == cluster.trace.rolling
    before = cluster.trace.frames()
    for name, frame in twin.frames().items():
        pd.testing.assert_frame_equal(frame, before[name])
    cluster.run(30 * SECOND)
    for name, frame in twin.frames().items():
        pd.testing.assert_frame_equal(frame, before[name])
    assert twin.rolling != cluster.trace.rolling


def rolled(*noted: tuple[int, int, Event], record: tuple[Any, ...] = EVERYTHING) -> int:
    trace = Trace([machine(0), machine(1)], record)
    for now, host, event in noted:
        trace.event(now, trace.hosts[host], event)
    return trace.rolling


def test_all_of_an_event_and_the_order_of_events_is_in_the_digest() -> None:
    one = (5, 0, Failed(A, 1, B))
    sequences: list[tuple[tuple[int, int, Event], ...]] = [
        (),
        (one,),
        (one, one),
        ((6, 0, Failed(A, 1, B)),),
        ((5, 1, Failed(A, 1, B)),),
        ((5, 0, Failed(A, 2, B)),),
        ((5, 0, Failed(A, 1, A)),),
        ((5, 0, Failed(B, 1, B)),),
        ((5, 0, Left(A, 1, B)),),
        ((5, 0, Suspected(A, 1, B)),),
        (one, (5, 0, Cleared(A, 2))),
        ((5, 0, Cleared(A, 2)), one),
        ((5, 0, HealthChanged(1)),),
        ((5, 0, HealthChanged(2)),),
        ((2**40, 0, HealthChanged(1)),),
    ]
    found = [rolled(*noted) for noted in sequences]
    assert len(set(found)) == len(found)
    assert all(0 <= digest < 2**64 for digest in found)
    assert rolled(one, record=()) == rolled(one)


def test_an_update_shows_in_events_messages_and_packets() -> None:
    cluster = Cluster(names(4), network=Network(Constant(HOP)), record=EVERYTHING)
    cluster.request("n1", UpdateMeta(b"x" * 100))
    cluster.run(5 * SECOND)
    events = cluster.trace.events()
    assert set(events[events.event == "updated"].observer) == set(names(4))
    alive = cluster.trace.messages()
    alive = alive[(alive.kind == "alive") & (alive.fate == "sent")]
    assert (alive.bytes > 100 * alive.messages).all()
