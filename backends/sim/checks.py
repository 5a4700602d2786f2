"""Observers from outside: they watch a cluster and know what no node can know.

An observer is told of every event that a node reports, of packets that find no process, and
of processes that end and begin. It has no part in the run, so a run is the same with it and
without it. The definitions are those of spec experiments.md, section 0; times are instants of
the simulated clock, in microseconds.

What happens all the time is dearer to be told of, and has lists of its own. A ``Tap`` hears of
every packet that is sent (``Cluster.taps``). An ``Inspector`` is shown every step of every
node, off which can be read what is not an event: a probe that failed, a packet that brought
old news (``Cluster.inspectors``; see ``inspectors.py``).
"""

from __future__ import annotations

from collections.abc import Iterable

from backends.sim.host import Host
from swimsim.effects import Effect, Event, Failed, Left, Suspected
from swimsim.inputs import Input
from swimsim.messages import Message, Ping
from swimsim.node import Node
from swimsim.terms import Micros, NodeId


class Observer:
    """What a cluster tells whoever watches it. By itself it takes note of nothing."""

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """A node on ``host`` reported ``event``."""

    def on_unheard(
        self, now: Micros, source: Host, target: Host, messages: tuple[Message, ...]
    ) -> None:
        """``source`` sent a packet to a host on which no process runs."""

    def on_down(self, now: Micros, host: Host) -> None:
        """The process on ``host`` has ended."""

    def on_up(self, now: Micros, host: Host) -> None:
        """A new process begins on ``host``."""


class Tap:
    """What a cluster tells whoever wants to know of every packet."""

    def on_sent(
        self, now: Micros, source: Host, target: Host, messages: tuple[Message, ...]
    ) -> None:
        """``source`` hands a packet for ``target`` to the network."""


class Inspector:
    """What a cluster shows whoever wants to see every step of every node."""

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """``input`` made ``host.node`` of ``before``, and asked for ``effects``."""


class Detection(Observer):
    """How the end of one process becomes known to those that live.

    ``first_suspicion``, ``first_detection`` and ``full`` are the instants at which somebody
    suspected the victim, somebody declared it dead (or heard its farewell), and the last
    witness knew. Witnesses that die themselves are not waited for.
    """

    def __init__(self, victim: NodeId, witnesses: Iterable[NodeId], ended: Micros) -> None:
        self.victim = victim
        self.ended = ended
        self.waiting = set(witnesses) - {victim}  # those who do not know yet
        self.witnesses = len(self.waiting)
        self.left = False  # somebody heard a farewell
        self.first_ping: Micros | None = None  # sent to the victim in vain
        self.first_suspicion: Micros | None = None
        self.first_detection: Micros | None = None
        self.full: Micros | None = None
        self.known_at: dict[NodeId, Micros] = {}

    @property
    def done(self) -> bool:
        """Whether everybody knows."""
        return not self.waiting

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of suspicions and verdicts about the victim."""
        if isinstance(event, Suspected) and event.node == self.victim:
            if self.first_suspicion is None:
                self.first_suspicion = now
        elif isinstance(event, Failed | Left) and event.node == self.victim:
            if host.name == self.victim:
                return
            if self.first_detection is None:
                self.first_detection = now
            self.left = self.left or isinstance(event, Left)
            self.known_at.setdefault(host.name, now)
            self._no_longer_waits_for(now, host.name)

    def on_unheard(
        self, now: Micros, source: Host, target: Host, messages: tuple[Message, ...]
    ) -> None:
        """Take note of the first ping that the victim does not hear."""
        if self.first_ping is None and target.name == self.victim:
            if any(isinstance(message, Ping) for message in messages):
                self.first_ping = now

    def on_down(self, now: Micros, host: Host) -> None:
        """Wait for a witness no longer once it is dead itself."""
        self._no_longer_waits_for(now, host.name)

    def _no_longer_waits_for(self, now: Micros, witness: NodeId) -> None:
        if witness in self.waiting:
            self.waiting.discard(witness)
            if not self.waiting and self.full is None:
                self.full = now


class Deaths(Observer):
    """One ``Detection`` for each process that ends, however it does."""

    def __init__(self, running: Iterable[NodeId]) -> None:
        self.running = set(running)
        self.found: list[Detection] = []  # in the order of the deaths
        self._open: dict[NodeId, Detection] = {}

    @property
    def done(self) -> bool:
        """Whether everybody knows of every death so far, save of those who are back."""
        return all(detection.done for detection in self._open.values())

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Pass on what is said of the dead."""
        if isinstance(event, Suspected | Failed | Left) and event.node in self._open:
            self._open[event.node].on_event(now, host, event)
        elif isinstance(event, Left) and event.node == host.name:
            self._begin(now, host)  # a farewell spreads before the process ends

    def on_unheard(
        self, now: Micros, source: Host, target: Host, messages: tuple[Message, ...]
    ) -> None:
        """Pass on which pings the dead do not hear."""
        if target.name in self._open:
            self._open[target.name].on_unheard(now, source, target, messages)

    def on_down(self, now: Micros, host: Host) -> None:
        """Begin to watch how this death becomes known."""
        self.running.discard(host.name)
        for detection in self._open.values():
            detection.on_down(now, host)
        if host.name not in self._open:
            self._begin(now, host)

    def on_up(self, now: Micros, host: Host) -> None:
        """Stop watching for the death of somebody who is back."""
        self.running.add(host.name)
        self._open.pop(host.name, None)

    def _begin(self, now: Micros, host: Host) -> None:
        detection = Detection(host.name, self.running, now)
        self._open[host.name] = detection
        self.found.append(detection)


class FalsePositives(Observer):
    """Verdicts of death about a member whose process has run ever since the watch began.

    One entry for each observer and verdict, as Lifeguard counts them; ``excused`` are members
    that are hindered on purpose.
    """

    def __init__(self, excused: Iterable[NodeId] = ()) -> None:
        self.excused = set(excused)
        self.found: list[tuple[Micros, NodeId, NodeId]] = []  # when, observer, subject

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of a verdict about somebody who lives."""
        if isinstance(event, Failed) and event.node not in self.excused:
            self.found.append((now, host.name, event.node))

    def on_down(self, now: Micros, host: Host) -> None:
        """Whoever has died once is no longer wronged."""
        self.excused.add(host.name)
