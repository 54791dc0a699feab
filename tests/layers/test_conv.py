from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitreous.layers.conv import ConvNorm, convolution
from vitreous.layers.pack import pack


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_stride_one_keeps_the_size(kernel: int) -> None:
    conv = convolution(2, 4, kernel)
    assert conv.bias is None
    assert conv(torch.randn(1, 2, 8, 9)).shape == (1, 4, 8, 9)


def test_conv_norm_equals_its_parts() -> None:
    torch.manual_seed(0)
    unit, x = ConvNorm(2, 3, 3, stride=2, activation=nn.ReLU()), torch.randn(4, 2, 8, 8)
    y = F.conv2d(x, unit.conv.weight, stride=2, padding=1)
    expected = F.relu(
        (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    )
    torch.testing.assert_close(unit(x), expected, atol=1e-5, rtol=1e-5)


def test_folding_keeps_the_answer_and_leaves_one_convolution() -> None:
    torch.manual_seed(0)
    unit, x = ConvNorm(4, 6, 3, groups=2, activation=nn.SiLU()), torch.randn(4, 4, 8, 8)
    for _ in range(3):
        unit(x)
    nn.init.normal_(unit.norm.weight)
    nn.init.normal_(unit.norm.bias)
    with torch.no_grad():
        before = unit.eval()(x)
        for _ in range(2):  # the second time there is nothing left to do
            pack(unit)
            assert isinstance(unit.norm, nn.Identity) and unit.conv.bias is not None
            torch.testing.assert_close(unit(x), before, atol=1e-5, rtol=1e-5)
