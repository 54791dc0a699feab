from __future__ import annotations

import pytest
import torch
from models.unsettled import unsettled
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.models import create
from vitreous.models.describe import describe
from vitreous.models.efficientvit import (
    EPS,
    Block,
    EfficientViT,
    EfficientViTConfig,
    LeanResidual,
    LinearAttention,
    relu_attention,
)

SMALL = {"widths": (8, 8, 16, 16, 32), "depths": (1, 2, 1, 1, 1), "head_dim": 8, "head": (24, 40)}


def qkv(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 8, n, dtype=torch.float64).to(dtype)
    return q, k, v


def test_linear_attention_is_attention_with_relu_weights() -> None:
    q, k, v = qkv(30)
    weights = torch.einsum("bhdi,bhdj->bhij", q.clamp_min(0), k.clamp_min(0))  # the matrix that it never forms
    weights = weights / (weights.sum(-1, keepdim=True) + EPS)
    torch.testing.assert_close(relu_attention(q, k, v), torch.einsum("bhij,bhdj->bhdi", weights, v))


def test_a_query_that_likes_nothing_gets_nothing() -> None:
    q, k, v = qkv(30)
    q[0, 0, :, 3] = -1
    out = relu_attention(q, k, v)
    assert out[0, 0, :, 3].eq(0).all() and out[0, 0, :, 4].ne(0).any()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_sums_that_half_precision_cannot_hold(half: torch.dtype, autocast: bool) -> None:
    """4096 cells of about 40 each: sums of products above 65504, the largest float16."""
    q, k, v = qkv(4096, torch.float32)
    q, k, v = ((40 * t).to(half) for t in (q, k, v))
    expected = relu_attention(q.double(), k.double(), v.double())

    def error(got: Tensor) -> float:
        return float((got.double() - expected).abs().max() / expected.abs().max())

    with torch.autocast("cpu", dtype=half, enabled=autocast):
        got, full = relu_attention(q, k, v), relu_attention(q.float(), k.float(), v.float())
    assert got.dtype == half and error(got) < torch.finfo(half).eps  # one rounding, of the answer itself
    assert full.dtype == torch.float32 and error(full) < 1e-5


def test_gradients_in_double_precision_are_exact() -> None:
    q, k, v = (t[:1, :1, :, :5].clone().requires_grad_() for t in qkv(5))
    assert torch.autograd.gradcheck(relu_attention, (q, k, v))


def test_the_second_scale_is_the_first_where_nothing_is_aggregated() -> None:
    torch.manual_seed(0)
    attention = LinearAttention(16, 8)
    around, mix = attention.aggregate
    with torch.no_grad():
        around.weight.zero_()[:, :, 2, 2] = 1  # each cell alone
        mix.weight.copy_(torch.eye(8).repeat(6, 1)[:, :, None, None])
    seen = []
    attention.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    attention(torch.randn(2, 16, 6, 7))
    one, five = seen[0].chunk(2, dim=1)
    torch.testing.assert_close(one, five)
    with torch.no_grad():
        around.weight[:, :, 0, 0] = 1
    attention(torch.randn(2, 16, 6, 7))
    one, five = seen[1].chunk(2, dim=1)
    assert (one - five).abs().max() > 0.01


def test_every_cell_is_seen_by_every_other() -> None:
    torch.manual_seed(0)
    attention, x = unsettled(LinearAttention(16, 8)), torch.randn(1, 16, 9, 9, requires_grad=True)
    attention(x)[0, :, 0, 0].sum().backward()
    assert x.grad.abs().sum(1).gt(0).all()


def test_there_is_no_matrix_to_observe() -> None:
    assert not any(isinstance(module, Attend) for module in create("efficientvit_b0").modules())


def test_cost_is_linear_in_cells() -> None:
    """Four times the cells cost four times as much; only the layers after pooling cost the same."""
    after = 1024 * 1280 + 1280 * 1000
    small, large = (describe("efficientvit_b0", size=size).macs - after for size in (224, 448))
    assert large == 4 * small


def test_lean_blocks_have_one_norm_and_the_others_two_or_three() -> None:
    network = create("efficientvit_b1")
    norms = {
        name: sum(isinstance(m, nn.BatchNorm2d) for m in block.modules())
        for i, stage in enumerate(network.stages)
        for name, block in ((f"{i}.{j}", block) for j, block in enumerate(stage))
    }
    assert norms == {
        "0.0": 3, "0.1": 3, "1.0": 3, "1.1": 3, "1.2": 3,
        "2.0": 1, "2.1": 2, "2.2": 2, "2.3": 2, "3.0": 1, "3.1": 2, "3.2": 2, "3.3": 2, "3.4": 2,
    }  # fmt: skip
    assert [sum(isinstance(m, nn.BatchNorm2d) for m in layer.modules()) for layer in network.input_stem] == [1, 2]
    lean = network.stages[2][0]
    assert isinstance(lean, LeanResidual) and lean.expand.bias is not None and lean.depthwise.bias is not None


def test_a_fresh_block_changes_nothing() -> None:
    block = EfficientViT(EfficientViTConfig(**SMALL)).stages[2][1].eval()
    assert isinstance(block, Block)
    x = torch.randn(2, 16, 5, 6)
    assert torch.equal(block(x), x)


def test_pooled_ends_in_norm_and_hardswish() -> None:
    torch.manual_seed(0)
    network = unsettled(EfficientViT(EfficientViTConfig(**SMALL)))
    seen = []
    network.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        pooled = network(torch.randn(2, 3, 64, 64)).pooled
        x = seen[0]
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        x = x * network.norm.weight + network.norm.bias
        torch.testing.assert_close(pooled, x * (x + 3).clamp(0, 6) / 6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": (8, 8, 16, 16)}, "5 widths and 5 depths"),
        ({"head": (24,)}, "2 widths of its head"),
        ({"depths": (1, 1, 0, 1, 1)}, "at least 1"),
        ({"head_dim": 12}, "Width 16 is not a multiple of head_dim 12"),
    ],
)
def test_impossible_networks_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        EfficientViTConfig(**SMALL | change)
