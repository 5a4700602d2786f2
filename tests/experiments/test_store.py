"""Finished runs come back as they went in, whole files only, and only those of the same code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from experiments.experiment import Row
from experiments.store import MixedRowsError, Store, frame, plain, run_key


class Params(Struct, frozen=True):
    nodes: int
    share: float = 0.5


A, B = Params(8), Params(9)
ROWS: dict[int, list[Row]] = {
    1: [{"t": 1.5, "n": 3, "who": "a", "ok": True}],
    2: [],
    2**64 - 1: [{"t": None, "n": 4, "who": None, "ok": False}, {"t": 0.25, "more": [1, 2]}],
}


def store(folder: Path, version: str = "v1") -> Store:
    return Store(folder, "detection", version)


def test_runs_come_back_with_their_rows_also_those_that_have_none(tmp_path: Path) -> None:
    store(tmp_path).add(A, list(ROWS.items()))
    store(tmp_path).add(B, [(1, [{"t": 9.0}])])
    found = store(tmp_path).load()
    assert found[run_key(A, 1)] == [{**ROWS[1][0], "more": None}]
    assert found[run_key(A, 2)] == []
    assert [row["t"] for row in found[run_key(A, 2**64 - 1)]] == [None, 0.25]
    assert found[run_key(B, 1)] == [{"t": 9.0}]
    assert len(found) == 4


def test_a_key_is_of_parameters_and_seed() -> None:
    keys = {run_key(params, seed) for params in (A, B, Params(8, 0.25)) for seed in (1, 2)}
    assert len(keys) == 6
    assert run_key(Params(8), 1) == run_key(A, 1)


def test_a_file_says_what_is_in_it_and_there_is_nothing_half_written(tmp_path: Path) -> None:
    store(tmp_path).add(A, list(ROWS.items()))
    (path,) = (tmp_path / "runs" / "detection" / "v1").iterdir()
    about = pq.read_schema(path).metadata
    assert json.loads(about[b"seeds"]) == list(ROWS)
    assert json.loads(about[b"params"]) == {"nodes": 8, "share": 0.5}
    assert (about[b"experiment"], about[b"code"]) == (b"detection", b"v1")
    assert path.suffix == ".parquet"


def test_other_code_knows_nothing_of_it(tmp_path: Path) -> None:
    store(tmp_path).add(A, list(ROWS.items()))
    other = store(tmp_path, "v2")
    assert other.load() == {}
    assert other.of_other_versions() == 1
    assert store(tmp_path).of_other_versions() == 0


def test_a_file_that_was_cut_off_or_is_of_something_else_is_named_and_left_out(
    tmp_path: Path,
) -> None:
    store(tmp_path).add(A, [(1, ROWS[1])])
    (good,) = (tmp_path / "runs" / "detection" / "v1").iterdir()
    cut, foreign = good.with_name("cut.parquet"), good.with_name("foreign.parquet")
    cut.write_bytes(good.read_bytes()[:-20])
    frame([{"x": 1}]).to_parquet(foreign)
    good.with_suffix(".partial").write_bytes(b"killed while it wrote")
    again = store(tmp_path)
    assert len(again.load()) == 1
    assert again.unreadable == [cut, foreign]


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    store(tmp_path).add(A, [(1, ROWS[1])])
    store(tmp_path).forget()
    assert store(tmp_path).load() == {}


def test_a_column_of_several_types_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(MixedRowsError, match="column t: "):
        store(tmp_path).add(A, [(1, [{"t": 1.0}]), (2, [{"t": "never"}])])
    assert list(tmp_path.rglob("*.p*")) == []


def test_numpys_scalars_become_plain_and_anything_else_is_refused() -> None:
    (row,) = plain([{"a": np.float64(0.5), "b": np.int32(3), "c": np.bool_(True), "d": (1, 2)}])
    assert row == {"a": 0.5, "b": 3, "c": True, "d": [1, 2]}
    assert [type(value) for value in row.values()] == [float, int, bool, list]
    with pytest.raises(TypeError, match="row value a is a object"):
        plain([{"a": object()}])


VALUES = {
    "t": st.none() | st.floats(),
    "n": st.none() | st.integers(-(2**63), 2**63 - 1),
    "s": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    "b": st.none() | st.booleans(),
}


def same(one: object, other: object) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one)
    return (both_nan and math.isnan(other)) or one == other  # type: ignore[arg-type]


@given(st.lists(st.lists(st.fixed_dictionaries({}, optional=VALUES), max_size=3), max_size=4))
def test_any_plain_rows_come_back(runs: list[list[Row]]) -> None:
    with TemporaryDirectory() as folder:
        store(Path(folder)).add(A, list(enumerate(runs)))
        found = store(Path(folder)).load()
    for seed, rows in enumerate(runs):
        back = found[run_key(A, seed)]
        assert len(back) == len(rows)
        for one, other in zip(rows, back, strict=True):
            assert all(same(one.get(name), value) for name, value in other.items())
            assert one.keys() <= other.keys()
