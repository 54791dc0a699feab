from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.models import create
from vitreous.models.describe import describe
from vitreous.models.mobilevit import Layer, MobileViT, MobileViTBlock, MobileViTConfig, fold, unfold

# timm's 10^9 multiply-accumulates at 256 pixels; its counter adds 2 a cell of a batch norm and 5 of any other norm
PUBLISHED = {
    "mobilevit_xxs": 0.42,
    "mobilevit_xs": 1.05,
    "mobilevit_s": 2.03,
    "mobilevitv2_050": 0.48,
    "mobilevitv2_075": 1.05,
    "mobilevitv2_100": 1.84,
    "mobilevitv2_125": 2.86,
    "mobilevitv2_150": 4.09,
    "mobilevitv2_175": 5.54,
    "mobilevitv2_200": 7.22,
}


def config(**changes: object) -> MobileViTConfig:
    options = {"stem": 4, "widths": (4, 8, 8, 12, 16), "dims": (8, 8, 16), "layers": (1, 2, 1), "head": 24}
    return MobileViTConfig(**(options | changes))  # type: ignore[arg-type]


def block(seed: int = 0) -> MobileViTBlock:
    torch.manual_seed(seed)
    return MobileViTBlock(6, 8, 2, config(), 0.0).eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_costs_are_ours_and_those_of_norms(name: str) -> None:
    norms = 0

    def count(module: nn.Module, _: object, x: Tensor) -> None:
        nonlocal norms
        norms += x.numel() * (2 if isinstance(module, nn.BatchNorm2d) else 5)

    with torch.device("meta"):
        backbone, image = create(name).eval(), torch.empty(1, 3, 256, 256)
    for module in backbone.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
            module.register_forward_hook(count)
    backbone(image)
    assert (describe(name).macs + norms) / 1e9 == pytest.approx(PUBLISHED[name], abs=0.01)


@pytest.mark.parametrize("patch", [2, 3])
def test_unfolding_is_that_of_torch(patch: int) -> None:
    x = torch.randn(2, 5, 2 * patch, 3 * patch)
    columns = F.unfold(x, patch, stride=patch).view(2, 5, patch * patch, 6)  # (b, d, p p, n)
    assert torch.equal(unfold(x, patch).view(2, patch * patch, 6, 5), columns.permute(0, 2, 3, 1))


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_folding_undoes_unfolding_and_leaves_channels_last(patch: int) -> None:
    x = torch.randn(3, 5, 8, 12).to(memory_format=torch.channels_last)
    y = fold(unfold(x, patch), patch, (8, 12))
    assert torch.equal(x, y) and y.is_contiguous(memory_format=torch.channels_last)


def test_layer_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = Layer(8, 4, 2.0, 0.0)
    theirs = nn.TransformerEncoderLayer(8, 4, 16, 0.0, F.silu, batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    state = ours.state_dict()
    theirs.load_state_dict({t + end: state[o + end] for t, o in pairs.items() for end in ("weight", "bias")})
    x = torch.randn(2, 7, 8)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-5)


def test_a_cell_meets_its_place_in_every_patch_and_no_other() -> None:
    far, y = block(), torch.randn(1, 8, 4, 6)
    with torch.no_grad():
        before = far.globally(y)
        changed = y.clone()
        changed[:, :, 1, 2] += torch.randn(8)
        moved = (far.globally(changed) - before).abs().amax(1)[0] > 0
    rows, columns = torch.arange(4)[:, None], torch.arange(6)
    assert torch.equal(moved, (rows % 2 == 1) & (columns % 2 == 0))


def test_the_transformer_knows_no_positions() -> None:
    far, y = block(), torch.randn(1, 8, 4, 6)
    order = torch.tensor([2, 3, 0, 1])  # two rows of patches, exchanged
    with torch.no_grad():
        torch.testing.assert_close(far.globally(y[:, :, order]), far.globally(y)[:, :, order], atol=1e-6, rtol=1e-5)


def test_odd_sides_are_stretched_and_brought_back() -> None:
    far, cell = block(), torch.randn(2, 8, 1, 1)
    with torch.no_grad():
        even = far.globally(cell.expand(2, 8, 4, 6))
        torch.testing.assert_close(far.globally(cell.expand(2, 8, 3, 5)), even[:, :, :3, :5], atol=1e-6, rtol=1e-5)
        y = torch.randn(1, 8, 3, 5)
        stretched = F.interpolate(y, (4, 6), mode="bilinear", align_corners=False)
        expected = F.interpolate(far.globally(stretched), (3, 5), mode="bilinear", align_corners=False)
        torch.testing.assert_close(far.globally(y), expected)


def test_the_widening_convolution_closes_the_pyramid() -> None:
    network = MobileViT(config()).eval()
    with torch.no_grad():
        features = network(torch.randn(1, 3, 96, 64))
    assert [tuple(x.shape[1:]) for x in features.maps] == [(4, 48, 32), (8, 24, 16), (8, 12, 8), (12, 6, 4), (24, 3, 2)]
    torch.testing.assert_close(features.pooled, features.maps[-1].flatten(2).mean(2))


def test_layers_of_one_block_share_its_drop_rate() -> None:
    network = MobileViT(config(drop_path=0.9))
    rates = [[layer.drop_path.rate for layer in stage[-1].transformer] for stage in network.stages[2:]]
    # ten blocks, counted from 0: the last of the stages with a transformer are 5, 7 and 9
    assert rates == [pytest.approx([0.5]), pytest.approx([0.7, 0.7]), pytest.approx([0.9])]


def test_fresh_shortcuts_pass_x_unchanged() -> None:
    network = MobileViT(config())
    inner, x = network.stages[1][1], torch.randn(2, 8, 6, 6)
    assert torch.equal(inner(x), x)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 3}, r"must be multiples of 3 heads"),
        ({"layers": (1, 2)}, r"3 dims and 2 layers"),
        ({"widths": (4, 8, 8)}, r"2 convolutional stages and 3 with a transformer needs as many widths, not 3"),
        ({"stem": 0}, r"at least 1"),
        ({"mlp_ratio": -1.0}, "MLP without channels"),
        ({"mlp_ratio": 0.0}, "MLP without channels"),
        ({"mlp_ratio": 0.01}, "MLP without channels"),
        ({"mlp_ratio": float("nan")}, "MLP without channels"),
        ({"mlp_ratio": float("inf")}, "MLP without channels"),
        ({"dims": (8, 0, 16)}, r"at least 1"),
    ],
)
def test_impossible_configs_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config(**changes)
