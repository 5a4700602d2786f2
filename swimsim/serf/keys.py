"""Keys of the whole cluster: install, use, remove, list (spec serf.md, 2.14).

Keys live in the backend's envelope. To change those of every member is an internal query; each
member has its backend do it (``ChangeKeyring``), answers how it went, and the asker adds up.
Changes wait for each other, lists do not.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TypeAlias, get_args

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from swimsim.config import Config
from swimsim.effects import (
    ChangeKeyring,
    Effect,
    Emit,
    KeyReport,
    KeysFinished,
    RequestRefused,
    Then,
)
from swimsim.inputs import (
    Answer,
    AnswerInternal,
    AnswersEnd,
    Ask,
    AskQuery,
    InternalQuery,
    KeyOperation,
    KeyringAnswered,
    ManageKeys,
)
from swimsim.serf.messages import KeyRequest, KeyResponse, QueryResponse
from swimsim.terms import NodeId, RequestId
from swimsim.wire import serf
from swimsim.wire.errors import WireError
from swimsim.wire.keyring import wrong_at

QUERIES: dict[str, KeyOperation] = {
    f"_serf_{operation}-key{'s' if operation == 'list' else ''}": operation
    for operation in get_args(KeyOperation)
}
_NAMES = {operation: name for name, operation in QUERIES.items()}
_LEAST_KEY_SIZE = 25  # bytes of a listed key: base64 of 16 bytes, and its head


class Managing(Struct, frozen=True, gc=False):
    """One ``ManageKeys`` under way, and what was answered so far."""

    request: RequestId
    operation: KeyOperation
    nodes: int
    responses: int = 0
    errors: int = 0
    messages: Map[NodeId, str] = Map()
    keys: Map[str, int] = Map()
    primary_keys: Map[str, int] = Map()


class Keys(Struct, frozen=True, gc=False):
    """What is under way by a number of its own, and the changes that wait for another."""

    begun: int = 0
    running: Map[int, Managing] = Map()
    waiting: tuple[ManageKeys, ...] = ()


Step: TypeAlias = tuple[Keys, tuple[Effect, ...]]


# --- the asker ---------------------------------------------------------------------------


def manage(state: Keys, ask: ManageKeys, nodes: int) -> Step:
    """Ask every member, ``nodes`` of which are alive; refused when the key is no base64."""
    wrong = None if ask.operation == "list" else wrong_at(ask.key)
    if wrong is not None:
        reason = f"illegal base64 data at input byte {wrong}"
        return state, (Emit(RequestRefused(ask.request, reason)),)
    changing = any(each.operation != "list" for each in state.running.values())
    if ask.operation != "list" and changing:
        return replace(state, waiting=(*state.waiting, ask)), ()
    number = state.begun + 1
    managing = Managing(ask.request, ask.operation, nodes)
    state = replace(state, begun=number, running=state.running.set(number, managing))
    key = b"" if ask.operation == "list" else b64decode(ask.key)
    payload = serf.encode(KeyRequest(key))
    return state, (Then(Ask("keys", AskQuery(number, _NAMES[ask.operation], payload))),)


def answered(state: Keys, answer: Answer, nodes: int) -> Step:
    """One member says how it went; the last one ends it."""
    managing = state.running.get(answer.request)
    if managing is None:
        return state, ()
    managing = _added(managing, answer)
    state = replace(state, running=state.running.set(answer.request, managing))
    if managing.responses != managing.nodes:
        return state, ()
    return ended(state, AnswersEnd("keys", answer.request), nodes)


def ended(state: Keys, end: AnswersEnd, nodes: int) -> Step:
    """Everybody has answered, or the time is over: tell the owner, and begin what waits."""
    managing = state.running.get(end.request)
    if managing is None:
        return state, ()
    state = replace(state, running=state.running.delete(end.request))
    told: tuple[Effect, ...] = (Emit(KeysFinished(managing.request, _report(managing))),)
    if end.refusal:
        told = (Emit(RequestRefused(managing.request, end.refusal)),)
    if managing.operation == "list" or not state.waiting:
        return state, told
    following, *waiting = state.waiting
    state, begun = manage(replace(state, waiting=tuple(waiting)), following, nodes)
    return state, told + begun


def _added(managing: Managing, answer: Answer) -> Managing:
    """The count with one more response."""
    managing = replace(managing, responses=managing.responses + 1)
    payload, source = answer.payload or b"", answer.source
    if payload[:1] != bytes((serf.KEY_RESPONSE,)):
        return _failed(managing, source, f"Invalid key query response type: {_listed(payload)}")
    try:
        said = serf.decode(payload)
    except WireError:
        return _failed(managing, source, f"Failed to decode key query response: {_listed(payload)}")
    assert isinstance(said, KeyResponse)
    if not said.result:
        return _failed(managing, source, said.message)
    messages = managing.messages.set(source, said.message) if said.message else managing.messages
    keys, primary_keys = managing.keys, managing.primary_keys
    for key in said.keys or ():
        keys = keys.set(key, keys.get(key, 0) + 1)
    if managing.operation == "list":
        primary_keys = primary_keys.set(said.primary_key, primary_keys.get(said.primary_key, 0) + 1)
    return replace(managing, messages=messages, keys=keys, primary_keys=primary_keys)


def _failed(managing: Managing, source: NodeId, message: str) -> Managing:
    messages = managing.messages.set(source, message)
    return replace(managing, errors=managing.errors + 1, messages=messages)


def _report(managing: Managing) -> KeyReport:
    nodes, responses, errors = managing.nodes, managing.responses, managing.errors
    error = ""
    if errors:
        error = f"{errors}/{nodes} nodes reported failure"
    elif responses != nodes:
        error = f"{responses}/{nodes} nodes reported success"
    return KeyReport(
        nodes,
        responses,
        errors,
        tuple(sorted(managing.messages.items())),
        tuple(sorted(managing.keys.items())),
        tuple(sorted(managing.primary_keys.items())),
        error,
    )


def _listed(payload: bytes) -> str:
    """Bytes as Go prints them."""
    return f"[{' '.join(map(str, payload))}]"


# --- whoever is asked ----------------------------------------------------------------------


def asked(query: InternalQuery) -> tuple[Effect, ...]:
    """Have the backend do what a query asks for; what cannot be read is answered at once."""
    operation = QUERIES[query.name]
    if operation == "list":
        return (ChangeKeyring(query.ltime, query.query_id, operation, b""),)
    try:
        request = serf.decode_key_request(query.payload or b"")
    except WireError:
        response = serf.encode(KeyResponse(False))
        return (Then(AnswerInternal(query.ltime, query.query_id, response)),)
    return (ChangeKeyring(query.ltime, query.query_id, operation, request.key or b""),)


def changed(answer: KeyringAnswered, me: NodeId, config: Config) -> tuple[Effect, ...]:
    """The backend has done it, or has not: say so."""
    ltime, query_id, count = answer.ltime, answer.query_id, len(answer.keys)
    if answer.error:
        payload = serf.encode(KeyResponse(False, answer.error))
    elif answer.operation != "list":
        payload = serf.encode(KeyResponse(True))
    else:
        limit = config.query_response_size_limit
        payload = serf.encode(KeyResponse(True, "", answer.keys, answer.primary))
        shown = min(limit // _LEAST_KEY_SIZE, count)
        while len(serf.encode(QueryResponse(ltime, query_id, me, 0, payload))) > limit and shown:
            message = f"truncated key list response, showing first {shown} of {count} keys"
            response = KeyResponse(True, message, answer.keys[:shown], answer.primary)
            payload = serf.encode(response)
            shown -= 1
    return (Then(AnswerInternal(ltime, query_id, payload)),)
