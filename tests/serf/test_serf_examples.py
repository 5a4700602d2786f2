"""The worked examples of spec serf.md, section 8, as what a node says, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swimsim import node as node_
from swimsim.config import LAN
from swimsim.effects import (
    ChangeKeyring,
    Emit,
    Exchange,
    JoinFinished,
    QueryReceived,
    Reply,
    Send,
    Then,
    no_keyring,
)
from swimsim.inputs import (
    AskQuery,
    ExchangeRequested,
    FireEvent,
    GossipTick,
    Input,
    Join,
    Leave,
    ManageKeys,
    Received,
    Start,
)
from swimsim.member import peer
from swimsim.messages import Ack, Ping, PushPull, User
from swimsim.node import Node, create
from swimsim.serf.messages import Query, UserEvent
from swimsim.terms import MS, SECOND, Address, NodeId
from swimsim.wire import serf
from tests.builders import fed, of_type, record, table

SERF = replace(LAN, serf=True)
HOST = bytes((127, 0, 0, 1))
C1, C2, C3 = (NodeId(f"c{n}") for n in (1, 2, 3))
PORTS = {C1: 17911, C2: 17912, C3: 17913}
WEB = serf.encode_tags({"role": "web"})


def at(name: str) -> Address:
    return Address(HOST, PORTS[NodeId(name)])


def agent(name: str, names: tuple[NodeId, ...] = (C1, C2, C3), config: Any = SERF) -> Node:
    """A node of a settled group of agents whose role is web."""
    members = table(*(record(each, 1, meta=WEB, address=at(each)) for each in names))
    fresh = create(NodeId(name), at(name), config, seed=1, meta=WEB)
    started, _ = node_.step(fresh, 0, Start(members))
    return started


def told(node: Node, *inputs: Input, now: int = SECOND) -> tuple[Node, list[str]]:
    """What it gossips after these inputs, each message in hexadecimal."""
    node, _ = fed(node, now, *inputs)
    _, effects = fed(node, now + 200 * MS, GossipTick())
    sends = of_type(Send, effects)
    return node, [f"08{m.payload.hex()}" for m in sends[0].messages if isinstance(m, User)]


def hexa(text: str) -> str:
    return text.replace(" ", "").replace("\n", "")


def with_clocks(node: Node, **clocks: int) -> Node:
    assert node.serf is not None
    layer = node.serf
    return replace(
        node,
        serf=replace(
            layer,
            intents=replace(layer.intents, clock=clocks.get("intents", 1)),
            events=replace(layer.events, clock=clocks.get("events", 1)),
            queries=replace(layer.queries, clock=clocks.get("queries", 1)),
        ),
    )


def test_w1_a_join_intent() -> None:
    node = with_clocks(agent("c3"), intents=2)
    node, effects = node_._tell_serf(node, SECOND, (Emit(JoinFinished(1, ())),))
    (said,) = [each.news for each in effects if isinstance(each, Then)]
    assert said.message.payload.hex() == hexa("01 82 a5 4c54696d65 02 a4 4e6f6465 a2 6333")
    assert node.serf.intents.clock == 3


def test_w2_a_leave_intent_before_the_farewell() -> None:
    node = with_clocks(agent("c2"), intents=3)
    node, said = told(node, Leave(5 * SECOND))
    assert said == [hexa("08 00 83 a5 4c54696d65 03 a4 4e6f6465 a2 6332 a5 5072756e65 c2")]
    assert not node.membership.leaving, "the farewell comes when the intent has been said"


EVENTS = {
    "with a payload": (
        FireEvent(1, "deploy", b"v1"),
        "08 03 84 a2 4343c3 a5 4c54696d65 01 a4 4e616d65 a6 6465706c6f79 a7 5061796c6f6164 a27631",
    ),
    "without": (
        FireEvent(1, "deploy"),
        "08 03 84 a2 4343 c3 a5 4c54696d65 01 a4 4e616d65 a6 6465706c6f79 a7 5061796c6f6164 c0",
    ),
    "with 40 bytes": (
        FireEvent(1, "deploy", b"x" * 40),
        "08 03 84 a2 4343 c3 a5 4c54696d65 01 a4 4e616d65 a6 6465706c6f79 a7 5061796c6f6164 da0028"
        + "78" * 40,
    ),
}


@pytest.mark.parametrize(("ask", "wanted"), EVENTS.values(), ids=EVENTS)
def test_w3_a_user_event(ask: FireEvent, wanted: str) -> None:
    assert told(agent("c1"), ask)[1] == [hexa(wanted)]


W4 = hexa(
    """08 04 8b a441646472 a47f000001  a746696c74657273 92 a5 0091a26331
    b4 0182a445787072a3776562a3546167a4726f6c65 a5466c616773 01  a24944 ce47031188
    a54c54696d65 01 a44e616d65 a46c6f6164  a75061796c6f6164 a36e6f77 a4506f7274 cd45f7
    ab52656c6179466163746f72 01 aa536f757263654e6f6465 a26331 a754696d656f7574 ce3b9aca00"""
)
ASK = AskQuery(
    1, "load", b"now", (C1,), (("role", "web"),), ack=True, relay_factor=1, timeout=SECOND
)
ACK = hexa(
    "08 05 85 a5466c616773 01 a446726f6d a26331 a24944 ce47031188 a54c54696d65 01 "
    "a75061796c6f6164 c0"
)
RELAY = hexa(
    "08 09 82 a84465737441646472 83 a24950 a47f000001 a4506f7274 cd45f7 a45a6f6e65 a0 "
    "a8446573744e616d65 a26331"
)


def test_w4_a_query() -> None:
    """All of it but its number, which is drawn."""
    _, (said,) = told(agent("c1"), ASK)
    drawn = serf.decode(bytes.fromhex(said[2:]))
    assert isinstance(drawn, Query)
    assert "08" + serf.encode(replace(drawn, query_id=0x47031188)).hex() == W4


def test_w5_and_w6_an_ack_and_its_way_over_another() -> None:
    asked = Received(at("c2"), (User(bytes.fromhex(W4[2:])),))
    _, effects = fed(agent("c1", (C1, C3)), SECOND, asked)
    direct, relayed = of_type(Send, effects)
    assert (direct.to, f"08{direct.messages[0].payload.hex()}") == (at("c1"), ACK)
    assert (relayed.to, f"08{relayed.messages[0].payload.hex()}") == (at("c3"), RELAY + ACK[2:])
    _, effects = fed(agent("c3"), SECOND, Received(at("c1"), relayed.messages))
    (passed,) = of_type(Send, effects)
    assert (passed.to, f"08{passed.messages[0].payload.hex()}") == (at("c1"), ACK)
    assert not passed.piggyback


def test_whom_the_filters_do_not_mean_passes_the_query_on_and_no_more() -> None:
    asked = Received(at("c1"), (User(bytes.fromhex(W4[2:])),))
    node, effects = fed(agent("c2"), SECOND, asked)
    assert of_type(Send, effects) == []
    assert not [each for each in effects if isinstance(getattr(each, "event", 0), QueryReceived)]
    assert told(node)[1] == [W4]


W7 = hexa("02 86 aa4576656e744c54696d65 01 a64576656e7473 dc0200") + "c0" * 512 + hexa(
    "a54c54696d65 01 ab4c6566744d656d62657273 90 aa51756572794c54696d65 01 "
    "ac5374617475734c54696d6573 81 a26332 00"
)  # fmt: skip


def test_w7_the_state_of_a_fresh_agent() -> None:
    node = agent("c2", (C2,))
    request = ExchangeRequested(5, at("c1"), PushPull(True, ()))
    _, effects = fed(node, SECOND, request)
    (reply,) = of_type(Reply, effects)
    assert (len(reply.response.user), reply.response.user.hex()) == (586, W7)


def test_w7_a_state_with_an_event() -> None:
    config = replace(SERF, event_buffer=2)
    node = with_clocks(agent("c2", (C2,), config), events=3)
    node, _ = fed(node, SECOND, FireEvent(1, "deploy", b"v1"))
    _, effects = fed(node, SECOND, ExchangeRequested(5, at("c1"), PushPull(True, ())))
    (reply,) = of_type(Reply, effects)
    wanted = "a64576656e7473 92 c0 82 a64576656e7473 91 82 a44e616d65 a66465706c6f79 "
    wanted += "a75061796c6f6164 a27631 a54c54696d65 03"
    assert hexa(wanted) in reply.response.user.hex()


def test_w8_the_coordinate_of_a_new_agent() -> None:
    ping = Received(at("c2"), (Ping(7, C1, at("c2"), C2),))
    _, effects = fed(agent("c1"), SECOND, ping)
    (send,) = of_type(Send, effects)
    wanted = hexa(
        "01 84 aa41646a7573746d656e74 cb0000000000000000 a54572726f72 cb3ff8000000000000 "
        "a6486569676874 cb3ee4f8b588e368f1 a3566563 98"
    ) + "cb0000000000000000" * 8  # fmt: skip
    assert send.messages == (Ack(7, bytes.fromhex(wanted)),)
    assert len(wanted) == 2 * 0x82


def test_w9_a_vote_on_a_name() -> None:
    """i2 knows i1 by port 17851; the other claimant asks from 17853."""
    i1 = peer(NodeId("i1"), Address(HOST, 17851), WEB, bytes((1, 5, 2, 2, 5, 5)))
    members = table(
        record("i2", address=Address(HOST, 17852)),
        replace(record("i1"), peer=i1),
    )
    fresh = create(NodeId("i2"), Address(HOST, 17852), SERF, seed=1)
    node, _ = node_.step(fresh, 0, Start(members))
    query = Query(
        1, 0x577400F6, Address(HOST, 17853), NodeId("i1"), "_serf_conflict", 3_200_000_000, b"i1"
    )
    _, effects = fed(node, SECOND, Received(i1.address, (User(serf.encode(query)),)))
    (send,) = of_type(Send, effects)
    assert send.to == Address(HOST, 17853)
    assert f"08{send.messages[0].payload.hex()}" == hexa(
        """08 05 85 a5466c616773 00 a446726f6d a26932 a24944 ce577400f6 a54c54696d65 01
        a75061796c6f6164 da0081 06 8b a441646472 a47f000001 ab44656c656761746543757205
        ab44656c65676174654d6178 05 ab44656c65676174654d696e 02 a44e616d65 a26931 a4506f7274 cd45bb
        ab50726f746f636f6c437572 02 ab50726f746f636f6c4d6178 05 ab50726f746f636f6c4d696e 01
        a6537461747573 01 a454616773 81 a4726f6c65 a3776562"""
    )


def test_w10_a_key_request_and_the_answer_of_one_without_keys() -> None:
    key = "cg8StVXbQJ0gPvMd9o7yrg=="
    node, effects = fed(agent("c1"), SECOND, ManageKeys(1, "install", key))
    (change,) = of_type(ChangeKeyring, effects)
    _, said = told(node)
    assert hexa("b7 07 81 a34b6579 b0 720f12b555db409d203ef31df68ef2ae") in said[0]
    _, effects = fed(node, SECOND, no_keyring(change))
    (send,) = of_type(Send, effects)
    wanted = hexa(
        """da0054 08 84 a44b657973 c0 a74d657373616765 da002d
        4e6f206b657972696e6720746f206d6f646966792028656e6372797074696f6e206e6f7420656e61626c656429
        aa5072696d6172794b6579 a0 a6526573756c74 c2"""
    )
    assert wanted in send.messages[0].payload.hex()


def test_what_is_repeated_is_repeated_byte_for_byte() -> None:
    """Even in another encoding of the same: a payload as a bin, fields in another order."""
    body = bytes.fromhex("84 a54c54696d65 01 a24343 c3 a44e616d65 a178 a75061796c6f6164 c40161")
    heard = b"\x03" + body
    _, said = told(agent("c1"), Received(at("c2"), (User(heard),)))
    assert said == [f"08{heard.hex()}"]
    assert isinstance(serf.decode(heard), UserEvent)


def test_exchanges_carry_the_state_too() -> None:
    _, effects = fed(agent("c1"), SECOND, Join((at("c2"),)))
    (exchange,) = of_type(Exchange, effects)
    assert serf.decode(exchange.request.user) is not None
