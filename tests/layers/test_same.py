from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitreous.layers.conv import ConvNorm
from vitreous.layers.pack import pack
from vitreous.layers.same import SameConv2d


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("stride", [2, 3])
def test_each_window_is_where_tensorflow_puts_it(kernel: int, side: int, stride: int) -> None:
    """The definition in TensorFlow's guide: rows ceil(h / stride), zeros before them half of what is missing."""
    conv, x = SameConv2d(1, 1, kernel, stride=stride, bias=False), torch.randn(1, 1, side, side + 1)
    y = conv(x)
    rows = -(-side // stride)
    assert y.shape == (1, 1, rows, -(-(side + 1) // stride))
    missing = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in (side, side + 1)]
    wide = F.pad(x, (kernel, kernel, kernel, kernel))
    for i in range(rows):
        top, left = kernel - missing[0] // 2 + i * stride, kernel - missing[1] // 2
        window = wide[0, 0, top : top + kernel, left : left + kernel]
        torch.testing.assert_close(y[0, 0, i, 0], (window * conv.weight[0, 0]).sum())


def test_on_odd_sides_it_is_symmetric_and_on_even_ones_a_pixel_further() -> None:
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    odd, even = torch.randn(1, 1, 9, 9), torch.randn(1, 1, 8, 8)
    assert torch.equal(conv(odd), F.conv2d(odd, conv.weight, stride=2, padding=1))
    further = F.conv2d(even[..., 1:, 1:], conv.weight, stride=2, padding=1)
    torch.testing.assert_close(conv(even)[..., 1:, 1:], further[..., 1:, 1:])


def test_it_can_be_folded_and_matters_only_where_a_stride_is() -> None:
    torch.manual_seed(0)
    unit, x = ConvNorm(2, 4, 3, 2, same=True), torch.randn(2, 2, 8, 8)
    unit(x)
    with torch.no_grad():
        before = unit.eval()(x)
        pack(unit)
        assert isinstance(unit.norm, torch.nn.Identity)
        torch.testing.assert_close(unit(x), before, atol=1e-5, rtol=1e-5)
    plain, same = ConvNorm(2, 4, 3), ConvNorm(2, 4, 3, same=True)
    same.load_state_dict(plain.state_dict())
    assert torch.equal(plain(x), same(x))
