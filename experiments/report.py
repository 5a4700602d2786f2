"""What a person reads of an experiment: tables and verdicts on the terminal, files in a folder."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import swimsim
from experiments.experiment import Verdict
from experiments.sweep import Results

COLOURS = {"pass": "green", "FAIL": "red", "explained": "yellow", "differs": "yellow"}
LIBRARIES = ("simpy", "numpy", "scipy", "pandas", "matplotlib")


def console() -> Console:
    """Where results are printed; wide when it is a file, as wide as it is when a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_table(console: Console, frame: pd.DataFrame, title: str) -> None:
    """A frame as a table; numbers with three decimals, what is missing as a dash."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name), justify="right" if is_number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  NaN is what differs from itself
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_verdicts(console: Console, verdicts: Iterable[Verdict]) -> None:
    """Each acceptance line: claim, bound, what was measured, the verdict, and why it fails."""
    table = Table(title="Verdicts", title_justify="left")
    for name in ("claim", "bound", "measured", "verdict"):
        table.add_column(name)
    for verdict in verdicts:
        word = verdict.word
        measured = (
            f"{verdict.measured}: {verdict.explanation}"
            if word == "explained"
            else verdict.measured
        )
        mark = f"[{COLOURS.get(word, 'dim')}]{word}[/]"
        table.add_row(escape(verdict.claim), escape(verdict.bound), escape(measured), mark)
    console.print(table)


def save(
    folder: Path,
    name: str,
    results: Results,
    summary: pd.DataFrame,
    verdicts: list[Verdict],
    picture: Figure,
    manifest: dict[str, object],
) -> list[Path]:
    """Write rows, summary, verdicts, picture and manifest; the paths of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    judged = pd.DataFrame(
        [(v.claim, v.bound, v.measured, v.passed) for v in verdicts],
        columns=["claim", "bound", "measured", "passed"],
    ).astype({"passed": "boolean"})
    paths = {
        "rows": folder / f"{name}.parquet",
        "summary": folder / f"{name}-summary.parquet",
        "verdicts": folder / f"{name}-verdicts.parquet",
        "figure": folder / f"{name}.png",
        "vector": folder / f"{name}.svg",
        "manifest": folder / f"{name}.json",
    }
    results.rows.to_parquet(paths["rows"], index=False)
    summary.to_parquet(paths["summary"], index=False)
    judged.to_parquet(paths["verdicts"], index=False)
    picture.savefig(paths["figure"], dpi=150)
    picture.savefig(paths["vector"])
    versions = {"swimsim": swimsim.__version__}
    versions |= {library: version(library) for library in LIBRARIES}
    everything = {**manifest, "python": platform.python_version(), "versions": versions}
    paths["manifest"].write_text(json.dumps(everything, indent=2, default=str) + "\n")
    return list(paths.values())
