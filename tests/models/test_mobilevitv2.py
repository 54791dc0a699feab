from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.models.mobilevitv2 import Layer, MobileViTv2, MobileViTv2Block, MobileViTv2Config, SeparableAttention


def config(**changes: object) -> MobileViTv2Config:
    return MobileViTv2Config(**({"multiplier": 0.125, "layers": (1, 2, 1)} | changes))  # type: ignore[arg-type]


def attention(dim: int = 6, patch: int = 2) -> SeparableAttention:
    torch.manual_seed(0)
    return SeparableAttention(dim, patch)


def by_hand(attend: SeparableAttention, x: Tensor) -> Tensor:
    """Equation 4 of the paper for each place in a patch, one after another."""
    p, out = attend.patch, torch.empty_like(x)
    score, key, value = attend.qkv_proj(x).split([1, attend.dim, attend.dim], dim=1)
    for i in range(p):
        for j in range(p):
            s, k, v = (t[:, :, i::p, j::p] for t in (score, key, value))
            weights = s.flatten(2).softmax(-1).view_as(s)
            context = (weights * k).sum((2, 3), keepdim=True)
            out[:, :, i::p, j::p] = F.relu(v) * context
    return attend.out_proj(out)


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_is_equation_4(patch: int, layout: torch.memory_format) -> None:
    attend = attention(patch=patch).double()
    x = torch.randn(2, 6, 2 * patch, 3 * patch, dtype=torch.float64).to(memory_format=layout)
    torch.testing.assert_close(attend(x), by_hand(attend, x), atol=1e-12, rtol=1e-12)


def test_equal_scores_take_the_mean_of_the_keys() -> None:
    attend = attention(patch=1)
    nn.init.zeros_(attend.qkv_proj.weight[:1])
    x = torch.randn(1, 6, 4, 4)
    _, key, value = attend.qkv_proj(x).split([1, 6, 6], dim=1)
    expected = attend.out_proj(F.relu(value) * key.mean((2, 3), keepdim=True))
    torch.testing.assert_close(attend(x), expected, atol=1e-6, rtol=1e-5)


def test_a_cell_meets_its_place_in_every_patch_and_no_other() -> None:
    attend, x = attention(), torch.randn(1, 6, 4, 6)
    changed = x.clone()
    changed[:, :, 1, 2] += 1
    moved = (attend(changed) - attend(x)).abs().amax(1)[0] > 0
    rows, columns = torch.arange(4)[:, None], torch.arange(6)
    assert not moved[(rows % 2 != 1) | (columns % 2 != 0)].any() and moved.sum() > 1


def test_attention_knows_no_positions() -> None:
    attend, x = attention(), torch.randn(2, 6, 4, 6)
    order = torch.tensor([2, 3, 0, 1])  # two rows of patches, exchanged
    torch.testing.assert_close(attend(x[:, :, order]), attend(x)[:, :, order], atol=1e-6, rtol=1e-5)


def test_a_layer_normalises_over_the_whole_picture() -> None:
    torch.manual_seed(0)
    layer, x = Layer(6, 2.0, 2, 0.0).eval(), torch.randn(2, 6, 4, 4)
    whole = F.layer_norm(x, x.shape[1:])
    y = x + layer.attn(whole)
    expected = y + layer.mlp.fc2(F.silu(layer.mlp.fc1(F.layer_norm(y, y.shape[1:]))))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_a_block_fills_up_whole_patches() -> None:
    torch.manual_seed(0)
    block, x = MobileViTv2Block(8, 1, config(), 0.0).eval(), torch.randn(2, 8, 3, 6)
    stretched = F.interpolate(x, (4, 6), mode="bilinear", align_corners=True)
    assert torch.equal(block(x), block(stretched)) and block(x).shape == (2, 8, 4, 6)


def test_maps_keep_their_strides_while_odd_maps_flow_on_stretched() -> None:
    torch.manual_seed(0)
    network, flowing = MobileViTv2(config()).eval(), []
    for stage in network.stages:
        stage.register_forward_hook(lambda _, __, x: flowing.append(x))
    with torch.no_grad():
        features = network(torch.randn(2, 3, 224, 72))
    assert [tuple(x.shape[2:]) for x in flowing] == [(112, 36), (56, 18), (28, 10), (14, 6), (8, 4)]
    assert [tuple(x.shape[2:]) for x in features.maps] == [(112, 36), (56, 18), (28, 9), (14, 5), (7, 3)]
    torch.testing.assert_close(features.pooled, flowing[-1].mean((2, 3)))
    corners = (slice(None), slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    torch.testing.assert_close(features.maps[-1][corners], flowing[-1][corners])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"multiplier": 0.3}, r"not even; use a multiple of 1/16"),
        ({"multiplier": 0.0}, r"not even; use a multiple of 1/16"),
        ({"layers": (1, 2)}, r"2 convolutional stages and 2 with a transformer needs as many widths, not 5"),
        ({"expansion": 0}, r"at least 1"),
        ({"mlp_ratio": -1.0}, "MLP without channels"),
        ({"mlp_ratio": 0.0}, "MLP without channels"),
        ({"mlp_ratio": 0.01}, "MLP without channels"),
        ({"mlp_ratio": float("nan")}, "MLP without channels"),
        ({"mlp_ratio": float("inf")}, "MLP without channels"),
    ],
)
def test_impossible_configs_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config(**changes)
