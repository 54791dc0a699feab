from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitreous
from vitreous.layers import pack as packing
from vitreous.layers.conv import ConvNorm
from vitreous.layers.mlp import Mlp
from vitreous.layers.norm import LayerScale
from vitreous.layers.pack import FusedConv2d, FusedLinear, available, pack
from vitreous.layers.same import SameConv2d
from vitreous.layers.squeeze import SqueezeExcite

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "gelu tanh": lambda: nn.GELU("tanh"),
    "in place": lambda: nn.Hardswish(inplace=True),
}


@pytest.fixture(params=["oneDNN", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With torch's private operations, and as if this torch had none."""
    if request.param == "plain":
        monkeypatch.setattr(packing, "available", lambda dtype: False)
    elif not available(torch.float32):
        pytest.skip("this torch or CPU has none of oneDNN's operations")
    return request.param


def packed(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module).eval().requires_grad_(False)
    pack(module)
    return module


def settled(module: nn.Module) -> nn.Module:
    """Statistics and scales away from zeros and ones."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t in (m.weight, m.bias, m.running_mean):
                nn.init.normal_(t)
            nn.init.uniform_(m.running_var, 0.5, 2)
        if isinstance(m, LayerScale):
            nn.init.normal_(m.gamma)
    return module.eval()


def same(module: nn.Module, *inputs: Tensor, tolerance: float = 1e-5) -> nn.Module:
    fast = packed(settled(module))
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(fast(x), module(x.clone()), atol=tolerance, rtol=tolerance)
    return fast


def kinds(module: nn.Module) -> list[str]:
    return [type(m).__name__ for m in module.modules() if not list(m.children()) or type(m).__name__[:5] == "Fused"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear_layers_with_every_activation(activation: str, way: str) -> None:
    torch.manual_seed(0)
    fast = same(
        nn.Sequential(nn.Linear(8, 6), ACTIVATIONS[activation]()),
        *(torch.randn(*shape, 8) for shape in [(5,), (2, 7), (1, 1), (0,), (2, 3, 4)]),
    )
    assert isinstance(fast[0], FusedLinear) and isinstance(fast[1], nn.Identity)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_convolutions_with_every_activation(activation: str, way: str) -> None:
    torch.manual_seed(0)
    fast = same(
        nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), ACTIVATIONS[activation]()),
        *(torch.randn(b, 4, h, w) for b, h, w in [(2, 8, 8), (1, 8, 8), (3, 5, 9), (2, 8, 8)]),
        torch.randn(2, 4, 7, 7).contiguous(memory_format=torch.channels_last),
    )
    assert isinstance(fast[0], FusedConv2d) and isinstance(fast[1], nn.Identity)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_alone(bias: bool, way: str) -> None:
    torch.manual_seed(0)
    fast = same(nn.Sequential(nn.Linear(8, 6, bias=bias), nn.LayerNorm(6)), torch.randn(3, 8))
    assert isinstance(fast[0], FusedLinear) and isinstance(fast[1], nn.LayerNorm)
    same(nn.Sequential(nn.Conv2d(8, 6, 3, dilation=2, bias=bias)), torch.randn(2, 8, 9, 9))


def test_views_and_steps_in_memory_are_read_right(way: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 6, 16)
    same(nn.Sequential(nn.Linear(8, 6)), x[..., ::2], x[..., 3:11], x[:, :1, :8].expand(4, 6, 8), x[0, :, :8])


def test_a_brick_becomes_one_convolution(way: str) -> None:
    torch.manual_seed(0)
    root = nn.Sequential(ConvNorm(4, 6, 3, activation=nn.SiLU(inplace=True)), nn.MaxPool2d(2))
    assert kinds(same(root, torch.randn(2, 4, 8, 8))) == ["FusedConv2d", "SiLU", "MaxPool2d"]


def test_convolution_norm_and_activation_in_a_row(way: str) -> None:
    torch.manual_seed(0)
    root = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1), nn.BatchNorm2d(3))
    assert [type(m).__name__ for m in same(root, torch.randn(2, 4, 8, 8))] == [
        "FusedConv2d", "Identity", "Identity", "FusedConv2d", "Identity"
    ]  # fmt: skip


def test_what_stands_between_is_not_jumped_over(way: str) -> None:
    """A norm after the activation cannot go into the convolution before it, nor one across a pooling."""
    torch.manual_seed(0)
    parts = [nn.Conv2d(4, 6, 1), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.MaxPool2d(2), nn.BatchNorm2d(6)]
    fast = same(nn.Sequential(*parts), torch.randn(2, 4, 8, 8))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fast) == 2


class Scaled(nn.Module):
    followed = (("mlp.fc2", "scale"),)

    def __init__(self) -> None:
        super().__init__()
        self.mlp, self.scale = Mlp(8, 16), LayerScale(8, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.mlp(x))


def test_a_scale_goes_into_the_layer_before_it(way: str) -> None:
    torch.manual_seed(0)
    fast = same(Scaled(), torch.randn(3, 5, 8))
    assert isinstance(fast.scale, nn.Identity) and fast.mlp.fc1.how.name == "gelu"


def test_squeeze_and_excitation(way: str) -> None:
    torch.manual_seed(0)
    fast = same(nn.Sequential(SqueezeExcite(8, 4, gate=nn.Hardsigmoid)), torch.randn(2, 8, 5, 5))
    assert fast[0].reduce.how.name == "relu" and fast[0].expand.how.name == "hardsigmoid"


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def test_a_shared_layer_stays_shared(way: str) -> None:
    fast = same(Twice(), torch.randn(3, 8))
    assert fast.a is fast.b and isinstance(fast.a, FusedLinear)


def test_what_computes_in_its_own_way_is_left_alone(way: str) -> None:
    torch.manual_seed(0)
    root = nn.Sequential(
        SameConv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding="same"), nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"), nn.ELU(),
    )  # fmt: skip
    fast = same(root, torch.randn(2, 4, 8, 8))
    assert [type(m).__name__ for m in fast] == ["SameConv2d", "Identity", "ReLU", "Conv2d", "Conv2d", "ELU"]


def test_gradients_of_the_pixels_are_right_and_never_silently_none() -> None:
    torch.manual_seed(0)
    root = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    fast, x = packed(root), torch.randn(2, 3, 8, 8)
    (expected,) = torch.autograd.grad(root(a := x.clone().requires_grad_()).sum(), a)
    (got,) = torch.autograd.grad(fast(b := x.clone().requires_grad_()).sum(), b)
    torch.testing.assert_close(got, expected)
    assert not fast(x).requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_number_after_a_conversion(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    root = settled(nn.Sequential(ConvNorm(4, 6, 3, activation=nn.ReLU()), nn.Flatten(), nn.Linear(6 * 64, 5)))
    fast, x = packed(root), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        expected = root(x)
        torch.testing.assert_close(fast(x), expected, atol=1e-5, rtol=1e-5)  # lays its kernels out for float32
        converted = fast.to(dtype)(x.to(dtype))
        assert converted.dtype == dtype
        torch.testing.assert_close(converted.float(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-5, rtol=0)


def test_autocast_is_obeyed() -> None:
    fast, x = packed(nn.Sequential(nn.Linear(8, 6), nn.ReLU())), torch.randn(3, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == torch.bfloat16


def test_copies_and_pickles_lay_out_their_own_kernels() -> None:
    torch.manual_seed(0)
    fast, x = packed(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        expected = fast(x)
        for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            assert other[0]._kept is None
            assert torch.equal(other(x), expected)


def test_a_program_traced_from_it_has_only_public_operations() -> None:
    fast, x = packed(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())), torch.randn(2, 4, 8, 8)
    graph = torch.export.export(fast, (x,)).graph
    assert not any("mkldnn" in str(node.target) for node in graph.nodes)


@pytest.mark.filterwarnings("ignore")  # torch calls tracing deprecated, and names the branches it fixes
@pytest.mark.parametrize("model", ["vit_pico_patch4_32", "resnet20_cifar"])
@pytest.mark.parametrize("optimised", [True, False])
def test_a_network_can_be_traced(model: str, optimised: bool) -> None:
    """torch.jit.trace ends with an internal assertion at an operation that it does not know."""
    torch.manual_seed(0)
    network = vitreous.create(model, classes=5, size=32).eval()
    network = network.optimise() if optimised else network
    x = torch.rand(2, 3, 32, 32)
    expected = network(x)
    program = torch.jit.trace(network, x, check_trace=False)
    assert "mkldnn" not in str(program.inlined_graph)
    torch.testing.assert_close(program(x), expected, atol=1e-5, rtol=1e-5)


def test_operations_that_give_wrong_answers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are private: a later torch may change what their arguments mean."""

    class Ops:
        def __getattr__(self, name: str) -> Callable[..., Tensor]:
            return lambda x, *rest: F.relu(x).flatten()[:8] * 0

    available.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Ops())
    try:
        assert not available(torch.float32)
        monkeypatch.setattr(torch.ops, "mkldnn", object())  # or remove them
        available.cache_clear()
        assert not available(torch.float32)
    finally:
        available.cache_clear()
    assert not available(torch.float64)
