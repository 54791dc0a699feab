"""The tables and drawings of the page, one function a section. Each answers None, or nothing, without its data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from vitreous.analyse.calibration import calibration_interval, reliability
from vitreous.analyse.scores import ClassScore, accepted, most_confused
from vitreous.reports.charts import bar, confidence_histogram, reliability_diagram, whisker
from vitreous.reports.course import Course
from vitreous.reports.matrix import LETTERED, NUMBERED, heat_map
from vitreous.reports.recorded import Recorded, leaves
from vitreous.reports.text import THIN, count, duration, interval, large, percent, sentence, shortened
from vitreous.reports.verdict import Judged

Table = dict[str, Any]
SPLITS = ("train", "val", "test")
OPEN_ROWS = 15
"""Rows of a table of classes that are shown before the rest is folded away."""

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def tiles(numbers: dict[str, Any], run: Recorded, judged: Judged | None, split: str) -> list[tuple[str, str, str]]:
    """``(name, value, what it means)`` for the row of numbers under the headline."""
    off = "how far its confidence is off, after temperature"
    if judged:
        off = f"{off}; 95{THIN}% interval {interval(*calibration_interval(judged.after, judged.outputs.labels))}"

    def show(name: str, write: Callable[[float], str]) -> str | None:
        value = numbers.get(name)
        return write(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    found = [
        ("Balanced accuracy", show("balanced_accuracy", percent), "every class counts the same"),
        ("Macro F1", show("macro_f1", "{:.3f}".format), "finding a class and not crying wolf, mean over classes"),
        ("Top 5", show("top5", percent), "the right name is among the first five"),
        ("Calibration error", show("ece", percent), off),
        ("Log loss", show("log_loss", "{:.3f}".format), "surprise at the right name; 0 is best"),
    ]
    chosen = run.get("metrics.val.accuracy", float)
    if split == "test" and chosen is not None:
        found.append(("Validation accuracy", percent(chosen), "on the pictures that chose the checkpoint"))
    return [(name, value, note) for name, value, note in found if value is not None]


def data(run: Recorded) -> Table | None:
    """Pictures of each class in each split, and what was left out."""
    counts = {s: c for s in SPLITS if (c := run.counts(s)) is not None}
    if not counts or not run.classes:
        return None
    main = counts.get("train") or next(iter(counts.values()))
    most = max([1, *main])
    order = sorted(range(len(main)), key=lambda i: (-main[i], i))
    rows = [
        {
            "name": run.classes[i],
            "counts": [c[i] for c in counts.values()],
            "bar": bar(main[i] / most, count(main[i])),
        }
        for i in order
    ]
    return {
        "splits": list(counts),
        "rows": rows,
        "open": len(rows) if len(rows) <= OPEN_ROWS else 6,
        "totals": [sum(c) for c in counts.values()],
        "balance": _balance(main, run.classes),
    }


def _balance(counts: list[int], classes: list[str]) -> tuple[str, str, str] | None:
    """``(largest, smallest, ratio)`` in words, or None when the classes are about equal."""
    low, high = min(counts), max(counts)
    if high <= 1.5 * low:
        return None
    ratio = f"{high / low:.1f} times" if low else "without limit"
    most, least = counts.index(high), counts.index(low)
    return f"{shortened(classes[most], 40)} ({high:,})", f"{shortened(classes[least], 40)} ({low:,})", ratio


def learning(run: Recorded) -> list[Table]:
    """Loss, validation accuracy and learning rate over the run: ``{title, key, chart}`` each."""
    course = Course(run)
    loss, held_out = course.line("accent", "loss"), course.line("warm", "val", "loss")
    charts = [
        ("Loss", loss + held_out, [("accent", "training")] * len(loss) + [("warm", "validation")] * len(held_out)),
        ("Accuracy", course.line("warm", "val", "accuracy"), [("warm", "validation")]),
        ("Learning rate", course.line("faint", "lr"), []),
    ]
    return [course.chart(title, lines, key, shares=title == "Accuracy") for title, lines, key in charts if lines]


def kept(run: Recorded) -> Table | None:
    """Which checkpoint was chosen, and by what."""
    step, value = run.get("selection.step", int), run.get("selection.value", float)
    if step is None or value is None:
        return None
    steps, epochs = run.get("train.steps", float), run.get("train.epochs", float)
    where = f"epoch {step * epochs / steps:.3g} of {epochs:g}" if steps and epochs else f"step {step:,}"
    metric = run.get("selection.metric", str) or "score"
    return {"where": where, "metric": metric, "value": percent(value) if 0 <= value <= 1 else f"{value:.4g}"}


def mistakes(judged: Judged) -> Table:
    """The confusion matrix and the commonest mistakes."""
    scores = judged.scores
    names = [c.name for c in scores.classes]
    pairs = most_confused(scores.confusion, 12 if len(names) > NUMBERED else 8)
    return {
        "matrix": heat_map(scores.confusion, names),
        "ordinals": len(names) > LETTERED,
        "pairs": [
            {"true": names[p.true], "predicted": names[p.predicted], "count": p.count, "share": percent(p.share, 0)}
            for p in pairs
        ],
        "wrong": scores.count - scores.correct,
    }


def by_class(judged: Judged) -> Table:
    """One row a class, worst recall first; classes without pictures last."""
    k = len(judged.scores.classes)
    top = {c.true: c for c in reversed(most_confused(judged.scores.confusion, k * k))}

    def row(c: ClassScore) -> Table:
        other = top.get(c.index)
        return {
            "ordinal": c.index + 1,
            "name": c.name,
            "support": c.support,
            "recall": percent(c.recall.value, 0),
            "interval": interval(c.recall.low, c.recall.high, 0) if c.support else "–",
            "whisker": whisker(c.recall),
            "precision": percent(c.precision.value, 0),
            "f1": "–" if c.f1.value is None else f"{c.f1.value:.2f}",
            "other": judged.scores.classes[other.predicted].name if other else None,
            "other_count": other.count if other else 0,
        }

    worst = sorted(judged.scores.classes, key=lambda c: (c.support == 0, c.recall.value or 0.0, -c.support, c.index))
    return {"rows": [row(c) for c in worst], "open": OPEN_ROWS if k > OPEN_ROWS + 5 else k}


def confidence(judged: Judged) -> Table:
    """Reliability before and after temperature, and what accepting only sure answers would do."""
    labels = judged.outputs.labels
    after = reliability(judged.after, labels)
    return {
        "diagram": reliability_diagram(reliability(judged.before, labels), after),
        "histogram": confidence_histogram(after),
        "told": _heat(judged),
        "rows": [
            {
                "threshold": percent(a.threshold, 0),
                "count": a.count,
                "kept": percent(a.kept, 0),
                "right": percent(a.right.value),
                "interval": interval(a.right.low, a.right.high) if a.count else "–",
            }
            for a in accepted(judged.after, labels, THRESHOLDS)
        ],
    }


def _heat(judged: Judged) -> Markup:
    if judged.temperature == 1:
        return sentence(
            "The temperature that would correct for that is left at 1: {} do not ask for another one clearly enough. "
            "The calibration error is {}.{}",
            "the validation pictures" if judged.split == "test" else "these pictures",
            percent(judged.scores.ece),
            _luck(judged),
        )
    better = judged.scores.ece <= judged.ece_before
    template = "One number, the temperature ({:.2f}), fitted on {}, {}: the calibration error goes from {} to {}.{}"
    return sentence(
        template,
        judged.temperature,
        "the validation pictures" if judged.split == "test" else "these same pictures",
        "corrects for that" if better else "should correct for that but does not here",
        percent(judged.ece_before),
        percent(judged.scores.ece),
        _luck(judged),
    )


def _luck(judged: Judged) -> str:
    return "" if judged.scores.count >= 1000 else " With so few pictures, part of that error is luck."


def cost(run: Recorded) -> list[tuple[str, str, str]]:
    """``(name, value, unit)``; what was not measured is left out."""
    parameters = run.get("cost.parameters", float) or run.get("network.parameters", float)
    macs = run.get("cost.macs", float) or run.get("network.macs", float)
    found: list[tuple[str, float | None, Callable[[float], str], str]] = [
        ("Parameters", parameters, large, "numbers learned"),
        ("Work for one picture", macs, large, "multiply-accumulates"),
        ("Training took", run.get("cost.minutes", float), duration, "wall clock"),
        ("Training speed", run.get("cost.images_per_second_train", float), large, "pictures a second"),
        ("Prediction speed", run.get("cost.images_per_second_predict", float), large, "pictures a second"),
        ("Peak memory", run.get("cost.peak_memory_mb", float), lambda mb: f"{large(mb * 1e6)}B", "held at once"),
    ]
    return [(name, write(value), unit) for name, value, write, unit in found if value is not None]


def settings(run: Recorded) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that makes the run what it is, as ``(title, rows)`` tables."""
    places = [
        ("Network", "network"),
        ("What the network sees of a picture", "preprocess"),
        ("Training", "train"),
        ("Learning without labels", "pretrain"),
        ("Teacher", "teacher"),
        ("Augmentation and loss", "augmentation"),
        ("Machine", "machine"),
        ("Fingerprints of the data", "data.digests"),
        ("Versions", "versions"),
        ("Licences", "licences"),
    ]
    found = [(title, list(leaves(_own(run.get(path, dict) or {})))) for title, path in places]
    if "network" not in run.card:
        found.append(("Settings", list(leaves(run.settings))))
    return [(title, rows) for title, rows in found if rows]


def _own(values: Table) -> Table:
    """Without what another table of the page shows, or only a program reads."""
    return {name: value for name, value in values.items() if name not in ("config", "versions")}
