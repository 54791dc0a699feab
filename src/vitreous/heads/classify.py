"""The linear classifier on the pooled features. Knows nothing of losses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.types import Features


class ClassifyHead(nn.Module):
    """Dropout, if any, and one linear layer: ``Features`` -> logits (b, k)."""

    def __init__(self, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc = nn.Linear(width, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal of deviation .02, bias zero."""
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, features: Features) -> Tensor:
        """Features -> (b, k)"""
        logits: Tensor = self.fc(F.dropout(features.pooled, self.dropout, self.training))
        return logits
