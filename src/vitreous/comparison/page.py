"""A comparison as one page that loads nothing, in the style of a run's report."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
from markupsafe import Markup

from vitreous.analyse.scores import Share
from vitreous.comparison.efficiency import Growth
from vitreous.comparison.result import METHOD, Comparison
from vitreous.comparison.standing import Standing
from vitreous.comparison.verdict import gap
from vitreous.reports.charts import Line, curves, whisker
from vitreous.reports.page import fill
from vitreous.reports.text import duration, interval, large, percent

_ONWARD = {"predict": "It has learned already; the best of its seeds answers:", "train": "With four times as long:"}
_POINTS = 60  # of a curve that is the mean of several


def render(found: Comparison) -> str:
    """The page as text."""
    template = files("vitreous.comparison").joinpath("page.html").read_text("utf-8")
    trained = [arm for arm in found.arms if arm.runs and arm.speed]
    source = str(found.data["source"]).rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    lead, _, rest = found.verdict.partition("; ")
    contents: dict[str, Any] = {
        "lead": f"{lead}." if rest else lead,
        "rest": rest[:1].upper() + rest[1:],
        "found": found,
        "title": f"{len(trained)} model{'s' if len(trained) != 1 else ''} on {source}",
        "counts": {side: f"{count:,}" for side, count in found.data["counts"].items()},
        "rows": (rows := [_row(arm) for arm in found.whole]),
        "priced": [row for row in rows if row["scores"]],
        "reasons": [
            (arm.name if arm.arm.run is None else f"{arm.name}, seed {seed}", reason)
            for arm in found.arms
            for seed, reason in arm.reasons.items()
        ],
        "leaks": [(arm.name, arm.leak) for arm in found.whole if arm.leak],
        "curves": _learning(trained),
        "growth": [(curve.name, _grown(curve)) for curve in found.growth],
        "pairs": [(f"{a} less {b}", gap(d)) for a, b, d in found.pairs],
        "onward": [(_ONWARD[verb], command) for verb, command in found.onward.items()],
        "method": METHOD,
    }
    return fill(template, contents)


def _row(arm: Standing) -> dict[str, Any]:
    said = [arm.network, "" if arm.name.endswith(f", {arm.begun}") else arm.begun]
    row: dict[str, Any] = {"name": arm.name, "said": [words for words in said if words], "scores": None}
    if not arm.runs:
        return row
    over, first = arm.over_pictures, arm.runs[0]
    scores = [
        percent(arm.accuracy),
        interval(*over),
        arm.luck(percent, interval),
        percent(arm.validation),
    ]
    costs = [
        large(first.parameters),
        large(first.macs),
        duration(arm.mean("minutes")),
        f"{arm.mean('epochs'):.1f}",
        f"{arm.speed.latency_ms:.1f} ms" if arm.speed else "–",
        f"{arm.speed.images_per_second:,.0f}" if arm.speed else "–",
        f"{arm.peak_mb:,.0f} MB" if arm.peak_mb else "–",
    ]
    return {**row, "scores": scores, "costs": costs, "whisker": whisker(Share(arm.accuracy, *over))}


def _learning(arms: list[Standing]) -> list[tuple[str, Markup]]:
    """A chart for each arm: its own curve before those of all others."""
    lines = {arm.name: line for arm in arms if (line := _mean(arm)) is not None}
    reach = max((float(xs[-1]) for xs, _ in lines.values()), default=0.0)
    charts = []
    for name, (xs, ys) in lines.items():
        others = [Line(tone="faint", xs=x, ys=y) for other, (x, y) in lines.items() if other != name]
        drawn = [*others, Line(tone="accent", xs=xs, ys=ys)]
        label = f"{name}: {percent(ys[-1])} on validation after {xs[-1]:.2g} minutes"
        charts.append((name, curves(drawn, label=label, axis="minutes", reach=reach, shares=True)))
    return charts


def _mean(arm: Standing) -> tuple[list[float], list[float]] | None:
    """Minutes and accuracies of an arm, the mean over its seeds' curves where several run."""
    each = [np.array(run.curve) for run in arm.runs if run.curve]  # (m, 2)
    if not each:
        return None
    if len(each) == 1:
        return (each[0][:, 0] / 60).tolist(), each[0][:, 1].tolist()
    # beyond its ends a seed counts with its first or last value
    xs = np.linspace(min(c[0, 0] for c in each), max(c[-1, 0] for c in each), _POINTS)
    return (xs / 60).tolist(), np.mean([np.interp(xs, c[:, 0], c[:, 1]) for c in each], axis=0).tolist()


def _grown(curve: Growth) -> Markup:
    """Measured points, and where there is one the law through them to the extrapolated end."""
    drawn = [Line(tone="accent", xs=[n], ys=[a]) for n, a in zip(curve.pictures, curve.accuracies, strict=True)]
    reach = float(curve.pictures[-1])
    if curve.law is not None:
        reach += curve.law.more
        xs = np.linspace(curve.pictures[0], reach, _POINTS).tolist()
        drawn.insert(0, Line(tone="faint", xs=xs, ys=[max(0.0, curve.law.accuracy(x)) for x in xs]))
    return curves(drawn, label=curve.sentence(), axis="training pictures", reach=reach, shares=True)
