"""Which labels are probably wrong: those that a classifier fitted without them clearly contradicts.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, section 3.1). Every picture gets probabilities from a logistic regression on its features that was fitted
without it. A class is confidently there where its probability reaches the mean that pictures labelled so get
themselves; a label is suspect where the most probable of the classes that are confidently there is another one. The
thresholds make up for classes that are hard, or that the classifier favours.

The features are taken as they are. Where a network has learned from the very labels, it may have learned wrong ones by
heart: such errors stay hidden, and ``agreement`` is too good.

Knows features, labels and groups of copies; nothing of pictures, files or networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.calibration import softmax
from vitreous.analyse.probe import PARTS, Ints, Numbers, crossed, parts

PENALTY = 1e-2  # of the regression, as in ``probe.PENALTIES``


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """What was found. The rows are suspects, those whose label is least believable first.

    Attributes:
        checked: pictures that were judged.
        agreement: share of them that the classifier, having left them out, calls what they are labelled.
        index: (s,) which of the pictures.
        suggested: (s,) the class that each seems to be.
        given_share: (s,) the probability of the label that it has.
        suggested_share: (s,) the probability of the suggested one.
    """

    checked: int
    agreement: float
    index: Ints
    suggested: Ints
    given_share: NDArray[np.float64]
    suggested_share: NDArray[np.float64]


def find_label_errors(features: Numbers, labels: Ints, groups: Ints) -> LabelErrors:
    """Cross-validate a logistic regression, and judge every label by the fold that left it out.

    Classes with fewer than ``PARTS`` groups are left alone: a fold would know none of them, and suspect them all.

    Args:
        features: (n, d), frozen: the same function of every picture.
        labels: (n,) class indices.
        groups: (n,) equal numbers for copies of one picture, which would otherwise vouch for each other.
    """
    fold = folds(labels, groups)
    judged = np.flatnonzero(fold >= 0)
    if len(np.unique(labels[judged])) < 2:
        empty, none = np.zeros(0, dtype=np.int64), np.zeros(0)
        return LabelErrors(
            checked=0, agreement=0.0, index=empty, suggested=empty, given_share=none, suggested_share=none
        )
    kinds, own = np.unique(labels[judged], return_inverse=True)
    chances = out_of_fold(np.asarray(features, dtype=np.float64)[judged], own, fold[judged])
    seems = confident_class(chances, own)
    given, best = (chances[np.arange(len(own)), which] for which in (own, seems))
    suspects = np.flatnonzero(seems != own)
    order = suspects[np.argsort(given[suspects], kind="stable")]
    return LabelErrors(
        checked=len(judged),
        agreement=float((chances.argmax(axis=1) == own).mean()),
        index=judged[order].astype(np.int64),
        suggested=kinds[seems[order]].astype(np.int64),
        given_share=given[order],
        suggested_share=best[order],
    )


def folds(labels: Ints, groups: Ints) -> Ints:
    """(n,) the fold of each picture, all of one group in one, every class dealt out evenly; -1 where not judged.

    A group is of the class of its first picture; pictures of classes with fewer than ``PARTS`` groups get -1.
    """
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    speaks = labels[first]  # the label of each group
    fold = parts(speaks)
    enough = np.bincount(speaks) >= PARTS
    known = np.append(enough, np.zeros(max(0, int(labels.max(initial=-1)) + 1 - len(enough)), dtype=np.bool_))
    return np.where(enough[speaks][number] & known[labels], fold[number], -1)


def out_of_fold(features: Numbers, labels: Ints, fold: Ints) -> NDArray[np.float64]:
    """(n, k) probabilities of each picture from a logistic regression on the other folds.

    Args:
        features: (n, d)
        labels: (n,) from 0 to k - 1, each in every fold's complement.
        fold: (n,)
    """
    classes = int(labels.max()) + 1
    return softmax(crossed(features, labels, fold, PENALTY, classes=classes, tol=1e-3))  # a ranking needs no last digit


def confident_class(chances: NDArray[np.float64], labels: Ints) -> Ints:
    """(n,) the most probable class among those that reach their threshold; the label itself where none does.

    The threshold of a class is the mean probability that pictures labelled with it get for it (Northcutt, eq. 2).
    """
    k = chances.shape[1]
    own = chances[np.arange(len(labels)), labels]
    thresholds = np.bincount(labels, weights=own, minlength=k) / np.maximum(np.bincount(labels, minlength=k), 1)
    sure = np.where(chances >= thresholds, chances, -1.0)
    return np.where(sure.max(axis=1) >= 0, sure.argmax(axis=1), labels).astype(np.int64)
