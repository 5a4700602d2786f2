"""Crews of real agents: ``crew`` for one test, ``shared_crew`` for all tests of a module.

Tests in this folder need HashiCorp's ``serf`` and are skipped, in one line, where there is none.
When a test fails, the last lines of its agents' logs are part of the report; the whole logs are
in pytest's temporary folder, of which it keeps the last three.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.interop.agents import REASON, SERF, Crew

CREWS: list[Crew] = []


def pytest_runtest_setup() -> None:
    """Skip from one place, so that the summary says it in one line."""
    if SERF is None:
        pytest.skip(REASON)


def _crew(folder: Path) -> Iterator[Crew]:
    with Crew(folder) as crew:
        CREWS.append(crew)
        try:
            yield crew
        finally:
            CREWS.remove(crew)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """Agents that end with the test."""
    yield from _crew(tmp_path)


@pytest.fixture(scope="module")
def shared_crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Agents that end with the module."""
    yield from _crew(tmp_path_factory.mktemp("agents"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the agents of a failing test printed."""
    report = yield
    if report.failed:
        report.sections += [log for crew in CREWS for log in crew.logs()]
    return report
