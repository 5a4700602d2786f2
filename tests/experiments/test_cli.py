"""The command line: what it prints, what it writes, and how it refuses.

A process of its own costs two seconds of imports, so most commands run in this one, through the
same front door; one that succeeds, one that is refused and one that is not found are true ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from backends.sim.scenario import load
from swimsim.__main__ import main

SCENARIO = """
until = "20s"
title = "one crash"
seeds = [1, 2]
[cluster]
nodes = 8
[[faults]]
kind = "kill"
at = "3s"
hosts = { names = ["node-5"] }
"""


def swimsim(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command, as a user would."""
    command = [sys.executable, "-m", "swimsim", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


class Told(NamedTuple):
    returncode: object
    stdout: str
    stderr: str


Run = Callable[..., Told]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""

    def run(*words: object) -> Told:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([*map(str, words)])
        return Told(end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "crash.toml"
    path.write_text(SCENARIO)
    return path


def test_simulate_prints_a_table_for_people(scenario: Path) -> None:
    done = swimsim("simulate", scenario)
    assert done.returncode == 0, done.stderr
    assert "one crash" in done.stdout
    assert done.stdout.count("node-5") == 2
    assert "7 of 7" in done.stdout


def test_simulate_json_is_json(here: Run, scenario: Path) -> None:
    outcomes = json.loads(here("simulate", scenario, "--json").stdout)
    assert [outcome["seed"] for outcome in outcomes] == [1, 2]
    assert outcomes[0]["deaths"][0]["knew"] == 7
    assert outcomes[0]["digest"] != outcomes[1]["digest"]


def test_a_seed_on_the_command_line_replaces_those_of_the_file(here: Run, scenario: Path) -> None:
    both = here("simulate", scenario, "--digest").stdout.split()
    assert here("simulate", scenario, "--seed", 2, "--digest").stdout.split() == both[1:]


def test_simulate_out_writes_frames_a_figure_and_the_whole_scenario(
    here: Run, scenario: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = here("simulate", scenario, "--seed", 1, "--out", out)
    written = sorted(path.name for path in out.iterdir())
    assert written == [
        "events-1.parquet", "health-1.parquet", "messages-1.parquet", "outcome.json",
        "scenario.toml", "views-1.png",
    ]  # fmt: skip
    assert all(str(out / name) in done.stdout for name in written)
    events = pd.read_parquet(out / "events-1.parquet")
    assert set(events[events.event == "failed"].member) == {"node-5"}
    again = here("simulate", out / "scenario.toml", "--seed", 1, "--digest").stdout.strip()
    assert again == json.loads((out / "outcome.json").read_text())[0]["digest"]
    assert load(out / "scenario.toml").config == load(scenario).config


BAD = {
    "unknown key": ('until = "5s"\nfoo = 1', "foo: unknown key"),
    "wrong unit": ('until = "5 parsecs"', "until: expected a duration"),
    "wrong type": ('until = "5s"\n[cluster]\nnodes = "many"', "cluster.nodes: expected"),
    "no such node": (
        'until = "5s"\n[[faults]]\nkind = "kill"\nat = "1s"\nhosts = { names = ["me"] }',
        "faults[0].hosts.names: no node is called 'me'",
    ),
    "negative time": (
        'until = "5s"\n[[faults]]\nkind = "heal"\nat = "-1s"',
        "faults[0].at: expected a duration that is not negative",
    ),
    "not TOML": ("until = ", "not TOML"),
}


@pytest.mark.parametrize(("text", "complaint"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_status_2_and_nothing_written(
    here: Run, text: str, complaint: str, tmp_path: Path
) -> None:
    path, out = tmp_path / "bad.toml", tmp_path / "out"
    path.write_text(text)
    done = here("simulate", path, "--out", out)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"swimsim: {path}: ")
    assert complaint in done.stderr
    assert not out.exists()


def test_a_missing_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = swimsim("simulate", tmp_path / "none.toml")
    assert done.returncode == 2
    assert done.stderr == f"swimsim: {tmp_path / 'none.toml'}: No such file or directory\n"


def test_a_folder_that_cannot_be_is_refused_before_anything_runs(here: Run, scenario: Path) -> None:
    done = here("simulate", scenario, "--out", scenario / "results")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        done.stderr == f"swimsim: {scenario / 'results'}: expected a folder, {scenario} is none\n"
    )


def test_a_seed_that_is_given_twice_is_refused(here: Run, scenario: Path) -> None:
    done = here("simulate", scenario, "--seed", 1, "--seed", 1)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "swimsim: --seed: expected each seed once\n"


def test_a_run_that_ends_with_nobody_is_drawn_without_complaint(here: Run, tmp_path: Path) -> None:
    path = tmp_path / "end.toml"
    path.write_text(SCENARIO.replace('names = ["node-5"]', "share = 1.0"))
    done = here("simulate", path, "--seed", 1, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "views-1.png").is_file()


def test_an_unknown_command_is_not_found_and_an_unknown_experiment_refused() -> None:
    assert swimsim("dance").returncode == 127
    done = swimsim("experiment", "run", "alchemy")
    assert done.returncode == 2
    assert "expected one of detection" in done.stderr


def test_help_and_version() -> None:
    assert "simulate" in swimsim("--help").stdout
    assert swimsim("version").stdout.startswith("swimsim ")
