"""``ImageClassifier``: train and predict the way scikit-learn does, on arrays or lists of files.

A thin coat over the same recipe and run that the command line uses.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from vitreous.data.dataset import ArraySource, FileSource
from vitreous.data.listing import Listing, Names
from vitreous.errors import BadData

if TYPE_CHECKING:
    from typing import Self

    from vitreous.data.dataset import Source
    from vitreous.predictor import Predictor

Pictures = np.ndarray | Sequence[str | Path | np.ndarray]
"""Files, or uint8 pixels (h, w) or (h, w, 3) each; one array (n, h, w) or (n, h, w, 3) will do."""


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """A picture classifier with scikit-learn's four verbs.

    Parameters are those of ``vitreous.train``; what is None is chosen from the data. A validation share of the
    training pictures is held out inside ``fit`` to choose the checkpoint and the temperature. Without ``out`` nothing
    of the run is left on the disk.

    Attributes:
        classes_: the distinct labels, sorted, of the type they were given in.
        predictor_: the trained run, whose answers also hold sets of classes (``coverage``) and how unfamiliar a
            picture is.
    """

    def __init__(
        self,
        *,
        recipe: str = "auto",
        model: str = "auto",
        budget: str | None = None,
        epochs: float | None = None,
        size: int | None = None,
        batch: int | None = None,
        weights: str | None = None,
        pretrained: bool | str = False,
        tune: str | None = None,
        teacher: str | None = None,
        random_state: int | np.random.RandomState | None = 0,
        out: str | None = None,
        overwrite: bool = False,
        verbose: bool = False,
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.budget = budget
        self.epochs = epochs
        self.size = size
        self.batch = batch
        self.weights = weights
        self.pretrained = pretrained
        self.tune = tune
        self.teacher = teacher
        self.random_state = random_state
        self.out = out
        self.overwrite = overwrite
        self.verbose = verbose

    def fit(self, X: Pictures, y: Sequence[Any] | np.ndarray) -> Self:
        """Train on pictures ``X`` with one label each in ``y``.

        Raises:
            BadData: lengths that differ, one class only, pictures that cannot be read.
        """
        from vitreous import recipes
        from vitreous.run import execution

        labels = np.asarray(y)
        if len(X) == 0:
            raise BadData("There are no pictures to learn from; give some.")
        if labels.ndim != 1 or len(labels) != len(X):
            raise BadData(f"{len(X)} pictures need one label each, not labels of shape {labels.shape}.")
        self.classes_, encoded = np.unique(labels, return_inverse=True)
        source = _source(X, encoded.astype(np.int64), [str(c) for c in self.classes_])
        wishes = recipes.Wishes(
            data=source.root,
            recipe=self.recipe,  # type: ignore[arg-type]  # as ``tune``
            model=self.model,
            budget=self.budget,
            epochs=self.epochs,
            size=self.size,
            batch=self.batch,
            weights=self.weights,
            pretrained=self.pretrained,
            tune=self.tune,  # type: ignore[arg-type]  # refused by name if it is none
            teacher=self.teacher,
            seed=_seed(self.random_state),
            test=0.0,  # scikit-learn's users hold out their own test set
        )
        plan, reasons = recipes.choose(wishes, source)
        how: dict[str, Any] = {"source": source, "reasons": reasons, "quiet": not self.verbose}
        if self.out is None:
            with tempfile.TemporaryDirectory(prefix="vitreous-") as out:
                self.predictor_: Predictor = execution.execute(plan, out, **how)
                self.predictor_.detach()
        else:
            self.predictor_ = execution.execute(plan, self.out, overwrite=self.overwrite, **how)
        return self

    def predict_proba(self, X: Pictures) -> np.ndarray:
        """Calibrated probabilities (n, k), columns in the order of ``classes_``.

        Raises:
            BadData: a picture cannot be read; names it.
        """
        check_is_fitted(self)
        rows = []
        for position, answer in enumerate(self.predictor_.stream(list(X))):
            if answer.probabilities is None:
                raise BadData(f"Picture {position} ({answer.name}): {answer.error}")
            rows.append(answer.probabilities)
        return np.stack(rows) if rows else np.zeros((0, len(self.classes_)), dtype=np.float32)

    def predict(self, X: Pictures) -> np.ndarray:
        """The most probable label of each picture (n,)."""
        check_is_fitted(self)
        best: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return best


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """A seed as scikit-learn means it: a number is itself, a generator gives its next, None gives any."""
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _source(X: Pictures, labels: np.ndarray, classes: Sequence[str]) -> Source:
    """The training pictures as a source; files keep their names, arrays are numbered."""
    if isinstance(X[0], (str, Path)):
        names = Names([os.path.abspath(str(x)) for x in X])
        return FileSource(Listing("listed files", names, labels, tuple(classes), None, (), ()))
    arrays = [np.asarray(x) for x in X]
    if len({a.shape for a in arrays}) > 1:
        raise BadData("Arrays of different shapes cannot be stacked; give files, or arrays of one shape.")
    return ArraySource(np.stack(arrays), labels, classes)
