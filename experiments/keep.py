"""Results that stay in the repository: figures and small tables, with what made them.

    experiments/figures/NAME.png              as it was drawn, and NAME-MORE.png
    experiments/results/NAME-summary.csv      the tables, six digits
    experiments/results/NAME-verdicts.csv     the acceptance lines
    experiments/results/NAME.json             the command, seeds, code and libraries

Nobody edits these; ``swimsim experiment keep NAME FOLDER`` writes them. Rows stay outside: the
command in the manifest makes them again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent


def keep(name: str, folder: Path, to: Path = HERE) -> list[Path]:
    """Copy what stays of an experiment's results; the paths of what was written."""
    manifest = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    written = []
    (to / "figures").mkdir(parents=True, exist_ok=True)
    (to / "results").mkdir(parents=True, exist_ok=True)
    for figure in manifest["figures"]:
        written.append(to / "figures" / figure["file"])
        shutil.copyfile(folder / figure["file"], written[-1])
    tables = [*(table["file"] for table in manifest["tables"]), f"{name}-verdicts.parquet"]
    for file in tables:
        written.append((to / "results" / file).with_suffix(".csv"))
        frame = pd.read_parquet(folder / file)
        frame.to_csv(written[-1], index=False, float_format="%.6g", lineterminator="\n")
    manifest.pop("introduction", None)  # is in the module
    written.append(to / "results" / f"{name}.json")
    written[-1].write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return written
