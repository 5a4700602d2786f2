"""What counts as other code, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.experiment import REGISTRY, module_of
from experiments.sources import ROOT, code_version

FILES = {
    "swimsim/__init__.py": "from swimsim.core import STEP\n",
    "swimsim/core.py": "STEP = 1\n",
    "swimsim/other.py": "OTHER = 1\n",
    "experiments/__init__.py": "",
    "experiments/statistics.py": "def mean(x): return x\n",
    "experiments/helper.py": "from swimsim.core import STEP\ndef help(): return STEP\n",
    "experiments/question.py": '''"""Words."""
from experiments import statistics
from experiments.helper import help
LIMIT = 3
TITLE = "figure"
class Params:
    """A cell."""
    nodes: int = LIMIT
def run(params: Params, seed):
    """A run."""
    return _deep(params)
def _deep(params):
    return help()  # a comment
def figure(rows):
    return statistics.mean(TITLE)
''',
}

ROOMS = {  # an experiment that is a package
    "experiments/__init__.py": "",
    "experiments/rooms/__init__.py": (
        "from experiments.rooms.judge import verdicts\nfrom experiments.rooms.study import run\n"
    ),
    "experiments/rooms/cell.py": "class Params: pass\n",
    "experiments/rooms/judge.py": "def verdicts(rows): return []\n",
    "experiments/rooms/study.py": (
        "from experiments.rooms.cell import Params\ndef run(params: Params, seed): return []\n"
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def version(root: Path) -> str:
    code_version.cache_clear()
    return code_version("experiments.question", root)


COUNTS = {  # file, from, to, whether that is other code
    "what run calls": ("experiments/question.py", "return help()", "return 2 * help()", True),
    "a constant of the parameters": ("experiments/question.py", "LIMIT = 3", "LIMIT = 4", True),
    "the simulator, by way of a helper": ("swimsim/core.py", "1", "2", True),
    "the helper": ("experiments/helper.py", "return STEP", "return -STEP", True),
    "the package's front": ("swimsim/__init__.py", "STEP", "STEP as S", True),
    "the figure": ("experiments/question.py", "statistics.mean(TITLE)", "None", False),
    "a title": ("experiments/question.py", '"figure"', '"picture"', False),
    "a docstring": ("experiments/question.py", '"""A run."""', '"""One."""', False),
    "the module's docstring": ("experiments/question.py", '"""Words."""', '"""More."""', False),
    "a comment": ("experiments/question.py", "# a comment", "# another", False),
    "what only the figure uses": ("experiments/statistics.py", "return x", "return 2 * x", False),
    "what nobody uses": ("swimsim/other.py", "1", "2", False),
}


@pytest.mark.parametrize(("file", "old", "new", "counts"), COUNTS.values(), ids=COUNTS)
def test_a_change_is_other_code_when_a_run_executes_it(
    root: Path, file: str, old: str, new: str, counts: bool
) -> None:
    before = version(root)
    path = root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert (version(root) != before) == counts


@pytest.mark.parametrize(("room", "counts"), [("cell", True), ("study", True), ("judge", False)])
def test_of_a_package_what_its_run_does_not_reach_counts_neither(
    tmp_path: Path, room: str, counts: bool
) -> None:
    for name, text in ROOMS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    code_version.cache_clear()
    before = code_version("experiments.rooms", tmp_path)
    path = tmp_path / f"experiments/rooms/{room}.py"
    path.write_text(path.read_text().replace("[]", "[1]").replace("pass", "nodes: int"))
    code_version.cache_clear()
    assert (code_version("experiments.rooms", tmp_path) != before) == counts


@pytest.mark.parametrize("name", REGISTRY)
def test_every_experiment_has_a_version_of_its_own(name: str) -> None:
    assert len(code_version(module_of(name))) == 16
    others = [code_version(module_of(other)) for other in REGISTRY if other != name]
    assert code_version(module_of(name)) not in others


def test_the_root_is_where_the_packages_lie() -> None:
    assert (ROOT / "swimsim" / "node.py").is_file()
