from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from vitreous.layers.squeeze import SqueezeExcite


def test_gates_are_two_linear_layers_on_the_mean() -> None:
    torch.manual_seed(0)
    unit, x = SqueezeExcite(6, 3, activation=nn.SiLU, gate=nn.Hardsigmoid), torch.randn(2, 6, 4, 5)
    mean = F.adaptive_avg_pool2d(x, 1).flatten(1)
    hidden = F.silu(F.linear(mean, unit.reduce.weight.flatten(1), unit.reduce.bias))
    gates = F.hardsigmoid(F.linear(hidden, unit.expand.weight.flatten(1), unit.expand.bias))
    torch.testing.assert_close(unit(x), torch.einsum("bchw,bc->bchw", x, gates))


def test_by_default_relu_and_sigmoid_as_in_the_paper() -> None:
    unit = SqueezeExcite(4, 2)
    nn.init.constant_(unit.reduce.weight, -1)  # ReLU is silent: only the bias of the second layer is left
    nn.init.zeros_(unit.reduce.bias)
    x = torch.rand(1, 4, 3, 3)
    torch.testing.assert_close(unit(x), x * torch.sigmoid(unit.expand.bias).view(1, 4, 1, 1))


def test_it_follows_the_picture_and_not_the_place() -> None:
    torch.manual_seed(0)
    unit, x = SqueezeExcite(4, 2), torch.randn(1, 4, 5, 6)
    order = torch.randperm(30)
    moved = unit(x.flatten(2)[..., order].view_as(x))
    torch.testing.assert_close(moved, unit(x).flatten(2)[..., order].view_as(x))
    assert not torch.allclose(unit(2 * x), 2 * unit(x))
