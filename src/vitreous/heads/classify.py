"""The linear classifier on the pooled features. Knows nothing of losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.types import Features

_FRESH = 0.02  # deviation of fresh weights


class ClassifyHead(nn.Module):
    """Dropout, if any, and one linear layer: ``Features`` -> logits (b, k).

    Where ``pooled`` holds two summaries (class token and distillation token), each has a layer of its own and the
    answer is the mean of both, in every mode (Touvron et al. 2021, DeiT, section 4: "late fusion").
    """

    def __init__(self, width: int, classes: int, dropout: float = 0.0, summaries: int = 1) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc = nn.Linear(width // summaries, classes)
        self.fc_dist = nn.Linear(width // summaries, classes) if summaries == 2 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal of deviation .02, bias zero."""
        for layer in self._layers():
            nn.init.trunc_normal_(layer.weight, std=_FRESH)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def soften(self) -> None:
        """Make the weights as small as fresh ones, if they are larger: the same classes win, with less confidence."""
        layers = self._layers()
        size = torch.cat([layer.weight.flatten() for layer in layers]).square().mean().sqrt()
        for layer in layers:
            for tensor in (layer.weight, layer.bias):
                tensor.mul_((_FRESH / size).clamp(max=1.0))

    def _layers(self) -> list[nn.Linear]:
        return [self.fc] if self.fc_dist is None else [self.fc, self.fc_dist]

    @torch.no_grad()
    def take(self, weight: Tensor, bias: Tensor) -> None:
        """Answer ``pooled @ weight.T + bias`` from now on: weight (k, d) over all that ``pooled`` holds, bias (k,)."""
        if self.fc_dist is None:
            self.fc.weight.copy_(weight)
        else:
            token, distilled = weight.chunk(2, dim=1)
            self.fc.weight.copy_(2 * token)
            self.fc_dist.weight.copy_(2 * distilled)
            self.fc_dist.bias.copy_(bias)
        self.fc.bias.copy_(bias)

    def forward(self, features: Features) -> Tensor:
        """Features -> (b, k)"""
        pooled = F.dropout(features.pooled, self.dropout, self.training)
        logits: Tensor
        if self.fc_dist is None:
            logits = self.fc(pooled)
        else:
            token, distilled = pooled.chunk(2, dim=1)
            logits = (self.fc(token) + self.fc_dist(distilled)) / 2
        return logits
