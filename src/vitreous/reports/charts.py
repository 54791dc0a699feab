"""The drawings of the page that are curves or marks: accuracy ruler, learning curves, reliability, small bars.

Knows numbers and names; nothing of run folders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitreous.analyse.calibration import Bin
from vitreous.analyse.scores import Share, wilson
from vitreous.reports.svg import Plane, drawing, fluid, tag, ticks
from vitreous.reports.text import interval, percent


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve. ``tone`` is a class of the style sheet: accent, warm or faint."""

    tone: str
    xs: Sequence[float]
    ys: Sequence[float]


def ruler(accuracy: Share, marks: Sequence[tuple[float, str]]) -> Markup:
    """0 to 100 % with the accuracy, its interval, and what guessing would give (``marks``), one mark a row."""
    here = accuracy.value or 0.0
    base, rows = 44, len(marks)
    parts = [tag("line", x1="0%", x2="100%", y1=base, y2=base, class_="rail")]
    for tick in range(0, 101, 25):
        parts.append(tag("line", x1=f"{tick}%", x2=f"{tick}%", y1=base - 4, y2=base + 4, class_="rail"))
    ends = [("start", 0.0)] * (here >= 0.25) + [("end", 1.0)] * (here <= 0.7)
    for anchor, end in ends:
        parts.append(tag("text", percent(end), x=_at(end), y=base - 12, text_anchor=anchor, class_="tick"))
    # on the side with more room, in the order that keeps every mark's line clear of the other's words
    leftward = max((value for value, _ in marks), default=0.0) > 0.45
    side, shift = ("end", -7) if leftward else ("start", 7)
    for row, (value, text) in enumerate(sorted(marks, reverse=not leftward)):
        y = base + 26 + 20 * row
        parts.append(tag("line", x1=_at(value), x2=_at(value), y1=base - 9, y2=y + 4, class_="mark"))
        parts.append(tag("text", text, x=_at(value), y=y + 3, dx=shift, text_anchor=side, class_="note"))
    parts.append(tag("line", x1=_at(accuracy.low), x2=_at(accuracy.high), y1=base, y2=base, class_="span"))
    parts.append(tag("circle", cx=_at(here), cy=base, r=7, class_="point"))
    anchor = "end" if here > 0.85 else "start" if here < 0.15 else "middle"
    parts.append(tag("text", f"this model {percent(here)}", x=_at(here), y=20, text_anchor=anchor, class_="strong"))
    said = "; ".join([f"this model {percent(here)}, interval {interval(*accuracy[1:])}", *(t for _, t in marks)])
    return fluid(base + 16 + 20 * rows, said, *parts)


def whisker(share: Share, tone: str = "accent") -> Markup:
    """A share as a dot with its interval, for a table cell."""
    if share.value is None:
        return Markup("")
    rail = tag("line", x1="0%", x2="100%", y1=9, y2=9, class_="rail")
    span = tag("line", x1=_at(share.low), x2=_at(share.high), y1=9, y2=9, class_=f"span {tone}")
    dot = tag("circle", cx=_at(share.value), cy=9, r=4, class_=f"point {tone}")
    return fluid(18, f"{percent(share.value)}, interval {interval(share.low, share.high)}", rail, span, dot)


def bar(share: float, label: str) -> Markup:
    """A horizontal bar, ``share`` of its cell wide."""
    return fluid(18, label, tag("rect", x=0, y=4, width=_at(max(share, 0.0)), height=10, rx=2, class_="bar"))


def curves(
    lines: Sequence[Line],
    *,
    label: str,
    axis: str,
    reach: float,
    shares: bool = False,
    kept: float | None = None,
    level: float | None = None,
) -> Markup:
    """Curves over training from 0 to ``reach``; ``kept`` marks the checkpoint that was chosen, ``level`` a height."""
    ys = [y for line in lines for y in line.ys] + ([] if level is None else [level])
    low, top = min([0.0, *ys]), max([1e-12, *ys])
    high = min(1.0, math.ceil(10 * top) / 10) if shares else 1.04 * top
    plane = Plane(x=(0.0, reach), y=(low, high), left=52, top=10, width=276, height=160)
    y_marks = [(t, percent(t, 0) if shares else f"{t:g}") for t in (round(t, 10) for t in ticks(low, high, 4))]
    x_marks = [(t, f"{t:,g}") for t in ticks(*plane.x, 4)]
    parts = plane.axes(x_marks, y_marks)
    parts.append(tag("text", axis, x=328, y=206, text_anchor="end", class_="tick"))
    if kept is not None and plane.x[0] <= kept <= plane.x[1]:
        parts.append(plane.segment(kept, low, kept, high, "kept"))
    if level is not None:
        parts.append(plane.segment(0.0, level, reach, level, "level"))
    for line in lines:
        if len(line.xs) == 1:
            x, y = plane.at(line.xs[0], line.ys[0])
            parts.append(tag("circle", cx=x, cy=y, r=3, class_=f"dot {line.tone}"))
        else:
            parts.append(plane.path(line.xs, line.ys, f"line {line.tone}"))
    return drawing(340, 212, label, *parts)


def reliability_diagram(before: Sequence[Bin], after: Sequence[Bin]) -> Markup:
    """Confidence against how often it was right, before and after temperature; the diagonal is honesty."""
    plane = Plane(x=(0, 1), y=(0, 1), left=52, top=12, width=300, height=300)
    marks = [(t / 4, percent(t / 4, 0)) for t in range(5)]
    parts = plane.axes(marks, marks)
    parts.append(plane.segment(0, 0, 1, 1, "diagonal"))
    parts += [_bin_mark(plane, b, "hollow") for b in before if b.count]
    for b in after:
        if b.count:
            low, high = wilson(b.correct, b.count)
            parts.append(plane.segment(b.confidence, low, b.confidence, high, "whisker"))
            parts.append(_bin_mark(plane, b, "dot accent"))
    parts.append(tag("text", "confidence", x=352, y=348, text_anchor="end", class_="tick"))
    parts.append(tag("text", "was right", x=60, y=24, class_="tick"))
    said = "; ".join(
        f"at {percent(b.confidence, 0)} confidence {b.correct} of {b.count} right" for b in after if b.count
    )
    return drawing(372, 354, f"Reliability: {said}", *parts)


def confidence_histogram(bins: Sequence[Bin]) -> Markup:
    """How many answers came with which confidence; the part that was right is the darker one."""
    most = max((b.count for b in bins), default=0) or 1
    plane = Plane(x=(0, 1), y=(0, most), left=52, top=12, width=300, height=300)
    y_marks = [(t, f"{t:,g}") for t in ticks(0, most, 4) if t == int(t)]
    parts = plane.axes([(t / 4, percent(t / 4, 0)) for t in range(5)], y_marks)
    for b in bins:
        (left, top), (right, foot) = plane.at(b.low, b.count), plane.at(b.high, 0)
        _, middle = plane.at(0, b.correct)
        told = tag("title", f"{percent(b.low, 0)} to {percent(b.high, 0)}: {b.correct} of {b.count} right")
        wide = right - left - 2
        wrong = tag("rect", x=left + 1, y=top, width=wide, height=middle - top, class_="bar wrong")
        good = tag("rect", x=left + 1, y=middle, width=wide, height=foot - middle, class_="bar")
        parts.append(tag("g", told, wrong, good))
    parts.append(tag("text", "confidence", x=352, y=348, text_anchor="end", class_="tick"))
    said = "; ".join(f"{b.count} between {percent(b.low, 0)} and {percent(b.high, 0)}" for b in bins if b.count)
    return drawing(372, 354, f"Answers by confidence: {said}", *parts)


def _bin_mark(plane: Plane, b: Bin, class_: str) -> Markup:
    x, y = plane.at(b.confidence, b.accuracy or 0.0)
    return tag("circle", cx=x, cy=y, r=4, class_=class_)


def _at(share: float) -> str:
    return f"{100 * share:.2f}%"
