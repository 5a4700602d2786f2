"""Finished runs in a folder, so that a sweep which was stopped continues where it was.

A file holds the rows of some runs of one cell. It lies in a folder named by the version of the code
that made it (``experiments.sources``), and is itself named by a hash of experiment, parameters
and seeds. It comes into being whole: it is written under another name first.

    runs/detection/1f0c…/8a7d….parquet
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.experiment import Row


class MixedRowsError(ValueError):
    """Rows that make no table: a column with values of several types."""


def run_key(params: Any, seed: int) -> str:
    """What names a run among those of one experiment and code version."""
    told = msgspec.json.encode((params, seed), order="deterministic")
    return hashlib.sha256(told).hexdigest()[:32]


class Store:
    """The finished runs of one experiment, made by one version of its code."""

    def __init__(self, folder: Path, experiment: str, version: str) -> None:
        self.above = folder / "runs" / experiment
        self.folder = self.above / version
        self.experiment = experiment
        self.version = version
        self.unreadable: list[Path] = []

    def load(self) -> dict[str, list[Row]]:
        """The rows of every finished run, by its key."""
        found: dict[str, list[Row]] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                content = pq.ParquetFile(path).read()
                keys: list[str] = json.loads(content.schema.metadata[b"runs"])
            except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
                self.unreadable.append(path)
                continue
            for key in keys:
                found[key] = []
            for row in content.to_pylist():
                found[row.pop("run_")].append(row)
        return found

    def add(self, params: Any, runs: Sequence[tuple[int, list[Row]]]) -> None:
        """Keep finished runs of one cell: their seeds, and their rows."""
        keys = [run_key(params, seed) for seed, _ in runs]
        rows = [
            {"run_": key, **row} for key, (_, own) in zip(keys, runs, strict=True) for row in own
        ]
        about = {
            "runs": json.dumps(keys),
            "seeds": json.dumps([seed for seed, _ in runs]),
            "params": msgspec.json.encode(params).decode(),
            "experiment": self.experiment,
            "code": self.version,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
        partial = self.folder / f"{name}.partial"
        pq.write_table(arrow(rows).replace_schema_metadata(about), partial)
        os.replace(partial, self.folder / f"{name}.parquet")

    def forget(self) -> None:
        """Remove all finished runs of this version."""
        for path in self.folder.glob("*.parquet"):
            path.unlink()

    def of_other_versions(self) -> int:
        """How many files of other code lie beside these."""
        return sum(path.parent != self.folder for path in self.above.glob("*/*.parquet"))


def arrow(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table; what a row does not say is missing there."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError) as error:
            raise MixedRowsError(f"column {name}: {error}") from error
    return pa.table(columns)


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a frame, the same whether they were just computed or read from files."""
    return arrow(rows).to_pandas()  # type: ignore[no-any-return]


def plain(rows: Iterable[Row]) -> list[Row]:
    """Rows as plain values, numpy's scalars unwrapped; raises TypeError for anything else."""
    return [{str(name): _plain(name, value) for name, value in row.items()} for row in rows]


def _plain(name: object, value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(name, part) for part in value]
    if callable(getattr(value, "item", None)):
        return _plain(name, value.item())
    raise TypeError(f"row value {name} is a {type(value).__name__}, expected a plain value")
