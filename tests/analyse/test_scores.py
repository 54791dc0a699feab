"""Scores against scikit-learn, scipy and counting by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from vitreous.analyse.calibration import softmax
from vitreous.analyse.scores import (
    accepted,
    least_certain,
    most_confident_mistakes,
    most_confused,
    proportion,
    score,
    wilson,
)


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(3)
    labels = rng.choice(8, size=400, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.0])  # class 7 has no picture
    logits = rng.normal(size=(400, 8)) + 2 * np.eye(8)[labels]
    return logits, labels, [f"c{i}" for i in range(8)]


@pytest.mark.parametrize(("right", "total"), [(0, 1), (1, 1), (0, 30), (30, 30), (7, 9), (212, 298), (1, 100_000)])
def test_wilson_matches_scipy(right: int, total: int) -> None:
    reference = binomtest(right, total).proportion_ci(method="wilson")
    assert wilson(right, total) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_nothing_counted_means_nothing_known() -> None:
    assert proportion(0, 0) == (None, 0.0, 1.0)


def test_scores_match_scikit_learn(answers: tuple) -> None:
    logits, labels, names = answers
    found, predicted = score(logits, labels, names, 1.5), logits.argmax(axis=1)
    assert found.accuracy.value == metrics.accuracy_score(labels, predicted)
    assert found.balanced_accuracy == pytest.approx(
        np.mean([metrics.recall_score(labels == c, predicted == c) for c in range(7)])
    )
    used = sorted({*labels, *predicted})
    assert found.macro_f1 == pytest.approx(
        metrics.f1_score(labels, predicted, labels=used, average="macro", zero_division=0)
    )
    assert found.log_loss == pytest.approx(metrics.log_loss(labels, softmax(logits, 1.5), labels=range(8)))
    assert found.top5 is not None
    assert found.top5.value == metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(8))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, predicted, labels=range(8)))


def test_each_class_matches_scikit_learn(answers: tuple) -> None:
    logits, labels, names = answers
    found = score(logits, labels, names)
    reference = metrics.precision_recall_fscore_support(labels, logits.argmax(axis=1), labels=range(8), zero_division=0)
    for row, precision, recall, f1, support in zip(found.classes, *reference, strict=True):
        assert row.support == support
        assert (row.precision.value or 0, row.recall.value or 0, row.f1.value or 0) == pytest.approx(
            (precision, recall, f1)
        )
        for share in (row.precision, row.recall, row.f1):
            assert share.value is None or 0 <= share.low <= share.value <= share.high <= 1
    assert found.classes[7].recall.value is None


def test_the_summary_is_json(answers: tuple) -> None:
    logits, labels, names = answers
    told = json.loads(json.dumps(score(logits, labels, names).summary(), allow_nan=False))
    assert told["accuracy"] == told["correct"] / told["count"]
    assert told["accuracy_interval"] == pytest.approx(wilson(told["correct"], told["count"]))


def test_temperature_moves_no_answer(answers: tuple) -> None:
    logits, labels, names = answers
    cold, hot = score(logits, labels, names, 0.2), score(logits, labels, names, 9.0)
    assert cold.accuracy == hot.accuracy and cold.top5 == hot.top5
    assert cold.log_loss != hot.log_loss


@pytest.mark.parametrize("k", [2, 5])
def test_top_five_needs_more_than_five(k: int) -> None:
    assert score(np.eye(k), np.arange(k), [str(i) for i in range(k)]).top5 is None


def test_a_constant_model_does_not_get_top_five_for_nothing() -> None:
    found = score(np.zeros((10, 10)), np.arange(10), [str(i) for i in range(10)])
    assert found.top5 is not None and found.top5.value == 0.5


def test_no_pictures_is_not_an_error() -> None:
    found = score(np.zeros((0, 3)), np.zeros(0), ["a", "b", "c"])
    assert found.accuracy.value is None and found.macro_f1 == 0.0


@pytest.mark.parametrize(("labels", "names"), [([0, 3], "abc"), ([0, -1], "abc"), ([0], "abc"), ([0, 1], "ab")])
def test_what_does_not_fit_is_refused(labels: list[int], names: str) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        score(np.zeros((2, 3)), np.array(labels), list(names))


def test_commonest_mistakes_first() -> None:
    confusion = np.array([[5, 3, 0], [1, 9, 3], [0, 0, 4]])
    found = [(c.true, c.predicted, c.count) for c in most_confused(confusion)]
    assert found == [(0, 1, 3), (1, 2, 3), (1, 0, 1)]
    assert most_confused(confusion, 1)[0].share == 3 / 8
    assert most_confused(np.diag([4, 4])) == []


def test_surest_mistakes_and_least_certain() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.51, 0.49], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 0])
    assert most_confident_mistakes(probabilities, labels).tolist() == [1, 3]
    assert most_confident_mistakes(probabilities, labels, 1).tolist() == [1]
    assert most_confident_mistakes(probabilities[:1], labels[:1]).tolist() == []
    assert least_certain(probabilities, 2).tolist() == [2, 3]
    assert least_certain(np.ones((4, 1))).tolist() == []


def test_accepting_only_sure_answers() -> None:
    probabilities = np.array([[0.95, 0.05], [0.2, 0.8], [0.51, 0.49], [0.3, 0.7]])
    rows = accepted(probabilities, np.array([0, 0, 0, 1]), [0.5, 0.75, 0.99])
    assert [r.count for r in rows] == [4, 2, 0]
    assert [r.kept for r in rows] == [1.0, 0.5, 0.0]
    assert [r.right.value for r in rows] == [0.75, 0.5, None]
