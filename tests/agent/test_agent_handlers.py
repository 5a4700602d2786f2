"""Event handlers: filters, what a script is given, order, limits (spec serf.md, 3.5)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from backends.agent import filters, handlers
from backends.agent.filters import EventFilter, Script
from backends.agent.handlers import Handlers, environment, stdin
from backends.agent.surface import (
    AgentError,
    AgentEvent,
    MemberEvent,
    Question,
    Surface,
    UserMessage,
)
from swimsim.serf.messages import STATUS_ALIVE, MemberInfo
from swimsim.terms import Address, NodeId


class StandIn:
    """As much of ``Surface`` as handlers ask; it remembers what it was told."""

    name = "me"

    def __init__(self, tags: Mapping[str, str] | None = None) -> None:
        self._tags = dict(tags or {})
        self.lines: list[str] = []
        self.answers: list[tuple[int, int, bytes]] = []
        self.refusal = ""

    def tags(self) -> Mapping[str, str]:
        return self._tags

    def log(self, level: str, text: str) -> None:
        self.lines.append(f"[{level}] {text}")

    def sample(self, key: str, value: float) -> None:
        pass

    def respond(self, ltime: int, query_id: int, payload: bytes) -> None:
        if self.refusal:
            raise AgentError(self.refusal)
        self.answers.append((ltime, query_id, payload))


VSN = bytes((1, 5, 2, 2, 5, 5))
WEB = MemberInfo(
    NodeId("web\t1\n"),
    Address(b"\x0a\0\0\5", 7946),
    VSN,
    STATUS_ALIVE,
    (("role", "we\tb"), ("a", "1")),
)
JOIN = MemberEvent("member-join", (WEB,))
DEPLOY = UserMessage(7, "deploy", b"v1", True)
LOAD = Question(9, 4, "load", b"now\n", 0.0)

SCRIPTS: dict[str, tuple[str, Script | str]] = {  # a handler: what it is, or what is said of it
    "no filter": ("./h.sh", Script((EventFilter("*"),), "./h.sh")),
    "an empty filter": ("=./h.sh", Script((EventFilter("*"),), "./h.sh")),
    "by kind": ("member-join=./h.sh", Script((EventFilter("member-join"),), "./h.sh")),
    "several": (
        "member-join,user:deploy=a=b",
        Script((EventFilter("member-join"), EventFilter("user", "deploy")), "a=b"),
    ),
    "an empty name": ("query:=x", Script((EventFilter("query"),), "x")),
    "unknown": ("foo=bar", "Invalid event script: Event 'foo' invoking 'bar'"),
    "a name where none belongs": (
        "member-join:x=bar",
        "Invalid event script: Event 'member-join:x' invoking 'bar'",
    ),
}


@pytest.mark.parametrize(("text", "expected"), SCRIPTS.values(), ids=SCRIPTS)
def test_scripts(text: str, expected: Script | str) -> None:
    if isinstance(expected, Script):
        assert filters.script(text) == expected
        return
    with pytest.raises(AgentError) as caught:
        filters.script(text)
    assert str(caught.value) == expected


PASSES: dict[str, tuple[str, list[AgentEvent]]] = {  # a filter: what it lets pass
    "all": ("", [JOIN, DEPLOY, LOAD]),
    "a star": ("*", [JOIN, DEPLOY, LOAD]),
    "joins": ("member-join", [JOIN]),
    "failures": ("member-failed", []),
    "users": ("user", [DEPLOY]),
    "one user event": ("user:deploy", [DEPLOY]),
    "another": ("user:deplo", []),
    "queries": ("query", [LOAD]),
    "one or the other": ("query:load,member-join", [JOIN, LOAD]),
}


@pytest.mark.parametrize(("text", "expected"), PASSES.values(), ids=PASSES)
def test_filters(text: str, expected: list[AgentEvent]) -> None:
    wanted = filters.parse(text)
    passed = [each for each in (JOIN, DEPLOY, LOAD) if any(one.lets_pass(each) for one in wanted)]
    assert passed == expected


def test_a_bad_filter() -> None:
    with pytest.raises(AgentError, match=r"^Invalid event filter$"):
        filters.parse("user,bogus")


GIVEN: dict[str, tuple[AgentEvent, dict[str, str], bytes]] = {  # event: environment, stdin
    "a member": (
        JOIN,
        {"SERF_EVENT": "member-join"},
        rb"web\t1\n" + b"\t10.0.0.5\t" + rb"we\tb" + b"\t" + rb"role=we\tb,a=1" + b"\n",
    ),
    "a user event": (
        DEPLOY,
        {"SERF_EVENT": "user", "SERF_USER_EVENT": "deploy", "SERF_USER_LTIME": "7"},
        b"v1\n",
    ),
    "without payload": (
        UserMessage(1, "x", None, False),
        {"SERF_EVENT": "user", "SERF_USER_EVENT": "x", "SERF_USER_LTIME": "1"},
        b"",
    ),
    "a query": (
        LOAD,
        {"SERF_EVENT": "query", "SERF_QUERY_NAME": "load", "SERF_QUERY_LTIME": "9"},
        b"now\n",
    ),
}


@pytest.mark.parametrize(("event", "env", "read"), GIVEN.values(), ids=GIVEN)
def test_what_a_script_is_given(event: AgentEvent, env: dict[str, str], read: bytes) -> None:
    agent = cast(Surface, StandIn({"role": "web", "my-tag": "x"}))
    own = {
        "SERF_SELF_NAME": "me",
        "SERF_SELF_ROLE": "web",
        "SERF_TAG_ROLE": "web",
        "SERF_TAG_MY_TAG": "x",
    }
    assert environment(event, agent, {}) == {**own, **env}
    assert stdin(event) == read


# --- running them ------------------------------------------------------------------------------


def run(
    scripts: list[str],
    work: Callable[[Handlers], Coroutine[Any, Any, None]],
    *,
    timeout: float = 30.0,
    agent: StandIn | None = None,
) -> StandIn:
    """Let handlers live while ``work`` gives them events, and until they are done."""
    agent = agent or StandIn()

    async def live() -> None:
        made = Handlers(cast(Surface, agent), map(filters.script, scripts), timeout)
        await work(made)
        await made.stop(patience=20.0)

    asyncio.run(live())
    return agent


async def all_three(made: Handlers) -> None:
    for event in (JOIN, DEPLOY, LOAD):
        made.handle(event)


def test_what_it_prints_answers_a_query() -> None:
    agent = run(["query=echo $SERF_QUERY_NAME; cat; echo oops >&2"], all_three)
    assert agent.answers == [(9, 4, b"load\nnow\noops\n")]
    assert agent.lines == ["[INFO] agent: Event 'query: load' script output: load\nnow\noops"]


def test_a_failing_script_does_not_answer_and_its_output_is_seen() -> None:
    agent = run(["query=echo half; exit 3"], all_three)
    assert agent.answers == []
    assert agent.lines == [
        "[ERR] agent: Event 'query: load' script output: half",
        "[ERR] agent: Error invoking script 'echo half; exit 3': exit status 3",
    ]


def test_silence_is_no_answer() -> None:
    assert run(["query=true"], all_three).answers == []


def test_an_answer_that_is_too_long_is_told() -> None:
    agent = StandIn()
    agent.refusal = "failed to respond to key query: response exceeds limit of 1024 bytes"
    run(["query=echo x"], all_three, agent=agent)
    assert agent.lines[-1] == (
        "[WARN] agent: Failed to respond to query 'query: load': "
        "failed to respond to key query: response exceeds limit of 1024 bytes"
    )


def test_only_the_last_8_kib_of_output_are_kept() -> None:
    agent = run(["query=head -c 20000 /dev/zero | tr '\\0' x; echo end"], all_three)
    ((_, _, output),) = agent.answers
    assert len(output) == handlers.OUTPUT
    assert output.endswith(b"xend\n")


def test_one_handler_gets_its_events_in_order(tmp_path: Path) -> None:
    path = tmp_path / "seen"

    async def many(made: Handlers) -> None:
        for number in range(20):
            made.handle(UserMessage(number, f"e{number}", None, False))

    run([f"user=sleep 0.00$(($SERF_USER_LTIME % 3)); echo $SERF_USER_EVENT >> {path}"], many)
    assert path.read_text().split() == [f"e{number}" for number in range(20)]


def test_a_slow_handler_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "SLOW_S", 0.1)
    path = tmp_path / "fast"
    waited = []

    async def both(made: Handlers) -> None:
        await all_three(made)
        began = time.monotonic()
        while not path.exists():
            await asyncio.sleep(0.01)
        waited.append(time.monotonic() - began)

    agent = run(["user=sleep 1.2", f"user=touch {path}"], both)
    assert waited[0] < 1.2, "the other one was not in its way"
    assert "[WARN] agent: Script 'sleep 1.2' slow, execution exceeding 0.1s" in agent.lines


def test_a_script_that_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    path = tmp_path / "child"
    agent = run([f"user=sleep 300 & echo $! > {path}; wait"], all_three, timeout=0.3)
    assert agent.lines[-1].endswith("': killed after 0.3s")
    child = int(path.read_text())
    for _ in range(100):
        if not _is_there(child):
            return
        time.sleep(0.02)
    raise AssertionError("its child lives on")


def _is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_a_script_leaves_running_holds_nothing_up(tmp_path: Path) -> None:
    path = tmp_path / "child"
    began = time.monotonic()
    agent = run([f"query=sleep 20 & echo $! > {path}; echo done"], all_three)
    assert time.monotonic() - began < 15
    os.kill(int(path.read_text()), 9)
    assert agent.answers == [(9, 4, b"done\n")]


HOSTILE = "$(touch {0}); `touch {0}`; ' ; touch {0} #"


def test_no_word_of_a_peer_reaches_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "pwned"
    word = HOSTILE.format(path)
    event = UserMessage(1, word, word.encode(), False)

    async def work(made: Handlers) -> None:
        made.handle(event)
        made.handle(MemberEvent("member-join", (MemberInfo(NodeId(word), *WEB_REST),)))
        made.handle(Question(1, 1, word, word.encode(), 0.0))

    agent = run(['*=echo "$SERF_USER_EVENT$SERF_QUERY_NAME"; cat'], work)
    assert not path.exists()
    assert any(word in line for line in agent.lines)


WEB_REST = (WEB.address, VSN, STATUS_ALIVE, ())


def test_an_event_that_no_environment_holds_costs_only_itself() -> None:
    async def work(made: Handlers) -> None:
        made.handle(UserMessage(1, "a\0b", None, False))
        made.handle(LOAD)

    agent = run(["*=echo ok"], work)
    assert agent.lines[0].startswith("[ERR] agent: Script 'echo ok' Error invoking script: ")
    assert agent.answers == [(9, 4, b"ok\n")]


def test_a_reload_swaps_handlers_at_the_next_event() -> None:
    async def work(made: Handlers) -> None:
        made.handle(LOAD)
        made.replace([filters.script("query=echo new")])
        made.handle(LOAD)
        assert made.listed() == {"query": "echo new"}
        await asyncio.sleep(0.3)

    assert sorted(answer[2] for answer in run(["query=echo old"], work).answers) == [
        b"new\n",
        b"old\n",
    ]


def test_what_does_not_fit_a_queue_is_dropped_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "ROOM", 3)

    async def work(made: Handlers) -> None:
        for number in range(10):
            made.handle(Question(number, 4, "load", None, 0.0))

    agent = run(["query=echo x"], work)
    assert [ltime for ltime, _, _ in agent.answers] == [0, 1, 2]
    told = [line for line in agent.lines if "dropping" in line]
    assert told == ["[WARN] agent: Script 'echo x' 3 events wait for it, dropping what comes"]
