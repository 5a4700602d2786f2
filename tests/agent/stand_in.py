"""An agent that only pretends: it answers as it was told, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from backends.agent.surface import (
    STATUS_NAMES,
    AgentError,
    AgentEvent,
    Answer,
    KeyReport,
    MemberEvent,
    QueryRequest,
    Question,
    UserMessage,
)
from swimsim.serf.messages import Coordinate, MemberInfo
from swimsim.terms import Address, NodeId

VECTORS = Path(__file__).parents[1] / "vectors"
FAR = float("inf")


class Feed:
    """What is put into it, until it is closed; an iterator as streams and monitors are."""

    def __init__(self, *items: Any, ends: bool = False) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.is_closed = False
        for item in items:
            self._items.put_nowait(item)
        if ends:
            self._items.put_nowait(None)

    def put(self, item: Any) -> None:
        self._items.put_nowait(item)

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Any:
        item = await self._items.get()
        if item is None:
            raise StopAsyncIteration
        return item

    def close(self) -> None:
        self.is_closed = True
        self._items.put_nowait(None)


class StandIn:
    """A ``Surface``. ``refusals`` are raised by the method of that name."""

    def __init__(self, name: str = "alpha") -> None:
        self.name = name
        self.refusals: dict[str, str] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.known: list[MemberInfo] = []
        self.joined = 1
        self.report = KeyReport(1, 1, 0, {}, {}, {}, "")
        self.sections: dict[str, dict[str, str]] = {}
        self.places: dict[str, Coordinate] = {}
        self.events: list[AgentEvent] = []
        self.answers: list[Answer] = []
        self.lines: list[str] = []
        self.logged: list[str] = []
        self.feeds: list[Feed] = []
        self.has_ended = asyncio.Event()
        self.hold: asyncio.Event | None = None  # what ``leave`` and ``join`` wait for

    def _note(self, verb: str, *words: Any) -> None:
        self.asked.append((verb, *words))
        if verb in self.refusals:
            raise AgentError(self.refusals[verb])

    def _feed(self, *items: Any, ends: bool = False) -> Feed:
        self.feeds.append(Feed(*items, ends=ends))
        return self.feeds[-1]

    def members(self) -> Sequence[MemberInfo]:
        return self.known

    def event(self, name: str, payload: bytes | None, coalesce: bool) -> None:
        self._note("event", name, payload, coalesce)

    def query(self, request: QueryRequest) -> Feed:
        self._note("query", request)
        return self._feed(*self.answers, ends=True)

    def respond(self, ltime: int, query_id: int, payload: bytes) -> None:
        self._note("respond", ltime, query_id, payload)

    async def join(self, addresses: Sequence[str], replay: bool) -> int:
        self._note("join", tuple(addresses), replay)
        if self.hold is not None:
            await self.hold.wait()
        return self.joined

    async def leave(self) -> None:
        self._note("leave")
        if self.hold is not None:
            await self.hold.wait()

    def shutdown(self) -> None:
        self.has_ended.set()

    async def force_leave(self, node: str, prune: bool, force: bool = False) -> None:
        self._note("force_leave", node, prune, force)

    def tags(self) -> Mapping[str, str]:
        return {}

    async def set_tags(self, tags: Mapping[str, str], delete: Sequence[str]) -> None:
        self._note("set_tags", dict(tags), tuple(delete))

    async def keys(self, action: str, key: str = "") -> KeyReport:
        self._note("keys", action, key)
        return self.report

    def stats(self) -> Mapping[str, Mapping[str, str]]:
        return self.sections

    def coordinate(self, node: str) -> Coordinate | None:
        return self.places.get(node)

    def stream(self, filters: str) -> Feed:
        self._note("stream", filters)
        return self._feed(*self.events)

    def monitor(self, level: str) -> Feed:
        self._note("monitor", level)
        return self._feed(*self.lines)

    def why(self, member: str) -> Sequence[str]:
        self._note("why", member)
        return [f"{member} is alive"]

    def log(self, level: str, text: str) -> None:
        self.logged.append(f"[{level}] {text}")

    def count(self, key: str, amount: float = 1) -> None:
        pass

    def sample(self, key: str, value: float) -> None:
        pass


def info(name: str, status: str = "alive", port: int = 7946, **tags: str) -> MemberInfo:
    """A member, on loopback."""
    address = Address(b"\x7f\0\0\1", port)
    number = STATUS_NAMES.index(status)
    return MemberInfo(NodeId(name), address, b"\1\5\2\2\5\5", number, tuple(sorted(tags.items())))


# --- the recorded conversations as what a stand-in has to say ----------------------------------


@cache
def conversations() -> dict[str, dict[str, Any]]:
    """What clients and real agents said to each other, by file and name."""
    return {
        f"{path.stem.removeprefix('rpc-')}:{vector['name']}": vector
        for path in sorted(VECTORS.glob("rpc-*.json"))
        for vector in json.loads(path.read_text(encoding="utf-8"))["vectors"]
    }


def stand_in(vector: Mapping[str, Any], others: Sequence[MemberInfo] = ()) -> StandIn:
    """An agent that would have said what the real one did.

    ``others`` are members that a filter has kept out of the answers.
    """
    agent = StandIn()
    for exchange in vector["fields"]["exchanges"]:
        command = exchange["request"]["header"]["Command"]
        _teach(agent, command, exchange.get("request").get("body"), exchange["responses"])
    if any(verb in vector["name"] for verb in ("filtered", "left", "large", "fields")):
        known = {each.name for each in agent.known}
        agent.known += [each for each in others if each.name not in known]
    return agent


METHODS = {
    "tags": "set_tags",
    "force-leave": "force_leave",
    **dict.fromkeys(("install-key", "use-key", "remove-key", "list-keys"), "keys"),
}


def _teach(agent: StandIn, command: str, asked: Any, responses: Sequence[Any]) -> None:
    if not responses:
        return
    error = responses[0]["header"]["Error"]
    body = responses[0].get("body")
    records = [each["body"] for each in responses[1:] if "body" in each]
    match command:
        case "members" | "members-filtered" if not error:
            agent.known = [member(each) for each in body["Members"]]
        case "stats":
            agent.sections = body
        case "get-coordinate" if body["Ok"]:
            coord = body["Coord"]
            place = (coord["Error"], coord["Adjustment"], coord["Height"])
            agent.places[asked["Node"]] = Coordinate(tuple(coord["Vec"]), *place)
        case "query":
            agent.answers = [answer(each) for each in records[:-1]]
        case "stream" if not agent.events:
            agent.events = [event(each) for each in records]
        case "monitor" if not agent.lines:
            agent.lines = [each["Log"] for each in records]
        case "join" if not error:
            agent.joined = body["Num"]
        case "install-key" | "use-key" | "remove-key" | "list-keys" if body["NumNodes"]:
            counts = (body["NumNodes"], body["NumResp"], body["NumErr"])
            agent.report = KeyReport(*counts, body["Messages"], body["Keys"] or {}, {}, error)
            return
    of_the_server = ("No pending", "Stream with", "Monitor", "Handshake", "Auth", "Unsupp")
    if error and not error.startswith(of_the_server):
        agent.refusals[METHODS.get(command, command)] = error


def member(body: Mapping[str, Any]) -> MemberInfo:
    order = ("ProtocolMin", "ProtocolMax", "ProtocolCur")
    vsn = bytes(body[key] for key in (*order, "DelegateMin", "DelegateMax", "DelegateCur"))
    address = Address(bytes.fromhex(body["Addr"]["hex"]), body["Port"])
    status = STATUS_NAMES.index(body["Status"])
    return MemberInfo(NodeId(body["Name"]), address, vsn, status, tuple(body["Tags"].items()))


def answer(body: Mapping[str, Any]) -> Answer:
    return Answer(body["From"], raw(body["Payload"]), body["Type"] == "ack")


def event(body: Mapping[str, Any]) -> AgentEvent:
    match body["Event"]:
        case "user":
            said = body["LTime"], body["Name"], raw(body["Payload"]), body["Coalesce"]
            return UserMessage(*said)
        case "query":
            return Question(body["LTime"], 7, body["Name"], raw(body["Payload"]), FAR)
        case kind:
            return MemberEvent(kind, tuple(map(member, body["Members"])))


def raw(value: Mapping[str, str] | str | None) -> bytes | None:
    if value is None or isinstance(value, str):
        return None if value is None else value.encode()
    return bytes.fromhex(value["hex"])
