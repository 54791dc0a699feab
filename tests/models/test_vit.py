from __future__ import annotations

import pytest
import torch

from vitreous.errors import UsageError
from vitreous.layers.norm import LayerScale
from vitreous.layers.position import resample
from vitreous.models import CATALOGUE, create
from vitreous.models.vit import ViT, ViTConfig


def tiny(**more: object) -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(**{"size": 16, "patch": 4, "width": 16, "depth": 2, "heads": 2} | more)).eval()


def count(vit: torch.nn.Module) -> int:
    return sum(p.numel() for p in vit.parameters())


@pytest.mark.parametrize("name", [name for name, row in CATALOGUE.items() if row.family == "vit"])
def test_parameters_follow_the_closed_form(name: str) -> None:
    """3 P^2 D + D + D + (N + 1) D + L (12 D^2 + 13 D) + 2 D, less class token and positions where there are none."""
    with torch.device("meta"):
        vit = create(name)
    c = vit.config
    d, n = c.width, (c.size // c.patch) ** 2
    expected = 3 * c.patch**2 * d + d + c.depth * (12 * d * d + 13 * d) + 2 * d
    expected += (c.pool == "token") * d + (c.position == "learned") * (n + (c.pool == "token")) * d
    assert count(vit) == expected


def test_layer_scale_adds_two_vectors_a_block() -> None:
    scaled = tiny(layer_scale=1e-5)
    assert count(scaled) == count(tiny()) + 2 * 2 * 16
    assert sum(isinstance(m, LayerScale) for m in scaled.modules()) == 4
    assert "blocks.0.ls1.gamma" in scaled.state_dict()


def test_options_of_the_attention() -> None:
    assert count(tiny(qkv_bias=False)) == count(tiny()) - 2 * 3 * 16
    assert count(tiny(mlp_ratio=2.0)) == count(tiny()) - 2 * (2 * 2 * 16 * 16 + 2 * 16)


def test_pooled_is_the_class_token_or_the_mean_of_the_patches() -> None:
    image = torch.randn(2, 3, 16, 16)
    token, mean = tiny(), tiny(pool="avg")
    torch.testing.assert_close(token(image).pooled, token.encode(token.embed(image))[:, 0])
    features = mean(image)
    torch.testing.assert_close(features.pooled, features.maps[0].mean((2, 3)))
    assert not hasattr(mean, "cls_token")


def test_the_map_is_the_grid_of_patches() -> None:
    vit, image = tiny(pool="avg"), torch.randn(1, 3, 8, 12)
    tokens = vit.encode(vit.embed(image))  # (1, 6, d)
    assert torch.equal(vit(image).maps[0][0, :, 1, 2], tokens[0, 1 * 3 + 2])


def test_other_sizes_resample_the_positions() -> None:
    vit = tiny()
    image = torch.randn(1, 3, 24, 8)
    expected = vit.patch_embed(image) + resample(vit.pos_embed, (4, 4), (6, 2))[:, 1:]
    torch.testing.assert_close(vit.embed(image), expected)


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
