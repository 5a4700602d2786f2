"""What an experiment leaves: tables and verdicts on the terminal, files in a folder.

All files of an experiment begin with its name, so that several can share a folder:

    detection.parquet                  the rows, one or more a run, with parameters and seed
    detection-summary.parquet          the table; detection-summary-NAME.parquet the further ones
    detection-verdicts.parquet         the acceptance lines, judged
    detection.png  detection.svg       the figure; detection-NAME.png the further ones
    detection.json                     what was asked, with which code, and how to ask it again
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from inspect import getdoc
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import swimsim
from experiments.experiment import Verdict, find
from experiments.sweep import Results

COLOURS = {"pass": "green", "FAIL": "red", "explained": "yellow", "differs": "yellow"}
LIBRARIES = ("simpy", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "networkx", "msgspec")


class Findings(Struct, frozen=True):
    """What an experiment has to say about its rows."""

    tables: dict[str, pd.DataFrame]  # the main one is called ""
    verdicts: list[Verdict]
    figures: dict[str, Figure]  # likewise

    @property
    def fails(self) -> bool:
        """Whether an acceptance line is not met, and not explained."""
        return any(verdict.fails for verdict in self.verdicts)


def findings(name: str, rows: pd.DataFrame) -> Findings:
    """Tables, verdicts and figures of the experiment of that name."""
    module: Any = find(name)
    more_tables = module.tables(rows) if hasattr(module, "tables") else {}
    more_figures = module.figures(rows) if hasattr(module, "figures") else {}
    return Findings(
        {"": module.table(rows), **more_tables},
        module.verdicts(rows),
        {"": module.figure(rows), **more_figures},
    )


def introduction(name: str) -> str:
    """What an experiment says of itself: the docstring of its module."""
    return getdoc(find(name)) or ""


# --- the terminal ----------------------------------------------------------------------------


def console() -> Console:
    """Where results are printed; wide when it is a file, as wide as it is when a terminal."""
    return Console(width=None if sys.stdout.isatty() else 160)


def print_table(console: Console, frame: pd.DataFrame, title: str) -> None:
    """A frame as a table; numbers with three decimals, what is missing as a dash."""
    table = Table(title=escape(title), title_justify="left")
    for name in frame.columns:
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name), justify="right" if is_number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(escape(cell(value)) for value in row))
    console.print(table)


def cell(value: object) -> str:
    """A value as a person reads it in a table."""
    if value is None or value is pd.NA or value != value:  # noqa: PLR0124  NaN differs from itself
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def print_verdicts(console: Console, verdicts: Iterable[Verdict]) -> None:
    """Each acceptance line: claim, bound, what was measured, the verdict, and why it fails."""
    table = Table(title="Verdicts", title_justify="left")
    for name in ("claim", "bound", "measured", "verdict"):
        table.add_column(name)
    for verdict in verdicts:
        word, measured = verdict.word, verdict.measured
        if word == "explained":
            measured += f"\n{verdict.explanation}"
        mark = f"[{COLOURS.get(word, 'dim')}]{word}[/]"
        table.add_row(escape(verdict.claim), escape(verdict.bound), escape(measured), mark)
    console.print(table)


def tally(verdicts: Iterable[Verdict]) -> str:
    """How many lines passed, failed and so on: "12 pass, 1 explained"."""
    counts: Counter[str] = Counter(verdict.word for verdict in verdicts)
    words = ("pass", "explained", "FAIL", "differs", "too few runs")
    return ", ".join(f"{counts[word]} {word}" for word in words if counts[word]) or "no verdicts"


# --- files -----------------------------------------------------------------------------------


def save(
    folder: Path, name: str, results: Results, found: Findings, manifest: dict[str, object]
) -> list[Path]:
    """Write rows, tables, verdicts, figures and manifest; the paths of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.parquet"]
    results.rows.to_parquet(written[0], index=False)
    tables, figures = [], []
    for suffix, table in found.tables.items():
        path = folder / f"{name}-summary{'-' * bool(suffix)}{slug(suffix)}.parquet"
        table.to_parquet(path, index=False)
        tables.append({"title": suffix, "file": path.name})
        written.append(path)
    written.append(folder / f"{name}-verdicts.parquet")
    verdict_frame(found.verdicts).to_parquet(written[-1], index=False)
    for suffix, picture in found.figures.items():
        path = folder / f"{name}{'-' * bool(suffix)}{slug(suffix)}.png"
        picture.savefig(path, dpi=150, metadata={"Software": None})
        picture.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figures.append({"title": suffix, "file": path.name})
        written += [path, path.with_suffix(".svg")]
    versions = {"swimsim": swimsim.__version__, "python": platform.python_version()}
    versions |= {library: version(library) for library in LIBRARIES}
    everything = {
        "experiment": name,
        **manifest,
        "tables": tables,
        "figures": figures,
        "versions": versions,
    }
    written.append(folder / f"{name}.json")
    written[-1].write_text(json.dumps(everything, indent=2, default=str) + "\n", encoding="utf-8")
    return written


def verdict_frame(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """The acceptance lines as a table."""
    return pd.DataFrame(
        [
            (v.claim, v.bound, v.measured, v.passed, v.explanation, v.binding, v.word)
            for v in verdicts
        ],
        columns=["claim", "bound", "measured", "passed", "explanation", "binding", "verdict"],
    ).astype({"passed": "boolean"})


def slug(words: str) -> str:
    """A short name as part of a file's name."""
    return "-".join("".join(c if c.isalnum() else " " for c in words.lower()).split())


def commit() -> str | None:
    """The commit that the code lies at, with a + when it was changed since; None outside of git."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "../swimsim", "../backends", ".")
        return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None
