"""Convolutions as residual networks use them: no bias, because a batch norm follows."""

from __future__ import annotations

from torch import nn


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Odd square kernel, padded so that stride 1 keeps the size, without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, if asked, an activation: (b, c, h, w) -> (b, d, h / stride, w / stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, activation: nn.Module | None = None
    ) -> None:
        parts: list[nn.Module] = [convolution(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs)]
        super().__init__(*parts, *([activation] if activation is not None else []))
