"""E4: what a run measures, and that its judges can say no."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from experiments import load
from experiments.experiment import Cell
from experiments.load import Params
from experiments.sweep import sweep, tasks_of
from swimsim import SECOND

SHORT = 30 * SECOND


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """A small grid with every kind of cell; a thousand members for two seconds."""
    cells = [
        Cell(Params(5, idle=SHORT, busy=False), 1),
        Cell(Params(28, idle=SHORT), 1),
        Cell(Params(44, idle=60 * SECOND, busy=False), 1),
        Cell(Params(44, 0.3, idle=SHORT, busy=False), 3),
        Cell(Params(13, coordinates=True, idle=SHORT, busy=False), 1),
        Cell(Params(13, push_pull=False, idle=SHORT, busy=False), 1),
        Cell(Params(1000, idle=2 * SECOND, busy=False), 1),
    ]
    with ThreadPoolExecutor(1) as executor:
        return sweep(tasks_of("load", cells, root=1), executor).rows


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    few = Params(8, 0.3, idle=20 * SECOND, busy=False)
    assert load.run(few, 5) == load.run(few, 5)
    assert load.run(few, 5) != load.run(few, 6)


def test_idle_members_send_a_ping_and_an_ack_a_period(rows: pd.DataFrame) -> None:
    idle = rows[(rows.phase == "idle") & (rows.loss == 0)]
    assert idle.sent_ping.to_numpy() == pytest.approx(1)
    assert idle.sent_packets.to_numpy() == pytest.approx(2, rel=0.001)
    assert idle.received_packets.to_numpy() == pytest.approx(2, rel=0.001)
    assert (idle.queue_max == 0).all()
    assert (idle.sent_p99 <= idle.sent_max).all()


def test_what_is_lost_is_sent_and_does_not_arrive(rows: pd.DataFrame) -> None:
    lossy = rows[rows.loss == 0.3]
    share = (lossy.received_packets / lossy.sent_packets).to_numpy()
    assert share == pytest.approx(0.7, abs=0.03)
    assert (lossy.sent_packets - lossy[[f"sent_{kind}" for kind in load.KINDS]].sum(axis=1)).abs().max() < 1e-9  # fmt: skip  # noqa: E501


def test_coordinates_ride_on_acks_and_push_pull_can_be_off(rows: pd.DataFrame) -> None:
    plain = rows[(rows.nodes == 28) & (rows.phase == "idle")].sent_bytes.mean()
    assert rows[rows.coordinates].sent_bytes.mean() > plain + 50
    assert (rows[~rows.push_pull].sent_stream_bytes == 0).all()
    assert (rows[rows.nodes == 44].received_stream_bytes > 0).all()


def test_a_crash_and_updates_are_said_as_often_as_the_queue_allows(rows: pd.DataFrame) -> None:
    busy = load.tables(rows)["busy"].set_index("phase")
    assert 16 <= busy.news_per_member["crash"] <= 32
    assert busy.news_per_member["updates"] == pytest.approx(8, rel=0.02)
    assert busy.sent["updates"] > busy.sent["crash"] > 2


Change = Callable[[pd.Series], object]
WRONG: dict[str, dict[str, Change]] = {  # a claim, and what makes it false
    "packets sent by a member": {"sent_packets": lambda x: x * 1.01},
    "packets received by a member": {"received_packets": lambda x: x * 0.99},
    "n=28: deviation": {"sent_sd": lambda x: x * 1.2},
    "SWIM figure 2": {"sent_packets": lambda x: x + 0.3},
    "ping of probing": {"sent_ping": lambda x: x * 1.2},
    "all packets of probing": {"sent_ack": lambda x: x * 1.5},
    "do not grow with the group": {"sent_bytes": lambda x: x + np.arange(len(x))},
    "bytes of push/pull": {"sent_stream_bytes": lambda x: x * 1.2},
    "KB/s sent": {"sent_stream_bytes": lambda x: x + 2000},
    "KB/s received": {"received_stream_bytes": lambda x: x * 0, "received_bytes": lambda x: x * 0},
}


@pytest.mark.parametrize(("claim", "change"), WRONG.items(), ids=WRONG)
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    rows: pd.DataFrame, claim: str, change: dict[str, Change]
) -> None:
    assert not any(v.passed is False for v in load.verdicts(rows) if "n=28" in v.claim)
    spoiled = rows.copy()
    for column, function in change.items():
        spoiled[column] = function(spoiled[column])
    judged = [verdict for verdict in load.verdicts(spoiled) if claim in verdict.claim]
    assert any(verdict.passed is False for verdict in judged)


def test_bytes_that_are_equal_everywhere_do_not_grow(rows: pd.DataFrame) -> None:
    even = rows.assign(sent_bytes=99.0)
    judged = [v for v in load.verdicts(even) if "do not grow" in v.claim]
    assert [v.passed for v in judged] == [True]


def test_table_and_figure_cover_every_cell(rows: pd.DataFrame) -> None:
    assert len(load.table(rows)) == 7
    axes = load.figure(rows).axes
    assert len(axes) == 2
    assert all(a.get_xlabel() and a.get_ylabel() for a in axes)
    assert list(load.tables(rows[rows.loss == 0])) == ["busy"]
    bound = load.tables(rows[rows.phase == "idle"])["bound"].iloc[0]
    assert bound.F17_at_least < bound.sent < bound.heartbeats


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = load.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)
    for cell in cells:
        load.config_of(cell.params)
