"""Our client, and two that others wrote: PyPI's ``serfclient`` and ``serfio``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import serfio
from serfclient.client import SerfClient

from backends.agent.rpc.client import Client, ConnectionLostError, RpcError
from backends.agent.rpc.dial import DialError
from backends.agent.rpc.records import IncomingQuery
from backends.agent.rpc.server import Server
from backends.agent.rpc.wire import encode
from backends.agent.surface import Answer, KeyReport, MemberEvent, Question, UserMessage
from swimsim.serf.messages import Coordinate
from tests.agent.stand_in import FAR, StandIn, info
from tests.udp.loopback import live

TOKEN = "s3cret"
PLACE = Coordinate((0.1,) * 8, 1.5, -0.25, 1e-5)


@asynccontextmanager
async def serving(agent: StandIn, auth_key: str = "") -> AsyncIterator[str]:
    server = Server(agent, auth_key)
    await server.start("127.0.0.1:0")
    try:
        yield server.address
    finally:
        await server.stop()


@asynccontextmanager
async def talking(agent: StandIn, auth_key: str = "") -> AsyncIterator[Client]:
    async with serving(agent, auth_key) as address, Client(address, auth_key=auth_key) as client:
        yield client


# --- ours ---------------------------------------------------------------------------------------


@live
async def test_every_request_arrives_and_its_answer_comes_back() -> None:
    agent = StandIn()
    agent.known = [info("a", role="web"), info("b", "failed")]
    agent.sections = {"agent": {"name": "a"}}
    agent.places = {"a": PLACE}
    agent.report = KeyReport(3, 3, 1, {"b": "no"}, {"k": 2}, {}, "1/3 nodes reported failure")
    async with talking(agent, TOKEN) as client:
        assert await client.members() == agent.known
        assert await client.members(status="failed", tags={"role": ""}) == agent.known[1:]
        await client.event("deploy", b"v1", coalesce=False)
        assert await client.join(["x", "y"], replay=True) == 1
        await client.force_leave("b", prune=True, force=True)
        await client.set_tags({"k": "v"}, ["old"])
        assert await client.stats() == agent.sections
        assert await client.coordinate("a") == PLACE
        assert await client.coordinate("nobody") is None
        assert await client.keys("list") == agent.report
        told = await client.keys("install", "KEY")
        assert (told.messages, told.keys, told.error) == ({"b": "no"}, {}, agent.report.error)
        assert await client.why("b") == ["b is alive"]
        await client.leave()
    assert [asked for asked in agent.asked if asked[0] != "keys"] == [
        ("event", "deploy", b"v1", False),
        ("join", ("x", "y"), True),
        ("force_leave", "b", True, True),
        ("set_tags", {"k": "v"}, ("old",)),
        ("why", "b"),
        ("leave",),
    ]


@live
async def test_a_refusal_is_an_error_with_the_agents_words() -> None:
    agent = StandIn()
    agent.refusals = {verb: f"no {verb}" for verb in ("event", "join", "query", "keys", "leave")}
    async with talking(agent) as client:
        with pytest.raises(RpcError, match="no event"):
            await client.event("x")
        with pytest.raises(RpcError, match="no join") as refused:
            await client.join(["x"])
        assert refused.value.body == {"Num": 0}
        with pytest.raises(RpcError, match="no query"):
            await client.query("x").__aenter__()
        assert (await client.keys("use", "?")).error == "no keys"
        assert await client.members() == []


@live
async def test_streams_monitors_and_queries_go_on_beside_requests() -> None:
    agent = StandIn()
    agent.events = [
        MemberEvent("member-join", (info("b"),)),
        UserMessage(3, "deploy", None, True),
        Question(4, 99, "load", b"?", FAR),
    ]
    agent.lines = ["[INFO] one", "[INFO] two"]
    agent.answers = [Answer("a", None, True), Answer("a", b"0.42", False)]
    async with talking(agent) as client:
        async with client.stream("*") as stream, client.monitor("info") as log:
            async with client.query("load", acks=True) as answers:
                assert [answer async for answer in answers] == agent.answers
            assert [await anext(aiter(log)) for _ in agent.lines] == agent.lines
            seen = [await anext(aiter(stream)) for _ in agent.events]
            assert seen == [*agent.events[:2], IncomingQuery(1, 4, "load", b"?")]
            await client.respond(1, b"0.1")
        assert ("respond", 4, 99, b"0.1") in agent.asked
        assert [feed.is_closed for feed in agent.feeds] == [True] * 3
        assert await client.stats() == {}


@live
async def test_requests_of_several_tasks_and_given_up_ones_do_not_mix() -> None:
    agent = StandIn()
    agent.hold = asyncio.Event()
    async with talking(agent) as client:
        join = asyncio.create_task(client.join(["x"]))
        others = [asyncio.create_task(client.coordinate(str(n))) for n in range(20)]
        await asyncio.sleep(0.01)
        join.cancel()
        agent.places = {"7": PLACE}
        agent.hold.set()
        assert [await other for other in others] == [PLACE if n == 7 else None for n in range(20)]


@live
async def test_the_end_of_the_connection_reaches_all_who_wait() -> None:
    agent = StandIn()
    server = Server(agent)
    await server.start("127.0.0.1:0")
    agent.hold = asyncio.Event()
    async with Client(server.address) as client, client.stream() as stream:
        waiting = asyncio.create_task(client.join(["x"]))
        await asyncio.sleep(0.01)
        await server.stop()
        with pytest.raises(ConnectionLostError, match="client closed"):
            await waiting
        with pytest.raises(ConnectionLostError):
            await anext(aiter(stream))
        with pytest.raises(ConnectionLostError):
            await client.stats()


@live
async def test_an_expression_that_is_none_is_a_closed_connection_as_with_serf() -> None:
    async with talking(StandIn()) as client:
        with pytest.raises(ConnectionLostError, match="client closed"):
            await client.members(name="((")


@live
async def test_who_cannot_be_reached_is_said_as_go_says_it() -> None:
    async with serving(StandIn(), TOKEN) as address:
        with pytest.raises(DialError, match="Invalid authentication token"):
            await Client(address, auth_key="wrong").__aenter__()
        async with Client(address) as client:
            with pytest.raises(RpcError, match="Authentication required"):
                await client.join(["x"])
            with pytest.raises(RpcError, match="Authentication required"):
                await client.members()
    refused = address.replace(".", r"\.")
    for bad, words in {
        address: f"^dial tcp {refused}: connect: connection refused$",
        "127.0.0.1": "^dial tcp: address 127.0.0.1: missing port in address$",
        "unix:///nowhere/rpc": "^dial unix /nowhere/rpc: connect: no such file or directory$",
    }.items():
        with pytest.raises(DialError, match=words):
            await Client(bad).__aenter__()


@live
async def test_what_is_no_agent_is_a_closed_connection() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode("hello"))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    with pytest.raises(DialError, match="client closed"):
        await Client(f"{host}:{port}").__aenter__()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


# --- those of others ---------------------------------------------------------------------------


@live
async def test_serfclient_from_pypi() -> None:
    agent = StandIn()
    agent.known = [info("a", role="web"), info("b", "failed")]
    agent.sections = {"agent": {"name": "a"}}
    async with serving(agent, TOKEN) as address:
        using = asyncio.create_task(asyncio.to_thread(use_serfclient, int(address.split(":")[1])))
        while not agent.feeds and not using.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # it loses records that come together with the stream's answer
        agent.feeds[0].put(UserMessage(3, "deploy", b"v1", True))
        await using
    assert agent.asked == [
        ("event", "deploy", b"v1", False),
        ("event", "bare", None, True),
        ("join", ("10.0.0.1:7946",), False),
        ("force_leave", "b", False, False),
        ("stream", "user"),
    ]


def use_serfclient(port: int) -> None:
    client = SerfClient("127.0.0.1", port, rpc_auth=TOKEN)
    names = [each["Name"] for each in client.members().body["Members"]]
    assert names == ["a", "b"]
    (web,) = client.members(name="a", tags={"role": "w.*"}).body["Members"]
    assert (web["Status"], web["Tags"], web["Addr"]) == ("alive", {"role": "web"}, b"\x7f\0\0\1")
    assert client.stats().body == {"agent": {"name": "a"}}
    assert client.event("deploy", "v1", coalesce=False).head["Error"] == ""
    assert client.event("bare").head["Error"] == ""
    assert client.join("10.0.0.1:7946").body == {"Num": 1}
    assert client.force_leave("b").head["Error"] == ""
    first = next(iter(client.stream("user").body))
    assert (first.body["Event"], first.body["Payload"]) == ("user", b"v1")
    client.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is untidy
def test_serfio_from_pypi() -> None:
    asyncio.run(use_serfio())


async def use_serfio() -> None:
    agent = StandIn()
    agent.known = [info("a", role="web"), info("b", "failed")]
    agent.sections = {"agent": {"name": "a"}}
    agent.events = [Question(4, 99, "load", b"?", FAR)]
    agent.lines = ["[INFO] one"]
    agent.answers = [Answer("a", None, True), Answer("a", b"0.42", False)]
    async with serving(agent, TOKEN) as address:
        port = int(address.split(":")[1])
        async with serfio.Serf("127.0.0.1", port, TOKEN) as client:
            await client.event("deploy", "v1")
            assert [each["Name"] for each in await client.members()] == ["a", "b"]
            (web,) = await client.members_filtered(name="a", tags={"role": "w.*"})
            assert web["Addr"] == b"\x7f\0\0\1"
            assert await client.stats() == agent.sections
            await client.tags({"k": "v"})
            question = await anext(client.stream("query"))
            assert (question["ID"], question["Payload"]) == (1, b"?")
            await client.respond(1, "0.1")
            assert await anext(client.monitor("INFO")) == {"Log": "[INFO] one"}
            answers = [each async for each in client.query("load", timeout=10**9)]
            assert answers == [{"From": "a", "Payload": b"0.42", "Type": "response"}]
    assert [asked for asked in agent.asked if asked[0] != "query"] == [
        ("event", "deploy", b"v1", False),
        ("set_tags", {"k": "v"}, ()),
        ("stream", "query"),
        ("respond", 4, 99, b"0.1"),
        ("monitor", "INFO"),
    ]
