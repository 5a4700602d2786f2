"""Scenarios with the trace that is expected of them: read a change of behaviour as a diff.

Each ``NAME.toml`` here runs for its first seed; ``NAME.txt`` holds the membership events, what
came of the run and its digest. ``pytest tests/scenarios --regenerate`` writes them anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.sim.scenario import load

HERE = Path(__file__).parent
DIGEST = """
import sys
from pathlib import Path
from backends.sim.scenario import load
plan = load(Path(sys.argv[1]))
print(plan.run(plan.scenario.seeds[0])[0].digest)
"""
SCENARIOS = sorted(HERE.glob("*.toml"))


def told(path: Path) -> str:
    """What a scenario does, as text."""
    plan = load(path)
    outcome, cluster = plan.run(plan.scenario.seeds[0])
    lines = [f"# {plan.scenario.title}"]
    for event in cluster.trace.events().itertuples():
        news = f"{event.event} {event.member} {event.incarnation}"
        by = f" by {event.source}" if event.source != event.member else ""
        lines.append(f"{event.time_s:12.6f} {event.observer}: {news}{by}")
    lines.append(
        f"{outcome.nodes} nodes run, converged: {outcome.converged}, "
        f"false positives: {outcome.false_positives}, steps: {outcome.steps}"
    )
    return "\n".join([*lines, f"digest {outcome.digest}", ""])


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_trace_is_the_expected_one(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.with_suffix(".txt")
    if request.config.getoption("--regenerate"):
        expected.write_text(told(path), encoding="utf-8")
    assert told(path) == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_the_digest_is_the_same_in_any_process(hash_seed: str) -> None:
    path = HERE / "everything.toml"
    command = [sys.executable, "-c", DIGEST, str(path)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=HERE.parent.parent
    )
    digest = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()[-1]
    assert f"digest {done.stdout.strip()}" == digest
