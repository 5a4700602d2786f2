"""The crews themselves: agents of both kinds start, meet, and are gone afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.interop.agents import Crew, until


def test_agents_of_both_kinds_meet_and_end_with_their_crew(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        web = crew.serf("web", tags={"role": "web"})
        ours = crew.swimsim("ours", join=[web])
        both = {"web": "alive", "ours": "alive"}
        until(lambda: web.states() == both, "both to meet")
        assert web.members()["web"] == (web.address, "alive", {"role": "web"})
        ours.wait_for("EventMemberJoin: web")
        pids = [agent.process.pid for agent in crew.agents]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_agent_that_cannot_start_says_why(crew: Crew) -> None:
    with pytest.raises(AssertionError, match="serf agent nobody did not start"):
        crew.serf("nobody", "-encrypt", "no key")
