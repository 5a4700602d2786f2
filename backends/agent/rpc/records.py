"""What RPC says of members, events, answers, keys and coordinates (spec serf.md, 4.3 and 4.4)."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

from msgspec import Struct

from backends.agent.surface import (
    STATUS_NAMES,
    AgentEvent,
    Answer,
    KeyAction,
    KeyReport,
    MemberEvent,
    MemberKind,
    Question,
    UserMessage,
)
from swimsim.serf.messages import Coordinate, MemberInfo
from swimsim.terms import Address, LamportTime, NodeId

Record: TypeAlias = dict[str, Any]

MEMBER_KINDS = get_args(MemberKind)
VERSIONS = (  # of a member, in the order of its Vsn
    "ProtocolMin",
    "ProtocolMax",
    "ProtocolCur",
    "DelegateMin",
    "DelegateMax",
    "DelegateCur",
)


def status_name(member: MemberInfo) -> str:
    """Its status in a word."""
    return STATUS_NAMES[member.status]


def member_body(member: MemberInfo) -> Record:
    """A member."""
    return {
        "Name": member.name,
        "Addr": member.address.host,
        "Port": member.address.port,
        "Tags": dict(member.tags or ()),
        "Status": status_name(member),
        **dict(zip(VERSIONS, member.vsn.ljust(len(VERSIONS), b"\0"), strict=False)),
    }


def event_record(event: AgentEvent, number: int) -> Record:
    """What a stream says of an event; ``number`` is a query's on this connection."""
    match event:
        case MemberEvent(kind, members):
            return {"Event": kind, "Members": [member_body(each) for each in members]}
        case UserMessage(ltime, name, payload, coalesce):
            said = {"LTime": ltime, "Name": name, "Payload": payload}
            return {"Event": "user", "Coalesce": coalesce, **said}
        case Question(ltime=ltime, name=name, payload=payload):
            said = {"LTime": ltime, "Name": name, "Payload": payload}
            return {"Event": "query", "ID": number, **said}


def answer_record(answer: Answer | None) -> Record:
    """What came back on a query; None: it is over."""
    if answer is None:
        return {"From": "", "Payload": None, "Type": "done"}
    kind = "ack" if answer.is_ack else "response"
    return {"From": answer.source, "Payload": answer.payload, "Type": kind}


def key_body(action: KeyAction, report: KeyReport | None) -> Record:
    """How a key command went; None: it was not even asked."""
    keys = dict(report.keys) if action == "list" and report is not None else None
    return {
        "Keys": keys,
        "Messages": dict(report.messages) if report else {},
        "NumErr": report.errors if report else 0,
        "NumNodes": report.nodes if report else 0,
        "NumResp": report.responses if report else 0,
    }


def coordinate_body(place: Coordinate | None) -> Record:
    """Where a member is, if that is known."""
    if place is None:
        nowhere = {"Adjustment": 0.0, "Error": 0.0, "Height": 0.0, "Vec": None}
        return {"Coord": nowhere, "Ok": False}
    coord = {
        "Adjustment": float(place.adjustment),
        "Error": float(place.error),
        "Height": float(place.height),
        "Vec": [float(each) for each in place.vec],
    }
    return {"Coord": coord, "Ok": True}


# --- and the same read again --------------------------------------------------------------------


class IncomingQuery(Struct, frozen=True):
    """A query as a stream shows it; ``query_id`` is good for ``Client.respond``."""

    query_id: int
    ltime: LamportTime
    name: str
    payload: bytes | None


class OtherEvent(Struct, frozen=True):
    """An event that is not known here."""

    record: Record


Incoming: TypeAlias = MemberEvent | UserMessage | IncomingQuery | OtherEvent


def member_of(body: Record) -> MemberInfo:
    """A member."""
    status = body["Status"]
    return MemberInfo(
        NodeId(body["Name"]),
        Address(_bytes(body["Addr"]) or b"", body["Port"]),
        bytes(body[key] for key in VERSIONS),
        STATUS_NAMES.index(status) if status in STATUS_NAMES else 0,
        tuple(sorted((body["Tags"] or {}).items())),
    )


def event_of(record: Record) -> Incoming:
    """An event of a stream."""
    kind: Any = record.get("Event")
    match kind:
        case "user":
            said = record["LTime"], record["Name"], _bytes(record["Payload"])
            return UserMessage(*said, record["Coalesce"])
        case "query":
            said = record["LTime"], record["Name"], _bytes(record["Payload"])
            return IncomingQuery(record["ID"], *said)
        case _ if kind in MEMBER_KINDS:
            return MemberEvent(kind, tuple(member_of(each) for each in record["Members"] or ()))
        case _:
            return OtherEvent(record)


def answer_of(record: Record) -> Answer:
    """An ack or an answer to a query."""
    return Answer(record["From"], _bytes(record["Payload"]), record["Type"] == "ack")


def report_of(body: Record, error: str) -> KeyReport:
    """How a key command went."""
    nodes, responses, errors = (body.get(key, 0) for key in ("NumNodes", "NumResp", "NumErr"))
    messages, keys = body.get("Messages") or {}, body.get("Keys") or {}
    return KeyReport(nodes, responses, errors, messages, keys, {}, error)


def coordinate_of(body: Record) -> Coordinate | None:
    """Where a member is."""
    if not body["Ok"]:
        return None
    coord = body["Coord"]
    place = coord["Error"], coord["Adjustment"], coord["Height"]
    return Coordinate(tuple(coord["Vec"] or ()), *place)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
