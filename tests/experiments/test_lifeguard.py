"""E5: what a run counts, that the grid is the paper's, and that the judges can say no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import asdict, replace

from experiments import lifeguard, statistics
from experiments.experiment import Cell
from experiments.lifeguard import judgement
from experiments.lifeguard.grid import QUARTERS, quarter
from experiments.lifeguard.published import (
    BLOCKED,
    DURATIONS_MS,
    FALSE_POSITIVES,
    PAUSES_MS,
    TABLE,
    TUNING,
)
from experiments.lifeguard.study import PROTOCOLS, Params, config_of, run

SMALL = Params("threshold", "lifeguard", 3, 16384, nodes=16)
AGAIN = Params("interval", "swim", 8, 16384, 256, nodes=32)


def test_a_run_is_a_function_of_parameters_and_seed() -> None:
    assert run(SMALL, 5) == run(SMALL, 5)
    assert run(SMALL, 5) != run(SMALL, 6)


def test_one_block_is_detected_and_over_when_all_is_well() -> None:
    whole, *detections = run(SMALL, 1)
    assert whole["is_well"]
    assert len(detections) == 3
    shortest = 1 + 5 * 1.204  # a failed probe, and alpha log10(16)
    for found in detections:
        assert shortest <= found["first_s"] <= found["full_s"] <= whole["lasted_s"]
    assert whole["false_positives"] == whole["at_healthy"] == 0


def test_a_block_that_is_too_short_is_not_detected() -> None:
    whole, *detections = run(replace(SMALL, duration_ms=2048), 1)
    assert whole["is_well"]
    assert [found["first_s"] for found in detections] == [None] * 3
    assert all(found["limit_s"] == whole["lasted_s"] for found in detections)


def test_members_that_block_again_and_again_slander_others() -> None:
    (swim,) = run(AGAIN, 1)
    assert 0 <= swim["at_healthy"] <= swim["false_positives"]
    assert swim["false_positives"] > 0
    assert swim["lasted_s"] >= 120
    assert swim["worst_health"] == 0
    (careful,) = run(replace(AGAIN, protocol="lifeguard"), 1)
    assert careful["false_positives"] < swim["false_positives"]
    assert 0 < careful["worst_health"] <= 8
    each = swim["bytes"] / swim["messages"]
    assert 30 < each < 1400, "the weighed packets stand for all"


def test_configurations_differ_in_their_parts_alone() -> None:
    parts = {
        p: (c.lha_probe, c.lha_suspicion, c.buddy_system)
        for p in PROTOCOLS
        for c in (config_of(Params("interval", p, 1, 1)),)
    }
    assert list(parts.values()) == [
        (False, False, False),
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, True, True),
    ]


def test_four_quarters_make_the_grid_and_each_is_even() -> None:
    pairs = [pair for number in range(QUARTERS) for pair in quarter(number)]
    assert Counter(pairs) == Counter(product(DURATIONS_MS, PAUSES_MS))
    for number in range(QUARTERS):
        assert Counter(d for d, _ in quarter(number)) == dict.fromkeys(DURATIONS_MS, 2)


def test_the_digitised_figures_sum_to_the_printed_table() -> None:
    for protocol, counts in FALSE_POSITIVES.items():
        assert sum(counts) == pytest.approx(TABLE[protocol].false_positives, rel=0.002)


@pytest.mark.parametrize("scale", ["demo", "quick", "full"])
def test_cells_are_valid_and_distinct(scale: str) -> None:
    cells = lifeguard.cells(scale)  # type: ignore[arg-type]
    assert len({cell.params for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.runs > 0
        config_of(cell.params)
    keys = {}
    for cell in cells:  # those to be compared share their seeds
        own = replace(cell.params, protocol="swim", alpha=5, beta=6, drain_us=10, part="interval")
        if cell.params.part != "threshold":
            assert keys.setdefault(own, lifeguard.seed_key(cell.params)) == lifeguard.seed_key(
                cell.params
            )


# --- the judges ------------------------------------------------------------------------------


def times(percentiles: tuple[float, ...], count: int, place: int, runs: int) -> list[float]:
    """A share of a sample that has these percentiles."""
    least, most = percentiles[0] - 1.5, percentiles[2] + 0.5
    known = [least, percentiles[0], percentiles[1], percentiles[2], most]
    shares = (np.arange(count) * runs + place + 0.5) / (count * runs)
    return list(np.interp(shares, [0, 0.5, 0.99, 0.999, 1], known))


def as_published() -> pd.DataFrame:
    """Rows that say just what the paper does."""
    rows = []
    detected = 8
    settings = [
        (protocol, 5, 6, TABLE[protocol].first, TABLE[protocol].full) for protocol in PROTOCOLS
    ]
    swim = TABLE["swim"]
    for (alpha, beta), line in TUNING.items():
        first = tuple(p * s / 100 for p, s in zip(line.first, swim.first, strict=True))
        full = tuple(p * s / 100 for p, s in zip(line.full, swim.full, strict=True))
        if (alpha, beta) != (5, 6):
            settings.append(("lifeguard", alpha, beta, first, full))
    settings = [line for line in settings if line[:3] != ("lifeguard", 5, 6)]
    line = TUNING[5, 6]
    settings.append(
        (
            "lifeguard",
            5,
            6,
            tuple(p * s / 100 for p, s in zip(line.first, swim.first, strict=True)),
            tuple(p * s / 100 for p, s in zip(line.full, swim.full, strict=True)),
        )
    )
    for protocol, alpha, beta, first, full in settings:
        params = Params("threshold", protocol, 16, 32768, alpha=alpha, beta=beta)  # type: ignore[arg-type]
        for replicate in range(40):
            for a, b in zip(
                times(first, detected, replicate, 40),
                times(full, detected, replicate, 40),
                strict=True,
            ):
                rows.append(
                    asdict(params)
                    | {"kind": "detection", "replicate": replicate, "first_s": a, "full_s": b}
                )
    for protocol, c, (d, i) in product(PROTOCOLS, BLOCKED, quarter(0)):
        line_ = TABLE[protocol]
        wrong = FALSE_POSITIVES[protocol][BLOCKED.index(c)] / 10 / 48
        rows.append(
            asdict(Params("interval", protocol, c, d, i))
            | {
                "kind": "run",
                "replicate": 0,
                "false_positives": wrong,
                "at_healthy": line_.at_healthy,
                "messages": line_.messages_millions * 1e6 / 4320,
                "bytes": line_.gibibytes * 2**30 / 4320,
                "refutations": 1,
                "worst_health": 1,
            }
        )
    for (alpha, beta), line in TUNING.items():
        rows.append(slander("tuning", "lifeguard", line.false_positives, alpha=alpha, beta=beta))
    rows.append(slander("tuning", "swim", 100))
    for drain in (0, 100):
        rows.append(slander("drains", "swim", 1000, drain_us=drain))
        rows.append(slander("drains", "lifeguard", 10, drain_us=drain))
    return pd.DataFrame(rows)


def slander(part: str, protocol: str, count: float, **settings: int) -> dict[str, object]:
    """A row of one of the smaller parts."""
    params = Params(part, protocol, 16, 16384, 256, **settings)  # type: ignore[arg-type]
    return asdict(params) | {
        "kind": "run",
        "replicate": 0,
        "false_positives": count,
        "at_healthy": 1,
        "messages": 1000,
        "bytes": 1e5,
    }


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """The paper's own results, as rows."""
    return as_published()


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested elsewhere; here they need not be precise."""
    monkeypatch.setattr(judgement, "RESAMPLES", 40)
    monkeypatch.setattr(statistics, "RESAMPLES", 40)


def test_the_paper_passes_its_own_examination(rows: pd.DataFrame) -> None:
    verdicts = lifeguard.verdicts(rows)
    assert len(verdicts) > 35
    assert [verdict for verdict in verdicts if verdict.passed is not True] == []


Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def scaled(column: str, factor: float, **only: object) -> Spoil:
    """Multiply a column where all these hold."""

    def spoil(rows: pd.DataFrame) -> pd.DataFrame:
        wanted = np.logical_and.reduce([rows[name] == value for name, value in only.items()])
        rows.loc[wanted, column] *= factor
        return rows

    return spoil


WRONG: dict[str, Spoil] = {
    "SWIM: first detection, p50": scaled("first_s", 1.05, protocol="swim"),
    "SWIM: full dissemination, p99": scaled("full_s", 1.1, protocol="swim"),
    "alpha 2, beta 4: first detection": scaled("first_s", 1.1, alpha=2, beta=4),
    "buddy: messages in %": scaled("messages", 1.2, protocol="buddy"),
    "messages of one repetition": scaled("messages", 1.2, part="interval"),
    "lifeguard: false positives in %": scaled("false_positives", 9, protocol="lifeguard"),
    "lha-suspicion: false positives in %": scaled("false_positives", 9, protocol="lha-suspicion"),
    "buddy: false positives in %": scaled("false_positives", 0.5, protocol="buddy"),
    "lifeguard: those at healthy": scaled("at_healthy", 9, protocol="lifeguard"),
    "rise with the number": scaled("false_positives", 0, protocol="swim", blocked=32),
    "fall with alpha": scaled("false_positives", 9, part="tuning", alpha=5, beta=2),
    "fall with beta": scaled("false_positives", 9, part="tuning", alpha=2, beta=4),
    "drain 100 us": scaled("false_positives", 9, part="drains", protocol="lifeguard"),
    "lha-suspicion: bytes": scaled("bytes", 2, protocol="lha-suspicion"),
}


@pytest.mark.parametrize(("claim", "spoil"), WRONG.items(), ids=WRONG)
def test_a_judge_says_no_when_what_it_judges_is_wrong(
    rows: pd.DataFrame, claim: str, spoil: Spoil
) -> None:
    floats = {"false_positives": float, "at_healthy": float}
    judged = [
        verdict
        for verdict in lifeguard.verdicts(spoil(rows.copy().astype(floats)))
        if claim in verdict.claim
    ]
    assert any(verdict.passed is False for verdict in judged)


def test_half_a_grid_is_too_little_to_judge_by(rows: pd.DataFrame) -> None:
    part = rows[(rows.part != "interval") | (rows.blocked == 16)]
    judged = {v.claim: v.passed for v in lifeguard.verdicts(part) if "messages" in v.claim}
    assert set(judged.values()) == {None}


def test_tables_and_figures_are_of_everything(rows: pd.DataFrame) -> None:
    assert list(lifeguard.table(rows).configuration) == list(PROTOCOLS)
    tables = lifeguard.tables(rows)
    assert len(tables["tuning"]) == 9
    assert len(tables["drains"]) == 2
    assert len(lifeguard.figure(rows).axes) == 2
    pictures = lifeguard.figures(rows)
    assert [len(picture.axes) for picture in pictures.values()] == [2, 3]


def test_a_sample_without_all_parts_can_be_told() -> None:
    """A single cell, as from the command line, makes tables and figures too."""
    cell = Cell(SMALL, 1)
    found = [
        asdict(cell.params) | {"cell": 0, "replicate": 0, "seed": 1} | row
        for row in run(cell.params, 1)
    ]
    part = pd.DataFrame(found)
    lifeguard.table(part)
    lifeguard.tables(part)
    lifeguard.figure(part)
    lifeguard.figures(part)
    assert all(verdict.passed is None for verdict in lifeguard.verdicts(part)[:6])
