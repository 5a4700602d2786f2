"""E7: what each kind of trouble measures, and that the judges can say no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import asdict

from experiments import churn
from experiments.churn.findings import EVERYWHERE_S
from experiments.churn.study import Params, capacity, run

SMALL = (
    Params("join", 12),
    Params("crash", 16, crashed=4, film=True),
    Params("updates", 16, load=0.5, watch_s=3),
    Params("flip-flop", 16, watch_s=80),
    Params("egress", 16, watch_s=40),
    Params("sessions", 16, session_s=60, watch_s=60),
)


@pytest.mark.parametrize("params", SMALL, ids=lambda params: params.trouble)
def test_a_run_is_a_function_of_parameters_and_seed(params: Params) -> None:
    assert run(params, 5) == run(params, 5)


def test_all_join_and_report_everybody() -> None:
    (found,) = run(Params("join", 12), 1)
    assert 0 < found["nearly_s"] <= found["all_s"] < 100
    assert found["largest"] == 12
    assert found["refused"] == 0
    (slow,) = run(Params("join", 12, joins_per_s=2), 1)
    assert slow["all_s"] >= 5.5, "the last one starts then"
    assert slow["sizes"] > found["sizes"]


def test_the_crashed_are_removed_and_nobody_else() -> None:
    found, *film = run(Params("crash", 16, crashed=4, film=True), 1)
    assert 5.8 < found["first_s"] <= found["half_s"] <= found["everywhere_s"]
    assert found["survivor_dead"] == 0
    last = [view for view in film if view["time_s"] == film[-1]["time_s"]]
    assert [(view["size"], view["seen_by"]) for view in last] == [(12, 12)]


def test_a_deaf_member_comes_and_goes() -> None:
    (found,) = run(Params("flip-flop", 16, watch_s=80), 1)
    assert found["returns_per_cycle"] > 0.5
    assert found["removed_for_good"] < 1
    assert found["wrongly_dead"] == 0


def test_too_many_updates_fill_every_queue() -> None:
    few, many = (run(Params("updates", 24, load=load, watch_s=6), 1)[-1] for load in (0.3, 3))
    assert few["queue_mean"] < 12 < many["queue_mean"] <= 24
    assert many["offered_per_s"] == pytest.approx(10 * few["offered_per_s"])


def test_f15_is_what_the_sheet_says_for_updates_of_this_size() -> None:
    """15 packets a second of 17 updates (for b = 70 they were 19), each sent 8, 12 or 16 times."""
    assert [capacity(n) for n in (99, 999, 2000)] == [15 * 17 / m for m in (8, 12, 16)]


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = churn.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)


# --- the judges ------------------------------------------------------------------------------


def as_expected() -> pd.DataFrame:
    """Rows that say just what the reference model and Rapid do."""
    cells: list[tuple[Params, list[dict[str, Any]]]] = []
    for (crashed, lifeguard), time in EVERYWHERE_S.items():
        row = crash(everywhere_s=time)
        cells.append((Params("crash", 128, crashed=crashed, lifeguard=lifeguard), [row] * 40))
    cells.append((Params("crash", 1000, crashed=10), [crash(everywhere_s=14.0)]))
    for nodes in (500, 1000, 2000):
        row = {"kind": "join", "all_s": nodes / 20, "nearly_s": nodes / 25, "limit_s": 600.0,
               "sizes": round(0.9 * nodes), "queue_max": nodes, "refused": 0}  # fmt: skip
        cells.append((Params("join", nodes, watch_s=600), [row]))
    cells.append(
        (
            Params("flip-flop", 100),
            [{"kind": "network", "removed_for_good": 0.0, "oscillating": 1.0,
              "returns_per_cycle": 1.0, "flaps_per_observer_hour": 89.0, "views_at_end": 1,
              "time_incomplete": 0.3, "wrongly_dead": 0}],
        )
    )  # fmt: skip
    for load, length in ((0.5, 10.0), (2.0, 120.0)):
        queue = [
            {"kind": "queue", "time_s": float(t), "queue_mean": length, "queue_max": length + 1,
             "offered_per_s": 10 * load}
            for t in range(1, 201)
        ]  # fmt: skip
        cells.append((Params("updates", 128, load=load), queue))
    sessions = {"kind": "sessions", "deaths": 9, "survivor_dead": 0, "queue_early": 2.0,
                "queue_late": 2.0, "queue_max": 9, "flaps_per_observer_hour": 3.0}  # fmt: skip
    cells.append((Params("sessions", 128, session_s=300), [sessions]))
    return pd.DataFrame(
        [
            asdict(params) | {"cell": cell, "replicate": replicate, "seed": replicate} | row
            for cell, (params, rows) in enumerate(cells)
            for replicate, row in enumerate(rows)
        ]
    )


def crash(**own: float) -> dict[str, Any]:
    """The row of a mass failure."""
    return {
        "kind": "crash", "first_s": 9.5, "half_s": 10.0, "limit_s": 200.0, "survivor_dead": 0,
        "intermediate_sizes": 3.0, "observers_with_two": 0.9, "queue_max": 9,
    } | own  # fmt: skip


def test_the_reference_passes_its_own_examination() -> None:
    verdicts = churn.verdicts(as_expected())
    assert len(verdicts) >= 20
    assert [verdict for verdict in verdicts if verdict.passed is not True] == []


Spoil = Callable[[pd.DataFrame], object]
WRONG: dict[str, tuple[str, Spoil]] = {
    "n=2000 join one seed at once": ("all_s", lambda rows: rows.all_s.mul(3)),
    "distinct sizes": ("sizes", lambda rows: rows.sizes.mul(0.5)),
    "linear in n": ("all_s", lambda rows: rows.all_s.where(rows.nodes != 1000, 300.0)),
    "6 of 128 crash, SWIM": ("everywhere_s", lambda rows: rows.everywhere_s.mul(1.12)),
    "64 of 128 crash, Lifeguard": ("everywhere_s", lambda rows: rows.everywhere_s.mul(1.3)),
    "intermediate sizes": ("observers_with_two", lambda rows: rows.observers_with_two.mul(0.5)),
    "no survivor": ("survivor_dead", lambda rows: rows.survivor_dead + 1),
    "not all are removed": ("removed_for_good", lambda rows: rows.removed_for_good + 1),
    "oscillations": ("oscillating", lambda rows: rows.oscillating.mul(0.4)),
    "0.5 of F15": ("queue_mean", lambda rows: rows.queue_mean.mul(7)),
    "2 of F15": ("queue_mean", lambda rows: rows.queue_mean.mul(0.5)),
    "sessions of 300 s": ("queue_late", lambda rows: rows.queue_late.mul(4)),
}


@pytest.mark.parametrize(("claim", "column", "spoil"), [(c, *s) for c, s in WRONG.items()])
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    claim: str, column: str, spoil: Spoil
) -> None:
    rows = as_expected()
    rows[column] = spoil(rows)
    judged = [verdict for verdict in churn.verdicts(rows) if claim in verdict.claim]
    assert any(verdict.passed is False for verdict in judged)


def test_tables_and_figures_are_of_every_trouble() -> None:
    rows = as_expected()
    assert len(churn.table(rows)) == len(EVERYWHERE_S) + 1
    assert set(churn.tables(rows)) == {"joins", "networks", "sessions", "updates"}
    assert len(churn.figure(rows).axes) == 2
    assert churn.figures(rows) == {}, "nothing was filmed"
