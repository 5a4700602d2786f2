"""What happened, as pandas DataFrames, and the digest of a run.

``record`` says which columns are kept: membership events as each observer saw them, local
health scores, messages and bytes counted by kind and host, or every single packet. What is not
asked for costs nothing; the digest is the same whatever is.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, TypeAlias, get_args
from zlib import crc32

import pandas as pd

from backends.sim.host import Host
from swimsim import rng
from swimsim.effects import (
    Cleared,
    Conflict,
    Counted,
    Event,
    Failed,
    HealthChanged,
    Joined,
    JoinFinished,
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
from swimsim.messages import Ack, Message, Ping, PushPull, size
from swimsim.terms import SECOND, Incarnation, Micros

Column: TypeAlias = Literal["events", "health", "messages", "packets", "serf"]
Fate: TypeAlias = Literal["sent", "lost", "received", "dropped"]
"""Of a message: handed to the network; lost in it; handled by a process; found none."""

COLUMNS: tuple[Column, ...] = get_args(Column)

KINDS: dict[type[Event], str] = {
    Joined: "joined",
    Updated: "updated",
    Suspected: "suspected",
    Cleared: "cleared",
    Failed: "failed",
    Left: "left",
    Conflict: "conflict",
    Refuted: "refuted",
    HealthChanged: "health",
    MergeRefused: "merge refused",
    JoinFinished: "join finished",
    LeaveFinished: "leave finished",
    UpdateFinished: "update finished",
}
SERF_KINDS: dict[type[Event], str] = {
    MemberChanged: "member",
    UserEventReceived: "user event",
    QueryReceived: "query",
    QueryStarted: "query started",
    QueryAcked: "ack",
    QueryAnswered: "answer",
    QueryFinished: "query finished",
    KeysFinished: "keys finished",
    RequestDone: "done",
    RequestRefused: "refused",
    NameContested: "name contested",
    Noted: "note",
    Counted: "count",
}
_NUMBERS = {kind: number for number, kind in enumerate((*KINDS, *SERF_KINDS), start=1)}


def subject(event: Event, observer: str) -> tuple[str, Incarnation, str]:
    """Whom an event is about, in which incarnation, and on whose word."""
    match event:
        case Joined(peer, incarnation) | Updated(peer, incarnation):
            return peer.name, incarnation, peer.name
        case Suspected(node, incarnation, source) | Failed(node, incarnation, source):
            return node, incarnation, source
        case Left(node, incarnation, source):
            return node, incarnation, source
        case Cleared(node, incarnation):
            return node, incarnation, node
        case Conflict(existing, other):
            return existing.name, 0, str(other.address)
        case Refuted(incarnation) | UpdateFinished(incarnation):
            return observer, incarnation, observer
        case HealthChanged(score):
            return observer, score, observer
        case MergeRefused(reason):
            return observer, 0, reason
        case JoinFinished(contacted):
            return observer, contacted, observer
        case LeaveFinished():
            return observer, 0, observer
        case _:
            return serf_subject(event, observer)


def serf_subject(event: SerfEvent, observer: str) -> tuple[str, int, str]:
    """The same of an event of Serf's layer: its name, its Lamport time or request, and the rest."""
    match event:
        case MemberChanged(kind, peer):
            return peer.name, 0, kind
        case UserEventReceived(ltime, name, payload):
            return name, ltime, text(payload)
        case QueryReceived(ltime, _, name, _, _, source_node):
            return name, ltime, source_node
        case QueryStarted(request, ltime):
            return observer, request, str(ltime)
        case QueryAcked(request, member):
            return member, request, ""
        case QueryAnswered(request, member, payload):
            return member, request, text(payload)
        case QueryFinished(request, acks, answers):
            return observer, request, f"{acks} acks, {answers} answers"
        case KeysFinished(request, report):
            told = f"{report.responses} of {report.nodes} answered, {report.errors} errors"
            return observer, request, f"{told} {report.error}".rstrip()
        case RequestDone(request):
            return observer, request, ""
        case RequestRefused(request, reason):
            return observer, request, reason
        case NameContested(lost, matching, votes):
            return observer, votes, f"{'lost' if lost else 'kept'}, {matching} votes"
        case Noted(level, told):
            return observer, 0, f"{level} {told}"
        case Counted(metric):
            return observer, 0, metric


def text(payload: bytes | None) -> str:
    """A payload as a column shows it."""
    return (payload or b"").decode("utf-8", "surrogateescape")


class Trace:
    """The record of one run. Times in the frames are seconds of simulated time."""

    def __init__(self, hosts: list[Host], record: tuple[Column, ...]) -> None:
        unknown = sorted(set(record) - set(COLUMNS))
        if unknown:
            raise ValueError(f"record: {unknown[0]!r}, expected some of {', '.join(COLUMNS)}")
        self.hosts = hosts
        self.record = record
        self.rolling = 0  # the digest so far: of every event, recorded or not
        self.counts_messages = "messages" in record
        self.keeps_packets = "packets" in record
        self.watches_packets = self.counts_messages or self.keeps_packets
        self._keeps_events = "events" in record
        self._keeps_health = "health" in record
        self._keeps_serf = "serf" in record
        self._serf: list[tuple[Micros, int, Event]] = []
        self._events: list[tuple[Micros, int, Event]] = []
        self._health: list[tuple[Micros, int, int]] = []
        self._packets: list[tuple[Micros, int, int, str, int, Fate]] = []
        self._lives: list[tuple[Micros, int, bool]] = []  # always kept; there are few
        self._tallies: dict[tuple[int, str, Fate], list[int]] = defaultdict(lambda: [0, 0])

    def event(self, now: Micros, host: Host, event: Event) -> None:
        """Note what a node told its owner."""
        about, number, source = subject(event, host.name)
        told = f"{about}\x1f{number}\x1f{source}".encode("utf-8", "surrogateescape")
        what = crc32(told) << 32 | host.index << 8 | _NUMBERS[type(event)]
        self.rolling = rng.mix(rng.mix(self.rolling ^ now) ^ what & rng.MASK)
        if isinstance(event, HealthChanged):
            if self._keeps_health:
                self._health.append((now, host.index, event.score))
        elif type(event) in SERF_KINDS:
            if self._keeps_serf:
                self._serf.append((now, host.index, event))
        elif self._keeps_events:
            self._events.append((now, host.index, event))

    def life(self, now: Micros, host: Host, *, begins: bool) -> None:
        """Note that a process begins or ends."""
        self._lives.append((now, host.index, begins))

    def packet(
        self,
        now: Micros,
        source: Host,
        target: Host,
        messages: tuple[Message, ...],
        bytes_: int,
        fate: Fate,
    ) -> None:
        """Note what became of a packet."""
        if self.counts_messages:
            owner = (source if fate in ("sent", "lost") else target).index
            for message in messages:
                self._count(owner, type(message).__name__.lower(), fate, size(message))
            self._count(owner, "packet", fate, bytes_)
        if self.keeps_packets:
            kinds = "+".join(type(message).__name__.lower() for message in messages)
            self._packets.append((now, source.index, target.index, kinds, bytes_, fate))

    def stream(
        self,
        now: Micros,
        source: Host,
        target: Host,
        said: Ping | Ack | PushPull,
        bytes_: int,
        fate: Fate,
    ) -> None:
        """Note one side of a stream exchange."""
        what = "push/pull" if isinstance(said, PushPull) else type(said).__name__.lower()
        kind = f"stream {what}"
        if self.counts_messages:
            self._count(source.index, kind, fate, bytes_)
        if self.keeps_packets:
            self._packets.append((now, source.index, target.index, kind, bytes_, fate))

    def _count(self, owner: int, kind: str, fate: Fate, bytes_: int) -> None:
        tally = self._tallies[owner, kind, fate]
        tally[0] += 1
        tally[1] += bytes_

    # --- frames --------------------------------------------------------------------------

    def events(self) -> pd.DataFrame:
        """One row an event: time_s, observer, event, member, incarnation, source.

        ``source`` is the accuser, or the member itself when it spoke for itself.
        """
        self._need("events")
        rows = []
        for now, index, event in self._events:
            observer = self.hosts[index].name
            rows.append((now / SECOND, observer, KINDS[type(event)], *subject(event, observer)))
        names = ["time_s", "observer", "event", "member", "incarnation", "source"]
        return pd.DataFrame(rows, columns=names)

    def lives(self) -> pd.DataFrame:
        """One row a process: node, began_s, ended_s (NaN while it runs)."""
        rows: list[tuple[str, float, float]] = []
        running: dict[int, float] = {}
        for now, index, begins in self._lives:
            if begins:
                running[index] = now / SECOND
            elif index in running:
                rows.append((self.hosts[index].name, running.pop(index), now / SECOND))
        rows += [(self.hosts[i].name, began, float("nan")) for i, began in running.items()]
        return pd.DataFrame(rows, columns=["node", "began_s", "ended_s"])

    def health(self) -> pd.DataFrame:
        """One row for each change of a local health score: time_s, node, score (0 is healthy)."""
        self._need("health")
        rows = [(now / SECOND, self.hosts[i].name, score) for now, i, score in self._health]
        return pd.DataFrame(rows, columns=["time_s", "node", "score"])

    def messages(self) -> pd.DataFrame:
        """Counts by node and kind: node, kind, fate, messages, bytes.

        Bytes of a message leave out the envelope. The kind ``packet`` counts whole datagrams
        with it, without IP and UDP headers; kinds that begin with ``stream`` went over one.
        """
        self._need("messages")
        rows = [
            (self.hosts[index].name, kind, fate, count, bytes_)
            for (index, kind, fate), (count, bytes_) in sorted(self._tallies.items())
        ]
        return pd.DataFrame(rows, columns=["node", "kind", "fate", "messages", "bytes"])

    def serf(self) -> pd.DataFrame:
        """One row for each event of Serf's layer: time_s, observer, event, subject, number, detail.

        ``subject`` is the member, or the name of the event or query; ``number`` its Lamport time,
        or the owner's number of the request.
        """
        self._need("serf")
        rows = []
        for now, index, event in self._serf:
            observer = self.hosts[index].name
            told = subject(event, observer)
            rows.append((now / SECOND, observer, SERF_KINDS[type(event)], *told))
        names = ["time_s", "observer", "event", "subject", "number", "detail"]
        return pd.DataFrame(rows, columns=names)

    def packets(self) -> pd.DataFrame:
        """One row for each fate of each packet: time_s, source, target, kinds, bytes, fate."""
        self._need("packets")
        rows = [
            (now / SECOND, self.hosts[source].name, self.hosts[target].name, kinds, bytes_, fate)
            for now, source, target, kinds, bytes_, fate in self._packets
        ]
        names = ["time_s", "source", "target", "kinds", "bytes", "fate"]
        return pd.DataFrame(rows, columns=names)

    def frames(self) -> dict[Column, pd.DataFrame]:
        """Every recorded frame by name."""
        makers = {
            "events": self.events,
            "health": self.health,
            "messages": self.messages,
            "packets": self.packets,
            "serf": self.serf,
        }
        return {column: makers[column]() for column in COLUMNS if column in self.record}

    def copy(self, hosts: list[Host]) -> Trace:
        """The same past, for a branch with its own hosts."""
        twin = Trace(hosts, self.record)
        twin.rolling = self.rolling
        twin._events, twin._health = list(self._events), list(self._health)
        twin._serf = list(self._serf)
        twin._packets, twin._lives = list(self._packets), list(self._lives)
        for key, tally in self._tallies.items():
            twin._tallies[key] = list(tally)
        return twin

    def _need(self, column: Column) -> None:
        if column not in self.record:
            raise ValueError(f"{column} were not recorded; ask for record=({column!r},)")
