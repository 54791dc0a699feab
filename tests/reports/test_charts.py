"""The drawings: sound markup, marks where the numbers are, and no surprise at the edges."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from vitreous.analyse.calibration import reliability
from vitreous.analyse.scores import Share, proportion
from vitreous.reports.charts import Line, bar, confidence_histogram, curves, reliability_diagram, ruler, whisker
from vitreous.reports.matrix import heat_map
from vitreous.reports.svg import Plane, tag, ticks


def parsed(drawing: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(drawing))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.001), (0, 3.7), (-2, 5), (0, 1e7), (3, 3)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found and all(low - 1e-9 <= t <= high * (1 + 1e-9) for t in found)
    assert len(found) <= 11


def test_the_plane_puts_points_where_they_belong() -> None:
    plane = Plane(x=(0, 10), y=(0, 1), left=50, top=10, width=100, height=200)
    assert plane.at(0, 0) == (50, 210)
    assert plane.at(10, 1) == (150, 10)
    assert plane.at(5, 0.5) == (100, 110)


def test_tags_escape() -> None:
    assert tag("text", "<&", class_="a", text_anchor='"') == '<text class="a" text-anchor="&#34;">&lt;&amp;</text>'


@pytest.mark.parametrize("right", [0, 1, 50, 99, 100])
@pytest.mark.parametrize("marks", [[], [(0.5, "a"), (0.6, "b")], [(0.01, "a"), (0.99, "b")]])
def test_the_ruler_at_both_ends(right: int, marks: list) -> None:
    drawing = parsed(ruler(proportion(right, 100), marks))
    assert drawing.find(".//circle").get("cx") == f"{right:.2f}%"
    told = {t.text: t.get("x") for t in drawing.iter("text") if t.get("class") == "note"}
    assert told == {text: f"{100 * value:.2f}%" for value, text in marks}


def test_small_drawings() -> None:
    assert whisker(Share(None, 0, 1)) == ""
    assert parsed(whisker(proportion(3, 4))).find("circle").get("cx") == "75.00%"
    assert parsed(bar(0.25, "25")).find("rect").get("width") == "25.00%"


@pytest.mark.parametrize("ys", [[1.0], [0.0, 0.0], [1e9, 3.0], [-1.0, -2.0], [0.3] * 500])
def test_curves_of_any_kind(ys: list[float]) -> None:
    lines = [Line(tone="accent", xs=list(range(len(ys))), ys=ys)]
    drawing = str(curves(lines, label="x", axis="step", reach=float(len(ys)), kept=0.5))
    parsed(Markup(drawing))
    assert "nan" not in drawing and "inf" not in drawing


def test_reliability_marks_are_the_bins() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    groups = reliability(probabilities, np.array([0, 1, 1, 1]))
    drawing = parsed(reliability_diagram(groups, groups))
    assert len([c for c in drawing.iter("circle") if c.get("class") == "dot accent"]) == 2
    told = [t.text for t in parsed(confidence_histogram(groups)).iter("title")]
    assert any("1 of 2 right" in t for t in told)


@pytest.mark.parametrize("k", [1, 2, 25, 26, 60, 61, 200])
def test_the_matrix_shows_every_count(k: int) -> None:
    confusion = np.random.default_rng(0).integers(0, 3, (k, k))
    drawing = parsed(heat_map(confusion, [f"<c{i}>" for i in range(k)]))
    squares = [r for r in drawing.iter("rect") if (r.get("class") or "").startswith("heat")]
    assert len(squares) == int((confusion > 0).sum())
    numbers = [t for t in drawing.iter("text") if (t.get("class") or "").startswith("cell")]
    assert len(numbers) == (len(squares) if k <= 25 else 0)


def test_a_matrix_that_would_be_dust_is_not_drawn() -> None:
    assert heat_map(np.eye(201, dtype=np.int64), [str(i) for i in range(201)]) is None
