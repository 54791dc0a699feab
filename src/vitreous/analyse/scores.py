"""How often a model is right, with intervals: overall, class by class, and where it errs.

Knows logits, labels and the classes' names; nothing of pictures, files or pages. An interval is a 95 % Wilson score
interval (Wilson 1927) throughout: it stays inside [0, 1] and is honest for few pictures, where plus-minus is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.calibration import Numbers, expected_calibration_error, log_loss, softmax

Ints = NDArray[np.int64]


class Share(NamedTuple):
    """A proportion with its 95 % interval. ``value`` is None when there was nothing to count."""

    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Confusion:
    """``count`` pictures of class ``true`` were called ``predicted``: ``share`` of that class."""

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Accepted:
    """What happens when only answers of at least ``threshold`` confidence are accepted."""

    threshold: float
    count: int
    kept: float  # share of all pictures
    right: Share  # share of the accepted answers that are right


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class on one set of pictures."""

    index: int
    name: str
    support: int  # pictures that are of this class
    predicted: int  # pictures that were given this name
    correct: int
    recall: Share
    precision: Share
    f1: Share


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Everything counted on one set of pictures.

    Balanced accuracy leaves out classes that have no picture, macro F1 only those that were not answered either: a
    name that is given to pictures of other classes counts as 0 there, as in scikit-learn.
    """

    count: int
    correct: int
    accuracy: Share
    balanced_accuracy: float
    macro_f1: float
    log_loss: float  # nats, after temperature
    ece: float  # 15 bins, after temperature
    top5: Share | None  # None with five classes or fewer, where it says nothing
    confusion: Ints  # (k, k): rows are what the picture is, columns what it was called
    classes: tuple[ClassScore, ...]

    def summary(self) -> dict[str, Any]:
        """The overall numbers as JSON values: what a card keeps."""
        return {
            "count": self.count,
            "correct": self.correct,
            "accuracy": self.accuracy.value,
            "accuracy_interval": [self.accuracy.low, self.accuracy.high],
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "ece": self.ece,
            "top5": self.top5.value if self.top5 else None,
        }


def wilson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion: ``(low, high)``; (0, 1) when nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = successes / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * float(np.sqrt(share * (1 - share) / total + spread / (4 * total)))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == total else min(1.0, centre + half)
    return low, high


def proportion(successes: int, total: int) -> Share:
    """``successes / total`` with its interval."""
    return Share(successes / total if total else None, *wilson(successes, total))


def score(logits: Numbers, labels: Numbers, classes: Sequence[str], temperature: float = 1.0) -> Scores:
    """Count everything on one set.

    Args:
        logits: (n, k), finite, as the network gives them.
        labels: (n,) class indices, all known.
        classes: k names.
        temperature: from `fit_temperature`; it moves the log loss and the calibration error, never an answer.

    Raises:
        ValueError: the three do not fit each other.
    """
    labels = np.asarray(labels, dtype=np.int64)
    n, k = np.shape(logits)
    if len(classes) != k or labels.shape != (n,) or (n and not 0 <= labels.min() <= labels.max() < k):
        raise ValueError(f"{n} rows of {k} logits do not fit {len(labels)} labels and {len(classes)} classes.")
    confusion = count_confusion(np.argmax(logits, axis=1), labels, k)
    rows = class_scores(confusion, classes)
    correct = int(np.trace(confusion))
    seen = [r for r in rows if r.support]
    used = [r for r in rows if r.support or r.predicted]
    return Scores(
        count=n,
        correct=correct,
        accuracy=proportion(correct, n),
        balanced_accuracy=_mean([r.recall.value for r in seen]),
        macro_f1=_mean([r.f1.value for r in used]),
        log_loss=log_loss(logits, labels, temperature),
        ece=expected_calibration_error(softmax(logits, temperature), labels),
        top5=proportion(_within(logits, labels, 5), n) if k > 5 else None,
        confusion=confusion,
        classes=tuple(rows),
    )


def count_confusion(predicted: Numbers, labels: Numbers, k: int) -> Ints:
    """(k, k) counts: row = what the picture is, column = what it was called."""
    flat = np.bincount(labels.astype(np.int64) * k + predicted.astype(np.int64), minlength=k * k)
    return flat.reshape(k, k).astype(np.int64)


def class_scores(confusion: Ints, classes: Sequence[str]) -> list[ClassScore]:
    """One row for each class, in class order."""
    support, predicted, correct = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    return [
        ClassScore(
            index=i,
            name=name,
            support=int(support[i]),
            predicted=int(predicted[i]),
            correct=int(correct[i]),
            recall=proportion(int(correct[i]), int(support[i])),
            precision=proportion(int(correct[i]), int(predicted[i])),
            f1=_f1(int(correct[i]), int(support[i] + predicted[i] - correct[i])),
        )
        for i, name in enumerate(classes)
    ]


def most_confused(confusion: Ints, limit: int = 10) -> list[Confusion]:
    """The commonest mistakes, largest count first, then largest share of the true class."""
    support = confusion.sum(axis=1)
    wrong = [(int(t), int(p)) for t, p in np.argwhere(confusion) if t != p]
    pairs = [Confusion(t, p, int(confusion[t, p]), float(confusion[t, p] / support[t])) for t, p in wrong]
    return sorted(pairs, key=lambda c: (-c.count, -c.share, c.true, c.predicted))[:limit]


def most_confident_mistakes(probabilities: Numbers, labels: Numbers, limit: int = 12) -> Ints:
    """Indices of wrong answers, most confident first: where labels are wrong, or the model knows a falsehood."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    order = np.argsort(-probabilities[wrong].max(axis=1, initial=0.0), kind="stable")
    return wrong[order][:limit].astype(np.int64)


def least_certain(probabilities: Numbers, limit: int = 12) -> Ints:
    """Indices of the pictures whose best two classes are closest, closest first."""
    if probabilities.shape[1] < 2:
        return np.zeros(0, dtype=np.int64)
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.argsort(best[:, 1] - best[:, 0], kind="stable")[:limit].astype(np.int64)


def accepted(probabilities: Numbers, labels: Numbers, thresholds: Sequence[float]) -> list[Accepted]:
    """How many answers pass each threshold of confidence, and how many of those are right."""
    confidence, right = probabilities.max(axis=1, initial=0.0), probabilities.argmax(axis=1) == labels
    rows = []
    for threshold in thresholds:
        passed = confidence >= threshold
        count = int(passed.sum())
        kept = count / len(right) if len(right) else 0.0
        rows.append(Accepted(threshold, count, kept, proportion(int(right[passed].sum()), count)))
    return rows


def _f1(correct: int, union: int) -> Share:
    """F1 through the Jaccard index J = correct / union, which is a proportion: F1 = 2J / (1 + J) is monotone in J."""
    value, low, high = proportion(correct, union)
    return Share(None if value is None else 2 * value / (1 + value), 2 * low / (1 + low), 2 * high / (1 + high))


def _within(logits: Numbers, labels: Ints, best: int) -> int:
    """How many labels are among the ``best`` logits; ties go to the lower class, as in argmax."""
    own = np.take_along_axis(np.asarray(logits), labels[:, None], axis=1)  # (n, 1)
    earlier = np.arange(np.shape(logits)[1])[None, :] < labels[:, None]
    ahead = (logits > own) | ((logits == own) & earlier)
    return int((ahead.sum(axis=1) < best).sum())


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else 0.0
