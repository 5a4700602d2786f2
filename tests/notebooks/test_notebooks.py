"""Every notebook runs, and is kept as it ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000  # bytes, with its pictures


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "execute.py"), "--check", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_quickly_and_stays_as_it_is(path: Path) -> None:
    pytest.importorskip("ipykernel")
    before = path.read_bytes()
    done = check(path)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_executed_with_small_outputs(path: Path) -> None:
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.timeout(300)
def test_a_cell_that_raises_is_a_failure(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    path = tmp_path / "bad.ipynb"
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    done = check(path)
    assert done.returncode == 1
    assert "bad.ipynb: a cell raised" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_notebook_that_is_not_there_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = check(tmp_path / "none.ipynb")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
