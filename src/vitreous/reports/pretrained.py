"""What a run without labels has learned, for the page: whether it is of use, pictures of it, and curves.

Works from the rows alone while the run has no card yet. Knows no method; what its panels are stands in the card.
"""

from __future__ import annotations

import base64
import math
from functools import partial
from typing import Any

from markupsafe import Markup

from vitreous.reports.charts import Line
from vitreous.reports.course import Course
from vitreous.reports.recorded import Recorded
from vitreous.reports.text import count, duration, named, sentence

Table = dict[str, Any]
STRIPS = 4  # on the page: the first, the last, and those between that are spread evenly


def learned(run: Recorded) -> Table | None:
    """``{origin, headline, about, sides, strips, curves}``; None for a run that learns from labels."""
    if run.get("learned", dict) is None and not isinstance(run.settings.get("pretrain"), dict):
        return None
    course, told = Course(run), run.text("learned.told")
    return {
        "origin": _origin(run),
        "headline": sentence("{}", told) if told else None,
        "about": _about(run),
        "sides": _sides(run),
        "strips": strips(run, course),
        "curves": _curves(run, course),
    }


def strips(run: Recorded, course: Course) -> list[Table]:
    """Some of the run's strips with their captions: ``{title, source, alt}``."""
    steps, last = sorted(run.strips), max(run.strips, default=0)
    wanted = (last * i / (STRIPS - 1) for i in range(STRIPS))
    chosen = sorted({min(steps, key=partial(_apart, place)) for place in wanted}) if steps else []
    kept = run.get("selection.step", int)

    def title(step: int) -> str:
        where = "before the first step" if step == 0 else f"after {course.place(step)}"
        return f"{where}, which is what was kept" if step == kept else where

    return [
        {
            "title": (words := title(step)).capitalize(),
            "source": f"data:image/png;base64,{base64.b64encode(run.strips[step]).decode('ascii')}",
            "alt": f"What the network shows of some pictures {words}",
        }
        for step in chosen
    ]


def _apart(place: float, step: int) -> float:
    return abs(step - place)


def _origin(run: Recorded) -> Markup:
    start = run.text("initialisation")
    parts = [sentence("Learned <strong>without labels</strong>")]
    if run.text("learned.method"):
        parts.append(sentence("by {}", run.text("learned.method")))
    if start:
        parts.append(sentence("from scratch") if start == "scratch" else sentence("beginning with {}", named(start)))
    taken = sum(run.get(f"data.pictures.{side}", int) or 0 for side in ("train", "unlabelled"))
    if taken:
        parts.append(sentence("on {}", count(taken, "picture")))
    minutes = run.get("cost.minutes", float)
    if minutes is not None:
        parts.append(sentence("in {}", duration(minutes)))
    return Markup(" ").join(parts) + "."


def _about(run: Recorded) -> Markup:
    """How to read what follows."""
    panels = run.texts("learned.panels")
    said = (
        [sentence("Each column is one picture. From the top: {}.", "; ".join(panels))] if panels and run.strips else []
    )
    held = run.get("data.pictures.val", int)
    if held and run.strips:
        said.append(sentence("The pictures were held out, and are the same each time."))
    if any("linear" in (row.get("val") or {}) for row in run.rows):
        said.append(
            sentence("Validation is answered by a linear classifier and by nearest neighbours, on frozen features.")
        )
    else:
        said.append(sentence("There were no labels to measure it by."))
    said.append(
        sentence(
            "Effective rank: in how many directions the features vary; spread: how far they lie apart, near 0 when all "
            "pictures look the same; entropy: 100 % where attention looks everywhere alike. A dotted line marks what "
            "was kept."
        )
    )
    return Markup(" ").join(said)


def _sides(run: Recorded) -> Markup:
    """How many pictures there were for what."""
    number = {side: run.get(f"data.pictures.{side}", int) or 0 for side in ("train", "unlabelled", "val", "test")}
    if not any(number.values()):
        return Markup("")
    further = sentence(", {} of them without a label", count(number["unlabelled"])) if number["unlabelled"] else ""
    return sentence(
        "It learned from {}{}, and from the labels of none; {} were held out for validation and {} for test, with all "
        "that look like them. ",
        count(number["train"] + number["unlabelled"], "picture"),
        further,
        count(number["val"]),
        count(number["test"]),
    )


def _most(run: Recorded) -> float | None:
    """The largest entropy that answers over K prototypes can have, ln K; None where there are none."""
    prototypes = run.get("pretrain.dino.prototypes", int)
    return math.log(prototypes) if prototypes else None


def _curves(run: Recorded, course: Course) -> list[Table]:
    linear, alike = course.line("accent", "val", "linear"), course.line("warm", "val", "neighbours")
    loss, held_out = course.line("accent", "loss"), course.line("warm", "val", "loss")
    nothing, flat = run.get("learned.nothing", float), run.get("learned.collapsed", float)
    keys = [("accent", "linear classifier")] * len(linear) + [("warm", "nearest neighbours")] * len(alike)
    losses = [("accent", "training")] * len(loss) + [("warm", "held out")] * len(held_out)
    losses += [("dash", "having learned nothing")] if nothing is not None else []
    together, told = course.line("accent", "entropy"), course.line("warm", "information")
    answers = [("accent", "entropy of the mean"), ("warm", "what one tells of its picture")]
    found: list[tuple[str, list[Line], list[tuple[str, str]], bool, float | None]] = [
        ("Right on validation", linear + alike, keys, True, None),
        ("Loss", loss + held_out, losses, False, nothing),
        ("Effective rank", course.line("warm", "val", "rank"), [], False, None),
        ("Teacher's answers, nats", together + told, [*answers, ("dash", "all alike: ln K")], False, _most(run)),
        ("Spread", course.line("warm", "val", "spread"), [("dash", "collapse")] * (flat is not None), False, flat),
        ("Entropy of attention", course.line("warm", "val", "attention"), [], True, None),
        ("Learning rate", course.line("faint", "lr"), [], False, None),
    ]
    return [
        course.chart(title, lines, key, shares=shares, level=level)
        for title, lines, key, shares, level in found
        if lines
    ]
