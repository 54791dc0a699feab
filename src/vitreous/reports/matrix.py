"""The confusion matrix as a heat map: with names and counts while they can be read, as a pattern beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vitreous.analyse.scores import Ints
from vitreous.reports.svg import drawing, tag
from vitreous.reports.text import percent, shortened

NUMBERED, LETTERED, DRAWN = 25, 60, 200
"""Up to so many classes: counts in the cells; names at the sides; a drawing at all."""

LONGEST = 22


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the squares lie on the drawing."""

    k: int
    left: float
    top: float
    cell: float


def heat_map(confusion: Ints, classes: Sequence[str]) -> Markup | None:
    """Rows are what a picture is, columns what it was called; shade is the share of the row. None when too large."""
    k = len(classes)
    if not 0 < k <= DRAWN:
        return None
    cell = _cell(k)
    lettered, size = k <= LETTERED, 12 if k <= NUMBERED else max(8, min(11, cell - 4))
    # 0.58 of the size is a letter of the widest common fonts, 0.72 the height of a name that leans by 48 degrees
    margin = max(64, 14 + max(len(shortened(c, LONGEST)) for c in classes) * size * 0.58) if lettered else 34
    grid = Grid(k=k, left=margin, top=margin * 0.72 + 10 if lettered else 34, cell=cell)
    body = [_row(confusion[i].tolist(), classes, i, grid) for i in range(k)]
    sides = _names(classes, size, grid) if lettered else _ordinals(grid)
    frame = tag("rect", x=grid.left, y=grid.top, width=cell * k, height=cell * k, class_="frame")
    right, total = int(confusion.trace()), int(confusion.sum())
    said = f"Confusion matrix of {k} classes: {right} of {total} pictures on the diagonal"
    wide = grid.left + cell * k + (margin * 0.7 if lettered else 8)
    return drawing(wide, grid.top + cell * k + 4, said, frame, *body, *sides, class_="chart matrix")


def _cell(k: int) -> float:
    if k <= 4:
        return 76
    if k <= NUMBERED:
        return max(30, min(52, 560 / k))
    return max(3.2, min(18, 680 / k))


def _row(counts: Sequence[int], classes: Sequence[str], i: int, grid: Grid) -> Markup:
    total, cells = sum(counts), []
    for j, n in enumerate(counts):
        if n:
            verb = "recognised" if i == j else f"called {classes[j]}"
            told = tag("title", f"{classes[i]}, {verb}: {n} of {total} ({percent(n / total, 0)})")
            cells.append(tag("g", told, *_square(n, n / total, (i, j), grid)))
    return tag("g", *cells)


def _square(n: int, share: float, place: tuple[int, int], grid: Grid) -> list[Markup]:
    gap = 1.0 if grid.cell >= 8 else 0.0
    x, y, side = grid.left + place[1] * grid.cell, grid.top + place[0] * grid.cell, grid.cell - 2 * gap
    # the root lets one mistake in fifty be seen beside a full diagonal
    shade = f"{0.16 + 0.79 * share**0.7:.3f}"
    kind = "heat right" if place[0] == place[1] else "heat wrong"
    box = tag("rect", x=x + gap, y=y + gap, width=side, height=side, fill_opacity=shade, class_=kind)
    if grid.k > NUMBERED:
        return [box]
    tone, middle = "over" if share > 0.42 else "under", grid.cell / 2
    return [box, tag("text", f"{n:,}", x=x + middle, y=y + middle + 4, text_anchor="middle", class_=f"cell {tone}")]


def _names(classes: Sequence[str], size: float, grid: Grid) -> list[Markup]:
    edge = grid.left - 8
    parts = [
        tag("text", "called →", x=edge, y=grid.top - 26, text_anchor="end", class_="axis"),
        tag("text", "is ↓", x=edge, y=grid.top - 8, text_anchor="end", class_="axis"),
    ]
    for i, name in enumerate(classes):
        middle = (i + 0.5) * grid.cell
        short = (shortened(name, LONGEST), tag("title", name))
        x, y = grid.left + middle + size / 4, grid.top - 8
        turn = f"rotate(-48 {x:.1f} {y:.1f})"
        parts.append(tag("text", *short, x=x, y=y, transform=turn, font_size=size, class_="side"))
        down = grid.top + middle + size / 3
        parts.append(tag("text", *short, x=edge, y=down, text_anchor="end", font_size=size, class_="side"))
    return parts


def _ordinals(grid: Grid) -> list[Markup]:
    parts = []
    for i in [0, *range(9, grid.k, 10)]:
        at, text = (i + 0.5) * grid.cell, str(i + 1)
        parts.append(tag("text", text, x=grid.left - 6, y=grid.top + at + 4, text_anchor="end", class_="tick"))
        parts.append(tag("text", text, x=grid.left + at, y=grid.top - 8, text_anchor="middle", class_="tick"))
    return parts
