"""What ``embed`` hands back: the file it wrote, and its arrays, read when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vitreous.store.pieces import read_rows

Numbers = NDArray[Any]


class Embedding:
    """Features of n pictures.

    Args:
        file: what ``embed`` wrote.
        left_out: names of pictures without a row, and why.
    """

    def __init__(self, file: Path, left_out: Mapping[str, str]) -> None:
        self.file, self.left_out = file, dict(left_out)

    def __repr__(self) -> str:
        return f"<features of {len(self.names)} pictures, {self.pooled.shape[1]} numbers each, in {self.file}>"

    @cached_property
    def _arrays(self) -> dict[str, Numbers]:
        return read_rows(self.file)

    @property
    def names(self) -> Numbers:
        """(n,) names of the pictures, relative to the folder they came from."""
        return self._arrays["name"]

    @property
    def labels(self) -> Numbers:
        """(n,) class names, empty where there is no label."""
        return self._arrays["label"]

    @property
    def pooled(self) -> Numbers:
        """(n, d) float32: one vector a picture, what a classifier would see."""
        return self._arrays["pooled"]

    @property
    def patches(self) -> Numbers | None:
        """(n, d, h, w) float16: the last map; None if it was not asked for."""
        return self._arrays.get("patches")
