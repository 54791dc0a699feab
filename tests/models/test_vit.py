from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.layers.mlp import SwiGLU
from vitreous.layers.norm import LayerScale
from vitreous.layers.patch import patchify, unpatchify
from vitreous.layers.position import resample
from vitreous.models import CATALOGUE, create
from vitreous.models.describe import describe
from vitreous.models.vit import ViT, ViTConfig


def tiny(**more: object) -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(**{"size": 16, "patch": 4, "width": 16, "depth": 2, "heads": 2} | more)).eval()


def count(vit: torch.nn.Module) -> int:
    return sum(p.numel() for p in vit.parameters())


@pytest.mark.parametrize("name", [name for name, row in CATALOGUE.items() if row.family == "vit"])
def test_parameters_follow_the_closed_form(name: str) -> None:
    """3 P^2 D + D + T D + (N + T) D + L (12 D^2 + 13 D) + 2 D with T = 1, and the papers' changes to it.

    DeiT: T = 2, one more for distillation. DeiT III: 2 L D more for LayerScale, D less without the class token's
    position. DINOv2: LayerScale, D for each register, 8 D^2 + 5 D of the perceptron become 3 D H + 2 H + D. Ours with
    fixed positions: T = 0 and no table. g and G of Zhai et al.: a perceptron of H, 2 D H + H + D.
    """
    with torch.device("meta"):
        vit = create(name)
    c = vit.config
    d, n = c.width, (c.size // c.patch) ** 2
    t = {"token": 1, "distilled": 2, "avg": 0}[c.pool]
    h = {"vit_giant_patch14_224": 6144, "vit_gigantic_patch14_224": 8192}.get(name, 4 * d)
    perceptron = 3 * d * 4096 + 2 * 4096 + d if c.mlp == "swiglu" else 2 * d * h + h + d
    block = 4 * d * d + 4 * d + 4 * d + perceptron + (c.layer_scale is not None) * 2 * d
    if h == 4 * d and c.mlp == "gelu" and c.layer_scale is None:
        assert block == 12 * d * d + 13 * d
    table = {"learned": n + t * ("deit3" not in name and "reg4" not in name), "sincos": 0}[c.position]
    registers = 4 if "reg4" in name else 0
    assert count(vit) == 3 * c.patch**2 * d + d + (t + registers) * d + table * d + c.depth * block + 2 * d


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deit_tiny_distilled_patch16_224", 5_910_800),
        ("deit_base_distilled_patch16_224", 87_338_192),
        ("deit3_base_patch16_224", 86_585_320),
    ],
)
def test_published_counts_with_a_classifier(name: str, parameters: int) -> None:
    assert describe(name).params == parameters


def test_layer_scale_adds_two_vectors_a_block() -> None:
    scaled = tiny(layer_scale=1e-5)
    assert count(scaled) == count(tiny()) + 2 * 2 * 16
    assert sum(isinstance(m, LayerScale) for m in scaled.modules()) == 4
    assert "blocks.0.ls1.gamma" in scaled.state_dict()


def test_options_of_the_attention() -> None:
    assert count(tiny(qkv_bias=False)) == count(tiny()) - 2 * 3 * 16
    assert count(tiny(mlp_ratio=2.0)) == count(tiny()) - 2 * (2 * 2 * 16 * 16 + 2 * 16)
    assert isinstance(tiny(mlp="swiglu").blocks[0].mlp, SwiGLU)


def test_pooled_is_the_class_token_or_the_mean_of_the_patches() -> None:
    image = torch.randn(2, 3, 16, 16)
    token, mean = tiny(), tiny(pool="avg")
    torch.testing.assert_close(token(image).pooled, token.encode(token.embed(image))[:, 0])
    features = mean(image)
    torch.testing.assert_close(features.pooled, features.maps[0].mean((2, 3)))
    assert mean.cls_token is None


def test_two_summaries_stand_side_by_side() -> None:
    image = torch.randn(2, 3, 16, 16)
    distilled, both = tiny(pool="distilled"), tiny(pool="both", registers=3)
    assert (distilled.width, distilled.summaries, distilled.dims) == (32, 2, (16,))
    assert (both.width, both.summaries, both.dims) == (32, 1, (16,))
    tokens = distilled.encode(distilled.embed(image))
    assert torch.equal(distilled(image).pooled, torch.cat([tokens[:, 0], tokens[:, 1]], 1))
    tokens = both.encode(both.embed(image))
    torch.testing.assert_close(both(image).pooled, torch.cat([tokens[:, 0], tokens[:, 4:].mean(1)], 1))


def test_mae_pools_before_the_norm_and_keeps_the_class_token() -> None:
    vit, image = tiny(pool="mae"), torch.randn(2, 3, 16, 16)
    features = vit(image)
    mean = features.maps[0].mean((2, 3))
    torch.testing.assert_close(features.pooled, F.layer_norm(mean, (16,), eps=1e-6))
    torch.testing.assert_close(features.maps[0].flatten(2).mT, vit.blocks(entering(vit, image))[:, 1:])
    assert {"cls_token", "fc_norm.weight"} <= set(vit.state_dict()) and "norm.weight" not in vit.state_dict()


def entering(vit: ViT, image: Tensor) -> Tensor:
    """What the first block gets."""
    seen = []
    handle = vit.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    vit(image)
    handle.remove()
    return seen[0]


def test_prefix_tokens_come_in_order_and_registers_have_no_position() -> None:
    vit, image = tiny(pool="distilled", registers=3), torch.randn(2, 3, 16, 16)
    torch.nn.init.normal_(vit.reg_token)
    torch.nn.init.normal_(vit.cls_token)
    assert vit.pos_embed.shape == (1, 2 + 16, 16)
    first = entering(vit, image)
    row = vit.pos_embed[0]
    assert torch.equal(first[:, 0], (vit.cls_token[0, 0] + row[0]).expand(2, -1))
    assert torch.equal(first[:, 1], (vit.dist_token[0, 0] + row[1]).expand(2, -1))
    assert torch.equal(first[:, 2:5], vit.reg_token.expand(2, -1, -1))
    assert torch.equal(first[:, 5:], vit.patch_embed(image) + row[2:])


def test_no_position_for_the_class_token_is_a_position_of_zero() -> None:
    with_row, without, image = tiny(), tiny(class_position=False), torch.randn(2, 3, 24, 16)
    tensors = with_row.state_dict()
    tensors["pos_embed"][:, 0] = 0
    without.load_state_dict(tensors | {"pos_embed": tensors["pos_embed"][:, 1:]})
    for ours, theirs in zip(without(image), with_row(image), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_registers_change_the_answer_but_are_no_part_of_it() -> None:
    plain, more, image = tiny(), tiny(registers=2), torch.randn(1, 3, 16, 16)
    more.load_state_dict(plain.state_dict() | {"reg_token": torch.randn(1, 2, 16)})
    assert more(image).maps[0].shape == plain(image).maps[0].shape
    assert not torch.allclose(more(image).pooled, plain(image).pooled, atol=1e-3)


def test_the_map_is_the_grid_of_patches() -> None:
    vit, image = tiny(pool="avg"), torch.randn(1, 3, 8, 12)
    tokens = vit.encode(vit.embed(image))  # (1, 6, d)
    assert torch.equal(vit(image).maps[0][0, :, 1, 2], tokens[0, 1 * 3 + 2])


def test_other_sizes_resample_the_positions() -> None:
    vit = tiny()
    image = torch.randn(1, 3, 24, 8)
    expected = vit.patch_embed(image) + resample(vit.pos_embed, (4, 4), (6, 2))[:, 1:]
    torch.testing.assert_close(vit.embed(image), expected)


def test_patches_of_another_size_are_fitted_with_their_positions() -> None:
    """Twice the patch on twice the picture: the very tokens of the picture itself."""
    small, large = tiny().double(), tiny(patch=8, size=32).double()
    assert large.fitted("pos_embed", small.pos_embed) is small.pos_embed
    large.load_state_dict(
        small.state_dict()
        | {"patch_embed.proj.weight": large.fitted("patch_embed.proj.weight", small.patch_embed.proj.weight)}
    )
    image = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    patches = patchify(image, 4).view(16, 4, 4, 3).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=(8, 8), mode="bicubic", antialias=True)
    twice = unpatchify(patches.permute(0, 2, 3, 1).reshape(1, 16, -1), 8, (4, 4))
    torch.testing.assert_close(large(twice).pooled, small(image).pooled, atol=1e-10, rtol=1e-10)
    assert large.fitted("norm.weight", small.norm.weight) is None


def test_resampled_positions_follow_training() -> None:
    vit, image = tiny(), torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        before = vit.embed(image)
        vit.pos_embed.add_(1)
        torch.testing.assert_close(vit.embed(image), before + 1, atol=1e-5, rtol=1e-5)


def test_gradients_reach_positions_through_resampling() -> None:
    vit = tiny()
    vit.embed(torch.randn(1, 3, 24, 24)).square().sum().backward()
    assert vit.pos_embed.grad is not None and vit.pos_embed.grad[:, 1:].any()


def test_fixed_positions_are_no_parameter_but_travel_with_the_weights() -> None:
    vit = tiny(position="sincos")
    assert "pos_embed" not in dict(vit.named_parameters()) and "pos_embed" in vit.state_dict()


def test_fresh_weights_have_the_stated_deviation() -> None:
    vit = tiny(width=256, heads=4, depth=1)
    block = vit.blocks[0]
    for weight in (block.attn.qkv.weight, block.mlp.fc1.weight, vit.pos_embed):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert tiny(width=256, heads=4, pool="distilled").dist_token.std().item() == pytest.approx(0.02, rel=0.2)
    assert not block.mlp.fc1.bias.any() and torch.equal(vit.norm.weight, torch.ones(256))


def test_without_positions_the_picture_is_a_bag_of_patches() -> None:
    vit = tiny(pool="avg")
    torch.nn.init.zeros_(vit.pos_embed)
    image = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(vit(image.roll(4, -1)).pooled, vit(image).pooled, atol=1e-5, rtol=1e-5)
    torch.nn.init.normal_(vit.pos_embed)
    assert not torch.allclose(vit(image.roll(4, -1)).pooled, vit(image).pooled, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 18}, "Size 18 is not a multiple of the patch 4; use 16"),
        ({"heads": 3}, "Width 16 is not a multiple of 3 heads"),
        ({"depth": 0}, "at least 1"),
        ({"registers": -1}, "cannot have -1 registers"),
        ({"mlp_ratio": -1.0}, "MLP without channels"),
        ({"mlp_ratio": 0.0}, "MLP without channels"),
        ({"mlp_ratio": 0.01}, "MLP without channels"),
        ({"mlp_ratio": float("nan")}, "MLP without channels"),
        ({"mlp_ratio": float("inf")}, "MLP without channels"),
        ({"width": 6, "position": "sincos"}, "multiple of 4"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiny(**change)


def test_a_picture_that_the_patch_does_not_divide_is_padded_on_the_right_and_below() -> None:
    vit, image = tiny(), torch.randn(1, 3, 14, 17)
    padded = torch.zeros(1, 3, 16, 20)
    padded[..., :14, :17] = image
    features, expected = vit(image), vit(padded)
    assert features.maps[0].shape == (1, 16, 4, 5)
    assert torch.equal(features.maps[0], expected.maps[0]) and torch.equal(features.pooled, expected.pooled)
