"""One client of the RPC server: its requests, one after another (spec serf.md, 4.2 to 4.4).

A request is read, carried out to its end and answered before the next one is read; only the
records of streams, monitors and queries come in between. Clients rely on what Serf does beyond
that, so it is done here, too:

- The header is remembered: a field that a request leaves out is that of the request before.
- Before authentication nothing is known of a command's body. It stays unread, is then taken for
  the next request, and is refused in the same words.
- A refusal is an answer, after which the connection goes on; but ``Handshake required``,
  ``Unsupported command`` and an expression that is none end it, the last without a word.
- join and the key commands have a body even when they fail.

Nothing a client sends raises out of ``Session.run``: it is answered, or the connection ends.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from backends.agent.rpc.records import (
    answer_record,
    coordinate_body,
    event_record,
    key_body,
    member_body,
    status_name,
)
from backends.agent.rpc.wire import BODIES, HEADER, MAX_REQUEST, VERSION, Values, encode
from backends.agent.surface import AgentError, KeyAction, QueryRequest, Question, Surface
from swimsim.serf.messages import MemberInfo
from swimsim.serf.patterns import PatternError, whole
from swimsim.wire.errors import WireError
from swimsim.wire.msgpack import read

MAX_STREAMS = 128  # streams, monitors and queries of one client
MAX_QUESTIONS = 4096  # queries that one client has not answered; the oldest go first
CHUNK = 65_536
BEFORE_HANDSHAKE = ("handshake",)
BEFORE_AUTH = ("handshake", "auth")


class HangUpError(Exception):
    """The connection ends; the text, if there is one, is for the log."""


class Closable(Protocol):
    """What a stream reads from, and how it is ended."""

    def close(self) -> None:
        """End it."""


class Session:
    """A client, from its first byte to its last."""

    def __init__(
        self,
        surface: Surface,
        auth_key: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: str,
    ) -> None:
        self.client = client
        self._surface = surface
        self._auth_key = auth_key
        self._reader, self._writer = reader, writer
        self._values = Values(MAX_REQUEST)
        self._command, self._seq = "", 0  # of the header, kept from request to request
        self._shaken = False
        self._trusted = not auth_key
        self._streams: dict[int, Running] = {}
        self._queries: set[Running] = set()
        self._monitor: tuple[int, Running] | None = None
        self._questions: dict[int, Question] = {}
        self._last_question = 0
        self._commands: Mapping[str, Callable[..., Awaitable[None]]] = {
            "handshake": self._handshake,
            "auth": self._auth,
            "event": self._event,
            "force-leave": self._force_leave,
            "join": self._join,
            "members": self._members,
            "members-filtered": self._members,
            "tags": self._tags,
            "stream": self._stream,
            "monitor": self._start_monitor,
            "stop": self._stop,
            "leave": self._leave,
            "query": self._query,
            "respond": self._respond,
            "install-key": self._install_key,
            "use-key": self._use_key,
            "remove-key": self._remove_key,
            "list-keys": self._list_keys,
            "stats": self._stats,
            "get-coordinate": self._coordinate,
            "why": self._why,
        }

    async def run(self) -> None:
        """Serve until the client goes, or has to."""
        try:
            while (request := await self._value()) is not None:
                await self._serve(request)
        except HangUpError as reason:
            if str(reason):
                self._surface.log("ERR", f"agent.ipc: Failed to evaluate request: {reason}")
        except WireError as error:
            text = f"agent.ipc: failed to decode request from {self.client}: {error}"
            self._surface.log("ERR", text)
        except OSError:  # the client is gone
            pass
        finally:
            await self._end()

    async def _end(self) -> None:
        monitors = [self._monitor[1]] if self._monitor else []
        running = [*self._streams.values(), *self._queries, *monitors]
        for each in running:
            each.stop()
        await asyncio.gather(*(each.task for each in running), return_exceptions=True)

    async def _value(self) -> bytes | None:
        """The next value; None when the client has gone."""
        while (value := self._values.take()) is None:
            data = await self._reader.read(CHUNK)
            if not data:
                return None
            self._values.feed(data)
        return value

    # --- one request ---------------------------------------------------------------------

    async def _serve(self, request: bytes) -> None:
        (command, seq), _ = read(HEADER, request)
        self._command = self._command if command is None else command
        self._seq = self._seq if seq is None else seq
        if not self._shaken and self._command not in BEFORE_HANDSHAKE:
            await self._reply("Handshake required")
            raise HangUpError("Handshake required")
        if not self._trusted and self._command not in BEFORE_AUTH:
            self._surface.log("WARN", "agent.ipc: Client sending commands before auth")
            await self._reply("Authentication required")
            return
        if self._command not in BODIES:
            await self._reply("Unsupported command")
            raise HangUpError(f"command {self._command!r} not recognized")
        self._surface.count("agent.ipc.command")
        kind = BODIES[self._command]
        fields: tuple[Any, ...] = ()
        if kind is not None:
            body = await self._value()
            if body is None:
                raise HangUpError("the client left within a request")
            fields = tuple(read(kind, body)[0])
        await self._commands[self._command](*fields)

    async def _send(self, *values: Any) -> None:
        """Send values that belong together; waits while the client does not read."""
        self._writer.write(encode(*values))
        await self._writer.drain()

    async def _reply(self, error: str = "", *body: Any) -> None:
        await self._send({"Error": error, "Seq": self._seq}, *body)

    # --- who is there ----------------------------------------------------------------------

    async def _handshake(self, version: int) -> None:
        if version != VERSION:
            await self._reply("Unsupported IPC version")
        elif self._shaken:
            await self._reply("Handshake already performed")
        else:
            self._shaken = True
            await self._reply()

    async def _auth(self, key: str) -> None:
        given, expected = (
            text.encode("utf-8", "surrogateescape") for text in (key, self._auth_key)
        )
        if not hmac.compare_digest(given, expected):
            await self._reply("Invalid authentication token")
            return
        self._trusted = True
        await self._reply()

    # --- what is asked of the agent ---------------------------------------------------------

    async def _event(self, name: str, payload: bytes | None, coalesce: bool) -> None:
        try:
            self._surface.event(name, payload, coalesce)
        except AgentError as error:
            await self._reply(str(error))
        else:
            await self._reply()

    async def _force_leave(self, node: str, prune: bool, force: bool) -> None:
        await self._done(self._surface.force_leave(node, prune, force))

    async def _done(self, work: Awaitable[None]) -> None:
        try:
            await work
        except AgentError as error:
            await self._reply(str(error))
        else:
            await self._reply()

    async def _join(self, addresses: tuple[str, ...], replay: bool) -> None:
        try:
            joined = await self._surface.join(addresses, replay)
        except AgentError as error:
            await self._reply(str(error), {"Num": 0})
        else:
            await self._reply("", {"Num": joined})

    async def _members(
        self, tags: tuple[tuple[str, str], ...] = (), status: str = "", name: str = ""
    ) -> None:
        try:
            wanted = _filter(tags, status, name)
        except PatternError as error:
            raise HangUpError(f"failed to compile regex: {error}") from None
        found = [member_body(each) for each in self._surface.members() if wanted(each)]
        await self._reply("", {"Members": found})

    async def _tags(self, tags: tuple[tuple[str, str], ...], delete: tuple[str, ...]) -> None:
        await self._done(self._surface.set_tags(dict(tags), delete))

    async def _leave(self) -> None:
        self._surface.log("INFO", "agent.ipc: Graceful leave triggered")
        await self._done(self._surface.leave())
        self._surface.shutdown()
        raise HangUpError

    async def _install_key(self, key: str) -> None:
        await self._keys("install", key)

    async def _use_key(self, key: str) -> None:
        await self._keys("use", key)

    async def _remove_key(self, key: str) -> None:
        await self._keys("remove", key)

    async def _list_keys(self) -> None:
        await self._keys("list")

    async def _keys(self, action: KeyAction, key: str = "") -> None:
        try:
            report = await self._surface.keys(action, key)
        except AgentError as error:
            await self._reply(str(error), key_body(action, None))
        else:
            await self._reply(report.error, key_body(action, report))

    async def _stats(self) -> None:
        sections = {name: dict(values) for name, values in self._surface.stats().items()}
        await self._reply("", sections)

    async def _coordinate(self, node: str) -> None:
        await self._reply("", coordinate_body(self._surface.coordinate(node)))

    async def _why(self, node: str) -> None:
        try:
            lines = self._surface.why(node)
        except AgentError as error:
            await self._reply(str(error))
        else:
            await self._reply("", {"Lines": list(lines)})

    # --- what goes on beside the requests ---------------------------------------------------

    async def _stream(self, filters: str) -> None:
        if self._seq in self._streams:
            await self._reply("Stream with given sequence exists")
            return
        try:
            self._room()
            feed = self._surface.stream(filters)
        except AgentError as error:
            await self._reply(str(error))
            return
        seq = self._seq
        await self._reply()
        self._streams[seq] = Running(feed, self._pump(seq, self._events(feed)))

    async def _events(self, feed: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for event in feed:
            number = self._note(event) if isinstance(event, Question) else 0
            yield event_record(event, number)

    def _note(self, question: Question) -> int:
        """Number a query, so that the client can answer it."""
        now = asyncio.get_running_loop().time()
        oldest = next(iter(self._questions), None)
        while oldest is not None and (
            self._questions[oldest].expires < now or len(self._questions) >= MAX_QUESTIONS
        ):
            del self._questions[oldest]
            oldest = next(iter(self._questions), None)
        self._last_question += 1
        self._questions[self._last_question] = question
        return self._last_question

    async def _respond(self, number: int, payload: bytes | None) -> None:
        question = self._questions.get(number)
        if question is None or question.expires < asyncio.get_running_loop().time():
            await self._reply("No pending queries matching ID")
            return
        try:
            self._surface.respond(question.ltime, question.query_id, payload or b"")
        except AgentError as error:
            await self._reply(str(error))
        else:
            await self._reply()

    async def _start_monitor(self, level: str) -> None:
        if self._monitor is not None:
            await self._reply("Monitor already exists")
            return
        try:
            lines = self._surface.monitor(level)
        except AgentError as error:
            await self._reply(str(error))
            return
        seq = self._seq
        await self._reply()
        self._monitor = seq, Running(lines, self._pump(seq, _log_records(lines)))

    async def _stop(self, seq: int) -> None:
        running = self._streams.pop(seq, None)
        if running is not None:
            running.stop()
        if self._monitor is not None and self._monitor[0] == seq:
            self._monitor[1].stop()
            self._monitor = None
        await self._reply()

    async def _query(
        self,
        nodes: tuple[str, ...],
        tags: tuple[tuple[str, str], ...],
        acks: bool,
        relay_factor: int,
        timeout_ns: int,
        name: str,
        payload: bytes | None,
    ) -> None:
        request = QueryRequest(name, payload, nodes, tags, acks, relay_factor, timeout_ns)
        try:
            self._room()
            answers = self._surface.query(request)
        except AgentError as error:
            await self._reply(str(error))
            return
        seq = self._seq
        await self._reply()
        running = Running(answers, self._pump(seq, _query_records(answers)))
        self._queries.add(running)
        running.task.add_done_callback(lambda _: self._queries.discard(running))

    def _room(self) -> None:
        if len(self._streams) + len(self._queries) >= MAX_STREAMS:
            raise AgentError(f"More than {MAX_STREAMS} streams and queries at a time")

    async def _pump(self, seq: int, records: AsyncIterator[Any]) -> None:
        """Send records as they come, at the client's pace."""
        try:
            async for record in records:
                await self._send({"Error": "", "Seq": seq}, record)
        except OSError:  # the client is gone; whoever reads its requests sees it, too
            pass


class Running:
    """A task that sends records, and what it reads from."""

    def __init__(self, source: Closable, work: Any) -> None:
        self.task: asyncio.Task[None] = asyncio.create_task(work)
        self.task.add_done_callback(lambda _: source.close())

    def stop(self) -> None:
        """End both."""
        self.task.cancel()


async def _log_records(lines: AsyncIterator[str]) -> AsyncIterator[Any]:
    async for line in lines:
        yield {"Log": line}


async def _query_records(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for answer in answers:
        yield answer_record(answer)
    yield answer_record(None)


def _filter(
    tags: tuple[tuple[str, str], ...], status: str, name: str
) -> Callable[[MemberInfo], bool]:
    """Which members these expressions let pass; an empty status or name is no filter."""
    of_status = whole(status) if status else None
    of_name = whole(name) if name else None
    of_tags = [(tag, whole(expression)) for tag, expression in tags]

    def passes(member: MemberInfo) -> bool:
        own = dict(member.tags or ())
        return (
            (of_status is None or of_status.found_in(status_name(member)))
            and (of_name is None or of_name.found_in(member.name))
            and all(wanted.found_in(own.get(tag, "")) for tag, wanted in of_tags)
        )

    return passes
