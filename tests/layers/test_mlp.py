from __future__ import annotations

import pytest
import torch
from torch import nn

from vitreous.layers.mlp import Mlp, SwiGLU


def test_equals_torch_modules() -> None:
    torch.manual_seed(0)
    ours = Mlp(8, 24)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x), nn.Sequential(ours.fc1, nn.GELU(), ours.fc2)(x))


def test_swiglu_equals_its_formula() -> None:
    """W3 (silu(W1 x + b1) * (W2 x + b2)) + b3 with W1 above W2 in one matrix."""
    torch.manual_seed(0)
    ours, x = SwiGLU(8, 36), torch.randn(2, 5, 8)
    (w1, w2), (b1, b2) = ours.fc1.weight.chunk(2), ours.fc1.bias.chunk(2)
    gate = x @ w1.T + b1
    expected = (gate * torch.sigmoid(gate) * (x @ w2.T + b2)) @ ours.fc2.weight.T + ours.fc2.bias
    torch.testing.assert_close(ours(x), expected)


def test_swiglu_costs_what_the_perceptron_costs() -> None:
    for dim, hidden, narrow in ((1536, 6144, 4096), (384, 1536, 1024), (32, 128, 88)):
        swiglu = SwiGLU(dim, hidden)
        assert swiglu.fc2.in_features == narrow and narrow % 8 == 0
        ratio = swiglu.fc1.weight.numel() + swiglu.fc2.weight.numel()
        assert 1 <= ratio / (2 * dim * hidden) < 1.04


@pytest.mark.parametrize("kind", [Mlp, SwiGLU])
def test_gradcheck(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(kind(4, 8).double(), torch.randn(2, 4, dtype=torch.float64, requires_grad=True))
