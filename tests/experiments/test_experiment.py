"""The verdicts: what fails a run, and what is only said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from rich.console import Console

from experiments import report
from experiments.experiment import Verdict


@dataclass(frozen=True)
class Case:
    """A verdict, its word, and whether it fails the run."""

    passed: bool | None
    explanation: str
    binding: bool
    word: str
    fails: bool = False


CASES = {
    "met": Case(True, "", True, "pass"),
    "met, although it was explained for other scales": Case(True, "because", True, "pass"),
    "not met": Case(False, "", True, "FAIL", fails=True),
    "not met, and the reader is told why": Case(False, "because", True, "explained"),
    "informative, and not met": Case(False, "", False, "differs"),
    "not known yet": Case(None, "", True, "too few runs"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_verdict_says_what_it_is(case: Case) -> None:
    verdict = Verdict("c", "b", "m", case.passed, case.explanation, case.binding)
    assert (verdict.word, verdict.fails) == (case.word, case.fails)


def test_an_explanation_is_printed_beside_what_it_explains_and_nowhere_else() -> None:
    console = Console(width=200)
    verdicts = [
        Verdict("a", "< 1", "2 [1, 3]", passed, "ticks are late") for passed in (True, False)
    ]
    with console.capture() as said:
        report.print_verdicts(console, verdicts)
    passing, failing, why = said.get().splitlines()[-4:-1]
    assert "2 [1, 3]" in passing
    assert "pass" in passing
    assert "2 [1, 3]" in failing
    assert "explained" in failing
    assert "ticks are late" in why
    assert said.get().count("ticks are late") == 1
