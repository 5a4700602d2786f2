"""Mixed clusters of HashiCorp's agents and ours: each side tells the same story.

Both are read as operators read them (``serf members -format=json``), and by a push/pull as well,
which alone shows who is suspected. Serf 0.9.4 knows no labels, so
those are tried among our own, with a real agent beside them that must not notice.

The stories are told with the LAN profile: of the local one's two transmissions both may go to
the dead. All of LAN's may miss one of six agents too, if seldom; its next push/pull tells it then.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from swimsim.wire import PLAIN, Envelope, keyring
from tests.interop.agents import HEAL_S, Agent, Crew, Seen, until
from tests.interop.strangers import believed

pytestmark = pytest.mark.timeout(240)  # where somebody must wait for a push/pull
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(32)).decode()
ENCRYPTED = replace(PLAIN, keyring=keyring.keyring([keyring.parse_key(KEY)]))
LABELLED = replace(PLAIN, label=b"blue")

WORLDS: dict[str, tuple[Sequence[str], Envelope]] = {
    "as Serf comes": ((), PLAIN),
    "uncompressed": (("-disable-compression",), PLAIN),
    "encrypted": (("-encrypt", KEY), ENCRYPTED),
}
TAGS = {
    "serf-1": {"role": "web", "zone": "eu"},
    "ours-1": {"role": "db", "motto": "αβγ, and = so on"},
}


def everybody(agents: Sequence[Agent]) -> dict[str, Seen]:
    """What all must say when all is well."""
    return {each.name: Seen(each.address, "alive", TAGS.get(each.name, {})) for each in agents}


def agree(agents: Sequence[Agent], wanted: Mapping[str, Seen], envelope: Envelope) -> None:
    """Wait until each of these agents tells this of everybody, over all it can be asked by."""
    words = {"failed": "dead"}  # Serf's word and memberlist's
    inside = {
        name: seen._replace(status=words.get(seen.status, seen.status))
        for name, seen in wanted.items()
    }
    for agent in agents:
        name = agent.name
        until(lambda agent=agent: believed(agent, envelope) == inside, f"{name}: {inside}", HEAL_S)
        until(lambda agent=agent: agent.members() == wanted, f"{name}: {wanted}", HEAL_S)


def statuses_until(
    agents: Sequence[Agent], victims: Sequence[Agent], last: str, envelope: Envelope
) -> dict[tuple[str, str], list[str]]:
    """What each of the agents believed of each victim, in order, up to the status ``last``."""
    told: dict[tuple[str, str], list[str]] = {
        (agent.name, victim.name): ["alive"] for agent in agents for victim in victims
    }

    def all_said() -> bool:
        for agent in agents:
            known = believed(agent, envelope)
            for victim in victims:
                so_far = told[agent.name, victim.name]
                if victim.name in known and (status := known[victim.name].status) != so_far[-1]:
                    so_far.append(status)
        return all(so_far[-1] == last for so_far in told.values())

    until(all_said, f"{[each.name for each in victims]} to be {last}", HEAL_S)
    return told


@pytest.mark.parametrize(("flags", "envelope"), WORLDS.values(), ids=WORLDS)
def test_both_sides_tell_the_same_story(
    crew: Crew, flags: Sequence[str], envelope: Envelope
) -> None:
    first = crew.serf("serf-1", *flags, profile="lan", tags=TAGS["serf-1"])
    second = crew.swimsim("ours-1", *flags, profile="lan", join=[first], tags=TAGS["ours-1"])
    for kind, name in [("serf", "serf-2"), ("swimsim", "ours-2")]:
        crew.start(kind, name, *flags, profile="lan", join=[second])
    for kind, name in [("serf", "serf-3"), ("swimsim", "ours-3")]:
        crew.start(kind, name, *flags, profile="lan", join=[first])
    stay, go = crew.agents[:4], crew.agents[4:]
    wanted = everybody(crew.agents)
    agree(crew.agents, wanted, envelope)

    for victim in go:
        victim.kill()
    told = statuses_until(stay, go, "dead", envelope)
    assert set(map(tuple, told.values())) == {("alive", "suspect", "dead")}, told
    lost = {each.name: wanted[each.name]._replace(status="failed") for each in go}
    agree(stay, wanted | lost, envelope)
    for victim in go:
        second.wait_for(f"EventMemberFailed: {victim.name}")

    go = [crew.restart(each, *flags, profile="lan", join=[first]) for each in go]
    agree([*stay, *go], wanted, envelope)

    assert [each.leave() for each in go] == [0, 0]
    told = statuses_until(stay, go, "left", envelope)
    assert set(map(tuple, told.values())) == {("alive", "left")}, told
    gone = {each.name: wanted[each.name]._replace(status="left") for each in go}
    agree(stay, wanted | gone, envelope)
    for victim in go:
        second.wait_for(f"EventMemberLeave: {victim.name}")


def test_those_who_compress_and_those_who_do_not_understand_each_other(crew: Crew) -> None:
    first = crew.serf("serf-1", "-disable-compression")
    crew.swimsim("ours-1", join=[first])
    crew.serf("serf-2", join=[first])
    crew.swimsim("ours-2", "-disable-compression", join=[first])
    wanted = {each.name: Seen(each.address, "alive", {}) for each in crew.agents}
    agree(crew.agents, wanted, PLAIN)


def test_tags_that_change_reach_our_side(crew: Crew) -> None:
    real = crew.serf("serf-1", tags={"role": "web", "zone": "eu"})
    ours = crew.swimsim("ours-1", join=[real])
    until(lambda: "serf-1" in believed(ours), "the two to meet")
    assert real.cli("tags", "-set", "role=db", "-delete", "zone").returncode == 0
    until(lambda: believed(ours)["serf-1"].tags == {"role": "db"}, "the new tags")
    ours.wait_for("EventMemberUpdate: serf-1")


def test_who_has_the_wrong_key_stays_out(crew: Crew) -> None:
    real = crew.serf("serf-1", "-encrypt", KEY)
    ours = crew.swimsim("ours-1", "-encrypt", KEY, join=[real])
    wanted = {each.name: Seen(each.address, "alive", {}) for each in crew.agents}
    agree([real, ours], wanted, ENCRYPTED)
    strangers = [
        crew.start(kind, f"{kind}-{place}", *flags, join=[real, ours], is_ready=False)
        for kind in ("serf", "swimsim")
        for place, flags in enumerate([("-encrypt", OTHER_KEY), ()])
    ]
    for each in strangers:
        assert each.process.wait(30) == 1, each.log()
    agree([real, ours], wanted, ENCRYPTED)


def test_a_label_keeps_our_own_together_and_away_from_others(crew: Crew) -> None:
    real = crew.serf("serf-1")
    alone = {"serf-1": Seen(real.address, "alive", {})}
    blue = [crew.swimsim("blue-1", "-label", "blue")]
    blue.append(crew.swimsim("blue-2", "-label", "blue", join=blue))
    together = {each.name: Seen(each.address, "alive", {}) for each in blue}
    agree(blue, together, LABELLED)
    for label, target in [("blue", real), ("green", blue[0]), ("", blue[0])]:
        stranger = crew.swimsim(f"stray-{label}", "-label", label, join=[target], is_ready=False)
        assert stranger.process.wait(30) == 1, stranger.log()
    intruder = crew.serf("intruder", join=[blue[0]], is_ready=False)
    assert intruder.process.wait(30) == 1, intruder.log()
    agree(blue, together, LABELLED)
    assert real.members() == alone
    assert json.loads(real.cli("info", "-format=json").stdout)["serf"]["members"] == "1"
