"""Sockets: packets in and out over asyncio-dgram, streams in and out over asyncio.

One port number serves both. The transport knows bytes and deadlines; what they mean is the
runtime's business, and what to do about them the node's.

Strangers get no more than they are entitled to: so many connections at once, so much time for
each, so many bytes that wait for their end in all of them together. Who has been answered and
does not take the answer loses the connection at its deadline like everybody else.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias

import asyncio_dgram
from asyncio_dgram.aio import DatagramServer, Protocol

from backends.udp import addresses
from swimsim.messages import Request, Response
from swimsim.terms import SECOND, Address, Micros
from swimsim.wire import Envelope, StreamMessage, WireError, stream

SocketAddress: TypeAlias = tuple[str, int]
OnPacket: TypeAlias = Callable[[bytes, SocketAddress], None]
OnStream: TypeAlias = Callable[[StreamMessage, SocketAddress], Awaitable[Response | None]]
OnError: TypeAlias = Callable[[BaseException], None]
Nonce: TypeAlias = Callable[[], bytes | None]

RECEIVE_BUFFER = 2 * 1024 * 1024  # bytes asked of the kernel
OUTBOX = 4_096  # packets that may wait to be sent; more are dropped
STREAMS_AT_ONCE = 127  # inbound; memberlist refuses the 128th push/pull
STREAMS_HELD = 64 * 1024 * 1024  # bytes of streams that may wait for their end, together
CHUNK = 65_536
AT_ONCE = 64  # datagrams that are taken from a socket before others have their turn
PORT_TRIES = 10
SETTLING = 5  # rounds of the loop in which asyncio closes what it was told to close


class Transport:
    """Listens on one address, for datagrams and for connections; opened once, closed for good."""

    def __init__(
        self,
        envelope: Envelope,
        nonce: Nonce,
        stream_timeout: Micros,
        on_packet: OnPacket,
        on_stream: OnStream,
        on_error: OnError,
        counters: Counter[str],
    ) -> None:
        self.envelope = envelope
        self.nonce = nonce
        self.counters = counters
        self._deadline = stream_timeout / SECOND
        self._on_packet = on_packet
        self._on_stream = on_stream
        self._on_error = on_error
        self._sockets: tuple[socket.socket, ...] = ()
        self._datagrams: DatagramServer | None = None
        self._server: asyncio.Server | None = None
        self._outbox: asyncio.Queue[tuple[bytes, SocketAddress]] = asyncio.Queue(OUTBOX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._inbound: set[asyncio.StreamWriter] = set()
        self._held = 0  # bytes of streams that wait for their end
        self._closed = False

    async def open(self, host: str, port: int) -> SocketAddress:
        """Listen; the address that was bound. Raises OSError, and then leaves nothing open."""
        try:
            place, *_ = await addresses.look_up(host, port)
            listener, packets = self._sockets = _bound(place)
            bound: SocketAddress = listener.getsockname()[:2]
            datagrams = await self._attach(packets)
            self._server = await asyncio.start_server(
                self._on_connection, sock=listener, start_serving=False
            )
            await self._server.start_serving()  # cancelled here, there is a server to be closed
        except BaseException:
            await self.close()
            raise
        self.spawn(self._transmit(datagrams))
        return bound

    async def _attach(self, packets: socket.socket) -> DatagramServer:
        parts = asyncio.Queue[Any](), asyncio.Queue[Any](), asyncio.Event()
        attaching = asyncio.create_task(
            asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Packets(self._take, self._hear, self._on_trouble, *parts), sock=packets
            )
        )
        try:
            await asyncio.shield(attaching)
        finally:  # cut off in the middle, uvloop would keep the socket for good
            attached: Any = (await attaching)[0]
            self._datagrams = DatagramServer(attached, *parts)
        return self._datagrams

    async def close(self) -> None:
        """Close every socket and end every task; again, it does nothing."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        if self._datagrams is not None:
            self._datagrams.close()
        for writer in self._inbound:  # a task that has not begun would not close its own
            writer.transport.abort()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(SETTLING):
            await asyncio.sleep(0)
        if self._server is None:  # opening came to nothing half-way
            for each in self._sockets:
                each.close()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run a task that ends with the transport at the latest."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)

    # --- packets -------------------------------------------------------------------------

    def send(self, data: bytes, to: SocketAddress) -> None:
        """Send a datagram: now, or as soon as the system takes it; drop it when too many wait.

        By way of a task it would be under way a round of the loop later, which is long where many
        nodes share one.
        """
        if self._datagrams is None or self._closed:
            return
        _, packets = self._sockets
        if ":" not in to[0] and packets.family == socket.AF_INET6:
            to = (f"::ffff:{to[0]}", to[1])
        try:
            packets.sendto(data, to)
        except BlockingIOError:
            self._postpone(data, to)
        except OSError:
            self.counters["packets not sent"] += 1
        else:
            self._count(data)

    def _postpone(self, data: bytes, to: SocketAddress) -> None:
        try:
            self._outbox.put_nowait((data, to))
        except asyncio.QueueFull:
            self.counters["packets dropped, outbox full"] += 1

    def _count(self, data: bytes) -> None:
        self.counters["packets sent"] += 1
        self.counters["packet bytes sent"] += len(data)

    async def flush(self) -> None:
        """Wait until what is to be sent has been sent."""
        while not (self._outbox.empty() or self._closed):
            await asyncio.sleep(0)

    async def _transmit(self, datagrams: DatagramServer) -> None:
        while True:
            data, to = await self._outbox.get()
            try:
                await datagrams.send(data, to)
            except asyncio_dgram.TransportClosed:
                return
            self._count(data)

    def hear(self) -> None:
        """Take what has come and lies in the socket."""
        if self._datagrams is not None:
            self._hear()

    def _hear(self) -> None:
        _, packets = self._sockets
        try:
            for _ in range(AT_ONCE):
                if self._closed:
                    return
                self._take(*packets.recvfrom(CHUNK))
        except BlockingIOError:
            pass
        except OSError as error:  # about a packet sent before
            self._on_trouble(error)

    def _on_trouble(self, error: Exception | None) -> None:
        """The socket reports an error, about a packet sent before; None: it is no more."""
        if error is not None:
            self.counters["packets undeliverable"] += 1
        elif not self._closed:
            self._on_error(ConnectionError("the socket for packets was closed"))

    def _take(self, data: bytes, source: Any) -> None:
        self.counters["packets received"] += 1
        self.counters["packet bytes received"] += len(data)
        try:
            self._on_packet(data, (str(source[0]), int(source[1])))
        except Exception as error:  # uvloop would close the socket for it
            self._on_error(error)

    # --- streams -------------------------------------------------------------------------

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Somebody connects: serve it, or turn it away at once."""
        self.counters["streams accepted"] += 1
        if self._closed or len(self._inbound) >= STREAMS_AT_ONCE:
            self.counters["streams refused, too many"] += 1
            writer.transport.abort()
            return
        self._inbound.add(writer)
        self.spawn(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One inbound connection: one request, at most one reply, and both within the deadline."""
        try:
            async with asyncio.timeout(self._deadline):
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()  # until the peer has taken it all
        except TimeoutError:
            self.counters["streams timed out"] += 1
        except OSError:
            self.counters["streams broken"] += 1
        finally:
            writer.transport.abort()
            self._inbound.discard(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer: SocketAddress = writer.get_extra_info("peername")[:2]
        try:
            request = await self._message(reader, stream.accepted(self.envelope), STREAMS_HELD)
        except WireError as error:
            self.counters[f"streams refused, {error.what}"] += 1
            if (complaint := stream.answer(error)) is not None:
                await self._write(writer, complaint, first=False)
                writer.write_eof()
                while await reader.read(CHUNK):  # unread, it would reset the connection,
                    pass  # and the complaint would be lost
            return
        response = await self._on_stream(request, peer)
        if response is not None:
            await self._write(writer, response, first=False)
            self.counters["streams answered"] += 1

    async def exchange(self, to: Address, request: Request, timeout: Micros) -> StreamMessage:
        """Connect, send a request and read the reply.

        Raises TimeoutError when that takes longer than ``timeout``, OSError when the connection
        fails, and ``WireError`` when the reply is none.
        """
        place = addresses.to_socket(to)
        if place is None:
            raise OSError(f"{to} is no address to connect to")
        async with asyncio.timeout(timeout / SECOND):
            reader, writer = await asyncio.open_connection(*place)
            try:
                await self._write(writer, request, first=True)
                return await self._message(reader, stream.connected(self.envelope))
            finally:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _write(
        self, writer: asyncio.StreamWriter, message: StreamMessage, *, first: bool
    ) -> None:
        data = stream.encode(message, self.envelope, first=first, nonce=self.nonce())
        writer.write(data)
        await writer.drain()
        self.counters["stream bytes sent"] += len(data)

    async def _message(
        self, reader: asyncio.StreamReader, decoder: stream.Decoder, most: int | None = None
    ) -> StreamMessage:
        """The message of a stream; ``most``: bytes that all streams may hold until theirs ends."""
        held = 0
        try:
            while data := await reader.read(CHUNK):
                self.counters["stream bytes received"] += len(data)
                held += len(data)
                self._held += len(data)
                if most is not None and self._held > most:
                    raise WireError("too-large", f"all streams hold {self._held} bytes")
                decoder, message = stream.feed(decoder, data)
                if message is not None:
                    for refusal in decoder.refusals:
                        self.counters[f"records refused, {refusal.what}"] += 1
                    return message
        finally:
            self._held -= held
        raise stream.ended(decoder)


class _Packets(Protocol):
    """asyncio-dgram's protocol, except that a packet is handled in the moment it is read.

    It would wait in a queue for a task until the loop's next round; and of each socket, asyncio's
    own loop reads one datagram in a round. Where hundreds of nodes share a loop a round takes
    long. So everything that has come is taken at once, and the answers go out at once: from ping
    to ack is one round, and no node sees a deadline pass before it has heard what came for it.
    """

    def __init__(
        self,
        take: Callable[[bytes, Any], None],
        hear: Callable[[], None],
        on_trouble: Callable[[Exception | None], None],
        *parts: Any,
    ) -> None:
        super().__init__(*parts)
        self._take = take
        self._hear = hear
        self._on_trouble = on_trouble

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, addr)
        self._hear()

    def error_received(self, exc: Exception) -> None:
        self._on_trouble(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None)
        self._on_trouble(None)


def _bound(place: Address) -> tuple[socket.socket, socket.socket]:
    """A socket that listens and one for datagrams, with one port; any free one for port 0."""
    for left in reversed(range(PORT_TRIES)):
        listener = _socket(place, socket.SOCK_STREAM)
        try:
            port = int(listener.getsockname()[1])
            return listener, _socket(place._replace(port=port), socket.SOCK_DGRAM)
        except BaseException as error:
            listener.close()
            if place.port or not left or not isinstance(error, OSError):
                raise
    raise AssertionError


def _socket(place: Address, kind: socket.SocketKind) -> socket.socket:
    """A socket that listens, or is ready for datagrams."""
    bound = socket.socket(socket.AF_INET if len(place.host) == 4 else socket.AF_INET6, kind)
    try:
        bound.setblocking(False)
        if bound.family == socket.AF_INET6:
            with suppress(OSError):  # IPv4 as well, where the system can
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            _widen(bound)
        bound.bind((socket.inet_ntop(bound.family, place.host), place.port))
        if kind == socket.SOCK_STREAM:
            bound.listen(128)
    except BaseException:
        bound.close()
        raise
    return bound


def _widen(packets: socket.socket) -> None:
    """As large a buffer for what arrives as the system grants, up to ``RECEIVE_BUFFER``."""
    size = RECEIVE_BUFFER
    while size > CHUNK:
        try:
            packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        except OSError:
            size //= 2
        else:
            return
