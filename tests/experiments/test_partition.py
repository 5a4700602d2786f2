"""E6: what a run measures of a split and its heal, and that the judges can say no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import asdict

from experiments import partition
from experiments.partition import Params, run

LONG = Params(16, cut_s=120)


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    assert run(LONG, 5) == run(LONG, 5)
    assert run(LONG, 5) != run(LONG, 6)


def test_a_split_is_noticed_on_both_sides_and_mended() -> None:
    (found,) = run(LONG, 1)
    assert LONG.earliest_s <= found["first_dead_s"] <= found["full_s"] <= 120
    assert found["full_s"] == max(found["small_full_s"], found["large_full_s"])
    assert found["condemned"] == 1
    assert found["same_side_dead"] == 0
    assert 0 < found["met_s"] <= found["merged_s"] <= found["agreed_s"] < 120
    assert found["views"] == 1
    assert found["incarnations_kept"]


def test_without_reconnect_a_long_split_is_for_ever() -> None:
    (found,) = run(Params(16, cut_s=120, reconnect=False, watch_s=60), 1)
    assert found["merged_s"] is found["met_s"] is found["attempt_s"] is None
    assert found["views"] == 2


def test_a_short_cut_is_mended_by_refutation() -> None:
    (found,) = run(Params(16, cut_s=8, reconnect=False), 1)
    assert 0 < found["condemned"] < 1
    assert found["full_s"] is None
    assert found["merged_s"] is not None
    assert found["refutations"] > 0


def test_a_film_shows_both_sides_each_second() -> None:
    whole, *views = run(Params(16, cut_s=30, film=True), 1)
    assert whole["kind"] == "run"
    film = pd.DataFrame(views)
    assert set(film["group"]) == {"A", "B"}
    for _, moment in film.groupby("time_s"):
        assert moment.seen_by.sum() == 16
    assert film["size"].min() < 16
    assert (film[film.time_s == film.time_s.max()]["size"] == 16).all()


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = partition.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)
    for cell in cells:
        partition.config_of(cell.params)
        assert 0 < cell.params.small < cell.params.nodes


# --- the judges ------------------------------------------------------------------------------

GOOD = {
    "kind": "run", "first_dead_s": 8.25, "limit_s": 300.0, "condemned": 1.0,
    "same_side_dead": 0, "collateral_dead": 0, "attempt_s": 0.5, "met_s": 0.6, "merged_s": 12.0,
    "watched_s": 300.0, "agreed_s": 13.0, "views": 1, "incarnations_kept": True,
    "refutations": 3, "packets": 99,
}  # fmt: skip

CELLS: dict[Params, dict[str, Any]] = {
    Params(64): {"full_s": 23.0},
    Params(64, lifeguard=False): {"full_s": 21.6},
    Params(64, reconnect=False): {"full_s": 23.0, "merged_s": None, "views": 2},
    Params(64, 0.25): {"full_s": 101.0},
    Params(64, 0.25, lifeguard=False): {"full_s": 45.0},
}


def as_expected() -> pd.DataFrame:
    """Rows that say just what the reference model does."""
    rows = []
    for cell, (params, own) in enumerate(CELLS.items()):
        for replicate in range(40):
            full = {"small_full_s": own["full_s"], "large_full_s": own["full_s"] - 1}
            labels = {"cell": cell, "replicate": replicate, "seed": replicate}
            rows.append(asdict(params) | labels | GOOD | full | own)
    return pd.DataFrame(rows)


def test_the_reference_passes_its_own_examination() -> None:
    verdicts = partition.verdicts(as_expected())
    assert len(verdicts) > 18
    assert [verdict for verdict in verdicts if verdict.passed is not True] == []


Spoil = Callable[[pd.DataFrame], object]
WRONG: dict[str, tuple[str, Spoil]] = {
    "first verdict across the cut": ("first_dead_s", lambda rows: rows.first_dead_s.mul(1.06)),
    "no verdict about a member": ("same_side_dead", lambda rows: rows.same_side_dead + 1),
    "no reconnect: does not grow": ("merged_s", lambda rows: rows.merged_s.fillna(200.0)),
    "300 s: grows together": ("merged_s", lambda rows: rows.merged_s.mul(11)),
    "how soon it grows together": ("merged_s", lambda rows: rows.merged_s.mul(3)),
    "all views are identical": ("views", lambda rows: rows.views + 1),
    "no incarnation is lower": ("incarnations_kept", lambda rows: rows.replicate > 0),
    "later than SWIM on the small side": ("small_full_s", lambda rows: -rows.small_full_s),
    "both sides hold all of the other": ("full_s", lambda rows: rows.full_s.mul(1.4)),
}


@pytest.mark.parametrize(("claim", "column", "spoil"), [(c, *s) for c, s in WRONG.items()])
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    claim: str, column: str, spoil: Spoil
) -> None:
    rows = as_expected()
    rows[column] = spoil(rows)
    judged = [verdict for verdict in partition.verdicts(rows) if claim in verdict.claim]
    assert any(verdict.passed is False for verdict in judged)


def test_tables_and_figure_are_of_every_cell() -> None:
    rows = as_expected()
    assert len(partition.table(rows)) == len(CELLS)
    assert len(partition.tables(rows)["heal"]) == len(CELLS)
    assert len(partition.figure(rows).axes) == 2
