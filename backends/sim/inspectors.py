"""Inspectors: observers that are shown every step, and count what no event tells.

As ``checks.py`` they follow the definitions of spec experiments.md, section 0, and have no part
in the run. Put one in ``Cluster.inspectors`` when counting is to begin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from backends.sim.checks import Inspector, Observer
from backends.sim.host import Host
from swimsim.effects import Effect, Emit, Event, Failed, Joined, Refuted, Send, Suspected
from swimsim.inputs import Input, ProbeTick, Received
from swimsim.messages import Ack, IndirectPing, Message, Nack, Ping
from swimsim.node import Node
from swimsim.terms import SECOND, Incarnation, Micros, NodeId

FLAP: Micros = 60 * SECOND  # Serf's FlapTimeout


class Infection(Observer, Inspector):
    """How one piece of news spreads: when each node first had it, and at what cost.

    ``carries`` recognises the news in a message, ``tells`` in an event. News that a push/pull
    brings comes without a packet and counts as well. Put it both in ``observers`` and in
    ``inspectors``.
    """

    def __init__(
        self, carries: Callable[[Message], bool], tells: Callable[[Event], bool], origin: NodeId
    ) -> None:
        self.carries = carries
        self.tells = tells
        self.origin = origin
        self.known_at: dict[NodeId, Micros] = {}  # when each node learned of it, the origin too
        self.packets = 0  # handed to the network that hold the news and nothing but news
        self.rides = 0  # pings and acks that the news rode on
        self.copies = 0  # copies that reached a process, the first to each included

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of who knows from now on."""
        if self.tells(event):
            self.known_at.setdefault(host.name, now)

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Count the copies that come in and go out."""
        carries = self.carries
        if type(input) is Received:
            for message in input.messages:
                self.copies += carries(message)
        for effect in effects:
            if type(effect) is Send and any(map(carries, effect.messages)):
                if isinstance(effect.messages[0], Ping | IndirectPing | Ack | Nack):
                    self.rides += 1
                else:
                    self.packets += 1


class Mistakes(Observer, Inspector):
    """What a group of live members wrongly believes of each other.

    Every count begins when the watch does. Nobody may die meanwhile: whoever is said to be dead
    is wronged. Put it both in ``observers`` and in ``inspectors``.
    """

    def __init__(self, began: Micros) -> None:
        self.began = began
        self.rounds = 0  # probe rounds begun
        self.failed_probes = 0
        self.suspicions = 0  # raised after a failed probe of one's own
        self.false_positives = 0  # one for each observer and verdict, as Lifeguard counts
        self.episodes: set[tuple[NodeId, Incarnation]] = set()  # members wrongly declared dead
        self.flaps = 0  # back at the same observer within ``FLAP``
        self.mistakes: list[Micros] = []  # how long each verdict stood, of those withdrawn
        self.refutations: list[Micros] = []  # from the first suspicion to the answer
        self._standing: dict[tuple[NodeId, NodeId], Micros] = {}  # observer, subject: since when
        self._suspected: dict[tuple[NodeId, Incarnation], Micros] = {}

    @property
    def standing(self) -> int:
        """Verdicts that nobody has withdrawn."""
        return len(self._standing)

    def mistaken_time(self, now: Micros) -> Micros:
        """How long verdicts have stood in all, those included that still do."""
        return sum(self.mistakes) + sum(now - since for since in self._standing.values())

    def on_event(self, now: Micros, host: Host, event: Event) -> None:
        """Take note of suspicions, verdicts and their ends."""
        match event:
            case Suspected(node, incarnation):
                self._suspected.setdefault((node, incarnation), now)
            case Failed(node, incarnation):
                self.false_positives += 1
                self.episodes.add((node, incarnation))
                self._standing.setdefault((host.name, node), now)
            case Joined(peer):
                since = self._standing.pop((host.name, peer.name), None)
                if since is not None:
                    self.mistakes.append(now - since)
                    self.flaps += now - since <= FLAP
            case Refuted(incarnation):
                since = self._suspected.get((host.name, incarnation - 1))
                if since is not None:
                    self.refutations.append(now - since)

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Count the rounds that begin, and those whose time is up without an ack."""
        if type(input) is not ProbeTick and type(input) is not Received:
            return
        assert host.node is not None
        old, new = before.probe.round, host.node.probe.round
        if new is not None and (old is None or old.seq_no != new.seq_no):
            self.rounds += 1
        if type(input) is ProbeTick and old is not None and (new is None or new is not old):
            if input.at == before.probe.tick and now >= old.deadline and not old.stream_acked:
                self.failed_probes += 1
                self.suspicions += _raises_suspicion(effects, host.name)


def _raises_suspicion(effects: Iterable[Effect], accuser: NodeId) -> bool:
    return any(
        type(effect) is Emit
        and isinstance(effect.event, Suspected)
        and effect.event.source == accuser
        for effect in effects
    )


class Traffic(Inspector):
    """How many packets each member sends and receives in each period of the group's time."""

    def __init__(self, began: Micros, period: Micros, nodes: int) -> None:
        self.began = began
        self.period = period
        self.sent: Counter[int] = Counter()  # in how many member-periods so many were sent
        self.received: Counter[int] = Counter()
        self._window = 0
        self._sent = [0] * nodes
        self._received = [0] * nodes

    def on_step(
        self, now: Micros, host: Host, before: Node, input: Input, effects: tuple[Effect, ...]
    ) -> None:
        """Count the packets of a step."""
        self.close(now)
        if type(input) is Received:
            self._received[host.index] += 1
        for effect in effects:
            if type(effect) is Send:
                self._sent[host.index] += 1

    def close(self, now: Micros) -> None:
        """Settle the periods that are over; those without a packet count as well."""
        window = (now - self.began) // self.period
        while self._window < window:
            self.sent.update(self._sent)
            self.received.update(self._received)
            self._sent = [0] * len(self._sent)
            self._received = [0] * len(self._received)
            self._window += 1
