"""E2: what a run measures, and that its judges can say no."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace

from experiments import false_positives, swim_figure_4
from experiments.experiment import Cell, by_cell
from experiments.false_positives import Params
from experiments.sweep import sweep, tasks_of
from swimsim import SECOND
from swimsim.config import SWIM_2002

SHORT = 40 * SECOND
BASIC = Params(17, 0.1, 1, "none", watch=40 * SECOND, scene="joins", multicast=True)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell."""
    cells = [
        Cell(Params(40, 0.1, detector="none", watch=SHORT), 1),
        Cell(Params(40, 0.1, watch=SHORT), 1),
        Cell(Params(40, 0.1, detector="lifeguard", watch=SHORT), 1),
        Cell(Params(40, 0.3, 1, watch=SHORT), 2),
        Cell(Params(17, 0.2, watch=SHORT), 2),
        Cell(Params(17, 0.2, burst=5 * SECOND, watch=SHORT), 2),
        Cell(Params(17, 0.3, stream_ping=True, watch=SHORT), 1),
        Cell(BASIC, 3),
        Cell(replace(BASIC, multicast=False), 3),
        Cell(replace(BASIC, multicast=False, detector="suspicion"), 3),
    ]
    with ThreadPoolExecutor(1) as executor:
        return sweep(tasks_of("false_positives", cells, root=1), executor).rows


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    few = Params(8, 0.3, watch=20 * SECOND)
    assert false_positives.run(few, 5) == false_positives.run(few, 5)
    assert false_positives.run(few, 5) != false_positives.run(few, 6)


def test_without_loss_nothing_is_wrong() -> None:
    (row,) = false_positives.run(Params(8, 0.0, watch=20 * SECOND), 1)
    assert row["member_periods"] == row["rounds"] == 160
    assert not any(
        row[name] for name in ("failed_probes", "suspicions", "episodes", "fp", "flaps", "evicted")
    )


def test_detectors_are_compared_on_the_same_seeds(rows: pd.DataFrame) -> None:
    groups = [g for p, g in by_cell(rows, Params) if (p.nodes, p.loss) == (40, 0.1)]
    assert len({tuple(group.seed) for group in groups}) == 1
    joins = [tuple(g.seed.unique()) for p, g in by_cell(rows, Params) if p.scene == "joins"]
    assert len(set(joins)) == 1


def test_bursts_hurt_and_stream_pings_help(rows: pd.DataFrame) -> None:
    judged = {v.claim: v.passed for v in false_positives.verdicts(rows)}
    assert [passed for claim, passed in judged.items() if "nobody is suspected" in claim] == [True]
    assert [passed for claim, passed in judged.items() if "than by independent" in claim] == [True]


def test_a_group_that_grows_without_suspicion_does_not_get_far() -> None:
    config, network = (f(BASIC) for f in (false_positives.config_of, false_positives.network_of))
    rows = swim_figure_4.run(config, network, 17, 100 * SECOND, seed=1)
    assert rows[-1] == {"t_s": 100.0, "size": pytest.approx(2, abs=2)}
    kept = replace(config, suspicion=True, piggyback=True)
    rows = swim_figure_4.run(kept, network, 17, 100 * SECOND, seed=1)
    assert rows[-1] == {"t_s": 100.0, "size": 17}
    assert config.packet_size == SWIM_2002.packet_size


Change = Callable[[pd.Series], object]
WRONG: dict[str, dict[str, Change]] = {  # a claim, and what makes it false
    "k=1, 30% lost, suspicion: failed probes": {"failed_probes": lambda x: x * 1.4},
    "k=1, 30% lost, suspicion: episodes": {"episodes": lambda x: x + 900},
    "nobody is suspected": {"episodes": lambda x: x + 1},
    "what suspicion is worth": {"episodes": lambda x: x * 0 + 500},
    "none > suspicion > Lifeguard": {"episodes": lambda x: x * 0 + 500},
    "than by independent losses": {"episodes": lambda x: 900 - x},
    "+Inf+Susp: median final size": {"size": lambda x: x * 0 + 2},
    "Basic: median final size": {"size": lambda x: x + 9},
}


@pytest.mark.parametrize(("claim", "change"), WRONG.items(), ids=WRONG)
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    rows: pd.DataFrame, claim: str, change: dict[str, Change]
) -> None:
    # Ten times the runs, for judges that do not say no to a few.
    spoiled = pd.concat([rows.assign(seed=rows.seed + shift) for shift in range(10)])
    for column, function in change.items():
        spoiled[column] = function(spoiled[column])
    judged = [v for v in false_positives.verdicts(spoiled) if claim in v.claim]
    assert any(verdict.passed is False for verdict in judged)


def test_fewer_episodes_at_more_loss_are_noticed(rows: pd.DataFrame) -> None:
    less, more = rows[rows.loss == 0.1].copy(), rows[rows.loss == 0.1].copy()
    less["episodes"], more["loss"], more["cell"] = 200, 0.2, more.cell + 100
    more["episodes"] = 50
    judged = false_positives.verdicts(pd.concat([less, more]))
    assert [v.passed for v in judged if "grow with loss" in v.claim] == [False]


def test_tables_and_figure_cover_every_cell(rows: pd.DataFrame) -> None:
    assert len(false_positives.table(rows)) == 7
    tables = false_positives.tables(rows)
    assert len(tables["quality"]) == 7
    assert set(tables["joins"].variant) == {"Basic", "+Inf", "+Inf+Susp"}
    accuracy = tables["quality"].P_A
    assert ((accuracy <= 1) & (accuracy > 0.5)).all()
    steady = rows[rows.scene == "steady"]
    for part, panels in ((rows, 3), (steady, 2)):
        axes = false_positives.figure(part).axes
        assert len(axes) == panels
        assert all(a.get_xlabel() and a.get_ylabel() for a in axes)


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = false_positives.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)
    for cell in cells:
        false_positives.config_of(cell.params)
        false_positives.network_of(cell.params)


def test_the_upper_end_of_a_count_of_none_is_not_zero(rows: pd.DataFrame) -> None:
    cell = false_positives.rates(rows[rows.stream_ping == True])[0]  # noqa: E712
    assert cell.episodes.value == 0 < cell.episodes.high < 0.05
    assert np.isfinite(cell.failed.high)
