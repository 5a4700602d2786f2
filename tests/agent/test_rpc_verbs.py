"""The operator's command line: what it asks, prints and exits with.

``tests/interop/test_interop_rpc.py`` compares it with Serf's own where that is installed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import swimsim
from backends.agent.rpc.server import Server
from backends.agent.surface import Answer, KeyReport
from backends.agent.verbs.output import columns, go_json, go_syntax
from swimsim.__main__ import OPERATION, main
from swimsim.serf.messages import Coordinate
from tests.agent.stand_in import StandIn, conversations, info, stand_in
from tests.agent.test_rpc_transcripts import TOKEN

ROOT = Path(__file__).parents[2]


class Said(NamedTuple):
    """What a command line came to."""

    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line, against an agent if one is given."""

    def run_it(*line: str, agent: StandIn | None = None) -> Said:
        with served(agent) as address:
            monkeypatch.setenv("SERF_RPC_ADDR", address)
            monkeypatch.setenv("SERF_RPC_AUTH", TOKEN)
            capfd.readouterr()
            with pytest.raises(SystemExit) as ended:
                main(line)
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, *capfd.readouterr())

    return run_it


@contextmanager
def served(agent: StandIn | None) -> Iterator[str]:
    """A server in a thread of its own; its address, or one where nobody listens."""
    if agent is None:
        yield "127.0.0.1:1"
        return
    started: list[str] = []
    is_up, ends = threading.Event(), threading.Event()

    async def serve() -> None:
        server = Server(agent, TOKEN)
        await server.start("127.0.0.1:0")
        started.append(server.address)
        is_up.set()
        while not ends.is_set():
            await asyncio.sleep(0.005)
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_up.wait(10)
        yield started[0]
    finally:
        ends.set()
        thread.join()


# --- as Serf's command said it -----------------------------------------------------------------

RECORDED = {name: each for name, each in conversations().items() if name.startswith("cli:")}


@pytest.mark.parametrize("vector", RECORDED.values(), ids=RECORDED)
def test_what_serf_printed_we_print(run: Run, vector: dict[str, Any]) -> None:
    (line,) = re.findall(r"`serf (.*?)` against", vector["description"])
    words = line.split(" ")
    if words[0] == "event":  # its payload is one word
        words[3:] = [" ".join(words[3:])]
    said = run(*words, agent=stand_in(vector))
    assert (said.status, said.err) == (0, "")
    printed = vector["notes"].removeprefix("stdout: ")
    if printed:
        assert in_any_order(said.out) == in_any_order(printed)
    else:
        assert said.out.startswith("agent:\n\tname = alpha\nevent_handlers:\n")


def in_any_order(text: str) -> list[list[str]]:
    """Its lines, and of each the words, for tags come in any order."""
    return sorted(sorted(re.split(r"[\s,]+", line.strip())) for line in text.strip().splitlines())


# --- in order ----------------------------------------------------------------------------------


def cluster() -> StandIn:
    agent = StandIn()
    agent.known = [info("a", role="web", az="1"), info("b\u00e9", port=65535), info("c", "failed")]
    agent.sections = {"serf": {"members": "3"}, "agent": {"name": "a"}}
    agent.places = {
        "a": Coordinate((0.001,) + (0.0,) * 7, 1.0, 0.0, 0.0005),
        "c": Coordinate((0.0,) * 8, 1.0, -1.0, 0.0001),
    }
    agent.answers = [Answer("a", None, True), Answer("", None, True), Answer("a", b"x\ny\n", False)]
    agent.report = KeyReport(3, 3, 0, {}, {"K2": 3, "K10": 1}, {}, "")
    return agent


PRINTED = {
    "members": (
        ["members"],
        "a   127.0.0.1:7946   alive   az=1,role=web\n"
        "b\u00e9  127.0.0.1:65535  alive   \n"
        "c   127.0.0.1:7946   failed\n",
    ),
    "rtt": (["rtt", "a", "c"], "Estimated a <-> c rtt: 1.600 ms\n"),
    "rtt to the agent": (["rtt", "c"], "Estimated c <-> a rtt: 1.600 ms\n"),
    "info": (["info"], "agent:\n\tname = a\nserf:\n\tmembers = 3\n"),
    "query": (
        ["query", "q"],
        "Query 'q' dispatched\nAck from 'a'\nResponse from 'a': x\ny\n"
        "Total Acks: 1\nTotal Responses: 1\n",
    ),
    "keys": (
        ["keys", "-list"],
        "==> Asking all members for installed keys...\n"
        "==> Keys gathered, listing cluster keys...\n\nK10  [1/3]\nK2   [3/3]\n",
    ),
    "a key": (
        ["keys", "-use=K2"],
        "==> Changing primary key on all members...\n==> Successfully changed primary key!\n",
    ),
    "why": (["why", "c"], "c is alive\n"),
    "leave": (["leave"], "Graceful leave complete\n"),
    "force-leave": (["force-leave", "-prune", "-force", "c"], ""),
    "join": (["join", "x", "y"], "Successfully joined cluster by contacting 1 nodes.\n"),
}


@pytest.mark.parametrize(("line", "printed"), PRINTED.values(), ids=PRINTED)
def test_what_is_printed(run: Run, line: list[str], printed: str) -> None:
    assert run(*line, agent=cluster()) == (0, printed, "")


ASKED = {
    "an event": (["event", "a", "b"], ("event", "a", b"b", True)),
    "without payload": (["event", "-coalesce=0", "a"], ("event", "a", None, False)),
    "an empty payload": (["event", "a", ""], ("event", "a", b"", True)),
    "replay": (["join", "--replay", "x"], ("join", ("x",), True)),
    "pruning": (["force-leave", "-prune", "c"], ("force_leave", "c", True, False)),
    "tags": (["tags", "-set=a=b=c", "-delete", "d"], ("set_tags", {"a": "b=c"}, ("d",))),
    "a key": (["keys", "-remove", "K"], ("keys", "remove", "K")),
}


@pytest.mark.parametrize(("line", "asked"), ASKED.values(), ids=ASKED)
def test_what_is_asked(run: Run, line: list[str], asked: tuple[Any, ...]) -> None:
    agent = cluster()
    run(*line, agent=agent)
    assert agent.asked == [asked]


def test_what_a_query_asks(run: Run) -> None:
    agent = cluster()
    flags = ["-node", "a", "-node=b", "-tag", "role=w.*", "-timeout=1.5s", "-relay-factor", "2"]
    run("query", *flags, "-no-ack", "load", "now", agent=agent)
    ((_, request),) = agent.asked
    assert (request.name, request.payload, request.nodes) == ("load", b"now", ("a", "b"))
    assert request.tags == (("role", "w.*"),)
    assert (request.acks, request.relay_factor) == (False, 2)
    assert request.timeout_ns == 1_500_000_000


# --- trouble -----------------------------------------------------------------------------------


def test_the_agents_refusals_are_printed_and_the_exit_status_is_1(run: Run) -> None:
    agent = cluster()
    agent.refusals = {"force_leave": "c is alive: -force is needed", "why": "nobody is called c"}
    said = run("force-leave", "-prune", "c", agent=agent)
    assert said == (1, "Error force leaving: c is alive: -force is needed\n", "")
    assert run("why", "c", agent=agent) == (1, "Error asking why: nobody is called c\n", "")


def test_failures_of_keys_name_the_members(run: Run) -> None:
    agent = cluster()
    agent.report = KeyReport(3, 3, 2, {"b": "no", "a-long": "not"}, {}, {}, "2/3 nodes failed")
    assert run("keys", "-install", "K", agent=agent) == (
        1,
        "==> Installing key on all members...\nfailed:  a-long  not\nfailed:  b       no\n\n"
        "Error installing key: 2/3 nodes failed\n",
        "",
    )


REACHED = {  # acks from, status, the last word that is not advice
    "all": (["a", "b"], 0, "Successfully contacted all live nodes"),
    "one is missing": (["a"], 1, "Received less acks than live nodes! Missing acks from:\n\tb"),
    "one too many": (
        ["a", "b", "c"],
        1,
        "Received more acks than live nodes! Acks from non-live nodes:\n\tc",
    ),
    "one twice": (["a", "b", "b"], 1, "Duplicate response from 'b'"),
}


@pytest.mark.parametrize(("acks", "status", "words"), REACHED.values(), ids=REACHED)
def test_reachability(run: Run, acks: list[str], status: int, words: str) -> None:
    agent = cluster()
    agent.known = [info("a"), info("b"), info("c", "failed")]
    agent.answers = [Answer(name, None, True) for name in acks]
    said = run("reachability", "-verbose", agent=agent)
    assert said.status == status
    assert said.out.startswith("Total members: 3, live members: 2\nStarting reachability test...\n")
    assert f"\tAck from '{acks[-1]}'\nQuery time: 0." in said.out
    assert words in said.out


@pytest.mark.parametrize(("line", "status"), [(["monitor"], 0), (["query", "x"], 1)])
def test_an_interrupted_query_exits_with_1_and_a_monitor_with_0(
    run: Run, line: list[str], status: int
) -> None:
    agent = cluster()

    def never_ends(asked: object) -> Any:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        return agent._feed()

    agent.query = agent.monitor = never_ends  # type: ignore[method-assign,assignment]
    # Tests that a shell runs in the background have inherited that SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(*line, agent=agent).status == status
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_monitor_whose_agent_ends_says_so(run: Run) -> None:
    agent = cluster()
    agent.monitor = lambda level: 1 / 0  # type: ignore[assignment] # the connection is closed
    said = run("monitor", agent=agent)
    assert said == (1, "Error starting monitor: client closed\n", "")


def test_when_nobody_reads_any_more_the_monitor_just_ends() -> None:
    agent = cluster()
    agent.lines = ["[INFO] line"] * 1000
    with served(agent) as address:
        command = [sys.executable, "-m", "swimsim", "monitor", f"-rpc-addr={address}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SERF_RPC_AUTH": TOKEN}
        reader, writer = os.pipe()
        process = subprocess.Popen(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment
        )
        os.close(writer)
        assert os.read(reader, 1)
        os.close(reader)
        agent.feeds[-1].put("[INFO] one more")
        assert process.communicate(timeout=30) == (None, "")
        assert process.returncode == 1


def test_no_agent_no_command_no_words(run: Run) -> None:
    refused = "dial tcp 127.0.0.1:1: connect: connection refused"
    assert run("members") == (1, f"Error connecting to Serf agent: {refused}\n", "")
    unknown = run("dance")
    assert (unknown.status, unknown.out) == (127, "")
    assert "there is no command 'dance'" in unknown.err
    assert run().status == 127
    assert run("--help").status == 0


def test_version_and_keygen_need_no_agent(run: Run) -> None:
    lines = f"swimsim {swimsim.__version__}\nAgent Protocol: 5 (Understands back to: 2)\n"
    for line in (["version"], ["--version"], ["members", "-v"], ["event", "--", "--version"]):
        assert run(*line) == (0, lines, "")
    keys = {run("keygen").out for _ in range(2)}
    assert [len(base64.b64decode(key)) for key in keys] == [32, 32]


@pytest.mark.parametrize("name", sorted(OPERATION))
def test_every_verb_explains_itself(run: Run, name: str) -> None:
    for asked in ("-h", "-help", "--help"):
        said = run(name, asked)
        assert (said.status, said.err) == (0, "")
        assert said.out.startswith(f"Usage: swimsim {name}")


# --- how it prints -----------------------------------------------------------------------------


def test_columns_are_padded_but_the_last() -> None:
    assert columns([]) == ""
    assert columns([["a", "", "x"], ["bcd", "e", ""]]) == "a       x\nbcd  e"


def test_json_is_gos() -> None:
    text = go_json({"b": ["<&>", b"\xff"], "a": None, "\udcff": {}})
    assert text == (
        '{\n  "b": [\n    "\\u003c\\u0026\\u003e",\n    "\ufffd"\n  ],\n'
        '  "a": null,\n  "\ufffd": {}\n}'
    )
    assert json.loads(text)["b"] == ["<&>", "\ufffd"]


GO = {
    "nothing": (None, "<nil>"),
    "a flag": (True, "true"),
    "a small number": (127, "127"),
    "a large one": (128, "0x80"),
    "a text": ('a"\u00e9', '"a\\"\u00e9"'),
    "bytes": (b"\x00pa", "[]byte{0x0, 0x70, 0x61}"),
    "a list": (
        [{"b": b"\x7f", "a": None}],
        '[]interface {}{map[interface {}]interface {}{"a":interface {}(nil), "b":[]uint8{0x7f}}}',
    ),
}


@pytest.mark.parametrize(("value", "text"), GO.values(), ids=GO)
def test_values_are_written_as_go_writes_them(value: object, text: str) -> None:
    assert go_syntax(value) == text
