"""What passes between the rooms: one sample, one batch, one set of features.

Knows nothing of files, models or training. The shape alphabet of the whole house:

    b  batch          c  channels       h, w  height and width in pixels or cells
    n  tokens         d  feature width  k     classes
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

UNLABELLED = -1


class Sample(NamedTuple):
    """One picture as the data set hands it out: decoded, not yet augmented."""

    image: Tensor  # (3, h, w) uint8
    label: int  # class index, or UNLABELLED
    # number in the source, by which it is named
    index: int  # type: ignore[assignment]  # tuple.index is never wanted here
    mask: Tensor | None = None  # (h, w) uint8, moves with the image


class Batch(NamedTuple):
    """What a task receives. Every field is stacked along ``b``."""

    image: Tensor  # (b, 3, h, w) uint8, or float32 in [0, 1]; normalisation belongs to the network
    label: Tensor  # (b,) int64
    index: Tensor  # type: ignore[assignment]  # (b,) int64
    target: Tensor | None = None  # (b, k) float32, soft labels after mixup or cutmix
    mask: Tensor | None = None  # (b, h, w) int64
    hidden: Tensor | None = None  # (b, n) bool, true for patches that a method hides, in reading order
    views: Tensor | None = None  # (b, v, 3, h, w) further random views of each picture, at the size of ``image``
    crops: Tensor | None = None  # (b, m, 3, h', w') small random views
    others: Tensor | None = None  # (b, v, 3, h, w) views of as many other pictures, whose labels nobody knows

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``; copies are asynchronous where the device allows it."""
        moved = {name: x.to(device, non_blocking=True) for name, x in self._asdict().items() if x is not None}
        return self._replace(**moved)


class Features(NamedTuple):
    """What every backbone answers, in every mode: a pyramid and one vector a picture."""

    maps: tuple[Tensor, ...]  # (b, d_i, h_i, w_i), fine to coarse
    pooled: Tensor  # (b, d): class token or mean, as the family means it; two tokens side by side after distillation
