"""What the numbers mean, in sentences: the headline, what it is compared with, and what it does not tell.

Recounts the scores from the stored outputs; when there are none, takes them from the card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vitreous.analyse.calibration import Floats, expected_calibration_error, fit_temperature, softmax
from vitreous.analyse.scores import Scores, Share, proportion, score
from vitreous.reports.recorded import Outputs, Recorded, Split
from vitreous.reports.text import count, duration, interval, named, percent, sentence

FEW = 20
"""Test pictures of a class below which its row is only a hint."""

NAME = 40
"""Letters of a class name in a sentence; beyond, its middle is left out."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The split that the page reports on, counted."""

    split: Split
    outputs: Outputs
    scores: Scores
    temperature: float
    before: Floats  # (n, k) probabilities as the network gives them
    after: Floats  # (n, k) with temperature
    ece_before: float


def judge(run: Recorded) -> Judged | None:
    """Count the test split, or the validation split when there is none; None for a run without outputs."""
    split: Split = "test" if "test" in run.outputs else "val"
    found = run.outputs.get(split)
    if found is None or not len(found.labels):
        return None
    heat = _temperature(run)
    before = softmax(found.logits)
    return Judged(
        split=split,
        outputs=found,
        scores=score(found.logits, found.labels, run.classes, heat),
        temperature=heat,
        before=before,
        after=softmax(found.logits, heat),
        ece_before=expected_calibration_error(before, found.labels),
    )


def _temperature(run: Recorded) -> float:
    stored = run.get("calibration.temperature", float)
    if stored is not None and stored > 0:
        return stored
    held_out = run.outputs.get("val")
    return fit_temperature(held_out.logits, held_out.labels) if held_out else 1.0


def summary(run: Recorded, judged: Judged | None) -> tuple[Split, dict[str, Any]] | None:
    """Which split the headline speaks of, and its `Scores.summary`."""
    if judged:
        return judged.split, judged.scores.summary()
    splits: tuple[Split, ...] = ("test", "val")
    for split in splits:
        right, total = run.get(f"metrics.{split}.correct", int), run.get(f"metrics.{split}.count", int)
        if right is not None and total and 0 <= right <= total:
            return split, {**(run.get(f"metrics.{split}", dict) or {}), "correct": right, "count": total}
    return None


def headline(split: Split, numbers: dict[str, Any]) -> Markup:
    """The one sentence to remember."""
    right = proportion(numbers["correct"], numbers["count"])
    said = sentence(
        'this model was right <strong class="figure">{}</strong> of the time '
        '<span class="quiet">(95&#8239;% interval {})</span>.',
        percent(right.value),
        interval(right.low, right.high),
    )
    pictures = count(numbers["count"], "picture")
    if split == "test":
        return sentence("On {} it never saw, {}", pictures, said)
    return sentence("On {} held out for validation, {}", pictures, said)


def guesses(run: Recorded, judged: Judged | None) -> list[tuple[float, str]]:
    """What answering without looking, or hardly looking, would score: ``(share, words)``, chance last."""
    marks = []
    if judged and (found := _commonest(run, judged)) is not None:
        share = found[1]
        marks.append((share, f"always the commonest class {percent(share)}"))
    if (seen := _floor(run, judged)) is not None:
        marks.append((seen, f"a linear classifier on thumbnails {percent(seen)}"))
    if len(run.classes) > 1:
        marks.append((1 / len(run.classes), f"blind chance {percent(1 / len(run.classes))}"))
    return marks


def _commonest(run: Recorded, judged: Judged) -> tuple[int, float] | None:
    """The class to answer for one who knows the training pictures only, and how often that would be right.

    Of several that are as common there, the one that serves best here. None where all are as common, or where it is
    no better than chance: nobody would answer so.
    """
    support = [c.support for c in judged.scores.classes]
    counts = run.counts("train") or support
    most = max(range(len(counts)), key=lambda i: (counts[i], support[i]))
    share = support[most] / judged.scores.count
    return (most, share) if min(counts) < max(counts) and share > 1 / len(counts) else None


def _floor(run: Recorded, judged: Judged | None) -> float | None:
    """How often a linear classifier on thumbnails was right on the pictures that are judged; None if none was asked."""
    asked = judged is not None and run.get("floor.side", str) == judged.split
    return run.get("floor.accuracy", float) if asked else None


def comparison(run: Recorded, judged: Judged) -> Markup:
    """The headline's number beside what a guess would reach, and whether it is clearly more."""
    chance, found = 1 / len(run.classes), _commonest(run, judged)
    if found is None:
        said = sentence("Guessing blindly would be right {} of the time.", percent(chance))
    else:
        said = sentence(
            "Always answering “{}”, the commonest class, would be right {} of the time; guessing blindly, {}.",
            named(run.classes[found[0]], NAME),
            percent(found[1]),
            percent(chance),
        )
    seen = _floor(run, judged)
    if seen is not None:
        template = "{} A linear classifier on thumbnails of 8 × 9 pixels, which sees colours and little else, {}."
        said = sentence(template, said, percent(seen))
    if judged.scores.accuracy.low > max(found[1] if found else 0.0, chance, seen or 0.0):
        return said
    return sentence("{} <strong>This model is not clearly better than that.</strong>", said)


def origin(run: Recorded) -> Markup | None:
    """What was trained, from what, on how much: it belongs beside the number."""
    start, parts = run.get("initialisation", str), []
    if start == "scratch":
        parts.append(sentence("Trained <strong>from scratch</strong>, with no pretrained weights,"))
    elif start:
        parts.append(sentence("Started from <strong>{}</strong> and trained", named(start)))
    else:
        parts.append(sentence("Trained"))
    teacher = run.text("teacher.name")
    if teacher:
        parts.append(sentence("with a teacher ({})", named(teacher)))
    counts = run.counts("train")
    if counts:
        parts.append(sentence("on {} of {}", count(sum(counts), "picture"), count(len(counts), "class", "classes")))
    minutes = run.get("cost.minutes", float)
    if minutes is not None:
        parts.append(sentence("in {}", duration(minutes)))
    return Markup(" ").join(parts) + "." if len(parts) > 1 else None


def frozen(run: Recorded) -> Markup | None:
    """What the features were worth before anything of them was trained, and whether that is what was kept."""
    names = {"neighbours": "nearest neighbours", "logistic": "logistic regression", "classifier": "own classifier"}
    found = [(name, run.get(f"frozen.{key}", float)) for key, name in names.items()]
    shares = ", ".join(f"{name} {percent(share)}" for name, share in found if share is not None)
    if not shares:
        return None
    said = sentence("Before any of its weights were trained, its features gave on validation: {}.", shares)
    if run.get("selection.step", int) == 0:
        said = sentence("{} <strong>That frozen network is what was kept.</strong>", said)
    return said


def limits(run: Recorded, judged: Judged | None) -> list[Markup]:
    """What the headline's number does not tell, worst first."""
    said = [*(_about_score(judged) if judged else []), *_about_source(run, judged)]
    seed = run.get("seed", int)
    which = sentence("seed {}", seed) if seed is not None else "one seed"
    said.append(
        sentence("This is one run ({}). Other seeds give other numbers; train a few to see how much is luck.", which)
    )
    if run.classes:
        known = count(len(run.classes), "class", "classes")
        said.append(sentence("It knows {} and nothing else: any other picture still gets one of these names.", known))
    return said


def _about_score(judged: Judged) -> list[Markup]:
    scores, said = judged.scores, []
    a: Share = scores.accuracy
    if judged.split == "val":
        words = (
            "There is no test split. These pictures also chose the checkpoint and the temperature, so this flatters."
        )
        said.append(sentence("<strong>{}</strong>", words))
    points = 100 * (a.high - a.low) / 2 * math.sqrt(2)
    template = (
        "{} leave room for luck: on others like them the accuracy may be anywhere within {}, "
        "and two models less than about {:.1f} points apart may well be equally good."
    )
    said.append(sentence(template, count(scores.count, "picture").capitalize(), interval(a.low, a.high), points))
    few = [c for c in scores.classes if c.support < FEW]
    if few:
        least = min(few, key=lambda c: c.support)
        template = (
            "{} of {} {} fewer than {} pictures here (“{}”: {}); what is said of them is a hint, not a measurement."
        )
        verb = "classes has" if len(few) == 1 else "classes have"
        said.append(
            sentence(template, len(few), len(scores.classes), verb, FEW, named(least.name, NAME), least.support)
        )
    if a.value is not None and abs(a.value - scores.balanced_accuracy) > 0.05:
        template = "Accuracy follows the common classes. Counting every class the same, it is {} (balanced accuracy)."
        said.append(sentence(template, percent(scores.balanced_accuracy)))
    return said


def _about_source(run: Recorded, judged: Judged | None) -> list[Markup]:
    said = []
    if run.get("data.split", str) == "automatic":
        said.append(
            sentence(
                "The pictures it was judged on come from the same source as those it learned from: same cameras, "
                "places and days. Pictures from elsewhere are usually harder."
            )
        )
    elif run.get("data.split", str) == "given":
        said.append(
            sentence(
                "The split came with the data. If one object, place or day is on both sides of it, the number flatters."
            )
        )
    start = run.get("initialisation", str)
    if judged and start and start != "scratch":
        template = (
            "The weights it started from ({}) were trained on other data; that may have held some of these pictures."
        )
        said.append(sentence(template, named(start)))
    return said
