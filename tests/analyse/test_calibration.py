"""Temperature and calibration error against references, known answers and hard cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax as scipy_log_softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from vitreous.analyse.calibration import (
    COLDEST,
    DOUBT,
    HOTTEST,
    calibration_interval,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    log_softmax,
    reliability,
    softmax,
)


def drawn(n: int, k: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that become honest when divided by ``temperature``."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (n, k))
    labels = (honest + rng.gumbel(size=(n, k))).argmax(axis=1)
    return (honest * temperature).astype(np.float32), labels


@pytest.mark.parametrize("k", [2, 10, 100])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(k: int, temperature: float) -> None:
    logits, labels = drawn(8000, k, temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_it_is_the_minimum_of_the_loss() -> None:
    logits, labels = drawn(20_000, 5, 1.7)
    reference = minimize_scalar(lambda t: log_loss(logits, labels, t), bounds=(0.1, 10), method="bounded").x
    assert fit_temperature(logits, labels) == pytest.approx(reference, rel=2e-3)


def test_shifting_a_row_changes_nothing() -> None:
    logits, labels = drawn(300, 4, 1.3)
    shift = np.random.default_rng(1).normal(0, 50, (300, 1))
    assert fit_temperature(logits + shift, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize("n", [1, 20, 1000, 20_000])
def test_all_right_stays_modest(n: int) -> None:
    """Without the doubt the answer would be the lower bound: infinite confidence from 20 pictures."""
    labels = np.arange(n) % 4
    logits = np.eye(4)[labels] * 5
    temperature = fit_temperature(logits, labels)
    assert COLDEST < temperature <= 1
    wrong = 1 - softmax(logits, temperature).max(axis=1).mean()
    # as many as the prior holds it to: n times what is expected to be wrong is about DOUBT over the logits' gap
    assert wrong * n * 5 == pytest.approx(DOUBT, rel=0.01) if temperature < 1 else wrong * n * 5 < DOUBT


def losses(n: int, k: int, temperature: float, spread: float, draws: int = 200) -> tuple[float, float, float]:
    """Expected log loss on fresh pictures, less that of temperature 1: as fitted on ``n`` without doubt, with it, best.

    The network has logits of that ``spread``, and is honest at ``temperature``.
    """
    rng = np.random.default_rng(n + k)
    honest = rng.normal(0, spread, (6000, k))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    logits = honest * temperature
    grid = np.exp(np.linspace(-2, 2, 161))
    each = np.stack([-log_softmax(logits, t)[np.arange(len(labels)), labels] for t in grid])  # (161, 6000)
    expected = each.mean(axis=1) - each[80].mean()
    plain, doubting = [], []
    for _ in range(draws):
        chosen = rng.integers(0, len(labels), n)
        plain.append(expected[each[:, chosen].sum(axis=1).argmin()])
        doubting.append(np.interp(np.log(fit_temperature(logits[chosen], labels[chosen])), np.log(grid), expected))
    return float(np.mean(plain)), float(np.mean(doubting)), float(expected.min())


@pytest.mark.parametrize(("k", "spread"), [(3, 1.0), (3, 3.0), (10, 2.0)])
def test_from_few_pictures_it_is_never_worse_than_none(k: int, spread: float) -> None:
    found = {t: losses(35, k, t, spread) for t in (0.4, 0.7, 1.0, 1.4, 2.5)}
    for temperature, (_, doubting, _) in found.items():
        assert doubting < (0.004 if temperature == 1 else 0), f"at {temperature}"
    assert found[1.0][1] < 0.25 * found[1.0][0], "most of what chance costs is saved"
    assert found[2.5][1] < 0.7 * found[2.5][2], "most of what is to be gained is gained"
    assert np.mean([doubting for _, doubting, _ in found.values()]) < -0.03


@pytest.mark.parametrize("temperature", [0.4, 0.7, 1.4, 2.5])
def test_many_pictures_overrule_the_doubt(temperature: float) -> None:
    plain, doubting, best = losses(1000, 3, temperature, 1.0, draws=50)
    assert doubting < 0.95 * best and doubting - plain < 5e-4


def test_worse_than_chance_becomes_uniform() -> None:
    labels = np.arange(50) % 3
    assert fit_temperature(-np.eye(3)[labels] * 4, labels) == HOTTEST


@pytest.mark.parametrize(
    ("logits", "labels"),
    [(np.zeros((0, 3)), np.zeros(0, int)), (np.ones((9, 3)), np.zeros(9, int)), (np.ones((9, 1)), np.zeros(9, int))],
)
def test_nothing_to_learn_from_is_one(logits: np.ndarray, labels: np.ndarray) -> None:
    assert fit_temperature(logits, labels) == 1.0


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 1e4], [1e4, 0.0]])
    assert np.isfinite(fit_temperature(logits, np.array([0, 1, 1])))
    assert np.isfinite(log_loss(logits, np.array([0, 1, 1])))


def test_log_softmax_matches_scipy() -> None:
    logits, _ = drawn(50, 7, 1.0)
    np.testing.assert_allclose(log_softmax(logits, 1.9), scipy_log_softmax(logits / 1.9, axis=1), atol=1e-6)


@pytest.mark.parametrize("bad", [np.array([[np.nan, 0.0]]), np.array([1.0, 2.0])])
def test_log_softmax_refuses_what_is_not_logits(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite matrix"):
        log_softmax(bad)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        softmax(np.zeros((1, 2)), 0.0)


@pytest.mark.parametrize(("k", "bins"), [(2, 15), (10, 15), (10, 7), (100, 15)])
def test_ece_matches_torchmetrics(k: int, bins: int) -> None:
    logits, labels = drawn(700, k, 2.0, seed=k)
    probabilities = softmax(logits)
    reference = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=k, n_bins=bins, norm="l1"
    )
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(float(reference), abs=1e-6)


def test_ece_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    # 0.9 confident and half right, 0.6 confident and all right
    assert expected_calibration_error(probabilities, np.array([0, 1, 1, 1])) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert expected_calibration_error(np.zeros((0, 2)), np.zeros(0, int)) == 0.0


def test_every_picture_is_in_one_bin() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [2 / 3, 1 / 3], [0.999, 0.001]])
    groups = reliability(probabilities, np.zeros(4, int))
    assert sum(g.count for g in groups) == 4
    assert groups[-1].count == 2
    assert all(g.low <= g.confidence <= g.high + 1e-12 for g in groups)
    assert groups[0].accuracy is None and groups[-1].accuracy == 1.0


@pytest.mark.parametrize(("n", "shift"), [(40, 0.0), (40, 0.1), (300, 0.0), (300, 0.03), (300, 0.1)])
def test_the_interval_of_the_error_holds_the_true_one(n: int, shift: float) -> None:
    """A model of two classes that is right ``shift`` less often than it says; a plain bootstrap misses a shift of 0."""
    rng, repeats, true = np.random.default_rng(n), 100, shift
    held = wide = 0
    for _ in range(repeats):
        confidence = 0.6 + 0.4 * rng.beta(2, 1, n)
        right = rng.random(n) < confidence - shift
        chances = np.stack([confidence, 1 - confidence], axis=1)
        low, high = calibration_interval(chances, (~right).astype(int), draws=200)
        held += low <= true <= high
        wide += high - low
        assert low <= expected_calibration_error(chances, (~right).astype(int)) <= high
    assert held >= 0.93 * repeats
    assert wide / repeats < 3 / np.sqrt(n), "an interval that says nothing holds everything"


def test_an_interval_without_pictures_says_nothing() -> None:
    assert calibration_interval(np.zeros((0, 3)), np.zeros(0, int)) == (0.0, 1.0)
