"""Convolution, batch norm, activation: the brick of every convolutional network."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from vitreous.layers.same import SameConv2d


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, same: bool = False
) -> nn.Conv2d:
    """Odd square kernel, padded so that stride 1 keeps the size, without bias because a batch norm follows.

    With ``same`` a stride sees the picture as in TensorFlow.
    """
    if same and stride > 1:
        return SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


class ConvNorm(nn.Module):
    """Convolution, batch norm and, if asked, an activation: (b, c, h, w) -> (b, d, h / stride, w / stride).

    Every batch norm that follows a convolution in this house lies in here, so that ``layers.pack`` finds it.
    """

    followed: ClassVar = (("conv", "norm", "act"),)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        eps: float = 1e-5,
        same: bool = False,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride, groups, same=same)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=eps)
        self.act = activation if activation is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / stride, w / stride)"""
        x = self.conv(x)  # one step a line: what a line replaces is freed before the next allocates
        x = self.norm(x)
        x = self.act(x)
        return x
