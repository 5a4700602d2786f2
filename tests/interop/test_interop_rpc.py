"""Our command line and Serf's, our agents and Serf's: whoever asks whom hears the same words.

PyPI's clients talk to our server in ``tests/agent/test_rpc_clients.py``, and here to our agent.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from swimsim.__main__ import main
from tests.interop.agents import Agent, Crew, until

BIG = "x" * 600
TOKEN = "s3cret"
KEY = "cg8StVXbQJ0gPvMd9o7yrg=="


class Pair(NamedTuple):
    """An agent that is asked, and another one of its cluster."""

    first: Agent
    second: Agent

    def words(self, line: Sequence[str]) -> list[str]:
        """The command line for this cluster."""
        return [word.replace("SECOND", self.second.address) for word in line]

    def lines(self, said: Said) -> list[str]:
        """What was printed, for every cluster alike, and in order.

        Members come in any order, and only the last line loses its trailing blanks.
        """
        text = said.out
        for stand_in, agent in zip(("10001", "10002"), self, strict=True):
            text = text.replace(agent.address.rpartition(":")[2], stand_in)
        return sorted(line.rstrip(" ") for line in text.split("\n"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Pair]]:
    """By the kind of who is asked, and answers the query ``load``; the other is Serf's."""
    handler = ("-event-handler", "query:load=echo '0.42 <&>'; echo err >&2")
    with ExitStack() as crews:
        found = {}
        for kind in ("serf", "swimsim"):
            crew = crews.enter_context(Crew(tmp_path_factory.mktemp(kind)))
            first = crew.start(kind, "n1", *handler, tags={"role": "api"})
            found[kind] = Pair(first, crew.serf("n2", join=[first]))
        alive = {"n1": "alive", "n2": "alive"}
        for agent in [agent for pair in found.values() for agent in pair]:
            until(lambda agent=agent: agent.states() == alive, "the two to meet")  # type: ignore[misc]
        yield found


@pytest.fixture
def pair(pairs: dict[str, Pair]) -> Pair:
    """Two of Serf's."""
    return pairs["serf"]


class Said(NamedTuple):
    """What a command line came to."""

    status: int
    out: str
    err: str


Ours = Callable[[Agent, Sequence[str]], Said]


@pytest.fixture
def ours(capfd: pytest.CaptureFixture[str]) -> Ours:
    """Our command line, in this process: a new one for each would take most of the time."""

    def run(agent: Agent, line: Sequence[str]) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([line[0], f"-rpc-addr={agent.rpc}", *line[1:]])
        return Said(int(ended.value.code or 0), *capfd.readouterr())

    return run


def theirs(agent: Agent, line: Sequence[str]) -> Said:
    """Serf's."""
    done = agent.cli(*line)
    return Said(done.returncode, done.stdout, done.stderr)


SAME = {
    "members": ["members"],
    "members, detailed": ["members", "-detailed"],
    "members as JSON": ["members", "--format=json"],
    "members of a status that nobody has": ["members", "-status", "left"],
    "the same as JSON": ["members", "-format=json", "-status=left"],
    "members of a role": ["members", "-role=api"],
    "members by name": ["members", "-name=n[12]", "-status=alive|x"],
    "members by a tag": ["members", "-tag", "role=a.*"],
    "a tag that is missing is empty": ["members", "-tag", "nosuch=.*"],
    "a format that is none": ["members", "-format=xml"],
    "a tag that is none": ["members", "-tag", "foo"],
    "an expression that is none": ["members", "-name=(("],
    "words behind the flags are passed over": ["members", "extra", "-detailed"],
    "an event": ["event", "deploy", "v1"],
    "an event not to be coalesced": ["event", "-coalesce=false", "deploy"],
    "a switch takes no value from the next word": ["event", "-coalesce", "false", "x"],
    "an event that is too large": ["event", "x", BIG],
    "an event too large by its frame": ["event", "x", "y" * 500],
    "a query": ["query", "-timeout=700ms", "-node=n1", "load"],
    "a query without acks": ["query", "-timeout", "700ms", "-no-ack", "-relay-factor=1", "load"],
    "a query as JSON": ["query", "-format=json", "-timeout=700ms", "-node=n1", "load", "x"],
    "a query nobody answers, as JSON": ["query", "-format=json", "-no-ack", "-timeout=.3s", "x"],
    "a query by tag": ["query", "-timeout=700ms", "-tag", "role=ap", "load"],
    "a query that is too large": ["query", "x", BIG + BIG],
    "a query of Serf's own": ["query", "_serf_conflict"],
    "a query format that is none": ["query", "-format=xx", "load"],
    "too many relays": ["query", "-relay-factor=300", "load"],
    "rtt to nobody": ["rtt", "nobody"],
    "keys where there are none": ["keys", "-list"],
    "a key where there are none": ["keys", "-use", KEY],
    "a key that is none": ["keys", "-install", "zzz!"],
    "two things with keys": ["keys", "-list", "-use", KEY],
    "tags": ["tags", "-set", "role=api", "-delete", "x"],
    "tags that are too large": ["tags", "-set", "a=" + BIG],
    "tags that are none": ["tags", "-set", "foo"],
    "join": ["join", "-replay", "SECOND"],
    "join nobody": ["join", "127.0.0.1:1"],
    "join nobody twice": ["join", "127.0.0.1:1", "127.0.0.1:2"],
    "force-leave of nobody": ["force-leave", "nobody"],
    "reachability": ["reachability"],
    "a log level that is none": ["monitor", "-log-level=loud"],
    "no agent": ["members", "-rpc-addr=127.0.0.1:1"],
    "no port": ["members", "-rpc-addr=127.0.0.1"],
    "a token where none is wanted": ["members", "-rpc-auth=x"],
}
"""Command lines whose whole output is compared, but for its order."""

ASKERS = [("swimsim", "serf"), ("serf", "swimsim"), ("swimsim", "swimsim")]
"""Whose command line asks whose agent, beside Serf's own asking its own."""

MISUSED = {
    "an event without a name": ["event"],
    "an event with too many words": ["event", "a", "b", "c"],
    "a query without a name": ["query"],
    "a query with too many words": ["query", "a", "b", "c"],
    "nobody to join": ["join"],
    "nobody to force out": ["force-leave"],
    "two to force out": ["force-leave", "a", "b"],
    "no rtt": ["rtt"],
    "three for an rtt": ["rtt", "a", "b", "c"],
    "a flag that is none": ["members", "-nosuch"],
    "a flag that is none, with two dashes": ["members", "--nosuch=1"],
    "a flag without its value": ["members", "-name"],
    "a duration that is none": ["query", "-timeout=soon", "x"],
    "a number that is none": ["query", "-relay-factor=x", "x"],
    "a switch that is neither": ["event", "-coalesce=maybe", "x"],
    "three dashes": ["members", "---name"],
}
"""Command lines that are answered by a complaint and help: the complaint is compared."""


OURS = {
    "tags that are too large": "Encoded length of tags exceeds limit of 512 bytes: it is 616$",
}
"""Where our agent says more than Serf's: what it says."""


@pytest.mark.parametrize(("by", "of"), ASKERS)
@pytest.mark.parametrize("title", SAME)
def test_whoever_asks_whom_hears_the_same(
    pairs: dict[str, Pair], ours: Ours, title: str, by: str, of: str
) -> None:
    reference, pair = pairs["serf"], pairs[of]
    expected = theirs(reference.first, reference.words(SAME[title]))
    ask = theirs if by == "serf" else ours
    found = ask(pair.first, pair.words(SAME[title]))
    assert (found.status, found.err) == (expected.status, expected.err)
    if of == "swimsim" and title in OURS:
        assert re.search(OURS[title], found.out.strip())
    else:
        assert pair.lines(found) == reference.lines(expected)


@pytest.mark.parametrize("line", MISUSED.values(), ids=MISUSED)
def test_both_complain_in_the_same_words(pair: Pair, ours: Ours, line: list[str]) -> None:
    expected, found = theirs(pair.first, line), ours(pair.first, line)
    assert (found.status, found.err) == (expected.status, expected.err)
    first = expected.out.splitlines()[0]
    if not first.startswith("Usage:"):
        assert found.out.startswith(f"{first}\n\n")
    assert "Usage:" in found.out


def test_all_print_the_same_sections(pairs: dict[str, Pair], ours: Ours) -> None:
    volatile = re.compile(r"(goroutines|version|max_procs|_time|_queue)(\W+)[\w.]+")
    for form in ("text", "json"):
        line = ["info", f"-format={form}"]
        expected = volatile.sub(r"\1\2X", theirs(pairs["serf"].first, line).out)
        for by, of in ASKERS:
            found = (theirs if by == "serf" else ours)(pairs[of].first, line)
            assert volatile.sub(r"\1\2X", found.out) == expected, (by, of)


def test_all_estimate_round_trips_alike(pairs: dict[str, Pair], ours: Ours) -> None:
    form = re.compile(r"Estimated (\w+) <-> (\w+) rtt: \d+\.\d{3} ms\n")
    for line, (by, of) in product((["rtt", "n2"], ["rtt", "n2", "n1"]), ASKERS):
        agent = pairs[of].first
        until(lambda agent=agent: theirs(agent, ["rtt", "n2"]).status == 0, "coordinates")  # type: ignore[misc]
        for said in [(theirs if by == "serf" else ours)(agent, line)]:
            match = form.fullmatch(said.out)
            assert match is not None, said
            assert match.groups() == ("n2", "n1")


REFUSED = {
    "members": ["members"],
    "info": ["info"],
    "event": ["event", "x"],
    "query": ["query", "x"],
    "join": ["join", "a"],
    "leave": ["leave"],
    "force-leave": ["force-leave", "-prune", "x"],
    "monitor": ["monitor"],
    "reachability": ["reachability"],
    "rtt to the agent": ["rtt", "a"],
    "rtt": ["rtt", "a", "b"],
    "tags": ["tags", "-set", "a=b"],
    "keys list": ["keys", "-list"],
    "keys use": ["keys", "-use", KEY],
    "a wrong token": ["members", "-rpc-auth=wrong"],
}


def test_without_the_token_all_are_refused_in_the_same_words(crew: Crew, ours: Ours) -> None:
    real, agent = (
        crew.start(kind, kind, config={"rpc_auth": TOKEN}) for kind in ("serf", "swimsim")
    )
    for title, line in REFUSED.items():
        expected = theirs(real, line)
        heard = [ours(real, line), theirs(agent, line), ours(agent, line)]
        assert heard == [expected] * 3, title
    for ask, leaver in ((ours, real), (theirs, agent)):
        goodbye = ask(leaver, ["leave", f"-rpc-auth={TOKEN}"])
        assert goodbye == (0, "Graceful leave complete\n", "")
        assert leaver.process.wait(20) == 0


SECOND_KEY = "T9jncgl9mbLus+baTTa7q7nPSUrXwbDi2dhbtqir37s="
ROTATION = (
    ["-list"],
    ["-install", SECOND_KEY],
    ["-list"],
    ["-remove", KEY],  # refused: it is in use
    ["-use", SECOND_KEY],
    ["-use", KEY[:-4] + "AAAA"],  # refused: not installed
    ["-remove", KEY],
    ["-list"],
    ["-install", "AAAA"],  # refused: too short
)


def test_keys_of_a_cluster_are_changed_and_listed_alike(crew: Crew, ours: Ours) -> None:
    real = crew.serf("n1", "-encrypt", KEY)
    mixed = crew.swimsim("n1-too", "-encrypt", KEY)
    for asked, name in ((real, "n2"), (mixed, "n2-too")):
        crew.serf(name, "-encrypt", KEY, join=[asked])
        both = {asked.name: "alive", name: "alive"}
        until(lambda asked=asked, both=both: asked.states() == both, "the two to meet")  # type: ignore[misc]
    for line in ROTATION:
        expected = by_name(theirs(real, ["keys", *line]))
        for ask, agent in ((ours, real), (theirs, mixed), (ours, mixed)):
            assert by_name(ask(agent, ["keys", *line])) == expected, (line, agent.kind)


def by_name(said: Said) -> tuple[int, list[str]]:
    """Without what tells one pair of agents from the other, and Serf's new texts from its old."""
    text = said.out.replace("-too", "").lower()
    return said.status, sorted(re.sub(r" +", " ", text).splitlines())


@pytest.mark.parametrize("kind", ["serf", "swimsim"])
def test_monitor_shows_the_log_and_every_event(crew: Crew, tmp_path: Path, kind: str) -> None:
    agent = crew.start(kind, "n1")
    agent.wait_for("Received event: member-join")  # what follows is not made one with it
    with watching(agent, "serf", tmp_path) as theirs, watching(agent, "swimsim", tmp_path) as ours:

        def both_see(event: str) -> bool:
            agent.cli("event", "-coalesce=false", event)
            return all(event in watch.path.read_text() for watch in (ours, theirs))

        until(lambda: both_see("start"), "both to watch")
        agent.cli("query", "-timeout=100ms", "question", 'a"b\\c \u00e9')
        agent.cli("event", "deploy", "v1")
        agent.cli("tags", "-set", "a=b")
        words = ("question", "deploy", "member-update")
        until(
            lambda: all(
                word in path.read_text() for path in (ours.path, theirs.path) for word in words
            ),
            "both to have seen it all",
        )
        agent.cli("leave")
        statuses = [watch.process.wait(30) for watch in (ours, theirs)]
        assert statuses == [1, 1]
        seen = [parts(watch.path.read_text()) for watch in (ours, theirs)]
        assert seen[0] == seen[1]
        text = ours.path.read_text()
    for word in ('"question"', '"deploy"', '"member-update"', "[INFO]", "Remote"):
        assert word in text


class Watch(NamedTuple):
    """A command that runs, and where it prints to."""

    process: subprocess.Popen[bytes]
    path: Path


@contextmanager
def watching(agent: Agent, by: str, folder: Path) -> Iterator[Watch]:
    """``monitor`` in a process of its own."""
    path = folder / f"{by}.out"
    command = ["serf"] if by == "serf" else [sys.executable, "-m", "swimsim"]
    with path.open("wb") as out:
        process = subprocess.Popen([*command, "monitor", f"-rpc-addr={agent.rpc}"], stdout=out)
    try:
        yield Watch(process, path)
    finally:
        process.kill()
        process.wait()


def parts(text: str) -> list[list[str]]:
    """Events, each with its fields in order, and the last words.

    But not the events before both watched, nor the farewell, with which the connection ends.
    """
    found = re.findall(r"Event Info:\n((?:\t.*\n)+)", text)
    events = [sorted(each.splitlines()) for each in found]
    last = text.rpartition("Event Info:")[2].partition("\n\n")[2]
    unsure = ('"start"', '"member-leave"')
    events = [each for each in events if not any(word in str(each) for word in unsure)]
    return [*sorted(events), [last]]
