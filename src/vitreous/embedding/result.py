"""What ``embed`` hands back: the file it wrote, and its arrays, each read when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vitreous.store.pieces import read_rows

Numbers = NDArray[Any]


class Embedding:
    """Features of n pictures. What is known without the file is told without it: patches may be larger than memory.

    Args:
        file: what ``embed`` wrote.
        left_out: names of pictures without a row, and why.
        shapes: of its features by name: ``pooled``, and ``patches`` if they were asked for.
    """

    def __init__(self, file: Path, left_out: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.file, self.left_out, self.shapes = file, dict(left_out), dict(shapes)

    def __repr__(self) -> str:
        n, d = self.shapes["pooled"]
        return f"<features of {n} pictures, {d} numbers each, in {self.file}>"

    @cached_property
    def names(self) -> Numbers:
        """(n,) names of the pictures, relative to the folder they came from."""
        return read_rows(self.file, "name")

    @cached_property
    def labels(self) -> Numbers:
        """(n,) class names, empty where there is no label."""
        return read_rows(self.file, "label")

    @cached_property
    def pooled(self) -> Numbers:
        """(n, d) float32: one vector a picture, what a classifier would see."""
        return read_rows(self.file, "pooled")

    @cached_property
    def patches(self) -> Numbers | None:
        """(n, d, h, w) float16: the last map; None if it was not asked for."""
        return read_rows(self.file, "patches") if "patches" in self.shapes else None
