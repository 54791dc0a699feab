"""What features of pictures are worth before anything is trained on them: nearest neighbours and logistic regression.

Knows features and labels; nothing of networks. Both answers are functions of their arguments alone, without randomness.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.calibration import log_loss
from vitreous.analyse.familiar import unit

Numbers = NDArray[Any]
Ints = NDArray[np.int64]
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""What is tried for l in the mean loss of a picture + l / 2 |W|^2. Of equally good ones the strongest is taken."""

NEIGHBOURS, TEMPERATURE = 20, 0.07  # Caron et al. 2021, DINO, appendix D; Wu et al. 2018, section 3.4
PARTS = 5
"""For cross-validation."""

_ABSENT = 10.0  # nats by which a class that nobody showed stays behind the others
_CHUNK = 1024  # pictures whose similarities to all others are held at once


def neighbours(features: Numbers, labels: Numbers, queries: Numbers | None = None, *, classes: int) -> Numbers:
    """Votes for each class by the most alike pictures: cosine s, each neighbour weighing exp(s / .07).

    Args:
        features: (n, d) of pictures whose labels (n,) are known.
        queries: (m, d) of those asked about; by default the known ones, each asked without itself.

    Returns:
        (m, classes), shares that sum to 1.
    """
    known = unit(features)
    asked = known if queries is None else unit(queries)
    k = min(NEIGHBOURS, len(known) - (queries is None))
    votes = np.zeros((len(asked), classes))
    for start in range(0, len(asked), _CHUNK):
        alike = asked[start : start + _CHUNK] @ known.T  # (c, n)
        rows = np.arange(len(alike))
        if queries is None:
            alike[rows, start + rows] = -np.inf
        nearest = np.argpartition(-alike, k - 1, axis=1)[:, :k]  # (c, k)
        for column in nearest.T:
            weight = np.exp((alike[rows, column] - 1) / TEMPERATURE)  # of 1 at most: no overflow
            np.add.at(votes, (start + rows, labels[column]), weight)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Linear:
    """A classifier on features as they come: logits x W' + b."""

    weight: Numbers  # (k, d)
    bias: Numbers  # (k,)
    penalty: float  # of ``PENALTIES``, the one chosen

    def logits(self, features: Numbers) -> Numbers:
        """(n, d) -> (n, k)"""
        return np.asarray(features @ self.weight.T + self.bias)


def logistic(
    features: Numbers,
    labels: Numbers,
    held_out: tuple[Numbers, Numbers] | None,
    *,
    classes: int,
    balanced: bool = False,
    penalties: Sequence[float] = PENALTIES,
    seconds: float = math.inf,
) -> Linear:
    """Multinomial logistic regression on standardised features, by scikit-learn, its L2 penalty chosen.

    Args:
        features: (n, d), labels (n,); not every class need have a picture.
        held_out: features and labels that choose the penalty, by accuracy and then by loss; without, the pictures
            choose it among themselves, each part of them once by the others.
        balanced: every class counts the same, however many pictures it has.
        penalties: to choose from, the strongest first.
        seconds: a weaker one, which takes longer, is not begun if it might end later; the strongest is always.
    """
    begin = last = time.monotonic()
    alone = held_out is not None or len(penalties) == 1  # then nobody has to choose among the pictures themselves
    part = np.zeros(len(labels), dtype=np.int64) if alone else parts(labels)
    best: tuple[tuple[float, float], Linear] | None = None
    for penalty in penalties:
        now = time.monotonic()
        if best is not None and now - begin + 2 * (now - last) > seconds:
            break
        last = now
        solved = solve(features, labels, penalty, classes=classes, balanced=balanced)
        if held_out is not None:
            said, true = solved.logits(held_out[0]), held_out[1]
        else:
            said, true = crossed(features, labels, part, penalty, classes=classes, balanced=balanced), labels
        worth = right(said, true), -log_loss(said, true)
        if best is None or worth > best[0]:
            best = worth, solved
    assert best is not None
    return best[1]


def right(said: Numbers, labels: Numbers) -> float:
    """Share of rows of ``said`` (n, k) whose largest entry is that of ``labels`` (n,)."""
    return float((said.argmax(axis=1) == labels).mean())


def parts(labels: Numbers) -> Ints:
    """(n,) the part of each picture, from 0 to ``PARTS`` - 1, every class dealt out evenly."""
    place = np.empty(len(labels), dtype=np.int64)
    place[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % PARTS
    return place


def crossed(
    features: Numbers,
    labels: Numbers,
    part: Numbers,
    penalty: float,
    *,
    classes: int,
    balanced: bool = False,
    tol: float = 1e-4,
) -> Numbers:
    """(n, classes) logits of each picture, by the solution for those in the other parts.

    Args:
        features: (n, d), labels (n,).
        part: (n,) which one each is in; where there is but one, nothing is known.
    """
    said = np.zeros((len(labels), classes))
    numbers = np.unique(part)
    for number in numbers if len(numbers) > 1 else ():
        held = part == number
        others = solve(features[~held], labels[~held], penalty, classes=classes, balanced=balanced, tol=tol)
        said[held] = others.logits(features[held])
    return said


def solve(
    features: Numbers,
    labels: Numbers,
    penalty: float,
    *,
    classes: int,
    balanced: bool = False,
    tol: float = 1e-4,
) -> Linear:
    """The solution for one penalty, taken through the standardisation, so that it holds for plain features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    deviation = np.where(
        deviation > 1e-6 * max(deviation.max(), 1e-30), deviation, 1.0
    )  # what never varies says nothing
    shown = np.unique(labels)
    weight, bias = np.zeros((classes, features.shape[1])), np.zeros(classes)
    if len(shown) > 1:
        # scikit-learn's C weighs the sum over pictures; the mean keeps its meaning when there are more
        c = 1 / (penalty * len(labels))
        model = LogisticRegression(C=c, max_iter=300, tol=tol, class_weight="balanced" if balanced else None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((features - mean) / deviation, labels)
        two = len(shown) == 2  # scikit-learn then has one row, for the second class against the first
        weight[shown] = np.concatenate([-model.coef_, model.coef_]) / 2 if two else model.coef_
        bias[shown] = np.concatenate([-model.intercept_, model.intercept_]) / 2 if two else model.intercept_
    weight /= deviation
    bias -= weight @ mean
    absent = np.setdiff1d(np.arange(classes), shown)
    bias[absent] = bias[shown].min() - _ABSENT
    return Linear(weight, bias, penalty)
