"""What is well-formed and does harm is stopped; what Serf's agents really say is not."""

from __future__ import annotations

import pytest

from swimsim.messages import User
from swimsim.serf import harm
from swimsim.serf.lamport import LAST
from swimsim.serf.messages import (
    EventBuffer,
    EventSlot,
    Gossip,
    JoinIntent,
    LeaveIntent,
    PastEvent,
    Query,
    QueryResponse,
    Relay,
    SerfState,
    UserEvent,
)
from swimsim.terms import Address, NodeId
from swimsim.wire import WireError, packet, serf
from swimsim.wire.envelope import PLAIN
from tests.wire.vectors import LIVE, named, wire

A = NodeId("a")
HERE = Address(bytes((127, 0, 0, 1)), 7946)
REPLY = serf.encode(QueryResponse(1, 2, A, 0, b"yes"))


def query(name: str = "q", payload: bytes | None = None, *filters: bytes) -> Query:
    return Query(1, 2, HERE, A, name, 10**9, payload, filters or None)


STOPPED: dict[str, tuple[Gossip, str]] = {
    "a join of the last time": (JoinIntent(LAST, A), "JoinIntent at Lamport time 1844"),
    "a leave of the last time": (LeaveIntent(LAST, A), "LeaveIntent at Lamport time 1844"),
    "an event of the last time": (UserEvent(LAST, "e", b""), "UserEvent at Lamport time 1844"),
    "an empty filter": (
        query("q", None, b"\x00\x91\xa1a", b""),
        "query q has a filter of no bytes",
    ),
    "no key to install": (query("_serf_install-key"), "_serf_install-key names no key"),
    "no key to use": (query("_serf_use-key", b""), "_serf_use-key names no key"),
    "no key to remove": (query("_serf_remove-key"), "_serf_remove-key names no key"),
    "a relay of a query": (Relay(HERE, A, serf.encode(query())), "a relay of something"),
    "a relay of nonsense": (Relay(HERE, A, b"\xff\xff"), "a relay of something"),
    "a relay of a relay": (Relay(HERE, A, serf.encode(Relay(HERE, A, REPLY))), "a relay of"),
    "a relay of nothing": (Relay(HERE, A, b""), "a relay of something"),
}


@pytest.mark.parametrize(("said", "words"), STOPPED.values(), ids=STOPPED)
def test_harm_is_seen(said: Gossip, words: str) -> None:
    assert words in harm.of_message(said)


HARMLESS: dict[str, Gossip] = {
    "a late join": JoinIntent(LAST - 1, A),
    "an event": UserEvent(7, "e", None),
    "a filter": query("q", None, b"\x00\x91\xa1a"),
    "a filter that cannot be read": query("q", None, b"\x07"),
    "a list of keys": query("_serf_list-keys"),
    "a key to install": query("_serf_install-key", b"\x07"),
    "a relay of a reply": Relay(HERE, A, REPLY),
}


@pytest.mark.parametrize("said", HARMLESS.values(), ids=HARMLESS)
def test_no_harm_is_seen(said: Gossip) -> None:
    assert harm.of_message(said) == ""


STATES = {
    "intents": SerfState(LAST, 0, 0),
    "events": SerfState(0, LAST, 0),
    "queries": SerfState(0, 0, LAST),
    "a member": SerfState(0, 0, 0, ((A, 1), (NodeId("b"), LAST))),
    "a past event": SerfState(
        0, 0, 0, events=EventBuffer(512, ((511, EventSlot(LAST, (PastEvent("e", None),))),))
    ),
}


@pytest.mark.parametrize("told", STATES.values(), ids=STATES)
def test_a_state_with_the_last_time_is_seen(told: SerfState) -> None:
    assert harm.of_state(told) != ""


def test_a_state_without_is_not() -> None:
    assert harm.of_state(SerfState(1, 2, 3, None, None, None)) == ""
    assert harm.of_state(SerfState(LAST - 1, 2, 3, ((A, 4),), (A,))) == ""


def test_whatever_real_agents_said_is_harmless() -> None:
    seen = 0
    for vector in named(*LIVE, "serf-messages").values():
        payloads = []
        if vector["kind"] == "serf":
            payloads = [wire(vector)]
        elif vector["kind"] == "packet" and not vector.get("keys"):
            found = packet.decode(wire(vector), PLAIN).messages
            payloads = [each.payload for each in found if isinstance(each, User)]
        for payload in payloads:
            try:
                said = serf.decode_gossip(payload)
            except WireError:
                continue
            reason = harm.of_message(said)
            assert reason == "" or str(LAST) in reason, vector["name"]  # a boundary, by hand
            seen += 1
    assert seen > 20
