"""What Serf cannot be compared with: our agent's own commands, and clients from PyPI."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import serfio
from serfclient.client import SerfClient

from backends.agent.rpc.client import Client
from backends.agent.rpc.records import Incoming, IncomingQuery
from backends.agent.surface import Answer, MemberEvent, UserMessage
from tests.interop.agents import Agent, Crew, until

TOKEN = "s3cret"


@pytest.fixture(scope="module")
def agent(shared_crew: Crew) -> Agent:
    """One of ours, whose cluster has one of Serf's."""
    ours = shared_crew.swimsim("ours", tags={"role": "web"}, config={"rpc_auth": TOKEN})
    shared_crew.serf("theirs", join=[ours])
    until(lambda: "theirs" in ours.cli("members", f"-rpc-auth={TOKEN}").stdout, "the two to meet")
    return ours


def port(agent: Agent) -> int:
    return int(agent.rpc.rpartition(":")[2])


def test_serfclient_from_pypi(agent: Agent) -> None:
    client = SerfClient("127.0.0.1", port(agent), rpc_auth=TOKEN)
    names = sorted(each["Name"] for each in client.members().body["Members"])
    assert names == ["ours", "theirs"]
    (web,) = client.members(status="alive", tags={"role": "w.*"}).body["Members"]
    assert (web["Name"], web["Tags"]) == ("ours", {"role": "web"})
    assert client.stats().body["agent"]["name"] == "ours"
    assert client.force_leave("nobody").head["Error"] == ""
    assert client.join("127.0.0.1:1").head["Error"].startswith("1 error occurred:")
    watching = SerfClient("127.0.0.1", port(agent), rpc_auth=TOKEN)
    events = iter(watching.stream("user:deploy").body)
    assert client.event("deploy", "v1", coalesce=False).head["Error"] == ""
    assert next(events).body["Payload"] == b"v1"
    for each in (client, watching):
        each.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is untidy
def test_serfio_from_pypi(agent: Agent) -> None:
    asyncio.run(use_serfio(agent))


async def use_serfio(agent: Agent) -> None:
    """Members, and a query that one connection asks and the other answers."""
    async with (
        serfio.Serf("127.0.0.1", port(agent), TOKEN) as asking,
        serfio.Serf("127.0.0.1", port(agent), TOKEN) as answering,
    ):
        (other,) = await asking.members_filtered(name="their.*")
        assert other["Status"] == "alive"
        await asking.tags({"role": "web", "serfio": "yes"})
        assert (await asking.stats())["tags"] == {"role": "web", "serfio": "yes"}
        stream = answering.stream("query:load")
        question = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.3)
        asked = asyncio.create_task(asking.query_one("load", timeout=2 * 10**9))
        await answering.respond((await question)["ID"], "0.42")
        assert (await asked)["Payload"] == b"0.42"
        await stream.aclose()


def test_a_library_client_sees_a_whole_life(agent: Agent, crew: Crew) -> None:
    asyncio.run(live_with(agent, crew))


async def live_with(agent: Agent, crew: Crew) -> None:
    """Events, a query and its answers, a member that comes and goes, as typed values."""
    async with Client(agent.rpc, auth_key=TOKEN) as client, client.stream() as stream:
        events = aiter(stream)
        await client.event("deploy", b"v2", coalesce=False)
        seen = await anext(events)
        assert isinstance(seen, UserMessage)
        assert (seen.name, seen.payload) == ("deploy", b"v2")
        async with client.query("load", acks=True, timeout_ns=10**9) as answers:
            question = await anext(events)
            assert isinstance(question, IncomingQuery)
            await client.respond(question.query_id, b"0.1")
            heard = [answer async for answer in answers]
        assert Answer("ours", b"0.1", False) in heard
        assert {each.source for each in heard if each.is_ack} == {"ours", "theirs"}
        third = await asyncio.to_thread(crew.serf, "third", join=[agent])
        assert await until_told(events, "third") == "member-join"
        assert await client.coordinate("nobody") is None
        await asyncio.to_thread(third.leave)
        assert await until_told(events, "third") == "member-leave"


async def until_told(events: AsyncIterator[Incoming], name: str) -> str:
    """What happened to the member of this name; others may still be told of."""
    async with asyncio.timeout(30):
        async for event in events:
            if isinstance(event, MemberEvent) and name in [each.name for each in event.members]:
                return event.kind
    raise AssertionError("the stream has ended")


def test_pruning_a_live_member_needs_force(crew: Crew) -> None:
    ours = crew.swimsim("ours")
    other = crew.serf("other", join=[ours])
    refused = ours.cli("force-leave", "-prune", "other")
    assert refused.returncode == 1
    assert refused.stdout.startswith("Error force leaving: ")
    assert ours.states() == {"ours": "alive", "other": "alive"}
    other.kill()
    until(lambda: ours.states()["other"] == "failed", "the other to fail")
    why = ours.cli("why", "other", by="swimsim")
    assert why.returncode == 0
    assert "other" in why.stdout
    assert "failed" in why.stdout
    nobody = ours.cli("why", "nobody", by="swimsim")
    assert nobody.stdout == "Error asking why: no member of the name 'nobody' was ever heard of\n"
    assert nobody.returncode == 1
    assert ours.cli("force-leave", "other").returncode == 0
    assert ours.states()["other"] == "left"
    assert ours.cli("force-leave", "-prune", "other").returncode == 0
    assert ours.states() == {"ours": "alive"}


def test_a_unix_socket_is_for_its_owner_alone(crew: Crew, tmp_path: Path) -> None:
    path = tmp_path / "rpc.sock"
    ours = crew.swimsim("ours", "-rpc-addr", f"unix://{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ours.rpc = f"unix://{path}"
    assert "ours" in ours.cli("members", by="swimsim").stdout
    assert ours.leave() == 0
    assert not path.exists()
