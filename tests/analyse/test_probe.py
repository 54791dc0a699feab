"""Nearest neighbours and logistic regression on features: against scikit-learn and against definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vitreous.analyse import probe
from vitreous.analyse.probe import NEIGHBOURS, PENALTIES, TEMPERATURE, logistic, neighbours


def blobs(n: int, classes: int, *, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unequal scale and far from zero, in ``classes`` heaps."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(7).normal(size=(classes, 12))
    features = (centres[labels] + spread * rng.normal(size=(n, 12))) * np.geomspace(0.01, 100, 12) + 30
    return features.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 5])
def test_the_regression_is_that_of_scikit_learn_on_standardised_features(classes: int) -> None:
    (x, y), (held, true) = blobs(200, classes), blobs(101, classes, seed=1)
    found = logistic(x, y, (held, true), classes=classes)
    scaler = StandardScaler().fit(x.astype(np.float64))
    c = 1 / (found.penalty * len(x))
    model = LogisticRegression(C=c, max_iter=10_000, tol=1e-8).fit(scaler.transform(x), y)
    theirs = model.decision_function(scaler.transform(held))
    ours = found.logits(held.astype(np.float64))
    assert ours.shape == (101, classes)
    margin = ours[:, 1] - ours[:, 0] if classes == 2 else ours - ours.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(margin, theirs, atol=0.05 * np.abs(theirs).max())
    assert ((ours.argmax(axis=1) == model.predict(scaler.transform(held))).mean()) > 0.97


def test_the_penalty_is_chosen_on_what_was_held_out() -> None:
    x, y = blobs(60, 3, spread=3.0)
    noisy = logistic(x, y, blobs(300, 3, seed=1, spread=3.0), classes=3)
    alike = logistic(x, y, (x, y), classes=3)
    assert noisy.penalty > alike.penalty
    among = logistic(x, y, None, classes=3)  # the pictures themselves, each by the others
    assert among.penalty > alike.penalty


def test_without_time_the_strongest_penalty_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    (x, y), solved = blobs(60, 3), []

    def count(*args: Any, **more: Any) -> probe.Linear:
        solved.append(args[2])
        return solve(*args, **more)

    solve = probe.solve
    monkeypatch.setattr(probe, "solve", count)
    assert logistic(x, y, (x, y), classes=3, seconds=0).penalty == max(PENALTIES) and len(solved) == 1
    free = logistic(x, y, (x, y), classes=3)
    assert solved[1:] == list(PENALTIES), "each is solved once"
    known = logistic(x, y, (x, y), classes=3, penalties=(free.penalty,))
    assert np.array_equal(known.weight, free.weight) and len(solved) == 7


def test_rare_classes_count_as_much_when_balanced() -> None:
    x, y = blobs(300, 2, spread=4.0)
    keep = (y == 0) | (np.arange(300) < 30)
    held = blobs(200, 2, seed=1, spread=4.0)
    plain, fair = (logistic(x[keep], y[keep], held, classes=2, balanced=b).logits(held[0]) for b in (False, True))
    assert (fair.argmax(axis=1) == 1).sum() > (plain.argmax(axis=1) == 1).sum()


def test_a_class_without_pictures_is_never_answered() -> None:
    x, y = blobs(90, 3)
    y = np.where(y == 1, 3, y)  # 0, 2, 3 of 5
    found = logistic(x, y, None, classes=5)
    assert found.weight.shape == (5, 12) and set(found.logits(x).argmax(axis=1)) == {0, 2, 3}
    only = logistic(x, np.full(90, 2), None, classes=3)
    assert set(only.logits(x).argmax(axis=1)) == {2}


def test_a_feature_that_never_varies_does_no_harm() -> None:
    x, y = blobs(90, 3)
    found = logistic(np.concatenate([x, np.full((90, 1), 5.0, np.float32)], axis=1), y, None, classes=3)
    assert np.isfinite(found.weight).all() and (found.logits(np.c_[x, np.full(90, 5.0)]).argmax(1) == y).mean() > 0.8


def test_neighbours_are_those_of_scikit_learn() -> None:
    (x, y), (held, _) = blobs(150, 4, spread=2.0), blobs(40, 4, seed=1, spread=2.0)
    x, held = x - 30, held - 30
    theirs = KNeighborsClassifier(
        NEIGHBOURS, metric="cosine", weights=lambda apart: np.exp((1 - apart) / TEMPERATURE)
    ).fit(x.astype(np.float64), y)
    np.testing.assert_allclose(neighbours(x, y, held, classes=4), theirs.predict_proba(held), atol=1e-4)


def test_a_picture_is_not_its_own_neighbour() -> None:
    x, _ = blobs(50, 2)
    other = np.arange(50)  # a class of its own for each
    votes = neighbours(x, other, classes=50)
    assert (votes.diagonal() == 0).all() and np.allclose(votes.sum(axis=1), 1)
    assert (neighbours(x, other, x, classes=50).argmax(axis=1) == other).all()


def test_fewer_pictures_than_neighbours() -> None:
    x, y = blobs(6, 2, spread=0.1)
    assert neighbours(x - 30, y, classes=2).shape == (6, 2)
