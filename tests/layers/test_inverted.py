from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm
from vitreous.layers.inverted import InvertedResidual, divisible, reset_mobile
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


def test_widths_are_multiples_that_take_away_little() -> None:
    for width in torch.linspace(0.5, 500, 3001).tolist():
        found = divisible(width)
        assert found % 8 == 0 and found >= 8
        assert found >= 0.9 * width and found <= max(8, width + 8)
        if found != max(8, round(width / 8) * 8) and width % 8 != 4:
            assert found - 8 < 0.9 * width  # the nearest was too small
    # MobileNetV3 at 0.75 and 0.5, EfficientNet-B2 at 1.1
    assert [divisible(w) for w in (12, 18, 30, 84, 20, 24 * 1.1, 40 * 1.1)] == [16, 24, 32, 88, 24, 24, 48]


def test_fresh_weights_keep_the_variance_of_gradients_a_group() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(64, 384, 64, activation=nn.ReLU, kernel=5, squeeze=SqueezeExcite(384, 16))
    for tensor in [*block.parameters(), *block.buffers()]:
        tensor.data.fill_(7)
    reset_mobile(block)
    for conv, fan_out in ((block.expand.conv, 384), (block.depthwise.conv, 25), (block.squeeze.reduce, 16)):
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert not block.squeeze.reduce.bias.any() and (block.project.norm.running_var == 1).all()


def test_blocks_can_be_run_in_parts() -> None:
    torch.manual_seed(0)
    blocks = Blocks(*(InvertedResidual(4, 8, 4, activation=nn.ReLU) for _ in range(4))).eval()
    x = torch.randn(1, 4, 6, 6)
    for on in (False, True):
        blocks.checkpointing = on
        assert torch.equal(blocks(blocks(blocks(x, 0, 1), 1, 3), 3), blocks(x))
    assert not torch.equal(blocks(x, 0, 3), blocks(x))
