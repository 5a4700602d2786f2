"""The commands of experiments: what they print and write, how they refuse, how they continue."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from experiments import commands, detection
from experiments.commands import experiment
from experiments.engines import Engine, EngineError, dask
from experiments.experiment import Row, Verdict

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 250.0  # on a machine that does much else
SMALL = ("run", "detection", "--nodes", "8")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "swimsim", *map(str, words)]


def swimsim(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command, as a user would."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE_S
    )


def here(*words: object) -> Result:
    """Run the command in this process, which costs no imports."""
    return CliRunner().invoke(experiment, [str(word) for word in words])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small experiment's folder, and what was printed."""
    out = tmp_path_factory.mktemp("results")
    finished = swimsim("experiment", *SMALL, "--runs", 6, "--jobs", 2, "--out", out)
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


def test_an_experiment_prints_its_table_and_every_verdict(done: tuple[Path, str]) -> None:
    _, printed = done
    assert "first detection" in printed
    assert "S_min" in printed
    assert printed.count("pass") >= 3
    assert "FAIL" not in printed


def test_an_experiment_writes_rows_tables_verdicts_figures_and_manifest(
    done: tuple[Path, str],
) -> None:
    out, printed = done
    files = sorted(path.name for path in out.iterdir() if path.is_file())
    assert files == [
        "detection-summary.parquet", "detection-verdicts.parquet", "detection.json",
        "detection.parquet", "detection.png", "detection.svg",
    ]  # fmt: skip
    assert all(f"wrote {out / name}" in printed for name in files)
    manifest = json.loads((out / "detection.json").read_text())
    assert manifest["command"] == (
        "swimsim experiment run detection --quick --nodes 8 --runs 6 --seed 1"
    )
    assert (manifest["root_seed"], manifest["runs"], manifest["crashes"]) == (1, 18, [])
    assert {"swimsim", "simpy", "python"} <= manifest["versions"].keys()
    assert {cell["params"]["nodes"] for cell in manifest["cells"]} == {8}
    rows = pd.read_parquet(out / "detection.parquet")
    assert {"seed", "nodes", "t_ping"} <= set(rows.columns)
    verdicts = pd.read_parquet(out / "detection-verdicts.parquet")
    assert list(verdicts.columns) == [
        "claim", "bound", "measured", "passed", "explanation", "binding", "verdict"
    ]  # fmt: skip


def test_the_same_command_again_makes_nothing_and_writes_the_same(done: tuple[Path, str]) -> None:
    out, _ = done
    rows = (out / "detection.parquet").read_bytes()
    again = here(*SMALL, "--runs", 6, "--jobs", 1, "--out", out)
    assert "detection: reused 18 of 18 runs" in again.stdout
    assert (out / "detection.parquet").read_bytes() == rows
    more = here(*SMALL, "--runs", 7, "--jobs", 1, "--out", out)
    assert "detection: reused 18 of 21 runs" in more.stdout


def test_one_run_is_made_again_by_its_parameters_and_seed(done: tuple[Path, str]) -> None:
    out, _ = done
    rows = pd.read_parquet(out / "detection.parquet")
    row = rows[(rows.measure == "full") & ~rows.lifeguard].iloc[0]
    params = json.dumps({"nodes": 8, "lifeguard": False})
    once = here("once", "detection", "--seed", row.seed, params)
    assert once.exit_code == 0, once.stderr
    assert json.loads(once.stdout)["t_full"] == row.t_full


REFUSED = {
    "no experiment": ("run", "expected names of experiments, or --all"),
    "names and all of them": ("run detection --all", "expected names of experiments, or --all"),
    "an unknown one": (
        "run alchemy",
        "there is no experiment 'alchemy', expected one of detection",
    ),
    "a size that is not there": ("run detection --nodes 9", "no cell of detection has that size"),
    "a file for a folder": (f"run detection --out {__file__}", "expected a folder"),
    "parameters that are no JSON": ("once detection --seed 1 {", "PARAMS: Input data"),
    "parameters of another type": ("once detection --seed 1 {}", "PARAMS: Object missing"),
    "one run of nothing": ("once alchemy --seed 1", "there is no experiment 'alchemy'"),
    "nothing to keep": ("keep detection /nowhere", "/nowhere/detection.json: expected the results"),
}


@pytest.mark.parametrize(("words", "complaint"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_one_line_and_status_2(words: str, complaint: str) -> None:
    done = CliRunner().invoke(experiment, words.split())
    assert done.exit_code == 2
    assert done.stdout == ""
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- what goes wrong in a run ----------------------------------------------------------------

WORDS = "run --all --nodes 8 --runs 2 --out"


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments in this process, so that they can be spoiled; and only one of them."""

    @contextmanager
    def threads(jobs: int | None) -> Iterator[Engine]:
        with ThreadPoolExecutor(1) as executor:
            yield Engine(executor, 1, "a thread")

    monkeypatch.setattr(commands, "local", threads)
    monkeypatch.setattr(commands, "REGISTRY", {"detection": "How fast?"})


@pytest.mark.usefixtures("in_threads")
def test_runs_that_raise_are_told_with_the_command_that_repeats_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = detection.run

    def fragile(params: detection.Params, seed: int) -> list[Row]:
        if not params.lifeguard:
            raise RuntimeError("out of order")
        return run(params, seed)

    monkeypatch.setattr(detection, "run", fragile)
    done = CliRunner().invoke(experiment, [*WORDS.split(), str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr.count("a run failed: swimsim experiment once detection --seed") == 2
    assert "out of order" in done.stderr
    assert "S_min" in done.stdout, "the others are judged"
    manifest = json.loads((tmp_path / "detection.json").read_text())
    assert [crash["error"] for crash in manifest["crashes"]] == ["RuntimeError: out of order"] * 2
    _, _, *words = shlex.split(manifest["crashes"][0]["command"])
    again = CliRunner().invoke(experiment, words)
    assert str(again.exception) == "out of order"


VERDICTS = {  # what the experiment says, and the exit status
    "fails": (Verdict("c", "b", "m", passed=False), 1),
    "is explained": (Verdict("c", "b", "m", passed=False, explanation="because"), 0),
    "is informative": (Verdict("c", "b", "m", passed=False, binding=False), 0),
    "cannot be told": (None, 1),
}


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize(("verdict", "status"), VERDICTS.values(), ids=VERDICTS)
def test_a_line_that_fails_is_status_1_unless_it_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict | None, status: int
) -> None:
    def verdicts(rows: pd.DataFrame) -> list[Verdict]:
        if verdict is None:
            raise ValueError("nothing to judge")
        return [verdict]

    monkeypatch.setattr(detection, "verdicts", verdicts)
    done = CliRunner().invoke(experiment, [*WORDS.split(), str(tmp_path)])
    assert done.exit_code == status, done.output
    assert (verdict.word if verdict else "nothing to judge") in done.output


# --- a sweep that is killed ------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_sweep_that_is_killed_continues_where_it_was(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    words = (*SMALL, "--runs", 60, "--jobs", 2, "--out")
    process = subprocess.Popen(
        command("experiment", *words, out),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        saved = _wait_for_files(out, process, at_least=4)
        workers = _children(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
    assert len(workers) == 2
    _wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    runs = sum(len(json.loads(pq.read_schema(path).metadata[b"runs"])) for path in kept)
    assert saved <= len(kept)
    assert 0 < runs < 180

    continued = swimsim("experiment", *words, out)
    assert continued.returncode in (0, 1), continued.stderr
    assert f"detection: reused {runs} of 180 runs" in continued.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    keys = [
        key
        for path in (out / "runs").rglob("*.parquet")
        for key in json.loads(pq.read_schema(path).metadata[b"runs"])
    ]
    assert (len(keys), len(set(keys))) == (180, 180), "no run was made twice"
    request.getfixturevalue("in_threads")
    assert here(*words, whole).exit_code == continued.returncode
    assert (out / "detection.parquet").read_bytes() == (whole / "detection.parquet").read_bytes()


def _wait_for_files(out: Path, process: subprocess.Popen[bytes], at_least: int) -> int:
    def found() -> int:
        return len(list(out.glob("runs/detection/*/*.parquet")))

    _wait_until(lambda: found() >= at_least or process.poll() is not None)
    assert process.poll() is None, "it was done before it could be killed"
    return found()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def _wait_until(condition: object) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit
        time.sleep(0.02)


# --- on a Dask cluster -----------------------------------------------------------------------


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """A Dask scheduler and workers on loopback, each a process of its own."""
    told = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    base = [sys.executable, "-m"]
    environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False"}
    scheduler = [
        *base, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
        "--no-dashboard", "--scheduler-file", str(told),
    ]  # fmt: skip
    worker = [
        *base, "distributed.cli.dask_worker", "--scheduler-file", str(told), "--no-nanny",
        "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--local-directory",
        str(folder), "--death-timeout", "60",
    ]  # fmt: skip
    running: list[subprocess.Popen[bytes]] = []
    try:
        running.append(subprocess.Popen(scheduler, env=environment, **quiet))  # type: ignore[call-overload]
        for _ in range(workers):
            running.append(subprocess.Popen(worker, env=environment, **quiet))  # type: ignore[call-overload]
        _wait_until(told.exists)
        yield json.loads(told.read_text())["address"]
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.timeout(600)
def test_a_dask_cluster_makes_the_same_rows_byte_by_byte(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("distributed")
    words = (*SMALL, "--runs", 5, "--out")
    with cluster(tmp_path, workers=2) as address:
        remote = swimsim("experiment", *words, tmp_path / "dask", "--dask", address)
    assert remote.returncode in (0, 1), remote.stderr
    request.getfixturevalue("in_threads")
    local = here(*words, tmp_path / "local")
    assert local.exit_code == remote.returncode, local.stderr
    near, far = (tmp_path / where / "detection.parquet" for where in ("local", "dask"))
    assert near.read_bytes() == far.read_bytes()
    manifest = json.loads((tmp_path / "dask" / "detection.json").read_text())
    assert manifest["engine"] == f"Dask at {address}"


def test_a_scheduler_that_is_not_there_is_named() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(EngineError, match="no scheduler answers there"):  # noqa: SIM117
        with dask("tcp://127.0.0.1:9", patience_s=0.3):
            pass
