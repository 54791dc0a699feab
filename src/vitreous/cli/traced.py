"""How a trace looks in a terminal: stage by stage, or operation by operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vitreous.explain.trace import Shape, Stage, Trace

_BAR = 8  # cells of the bar that shows a share of time


def traced(found: Trace, *, operations: bool = False) -> int:
    """The stages with their cost, or every operation with the shapes it took and gave."""
    console = Console()
    pictures = "1 picture" if found.batch == 1 else f"{found.batch} pictures"
    console.print(
        f"[bold]{escape(found.model)}[/]  {pictures} of {found.size}x{found.size} pixels  "
        f"{found.params:,} parameters  {found.macs / 1e9:.3g} GMACs",
        highlight=False,
    )
    console.print(_operations(found) if operations else _stages(found))
    if found.seconds is not None and not operations:
        console.print(f"one pass over the batch took {found.seconds * 1e3:.0f} ms here", style="dim")
    if found.drawing is not None:
        console.print(f"drawing   {escape(str(found.drawing))}", soft_wrap=True)
    return 0


def _stages(found: Trace) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("stage", "kind", "shape"):
        table.add_column(name, no_wrap=True)
    for name in ("params", "MMACs"):
        table.add_column(name, justify="right", no_wrap=True)
    if found.seconds is not None:
        table.add_column("time", no_wrap=True)
    for stage in found.stages:
        name = stage.name.removeprefix("backbone.")
        kind = stage.kind if stage.alike == 1 else f"{stage.kind} x {stage.alike}"
        cells = [escape(name), kind, shape(stage.output), f"{stage.params:,}", _mega(stage.macs)]
        table.add_row(*cells, *([_share(stage)] if found.seconds is not None else []))
    return table


def _operations(found: Trace) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("operation", "shape of its result"):
        table.add_column(name, no_wrap=True)
    table.add_column("MMACs", justify="right", no_wrap=True)
    table.add_column("", style="dim")
    before = None
    for step in found.steps:
        if step.module != before:
            table.add_row(f"[bold]{escape(step.module.removeprefix('backbone.') or 'normalisation')}[/]")
            before = step.module
        table.add_row(f"  {escape(step.operation)}", shape(step.output), _mega(step.macs), escape(step.note))
    return table


def shape(sizes: Shape) -> str:
    """(3, 197, 768) as the papers write it."""
    return "(" + ",".join(map(str, sizes)) + ("," if len(sizes) == 1 else "") + ")"


def _mega(macs: int) -> str:
    return "" if macs == 0 else f"{macs / 1e6:,.1f}"


def _share(stage: Stage) -> str:
    if stage.share is None:
        return ""
    return f"{stage.share:4.0%} {'━' * round(stage.share * _BAR)}"
