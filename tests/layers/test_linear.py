"""The layer that trains through oneDNN gives what torch's own gives, to rounding, and steps aside where it must."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from vitreous.layers import linear
from vitreous.layers.linear import Linear
from vitreous.layers.onednn import available


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what went through oneDNN's product."""
    seen: list[torch.Size] = []
    product = linear._product
    monkeypatch.setattr(linear, "_product", lambda x, *rest: (seen.append(x.shape), product(x, *rest))[1])
    return seen


def both(shape: tuple[int, ...], bias: bool) -> tuple[Linear, nn.Linear, Tensor]:
    torch.manual_seed(0)
    ours = Linear(shape[-1], 24, bias=bias)
    theirs = nn.Linear(shape[-1], 24, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.double(), torch.randn(shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 16), (2, 7, 16), (2, 3, 4, 16), (1, 1, 16), (0, 16)])
def test_product_and_gradients_are_those_of_float64(
    shape: tuple[int, ...], bias: bool, calls: list[torch.Size]
) -> None:
    ours, theirs, x = both(shape, bias)
    one, two = x.requires_grad_(), x.detach().double().requires_grad_()
    y, expected = ours(one), theirs(two)
    weight = torch.randn(expected.shape)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    close = {"atol": 1e-5, "rtol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(y, expected, **close)
    torch.testing.assert_close(one.grad, two.grad, **close)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, **close)
    assert len(calls) == (3 if available(torch.float32) and x.numel() else 0)


def test_what_needs_no_gradient_gets_none(calls: list[torch.Size]) -> None:
    ours, _, x = both((4, 16), True)
    ours.weight.requires_grad_(False)
    ours(x).sum().backward()
    assert ours.weight.grad is None and torch.equal(ours.bias.grad, torch.full((24,), 4.0))
    calls.clear()
    ours.bias.requires_grad_(False)
    assert not ours(x).requires_grad and not calls


def test_scattered_memory_is_no_obstacle() -> None:
    ours, theirs, _ = both((2, 16), True)
    x = torch.randn(16, 6, 2).permute(2, 1, 0).requires_grad_()
    y = ours(x)
    y.transpose(0, 1).square().sum().backward()
    z = x.detach().double().requires_grad_()
    theirs(z).transpose(0, 1).square().sum().backward()
    torch.testing.assert_close(x.grad, z.grad, atol=1e-4, rtol=1e-4, check_dtype=False)


@pytest.mark.parametrize("where", ["no_grad", "float64", "bfloat16", "autocast", "meta"])
def test_elsewhere_it_is_torchs_own(where: str, calls: list[torch.Size]) -> None:
    ours, _, x = both((4, 16), True)
    if where == "no_grad":
        with torch.no_grad():
            y = ours(x)
    elif where == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            y = ours(x)
        assert y.dtype == torch.bfloat16
    elif where == "meta":
        y = ours.to("meta")(x.to("meta"))
    else:
        kind = getattr(torch, where)
        y = ours.to(kind)(x.to(kind))
        assert y.dtype == kind
    assert y.shape == (4, 24) and not calls


def test_the_same_step_gives_the_same_bits() -> None:
    one, _, x = both((64, 16), True)
    two = copy.deepcopy(one)
    for layer in (one, two):
        layer(x).square().sum().backward()
    assert torch.equal(one.weight.grad, two.weight.grad) and torch.equal(one.bias.grad, two.bias.grad)


def test_it_is_a_linear_layer_to_whoever_asks() -> None:
    layer = Linear(3, 4)
    assert isinstance(layer, nn.Linear) and list(layer.state_dict()) == ["weight", "bias"]
    program = torch.export.export(layer, (torch.randn(2, 3),))
    x = torch.randn(2, 3)
    torch.testing.assert_close(program.module()(x), layer(x))


@pytest.mark.filterwarnings("ignore")  # torch calls tracing deprecated
def test_a_traced_layer_has_gradients_too() -> None:
    layer, x = Linear(3, 4), torch.randn(2, 3)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    program = torch.jit.trace(layer, x, check_trace=False)
    assert "mkldnn" not in str(program.inlined_graph)
    (got,) = torch.autograd.grad(program(x).square().sum(), layer.weight)
    torch.testing.assert_close(got, expected)
