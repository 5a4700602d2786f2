"""Numbers in a text that come from kept results, so that nobody types one.

In Markdown a number stands between two comments, which say where it is from and are not shown:

    <!--is detection-summary.mean_s [nodes=1000, quantity=first detection] .1f-->14.0<!--/-->

``refresh`` writes what the tables in ``experiments/results`` say between them; ``verdicts`` as a
source is a table of all verdicts by experiment. The test of the README holds both to each other,
and ``pytest tests/test_readme.py --regenerate`` writes it anew.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from experiments.experiment import REGISTRY
from experiments.keep import HERE

PLACE = re.compile(r"<!--is (?P<source>[^>]*?)-->(?P<value>.*?)<!--/-->", re.DOTALL)
NUMBER = re.compile(
    r"(?P<table>[\w-]+)\.(?P<column>\w+) \[(?P<where>[^\]]*)\] (?P<format>[\w.,%+]+)"
)


class NumberError(ValueError):
    """A place in a text whose source says nothing, or more than one thing."""


def refresh(text: str, folder: Path = HERE / "results") -> str:
    """The text with every number as the kept results have it; raises ``NumberError``."""
    return PLACE.sub(
        lambda found: f"<!--is {found['source']}-->{_said(found['source'], folder)}<!--/-->", text
    )


def _said(source: str, folder: Path) -> str:
    if source == "verdicts":
        return f"\n{verdicts(folder)}\n"
    parts = NUMBER.fullmatch(source)
    if parts is None:
        raise NumberError(f"{source}: expected TABLE.COLUMN [COLUMN=VALUE, ...] FORMAT")
    path = folder / f"{parts['table']}.csv"
    if not path.is_file():
        raise NumberError(f"{source}: there is no {path.name}")
    rows = pd.read_csv(path)
    for condition in filter(None, parts["where"].split(", ")):
        column, _, value = condition.partition("=")
        if column not in rows.columns:
            raise NumberError(f"{source}: {path.name} has no column {column}")
        rows = rows[rows[column].astype(str) == value]
    if len(rows) != 1 or parts["column"] not in rows.columns:
        raise NumberError(f"{source}: expected one value, {path.name} has {len(rows)}")
    return format(rows[parts["column"]].iloc[0], parts["format"])


def verdicts(folder: Path = HERE / "results") -> str:
    """All verdicts by experiment, as a Markdown table."""
    lines = ["| experiment | asks | verdicts |", "| --- | --- | --- |"]
    for name, question in REGISTRY.items():
        path = folder / f"{name}-verdicts.csv"
        if path.is_file():
            counts = Counter(pd.read_csv(path).verdict)
            told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            lines.append(f"| `{name}` | {question} | {told} |")
    return "\n".join(lines)
