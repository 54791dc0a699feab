"""How results look in a terminal. Each verb's result has one function here; results know nothing of terminals."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitreous.cli.compared import compared
from vitreous.cli.learned import embedded, pretrained
from vitreous.errors import BadData
from vitreous.weights.ledger import RESTRICTED, repository

if TYPE_CHECKING:
    from vitreous.data.check import CheckResult
    from vitreous.data.given import Picture
    from vitreous.predictor import Predictor
    from vitreous.results import Classes
    from vitreous.run.review import Evaluation
    from vitreous.weights.ledger import Listed, Weights

NAME_WIDTH = 44
_SEVERITY = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def result(value: Any) -> int:
    """Print what a verb returned; the exit code of the command."""
    if isinstance(value, int):
        return value
    if isinstance(value, Path):
        _console().print(str(value), soft_wrap=True, markup=False)
        return 0
    showers: dict[str, Callable[[Any], int]] = {
        "CheckResult": checked,
        "Predictor": trained,
        "Evaluation": evaluated,
        "Comparison": compared,
        "Embedding": embedded,
    }
    shower = showers.get(type(value).__name__)
    return shower(value) if shower else 0


# ---------------------------------------------------------------- check


def checked(found: CheckResult) -> int:
    """The doctor's findings, worst first, and what to do about each."""
    console = _console()
    console.print(found.headline, markup=False)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found.findings:
        table.add_row()
        colour = _SEVERITY[finding.severity]
        table.add_row(f"[{colour}]{finding.severity}[/]", str(finding.count), f"[bold]{escape(finding.title)}[/]")
        for example in finding.examples[:2]:
            table.add_row("", "", f"[dim]{escape(example)}[/]")
        table.add_row("", "", escape(finding.remedy))
    console.print(table)
    console.print()
    for name, text in (("details", found.report), ("quarantine", found.quarantine)):
        if text is not None:
            console.print(f"{name:<12}{text}", markup=False, soft_wrap=True)
    return 0 if found.trainable else BadData.exit_code


# ---------------------------------------------------------------- train, eval


def trained(run: Predictor) -> int:
    """Where the run lies, how good it is, and the sensible next command."""
    if "learned" in run.card:
        return pretrained(run)
    console = _console()
    metrics, data = run.metrics, run.card["data"]
    table = Table(box=None, show_header=False, pad_edge=False)
    if metrics:
        tested = bool(run.card["metrics"].get("test"))
        count = sum(data["counts"]["test" if tested else "val"])
        pictures = f"{count:,} picture{'' if count == 1 else 's'}"
        whose = "it never saw" if tested else "that also chose the checkpoint, so expect less"
        low, high = metrics["accuracy_interval"]
        table.add_row(
            f"{'test' if tested else 'validation'} accuracy",
            f"[bold]{metrics['accuracy']:.1%}[/]  (95 % interval {low:.1%} - {high:.1%}, {pictures} {whose})",
        )
    else:
        table.add_row("accuracy", "not measured: no pictures were held out")
    floor = run.card.get("floor", {}).get("accuracy", 0.0)
    if metrics and metrics["accuracy"] < floor:
        table.add_row(
            "but",
            f"a linear classifier on thumbnails of 8 x 9 pixels is right on {floor:.1%}: this network has learned too "
            "little; give it more time with --budget",
        )
    table.add_row("model", escape(f"{run.card['network']['model']}, {run.card['initialisation']}"))
    teacher = run.card.get("teacher")
    if teacher:
        known = f", {teacher['accuracy']:.1%} on validation" if "accuracy" in teacher else ""
        share = f"{teacher['share_of_time']:.0%} of the time"
        table.add_row("teacher", escape(f"{teacher['name']}{known}, {share}"))
    table.add_row("run", escape(str(run.folder)))
    table.add_row("report", escape(f"{run.folder}/report.html"))
    table.add_row("next", escape(f"vitreous predict {shlex.quote(str(run.folder))} YOUR-PICTURE.jpg"))
    console.print(table, soft_wrap=True)
    return 0


def evaluated(found: Evaluation) -> int:
    """The metrics of a run on one split, class by class."""
    console, scores = _console(), found.scores
    console.print(
        f"{found.split} of {escape(found.data)}: accuracy [bold]{scores.accuracy.value:.1%}[/] "
        f"(95 % interval {scores.accuracy.low:.1%} - {scores.accuracy.high:.1%}), {scores.count} pictures",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("class", "pictures", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in scores.classes:
        shares = ("-" if s.value is None else f"{s.value:.3f}" for s in (row.precision, row.recall, row.f1))
        table.add_row(escape(row.name), str(row.support), *shares)
    console.print(table)
    for notice in found.notices:
        console.print(notice, style="yellow", markup=False)
    return 0


# ---------------------------------------------------------------- predict


def inputs(places: list[Path], limit: int | None) -> Iterator[Picture]:
    """The pictures that the arguments of ``predict`` stand for: files, folders, patterns, or an embedded set."""
    from vitreous.data.dataset import BUILTIN, open_source
    from vitreous.data.given import files

    def every() -> Iterator[Picture]:
        for place in places:
            if str(place) in BUILTIN and not place.exists():
                source = open_source(str(place))
                yield from ((source.name(i), source.read(i)) for i in range(len(source)))
            elif len(places) > 1 and not place.exists() and not any(c in str(place) for c in "*?["):
                yield place  # answered with its own error, so that the others are not lost
            else:
                yield from files(place)

    return islice(every(), limit)


def answers(found: Iterable[Classes], *, form: str, top: int) -> int:
    """Print answers as they come; exit code 7 if any picture could not be read, after all the others were."""
    bad = 0

    def counted() -> Iterator[Classes]:
        nonlocal bad
        for answer in found:
            bad += answer.error is not None
            yield answer

    if form == "json":
        _json_lines(counted())
    elif form == "csv":
        _csv_rows(counted())
    else:
        _table(counted(), top)
    if bad:
        pictures = "1 picture" if bad == 1 else f"{bad} pictures"
        Console(stderr=True).print(f"{pictures} could not be read; see the reasons above.", style="bold red")
    return BadData.exit_code if bad else 0


def _json_lines(found: Iterable[Classes]) -> None:
    for answer in found:
        sys.stdout.write(json.dumps(answer.to_dict(), ensure_ascii=True) + "\n")


def _csv_rows(found: Iterable[Classes]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, answer in enumerate(found):
        if number == 0:
            writer.writerow(answer.header(answer.classes))
        writer.writerow(answer.row())


def _table(found: Iterable[Classes], top: int) -> None:
    from vitreous.data.listing import printable

    console = _console()
    for answer in found:
        name = printable(answer.name)
        name = name if len(name) <= NAME_WIDTH else "..." + name[3 - NAME_WIDTH :]
        said = answer.error or _said(answer, top)
        style = "red" if answer.error else None
        console.print(f"{name:<{NAME_WIDTH}}  {said}", style=style, markup=False, soft_wrap=True)
        for notice in (*answer.notices, *_unfamiliar(answer)):
            console.print(f"{'':<{NAME_WIDTH}}  note: {notice}", style="dim", markup=False, soft_wrap=True)


def _said(answer: Classes, top: int) -> str:
    """The ``top`` classes, or those that cover the right one, with their probabilities."""
    shares = answer.top(top) if answer.covering is None else answer.top(len(answer.covering))
    return "   ".join(f"{label} {share:.1%}" for label, share in shares)


def _unfamiliar(answer: Classes) -> Iterator[str]:
    if answer.is_unfamiliar:
        yield f"unfamiliar: {answer.unfamiliar:.1%} of the validation pictures are less strange; do not rely on it"


# ---------------------------------------------------------------- models


def models(rows: list[Listed], *, form: str) -> int:
    """The catalogue, a line as soon as it is known: each model with its default weights, a single one with all."""
    if form == "json":
        for row in rows:
            sys.stdout.write(json.dumps(_model_values(row)) + "\n")
        return 0
    console = _console()
    width = max(len(row.name) for row in rows)
    console.print(f"{'model':<{width}}   px  params    MACs       top-1  licence", style="bold", soft_wrap=True)
    for row in rows:
        numbers = f"{row.size:>3}  {_short(row.cost.params / 1e6):>5}M  {_short(row.cost.macs / 1e9):>5}G"
        default = f"{_accuracy(row.weights[0], row.size):>10}  {row.weights[0].licence}" if row.weights else ""
        console.print(f"{row.name:<{width}}  {numbers}  {default}".rstrip(), markup=False, soft_wrap=True)
    if len(rows) == 1 and rows[0].weights:
        console.print()
        console.print(_tags(rows[0]))
    elif any(row.weights for row in rows):
        console.print()
        console.print("top-1: per cent on ImageNet-1k (@ px, if others) of the weights --pretrained takes", style="dim")
        shown = {row.weights[0].licence for row in rows if row.weights}
        for licence in sorted(shown & RESTRICTED.keys()):
            console.print(f"{licence}: {RESTRICTED[licence]}", style="dim")
    return 0


def _tags(row: Listed) -> Table:
    """All weights of one model."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("--pretrained", "top-1", "classes", "licence", "note"):
        right = column in ("top-1", "classes")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "note")
    for weights in row.weights:
        note = "; ".join(filter(None, (RESTRICTED.get(weights.licence), weights.note)))
        accuracy = _accuracy(weights, row.size)
        table.add_row(weights.tag, accuracy, str(weights.classes or "-"), weights.licence, escape(note))
    return table


def _accuracy(weights: Weights, size: int) -> str:
    """Per cent, with the size of the pictures where that is not the model's."""
    if weights.top1 is None:
        return "-"
    return f"{weights.top1:.2f}" + (f" @{weights.size}" if weights.size != size else "")


def _short(number: float) -> str:
    """Five characters at most."""
    texts = (f"{number:.{digits}f}" for digits in (2, 1, 0))
    return next((text for text in texts if len(text) <= 5), f"{number:.0e}")


def _model_values(row: Listed) -> dict[str, Any]:
    weights = [{"repository": repository(row.name, w), **asdict(w)} for w in row.weights]
    for values in weights:
        values["mean"], values["std"] = values.pop("normalisation")
    cost = {"parameters": row.cost.params, "macs": row.cost.macs}
    return {"name": row.name, "size": row.size, **cost, "weights": weights}


def _console() -> Console:
    return Console(highlight=False)
