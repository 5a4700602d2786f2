"""Run notebooks, and write what came of them into them.

    python notebooks/execute.py                   # all, as they are kept in the repository
    python notebooks/execute.py --check 4-partitions.ipynb    # quickly, writing nothing

A notebook asks the environment variable SWIMSIM_QUICK whether to be quick. What is written has
no times and no counters of this machine in it, so a difference is a difference in what it says.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

HERE = Path(__file__).parent
PATIENCE_S = 900


def execute(path: Path, *, quick: bool) -> nbformat.NotebookNode:
    """The notebook with the outputs of all its cells; raises ``CellExecutionError``."""
    notebook = nbformat.read(path, as_version=4)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    os.environ.pop("SWIMSIM_QUICK", None)
    if quick:
        os.environ["SWIMSIM_QUICK"] = "1"
    with TemporaryDirectory() as folder:
        # Sockets of this user in a folder of our own, instead of ports on the network.
        kernel = AsyncKernelManager(
            kernel_name="python3", transport="ipc", ip=str(Path(folder) / "kernel")
        )
        NotebookClient(
            notebook,
            km=kernel,
            timeout=PATIENCE_S,
            startup_timeout=PATIENCE_S,
            resources={"metadata": {"path": str(HERE)}},
            record_timing=False,
        ).execute()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return notebook


def main(words: list[str]) -> int:
    """Execute the notebooks named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="files in this folder; by default all")
    parser.add_argument("--check", action="store_true", help="quickly, and write nothing")
    told = parser.parse_args(words)
    paths = [HERE / name for name in told.names] or sorted(HERE.glob("*.ipynb"))
    for path in paths:
        if not path.is_file():
            sys.stderr.write(f"{path}: there is no such notebook\n")
            return 2
        try:
            notebook = execute(path, quick=told.check)
        except CellExecutionError as error:
            sys.stderr.write(f"{path.name}: a cell raised\n{error}\n")
            return 1
        if not told.check:
            nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}: {len(notebook.cells)} cells\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
