"""The two-layer perceptrons of a transformer block. They work on each token alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.layers.linear import Linear


class Mlp(nn.Module):
    """Widen, activation (unless told otherwise GELU, the exact one, with erf), narrow."""

    followed: ClassVar = (("fc1", "activation"),)

    def __init__(self, dim: int, hidden: int, activation: Callable[[Tensor], Tensor] = F.gelu) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.activation = activation
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        x = self.fc2(self.activation(self.fc1(x)))
        return x


class SwiGLU(nn.Module):
    """Widen to a gate and a value, SiLU of the gate times the value, narrow (Shazeer 2020, "GLU variants").

    ``hidden`` is that of the ``Mlp`` it stands for: two thirds of it, rounded up to a multiple of 8, cost the same.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        hidden = -(-int(hidden * 2 / 3) // 8) * 8
        self.fc1 = Linear(dim, 2 * hidden)  # gate first
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        gate, value = self.fc1(x).chunk(2, dim=-1)
        x = self.fc2(F.silu(gate) * value)
        return x
