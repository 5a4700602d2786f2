"""The hand of the figures: series that stay apart in grey, hollow markers, labels, bands."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from experiments import statistics, style
from experiments.statistics import Interval
from experiments.style import SERIES


def lightness(colour: str) -> float:
    """Relative luminance, as a grey printer sees it."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_no_two_series_share_a_marker_or_a_colour() -> None:
    for one, other in combinations(SERIES, 2):
        assert one.marker != other.marker
        assert one.colour != other.colour


def test_the_first_three_series_differ_in_grey_and_all_by_colour_or_dash() -> None:
    for one, other in combinations(SERIES[:3], 2):
        assert abs(lightness(one.colour) - lightness(other.colour)) > 0.05
    for one, other in combinations(SERIES, 2):
        apart = abs(lightness(one.colour) - lightness(other.colour))
        assert apart > 0.05 or one.dash != other.dash, (one, other)


def test_a_panel_has_labels_bands_and_hollow_published_points() -> None:
    picture, (left, right) = style.figure(2, title="both")
    x = [10, 100, 1000]
    means = [Interval(v, v - 1, v + 1) for v in (3.0, 4.0, 5.0)]
    style.curve(left, x, means, SERIES[0], "measured")
    style.formula(left, x, [3, 4, 5], "F1")
    style.published(left, x, [3.1, 4.2, 4.9], "paper", SERIES[0])
    style.finish(left, x="members n", y="time (s)", log="x", ticks=x)
    style.ecdf(right, [3.0, 1.0, 2.0], SERIES[1], "sample")
    style.waiting(right, statistics.survival([1, 2, None], 5), SERIES[2], "waits", done=True)
    style.finish(right, x="time (s)", y="share", title="a title")
    picture.draw_without_rendering()
    assert left.get_xlabel() == "members n"
    assert left.get_xscale() == "log"
    assert [text.get_text() for text in left.get_xticklabels()] == ["10", "100", "1,000"]
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "measured", "F1", "paper"
    ]  # fmt: skip
    hollow = left.lines[-1]
    assert hollow.get_markerfacecolor() == "none"
    assert left.collections, "the band"
    (vertices,) = (path.vertices for path in left.collections[0].get_paths())
    assert np.asarray(vertices)[:, 1].min() == pytest.approx(2.0)


def test_an_ecdf_climbs_from_nothing_to_all() -> None:
    _, (axes,) = style.figure()
    style.ecdf(axes, [3.0, 1.0, 2.0], SERIES[0])
    x, y = axes.lines[0].get_data()
    assert list(x) == [1, 1, 2, 3]
    assert list(y) == pytest.approx([0, 1 / 3, 2 / 3, 1])
