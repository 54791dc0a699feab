from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitreous.errors import UsageError
from vitreous.models import create
from vitreous.models.convnext import Block, CellNorm, ConvNeXt, ConvNeXtConfig, Fill


def build(**more: object) -> ConvNeXt:
    torch.manual_seed(0)
    fields = {"depths": (2, 1, 1), "widths": (8, 16, 24), "layer_scale": 0.5} | more
    return ConvNeXt(ConvNeXtConfig(**fields)).eval()


def test_a_norm_of_cells_is_group_norm_of_one_cell() -> None:
    torch.manual_seed(0)
    norm, x = CellNorm(6, eps=1e-6), torch.randn(2, 6, 3, 5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    cells = x.permute(0, 2, 3, 1).reshape(-1, 6)  # each cell as a picture of one pixel
    expected = F.group_norm(cells, 1, norm.weight, norm.bias, 1e-6).view(2, 3, 5, 6).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected)


def test_a_block_is_its_formula_in_convolutions() -> None:
    """Section 2.6: the paper draws 1x1 convolutions; linear layers on each cell are the same thing."""
    torch.manual_seed(0)
    block, x = Block(8, 0.5, 0.0), torch.randn(2, 8, 9, 11)
    torch.nn.init.normal_(block.scale.gamma)
    y = torch.stack([F.conv2d(x[:, i : i + 1], block.conv_dw.weight[i : i + 1], padding=3)[:, 0] for i in range(8)], 1)
    y = y + block.conv_dw.bias[:, None, None]
    mean, var = y.mean(1, keepdim=True), y.var(1, keepdim=True, unbiased=False)
    y = (y - mean) / (var + 1e-6).sqrt()
    y = F.conv2d(y, block.mlp.fc1.weight[..., None, None], block.mlp.fc1.bias)
    y = F.conv2d(y * 0.5 * (1 + torch.erf(y / 2**0.5)), block.mlp.fc2.weight[..., None, None], block.mlp.fc2.bias)
    expected = x + block.scale.gamma[:, None, None] * y
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_a_fresh_network_is_close_to_its_shortcuts() -> None:
    """LayerScale starts at 1e-6: with the blocks taken out, the answer is nearly the same."""
    network, image = build(layer_scale=1e-6), torch.randn(2, 3, 32, 32)
    before = network(image).pooled
    for stage in network.stages:
        stage.blocks = torch.nn.Identity()
    torch.testing.assert_close(network(image).pooled, before, atol=1e-3, rtol=1e-3)


def test_begun_cells_are_filled_with_zeros() -> None:
    x = torch.randn(2, 3, 5, 8)
    y = Fill(4)(x)
    assert y.shape == (2, 3, 8, 8) and torch.equal(y[:, :, :5], x) and not y[:, :, 5:].any()
    assert Fill(4)(y) is y


def test_maps_are_those_of_the_picture_filled_up_by_hand() -> None:
    network, image = build(depths=(1,), widths=(8,)), torch.randn(2, 3, 30, 41)
    filled = torch.zeros(2, 3, 32, 44)
    filled[:, :, :30, :41] = image
    assert torch.equal(network(image).maps[0], network(filled).maps[0])


def test_rates_of_stochastic_depth_rise_through_all_stages() -> None:
    network = build(drop_path=0.3)
    rates = [block.drop_path.rate for stage in network.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_groups_follow_the_stages() -> None:
    groups = build().groups()
    assert len(groups) == 1 + 2 + 1 + 1
    assert "stages.1.downsample.2.weight" in groups[3] and "stages.1.blocks.0.mlp.fc1.weight" in groups[3]
    assert {"norm.weight", "stages.2.blocks.0.scale.gamma"} <= set(groups[4])


def test_layer_scale_may_be_left_out() -> None:
    network = build(layer_scale=None)
    assert not any("scale" in name for name, _ in network.named_parameters())
    assert network(torch.randn(1, 3, 32, 32)).pooled.shape == (1, 24)


def test_tiny_has_the_papers_shape() -> None:
    with torch.device("meta"):
        tiny = create("convnext_tiny")
    assert (tiny.dims, tiny.strides, tiny.width) == ((96, 192, 384, 768), (4, 8, 16, 32), 768)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depths": ()}, "as many depths as widths"),
        ({"depths": (1, 1)}, "as many depths as widths"),
        ({"widths": (8, 0, 8)}, "at least 1"),
        ({"channels": 0}, "at least 1"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(**change)
