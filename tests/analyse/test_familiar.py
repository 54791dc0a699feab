"""Strange pictures are told by their neighbours, against scikit-learn's, and at the rate that is said."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from vitreous.analyse.familiar import MOST_KEPT, Familiar, remember, unit


def blobs(rng: np.random.Generator, n: int, d: int = 16) -> np.ndarray:
    """(n, d) around four directions."""
    return (4 * np.eye(d)[rng.integers(0, 4, n)] + rng.normal(size=(n, d)) * 0.5).astype(np.float32)


def test_distances_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    train, val = blobs(rng, 700), blobs(rng, 300)  # more than one block
    kept = remember(train, val, classes=4)
    assert kept.neighbours == 10 and kept.features.dtype == np.float16
    search = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(train)
    wanted = np.sort(search.kneighbors(val)[0][:, -1])
    assert np.allclose(kept.distances, wanted, atol=2e-3)  # float16


def test_the_answer_is_a_share_of_validation() -> None:
    rng = np.random.default_rng(1)
    kept = remember(blobs(rng, 500), blobs(rng, 200), classes=4)
    ordinary, strange = kept.unfamiliar(blobs(rng, 2000)), kept.unfamiliar(-blobs(rng, 50))
    assert np.isin(np.round(ordinary * 200, 9), np.arange(201)).all()
    assert (strange == 1).all()
    # a new picture is as likely as any to have any rank: 2,000 answers, one sample of 200
    assert abs((ordinary >= 0.9).mean() - 0.1) < 0.07 and abs(ordinary.mean() - 0.5) < 0.08


def test_length_and_emptiness_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    train, val = blobs(rng, 100), blobs(rng, 60)
    kept = remember(train, val, classes=4)
    # rounding may move one of the very pictures that the ranks come from by one rank
    assert np.allclose(kept.unfamiliar(1000 * val), kept.unfamiliar(val), atol=1.01 / 60)
    assert np.isfinite(unit(np.zeros((3, 4)))).all()
    assert kept.unfamiliar(np.zeros((0, 16), np.float32)).shape == (0,)
    assert kept.unfamiliar(np.zeros((1, 16), np.float32)) == [1.0]


@pytest.mark.parametrize(("pictures", "classes", "k"), [(1, 2, 1), (30, 3, 2), (400, 10, 10), (400, 20, 5)])
def test_neighbours_are_fewer_where_classes_are_small(pictures: int, classes: int, k: int) -> None:
    rng = np.random.default_rng(3)
    assert remember(blobs(rng, pictures), blobs(rng, 5), classes).neighbours == k


def test_what_is_kept_is_bounded() -> None:
    rng = np.random.default_rng(4)
    kept = remember(blobs(rng, MOST_KEPT + 10, d=4), blobs(rng, 5, d=4), 4)
    assert len(kept.features) == MOST_KEPT
    again = Familiar(kept.features, kept.distances, kept.neighbours)
    assert np.array_equal(again.unfamiliar(kept.features[:9]), kept.unfamiliar(kept.features[:9]))
