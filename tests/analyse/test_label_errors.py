"""Planted label errors are found; folds keep copies together; the rule is that of the paper."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vitreous.analyse.label_errors import PENALTY, confident_class, find_label_errors, folds, out_of_fold
from vitreous.analyse.probe import PARTS


def planted(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a share of them moved to another class, and which."""
    rng = np.random.default_rng(seed)
    bad = rng.choice(len(labels), int(share * len(labels)), replace=False)
    noisy, k = labels.copy(), int(labels.max()) + 1
    noisy[bad] = (labels[bad] + rng.integers(1, k, len(bad))) % k
    return noisy, bad


def test_flipped_digits_are_found_on_plain_pixels() -> None:
    pixels, labels = load_digits(return_X_y=True)
    noisy, bad = planted(labels, 0.05)
    found = find_label_errors(pixels, noisy, np.arange(len(labels)))
    hit = np.isin(found.index, bad)
    assert found.checked == len(labels) and found.agreement > 0.85
    assert hit.mean() > 0.9 and hit.sum() > 0.65 * len(bad)
    assert hit[:30].mean() > 0.95, "the most suspicious come first"
    assert (found.suggested[hit] == labels[found.index[hit]]).mean() > 0.97
    assert (np.diff(found.given_share) >= 0).all() and (found.suggested_share > found.given_share).all()


def test_clean_labels_are_left_alone() -> None:
    pixels, labels = load_digits(return_X_y=True)
    assert len(find_label_errors(pixels, labels, np.arange(len(labels))).index) < 0.01 * len(labels)


def test_copies_do_not_vouch_for_each_other() -> None:
    """Three copies of each picture, all with the same wrong label: apart, each would be learned from the others."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels[:600], labels[:600]
    noisy, bad = planted(labels, 0.05)
    groups = np.tile(np.arange(600), 3)
    sharp = np.tile(pixels, (3, 1)) ** 2.0  # few pictures, many dimensions: copies could be learned by heart
    together = find_label_errors(sharp, np.tile(noisy, 3), groups)
    apart = find_label_errors(sharp, np.tile(noisy, 3), np.arange(1800))
    share = [np.isin(bad, found.index % 600).mean() for found in (together, apart)]
    assert share[0] > 0.6 and share[0] > share[1] + 0.1
    fold = folds(np.tile(noisy, 3), groups)
    assert (fold[:600] == fold[600:1200]).all()


def test_probabilities_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(120, 5)), np.arange(120) % 3
    fold = folds(labels, np.arange(120))
    assert np.array_equal(np.bincount(fold), np.full(PARTS, 24))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (PENALTY * 96), tol=1e-3))
    wanted = cross_val_predict(model, features, labels, cv=PredefinedSplit(fold), method="predict_proba")
    assert np.allclose(out_of_fold(features, labels, fold), wanted, atol=1e-6)
    assert np.allclose(out_of_fold(1e6 * features, labels, fold), wanted, atol=1e-3)


def test_every_class_is_dealt_out_evenly() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 7, 4, 5])
    fold = folds(labels, np.arange(len(labels)))
    assert (fold[labels == 2] == -1).all(), "four pictures cannot be in five folds"
    for label in (0, 1, 3):
        counts = np.bincount(fold[labels == label], minlength=PARTS)
        assert counts.min() >= 1 and np.ptp(counts) <= 1


def test_the_rule_by_hand() -> None:
    """Northcutt et al., section 3.1: thresholds .7 and .6; the third is confidently of class 1 and labelled 0."""
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.35, 0.65], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert confident_class(chances, labels).tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("labels", [np.zeros(20, int), np.arange(20), np.zeros(0, int), np.repeat([0, 1], [18, 2])])
def test_too_little_to_judge_is_no_suspicion(labels: np.ndarray) -> None:
    found = find_label_errors(np.ones((len(labels), 3)), labels, np.arange(len(labels)))
    assert found.checked == 0 and len(found.index) == 0
