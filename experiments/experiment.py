"""What an experiment is: cells of parameters, one seeded run, rows, verdicts, a figure.

An experiment is a module with these names; ``REGISTRY`` lists them:

* ``Params``, a frozen struct: one cell, its times in microseconds;
* ``cells(scale)``: the cells of a quick, a full or a demonstration run, and how many runs of each;
* ``run(params, seed)``: one run, as rows of plain values;
* ``table(rows)``: what a person reads on the terminal;
* ``verdicts(rows)``: the acceptance lines of its section in spec experiments.md;
* ``figure(rows)``: what a paper would print.

Where there is more to say, it also has

* ``tables(rows)`` and ``figures(rows)``: further tables and pictures, by a short name;
* ``ALONE = True``, where runs must not share the machine.

The first paragraphs of its docstring introduce it in the report. Rows hold plain values, the same
keys in every run of one kind. A time that never came is None, and such a row says in ``limit_s``
how long one watched, so that it can be counted as censored (``statistics.survival``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import pandas as pd
from matplotlib.figure import Figure
from msgspec import Struct, convert

from swimsim import rng

Scale: TypeAlias = Literal["demo", "quick", "full"]
Row: TypeAlias = dict[str, Any]
Mark: TypeAlias = Literal["pass", "FAIL", "explained", "differs", "too few runs"]

P = TypeVar("P", bound=Struct)

REGISTRY: Mapping[str, str] = {
    "detection": "How fast a death is noticed, and how that grows with the cluster (E1)",
    "dissemination": "How fast news reaches everybody, whom it misses, and what it costs (E3)",
    "false_positives": "How often the living are declared dead, and what helps against it (E2)",
    "coordinates": "How well coordinates predict round trips, and how soon (E8)",
    "load": "What membership costs a member, in packets and bytes (E4)",
    "lifeguard": "What Lifeguard buys when processes are slow (E5)",
    "partition": "How soon a split is noticed, and mended (E6)",
    "churn": "Whether news keeps up when many come, go and flap at once (E7)",
    "queries": "Who answers a query, with and without relays, when packets are lost (E10)",
    "scale": "Whether results hold from 1,000 members to 100,000, and what that costs (E12)",
    "calibration": "Whether the simulator agrees with real processes (E11)",
}
"""The experiments by name, and the question that each asks."""


class Cell(Struct, frozen=True):
    """One combination of parameters, and how many independent runs it gets."""

    params: Any
    runs: int


class Verdict(Struct, frozen=True):
    """One acceptance line, judged.

    ``passed`` is None when the runs were too few to tell: the bound lies inside of the
    confidence interval of what was measured.
    """

    claim: str
    bound: str
    measured: str
    passed: bool | None
    explanation: str = ""  # why it fails where it does, for the reader; nothing where it passes
    binding: bool = True  # False: the spec calls the line informative, and it fails no run

    @property
    def word(self) -> Mark:
        """The verdict in a word or three."""
        if self.passed is None:
            return "too few runs"
        if self.passed:
            return "pass"
        if self.explanation:
            return "explained"
        return "FAIL" if self.binding else "differs"

    @property
    def fails(self) -> bool:
        """Whether the line fails its run: binding, not met, and not explained."""
        return self.word == "FAIL"


class Experiment(Protocol):
    """The module of one experiment."""

    def cells(self, scale: Scale) -> list[Cell]:
        """The cells to run."""
        ...

    def run(self, params: Any, seed: int) -> list[Row]:
        """One run: a function of its arguments."""
        ...

    def seed_key(self, params: Any) -> tuple[str | int, ...]:
        """What distinguishes the random numbers of cells; cells to be paired share it."""
        ...

    def table(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A summary, one line a cell and quantity."""
        ...

    def verdicts(self, rows: pd.DataFrame) -> list[Verdict]:
        """The acceptance lines, judged."""
        ...

    def figure(self, rows: pd.DataFrame) -> Figure:
        """The picture."""
        ...


def find(name: str) -> Experiment:
    """The experiment of that name; raises KeyError when there is none."""
    if name not in REGISTRY:
        raise KeyError(name)
    experiment: Any = import_module(module_of(name))
    return experiment  # type: ignore[no-any-return]


def module_of(name: str) -> str:
    """The module in which an experiment is written."""
    return f"experiments.{name}"


def seed_of(root: int, name: str, key: tuple[str | int, ...], replicate: int) -> int:
    """The seed of one run: a hash, so that one more cell shifts no other's."""
    return rng.seed(root, name, *key, replicate)


def by_cell(rows: pd.DataFrame, kind: type[P]) -> Iterator[tuple[P, pd.DataFrame]]:
    """The rows of each cell with its parameters, in the order of the cells."""
    names = list(kind.__struct_fields__)
    for _, group in rows.groupby("cell"):
        yield convert(group[names].iloc[:1].to_dict("records")[0], kind, strict=False), group
