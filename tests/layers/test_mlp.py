from __future__ import annotations

import torch
from torch import nn

from vitreous.layers.mlp import Mlp


def test_equals_torch_modules() -> None:
    torch.manual_seed(0)
    ours = Mlp(8, 24)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x), nn.Sequential(ours.fc1, nn.GELU(), ours.fc2)(x))


def test_gradcheck() -> None:
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(Mlp(4, 8).double(), torch.randn(2, 4, dtype=torch.float64, requires_grad=True))
