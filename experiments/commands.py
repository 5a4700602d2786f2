"""The command line of experiments: ``swimsim experiment`` and ``swimsim report``."""

from __future__ import annotations

import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments import keep as keeping
from experiments import page
from experiments import report as reporting
from experiments.cli import check_folder, refuse
from experiments.engines import EngineError, dask, local
from experiments.experiment import REGISTRY, Cell, Experiment, Scale, Verdict, find, module_of
from experiments.sources import code_version
from experiments.store import MixedRowsError, Store
from experiments.sweep import Results, SweepError, Task, sweep, tasks_of

FAILED = 1
INTERRUPTED = 130
SAY_EVERY_S = 30.0


@click.group()
def experiment() -> None:
    """Ask the simulator a question of the literature."""


@experiment.command("list")
def list_experiments() -> None:
    """Say which experiments there are."""
    for name, question in REGISTRY.items():
        click.echo(f"{name:<17}{question}")


# --- run -------------------------------------------------------------------------------------


class Order(Struct, frozen=True):
    """What was asked for on the command line."""

    scale: Scale
    nodes: tuple[int, ...]
    runs: int | None
    seed: int
    jobs: int | None
    dask: str | None
    out: Path
    again: bool

    def command(self, name: str) -> str:
        """What to type for the same results."""
        words = ["swimsim", "experiment", "run", name, f"--{self.scale}"]
        for size in self.nodes:
            words += ["--nodes", str(size)]
        if self.runs is not None:
            words += ["--runs", str(self.runs)]
        return shlex.join([*words, "--seed", str(self.seed)])


@experiment.command("run")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every experiment there is.")
@click.option("--quick", "scale", flag_value="quick", default=True, help="A minute (default).")
@click.option("--full", "scale", flag_value="full", help="The whole grid.")
@click.option("--demo", "scale", flag_value="demo", help="One cell, to look at.")
@click.option("--nodes", type=click.IntRange(1), multiple=True, help="Only cells of this size.")
@click.option("--runs", type=click.IntRange(1), help="So many runs of each cell.")
@click.option("--seed", type=int, default=1, show_default=True, help="Root of all seeds.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; by default one a core.")
@click.option("--dask", metavar="ADDRESS", help="Compute on this Dask cluster: tcp://HOST:PORT.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: results/SCALE].")
@click.option("--again", is_flag=True, help="Make every run anew, whatever is there already.")
def run_experiments(
    names: tuple[str, ...], everything: bool, out: Path | None, scale: Scale, **options: Any
) -> None:
    """Run the experiments NAMES: print tables and verdicts, write figures and data.

    Runs that a folder has already are not made again, so the command that was stopped, given
    again, continues. Exits with 1 when a run raised or an acceptance line failed that is not
    explained.
    """
    if bool(names) == everything:
        refuse("experiment run: expected names of experiments, or --all")
    names = tuple(REGISTRY) if everything else names
    for name in names:
        _named(name)
    order = Order(scale=scale, out=out or Path("results") / scale, **options)
    check_folder(order.out)
    failed, verdicts = False, []
    try:
        for name in names:
            found = _ask(name, order, alone=len(names) == 1)
            failed |= found is None or any(verdict.fails for verdict in found)
            verdicts += found or []
    except KeyboardInterrupt:
        click.echo("interrupted; what was finished is kept, the same command continues", err=True)
        sys.exit(INTERRUPTED)
    if len(names) > 1 and scale != "demo":
        click.echo(f"{len(names)} experiments: {reporting.tally(verdicts)}")
    if failed:
        sys.exit(FAILED)


def _named(name: str) -> Experiment:
    try:
        return find(name)
    except KeyError:
        refuse(f"there is no experiment {name!r}, expected one of {', '.join(REGISTRY)}")


def _ask(name: str, order: Order, *, alone: bool) -> list[Verdict] | None:
    """Run one experiment and tell of it; None when something raised."""
    module = find(name)
    cells = [
        cell
        for cell in module.cells(order.scale)
        if not order.nodes or getattr(cell.params, "nodes", None) in order.nodes
    ]
    if not cells:
        if alone:
            refuse(f"--nodes: no cell of {name} has that size")
        return []
    if order.runs is not None:
        cells = [Cell(cell.params, order.runs) for cell in cells]
    tasks = tasks_of(name, cells, order.seed)
    began = time.monotonic()
    try:
        results, engine = _swept(name, tasks, order, shared=not getattr(module, "ALONE", False))
    except EngineError as error:
        refuse(str(error))
    except (SweepError, MixedRowsError) as error:
        click.echo(f"swimsim: {name}: {error}", err=True)
        return None
    took = time.monotonic() - began
    for crash in results.crashes:
        click.echo(f"a run failed: {crash.task.command()}\n{crash.error}", err=True)
    if not len(results.rows):
        return None
    manifest = {
        "question": REGISTRY[name],
        "introduction": reporting.introduction(name),
        "command": order.command(name),
        "scale": order.scale,
        "root_seed": order.seed,
        "runs": len(tasks),
        "reused": results.reused,
        "crashes": [
            {"command": c.task.command(), "error": c.error.strip().splitlines()[-1]}
            for c in results.crashes
        ],
        "code": code_version(module_of(name)),
        "commit": reporting.commit(),
        "engine": engine,
        "wall_s": round(took, 1),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "cells": [
            {
                "params": msgspec.to_builtins(cell.params),
                "runs": cell.runs,
                "seconds_a_run": round(results.cost_s.get(number, 0.0), 4) or None,
            }
            for number, cell in enumerate(cells)
        ],
    }
    title = f"{REGISTRY[name]}: {len(tasks)} runs in {took:.0f} s"
    verdicts = _tell(name, results, order, title, manifest)
    return None if results.crashes else verdicts


def _swept(name: str, tasks: list[Task], order: Order, *, shared: bool) -> tuple[Results, str]:
    """Make the runs that are not there yet."""
    version = code_version(module_of(name))
    store = Store(order.out, name, version)
    if order.again:
        store.forget()
    engines = dask(order.dask) if order.dask and shared else local(order.jobs if shared else 1)
    with engines as engine, _progress(f"{name}, {order.scale}", len(tasks)) as tell:
        results = sweep(tasks, engine.executor, tell, workers=engine.workers, store=store)
    for path in store.unreadable:
        click.echo(f"{path}: not a file of finished runs, made them anew", err=True)
    if results.reused:
        click.echo(f"{name}: reused {results.reused} of {len(tasks)} runs from {store.folder}")
    elif others := store.of_other_versions():
        click.echo(f"{name}: reused nothing: {others} files in {store.above} are of other code")
    return results, engine.name


def _tell(
    name: str, results: Results, order: Order, title: str, manifest: dict[str, object]
) -> list[Verdict] | None:
    """Print and write what the rows say; None when that raised."""
    try:
        found = reporting.findings(name, results.rows)
    except Exception:  # one experiment must not take the others with it
        click.echo(f"{name}: what came of it could not be told\n{traceback.format_exc()}", err=True)
        return None
    console = reporting.console()
    for suffix, table in found.tables.items():
        reporting.print_table(console, table, suffix or title)
    if order.scale != "demo":
        reporting.print_verdicts(console, found.verdicts)
    for path in reporting.save(order.out, name, results, found, manifest):
        click.echo(f"wrote {path}")
    return found.verdicts


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int, float | None], None]]:
    """Tell of a sweep: a bar where stderr is a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, left="")
        yield lambda done, left_s: bar.update(task, advance=done, left=_left(left_s))


def _lines(what: str, total: int) -> Callable[[int, float | None], None]:
    finished, said = 0, time.monotonic()

    def tell(done: int, left_s: float | None) -> None:
        nonlocal finished, said
        finished += done
        if finished < total and time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            click.echo(f"{what}: {finished} of {total} runs, {_left(left_s)}", err=True)

    return tell


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    minutes = seconds / 60
    return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"


# --- one run, and what to keep ---------------------------------------------------------------


@experiment.command("once")
@click.argument("name")
@click.argument("params", default="{}")
@click.option("--seed", type=int, required=True, help="The run's own seed.")
def run_once(name: str, params: str, seed: int) -> None:
    """Make one run of the experiment NAME, with PARAMS as JSON, and print its rows as JSON."""
    module: Any = _named(name)
    try:
        cell = msgspec.json.decode(params, type=module.Params)
    except msgspec.DecodeError as error:
        refuse(f"experiment once {name}: PARAMS: {error}")
    for row in module.run(cell, seed):
        click.echo(msgspec.json.encode(row))


@experiment.command("keep")
@click.argument("names", nargs=-1, required=True)
@click.argument("folder", type=click.Path(path_type=Path))
def keep(names: tuple[str, ...], folder: Path) -> None:
    """Copy figures and small tables of the experiments NAMES from FOLDER into the repository."""
    for name in names:
        _named(name)
        if not (folder / f"{name}.json").is_file():
            refuse(f"{folder / name}.json: expected the results of {name}")
    for name in names:
        for path in keeping.keep(name, folder):
            click.echo(f"wrote {path}")


# --- the report ------------------------------------------------------------------------------


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File [default: FOLDER/report.html].")
def report(folder: Path, out: Path | None) -> None:
    """Write the results in FOLDER as one HTML page that needs no network."""
    try:
        text = page.render(folder)
    except page.PageError as error:
        refuse(str(error))
    out = out or folder / "report.html"
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        refuse(f"{out}: {error.strerror}")
    click.echo(f"wrote {out}")
