"""How learning without labels looks in a terminal: what a run has learned, and features written to a file."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from vitreous.embedding.result import Embedding
    from vitreous.predictor import Predictor

_SHOWN = 10  # pictures that were left out


def pretrained(run: Predictor) -> int:
    """What was learned without labels, whether it is of use, and the sensible next command."""
    console, learned, data = Console(highlight=False), run.card["learned"], run.card["data"]
    table = Table(box=None, show_header=False, pad_edge=False)
    taken = data["pictures"]["train"] + data["pictures"]["unlabelled"]
    steps = f"kept is step {run.card['selection']['step']} of {run.card['train']['steps']}"
    table.add_row("learned", f"from {taken:,} pictures without their labels, by {learned['method']}; {steps}")
    for name, key in (("linear probe", "linear"), ("k-NN", "neighbours")):
        if key in learned["first"] and key in learned["kept"]:
            change = f"{learned['first'][key]:.1%} -> [bold]{learned['kept'][key]:.1%}[/]"
            table.add_row(name, f"{change} of {learned['asked']:,} validation pictures, at the beginning -> as kept")
    table.add_row("verdict", escape(learned["told"]))
    if run.card["metrics"].get("test"):
        share = run.card["metrics"]["test"]["accuracy"]
        count = f"{data['pictures']['test']:,} test pictures"
        table.add_row("classifier", f"linear, on these features frozen: right on {share:.1%} of {count}")
    table.add_row("model", escape(f"{run.card['network']['model']}, {run.card['initialisation']}"))
    table.add_row("run", escape(str(run.folder)))
    table.add_row("report", escape(f"{run.folder}/report.html"))
    own = shlex.quote(data["source"]) if run.classes else "LABELLED-PICTURES"
    if run.card["selection"]["step"] == 0:
        table.add_row(
            "next", escape(f"the same with a longer --budget, or train without these weights: vitreous train {own}")
        )
    else:
        table.add_row("next", escape(f"vitreous train {own} --weights {shlex.quote(str(run.folder))}"))
    console.print(table, soft_wrap=True)
    return 0


def embedded(found: Embedding) -> int:
    """Where the features are, how many, and what has none."""
    from vitreous.data.listing import printable

    console = Console(highlight=False, soft_wrap=True)
    n, d = found.shapes["pooled"]
    cells = " x ".join(map(str, found.shapes.get("patches", ())[1:]))
    patches = f", and patches of {cells}" if cells else ""
    console.print(f"{found.file}: {n:,} pictures, {d} numbers each{patches}", markup=False)
    for name, why in list(found.left_out.items())[:_SHOWN]:
        console.print(f"left out: {printable(name)}: {why}", style="yellow", markup=False)
    if len(found.left_out) > _SHOWN:
        console.print(f"left out: {len(found.left_out) - _SHOWN:,} more", style="yellow", markup=False)
    return 0
