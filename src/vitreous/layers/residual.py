"""The basic residual block: two 3x3 convolutions and a way past them.

He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5, left.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.layers.conv import ConvNorm
from vitreous.layers.norm import DropPath


class Basic(nn.Module):
    """relu(shortcut(x) + conv(relu(conv(x)))), a batch norm after each convolution."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module | None, drop_path: float) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, width, 3, stride, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvNorm(width, width, 3)
        self.downsample = shortcut
        self.drop_path = DropPath(drop_path)

    @property
    def last(self) -> ConvNorm:
        """What closes the branch."""
        return self.conv2

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, width, h / stride, w / stride)"""
        y = self.drop_path(self.conv2(self.conv1(x)))
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


def projection(inputs: int, outputs: int, stride: int) -> ConvNorm | None:
    """What carries x past a block: a 1x1 convolution, or None where nothing changes (option B of the paper)."""
    return None if stride == 1 and inputs == outputs else ConvNorm(inputs, outputs, 1, stride)
