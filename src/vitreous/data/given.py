"""What people hand over as pictures: files, folders, patterns, bytes, arrays; and each of them looked at.

Knows nothing of networks. A picture that cannot be read is an answer with the reason.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from torch import Tensor

from vitreous.data.image import decode, encode_opened, from_pixels, is_opened
from vitreous.data.listing import SUFFIXES
from vitreous.data.preprocess import Preprocess, fit
from vitreous.errors import BadData

Picture = Any
"""A file, the bytes of one (in a pair with its name), uint8 pixels (h, w), (h, w, 1), (h, w, 3), or a Pillow image."""


class Seen(NamedTuple):
    """What a network is shown of a picture, or why there is nothing to show."""

    name: str
    pixels: Tensor | None = None  # (3, size, size) uint8
    error: str | None = None
    notices: tuple[str, ...] = ()


def look_at(picture: Picture, preprocess: Preprocess) -> Seen:
    """One picture, decoded and preprocessed, or why that cannot be."""
    name = str(picture) if isinstance(picture, (str, Path)) else "picture"
    if is_named(picture):
        name, picture = picture
    try:
        if isinstance(picture, np.ndarray):
            return Seen(name, fit(from_pixels(from_array(picture), preprocess), preprocess))
        if is_opened(picture):
            picture = encode_opened(picture)
        if not isinstance(picture, (str, Path, bytes)):
            raise BadData(f"A {type(picture).__name__} is no picture; give a file, its bytes, or uint8 pixels.")
        data = picture if isinstance(picture, bytes) else read(picture)
        decoded = decode(data, preprocess)
        return Seen(name, fit(decoded.pixels, preprocess), notices=decoded.facts.notices)
    except BadData as error:
        return Seen(name, error=str(error))


def files(place: str | Path) -> list[Path]:
    """The pictures a file, a folder (searched through) or a glob pattern stands for, in order of their names.

    Raises:
        BadData: nothing is there.
    """
    path = Path(place)
    if path.is_dir():
        found = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not _hidden(p, path)
        )
        if not found:
            raise BadData(f"There are no pictures in {place}; give a folder that holds some, or a file.")
        return found
    if path.exists():
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(place), recursive=True) if Path(name).is_file())
    if not found:
        raise BadData(f"There is no file, folder or match for {str(place)!r}; check the path.")
    return found


def read(path: str | Path) -> bytes:
    """The bytes of a regular file; anything else (a pipe, a folder) is not a picture."""
    if not Path(path).exists():
        raise BadData(f"There is no file {path}.")
    if not Path(path).is_file():
        raise BadData(f"{path} is not a file.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}.") from None


def from_array(pixels: np.ndarray) -> np.ndarray:
    """uint8 (h, w), (h, w, 1) or (h, w, 3) -> the same without an axis of length 1.

    Raises:
        BadData: another type or shape. Guessing a scale for floats has cost people whole projects.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        hint = "; multiply by 255 if it lies in [0, 1], and convert it" if pixels.dtype.kind == "f" else ""
        raise BadData(f"An array must be uint8 of shape (h, w) or (h, w, 3), not {pixels.dtype} {pixels.shape}{hint}.")
    if pixels.size == 0:
        raise BadData(f"An array of shape {pixels.shape} has no pixels.")
    return pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def is_named(picture: object) -> TypeGuard[tuple[str, bytes]]:
    """A file's bytes with its name, rather than two pictures."""
    return isinstance(picture, tuple) and [type(part) for part in picture] == [str, bytes]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
