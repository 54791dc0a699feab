"""The whole way from the name of a data set to three sets of pictures that training can read.

Opens the source, surveys it, groups the copies, draws or respects the split, and refuses what cannot be trained on
with one sentence that says what to do. Knows nothing of batches, augmentation and models.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitreous.data.cache import Cache
from vitreous.data.dataset import Joined, Pictures, Source, open_source, without_classes, without_labels
from vitreous.data.duplicates import exact_groups, near_groups, without_scenes
from vitreous.data.memory import Memory
from vitreous.data.preprocess import Preprocess
from vitreous.data.quarantine import NAME, check_folder, read_quarantine
from vitreous.data.remarks import (
    class_notices,
    likeness_notices,
    notices,
    refuse_alike,
    refuse_bad,
    refuse_sides,
    refuse_unlabelled,
    scene_notices,
    spared_notices,
    split_notices,
    thin_notices,
    unlabelled_notices,
)
from vitreous.data.split import LEFT_OUT, SIDES, TEST, TRAIN, VAL, split, thinned
from vitreous.data.survey import Progress, Survey, survey
from vitreous.errors import UsageError
from vitreous.types import UNLABELLED

Side = Literal["train", "val", "test", "unlabelled"]

_PARTS = (*SIDES, "unlabelled")
_UNLABELLED_PART = len(SIDES)

MOST_LEFT_OUT = 0.1
"""Share of the pictures that may be left out for looking like one on another side of a given split."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pictures, how they are read, and how they are divided.

    Attributes:
        source: a folder, a ``.csv`` table, or the name of a built-in set.
        preprocess: what happens to every picture before the network.
        val: share of validation where the data has none of its own; see ``split`` for the exact promise.
        test: the same for test.
        quarantine: a further list of pictures to leave out; the one beside the data is honoured by itself.
        allow_bad: share of pictures that may be unreadable before it is an error.
        cache_dir: where decoded pixels are kept; $VITREOUS_CACHE, or ~/.cache/vitreous, when None.
        cache_gib: bound on them.
        split_salt: another text draws another split of the same data.
        fraction: share of each class's training pictures that is used; a smaller one is part of a larger one.
        unlabelled: further sources of pictures, of whose labels, if they have any, nothing is known.
        apart: whatever looks like a labelled picture of validation or test is left out of train, also where a class
            that is one scene, or a given split, would lose much by it.
    """

    source: str
    preprocess: Preprocess = field(default_factory=Preprocess)
    val: float = 0.15
    test: float = 0.15
    quarantine: str | None = None
    allow_bad: float = 0.01
    cache_dir: str | None = None
    cache_gib: float = 8.0
    split_salt: str = ""
    fraction: float = 1.0
    unlabelled: tuple[str, ...] = ()
    apart: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.allow_bad <= 1:
            raise UsageError(f"allow_bad = {self.allow_bad} must be a share from 0 to 1.")
        if not 0 <= self.cache_gib < 2**30:
            raise UsageError(f"cache_gib = {self.cache_gib} must be a number of GiB, not negative; 0 keeps nothing.")
        if not 0 < self.fraction <= 1:
            raise UsageError(f"data.fraction = {self.fraction} must be a share above 0 and at most 1.")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A data set that is ready to train on.

    Attributes:
        split: (n,) int8 of 0 train, 1 val, 2 test, 3 unlabelled, -1 left out.
        groups: (n,) equal numbers for copies of one picture; -1 for pictures that cannot be used.
        found: what the user should know of the pictures, one sentence each.
        divided: the same of how they were divided.
        unused: names of the source's classes that no usable picture is of; they are no classes here.
    """

    config: DataConfig
    source: Source
    survey: Survey
    cache: Cache
    split: NDArray[np.int8]
    groups: NDArray[np.int64]
    found: tuple[str, ...]
    divided: tuple[str, ...]
    unused: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """All that the user should know."""
        return self.found + self.divided

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return self.source.classes

    def indices(self, side: Side | Literal["all"]) -> NDArray[np.int64]:
        """Numbers in the source of the pictures of one side; "all" leaves out only what cannot be used.

        Their order is that of their digests: what files are called, and which others lie beside them, is of no account.
        """
        chosen = self.split == _PARTS.index(side) if side != "all" else self.survey.usable
        return self._by_contents[chosen[self._by_contents]]

    @cached_property
    def _by_contents(self) -> NDArray[np.int64]:
        digests, labels = self.survey.digests, self.source.labels.tolist()
        usable = np.flatnonzero(self.survey.usable).tolist()
        return np.array(sorted(usable, key=lambda i: (digests[i], labels[i], i)), dtype=np.int64)

    def pictures(self, side: Side | Literal["all"]) -> Pictures:
        """The pictures of one side, in the order of ``indices``."""
        return self.subset(self.indices(side))

    def subset(self, indices: NDArray[np.int64]) -> Pictures:
        """Some pictures by their numbers in the source."""
        return Pictures(self.source, indices, self.config.preprocess, cache=self.cache, digests=self.survey.digests)

    @property
    def train(self) -> Pictures:
        """What is learned from."""
        return self.pictures("train")

    @property
    def val(self) -> Pictures:
        """What choices are made on."""
        return self.pictures("val")

    @property
    def test(self) -> Pictures:
        """What the reported number is measured on, and nothing else."""
        return self.pictures("test")

    @property
    def class_counts(self) -> dict[str, list[int]]:
        """Side to the number of pictures of each class."""
        k = len(self.classes)
        labels = self.source.labels
        sides = {name: labels[self.split == number] for number, name in enumerate(SIDES)}
        return {name: np.bincount(part[part >= 0], minlength=k).tolist() for name, part in sides.items()}

    @property
    def digests(self) -> dict[str, str]:
        """Side to one SHA-256 over the contents and class names of its pictures: all that training depends on."""
        parts = _PARTS if (self.split == _UNLABELLED_PART).any() else SIDES
        return {name: self._digest(number) for number, name in enumerate(parts)}

    def _digest(self, side: int) -> str:
        names = ("", *self.classes)
        lines = (
            f"{self.survey.digests[i]} {names[self.source.labels[i] + 1]}\n" for i in np.flatnonzero(self.split == side)
        )
        return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def prepare(
    config: DataConfig,
    *,
    labelled: bool = True,
    unlabelled: bool = False,
    source: Source | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Prepared:
    """Open, survey and divide the data of ``config``.

    Args:
        config: the data.
        labelled: labels are needed; without, every picture is taken and classes play no part.
        unlabelled: beside them, pictures without a label are wanted, also from ``config.unlabelled``. Those that are
            like one of validation or test are left out. The labelled ones are divided as if there were no others.
        source: pictures that are open already, instead of ``config.source``.
        workers: threads that read and decode.
        progress: told ``(done, in all)``.

    Raises:
        UsageError: there is no such source, or shares are out of range.
        BadData: too much is unreadable; or, where labels are needed, too little to train or to validate on.
    """
    source = source if source is not None else open_source(config.source)
    if labelled:
        refuse_unlabelled(source)
    others = [without_labels(open_source(place)) for place in config.unlabelled] if unlabelled else []
    source = Joined(source, others) if others else source
    cache, seen = _look(config, source, others, workers, progress)
    usable = seen.usable & ((source.labels != UNLABELLED) | (not labelled))
    source, unused = _without_unused(source, usable) if labelled else (source, ())
    labels = source.labels if labelled else np.zeros(len(source), dtype=np.int64)
    divided = _divide(config, source, seen, labels, usable)
    sides = thin = thinned(divided.sides, labels, seen.digests, divided.groups, config.fraction)
    spared = alike = 0
    if labelled:
        refuse_sides(source, sides, val=config.val)
        sides, spared = _apart(source, sides, divided.near) if config.apart else (sides, 0)
    if unlabelled:
        sides, alike = _with_unlabelled(sides, seen, seen.usable & ~usable)
    return Prepared(
        config=config,
        source=source,
        survey=seen,
        cache=cache,
        split=sides,
        groups=divided.groups,
        unused=unused,
        found=(*source.notices, *cache.notices, *notices(source, seen, seen.usable if unlabelled else usable, unused)),
        divided=(
            *split_notices(source.split, divided.sides, usable),
            *likeness_notices(source, 0 if spared else divided.alike),
            *scene_notices(source.classes if labelled else (), divided.scenes),
            *spared_notices(spared),
            *thin_notices(divided.sides, thin),
            *unlabelled_notices(int((sides == _UNLABELLED_PART).sum()), alike),
            *(class_notices(source, sides) if labelled else ()),
        ),
    )


def _look(
    config: DataConfig, source: Source, others: Sequence[Source], workers: int, progress: Progress | None
) -> tuple[Cache, Survey]:
    """Every picture looked at once, and where its pixels are kept; ``others`` are those that ``source`` has joined."""
    left_out = quarantine_of(config.source, config.quarantine)
    for place, other in zip(config.unlabelled, others, strict=False):
        left_out |= {Joined.other_name(other, name): why for name, why in quarantine_of(place).items()}
    folder = cache_folder(config)
    cache = Cache.open(folder, config.preprocess, int(config.cache_gib * 2**30))
    seen = survey(
        source,
        config.preprocess,
        cache,
        memory=Memory(folder, config.preprocess),
        quarantine=left_out,
        workers=workers,
        progress=progress,
    )
    refuse_bad(source, seen, (config.source, *config.unlabelled[: len(others)]), config.allow_bad)
    return cache, seen


def _apart(source: Source, sides: NDArray[np.int8], near: NDArray[np.int64]) -> tuple[NDArray[np.int8], int]:
    """``sides`` without the training pictures that are like one held out, and how many those are."""
    alike = (sides == TRAIN) & _like_held_out(sides, near)
    kept = np.where(alike, np.int8(LEFT_OUT), sides)
    refuse_alike(source, kept, int(alike.sum()))
    return kept, int(alike.sum())


def _with_unlabelled(sides: NDArray[np.int8], seen: Survey, further: NDArray[np.bool_]) -> tuple[NDArray[np.int8], int]:
    """``sides`` with the ``further`` pictures, and how many of those are left out for being like one held out."""
    if not further.any():
        return sides, 0
    near = near_groups(exact_groups(seen.digests, seen.usable), seen.hashes, seen.thumbnails)
    alike = further & _like_held_out(sides, near)
    return np.where(further & ~alike, np.int8(_UNLABELLED_PART), sides), int(alike.sum())


def _like_held_out(sides: NDArray[np.int8], near: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether a picture is like one of validation or test, or is one."""
    return np.isin(near, near[np.isin(sides, (VAL, TEST))])


def _without_unused(source: Source, usable: NDArray[np.bool_]) -> tuple[Source, tuple[str, ...]]:
    """The source without the classes that no usable picture is of, and their names."""
    empty = np.bincount(source.labels[usable], minlength=len(source.classes)) == 0
    unused = tuple(source.classes[int(i)] for i in np.flatnonzero(empty))
    return (without_classes(source, empty) if unused else source), unused


class _Divided(NamedTuple):
    groups: NDArray[np.int64]
    near: NDArray[np.int64]  # groups of pictures that look alike, whatever stands on which side
    sides: NDArray[np.int8]
    scenes: list[int]  # labels whose pictures are near-duplicates of one another
    alike: int  # pictures of the given train part that stay in it although one on another side looks like them


def _divide(
    config: DataConfig, source: Source, seen: Survey, labels: NDArray[np.int64], usable: NDArray[np.bool_]
) -> _Divided:
    """Group the copies, and put every group on one side."""
    exact = exact_groups(seen.digests, usable)
    near = near_groups(exact, seen.hashes, seen.thumbnails)
    kept, scenes = without_scenes(exact, near, labels)
    sides, lost = draw(config, source, seen, labels, exact=exact, near=kept)
    return _Divided(exact if lost else kept, near, sides, scenes, alike=lost)


def draw(
    config: DataConfig,
    source: Source,
    seen: Survey,
    labels: NDArray[np.int64],
    *,
    exact: NDArray[np.int64],
    near: NDArray[np.int64],
) -> tuple[NDArray[np.int8], int]:
    """The side of every picture, and how many stay where they are although one on another side looks like them."""
    alike, same = (
        split(labels, seen.digests, groups, source.split, val=config.val, test=config.test, salt=config.split_salt)
        for groups in (near, exact)
    )
    lost = int(((alike == LEFT_OUT) & (same != LEFT_OUT)).sum())
    # only a split that the data brings can lose pictures; an official one is not to be gutted for mere likeness
    return (same, lost) if lost > MOST_LEFT_OUT * (exact >= 0).sum() else (alike, 0)


def cache_folder(config: DataConfig) -> Path | None:
    """Where decoded pixels are kept; None where this user has no home."""
    named = config.cache_dir or os.environ.get("VITREOUS_CACHE")
    if named:
        return Path(named).expanduser()
    try:
        return Path.home() / ".cache" / "vitreous"
    except RuntimeError:
        return None


def quarantine_of(source: str, extra: str | None = None) -> dict[str, str]:
    """Picture name to reason, from the list beside ``source`` and from ``extra``."""
    beside = check_folder(source) / NAME
    reasons = read_quarantine(beside) if os.path.exists(source) and beside.exists() else {}
    return reasons | (read_quarantine(extra) if extra else {})
