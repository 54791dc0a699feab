"""Train, validation and test: which side every picture is on.

The side hangs on the contents of a picture, not on its place in a list, so adding pictures leaves the others
where they are, but for the one or two that hold a small class to its shares; copies of one picture never stand on
both sides. Knows digests, labels and groups of duplicates; knows nothing of files or pixels.

**The draw.** Every group of duplicates has a draw in [0, 1): a salted SHA-256 of its smallest digest. A draw below
``test`` is test, below ``test + val`` validation, the rest train. A group belongs to the class of the picture that
has its smallest digest; one with more than half of the pictures of its class is train whatever it drew.

**The correction.** Shares are held in every class, counted in groups. With ``n`` groups and a share ``p`` the
number drawn may differ from ``p n`` by ``max(1, p n / 4)``; a class with three or more groups has at least one for
validation and one for test, a class with two has train and validation, a class with one has train. A class outside
these bounds has its own threshold moved, just as far as needed, so the groups nearest to it change sides.

**What can move a picture.** Adding others to a class that needs no correction moves nothing. In a corrected class one
new group moves at most three others, those at the thresholds. A class of 30 or 100 that grows by a fifth has about
one picture moved, one in five of them out of test; a class of 1000 none. A new near-duplicate joins its group and,
where it has the smallest digest, draws anew for the whole group. Nothing else does; a larger ``val`` never touches
the test side.

**A split that the data brings** is respected. Copies across its sides are left out of train (and of validation,
when the other copy is in test), never of test. Train and test only: validation is drawn from train. Train and
validation only: test is drawn from train too, because choices will be made on the validation pictures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitreous.errors import UsageError

LEFT_OUT, TRAIN, VAL, TEST = -1, 0, 1, 2
SIDES = ("train", "val", "test")

_TOLERANCE = 0.25


def split(
    labels: NDArray[np.int64],
    digests: Sequence[str],
    groups: NDArray[np.int64],
    given: NDArray[np.int8] | None = None,
    *,
    val: float = 0.15,
    test: float = 0.15,
    salt: str = "",
) -> NDArray[np.int8]:
    """The side of every picture: 0 train, 1 validation, 2 test, -1 left out.

    Args:
        labels: (n,) class of each picture; every distinct number, UNLABELLED included, is held to the shares.
        digests: (n,) SHA-256 of each picture's bytes in hexadecimal.
        groups: (n,) equal numbers for duplicates of one another, as ``duplicates.group`` gives; negative for
            pictures that cannot be used, which are left out.
        given: (n,) the side the data itself declares, or None. All train counts as none; without any train there is
            nothing to draw from, and it stays as it is.
        val: share of validation among the groups the draw is about, in [0, 1).
        test: the same for test; ``val + test`` below 1.
        salt: another text gives another, independent split.

    Raises:
        UsageError: shares out of range.
    """
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UsageError(f"val = {val} and test = {test} must be shares of at least 0 that sum to less than 1.")
    usable = groups >= 0
    side = np.where(usable, TRAIN, LEFT_OUT).astype(np.int8)
    if given is not None:
        side = np.where(usable, given, LEFT_OUT).astype(np.int8)
        present = set(side.tolist())
        side = _without_leaks(side, groups)
        val = 0.0 if VAL in present else val
        test = 0.0 if TEST in present else test
    drawn = np.flatnonzero(side == TRAIN)
    if drawn.size and val + test > 0:
        spoken = [digests[int(i)] for i in drawn]
        side[drawn] = _draw_sides(labels[drawn], spoken, groups[drawn], val=val, test=test, salt=salt)
    return side


def thinned(
    side: NDArray[np.int8],
    labels: NDArray[np.int64],
    digests: Sequence[str],
    groups: NDArray[np.int64],
    fraction: float,
) -> NDArray[np.int8]:
    """``side`` with only ``fraction`` of the training pictures of every class, at least one, the others left out.

    Groups of duplicates stay or go as one, counted as one, by a draw that hangs on their contents: the training
    pictures of a smaller fraction are among those of a larger one.
    """
    if fraction >= 1:
        return side
    train = np.flatnonzero(side == TRAIN)
    spoken = [digests[int(i)] for i in train]
    speakers, number = _speakers(spoken, groups[train])
    draws = np.array([_draw("fraction", spoken[i]) for i in speakers])
    kinds = labels[train][speakers]
    kept = np.zeros(len(speakers), dtype=bool)
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        kept[members[np.argsort(draws[members])][: max(1, round(fraction * len(members)))]] = True
    thin = side.copy()
    thin[train[~kept[number]]] = LEFT_OUT
    return thin


def _without_leaks(side: NDArray[np.int8], groups: NDArray[np.int64]) -> NDArray[np.int8]:
    """``side`` with every picture left out that has a copy on a side further from training."""
    held = side >= 0
    number = np.unique(groups[held], return_inverse=True)[1]
    furthest = np.full(number.max(initial=-1) + 1, TRAIN, dtype=np.int8)
    np.maximum.at(furthest, number, side[held])
    clean = side.copy()
    clean[held] = np.where(side[held] < furthest[number], LEFT_OUT, side[held])
    return clean


def _draw_sides(
    labels: NDArray[np.int64], digests: list[str], groups: NDArray[np.int64], *, val: float, test: float, salt: str
) -> NDArray[np.int8]:
    speakers, number = _speakers(digests, groups)
    draws = np.array([_draw(salt, digests[i]) for i in speakers])
    kind = np.unique(labels, return_inverse=True)[1]
    draws[2 * np.bincount(number) > np.bincount(kind)[kind[speakers]]] = 1.0
    sides = np.zeros(len(speakers), dtype=np.int8)
    order = np.lexsort((draws, labels[speakers]))
    edges = np.flatnonzero(np.diff(labels[speakers][order])) + 1
    for members in np.split(order, edges):  # one class each, by rising draw
        k_test, k_val = _sizes(draws[members], val, test)
        sides[members[:k_test]] = TEST
        sides[members[k_test : k_test + k_val]] = VAL
    return sides[number]


def _speakers(digests: list[str], groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(the picture that speaks for each group, by its smallest digest; which group each picture is of)."""
    by_digest = np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)
    _, first, found = np.unique(groups[by_digest], return_index=True, return_inverse=True)
    number = np.empty(len(digests), dtype=np.int64)
    number[by_digest] = found
    return by_digest[first], number


def _draw(salt: str, digest: str) -> float:
    bits = int.from_bytes(hashlib.sha256(f"{salt}:{digest}".encode()).digest()[:8], "big")
    return (bits >> 11) / 2**53  # 53 bits: as many as a float holds exactly, so the draw stays below 1


def _sizes(draws: NDArray[np.float64], val: float, test: float) -> tuple[int, int]:
    """How many groups of a class go to test and to validation, given their sorted ``draws``."""
    n = len(draws)
    least_val = int(val > 0 and n >= 2)
    least_test = int(test > 0 and n >= (3 if val > 0 else 2))
    k_test = _bounded(int((draws < test).sum()), test * n, least_test, n - 1 - least_val)
    k_val = _bounded(int((draws < test + val).sum()) - k_test, val * n, least_val, n - 1 - k_test)
    return k_test, k_val


def _bounded(drawn: int, wanted: float, least: int, most: int) -> int:
    if wanted == 0:
        return 0
    slack = max(1.0, _TOLERANCE * wanted)
    low, high = math.ceil(wanted - slack), math.floor(wanted + slack)
    return min(max(min(max(drawn, low), high), least), most)
