"""How a comparison looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vitreous.comparison.result import Comparison
    from vitreous.comparison.standing import Standing

_COLUMNS = (
    "model", "begun", "test accuracy", "over pictures", "over seeds", "validation", "params", "MACs", "minutes",
    "epochs", "latency", "images/s", "memory",
)  # fmt: skip

_NEXT = {"predict": "next", "train": "longer"}
_ENDLESS = 10_000  # columns


def compared(found: Comparison) -> int:
    """The verdict, a row for every arm, best on validation first, and where the page is. 1 if no arm finished."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(found.verdict)}[/]", soft_wrap=True)
    for remark in found.remarks:
        console.print(remark, markup=False, soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("model", "begun") else "right", no_wrap=True)
    for arm in found.whole:
        if arm.runs:
            table.add_row(*map(escape, _row(arm)))
        else:
            table.add_row(escape(arm.name), escape(arm.begun), "[yellow]failed[/]")
    wide = console.measure(table, options=console.options.update(max_width=_ENDLESS)).maximum
    console.width = max(console.width, wide)  # a terminal may wrap lines, but no number is cut off
    console.print(table, soft_wrap=True)
    for curve in found.growth:
        points = ", ".join(f"{n:,}: {a:.1%}" for n, a in zip(curve.pictures, curve.accuracies, strict=True))
        console.print(f"{curve.name} by training pictures: {points}", markup=False, soft_wrap=True)
    for arm in found.whole:
        if arm.runs and arm.network and arm.mixer in (None, "attention"):  # twins have the name of the first
            console.print(f"{arm.name} is {arm.network}", style="dim", markup=False, soft_wrap=True)
    console.print(f"Equal for all: {found.equal}", style="dim", markup=False, soft_wrap=True)
    for arm in found.arms:
        for seed, reason in arm.reasons.items():
            which = f", seed {seed}" if arm.arm.run else ""
            console.print(f"{arm.name}{which}: {reason}", style="yellow", markup=False, soft_wrap=True)
    console.print(f"report  {found.report}", markup=False, soft_wrap=True)
    for verb, command in found.onward.items():
        console.print(f"{_NEXT[verb]:7} {command}", markup=False, soft_wrap=True)
    return 0 if any(arm.runs for arm in found.arms) else 1


def _row(arm: Standing) -> list[str]:
    speed = arm.speed
    return [
        arm.name,
        arm.begun,
        f"{arm.accuracy:.1%}",
        "{:.1%} - {:.1%}".format(*arm.over_pictures),
        arm.luck("{:.1%}".format, "{:.1%} - {:.1%}".format),
        f"{arm.validation:.1%}",
        f"{arm.runs[0].parameters / 1e6:.2f} M",
        f"{arm.runs[0].macs / 1e6:,.0f} M",
        f"{arm.mean('minutes'):.1f}",
        f"{arm.mean('epochs'):.1f}",
        f"{speed.latency_ms:.1f} ms" if speed else "",
        f"{speed.images_per_second:,.0f}" if speed else "",
        f"{arm.peak_mb:,.0f} MB" if arm.peak_mb else "",
    ]
