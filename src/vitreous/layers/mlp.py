"""The two-layer perceptron of a transformer block. Works on each token alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Mlp(nn.Module):
    """Widen, GELU (the exact one, with erf), narrow."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        x = self.fc2(F.gelu(self.fc1(x)))
        return x
