"""Where pictures come from, and the data set that training reads: index -> bytes, index -> Sample.

A ``Source`` is cheap: names, labels, classes, and bytes on demand. ``Pictures`` adds pixels, through the cache.
Knows nothing of augmentation, order or batches.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitreous.data.cache import Cache
from vitreous.data.image import MAX_BYTES, Preprocess, decode, encode_png
from vitreous.data.listing import Listing, list_folder, printable
from vitreous.data.table import list_table
from vitreous.errors import BadData, UnreadableImage, UsageError
from vitreous.types import UNLABELLED, Sample

BUILTIN = ("digits", "shapes", "shapes-local", "shapes-global")
"""Names that ``open_source`` knows without any file."""

NO_FILE = "no such file"
"""Why a picture that a table names, and that is not there, cannot be used."""


class Source(ABC):
    """A numbered list of pictures that are read on demand, from any number of threads.

    Attributes:
        root: where they come from, for people to read.
        classes: class names in the order of the labels; empty if nothing is labelled.
        labels: (n,) int64, ``UNLABELLED`` where there is no label.
        split: (n,) int8 of 0 train, 1 val, 2 test, if the data come with a split of their own.
        strays: files that lie there and were not taken.
        notices: what the user may want to know, one sentence each.
    """

    root: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    split: NDArray[np.int8] | None
    strays: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def name(self, i: int) -> str:
        """The stable name of picture ``i``, relative to ``root``; may hold any character a file name can."""

    @abstractmethod
    def read(self, i: int) -> bytes:
        """The file of picture ``i``.

        Raises:
            BadData: it cannot be read; ``UnreadableImage`` if it is gone, no regular file, or too large.
        """

    def mask(self, i: int) -> NDArray[np.uint8] | None:
        """(h, w) segmentation mask of picture ``i``, in the pixels of the file; None where there is none."""
        return None

    def describe(self) -> dict[str, Any]:
        """What this source is, as a small JSON object."""
        parts = None if self.split is None else np.bincount(self.split, minlength=3).tolist()
        return {
            "root": self.root,
            "pictures": len(self),
            "classes": len(self.classes),
            "labelled": int((self.labels != UNLABELLED).sum()),
            "split": parts and dict(zip(("train", "val", "test"), parts, strict=True)),
        }


class FileSource(Source):
    """Pictures that lie in files, as a folder or a table lists them."""

    def __init__(self, listing: Listing) -> None:
        self.root, self._names, self.labels, self.classes, self.split, self.strays, self.notices = listing

    def name(self, i: int) -> str:
        return self._names[i]

    def read(self, i: int) -> bytes:
        return _read_regular(os.path.join(self.root, self._names[i]), self._names[i])


class ArraySource(Source):
    """Pictures that are in memory already. ``read`` gives lossless PNG, so that all later steps are the same.

    Args:
        images: (n, h, w) or (n, h, w, 3) uint8.
        labels: (n,) class indices; ``UNLABELLED`` where there is none.
        classes: class names.
        names: a name for each picture; its number otherwise.
        split: (n,) of 0 train, 1 val, 2 test.
        root: what the source is called.
        masks: (n, h, w) uint8.

    Raises:
        UsageError: shapes or types do not fit each other.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: Sequence[int] | NDArray[Any],
        classes: Sequence[str],
        *,
        names: Sequence[str] | None = None,
        split: Sequence[int] | NDArray[Any] | None = None,
        root: str = "memory",
        masks: NDArray[np.uint8] | None = None,
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
            raise UsageError(
                f"images are {images.dtype} of shape {images.shape}; give uint8 of shape (n, h, w) or (n, h, w, 3)."
            )
        for what, values in (("labels", labels), ("names", names), ("split", split), ("masks", masks)):
            if values is not None and len(values) != len(images):
                raise UsageError(f"there are {len(images)} images but {len(values)} {what}; give one for each.")
        self.images, self.masks, self.root, self.classes = images, masks, root, tuple(classes)
        self.labels = np.asarray(labels, np.int64)
        if len(self.labels) and not UNLABELLED <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise UsageError(f"labels must lie from {UNLABELLED} to {len(self.classes) - 1}, one for each class name.")
        self.split = None if split is None else np.asarray(split, np.int8)
        self._names = names

    def name(self, i: int) -> str:
        return f"{range(len(self))[i]:06d}.png" if self._names is None else self._names[i]

    def read(self, i: int) -> bytes:
        pixels = torch.from_numpy(np.array(self.images[i]))  # a copy: the array may be read-only
        return encode_png(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))

    def mask(self, i: int) -> NDArray[np.uint8] | None:
        return None if self.masks is None else self.masks[i]


class Joined(Source):
    """Several sources as one: the first with its classes and split, then the pictures of the others, all for training.

    Args:
        first: what the whole is called after.
        others: without labels.
    """

    def __init__(self, first: Source, others: Sequence[Source]) -> None:
        self._parts = (first, *others)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.root, self.classes = first.root, first.classes
        self.labels = np.concatenate([part.labels for part in self._parts])
        rest = np.zeros(len(self.labels) - len(first), np.int8)
        self.split = None if first.split is None else np.concatenate([first.split, rest])
        self.strays = first.strays
        self.notices = tuple(dict.fromkeys(sentence for part in self._parts for sentence in part.notices))

    def name(self, i: int) -> str:
        part, place = self._find(i)
        return part.name(place) if part is self._parts[0] else self.other_name(part, part.name(place))

    @staticmethod
    def other_name(other: Source, name: str) -> str:
        """What the picture ``name`` of one of the others is called in the whole."""
        return os.path.join(other.root, name)

    def read(self, i: int) -> bytes:
        part, place = self._find(i)
        return part.read(place)

    def mask(self, i: int) -> NDArray[np.uint8] | None:
        part, place = self._find(i)
        return part.mask(place)

    def _find(self, i: int) -> tuple[Source, int]:
        part = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._parts[part], i - int(self._starts[part])


def without_labels(source: Source) -> Source:
    """``source`` as if nobody knew of which class and on which side its pictures are."""
    other = copy.copy(source)
    other.classes, other.split = (), None
    other.labels = np.full(len(source), UNLABELLED, np.int64)
    return other


def without_classes(source: Source, unused: NDArray[np.bool_]) -> Source:
    """``source`` as if the classes marked in ``unused`` (k,) were not: their pictures have no label."""
    kept = np.flatnonzero(~unused)
    number = np.full(len(source.classes) + 1, UNLABELLED, np.int64)  # the last is where UNLABELLED points to
    number[kept] = np.arange(len(kept))
    other = copy.copy(source)
    other.classes, other.labels = tuple(source.classes[int(i)] for i in kept), number[source.labels]
    return other


class Pictures:
    """The data set that training and evaluation read: position -> Sample with the pixels of step 1.

    Pixels come from ``cache`` if they are there; otherwise the file is read and decoded again, and kept if there is
    room. Every sample owns its memory. Safe to read from many threads at once.

    Args:
        source: where the pictures come from.
        indices: (n,) which of them, in order.
        preprocess: the declared preprocessing; its step 1 is applied.
        cache: opened with the same ``preprocess``; without it every reading decodes.
        digests: sha256 of each picture of ``source`` (not of ``indices``), as the survey found them.

    Attributes:
        labels: (n,) int64, the labels of ``indices``.
        classes: class names of the source.
    """

    def __init__(
        self,
        source: Source,
        indices: Sequence[int] | NDArray[Any],
        preprocess: Preprocess,
        *,
        cache: Cache | None = None,
        digests: Sequence[str] | None = None,
    ) -> None:
        if (cache is None) != (digests is None):
            raise UsageError("a cache is asked by digest; give cache and digests together.")
        self.source, self.preprocess, self.classes = source, preprocess, source.classes
        self.indices = np.asarray(indices, np.int64)
        self.labels = source.labels[self.indices]
        self._cache, self._digests = cache, digests

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample:
        """The sample at ``position``; its ``index`` is the number in the source.

        Raises:
            BadData: the file is gone, damaged, or not the one that was surveyed; names it.
        """
        index = int(self.indices[position])
        return Sample(self._pixels(index), int(self.labels[position]), index)

    def _pixels(self, index: int) -> torch.Tensor:
        digest = self._digests[index] if self._digests is not None else None
        if self._cache is not None and digest is not None:
            pixels = self._cache.get(digest)
            if pixels is not None:
                return pixels
        where = printable(self.source.name(index))
        try:
            data = self.source.read(index)
            if digest is not None and hashlib.sha256(data).hexdigest() != digest:
                raise BadData(f"{where} has changed since it was looked over; start again.")
            pixels = decode(data, self.preprocess).pixels
        except UnreadableImage as error:
            raise BadData(f"{where} cannot be used: {error}.") from None
        if self._cache is not None and digest is not None:
            self._cache.put(digest, pixels)
        return pixels


def open_source(spec: str | Path, *, follow_links: bool = False) -> Source:
    """The source that ``spec`` names: a built-in set, a folder, or a ``.csv`` table.

    Args:
        spec: one of ``BUILTIN``, or a path. ``./digits`` is a folder, ``digits`` is the built-in set.
        follow_links: also take files that links lead to outside the folder; a table names its files itself.

    Raises:
        UsageError: there is no such name or path; the nearest built-in name is given.
        BadData: what is there cannot be used as a data set.
    """
    if spec in BUILTIN:
        from vitreous.data.builtin import open_builtin

        return open_builtin(str(spec))
    path = Path(spec)
    if os.path.isdir(spec):
        return FileSource(list_folder(path, follow_links=follow_links))
    if os.path.isfile(spec) and path.suffix.lower() in (".csv", ".tsv"):
        return FileSource(list_table(path))
    if os.path.exists(spec):
        remedy = (
            "unpack it first" if path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".7z") else "give the folder"
        )
        raise BadData(f"{printable(str(spec))} is neither a folder nor a .csv table; {remedy}.")
    near = difflib.get_close_matches(str(spec), BUILTIN, n=1)
    hint = f"did you mean the built-in set {near[0]}?" if near else f"the built-in sets are {', '.join(BUILTIN)}."
    raise UsageError(f"There is no folder or table {printable(str(spec))!r}; {hint}")


def _read_regular(path: str, name: str) -> bytes:
    try:
        # not to wait for a writer, should the file have become a pipe since it was listed
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage("not a regular file")
            if status.st_size > MAX_BYTES:
                raise UnreadableImage(f"too large: {status.st_size:,} bytes, the limit is {MAX_BYTES:,}")
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UnreadableImage(NO_FILE) from None
    except OSError as error:
        raise BadData(f"{printable(name)} cannot be read ({error.strerror}); check that it is still there.") from None
