"""Which pictures are the same picture: exact copies, and copies that were saved again, resized or brightened.

Works on a thumbnail of 8 x 9 cells a picture and on SHA-256 digests; knows nothing of files, labels or splits.

Search: the difference hash (N. Krawetz, "Kind of Like That", 2013) keeps one bit for each pair of neighbouring
cells. Two hashes that differ in at most seven bits agree in at least one of eight bands of eight bits, so only
pictures that share a band are compared. Every pair found is then verified on the thumbnails themselves, because
pictures with little in them (white pages, night skies) share a hash without being copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 8, 9
_CELLS = 3 * ROWS * COLUMNS

_BANDS = 8
_WIDTH = 64 // _BANDS  # bits in a band
_DISTANCE = _BANDS - 1  # the most bits that may differ with one band still untouched
_DEAD_ZONE = 1  # grey levels; below it a step between cells is noise of compression and gives no bit
_FLAT = 4.0  # grey levels of contrast; below it a thumbnail says nothing and only exact copies count
_RELATIVE = 0.2  # root mean square difference over contrast; saving again costs 0.03, a slight crop 0.2
_LARGEST = 48  # grey levels in any one cell; a picture with something else in one corner is another picture
_BRIGHTNESS = 32  # grey levels by which a copy may be lighter or darker as a whole
_REACH = 512  # neighbours compared within one band; beyond it a hash has too little in it to search by
_BLOCK = 1 << 12  # pairs verified at once
_SIDES = 3  # groups that a class needs for train, validation and test


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean colour of 8 x 9 cells: (3, h, w) to (3, 8, 9), both uint8, for any size from 1 x 1."""
    height, width = pixels.shape[1:]
    rows, columns = np.arange(ROWS) * height // ROWS, np.arange(COLUMNS) * width // COLUMNS
    # where a picture has fewer pixels than cells, reduceat repeats the nearest one, and the count is one
    sums = np.add.reduceat(pixels, rows, axis=1, dtype=np.uint32)  # (3, 8, w)
    sums = np.add.reduceat(sums, columns, axis=2)  # (3, 8, 9)
    tall = np.maximum(np.diff(np.append(rows, height)), 1)
    wide = np.maximum(np.diff(np.append(columns, width)), 1)
    cells: NDArray[np.uint8] = np.rint(sums / (tall[:, None] * wide)).astype(np.uint8)
    return cells


def difference_hash(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One bit for each of the 64 steps to the right that get lighter: (n, 3, 8, 9) to (n,) uint64."""
    grey = thumbnails.sum(axis=1, dtype=np.int16)  # (n, 8, 9), three times the level
    lighter = np.diff(grey, axis=2) > 3 * _DEAD_ZONE  # (n, 8, 8)
    packed = np.packbits(lighter.reshape(len(grey), ROWS * (COLUMNS - 1)), axis=1)  # (n, 8) bytes
    return packed.view(">u8")[:, 0].astype(np.uint64)


def exact_groups(digests: Sequence[str], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) the first index with the same digest; -1 where not ``usable``."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(d, i) if usable[i] else -1 for i, d in enumerate(digests)], dtype=np.int64)


def near_groups(
    exact: NDArray[np.int64], hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """``exact`` with the groups of near-duplicates joined; a group is named by its smallest index.

    Being a near-duplicate is handed on: the pictures of a film are one group although its ends are unlike.

    Args:
        exact: (n,) from ``exact_groups``; negative entries stay as they are.
        hashes: (n,) from ``difference_hash``.
        thumbnails: (n, 3, 8, 9) uint8 from ``thumbnail``.
    """
    contrast = thumbnails.reshape(-1, _CELLS).std(axis=1, dtype=np.float32)
    single = np.flatnonzero((exact == np.arange(len(exact))) & (contrast >= _FLAT))
    thumbnails, contrast = thumbnails[single], contrast[single]
    root = np.arange(len(single))
    for band in range(_BANDS):
        for found in _candidates(hashes[single], band):
            pairs = found[root[found[:, 0]] != root[found[:, 1]]]
            # their contrasts cannot differ by more than the pictures do: most pairs end here, without their pixels
            low, high = np.sort(contrast[pairs], axis=1).T
            pairs = pairs[high - low <= _RELATIVE * low]
            root = _join(root, pairs[_same(thumbnails, contrast, pairs)])
    joined = np.arange(len(exact))
    joined[single] = single[root]
    return np.where(exact >= 0, joined[exact], exact)


def _join(root: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Connected components: ``root`` (n,) after the components of every pair (m, 2) are made one."""
    while len(pairs):
        low, high = root[pairs].min(axis=1), root[pairs].max(axis=1)
        apart = low != high
        pairs, low, high = pairs[apart], low[apart], high[apart]
        root = root.copy()
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root = root[root]
    return root


def _candidates(hashes: NDArray[np.uint64], band: int) -> Iterator[NDArray[np.int64]]:
    """Pairs within _DISTANCE bits that share ``band`` and none before it, as (m, 2) blocks."""
    keys = _banded(hashes, band)
    order = np.argsort(keys, kind="stable")
    keys, shared = keys[order], (keys[order] >> np.uint64(64 - _WIDTH)).astype(np.uint8)
    starts = np.arange(len(keys))
    for step in range(1, min(_REACH, len(keys) - 1) + 1):
        starts = starts[starts + step < len(keys)]
        starts = starts[shared[starts] == shared[starts + step]]
        if not starts.size:
            break
        unlike = keys[starts] ^ keys[starts + step]
        close = _bits(unlike) <= _DISTANCE
        near = starts[close]
        if near.size:
            # a pair that agrees in an earlier band was found there; in the rotated key those bands are the lowest
            fresh = ~_agree(unlike[close], band)
            yield np.stack([order[near], order[near + step]], axis=1)[fresh]


def _agree(unlike: NDArray[np.uint64], bands: int) -> NDArray[np.bool_]:
    """Whether any of the lowest ``bands`` bands of ``unlike`` is without a set bit."""
    agree = np.zeros(len(unlike), dtype=np.bool_)
    for band in range(bands):
        agree |= (unlike >> np.uint64(_WIDTH * band)) & np.uint64(2**_WIDTH - 1) == 0
    return agree


def _banded(hashes: NDArray[np.uint64], band: int) -> NDArray[np.uint64]:
    """The hashes with bits dealt out to the bands in turn, rotated so that ``band`` is the highest.

    Dealt out, because rows at the top and bottom of a picture are often empty: a band of whole rows would be the
    same for everything photographed on a white table.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)  # (n, 64)
    dealt = np.roll(bits.reshape(-1, _WIDTH, _BANDS).transpose(0, 2, 1), -band, axis=1)  # (n, bands, width)
    packed = np.packbits(dealt.reshape(-1, 64), axis=1)
    return packed.view(">u8")[:, 0].astype(np.uint64)


_POPULATION = np.array([i.bit_count() for i in range(256)], dtype=np.uint8)


def _bits(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits are set in each word."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words), dtype=np.uint8)
    count: NDArray[np.uint8] = _POPULATION[words.view(np.uint8)].reshape(-1, 8).sum(axis=1, dtype=np.uint8)
    return count


def _same(thumbnails: NDArray[np.uint8], contrast: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the pairs (m, 2) show one picture."""
    cells = thumbnails.reshape(-1, _CELLS)
    same = np.empty(len(pairs), dtype=np.bool_)
    for start in range(0, len(pairs), _BLOCK):
        a, b = pairs[start : start + _BLOCK].T
        unlike = cells[a].astype(np.float32) - cells[b]
        shift = unlike.mean(axis=1)
        unlike -= shift[:, None]
        close = np.sqrt(np.square(unlike).mean(axis=1)) <= _RELATIVE * np.minimum(contrast[a], contrast[b])
        close &= (np.abs(unlike).max(axis=1) <= _LARGEST) & (np.abs(shift) <= _BRIGHTNESS)
        same[start : start + _BLOCK] = close
    return same


def without_scenes(
    exact: NDArray[np.int64], near: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[int]]:
    """``near``, but with the exact copies only for classes that near-duplicates would leave with too few groups.

    A fixed camera, or one film, makes all pictures of a class near-duplicates of one another; with fewer than three
    groups the class could not have train, validation and test. Returns the groups (n,) and the labels affected.
    """
    few = _groups_by_label(near, labels)
    scenes = sorted(label for label, count in few.items() if count < _SIDES)
    scenes = [label for label in scenes if _groups_by_label(exact, labels)[label] >= _SIDES]
    opened = np.unique(near[np.isin(labels, scenes) & (near >= 0)])
    return np.where(np.isin(near, opened), exact, near), scenes


def _groups_by_label(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[int, int]:
    """Label to the number of groups that have a picture of it."""
    used = groups >= 0
    cells = np.unique(np.stack([labels[used], groups[used]]), axis=1)
    return dict(zip(*(x.tolist() for x in np.unique(cells[0], return_counts=True)), strict=True))
