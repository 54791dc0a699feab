from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.layers.conv import ConvNorm
from vitreous.layers.inverted import InvertedResidual
from vitreous.layers.squeeze import SqueezeExcite


def normed(x: Tensor, norm: nn.BatchNorm2d, eps: float) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=eps)


def unsettled(block: InvertedResidual) -> InvertedResidual:
    for tensor in [*block.parameters(), *(b for b in block.buffers() if b.is_floating_point())]:
        nn.init.uniform_(tensor, 0.1, 1)
    return block.eval()


@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_expand_filter_excite_project(stride: int) -> None:
    torch.manual_seed(0)
    squeeze = SqueezeExcite(8, 2)
    block = unsettled(InvertedResidual(4, 8, 4, activation=nn.SiLU, kernel=5, stride=stride, squeeze=squeeze, eps=1e-2))
    x = torch.randn(2, 4, 9, 7)
    y = F.silu(normed(F.conv2d(x, block.expand.conv.weight), block.expand.norm, 1e-2))
    y = F.conv2d(y, block.depthwise.conv.weight, stride=stride, padding=2, groups=8)
    y = squeeze(F.silu(normed(y, block.depthwise.norm, 1e-2)))
    y = normed(F.conv2d(y, block.project.conv.weight), block.project.norm, 1e-2)  # linear: no activation
    torch.testing.assert_close(block(x), y + x if stride == 1 else y)


@pytest.mark.parametrize(("outputs", "stride", "joins"), [(4, 1, True), (6, 1, False), (4, 2, False)])
def test_the_shortcut_needs_the_same_shape(outputs: int, stride: int, joins: bool) -> None:
    block = InvertedResidual(4, 8, outputs, activation=nn.ReLU, stride=stride).eval()
    nn.init.zeros_(block.project.norm.weight)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(block(x), x if joins else torch.zeros(1, outputs, 6 // stride, 6 // stride))


def test_nothing_to_expand_leaves_the_expansion_out() -> None:
    block = InvertedResidual(4, 4, 6, activation=nn.ReLU)
    assert [m.conv.kernel_size for m in block.modules() if isinstance(m, ConvNorm)] == [(3, 3), (1, 1)]


def test_each_activation_is_its_own_and_the_picture_is_left_alone() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(4, 8, 4, activation=lambda: nn.ReLU(inplace=True), drop_path=0.5).train()
    assert block.expand.act is not block.depthwise.act
    x = torch.randn(64, 4, 3, 3)
    before = x.clone()
    skipped = (block(x) == x).flatten(1).all(1)
    assert 0 < skipped.sum() < 64  # whole samples skip the branch
    assert torch.equal(x, before)
    block(x.requires_grad_()).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in block.parameters())
