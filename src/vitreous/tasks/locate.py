"""Dense relative localisation: how far two cells of a map lie apart has to be read from what they hold.

Liu et al. 2021, "Efficient Training of Visual Transformers with Small Datasets", section 3: a loss that costs next to
nothing and teaches a transformer about space, which a convolution knows by construction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitreous.tasks.task import Guide, Loss
from vitreous.types import Batch, Features

PAIRS = 64  # of cells a picture; the paper has 32 to 64
HIDDEN = 512  # the paper's width of the perceptron


class Locate(Guide):
    """Adds ``weight`` times the mean absolute error of the offsets of random pairs of cells of the last map.

    Args:
        width: of the last map.
    """

    def __init__(self, weight: float, width: int) -> None:
        super().__init__()
        self.weight = weight
        self.perceptron = nn.Sequential(
            nn.Linear(2 * width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
        )

    def forward(self, loss: Loss, logits: Tensor, features: Features, batch: Batch) -> Loss:
        """``loss`` and what comes on top; nothing where the last map is a single cell."""
        cells = features.maps[-1]
        if cells.shape[2] * cells.shape[3] == 1:
            return loss
        first, second = (torch.randint(cells.shape[2] * cells.shape[3], (len(cells), PAIRS)) for _ in range(2))
        found = self.perceptron(torch.cat([take(cells, first), take(cells, second)], dim=2))  # (b, m, 2)
        extra = (found.float() - apart(first, second, cells).to(found.device)).abs().mean()
        return Loss(loss.total + self.weight * extra, loss.parts | {"location": extra.detach()})


def take(cells: Tensor, which: Tensor) -> Tensor:
    """(b, d, h, w), (b, m) numbers in reading order -> (b, m, d)"""
    sequence = cells.flatten(2).transpose(1, 2)  # (b, n, d)
    return sequence.gather(1, which.to(cells.device)[:, :, None].expand(-1, -1, sequence.shape[2]))


def apart(first: Tensor, second: Tensor, cells: Tensor) -> Tensor:
    """Rows and columns between two cells, each as a share of the map's side: (b, m, 2) in [0, 1)."""
    h, w = cells.shape[2:]
    rows = (first // w - second // w).abs() / h
    columns = (first % w - second % w).abs() / w
    return torch.stack([rows, columns], dim=2)
