"""The page, what is kept in the repository, and the numbers that texts take from there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from msgspec import Struct

from experiments import commands, style
from experiments.experiment import Verdict
from experiments.keep import keep
from experiments.numbers import NumberError, refresh
from experiments.report import Findings, save
from experiments.sweep import Results

INTRODUCTION = "E1: is <it> fast?\n\nChange ``Params`` & see."
VERDICTS = [
    Verdict("it is fast", "< 1 s", "0.5 s [0.4, 0.6]", passed=True),
    Verdict("it is small & neat", "< 3", "4", passed=False, explanation="ticks are <late>"),
    Verdict("it is green", "yes", "no", passed=False),
    Verdict("it is round", "yes", "perhaps", passed=None, binding=False),
]


class Params(Struct, frozen=True):
    nodes: int = 8


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder as ``experiment run`` leaves it."""
    picture, (axes,) = style.figure()
    style.line(axes, [1, 2], [3, 4], style.SERIES[0], "measured")
    style.finish(axes, x="members n", y="time (s)")
    table = pd.DataFrame({"nodes": range(200), "who": "me", "mean_s": [0.00123, *[14.0] * 199]})
    save(
        tmp_path,
        "detection",
        Results(pd.DataFrame({"t": [1.0]}), ()),
        Findings({"": table, "by hand": table.head(2)}, VERDICTS, {"": picture, "more": picture}),
        {
            "question": "How fast & why",
            "introduction": INTRODUCTION,
            "command": "swimsim experiment run detection --quick --seed 1",
            "runs": 7,
            "reused": 3,
            "root_seed": 1,
            "crashes": [{"command": "swimsim experiment once detection", "error": "Oops: <no>"}],
            "code": "abc",
            "commit": None,
            "engine": "2 processes",
            "wall_s": 12.0,
            "made": "2026-01-02T03:04:05+00:00",
        },
    )
    return tmp_path


class Reader(HTMLParser):
    """What a page loads, and what a person reads of it, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.skip = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.skip = tag == "style"
        self.loads += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.skip = False

    def handle_data(self, data: str) -> None:
        if not self.skip and data.strip():
            self.text.append(" ".join(data.split()))


def read(folder: Path) -> Reader:
    done = CliRunner().invoke(commands.report, [str(folder)])
    assert done.exit_code == 0, done.output
    assert done.output == f"wrote {folder / 'report.html'}\n"
    reader = Reader()
    reader.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert reader.open == [], "every tag is closed"
    return reader


def test_the_page_needs_nothing_but_itself(results: Path) -> None:
    loads = read(results).loads
    assert len([load for load in loads if load.startswith("data:image/")]) == 2
    assert all(load.startswith(("data:image/", "#")) for load in loads)
    text = (results / "report.html").read_text()
    assert "default-src 'none'" in text
    assert 'name="viewport"' in text
    assert not re.search(r"(src|href)=.?(https?:|//)|@import|<script", text)


def test_verdicts_come_first_and_of_these_what_is_amiss(results: Path) -> None:
    text = " | ".join(read(results).text)
    told = [text.index(word) for word in ("it is green", "it is small & neat", "it is round")]
    assert told == sorted(told)
    assert text.index("it is fast") < text.index("E1: is <it> fast?")
    assert "ticks are <late>" in text
    assert "1 FAIL | 1 explained | 1 too few runs | 1 pass" in text


def test_tables_say_what_they_leave_out_and_how_to_make_them(results: Path) -> None:
    text = " | ".join(read(results).text)
    assert "80 more rows are in detection-summary.parquet" in text
    assert "0.00123 | 1 | me | 14.000" in text
    assert "swimsim experiment run detection --quick --seed 1" in text
    assert "7 runs (3 were there already), root seed 1, code abc, made 2026-01-02" in text
    assert "Oops: <no>" in text


def test_the_same_experiment_in_two_folders_is_told_apart(results: Path) -> None:
    for where in ("quick", "full"):
        (results / where).mkdir()
        for path in results.glob("detection*"):
            (results / where / path.name).write_bytes(path.read_bytes())
    for path in results.glob("detection*"):
        path.unlink()
    loads = read(results).loads
    assert {"#quick/detection", "#full/detection"} <= set(loads)


def spoil(results: Path, name: str, text: str | None) -> None:
    (results / name).unlink() if text is None else (results / name).write_text(text)


BAD = {
    "no folder": ("", None, "none: expected a folder with results"),
    "no results": ("detection.json", None, "no results here"),
    "no JSON": ("detection.json", "{", "detection.json: not JSON"),
    "a figure is gone": ("detection-more.png", None, "detection-more.png: No such file"),
    "a figure is none": ("detection.png", "x", "detection.png: not a picture"),
    "a table is gone": ("detection-verdicts.parquet", None, "verdicts.parquet: is missing"),
    "a table is none": ("detection-summary.parquet", "x", "summary.parquet: not a Parquet file"),
}


@pytest.mark.parametrize(("name", "text", "complaint"), BAD.values(), ids=BAD)
def test_a_bad_folder_is_one_line_and_status_2(
    results: Path, name: str, text: str | None, complaint: str
) -> None:
    if name:
        spoil(results, name, text)
    done = CliRunner().invoke(commands.report, [str(results if name else results / "none")])
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (results / "report.html").exists()


# --- what is kept, and who takes numbers from it ---------------------------------------------


def test_what_is_kept_is_small_and_says_what_made_it(results: Path, tmp_path: Path) -> None:
    to = tmp_path / "repository"
    written = keep("detection", results, to)
    assert sorted(path.relative_to(to).as_posix() for path in written) == [
        "figures/detection-more.png", "figures/detection.png",
        "results/detection-summary-by-hand.csv", "results/detection-summary.csv",
        "results/detection-verdicts.csv", "results/detection.json",
    ]  # fmt: skip
    assert all(path.is_file() for path in written)
    lines = (to / "results" / "detection-summary-by-hand.csv").read_text().splitlines()
    assert lines == ["nodes,who,mean_s", "0,me,0.00123", "1,me,14"]
    assert json.loads((to / "results" / "detection.json").read_text())["runs"] == 7


def test_numbers_come_from_what_is_kept(results: Path, tmp_path: Path) -> None:
    keep("detection", results, tmp_path / "to")
    folder = tmp_path / "to" / "results"
    text = "took <!--is detection-summary.mean_s [nodes=5, who=me] .1f-->?<!--/--> s"
    new = refresh(text, folder)
    assert new == text.replace("?", "14.0")
    assert refresh(new, folder) == new
    table = refresh("<!--is verdicts--><!--/-->", folder)
    assert "| 1 FAIL, 1 explained, 1 pass, 1 too few runs |" in table


WRONG = {
    "no table": ("nothing.mean_s [nodes=5] .1f", "there is no nothing.csv"),
    "no column": ("detection-summary.mean_s [size=5] .1f", "has no column size"),
    "several": ("detection-summary.mean_s [who=me] .1f", "expected one value"),
    "none": ("detection-summary.mean_s [nodes=5000] .1f", "expected one value"),
    "no sense": ("fourteen", "expected TABLE.COLUMN"),
}


@pytest.mark.parametrize(("source", "complaint"), WRONG.values(), ids=WRONG)
def test_a_number_from_nowhere_is_refused(
    results: Path, tmp_path: Path, source: str, complaint: str
) -> None:
    keep("detection", results, tmp_path / "to")
    with pytest.raises(NumberError, match=complaint):
        refresh(f"<!--is {source}-->1<!--/-->", tmp_path / "to" / "results")
