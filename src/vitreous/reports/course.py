"""The course of a run: its rows of metrics as lines and charts over steps or epochs.

Knows what a row is (recorded.py) and how a curve is drawn (charts.py); not what a metric means.
"""

from __future__ import annotations

import math
from typing import Any

from vitreous.reports.charts import Line, curves
from vitreous.reports.recorded import Recorded

Table = dict[str, Any]
POINTS = 240
"""Points of a curve beyond which neighbours are averaged."""


class Course:
    """The rows of ``run`` over epochs, or over steps where it is not known how many make one.

    Attributes:
        kept: where the weights that were kept come from, if that is known.
    """

    def __init__(self, run: Recorded) -> None:
        steps, epochs = run.get("train.steps", float), run.get("train.epochs", float)
        self._rows = run.rows
        self._scale, self.axis = (epochs / steps, "epoch") if steps and epochs else (1.0, "step")
        last = max((s for row in run.rows if (s := at(row, "step")) is not None), default=0.0)
        self._reach = max(last, steps or 0.0) * self._scale
        kept = run.get("selection.step", float)
        self.kept = None if kept is None else kept * self._scale

    def place(self, step: int) -> str:
        """``step`` in words."""
        return f"step {step:,}" if self.axis == "step" else f"epoch {step * self._scale:.3g}"

    def line(self, tone: str, *names: str) -> list[Line]:
        """The values under these nested ``names`` as one line; none if no row has any."""
        points = ((at(row, "step"), at(row, *names)) for row in self._rows)
        found = sorted((step * self._scale, value) for step, value in points if step is not None and value is not None)
        xs, ys = _thin([x for x, _ in found]), _thin([y for _, y in found])
        return [Line(tone=tone, xs=xs, ys=ys)] if found else []

    def chart(
        self,
        title: str,
        lines: list[Line],
        key: list[tuple[str, str]],
        *,
        shares: bool = False,
        level: float | None = None,
    ) -> Table:
        """``{title, key, chart}``; ``level`` is drawn dashed from side to side."""
        drawn = curves(
            lines,
            label=f"{title} by {self.axis}",
            axis=self.axis,
            reach=self._reach,
            shares=shares,
            kept=self.kept,
            level=level,
        )
        return {"title": title, "key": key, "chart": drawn}


def at(row: Table, *names: str) -> float | None:
    """The finite number under nested ``names``, or None."""
    value: Any = row
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


def _thin(values: list[float]) -> list[float]:
    size = -(-len(values) // POINTS)
    if size <= 1:
        return values
    groups = [values[i : i + size] for i in range(0, len(values), size)]
    return [sum(g) / len(g) for g in groups]
