from __future__ import annotations

import pytest
import torch
from torch import nn

from vitreous.layers.attention import Attend, Attention


def reference(attention: Attention) -> nn.MultiheadAttention:
    dim = attention.proj.in_features
    theirs = nn.MultiheadAttention(dim, attention.heads, batch_first=True, bias=attention.qkv.bias is not None)
    state = {"in_proj_weight": attention.qkv.weight, "out_proj.weight": attention.proj.weight}
    if attention.qkv.bias is not None:
        state |= {"in_proj_bias": attention.qkv.bias, "out_proj.bias": attention.proj.bias}
    theirs.load_state_dict(state)
    return theirs


def test_equals_torch() -> None:
    torch.manual_seed(0)
    ours = Attention(32, 4)
    x = torch.randn(2, 9, 32)
    torch.testing.assert_close(ours(x), reference(ours)(x, x, x, need_weights=False)[0], atol=1e-6, rtol=1e-5)


def test_gradients_equal_torch() -> None:
    torch.manual_seed(0)
    ours = Attention(16, 2).double()
    theirs = reference(ours).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    ours(x).square().sum().backward()
    theirs(x, x, x, need_weights=False)[0].square().sum().backward()
    torch.testing.assert_close(ours.qkv.weight.grad, theirs.in_proj_weight.grad)
    torch.testing.assert_close(ours.proj.bias.grad, theirs.out_proj.bias.grad)


def test_gradcheck() -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(
        Attention(8, 2).double(), torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_attend_is_the_softmax_formula(dtype: torch.dtype, biased: bool) -> None:
    """Both branches: the fused kernel, and plain matrix products for half precision on CPUs."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 16).to(dtype) for _ in range(3))
    bias = torch.randn(1, 3, 7, 7).to(dtype) if biased else None
    scores = q.double() @ k.double().transpose(-2, -1) / 4 + (bias.double() if bias is not None else 0)
    tolerance = 1e-6 if dtype == torch.float32 else 3e-2
    expected = scores.softmax(-1) @ v.double()
    torch.testing.assert_close(Attend()(q, k, v, bias).double(), expected, atol=tolerance, rtol=tolerance)


def test_permuting_tokens_permutes_the_answer() -> None:
    torch.manual_seed(0)
    ours, x, order = Attention(16, 4), torch.randn(2, 11, 16), torch.randperm(11)
    torch.testing.assert_close(ours(x[:, order]), ours(x)[:, order], atol=1e-6, rtol=1e-5)


def test_an_observer_recovers_the_exact_answer_from_the_seam() -> None:
    torch.manual_seed(0)
    ours, x, seen = Attention(16, 4), torch.randn(1, 6, 16), []
    assert not list(ours.attend.parameters())
    ours.attend.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
    ours(x)
    (q, k, v), output = seen[0]
    weights = (q @ k.transpose(-2, -1) / 2).softmax(-1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 6))
    torch.testing.assert_close(weights @ v, output, atol=1e-6, rtol=1e-5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide"):
        Attention(16, 3)
