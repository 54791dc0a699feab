"""Many vectors to one: how a picture's summary is taken."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Pool = Literal["token", "distilled", "avg", "mae", "both"]
"""What summarises a sequence of prefix tokens and patch tokens.

``token``: the class token, which is the first. ``distilled``: class token and distillation token, which is the second
(Touvron et al. 2021, DeiT). ``avg``: the mean of the patch tokens; there is no class token. ``mae``: the same beside a
class token that nobody reads (He et al. 2022). ``both``: class token and mean (Oquab et al. 2023, DINOv2).
"""


def pool_tokens(tokens: Tensor, prefix: int, kind: Pool) -> Tensor:
    """(b, p + n, d) -> (b, d), or (b, 2 d) where two summaries stand side by side."""
    if kind == "token":
        return tokens[:, 0]
    if kind == "distilled":
        return tokens[:, :2].flatten(1)
    mean = tokens[:, prefix:].mean(dim=1)
    return torch.cat([tokens[:, 0], mean], dim=1) if kind == "both" else mean


def pool_map(x: Tensor) -> Tensor:
    """(b, d, h, w) -> (b, d): the mean over all cells."""
    return x.mean(dim=(2, 3))


class SequencePool(nn.Module):
    """The mean of all tokens with learned weights (Hassani et al. 2021, section 3.2): softmax(x w)' x."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)  # a softmax would not see a bias

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, d) -> (b, d)"""
        weights: Tensor = self.score(tokens).softmax(dim=1)  # (b, n, 1)
        return (weights.transpose(1, 2) @ tokens).squeeze(1)
