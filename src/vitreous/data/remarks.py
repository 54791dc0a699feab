"""What is said about a data set between opening it and training on it: refusals, and notices.

Each is one sentence that ends with what to do or what was done. Looks at counts and names; changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitreous.data.dataset import NO_FILE, Source
from vitreous.data.listing import printable
from vitreous.data.split import LEFT_OUT, SIDES, TEST, TRAIN, VAL
from vitreous.data.survey import Survey
from vitreous.errors import BadData
from vitreous.types import UNLABELLED


def refuse_unlabelled(source: Source) -> None:
    """Raise ``BadData`` for a source that names fewer than two classes."""
    where = printable(source.root)
    if not (source.labels != UNLABELLED).any():
        raise BadData(
            f"The pictures of {where} have no labels; sort them into one folder for each class, or give a table with "
            "the columns path,label."
        )
    if len(source.classes) < 2:
        raise BadData(
            f"{where} has only one class, {printable(source.classes[0])}{_aside(source)}; a classifier needs "
            "pictures of at least two, each with a folder or a label of its own."
        )


def _aside(source: Source) -> str:
    """What lay beside the only class and may have been meant as another."""
    said = next((notice for notice in source.notices if "left out" in notice), "")
    return f" ({said.removesuffix('.')})" if said else ""


def refuse_bad(source: Source, seen: Survey, places: Sequence[str], allow_bad: float) -> None:
    """Raise ``BadData`` if nothing is left, or if more than the share ``allow_bad`` of the pictures is unreadable."""
    looked, bad = len(seen) - len(seen.quarantined), len(seen.errors)
    if not looked:
        raise BadData(f"All {len(seen)} pictures of {printable(source.root)} are in quarantine; shorten the list.")
    if bad > allow_bad * looked or bad == looked:
        shown = "; ".join(f"{printable(source.name(i))}: {reason}" for i, reason in list(seen.errors.items())[:3])
        accept = "" if bad == looked else f", or accept them with `--allow-bad {np.ceil(1000 * bad / looked) / 1000:g}`"
        if NO_FILE in seen.errors.values():
            shown += f"; a path that is not absolute starts at {printable(source.root)}"
        checks = " and ".join(f"`vitreous check {printable(place)}`" for place in places)
        raise BadData(
            f"{bad} of {looked} pictures cannot be used, more than the share of {allow_bad:g} allowed ({shown}); "
            f"run {checks} to list them all and set them aside{accept}."
        )


def refuse_sides(source: Source, sides: NDArray[np.int8], *, val: float) -> None:
    """Raise ``BadData`` if there are fewer than two classes to train on, or to make choices on."""
    train = source.labels[sides == TRAIN]
    if not len(train):
        raise BadData(
            "The data's own split has no usable training pictures; add some, or remove the split so that one is drawn."
        )
    if len(np.unique(train)) < 2:
        raise BadData(
            f"All pictures that can be trained on are of class {printable(source.classes[int(train[0])])}; "
            "add readable pictures of another."
        )
    held = np.unique(source.labels[sides == VAL])
    if val > 0 and not len(held):
        raise BadData(
            "There is nothing to validate on: no class has two different pictures; add some, or do without with "
            "--set data.val=0."
        )
    if val > 0 and len(held) < 2:
        raise BadData(
            f"There is too little to choose by: all pictures to validate on are of class "
            f"{printable(source.classes[int(held[0])])}; add pictures of the others (twenty of each class are a "
            "start), or do without with --set data.val=0."
        )


def refuse_alike(source: Source, sides: NDArray[np.int8], spared: int) -> None:
    """Raise ``BadData`` if too little is left to train on without the ``spared`` pictures."""
    left = source.labels[sides == TRAIN]
    if spared and len(np.unique(left)) < 2:
        raise BadData(
            f"{spared:,} of {counted(spared + len(left))} to learn from look like others in validation or test, "
            "as in one film, and what is left is of fewer than two classes; add pictures of other scenes, or learn "
            "from these too with --set data.apart=false."
        )


def notices(source: Source, seen: Survey, usable: NDArray[np.bool_], unused: Sequence[str]) -> Iterator[str]:
    """What was left out: pictures, and the classes ``unused`` that no usable picture is of."""
    if seen.quarantined:
        yield f"Left out as they are in quarantine: {counted(len(seen.quarantined))}."
    if seen.errors:
        first = next(iter(seen.errors))
        example = f"{printable(source.name(first))}: {seen.errors[first]}"
        yield f"Left out as they cannot be used: {counted(len(seen.errors))} ({example})."
    unlabelled = int((seen.usable & ~usable).sum())
    if unlabelled:
        yield f"Left out as they have no label: {counted(unlabelled)}."
    if unused:
        yield f"Left out of the classes as no picture of them can be used: {_names(unused, np.arange(len(unused)))}."


def class_notices(source: Source, sides: NDArray[np.int8]) -> Iterator[str]:
    """Which classes lack pictures on a side that others have."""
    counts = np.stack(
        [
            np.bincount(source.labels[(sides == s) & (source.labels >= 0)], minlength=len(source.classes))
            for s in range(3)
        ]
    )  # (3, k)
    gone = np.flatnonzero(counts.sum(axis=0) == 0)
    if gone.size:
        yield f"All pictures of {_names(source.classes, gone)} were left out for copies in other classes."
    for side in (TRAIN, VAL, TEST):
        lacking = np.flatnonzero((counts[side] == 0) & (counts.sum(axis=0) > 0))
        if counts[side].any() and lacking.size:
            yield f"No {SIDES[side]} picture of {_names(source.classes, lacking)}; add more pictures of it."
    if not counts[TEST].any():
        yield "There are no test pictures; the number reported is that of validation, which flatters."


def scene_notices(classes: Sequence[str], scenes: Sequence[int]) -> Iterator[str]:
    """Which of the ``classes`` show one scene only; without any, that all pictures do."""
    if scenes:
        which = f" of {_names(classes, np.array(scenes))}" if classes else ""
        yield (
            f"All pictures{which} look alike, as from one film or a fixed camera, so "
            "likenesses were divided between the sides: expect worse on other scenes than the numbers say."
        )


def likeness_notices(source: Source, alike: int) -> Iterator[str]:
    """That near-duplicates across a given split are too many to be left out."""
    if alike:
        yield (
            f"{counted(alike)} of the given train part of {printable(source.root)} look like others in validation or "
            "test, as in one film; too many to leave out, so expect worse on other pictures than the numbers say."
        )


def spared_notices(count: int) -> Iterator[str]:
    """How many pictures are learned from by nobody, for the sake of the numbers."""
    if count:
        yield f"Left out of train as they look like one of validation or test: {counted(count)}."


def counted(n: int, what: str = "picture") -> str:
    """``1 picture``, ``2,000 pictures``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def split_notices(given: NDArray[np.int8] | None, sides: NDArray[np.int8], usable: NDArray[np.bool_]) -> Iterator[str]:
    """What was drawn, or left out for its copies, where the data bring a split of their own."""
    if given is None:
        return
    for side in (TRAIN, VAL):
        copies = int(((given == side) & usable & (sides == LEFT_OUT)).sum())
        if copies:
            further = "validation or test" if side == TRAIN else "test"
            yield f"Left out of {SIDES[side]} as they have a copy in {further}: {counted(copies)}."
    for side, use in ((VAL, "choices must not be made on test"), (TEST, "choices are made on validation")):
        drawn = int(((given == TRAIN) & (sides == side)).sum())
        if drawn and (given != TRAIN).any():
            yield f"The data has no {SIDES[side]} part; {counted(drawn)} for it came from train, as {use}."


def thin_notices(sides: NDArray[np.int8], used: NDArray[np.int8]) -> Iterator[str]:
    """How many training pictures a fraction of them is."""
    there, kept = int((sides == TRAIN).sum()), int((used == TRAIN).sum())
    if kept < there:
        yield f"Of {there:,} training pictures {kept:,} are used, as data.fraction says."


def unlabelled_notices(count: int, alike: int) -> Iterator[str]:
    """How many pictures teach without a label, and how many may not."""
    if count:
        yield f"Without a label, to be learned from all the same: {counted(count)}."
    if alike:
        yield f"Left out of those as they are like one of validation or test: {counted(alike)}."


def _names(classes: Sequence[str], indices: NDArray[np.int64]) -> str:
    shown = ", ".join(printable(classes[int(i)]) for i in indices[:3])
    return f"{len(indices)} classes ({shown}, ...)" if len(indices) > 3 else f"class {shown}"
