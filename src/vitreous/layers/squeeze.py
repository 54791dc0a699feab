"""Squeeze-and-excitation: every channel is scaled by what the whole picture says of it.

Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3, equations 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Mean over all cells, narrow, activation, wide, gate; the gates in [0, 1] multiply the channels.

    The paper's gate is the sigmoid (EfficientNet too); MobileNetV3 has ``nn.Hardsigmoid``.
    """

    followed: ClassVar = (("reduce", "act"), ("expand", "gate"))

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.act = activation()
        self.expand = nn.Conv2d(hidden, width, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)"""
        s: Tensor = x.mean(dim=(2, 3), keepdim=True)  # (b, c, 1, 1)
        s = self.act(self.reduce(s))  # (b, hidden, 1, 1)
        s = self.gate(self.expand(s))  # (b, c, 1, 1)
        return x * s
