"""Handwritten digits in memory, whole or divided, for tests that need real pictures at once."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from vitreous.types import Sample


class Digits:
    """``data.loader.Samples``: some of the 1,797, 8 pixels a side."""

    def __init__(self, number: int, first: int = 0) -> None:
        found = load_digits()
        chosen = slice(first, first + number)
        self.pixels = torch.tensor(found.images[chosen] * 15, dtype=torch.uint8)[:, None].expand(-1, 3, -1, -1)
        self.labels = found.target[chosen].astype(np.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Sample:
        return Sample(self.pixels[i], int(self.labels[i]), i)


class Sides:
    """What a watcher asks of prepared data: training pictures, and then those of validation."""

    def __init__(self, train: int, val: int, classes: int) -> None:
        self.classes = tuple(map(str, range(classes)))
        self.sides = {"train": np.arange(train), "val": np.arange(train, train + val)}

    def indices(self, side: str) -> np.ndarray:
        return self.sides[side]

    def subset(self, indices: np.ndarray) -> Digits:
        return Digits(len(indices), int(indices[0]))
