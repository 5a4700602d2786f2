"""One cluster of real agents and ours, and everything Serf offers, from both sides.

The four agents share one encrypted cluster for all tests of this module; each test asks the same of
a real agent and of one of ours, and looks at what all four make of it. Agents that are to die,
to come back or to claim a name that is taken are started by the test that needs them.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.agents import HEAL_S, Agent, Crew, until

pytestmark = pytest.mark.timeout(240)  # where somebody must wait for a push/pull
KINDS = ("serf", "swimsim")
FIRST_KEY = base64.b64encode(bytes(range(32))).decode()
SECOND_KEY = base64.b64encode(bytes(range(1, 33))).decode()
EVENT_LIMIT = 512  # bytes of an encoded user event
EVENT_FRAME = 36  # of which an event of a one-letter name takes so many itself, Lamport time aside
QUICK = {"reconnect_interval": "3s"}
PROFILE = "lan"  # "local" says everything twice only, and misses somebody now and then


class Cluster:
    """The four, and what their handlers wrote down."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.folder = crew.folder
        self.agents: list[Agent] = []
        for kind in (*KINDS, *KINDS):
            self.add(kind, f"{kind}-{len(self.agents)}", tags={"role": "web", "kind": kind})
        until(self.agreed, "the four to meet")

    def add(self, kind: str, name: str, *flags: str, **settings: object) -> Agent:
        """One more for good."""
        agent = self.guest(kind, name, *flags, *self.handlers(name), **settings)
        self.agents.append(agent)
        return agent

    def guest(
        self, kind: str, name: str, *flags: str, joins: bool = True, **settings: object
    ) -> Agent:
        """One more for a while. Each has a keyring of its own."""
        ring = self.folder / f"{name}.keyring"
        if not ring.exists():
            ring.write_text(json.dumps([FIRST_KEY]))
        join = self.agents[:1] if joins else []
        return self.crew.start(
            kind,
            name,
            "-keyring-file",
            str(ring),
            *flags,
            join=join,
            config=QUICK,
            profile=PROFILE,
            **settings,
        )  # type: ignore[arg-type]

    def handlers(self, name: str) -> list[str]:
        wrote = self.folder / f"{name}.events"
        return [
            "-event-handler",
            f'user=echo "$SERF_USER_EVENT $(wc -c)" >> {wrote}',
            "-event-handler",
            'query:who=echo "$SERF_SELF_NAME $(cat)"',
        ]

    def wrote(self, agent: Agent) -> list[str]:
        """Events that an agent's handler saw: name and length of the payload."""
        path = self.folder / f"{agent.name}.events"
        return path.read_text().splitlines() if path.exists() else []

    def agreed(self) -> bool:
        """Whether all hold just each other alive."""
        alive = {each.name: "alive" for each in self.agents}
        return all(_alive(each) == alive for each in self.agents)

    def everywhere(self, condition: Callable[[Agent], bool]) -> bool:
        """Whether it holds at each of the four."""
        return all(map(condition, self.agents))

    def by(self, kind: str) -> Agent:
        """One of a kind."""
        return next(each for each in self.agents if each.kind == kind)


def _alive(agent: Agent) -> dict[str, str]:
    return {name: status for name, status in agent.states().items() if status == "alive"}


def wait_for(cluster: Cluster, guest: Agent) -> None:
    """Wait until a guest and the four hold each other alive."""
    names = {each.name for each in cluster.agents}
    seen: dict[str, str] = {}

    def met() -> bool:
        seen.clear()
        seen.update(guest.states())
        return names <= {name for name, status in seen.items() if status == "alive"} and all(
            each.states().get(guest.name) == "alive" for each in cluster.agents
        )

    try:
        until(met, f"{guest.name} and the others to meet", HEAL_S)
    except AssertionError:
        views = {each.name: each.states().get(guest.name) for each in cluster.agents}
        raise AssertionError(f"{guest.name} sees {seen}, is seen as {views}") from None


def said(agent: Agent, verb: str, *words: str) -> str:
    """What a command prints, which must succeed."""
    result = agent.cli(verb, *words)
    assert result.returncode == 0, f"{verb}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def cluster(shared_crew: Crew) -> Cluster:
    return Cluster(shared_crew)


@pytest.mark.parametrize("kind", KINDS)
def test_events_up_to_the_limit_arrive_everywhere_just_once(cluster: Cluster, kind: str) -> None:
    sender = cluster.by(kind)
    name = kind[:2]
    fits, much = 1, EVENT_LIMIT
    while much - fits > 1:
        size = (fits + much) // 2
        done = sender.cli("event", "-coalesce=false", f"{name}{size}", "x" * size)
        fits, much = (size, much) if done.returncode == 0 else (fits, size)
    assert fits > EVENT_LIMIT - 2 * EVENT_FRAME
    refused = sender.cli("event", f"{name}{much}", "x" * much)
    assert refused.returncode == 1
    assert "exceeds" in refused.stdout
    said(sender, "event", "-coalesce=false", f"{name}-small", "y")
    expected = {f"{name}{fits} {fits + 1}", f"{name}-small 2"}  # with the newline that handlers get
    until(
        lambda: cluster.everywhere(lambda each: expected <= set(cluster.wrote(each))),
        "the events to be everywhere",
    )
    time.sleep(1.0)  # for a second one of any
    for agent in cluster.agents:
        wrote = cluster.wrote(agent)
        assert [wrote.count(line) for line in sorted(expected)] == [1, 1]


QUERIES: dict[str, tuple[list[str], Callable[[Agent], bool]]] = {  # flags: who is asked
    "everybody": ([], lambda each: True),
    "by tag": (["-tag", "kind=^ser"], lambda each: each.kind == "serf"),
    "by name": (["-node", "swimsim-1", "-node", "serf-0"], lambda each: each.name[-1] in "01"),
    "both": (["-node", "swimsim-1", "-tag", "kind=serf"], lambda each: False),
    "with relays": (["-relay-factor", "2"], lambda each: True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("flags", "meant"), QUERIES.values(), ids=QUERIES)
def test_queries(
    cluster: Cluster, kind: str, flags: list[str], meant: Callable[[Agent], bool]
) -> None:
    asker = cluster.by(kind)
    names = {each.name for each in cluster.agents if meant(each)}

    def complete() -> bool:
        """Whether all answer; none ever does that was not asked."""
        out = said(asker, "query", "-format=json", "-timeout=1s", *flags, "who", "payload")
        answers = json.loads(out)
        assert set(answers["Acks"] or ()) <= names
        expected = {name: f"{name} payload\n" for name in names}
        assert answers["Responses"].items() <= expected.items()
        return set(answers["Acks"] or ()) == names and answers["Responses"] == expected

    until(complete, "one query that gossip brings to all who are meant")


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_updated(cluster: Cluster, kind: str) -> None:
    agent = cluster.by(kind)
    said(agent, "tags", "-set", "version=2", "-delete", "role")
    until(
        lambda: cluster.everywhere(
            lambda each: each.members()[agent.name].tags == {"kind": kind, "version": "2"}
        ),
        "the tags to be everywhere",
    )


def test_round_trips_are_known_everywhere(cluster: Cluster) -> None:
    def knows(agent: Agent) -> bool:
        return all(
            agent.cli("rtt", one.name, other.name).returncode == 0
            for one in cluster.agents[:2]
            for other in cluster.agents[2:]
        )

    until(lambda: cluster.everywhere(knows), "all coordinates")
    told = said(cluster.by("swimsim"), "rtt", "serf-0", "serf-2")
    assert 0 < float(told.split()[-2]) < 1000


def test_keys_are_rotated_under_traffic(cluster: Cluster) -> None:
    def listed(agent: Agent) -> dict[str, str]:
        lines = agent.cli("keys", "-list").stdout.splitlines()
        return dict(line.split() for line in lines if line.endswith("]"))

    ours, real = cluster.by("swimsim"), cluster.by("serf")
    for number, (agent, action) in enumerate(
        (
            (ours, ("-install", SECOND_KEY)),
            (real, ("-use", SECOND_KEY)),
            (ours, ("-remove", FIRST_KEY)),
        )
    ):
        until(
            lambda agent=agent, action=action: agent.cli("keys", *action).returncode == 0,  # type: ignore[misc]
            f"all four to have done {action[0]}",  # a query may miss one; asking again does no harm
        )
        for sender in (ours, real):
            said(sender, "event", "-coalesce=false", f"key{number}-{sender.kind}", "z")
    wanted = {f"key{number}-{kind} 2" for number in range(3) for kind in KINDS}
    until(
        lambda: cluster.everywhere(lambda each: wanted <= set(cluster.wrote(each))),
        "the events of the rotation to be everywhere",
    )
    for agent in (ours, real):
        until(
            lambda agent=agent: listed(agent) == {SECOND_KEY: "[4/4]"},  # type: ignore[misc]
            "all four to have the second key alone",
        )
    for agent in cluster.agents:
        ring = cluster.folder / f"{agent.name}.keyring"
        assert json.loads(ring.read_text()) == [SECOND_KEY]
        assert SECOND_KEY not in agent.log(), "keys do not belong into logs"
    assert said(ours, "info").count("encrypted = true") == 1


@pytest.fixture
def key(cluster: Cluster) -> Callable[[str], None]:
    """Give whoever comes the key that the cluster has by now."""
    current = json.loads((cluster.folder / "serf-0.keyring").read_text())

    def give(name: str) -> None:
        (cluster.folder / f"{name}.keyring").write_text(json.dumps(current))

    return give


def test_the_failed_are_made_to_leave_and_pruned(
    cluster: Cluster, key: Callable[[str], None]
) -> None:
    guests = []
    for kind in KINDS:
        key(f"doomed-{kind}")
        guests.append(cluster.guest(kind, f"doomed-{kind}"))
    until(lambda: cluster.everywhere(lambda each: len(_alive(each)) == 6), "the guests to join")
    for guest in guests:
        guest.kill()
    names = {guest.name for guest in guests}
    until(
        lambda: cluster.everywhere(
            lambda each: (
                names == {name for name, status in each.states().items() if status == "failed"}
            )
        ),
        "the guests to be failed",
    )
    ours, real = cluster.by("swimsim"), cluster.by("serf")

    def gone() -> bool:  # gossip may miss one; saying it again does no harm
        said(ours, "force-leave", "doomed-serf")
        said(real, "force-leave", "doomed-swimsim")
        return cluster.everywhere(lambda each: {each.states()[name] for name in names} == {"left"})

    until(gone, "the guests to have left")

    def pruned() -> bool:
        said(real, "force-leave", "-prune", "doomed-serf")
        said(ours, "force-leave", "-prune", "doomed-swimsim")
        return cluster.everywhere(lambda each: not names & set(each.states()))

    until(pruned, "one prune that gossip brings to all")


def test_pruning_one_that_lives_is_refused(cluster: Cluster) -> None:
    refused = cluster.by("swimsim").cli("force-leave", "-prune", "serf-0")
    assert refused.returncode == 1
    assert "alive" in refused.stdout
    assert cluster.agreed()


@pytest.mark.parametrize("kind", KINDS)
def test_who_was_cut_off_is_reconnected(
    cluster: Cluster, kind: str, key: Callable[[str], None]
) -> None:
    name = f"cut-{kind}"
    key(name)
    guest = cluster.guest(kind, name)
    wait_for(cluster, guest)
    guest.kill()
    until(
        lambda: cluster.everywhere(lambda each: each.states().get(name) == "failed"),
        "the guest to be failed",
    )
    ring = str(cluster.folder / f"{name}.keyring")
    again = cluster.crew.restart(
        guest, "-keyring-file", ring, config=QUICK, profile=PROFILE
    )  # joins nobody
    wait_for(cluster, again)
    assert again.leave() == 0
    until(lambda: cluster.everywhere(lambda each: each.states().get(name) == "left"), "it to leave")


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_claims_a_name_that_is_taken_has_to_go(
    cluster: Cluster, kind: str, key: Callable[[str], None]
) -> None:
    taken = next(each for each in cluster.agents if each.kind != kind)
    folder = cluster.folder / f"claims-{taken.name}"
    folder.mkdir()
    claimant = Crew(folder)
    ring = str(cluster.folder / f"{taken.name}.keyring")
    with claimant:
        other = claimant.start(
            kind,
            taken.name,
            "-keyring-file",
            ring,
            join=[cluster.agents[0], cluster.agents[3]],
            profile=PROFILE,
        )
        until(lambda: not other.is_running, "the claimant to end")
        assert other.process.returncode == 0
    assert taken.is_running
    assert taken.states()[taken.name] == "alive"


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_a_snapshot_of_either_brings_either_back(
    cluster: Cluster, first: str, second: str, key: Callable[[str], None], tmp_path: Path
) -> None:
    name = f"back-{first}-{second}"
    key(name)
    snapshot = ["-snapshot", str(tmp_path / "snapshot")]
    guest = cluster.guest(first, name, *snapshot)
    wait_for(cluster, guest)

    def remembered() -> bool:  # Serf flushes as it writes: at an event, for one
        said(guest, "event", "-coalesce=false", "flush")
        return (tmp_path / "snapshot").read_text().count("alive: ") >= 5

    until(remembered, "the snapshot", HEAL_S)
    guest.kill()
    port = int(guest.address.rpartition(":")[2])
    again = cluster.guest(second, name, *snapshot, joins=False, port=port)
    wait_for(cluster, again)
    assert "Re-joined to previously known node" in again.log()
    assert again.leave() == 0
