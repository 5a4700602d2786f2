"""The command line of one run: ``swimsim simulate``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import msgspec
import pandas as pd
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
from swimsim.terms import SECOND

BAD_INPUT = 2


def refuse(message: str) -> NoReturn:
    """One line on stderr, and the exit status of bad input."""
    click.echo(f"swimsim: {message}", err=True)
    sys.exit(BAD_INPUT)


def check_folder(folder: Path) -> None:
    """Refuse a folder for results that cannot be, before anything runs."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        refuse(f"{folder}: expected a folder, {there} is none")
    if not os.access(there, os.W_OK):
        refuse(f"{folder}: expected a folder that may be written to")


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
        refuse(str(error))
    except OSError as error:
        refuse(f"{file}: {error.strerror}")
    if out is not None:
        check_folder(out)
    if len(set(seeds)) < len(seeds):
        refuse("--seed: expected each seed once")
    outcomes: list[Outcome] = []
    runs: list[tuple[int, Cluster]] = []
    with _progress() as bar:
        for seed in seeds or plan.scenario.seeds:
            task = bar.add_task(f"seed {seed}", total=plan.scenario.until // SECOND)
            try:
                outcome, cluster = plan.run(seed, _teller(bar, task))
            except ScenarioError as error:
                refuse(f"{file}: {error}")
            outcomes.append(outcome)
            if out is not None:
                runs.append((seed, cluster))
    if digest:
        for outcome in outcomes:
            click.echo(outcome.digest)
    elif as_json:
        click.echo(json.dumps([msgspec.to_builtins(outcome) for outcome in outcomes], indent=2))
    else:
        _print_outcomes(plan, file, outcomes)
    if out is not None:
        try:
            written = _save_runs(plan, runs, outcomes, out)
        except OSError as error:
            refuse(f"{error.filename or out}: {error.strerror or error}")
        for path in written:
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
            title = ", ".join(filter(None, (plan.scenario.title, f"seed {seed}")))
            scenes.membership(cluster, plan.scenario.faults, title).savefig(path, dpi=150)
            written.append(path)
    return written
