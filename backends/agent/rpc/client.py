"""A client of an agent's RPC, ours or HashiCorp's.

    async with Client("127.0.0.1:7373", auth_key="s3cret") as agent:
        for member in await agent.members(status="alive"):
            print(member.name, status_name(member))
        await agent.event("deploy", b"v1.2")
        async with agent.query("uptime", acks=True) as answers:
            async for answer in answers:
                print(answer.source, answer.payload)

Requests may be made from several tasks; streams, monitors and queries go on beside them. What an
agent refuses is an ``RpcError`` with its words. When the connection ends, whatever waits raises
``ConnectionLostError``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from backends.agent.rpc.addresses import DEFAULT_ADDRESS
from backends.agent.rpc.dial import DialError, dial
from backends.agent.rpc.records import (
    Incoming,
    answer_of,
    coordinate_of,
    event_of,
    member_of,
    report_of,
)
from backends.agent.rpc.wire import MAX_RESPONSE, VERSION, Values, decode, encode
from backends.agent.surface import Answer, KeyAction, KeyReport
from swimsim.serf.messages import Coordinate, MemberInfo
from swimsim.wire.errors import WireError

MAX_ELEMENTS = 1 << 24  # values in one response
CHUNK = 1 << 18
KEY_COMMANDS: Mapping[KeyAction, str] = {
    "install": "install-key",
    "use": "use-key",
    "remove": "remove-key",
    "list": "list-keys",
}
BODILESS = ("Handshake required", "Authentication required", "Unsupported command")
"""Refusals after which no body follows, whatever the command."""

T = TypeVar("T")


class RpcError(Exception):
    """The agent's refusal; ``body`` is what came with it."""

    def __init__(self, text: str, body: Any = None) -> None:
        super().__init__(text)
        self.body = body


class ConnectionLostError(ConnectionError):
    """The agent ended the connection."""

    def __init__(self) -> None:
        super().__init__("client closed")


class Waiting:
    """A request on its way: whether its answer has a body, and who waits for it."""

    def __init__(self, has_body: bool, has_body_on_error: bool) -> None:
        self.has_body = has_body
        self.has_body_on_error = has_body_on_error
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Subscription(Generic[T]):
    """Records of a stream, a monitor or a query as they come; ``async for``, within ``async with``.

    It remembers what nobody has read yet, without limit: to stop reading would stop the
    answers to other requests as well.
    """

    def __init__(self, client: Client, command: str, body: Mapping[str, Any], make: Any) -> None:
        self._client = client
        self._command, self._body, self._make = command, body, make
        self._records: asyncio.Queue[Any] = asyncio.Queue()
        self.seq = 0

    async def __aenter__(self) -> Self:
        self.seq = self._client._next_seq()
        self._client._open[self.seq] = self
        try:
            await self._client._request(self._command, self._body, seq=self.seq)
        except BaseException:
            self._client._open.pop(self.seq, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client._open.pop(self.seq, None)
        if self._command != "query" and not self._client.is_lost:
            with contextlib.suppress(ConnectionLostError, RpcError):
                await self._client._request("stop", {"Stop": self.seq})

    def put(self, record: Any) -> None:
        """Take a record; None is the end of the connection."""
        self._records.put_nowait(record)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        record = await self._records.get()
        if record is None:
            self.put(None)
            raise ConnectionLostError
        if record.get("Type") == "done":
            raise StopAsyncIteration
        made: T = self._make(record)
        return made


class Client:
    """A connection to an agent, from ``async with`` on."""

    def __init__(self, address: str = DEFAULT_ADDRESS, *, auth_key: str = "") -> None:
        self._address = address
        self._auth_key = auth_key
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self._seq = 0
        self._waiting: dict[int, Waiting] = {}
        self._open: dict[int, Subscription[Any]] = {}
        self.is_lost = False

    async def __aenter__(self) -> Self:
        reader, self._writer = await dial(self._address)
        self._listener = asyncio.create_task(self._listen(reader))
        try:
            await self._request("handshake", {"Version": VERSION})
            if self._auth_key:
                await self._request("auth", {"AuthKey": self._auth_key})
        except BaseException as error:
            await self.close()
            if isinstance(error, RpcError | ConnectionLostError):
                raise DialError(str(error)) from None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.close()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    # --- requests ---------------------------------------------------------------------------

    async def members(
        self, *, name: str = "", status: str = "", tags: Mapping[str, str] | None = None
    ) -> list[MemberInfo]:
        """The members whose name, status and tags match these expressions from end to end."""
        filters = {"Name": name, "Status": status, "Tags": dict(tags or {})}
        body = await self._request("members-filtered", filters, has_body=True)
        return [member_of(each) for each in body["Members"] or ()]

    async def event(self, name: str, payload: bytes | None = None, coalesce: bool = True) -> None:
        """Send a user event."""
        said = {"Name": name, "Payload": payload, "Coalesce": coalesce}
        await self._request("event", said)

    def query(
        self,
        name: str,
        payload: bytes | None = None,
        *,
        nodes: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        acks: bool = False,
        relay_factor: int = 0,
        timeout_ns: int = 0,
    ) -> Subscription[Answer]:
        """Ask the cluster; the answers end at the query's deadline."""
        said = {
            "FilterNodes": list(nodes) or None,
            "FilterTags": dict(tags or {}) or None,
            "RequestAck": acks,
            "RelayFactor": relay_factor,
            "Timeout": timeout_ns,
            "Name": name,
            "Payload": payload,
        }
        return Subscription(self, "query", said, answer_of)

    def stream(self, filters: str = "*") -> Subscription[Incoming]:
        """The events that these filters let pass, as Serf's handlers write them."""
        return Subscription(self, "stream", {"Type": filters}, event_of)

    def records(self, filters: str = "*") -> Subscription[dict[str, Any]]:
        """The same as the agent wrote them, its fields by name."""
        return Subscription(self, "stream", {"Type": filters}, dict)

    def monitor(self, level: str = "INFO") -> Subscription[str]:
        """Log lines, those still remembered first."""
        return Subscription(self, "monitor", {"LogLevel": level}, _line)

    async def respond(self, query_id: int, payload: bytes) -> None:
        """Answer a query that a stream has shown."""
        await self._request("respond", {"ID": query_id, "Payload": payload})

    async def join(self, addresses: Sequence[str], replay: bool = False) -> int:
        """Join; how many of the addresses answered."""
        said = {"Existing": list(addresses), "Replay": replay}
        body = await self._request("join", said, has_body=True, has_body_on_error=True)
        joined: int = body["Num"]
        return joined

    async def leave(self) -> None:
        """Have the agent leave and end."""
        await self._request("leave")

    async def force_leave(self, node: str, *, prune: bool = False, force: bool = False) -> None:
        """Make a failed member a left one. ``force`` is for our agent; HashiCorp's ignores it."""
        said = {"Node": node, "Prune": prune, **({"Force": True} if force else {})}
        await self._request("force-leave", said)

    async def set_tags(self, tags: Mapping[str, str], delete: Sequence[str] = ()) -> None:
        """Delete tags of the agent, then set some."""
        await self._request("tags", {"Tags": dict(tags), "DeleteTags": list(delete)})

    async def keys(self, action: KeyAction, key: str = "") -> KeyReport:
        """Have all members install, use, remove or list keys; a failure is in the report."""
        said = None if action == "list" else {"Key": key}
        command = KEY_COMMANDS[action]
        try:
            body = await self._request(command, said, has_body=True, has_body_on_error=True)
        except RpcError as error:
            return report_of(error.body or {}, str(error))
        return report_of(body, "")

    async def stats(self) -> dict[str, dict[str, str]]:
        """The agent's own numbers, by section."""
        body: dict[str, dict[str, str]] = await self._request("stats", has_body=True)
        return body

    async def coordinate(self, node: str) -> Coordinate | None:
        """Where a member is; None: not known."""
        return coordinate_of(await self._request("get-coordinate", {"Node": node}, has_body=True))

    async def why(self, node: str) -> list[str]:
        """Why our agent believes what it believes of a member; HashiCorp's cannot say."""
        body = await self._request("why", {"Node": node}, has_body=True)
        return list(body["Lines"])

    # --- the connection ---------------------------------------------------------------------

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    async def _request(
        self,
        command: str,
        body: Mapping[str, Any] | None = None,
        *,
        has_body: bool = False,
        has_body_on_error: bool = False,
        seq: int = 0,
    ) -> Any:
        if self.is_lost or self._writer is None:
            raise ConnectionLostError
        seq = seq or self._next_seq()
        waiting = self._waiting[seq] = Waiting(has_body, has_body_on_error)
        header = {"Command": command, "Seq": seq}
        try:
            self._writer.write(encode(header) if body is None else encode(header, dict(body)))
            await self._writer.drain()
            return await waiting.answer
        except OSError as error:
            if isinstance(error, ConnectionLostError):
                raise
            raise ConnectionLostError from error

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        values = Values(MAX_RESPONSE, MAX_ELEMENTS)
        try:
            while True:
                header = await _value(reader, values)
                await self._take(header["Seq"], header["Error"], reader, values)
        except (EOFError, OSError, WireError, KeyError, TypeError, AttributeError):
            pass  # it is gone, or is no agent
        finally:
            self._lose()

    async def _take(
        self, seq: int, error: str, reader: asyncio.StreamReader, values: Values
    ) -> None:
        """One answer or record."""
        waiting = self._waiting.get(seq)
        if waiting is None:
            subscription = self._open.get(seq)
            if error:  # a second refusal of one request: its unread body was taken for another
                return
            record = await _value(reader, values)
            if subscription is not None:
                subscription.put(record)
            return
        has_body = waiting.has_body
        if error:
            has_body = waiting.has_body_on_error and error not in BODILESS
        body = await _value(reader, values) if has_body else None
        del self._waiting[seq]
        if waiting.answer.done():  # who asked has gone
            return
        if error:
            waiting.answer.set_exception(RpcError(error, body))
        else:
            waiting.answer.set_result(body)

    def _lose(self) -> None:
        self.is_lost = True
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(ConnectionLostError())
        for subscription in self._open.values():
            subscription.put(None)
        if self._writer is not None:
            self._writer.close()


async def _value(reader: asyncio.StreamReader, values: Values) -> Any:
    while (value := values.take()) is None:
        data = await reader.read(CHUNK)
        if not data:
            raise EOFError
        values.feed(data)
    return decode(value)


def _line(record: Mapping[str, Any]) -> str:
    return str(record["Log"])
