"""The doctor's rules about the set as a whole: copies, classes, sizes, shortcuts, names.

A rule looks at labels, groups and facts and yields findings; it reads no file and changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitreous.data.dataset import Source
from vitreous.data.findings import Finding, Severity, finding
from vitreous.data.image import Facts
from vitreous.data.listing import printable
from vitreous.data.split import SIDES
from vitreous.data.survey import Survey
from vitreous.types import UNLABELLED

IMBALANCE = (3.0, 10.0)
"""Largest class over smallest: from the first on a note, from the second a warning."""
FEW = 10
"""Pictures; a class with fewer is a warning."""
ELONGATED, ELONGATED_SHARE = 1.8, 0.10
"""Longer over shorter side, and the share of pictures beyond it from which letterboxing is advised."""
TILE = 1792
"""Median shorter side in pixels, eight times 224, from which tiling is worth a thought."""
TINY = 32
"""Shorter side in pixels; below it there is little to see."""
SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
"""Training sizes to choose from."""
SHORTCUT = 0.9
"""Share of pictures whose class the file format, the size or greyness alone tells."""


def groups_of(groups: NDArray[np.int64]) -> list[list[int]]:
    """The groups with at least two members, each in rising order."""
    members: dict[int, list[int]] = defaultdict(list)
    for i in np.flatnonzero(groups >= 0).tolist():
        members[int(groups[i])].append(i)
    return [group for group in members.values() if len(group) > 1]


def about_copies(source: Source, exact: NDArray[np.int64], near: NDArray[np.int64]) -> Iterator[Finding]:
    """Copies with different labels, across the sides of a given split, and copies as such."""
    kinds: tuple[tuple[str, list[list[int]], Severity], ...] = (
        ("Exact copies", groups_of(exact), "error"),
        # a group that is exact copies and nothing else was counted already
        ("Near-duplicates", [g for g in groups_of(near) if len({int(exact[i]) for i in g}) > 1], "warning"),
    )
    for what, groups, severity in kinds:
        yield from finding(
            severity,
            "contradiction",
            f"{what} with different labels",
            _pairs(source, groups, source.labels.tolist()),
            "Decide which label is right and delete the other copy.",
        )
        if source.split is not None:
            sides = [SIDES[side] for side in source.split.tolist()]
            yield from finding(
                severity,
                "leak",
                f"{what} in two parts of the split",
                _pairs(source, groups, sides),
                "The one in the earlier part is left out of it, so that the test number stays honest.",
            )
        yield from finding(
            "note",
            "copy",
            what,
            (" = ".join(source.name(i) for i in group[:3]) for group in groups),
            "They stay on one side of the split; delete all but one of each if they are not meant.",
        )


def about_classes(source: Source, usable: NDArray[np.bool_], scenes: Sequence[int]) -> Iterator[Finding]:
    """Labels that are missing, and classes that are small, uneven, or show one scene only."""
    unlabelled = np.flatnonzero(source.labels == UNLABELLED)
    names = (source.name(int(i)) for i in unlabelled)
    if len(unlabelled) == len(source):
        return  # that training would refuse this is said already
    yield from finding("warning", "unlabelled", "Pictures without a label", names, "They are left out of training.")
    counts = np.bincount(source.labels[usable & (source.labels >= 0)], minlength=len(source.classes))
    title = [f"{name} ({count})" for name, count in zip(source.classes, counts.tolist(), strict=True)]
    listed = np.bincount(source.labels[source.labels >= 0], minlength=len(counts))
    empty, single = np.flatnonzero((counts == 0) & (listed > 0)), np.flatnonzero(counts == 1)
    few = np.flatnonzero((counts > 1) & (counts < FEW))
    add = "Add pictures, or remove the class."
    left = "They are no classes in training. " + add
    yield from finding("warning", "empty-class", "Classes without a readable picture", (title[i] for i in empty), left)
    yield from finding("warning", "single-class", "Classes with one picture", (title[i] for i in single), add)
    yield from finding(
        "warning", "few", f"Classes with fewer than {FEW} pictures", (title[i] for i in few), "Add pictures if you can."
    )
    yield from finding(
        "warning",
        "scene",
        "Classes that show one scene only",
        (source.classes[label] for label in scenes if label >= 0),
        "Add pictures of other scenes: one film or a fixed camera teaches the background.",
    )
    yield from _about_balance(counts, title)


def about_sizes(source: Source, seen: Survey) -> Iterator[Finding]:
    """Shapes and sizes that the default preprocessing would not do justice to."""
    known = [(source.name(i), f) for i, f in enumerate(seen.facts) if f is not None]
    long = [f"{name} ({f.width} x {f.height})" for name, f in known if _aspect(f) > ELONGATED]
    if len(long) > ELONGATED_SHARE * len(known):
        remedy = "Use --resize letterbox: the central square would cut off what lies at the ends."
        yield from finding("warning", "elongated", f"Longer than {ELONGATED} times their width", long, remedy)
    tiny = (f"{name} ({f.width} x {f.height})" for name, f in known if min(f.width, f.height) < TINY)
    yield from finding("note", "tiny", f"Smaller than {TINY} pixels", tiny, "They are enlarged; little is to be seen.")
    if known and float(np.median([min(f.width, f.height) for _, f in known])) >= TILE:
        large = (name for name, f in known if min(f.width, f.height) >= TILE)
        remedy = "If what matters covers less than a tenth of the width, cut the pictures into tiles first."
        yield from finding("note", "large", f"Shorter side of {TILE} pixels or more", large, remedy)


_ATTRIBUTES: tuple[tuple[str, Callable[[Facts], object]], ...] = (
    ("file format", lambda f: f.format),
    ("size in pixels", lambda f: (f.width, f.height)),
    ("colour mode", lambda f: f.mode),
)


def about_shortcuts(source: Source, seen: Survey) -> Iterator[Finding]:
    """Properties of the file that give the class away, such as one class saved as PNG and the other as JPEG."""
    known = [(f, y) for f, y in zip(seen.facts, source.labels.tolist(), strict=True) if f is not None and y >= 0]
    most = max(Counter(y for _, y in known).values(), default=0)
    for what, attribute in _ATTRIBUTES:
        by_value: dict[object, Counter[int]] = defaultdict(Counter)
        for facts, label in known:
            by_value[attribute(facts)][label] += 1
        # a value that few pictures share would tell their class by chance
        common = {v: c for v, c in by_value.items() if c.total() >= FEW}
        told = sum(max(c.values()) for c in common.values())
        if len(common) > 1 and told >= SHORTCUT * len(known) and most < 0.75 * len(known):
            examples = (f"{_show(v)}: {source.classes[c.most_common(1)[0][0]]}" for v, c in common.items())
            remedy = "Save all pictures the same way: a network may learn this instead of what they show."
            yield from finding("warning", "shortcut", f"The {what} tells the class", examples, remedy)


def about_names(source: Source) -> Iterator[Finding]:
    """Names that clash on other machines, files that were not taken, and what the source itself remarked."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for i in range(len(source)):
        by_name[source.name(i).casefold()].append(source.name(i))
    clashes = (" / ".join(names) for names in by_name.values() if len(names) > 1)
    remedy = "Rename one: they are the same file on Windows and macOS."
    yield from finding("note", "case", "Names that differ only in case", clashes, remedy)
    yield from finding(
        "note", "stray", "Other files, not taken", source.strays, "Nothing, unless you miss some of them."
    )
    for notice in source.notices:
        yield Finding(
            severity="warning", kind="source", title=notice, count=1, examples=(), remedy="Mend it if it was not meant."
        )


def advice(seen: Survey) -> dict[str, object]:
    """Which training size and policy suit the pictures: the size that three quarters need not be enlarged to."""
    facts = [f for f in seen.facts if f is not None]
    if not facts:
        return {}
    quarter = float(np.percentile([min(f.width, f.height) for f in facts], 25))
    elongated = float(np.mean([_aspect(f) > ELONGATED for f in facts]))
    return {
        "size": max((size for size in SIZES if size <= quarter), default=SIZES[0]),
        "resize": "letterbox" if elongated > ELONGATED_SHARE else "crop",
    }


def _about_balance(counts: NDArray[np.int64], title: Sequence[str]) -> Iterator[Finding]:
    held = counts[counts > 0]
    ratio = float(held.max() / held.min()) if len(held) > 1 else 1.0
    if ratio >= IMBALANCE[0]:
        severity: Severity = "warning" if ratio >= IMBALANCE[1] else "note"
        uneven = [title[i] for i in (int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin()))]
        remedy = "Look at the score of each class, not at accuracy alone."
        yield from finding(severity, "imbalance", f"Largest class {ratio:.3g} times the smallest", uneven, remedy)


def _pairs(source: Source, groups: list[list[int]], values: Sequence[object]) -> Iterator[str]:
    """For each group whose members have different ``values``: two such members, by name."""
    for first, *rest in groups:
        other = next((i for i in rest if values[i] != values[first]), None)
        if other is not None:
            yield f"{printable(source.name(first))} = {printable(source.name(other))}"


def _aspect(facts: Facts) -> float:
    return max(facts.width, facts.height) / min(facts.width, facts.height)


def _show(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
