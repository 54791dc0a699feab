"""Inline SVG from Python: elements, axes, scales. No colours: those are classes that the style sheet fills in.

Only presentation attributes are used, never ``style=``, which the page's security policy forbids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from vitreous.reports.text import shown

Part = Markup | str


def tag(name: str, *children: Part, **attributes: str | float) -> Markup:
    """``<name attributes>children</name>``; children that are not markup are escaped.

    ``class_`` is written class, and other underscores become hyphens.
    """
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(v)}"' for key, v in attributes.items())
    inside = "".join(str(c if isinstance(c, Markup) else escape(shown(c))) for c in children)
    return Markup(f"<{name}{written}>{inside}</{name}>")  # every part is escaped above


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return str(escape(shown(value)))
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def drawing(width: float, height: float, label: str, *children: Part, class_: str = "chart") -> Markup:
    """A drawing that shrinks with the page; ``label`` is what a screen reader says."""
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", *children, viewBox=box, width=width, height=height, role="img", aria_label=label, class_=class_)


def fluid(height: float, label: str, *children: Part, width: str = "100%") -> Markup:
    """A drawing as wide as its place, whose x coordinates are percentages: lettering keeps its size."""
    return tag("svg", *children, width=width, height=height, role="img", aria_label=label, class_="fluid")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Where data lies on the drawing: ``x`` and ``y`` ranges in data units, the frame in drawing units."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    top: float
    width: float
    height: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Data to drawing."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return self.left + across * self.width, self.top + (1 - up) * self.height

    def path(self, xs: Sequence[float], ys: Sequence[float], class_: str) -> Markup:
        """A line through the points."""
        points = (self.at(x, y) for x, y in zip(xs, ys, strict=True))
        return tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=class_)

    def segment(self, x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
        """A straight line in data units."""
        (a, b), (c, d) = self.at(x1, y1), self.at(x2, y2)
        return tag("line", x1=a, y1=b, x2=c, y2=d, class_=class_)

    def axes(self, x_marks: Sequence[tuple[float, str]], y_marks: Sequence[tuple[float, str]]) -> list[Markup]:
        """Horizontal grid lines with their numbers on the left, and numbers along the foot."""
        parts = []
        for value, text in y_marks:
            x, y = self.at(self.x[0], value)
            parts.append(self.segment(self.x[0], value, self.x[1], value, "grid"))
            parts.append(tag("text", text, x=x - 8, y=y + 4, text_anchor="end", class_="tick"))
        for value, text in x_marks:
            x, y = self.at(value, self.y[0])
            parts.append(tag("text", text, x=x, y=y + 18, text_anchor="middle", class_="tick"))
        return parts
