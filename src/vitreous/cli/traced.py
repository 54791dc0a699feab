"""How a trace looks: stage by stage, operation by operation, or as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vitreous.explain.trace import Shape, Stage, Trace

_BAR = 8  # cells of the bar that shows a share of time
_ENDLESS = 10_000  # columns


def traced(found: Trace, *, form: str) -> int:
    """The stages with their cost, every operation with the shape of its result, or both as JSON."""
    if form == "json":
        sys.stdout.write(json.dumps(_values(found)) + "\n")
        return 0
    console, table = Console(highlight=False), _operations(found) if form == "operations" else _stages(found)
    needed = console.measure(table, options=console.options.update(max_width=_ENDLESS)).maximum
    console.width = max(console.width, needed)  # a terminal may wrap lines, but no number is cut off
    pictures = "1 picture" if found.batch == 1 else f"{found.batch} pictures"
    console.print(
        f"[bold]{escape(found.model)}[/]  {found.params:,} parameters  {found.macs / 1e9:.3g} GMACs", soft_wrap=True
    )
    took = f"  {found.seconds * 1e3:.0f} ms a pass here" if found.seconds is not None else ""
    console.print(f"{pictures} of {found.size[0]} x {found.size[1]} pixels{took}", style="dim", soft_wrap=True)
    console.print(table)
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
    table.add_column("", style="dim", no_wrap=True)
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


def _values(found: Trace) -> dict[str, Any]:
    stages = [stage._asdict() for stage in found.stages]
    for stage in stages:
        stage["parameters"] = stage.pop("params")  # the name that `vitreous models --json` has for them
    return {
        "model": found.model,
        "size": found.size,
        "batch": found.batch,
        "parameters": found.params,
        "macs": found.macs,
        "seconds": found.seconds,
        "drawing": None if found.drawing is None else str(found.drawing),
        "stages": stages,
        "operations": [step._asdict() for step in found.steps],
    }


def _mega(macs: int) -> str:
    return "" if macs == 0 else f"{macs / 1e6:,.1f}"


def _share(stage: Stage) -> str:
    if stage.share is None:
        return ""
    return f"{stage.share:4.0%} {'━' * round(stage.share * _BAR)}"
