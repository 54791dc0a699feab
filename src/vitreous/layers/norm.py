"""What tames a residual branch: a learned scale and stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """One learned factor a channel, small at first.

    Touvron et al. 2021, "Going deeper with image transformers", section 2.1.
    """

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.start = start
        self.gamma = nn.Parameter(torch.full((dim,), start))

    def reset_parameters(self) -> None:
        """Every factor back to its start."""
        nn.init.constant_(self.gamma, self.start)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        return x * self.gamma


class DropPath(nn.Module):
    """Stochastic depth: in training a sample skips the branch with probability ``rate`` (Huang et al. 2016).

    What is kept is divided by 1 - rate, so the expectation is that of evaluation, where nothing is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a drop rate lies in [0, 1), not {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(b, ...) -> (b, ...)"""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(x.shape[0], *(1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)  # (b, 1, ...)
        return x * keep.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"{self.rate:.3f}"


def depth_rates(rate: float, depth: int) -> list[float]:
    """Drop rates of ``depth`` blocks, rising linearly from 0 to ``rate``."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
