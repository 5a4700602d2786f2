"""The simulated twin of a TCP stream that carries one request and at most one reply.

Four flights: the handshake there and back, the request, the reply. Each takes a one-way delay
(and its share of the bandwidth), may be lost and is then sent again, after 1 s doubling for
the handshake and after 200 ms doubling for data, as a kernel would. A cut holds flights up
the same way, and the exchange fails when its time is out. A machine on which nothing listens
refuses at once; a process that is blocked or stopped still gets its connection from the
kernel, and the request waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from backends.sim.clock import Callback, Clock
from backends.sim.codec import over_stream
from backends.sim.host import Host
from backends.sim.network import Fabric
from backends.sim.trace import Fate, Trace
from swimsim.effects import Exchange
from swimsim.inputs import Exchanged, ExchangeFailed, ExchangeRequested
from swimsim.messages import Ack, PushPull, Request, Response, size
from swimsim.terms import MS, SECOND, Address, Micros

Flight: TypeAlias = Literal["syn", "syn-ack", "refusal", "request", "reply", "close"]

SEGMENT = 40  # bytes of a segment without data, IPv4 and TCP headers
RETRY_HANDSHAKE: Micros = 1 * SECOND
RETRY_DATA: Micros = 200 * MS
SERVED_AT_ONCE = 127  # memberlist refuses the 128th push/pull at the same time


class Connection(Struct, frozen=True, gc=False):
    """One exchange under way."""

    client: int  # host index
    client_life: int
    exchange: int  # the client's name for it
    server: int  # host index
    server_life: int  # of the process that accepted it; 0 before
    request: Request
    response: Response | None = None
    served: bool = False  # the server has the request and has not answered it


class Attempt(Struct, frozen=True, gc=False):
    """One flight of one connection, sent for the ``tries``-th time."""

    connection: int
    flight: Flight
    tries: int = 0


class Streams:
    """All exchanges under way. ``deliver`` hands an input to a host."""

    def __init__(
        self,
        env: Clock,
        hosts: list[Host],
        host_at: Callable[[Address], Host | None],
        fabric: Fabric,
        deliver: Callback,
        trace: Trace,
        wire: bool = False,
    ) -> None:
        self.env = env
        self.hosts = hosts
        self.host_at = host_at
        self.fabric = fabric
        self.deliver = deliver
        self.trace = trace
        self.wire = wire
        self.on_flight = self._on_flight
        self.on_retry = self._on_retry
        self.on_timeout = self._on_timeout
        self.open: dict[int, Connection] = {}
        self.opened = 0

    def begin(self, client: Host, effect: Exchange) -> None:
        """Connect, and send the request once that has worked."""
        server = self.host_at(effect.to)
        if server is None:
            failed = ExchangeFailed(effect.exchange, f"no route to {effect.to}")
            self.env.later(0, self.deliver, client, failed)
            return
        self.opened += 1
        request = over_stream(effect.request) if self.wire else effect.request
        self.open[self.opened] = Connection(
            client.index, client.life, effect.exchange, server.index, 0, request
        )
        self.env.later(effect.timeout, self.on_timeout, client, self.opened)
        self._send(Attempt(self.opened, "syn"))

    def reply(self, connection: int, response: Response | None) -> None:
        """Send the server's answer, or close without one."""
        known = self.open.get(connection)
        if known is None:  # the client has given up
            return
        if self.wire and response is not None:
            response = over_stream(response)
        self.open[connection] = replace(known, response=response, served=False)
        self._send(Attempt(connection, "close" if response is None else "reply"))

    def reset(self, host: Host) -> None:
        """The process on ``host`` has ended: its kernel resets what was open."""
        for name, connection in list(self.open.items()):
            if connection.client == host.index and connection.client_life == host.life:
                del self.open[name]
            elif connection.server == host.index and connection.server_life == host.life:
                self._send(Attempt(name, "refusal"))

    def _send(self, attempt: Attempt) -> None:
        connection = self.open.get(attempt.connection)
        if connection is None:
            return
        client, server = self.hosts[connection.client], self.hosts[connection.server]
        forth = attempt.flight in ("syn", "request")
        source, target = (client, server) if forth else (server, client)
        bytes_ = _bytes(attempt.flight, connection)
        delay = self.fabric.carry_segment(self.env.micros, source.index, target.index, bytes_)
        if self.trace.watches_packets:
            self._note(attempt.flight, connection, source, target, bytes_, lost=delay is None)
        if delay is not None:
            self.env.later(delay, self.on_flight, target, attempt)
            return
        first = RETRY_DATA if attempt.flight in ("request", "reply") else RETRY_HANDSHAKE
        again = replace(attempt, tries=attempt.tries + 1)
        self.env.later(first << min(attempt.tries, 16), self.on_retry, source, again)

    def _note(
        self,
        flight: Flight,
        connection: Connection,
        source: Host,
        target: Host,
        bytes_: int,
        *,
        lost: bool,
    ) -> None:
        said = connection.request if flight == "request" else connection.response
        if flight in ("request", "reply") and said is not None:
            fates: tuple[Fate, ...] = ("sent", "lost") if lost else ("sent",)
            for fate in fates:
                self.trace.stream(self.env.micros, source, target, said, bytes_ - SEGMENT, fate)

    def _on_retry(self, source: Host, attempt: Attempt, life: int) -> None:
        self._send(attempt)

    def _on_flight(self, target: Host, attempt: Attempt, life: int) -> None:
        connection = self.open.get(attempt.connection)
        if connection is None:
            return
        client, server = self.hosts[connection.client], self.hosts[connection.server]
        match attempt.flight:
            case "syn":
                listening = server.node is not None
                self.open[attempt.connection] = replace(connection, server_life=server.life)
                self._send(Attempt(attempt.connection, "syn-ack" if listening else "refusal"))
            case "syn-ack":
                self._send(Attempt(attempt.connection, "request"))
            case "request":
                self._on_request(attempt.connection, connection, client, server)
            case "reply":
                assert connection.response is not None
                answer = Exchanged(connection.exchange, connection.response)
                self._end(attempt.connection, connection, answer)
            case "refusal" | "close":
                reason = f"{attempt.flight} by {server.address}"
                failed = ExchangeFailed(connection.exchange, reason)
                self._end(attempt.connection, connection, failed)

    def _on_request(self, name: int, connection: Connection, client: Host, server: Host) -> None:
        if server.life != connection.server_life or server.node is None:
            self._send(Attempt(name, "refusal"))
            return
        at_once = sum(
            other.served
            and (other.server, other.server_life) == (server.index, server.life)
            and isinstance(other.request, PushPull)
            for other in self.open.values()
        )
        if isinstance(connection.request, PushPull) and at_once >= SERVED_AT_ONCE:
            self._send(Attempt(name, "close"))
            return
        self.open[name] = replace(connection, served=True)
        requested = ExchangeRequested(name, client.address, connection.request)
        self.env.later(0, self.deliver, server, requested)

    def _on_timeout(self, client: Host, name: int, life: int) -> None:
        connection = self.open.get(name)
        if connection is not None:
            self._end(name, connection, ExchangeFailed(connection.exchange, "timed out"))

    def _end(self, name: int, connection: Connection, answer: Exchanged | ExchangeFailed) -> None:
        del self.open[name]
        client = self.hosts[connection.client]
        if client.life == connection.client_life:
            self.env.later(0, self.deliver, client, answer)


def _bytes(flight: Flight, connection: Connection) -> int:
    """Bytes of one flight; a long one is not split, its time on the link is that of the whole."""
    if flight == "request":
        return SEGMENT + size(connection.request)
    if flight == "reply" and isinstance(connection.response, Ack | PushPull):
        return SEGMENT + size(connection.response)
    return SEGMENT
