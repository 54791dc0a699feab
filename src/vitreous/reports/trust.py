"""How far the run can be trusted, beside its score: sets of names, doubtful labels, pictures that look alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitreous.analyse.calibration import softmax
from vitreous.analyse.conformal import conformity, pictures_needed, prediction_sets, threshold
from vitreous.analyse.scores import proportion
from vitreous.reports.gallery import Shown, Thumbnail, data_uri, line
from vitreous.reports.recorded import Recorded
from vitreous.reports.text import brief, count, interval, percent, sentence, shown
from vitreous.reports.verdict import Judged

Table = dict[str, Any]
COVERAGES = (0.8, 0.9, 0.95, 0.99)
GALLERY = 12
SIDES = {"train": "training", "val": "validation", "test": "test"}


def sets(run: Recorded, judged: Judged) -> Table | None:
    """What sets of several names would hold, by the coverage asked for, measured on test; None without both sides.

    The thresholds come from validation alone, as in prediction.
    """
    held_out = run.outputs.get("val")
    if held_out is None or judged.split != "test":
        return None
    scores = conformity(softmax(held_out.logits, judged.temperature), held_out.labels)
    possible = [c for c in COVERAGES if pictures_needed(c) <= len(scores)]
    beyond = [f"{percent(c, 0)} would need {pictures_needed(c)}" for c in COVERAGES if c not in possible]
    return {
        "pictures": len(scores),
        "rows": [_covered(judged, c, threshold(scores, c)) for c in possible],
        "beyond": ", ".join(beyond),
    }


def _covered(judged: Judged, coverage: float, lowest: float) -> Table:
    held = prediction_sets(judged.after, lowest)
    labels = judged.outputs.labels
    right = proportion(int(held[range(len(labels)), labels].sum()), len(labels))
    sizes = held.sum(axis=1)
    return {
        "asked": percent(coverage, 0),
        "right": percent(right.value),
        "interval": interval(right.low, right.high),
        "names": f"{sizes.mean():.2f}",
        "single": percent(float((sizes == 1).mean()), 0),
    }


def labels(run: Recorded, thumbnail: Thumbnail | None) -> Table | None:
    """The labels that are probably wrong; None for a run that did not look for them."""
    checked, suspects = run.get("labels.checked", int), run.get("labels.suspects", int)
    if not checked or suspects is None:
        return None
    listed = [row for row in run.get("labels.list", list) or [] if isinstance(row, Mapping) and "name" in row]
    return {
        "checked": count(checked, "picture"),
        "all": run.get("labels.pictures", int) or checked,
        "partly": checked < (run.get("labels.pictures", int) or 0),
        "suspects": suspects,
        "share": percent(suspects / checked),
        "agreement": percent(run.get("labels.agreement", float)),
        "shown": [_suspect(row, thumbnail) for row in listed[:GALLERY]],
    }


def _suspect(row: Mapping[str, Any], thumbnail: Thumbnail | None) -> Shown:
    name, given, suggested = (str(row.get(field, "")) for field in ("name", "given", "suggested"))
    shares = row.get("shares") or [0.0, 0.0]
    return Shown(
        name=name,
        source=data_uri(name, thumbnail),
        alt=f"A picture labelled {shown(given)} that looks like {shown(suggested)}",
        lines=[
            ("said wrong", line("looks like", suggested, shares[1], bold=True)),
            ("truth", sentence("labelled {}", brief(given))),
            ("truth", sentence("in {}", SIDES.get(str(row.get("side")), "the data"))),
        ],
    )


def copies(run: Recorded, thumbnail: Thumbnail | None) -> Table | None:
    """Pictures that look alike, and what became of them; None for a run that did not count them."""
    found = run.get("copies", dict)
    numbers = {name: run.get(f"copies.{name}", int) for name in ("groups", "pictures", "left_out", "across")}
    if found is None or None in numbers.values():
        return None
    pairs = [p for p in found.get("pairs") or [] if isinstance(p, list) and len(p) == 3]
    return {**numbers, "pairs": [[_twin(str(n), str(how), thumbnail) for n in two] for *two, how in pairs]}


def _twin(name: str, how: str, thumbnail: Thumbnail | None) -> Shown:
    return Shown(
        name=name,
        source=data_uri(name, thumbnail),
        alt="One of two pictures that look alike",
        lines=[("truth", sentence("{}", how))],
    )
