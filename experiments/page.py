"""Results as one page to read: verdicts first, then what each experiment drew and counted.

The page is a single HTML file with everything in it, figures as well; it asks nothing of any
network (its own policy forbids it) and reads on a phone.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pyarrow as pa
from markupsafe import Markup, escape
from PIL import Image

from experiments.experiment import REGISTRY
from experiments.report import cell

MOST_ROWS = 120
LARGEST_SVG = 400_000  # bytes; a drawing of many points is smaller as a picture
DPI = 150
WORDS = ("FAIL", "explained", "differs", "too few runs", "pass")


class PageError(ValueError):
    """A folder that holds no results; one line that says what was expected."""


def render(folder: Path) -> str:
    """The page of all results in a folder and the folders in it; raises ``PageError``."""
    if not folder.is_dir():
        raise PageError(f"{folder}: expected a folder with results")
    manifests = dict(_manifests(folder))
    if not manifests:
        raise PageError(f"{folder}: no results here, expected files of `swimsim experiment run`")
    order = {name: place for place, name in enumerate(REGISTRY)}
    paths = sorted(
        manifests, key=lambda path: (order.get(manifests[path]["experiment"], len(order)), path)
    )
    several = Counter(manifests[path]["experiment"] for path in paths)
    experiments = []
    for path in paths:
        told = _experiment(path, manifests[path])
        if several[told["name"]] > 1:  # the same experiment at two scales, say
            told["name"] = path.relative_to(folder).with_suffix("").as_posix()
        experiments.append(told)
    total: Counter[str] = Counter()
    for told in experiments:
        total.update(told["tally"])
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title="What the experiments say",
            experiments=experiments,
            tally=_ordered(total),
            total=total.total(),
        )
    )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def _manifests(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What every experiment's results say of themselves, in the folder and below."""
    for path in sorted(folder.rglob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise PageError(f"{path}: not JSON: {error}") from error
        if isinstance(told, dict) and {"experiment", "tables", "figures"} <= told.keys():
            yield path, told


def _experiment(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    name = manifest["experiment"]
    verdicts: list[dict[str, Any]] = [
        {
            "claim": line.claim,
            "bound": line.bound,
            "measured": line.measured,
            "verdict": line.verdict,
            "binding": line.binding,
            "why": line.explanation if line.verdict == "explained" else "",
        }
        for line in _table(path.parent / f"{name}-verdicts.parquet").itertuples()
    ]
    verdicts.sort(key=lambda line: WORDS.index(line["verdict"]))  # what is amiss comes first
    tally = _ordered(Counter(str(line["verdict"]) for line in verdicts))
    return {
        "name": name,
        "question": manifest["question"],
        "introduction": list(_paragraphs(manifest.get("introduction", ""))),
        "verdicts": verdicts,
        "tally": tally,
        "is_open": bool({"FAIL", "explained", "differs"} & tally.keys()),
        "figures": [_figure(path.parent, told, manifest) for told in manifest["figures"]],
        "tables": [_summary(path.parent, told) for told in manifest["tables"]],
        "command": manifest["command"],
        "made_of": _made_of(manifest),
        "crashes": manifest["crashes"],
    }


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return {word: counts[word] for word in WORDS if counts.get(word)}


def _paragraphs(text: str) -> Iterator[Markup]:
    """A docstring as paragraphs, what stands between backticks as code."""
    for paragraph in text.split("\n\n"):
        parts = paragraph.replace("``", "`").split("`")
        yield Markup().join(
            Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
            for number, part in enumerate(parts)
        )


def _figure(folder: Path, told: Mapping[str, str], manifest: Mapping[str, Any]) -> dict[str, Any]:
    picture = folder / told["file"]
    try:
        with Image.open(picture) as image:
            width = image.width * 96 // DPI
        drawing = picture.with_suffix(".svg")
        is_drawing = drawing.is_file() and drawing.stat().st_size <= LARGEST_SVG
        data = (drawing if is_drawing else picture).read_bytes()
    except OSError as error:
        raise PageError(f"{picture}: {error.strerror or 'not a picture'}") from error
    kind = "svg+xml" if is_drawing else "png"
    return {
        "title": told["title"],
        "alt": f"{manifest['question']}: {told['title'] or 'figure'}",
        "source": f"data:image/{kind};base64,{b64encode(data).decode()}",
        "width": round(width * 1.15),
    }


def _summary(folder: Path, told: Mapping[str, str]) -> dict[str, Any]:
    frame = _table(folder / told["file"])
    return {
        "title": told["title"],
        "file": told["file"],
        "columns": [
            {"name": str(name), "is_number": pd.api.types.is_numeric_dtype(frame[name])}
            for name in frame.columns
        ],
        "rows": [[cell(value) for value in row] for row in _rows(frame.head(MOST_ROWS))],
        "left_out": max(0, len(frame) - MOST_ROWS),
    }


def _rows(frame: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    return frame.itertuples(index=False, name=None)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise PageError(f"{path}: is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise PageError(f"{path}: not a Parquet file") from error


def _made_of(manifest: Mapping[str, Any]) -> str:
    """In one sentence: how many runs, when, with what."""
    commit = manifest.get("commit")
    code = f"commit {commit}" if commit else f"code {manifest['code']}"
    libraries = ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())
    there = f" ({manifest['reused']} were there already)" if manifest["reused"] else ""
    return (
        f"{manifest['runs']} runs{there}, root seed {manifest['root_seed']}, {code}, "
        f"made {manifest['made'][:10]} on {manifest['engine']} in {manifest['wall_s']:.0f} s. "
        f"{libraries}."
    )
