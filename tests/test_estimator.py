"""ImageClassifier behaves as scikit-learn expects, wherever that makes sense for pictures."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks

import vitreous as vt

FAST = {"model": "vit_pico_patch4_32", "epochs": 10, "batch": 16}


@pytest.fixture(scope="module")
def pictures(photos: Path) -> tuple[list[Path], list[str]]:
    files = sorted(photos.rglob("*.png"))
    return files, [f.parent.name for f in files]


@pytest.fixture(scope="module")
def fitted(pictures: tuple[list[Path], list[str]]) -> vt.ImageClassifier:
    return vt.ImageClassifier(**FAST).fit(*pictures)


def test_it_learns_and_answers(fitted: vt.ImageClassifier, pictures: tuple[list[Path], list[str]]) -> None:
    files, labels = pictures
    assert fitted.classes_.tolist() == ["long", "round"]
    probabilities = fitted.predict_proba(files)
    assert probabilities.shape == (120, 2)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(fitted.predict(files), fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(files, labels) > 0.8


def test_arrays_and_labels_of_any_type() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 60, (60, 16, 16), dtype=np.uint8)
    y = np.repeat([7, 3, 5], 20)
    X[y == 3, 4:12, 4:12] += 150
    X[y == 5, :, 4:12] += 150
    model = vt.ImageClassifier(**FAST).fit(X, y)
    assert model.classes_.tolist() == [3, 5, 7]
    assert model.predict(X[:3]).dtype == y.dtype
    assert model.predict_proba(X[:0]).shape == (0, 3)


def test_nothing_is_left_behind_and_nothing_overwritten_unasked(
    pictures: tuple[list[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    few = {**FAST, "epochs": 0.3}
    model = vt.ImageClassifier(**few).fit(*pictures)
    assert not list((tmp_path / "temporary").iterdir()) and model.predictor_.folder is None
    assert len(model.predict(pictures[0][:2])) == 2
    (answer,) = pickle.loads(pickle.dumps(model)).predictor_.predict(pictures[0][:1], coverage=0.6)
    assert answer.covering and 0 <= answer.unfamiliar <= 1, "read before the folder went"
    kept = vt.ImageClassifier(**few, out=str(tmp_path / "run")).fit(*pictures)
    assert kept.predictor_.card["command"] == ""  # pictures handed over have no name to find them by
    with pytest.raises(vt.UsageError, match="holds a run already"):
        kept.fit(*pictures)
    clone(kept).set_params(overwrite=True).fit(*pictures)


def test_random_states_are_those_of_scikit_learn(pictures: tuple[list[Path], list[str]]) -> None:
    few = {**FAST, "epochs": 0.3}
    for state in (None, np.random.RandomState(3), np.int64(5)):
        vt.ImageClassifier(**few, random_state=state).fit(*pictures)


def test_the_same_state_gives_the_same_model(pictures: tuple[list[Path], list[str]]) -> None:
    files, labels = pictures
    few = {**FAST, "epochs": 1}
    a, b, c = (vt.ImageClassifier(**few, random_state=s).fit(files, labels).predict_proba(files) for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_recipe_and_teacher_are_those_of_train(pictures: tuple[list[Path], list[str]]) -> None:
    few = {**FAST, "epochs": 0.3}
    taught = vt.ImageClassifier(**few, recipe="scratch", teacher="resnet20_cifar").fit(*pictures)
    assert taught.predictor_.card["teacher"]["name"].startswith("resnet20_cifar")
    with pytest.raises(vt.UsageError, match="without a teacher"):
        vt.ImageClassifier(**few, recipe="plain", teacher="resnet20_cifar").fit(*pictures)
    with pytest.raises(vt.UsageError, match="--recipe is one of"):
        vt.ImageClassifier(**few, recipe="best").fit(*pictures)


@pytest.mark.parametrize(
    "check",
    [
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_mixin_order,
    ],
)
def test_the_checks_of_scikit_learn(check: object) -> None:
    check("ImageClassifier", vt.ImageClassifier())


def test_fitting_does_not_change_parameters(fitted: vt.ImageClassifier) -> None:
    assert fitted.get_params() == vt.ImageClassifier(**FAST).get_params()
    assert not hasattr(clone(fitted), "predictor_")


def test_unfitted_is_said() -> None:
    with pytest.raises(NotFittedError):
        vt.ImageClassifier().predict([np.zeros((8, 8), np.uint8)])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((4, 8, 8), np.uint8), [0, 1], "one label each"),
        (np.zeros((8, 8, 8), np.float32), [0, 1] * 4, "uint8"),
        ([np.zeros((8, 8), np.uint8), np.zeros((9, 8), np.uint8)], [0, 1], "different shapes"),
        (np.zeros((8, 8, 8), np.uint8), [0] * 8, "class"),
        ([], [], "no pictures"),
    ],
)
def test_bad_input_is_refused(X: object, y: list[int], message: str) -> None:
    with pytest.raises(vt.VitreousError, match=message):
        vt.ImageClassifier(**FAST).fit(X, y)


def test_a_picture_that_cannot_be_read_is_named(fitted: vt.ImageClassifier, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    with pytest.raises(vt.BadData, match=r"Picture 0 .*bad\.png"):
        fitted.predict([bad])
