"""Convolution as TensorFlow pads it, for weights that were trained there. Knows nothing of norms or activations."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """Square kernel of ``stride`` above 1 with TensorFlow's padding "SAME": no more zeros than the last window needs.

    The odd zero stands right and below: on even sides a window lies one pixel further than with symmetric padding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / stride, w / stride), sides rounded up"""
        k, stride = self.kernel_size[0], self.stride[0]
        h, w = (max((side - 1) // stride * stride + k - side, 0) for side in input.shape[-2:])  # zeros a side
        return super().forward(F.pad(input, (w // 2, w - w // 2, h // 2, h - h // 2)))
