"""Inspectors: observers that are shown every step, and count what no event tells.

As ``checks.py`` they follow the definitions of spec experiments.md, section 0, and have no part
in the run. Put one in ``Cluster.inspectors`` when counting is to begin.
"""

from __future__ import annotations

from collections.abc import Callable

from backends.sim.checks import Inspector, Observer
from backends.sim.host import Host
from swimsim.effects import Effect, Event, Send
from swimsim.inputs import Input, Received
from swimsim.messages import Ack, IndirectPing, Message, Nack, Ping
from swimsim.node import Node
from swimsim.terms import Micros, NodeId


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
