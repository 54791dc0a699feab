"""Networks whose zeros and ones are gone: fresh scales, biases and statistics would hide what is done with them."""

from __future__ import annotations

import torch
from torch import nn


def unsettled(module: nn.Module, by: float = 0.1) -> nn.Module:
    """In evaluation mode, with every parameter moved by a deviation of ``by``, and other statistics."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * by)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(std=0.1)
                m.running_var.uniform_(0.5, 2)
    return module.eval()
