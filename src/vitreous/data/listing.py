"""Which files are pictures, and what their folder or table says about them: names, labels, classes, given split.

Looks at names and kinds of files only; opens none but the table itself. Knows nothing of pixels.

A folder is read as, in this order:

    root/train/CLASS/..., root/val/CLASS/..., root/test/CLASS/...   labelled, with a split of its own
    root/CLASS/...                                                  labelled
    root/*.jpg                                                      unlabelled

Links that lead out of the root are left out with a notice unless ``follow_links``; linked folders inside the root
are found at their own place. Only regular files are listed: never a pipe, a device, or a folder called ``x.jpg``.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from vitreous.errors import BadData
from vitreous.types import UNLABELLED

SIDES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
"""What folders and split columns may be called, without regard to case."""

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
            ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
            ".heic", ".heif", ".jp2", ".jxl")  # fmt: skip
"""What counts as a picture by name. The last four are refused when decoded; they are listed so that nobody's
pictures vanish without a word."""

_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})


class Names(Sequence[str]):
    """File names in one buffer: a hundredth of the objects of a list, and nothing for a forked worker to copy.

    Names that are not valid UTF-8 survive as Python's surrogate escapes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._buffer = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return os.fsdecode(self._buffer[self._ends[index] : self._ends[index + 1]])


class Listing(NamedTuple):
    """What a folder or a table lists. All arrays have one entry a picture."""

    root: str
    names: Names  # relative to root, with forward slashes
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: NDArray[np.int8] | None
    strays: tuple[str, ...]  # files that were not taken, for the doctor
    notices: tuple[str, ...]


def _is_our_own(entry: os.DirEntry[str]) -> bool:
    """Whether this is what the doctor wrote beside a part of the data, which is no class of it."""
    return entry.name.endswith(".check") and os.path.exists(os.path.join(entry.path, "check.json"))


def natural(name: str) -> tuple[tuple[object, ...], str]:
    """Sort key by which ``2`` comes before ``10`` and ``b`` after ``A``."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if i % 2 else part.casefold() for i, part in enumerate(parts)), name


def printable(name: str) -> str:
    """``name`` with line breaks, control characters and undecodable bytes made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def list_folder(folder: str | Path, *, follow_links: bool = False) -> Listing:
    """List the pictures below ``folder``; see the head of this file for the layouts.

    Raises:
        BadData: there is no picture at all, or the folder cannot be read.
    """
    walk = _Walk(os.path.realpath(folder), follow_links)
    folders, loose = walk.level("")
    sides = {f: SIDES[f.casefold()] for f in folders if f.casefold() in SIDES}
    split_given = 0 in sides.values() and (len(set(sides.values())) > 1 or len(sides) == len(folders))
    found: list[_Found] = []
    if split_given:
        for name, side in sorted(sides.items(), key=lambda item: (item[1], item[0])):
            found += _classes_of(walk, name, *walk.level(name), side)
        walk.leave(loose, "pictures beside the folders of the split")
        walk.leave([f for f in folders if f not in sides], "folders beside those of the split")
    else:
        found = _classes_of(walk, "", folders, loose, 0)
    if not any(group.names for group in found):
        raise BadData(_nothing_found(folder, walk))
    return _assemble(walk, found, split_given and len(set(sides.values())) > 1)


class _Found(NamedTuple):
    """The pictures of one class in one part of the split; no class where the folder was flat."""

    label: str | None
    side: int
    names: list[str]


@dataclass
class _Walk:
    """One reading of a folder tree: what it met on the way and did not take."""

    root: str
    follow_links: bool
    strays: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    linked: dict[str, str] = field(default_factory=dict)  # name -> real path, of linked files
    refused: int = 0  # links that lead out
    seen: set[str] = field(default_factory=set)  # real paths of linked folders

    def level(self, folder: str) -> tuple[list[str], list[str]]:
        """Folders and pictures directly in ``folder``, as sorted names relative to the root."""
        folders: list[str] = []
        pictures: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name.casefold() in _LITTER or _is_our_own(entry):
                        continue
                    self._sort_in(entry, f"{folder}/{entry.name}" if folder else entry.name, folders, pictures)
        except OSError as error:
            if not folder:
                raise BadData(f"{printable(self.root)} cannot be read ({error.strerror}); check its rights.") from None
            self.notices.append(f"The folder {printable(folder)} cannot be read ({error.strerror}).")
        return sorted(folders, key=natural), sorted(pictures)

    def pictures(self, folder: str) -> list[str]:
        """All pictures at any depth below ``folder``."""
        names: list[str] = []
        waiting = [folder]
        while waiting:
            folders, pictures = self.level(waiting.pop())
            names += pictures
            waiting += reversed(folders)
        return names

    def leave(self, names: list[str], what: str) -> None:
        """Leave out ``names`` and say so."""
        if names:
            self.strays += names
            self.notices.append(f"{len(names)} {what} were left out, {printable(names[0])} among them.")

    def _sort_in(self, entry: os.DirEntry[str], name: str, folders: list[str], pictures: list[str]) -> None:
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
            if entry.is_symlink() and (is_folder or is_file) and not self._admits(entry.path, name, is_folder):
                return
        except OSError:  # a link that ends in itself
            is_folder = is_file = False
        if is_folder:
            folders.append(name)
        elif is_file and os.path.splitext(name)[1].lower() in SUFFIXES:
            pictures.append(name)
        else:
            self.strays.append(name)

    def _admits(self, path: str, name: str, is_folder: bool) -> bool:
        real = os.path.realpath(path)
        inside = real == self.root or real.startswith(os.path.join(self.root, ""))
        if not inside and not self.follow_links:
            self.refused += 1
            self.strays.append(name)
            return False
        if not is_folder:
            self.linked[name] = real
            return True
        new = not inside and real not in self.seen
        self.seen.add(real)
        return new


def _classes_of(walk: _Walk, folder: str, folders: list[str], loose: list[str], side: int) -> list[_Found]:
    """The class folders of ``folder``; a flat folder of pictures is one group without a class."""
    found = [_Found(unicodedata.normalize("NFC", os.path.basename(f)), side, walk.pictures(f)) for f in folders]
    if loose and not any(group.names for group in found):
        return [_Found(None, side, loose)]
    walk.leave(loose, f"pictures without a class folder in {printable(folder) or 'the root'}")
    if (
        len(folders) == 1
        and found[0].names
        and not any(n.count("/") == folders[0].count("/") + 1 for n in found[0].names)
    ):
        walk.notices.append(
            f"All pictures lie in folders inside {printable(folders[0])}: did you mean to give that one?"
        )
    return found


def _assemble(walk: _Walk, found: list[_Found], split_given: bool) -> Listing:
    if any(group.label is not None and group.names for group in found):
        for group in found:
            if group.label is None:
                walk.leave(group.names, "pictures without a class folder")
        found = [group for group in found if group.label is not None]
    places = {os.path.join(walk.root, name) for group in found for name in group.names if name not in walk.linked}
    repeats = {name for name, real in walk.linked.items() if real in places}
    found = [group._replace(names=[n for n in group.names if n not in repeats]) for group in found]
    named = {g.label for g in found if g.label is not None}
    classes = tuple(sorted({g.label for g in found if g.label is not None and g.names}, key=natural))
    found = [group for group in found if group.names]
    number = {name: i for i, name in enumerate(classes)}
    names = [n for group in found for n in group.names]
    sizes = [len(group.names) for group in found]
    labels = np.repeat([UNLABELLED if g.label is None else number[g.label] for g in found], sizes).astype(np.int64)
    sides = np.repeat([group.side for group in found], sizes).astype(np.int8)
    order = np.asarray(sorted(range(len(names)), key=lambda i: (sides[i], labels[i], names[i])), np.int64)
    split = sides[order] if split_given else None
    empty = sorted(named.difference(classes), key=natural)
    notices = [*walk.notices, *_remarks(walk, classes, empty, labels[order], split)]
    return Listing(
        walk.root,
        Names(names[i] for i in order),
        labels[order],
        classes,
        split,
        tuple(sorted(walk.strays)),
        tuple(notices),
    )


def _remarks(
    walk: _Walk,
    classes: tuple[str, ...],
    empty: Sequence[str],
    labels: NDArray[np.int64],
    split: NDArray[np.int8] | None,
) -> Iterable[str]:
    if walk.refused:
        yield f"{walk.refused} links lead out of {printable(walk.root)} and were left out."
    if empty:
        shown = ", ".join(printable(name) for name in empty[:3]) + ", ..." * (len(empty) > 3)
        many = (
            f"{len(empty)} class folders have no pictures and are"
            if empty[1:]
            else "A class folder has no pictures and is"
        )
        yield f"{many} left out of the classes: {shown}."
    for a, b in pairwise(sorted(classes, key=lambda name: (name.casefold(), name))):
        if a.casefold() == b.casefold():
            yield f"The classes {printable(a)} and {printable(b)} differ only in case."
    for side, part in enumerate(("train", "val", "test") if split is not None else ()):
        chosen = labels[split == side]
        if chosen.size:
            for i in np.flatnonzero(np.bincount(chosen[chosen >= 0], minlength=len(classes)) == 0):
                yield f"The class {printable(classes[i])} has no pictures in {part}."


def _nothing_found(folder: str | Path, walk: _Walk) -> str:
    met = f"; {len(walk.strays)} other files or links lie there" if walk.strays else ""
    links = f", {walk.refused} of them links that lead out of it" if walk.refused else ""
    return (
        f"{printable(str(folder))} holds no pictures{met}{links}; "
        "give a folder with one folder of pictures for each class, or a folder of pictures."
    )
