"""How far a picture is from all that was learned from: the distance to its nearest neighbours among training pictures.

Sun, Ming, Zhu and Li 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors" (ICML), section 3: the k-th
smallest distance between features of unit length, with no assumption on how they are spread. Cosine distances rank
pictures as the paper's Euclidean ones do. A distance alone means nothing, so it is told as the share of validation
pictures, which the network did not learn from either, that lie less far away.

Knows features; nothing of pictures, classes or networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.calibration import Numbers

MOST_KEPT = 5_000
"""Training pictures whose features are kept: of width 2,208, as Swin-T's, 22 MB, and 11 million products a picture."""

NEIGHBOURS = 10

_BLOCK = 256  # pictures compared at once


@dataclass(frozen=True)
class Familiar:
    """What is kept to tell strange pictures.

    Attributes:
        features: (m, d) float16, of unit length: training pictures.
        distances: (n,) float32, rising: validation pictures to their k-th neighbour among those.
        neighbours: k.
    """

    features: NDArray[np.float16]
    distances: NDArray[np.float32]
    neighbours: int

    def unfamiliar(self, features: Numbers) -> NDArray[np.float64]:
        """(b, d) features -> (b,) the share of validation pictures that are nearer to the training pictures."""
        nearer = np.searchsorted(self.distances, self._far(features), side="left")
        return np.asarray(nearer / len(self.distances), dtype=np.float64)

    def _far(self, features: Numbers) -> NDArray[np.float32]:
        blocks = [features[i : i + _BLOCK] for i in range(0, len(features), _BLOCK)]
        far = [_kth_distance(unit(block), self._reference, self.neighbours) for block in blocks]
        return np.concatenate(far) if far else np.zeros(0, dtype=np.float32)

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        return self.features.astype(np.float32)


def remember(train: Numbers, held_out: Numbers, classes: int) -> Familiar:
    """What tells strange pictures from then on.

    k is 10, and fewer where that would reach beyond a quarter of an even class: a picture is familiar if it is like
    some of its kind.

    Args:
        train: (m, d) features of training pictures, at least one; the first ``MOST_KEPT`` are kept.
        held_out: (n, d) the same of validation pictures, at least one.
        classes: how many there are.
    """
    kept = unit(train[:MOST_KEPT]).astype(np.float16)
    neighbours = max(1, min(NEIGHBOURS, len(kept) // (4 * classes)))
    bare = Familiar(kept, np.zeros(0, dtype=np.float32), neighbours)
    return Familiar(kept, np.sort(bare._far(held_out)), neighbours)


def unit(features: Numbers) -> NDArray[np.float32]:
    """(n, d) scaled to unit length, float32; features of nothing but zeros stay."""
    plain: NDArray[Any] = np.asarray(features, dtype=np.float32)
    length = np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-12)
    return np.asarray(plain / length, dtype=np.float32)


def _kth_distance(new: NDArray[np.float32], known: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """(b,) one less the k-th largest cosine."""
    alike = new @ known.T  # (b, m)
    place = alike.shape[1] - k
    return np.asarray(1 - np.partition(alike, place, axis=1)[:, place], dtype=np.float32)
