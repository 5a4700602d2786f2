"""The command line of research: ``swimsim simulate`` and ``swimsim experiment``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import msgspec
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from backends.sim.cluster import Cluster
from backends.sim.scenario import Outcome, Plan, ScenarioError, load
from experiments import report, scenes
from experiments.experiment import REGISTRY, Cell, Scale, find
from experiments.sweep import processes, sweep, tasks_of
from swimsim.terms import SECOND

BAD_INPUT = 2
FAILED = 1


def _refuse(message: str) -> NoReturn:
    """One line on stderr, and the exit status of bad input."""
    click.echo(f"swimsim: {message}", err=True)
    sys.exit(BAD_INPUT)


def _progress() -> Progress:
    """A progress bar on stderr, which is silent when that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


# --- simulate --------------------------------------------------------------------------------


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", "seeds", type=int, multiple=True, help="Run this seed, not the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.option("--digest", is_flag=True, help="Print only each run's digest.")
@click.option("--out", type=click.Path(path_type=Path), help="Write Parquet, PNG and TOML here.")
def simulate(
    file: Path, seeds: tuple[int, ...], as_json: bool, digest: bool, out: Path | None
) -> None:
    """Run the scenario in FILE and say what came of it."""
    try:
        plan = load(file)
    except ScenarioError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{file}: {error.strerror}")
    if out is not None and out.exists() and not out.is_dir():
        _refuse(f"{out}: expected a folder")
    outcomes: list[Outcome] = []
    runs: list[tuple[int, Cluster]] = []
    with _progress() as bar:
        for seed in seeds or plan.scenario.seeds:
            task = bar.add_task(f"seed {seed}", total=plan.scenario.until // SECOND)
            try:
                outcome, cluster = plan.run(seed, _teller(bar, task))
            except ScenarioError as error:
                _refuse(f"{file}: {error}")
            outcomes.append(outcome)
            runs.append((seed, cluster))
    if digest:
        for outcome in outcomes:
            click.echo(outcome.digest)
    elif as_json:
        click.echo(json.dumps([msgspec.to_builtins(outcome) for outcome in outcomes], indent=2))
    else:
        _print_outcomes(plan, file, outcomes)
    if out is not None:
        for path in _save_runs(plan, runs, outcomes, out):
            click.echo(f"wrote {path}", err=as_json or digest)


def _teller(bar: Progress, task: object) -> Callable[[int], None]:
    def tell(now: int) -> None:
        bar.update(task, completed=now // SECOND)  # type: ignore[arg-type]

    return tell


def _print_outcomes(plan: Plan, file: Path, outcomes: list[Outcome]) -> None:
    console = report.console()
    deaths = pd.DataFrame(
        [{"seed": o.seed, **msgspec.to_builtins(d)} for o in outcomes for d in o.deaths]
    )
    if len(deaths):
        for column in ("first_ping_s", "first_suspicion_s", "first_detection_s", "full_s"):
            deaths[f"+{column[:-2]}"] = deaths[column] - deaths.ended_s
        deaths["knew"] = deaths.knew.astype(str) + " of " + deaths.witnesses.astype(str)
        columns = ["seed", "victim", "how", "ended_s", "+first_ping", "+first_suspicion",
                   "+first_detection", "+full", "knew"]  # fmt: skip
        report.print_table(
            console, deaths[columns], "Ends of processes (seconds; + is after the end)"
        )
    runs = pd.DataFrame([msgspec.to_builtins(outcome) for outcome in outcomes])
    title = plan.scenario.title or file.name
    report.print_table(console, runs.drop(columns=["deaths"]), f"Runs of {title}")


def _save_runs(
    plan: Plan, runs: list[tuple[int, Cluster]], outcomes: list[Outcome], out: Path
) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    written = [out / "scenario.toml", out / "outcome.json"]
    written[0].write_text(plan.text(), encoding="utf-8")
    told = [msgspec.to_builtins(outcome) for outcome in outcomes]
    written[1].write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    for seed, cluster in runs:
        for column, frame in cluster.trace.frames().items():
            path = out / f"{column}-{seed}.parquet"
            frame.to_parquet(path, index=False)
            written.append(path)
        if "events" in cluster.trace.record:
            path = out / f"views-{seed}.png"
            scenes.membership(cluster, plan.scenario.faults).savefig(path, dpi=150)
            written.append(path)
    return written


# --- experiment ------------------------------------------------------------------------------


@click.group()
def experiment() -> None:
    """Ask the simulator a question of the literature."""


@experiment.command("list")
def list_experiments() -> None:
    """Say which experiments there are."""
    for name, question in REGISTRY.items():
        click.echo(f"{name:<12}{question}")


@experiment.command("run")
@click.argument("name")
@click.option("--quick", "scale", flag_value="quick", default=True, help="A minute (default).")
@click.option("--full", "scale", flag_value="full", help="The whole grid.")
@click.option("--demo", "scale", flag_value="demo", help="One cell, to look at.")
@click.option("--nodes", type=click.IntRange(4), multiple=True, help="Only cells of this size.")
@click.option("--runs", type=click.IntRange(1), help="So many runs of each cell.")
@click.option("--seed", type=int, default=1, show_default=True, help="Root of all seeds.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; by default one a core.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for files.")
def run_experiment(
    name: str,
    scale: Scale,
    nodes: tuple[int, ...],
    runs: int | None,
    seed: int,
    jobs: int | None,
    out: Path | None,
) -> None:
    """Run the experiment NAME, print its table and verdicts, write its figure and data."""
    try:
        module = find(name)
    except KeyError:
        _refuse(f"there is no experiment {name!r}, expected one of {', '.join(REGISTRY)}")
    cells = [cell for cell in module.cells(scale) if not nodes or cell.params.nodes in nodes]
    if not cells:
        _refuse(f"--nodes: no cell of {name} has that size")
    if runs is not None:
        cells = [Cell(cell.params, runs) for cell in cells]
    tasks = tasks_of(name, cells, seed)
    began = time.monotonic()
    if getattr(module, "ALONE", False):
        jobs = 1
    with processes(jobs) as executor, _progress() as bar:
        task = bar.add_task(f"{name}, {scale}", total=len(tasks))
        results = sweep(tasks, executor, lambda done: bar.update(task, advance=done))
    took = time.monotonic() - began
    console = report.console()
    for crash in results.crashes:
        click.echo(
            f"a run failed: {crash.task.params}, seed {crash.task.seed}\n{crash.error}", err=True
        )
    if not len(results.rows):
        sys.exit(FAILED)
    summary, verdicts = module.table(results.rows), module.verdicts(results.rows)
    report.print_table(console, summary, f"{REGISTRY[name]}: {len(tasks)} runs in {took:.0f} s")
    if scale != "demo":
        report.print_verdicts(console, verdicts)
    picture: Figure = module.figure(results.rows)
    manifest = {
        "experiment": name,
        "scale": scale,
        "root_seed": seed,
        "cells": [{"params": msgspec.to_builtins(c.params), "runs": c.runs} for c in cells],
        "command": " ".join(["swimsim experiment run", *sys.argv[3:]]),
        "wall_s": round(took, 1),
    }
    folder = out or Path("results") / name
    for path in report.save(folder, name, results, summary, verdicts, picture, manifest):
        click.echo(f"wrote {path}")
    if results.crashes or any(verdict.fails for verdict in verdicts):
        sys.exit(FAILED)
