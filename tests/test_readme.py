"""The README is run as it is shown; ``--regenerate`` writes what its code prints into it."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from backends.sim.scenario import load, plan
from experiments.numbers import PLACE, refresh
from experiments.replay import replay

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CODE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<shown>.*?)```", re.DOTALL)


def printed(code: str, names: dict[str, object]) -> str:
    """What a piece of code prints; later pieces see its names."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, names)
    return said.getvalue()


def test_the_python_prints_what_is_shown(request: pytest.FixtureRequest) -> None:
    text = README.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    run = CODE.sub(
        lambda found: found[0].replace(found["shown"], printed(found["code"], names)), text
    )
    assert len(CODE.findall(text)) == 5
    if request.config.getoption("--regenerate"):
        README.write_text(run, encoding="utf-8")
        return
    assert run == text


def test_the_journal_tells_what_is_shown(request: pytest.FixtureRequest) -> None:
    text = README.read_text(encoding="utf-8")
    ((block, words),) = re.findall(
        r"(```shell-session\n\$ swimsim replay (.*)\n(?:.|\n)*?```)", text
    )
    told = CliRunner().invoke(
        replay, [str(ROOT / word) if "/" in word else word for word in words.split()]
    )
    assert told.exit_code == 0
    shown = f"```shell-session\n$ swimsim replay {words}\n{told.output}```"
    if request.config.getoption("--regenerate"):
        README.write_text(text.replace(block, shown), encoding="utf-8")
        return
    assert block == shown


def test_the_numbers_are_those_of_the_kept_results(request: pytest.FixtureRequest) -> None:
    text = README.read_text(encoding="utf-8")
    assert PLACE.search(text), "numbers of experiments stand between marks"
    if request.config.getoption("--regenerate"):
        README.write_text(refresh(text), encoding="utf-8")
        return
    assert refresh(text) == text


def test_the_scenario_is_the_one_that_is_shipped() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    folder = ROOT / "experiments" / "scenarios"
    shown = plan(tomllib.loads(text), folder)
    shipped = load(folder / "production.toml")
    assert shown.scenario == shipped.scenario
    assert shown.config == shipped.config


def test_every_scenario_that_is_shipped_can_be_loaded() -> None:
    paths = sorted((ROOT / "experiments" / "scenarios").glob("*.toml"))
    assert len(paths) >= 3
    for path in paths:
        assert load(path).text()
