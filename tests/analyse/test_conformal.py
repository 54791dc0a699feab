"""Prediction sets hold the right class as often as promised, by simulation and against NumPy's own quantile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import betabinom

from vitreous.analyse.conformal import conformity, pictures_needed, prediction_sets, threshold
from vitreous.errors import UsageError


def model(rng: np.random.Generator, n: int, k: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) probabilities of a model that boasts, and (n,) labels that follow other ones."""
    logits = rng.normal(size=(n, k)) * 1.5
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(0, k - 1)
    boast = np.exp(3 * logits)
    return boast / boast.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (35, 0.9), (35, 0.5), (200, 0.8), (200, 0.95), (1000, 0.99)])
def test_sets_hold_the_right_class_as_often_as_asked(n: int, coverage: float) -> None:
    """Over calibrations and new pictures together; without the first answer taken in, no more often either."""
    rng, new, repeats = np.random.default_rng(n), 50, 400
    held = bare = 0
    for _ in range(repeats):
        chances, labels = model(rng, n + new)
        lowest = threshold(conformity(chances[:n], labels[:n]), coverage)
        rows = np.arange(new)
        held += prediction_sets(chances[n:], lowest)[rows, labels[n:]].sum()
        bare += (chances[n:][rows, labels[n:]] >= lowest).sum()
    rank = math.ceil(round((n + 1) * coverage, 9))
    # how many of the new pictures a calibration covers is beta-binomial (Vovk 2012, Proposition 2)
    covered = betabinom(new, rank, n + 1 - rank)
    spread = covered.std() / new / math.sqrt(repeats)
    assert abs(bare / repeats / new - rank / (n + 1)) < 4 * spread
    assert held / repeats / new > coverage - 4 * spread
    assert rank / (n + 1) < coverage + 1 / (n + 1)


def test_the_threshold_is_the_quantile_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for n in (9, 10, 19, 57, 100, 999):
        scores = np.sort(rng.random(n))
        for coverage in (0.5, 0.7, 0.8, 0.9):
            level = math.ceil(round((n + 1) * coverage, 9)) / n
            wanted = 1 - np.quantile(1 - scores, level - 1e-9, method="inverted_cdf")
            assert threshold(scores, coverage) == pytest.approx(wanted, abs=1e-12)


def test_no_rounding_asks_for_one_picture_more() -> None:
    """10 x 0.7 is 7.000000000000001 in floating point."""
    scores = np.arange(1, 10) / 10
    assert threshold(scores, 0.7) == scores[9 - 7]
    assert [pictures_needed(c) for c in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)] == [1, 3, 4, 9, 19, 99, 999]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_as_many_pictures_as_are_needed_are_enough(coverage: float) -> None:
    needed = pictures_needed(coverage)
    threshold(np.linspace(0, 1, needed), coverage)
    with pytest.raises(UsageError, match=f"need {needed} validation pictures and this run has {needed - 1};"):
        threshold(np.linspace(0, 1, needed - 1), coverage)


def test_what_is_offered_instead_can_be_had() -> None:
    with pytest.raises(UsageError, match=r"ask for at most 0\.972") as error:
        threshold(np.linspace(0, 1, 35), 0.99)
    assert "data.val" in str(error.value)
    threshold(np.linspace(0, 1, 35), 0.972)
    with pytest.raises(UsageError, match="this run has 0; train with more"):
        threshold(np.zeros(0), 0.9)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90, -0.1, math.nan])
def test_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        pictures_needed(coverage)


def test_a_set_is_never_empty_and_grows_as_more_is_asked() -> None:
    chances, labels = model(np.random.default_rng(1), 600)
    scores = conformity(chances[:300], labels[:300])
    before = np.zeros((300, 6), dtype=bool)
    for coverage in (0.1, 0.5, 0.9, 0.99):
        held = prediction_sets(chances[300:], threshold(scores, coverage))
        assert held.any(axis=1).all() and (held | ~before).all()
        before = held
    assert prediction_sets(np.zeros((0, 3)), 0.5).shape == (0, 3)
