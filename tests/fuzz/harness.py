"""What the fuzz targets share: they start from the golden vectors and stop after a minute.

``make fuzz`` runs them all. atheris (https://pypi.org/project/atheris/) is imported here and in the
targets alone: ``pip install 'swimsim[fuzz]'``. One target, from the root of the checkout::

    python -m tests.fuzz.fuzz_packet -max_total_time=60
    python -m tests.fuzz.fuzz_packet -max_total_time=3600 corpus/   # keep what it finds there
    python -m tests.fuzz.fuzz_packet crash-0123...                  # one input again

All other arguments are libFuzzer's (``-help=1``). What takes longer than ten seconds, or more than
a gigabyte, counts as a crash.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

VECTORS = Path(__file__).parents[1] / "vectors"
LIMITS = {"-max_total_time": 60, "-timeout": 10, "-rss_limit_mb": 1024}  # unless told otherwise


def fuzz(check: Callable[[bytes], None], *kinds: str) -> None:
    """Call ``check`` with ever new bytes, at first the vectors of these kinds, and exit."""
    arguments = list(sys.argv)
    named = {argument.partition("=")[0] for argument in arguments}
    arguments += [f"{name}={value}" for name, value in LIMITS.items() if name not in named]
    given = [Path(argument) for argument in arguments[1:] if not argument.startswith("-")]
    if not any(path.is_file() for path in given):  # finds go to the first folder
        arguments.append(str(seeds(*kinds)))
    atheris.Setup(arguments, check)
    atheris.Fuzz()


def seeds(*kinds: str) -> Path:
    """A folder with the bytes of all short vectors of these kinds, a file each."""
    folder = Path(tempfile.gettempdir()) / "-".join(("swimsim-fuzz", *kinds))
    folder.mkdir(exist_ok=True)
    for path in sorted(VECTORS.glob("*.json")):
        for vector in json.loads(path.read_text())["vectors"]:
            if vector["kind"] in kinds and len(vector["hex"]) < 8000:
                (folder / f"{path.stem}-{vector['name']}").write_bytes(bytes.fromhex(vector["hex"]))
    return folder
