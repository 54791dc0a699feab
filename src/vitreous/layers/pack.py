"""One operation where a network has several: layer, norm, scale and activation in one, for inference.

What is linear becomes one set of weights. The activation is computed by oneDNN on each tile of the result before that
leaves the cache (a "post-op"), where eager torch writes the result out and reads it again. oneDNN's matrix products
also use the whole width of AVX-512 on every CPU that has it, where torch's own choice for float32, MKL, uses half of it
on AMD's: on one Zen 5 core 1576 x 384 by 384 x 1536 takes 8.2 ms instead of 17.7, and with GELU 12.1 instead of 23.4.

The operations are those that torch's compiler emits; they are private to torch, have no gradient and exist for CPUs
alone. So each is tried before it is used, and wherever it does not apply (another device or type of number, a gradient
asked for, autocast, a program being traced) the same weights go through torch's public functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vitreous.layers.conv import ConvNorm
from vitreous.layers.linear import Linear
from vitreous.layers.lora import merge
from vitreous.layers.norm import LayerScale
from vitreous.layers.onednn import available

Activation = Callable[[Tensor], Tensor]


class Post(NamedTuple):
    """An activation in oneDNN's words."""

    name: str
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


_POSTS: dict[object, Post] = {
    nn.Identity: Post("none"),
    nn.ReLU: Post("relu"),
    nn.ReLU6: Post("hardtanh", (0.0, 6.0)),
    nn.SiLU: Post("swish"),
    nn.Hardswish: Post("hardswish"),
    nn.Hardsigmoid: Post("hardsigmoid"),
    nn.Sigmoid: Post("sigmoid"),
    nn.Tanh: Post("tanh"),
    F.relu: Post("relu"),
    F.silu: Post("swish"),
    F.gelu: Post("gelu", algorithm="none"),
}


def post(activation: object) -> Post | None:
    """What oneDNN calls ``activation``, a module or a function; None where it has no such thing."""
    if isinstance(activation, nn.GELU):
        return Post("gelu", algorithm=activation.approximate)
    return _POSTS.get(type(activation) if isinstance(activation, nn.Module) else activation)


def _applies(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's operations can be used on ``x`` and give what torch's public ones would."""
    return (
        x.is_cpu
        and x.numel() > 0
        and x.dtype == weight.dtype
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]  # as torch documents it, and does not export it
        and available(x.dtype)
    )


class FusedLinear(nn.Module):
    """activation(x W' + b).

    The weight stays as it is: laid out beforehand it would save 3 % at 1576 rows, and double the memory.
    """

    def __init__(self, layer: nn.Linear, activation: Activation, how: Post) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.activation, self.how = activation, how

    def forward(self, x: Tensor) -> Tensor:
        """(..., c) -> (..., d)"""
        if not _applies(x, self.weight):
            return self.activation(F.linear(x, self.weight, self.bias))
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.how)
        return y

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, {self.how.name}"


class FusedConv2d(nn.Module):
    """activation(convolution(x)), with the kernel kept in the layout that oneDNN chose for the last shape of x.

    Only for the last one: a layout chosen for another shape can be ten times slower (a 1x1 kernel 512 -> 2048 laid out
    for 32 x 32 cells takes 40 ms on 7 x 7 instead of 4.5), and laying out anew costs what eager torch pays every time.
    """

    def __init__(self, layer: nn.Conv2d, activation: Activation, how: Post) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)
        self.activation, self.how = activation, how
        self._kept: tuple[torch.Size, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h', w')"""
        if not _applies(x, self.weight):
            padding, stride, dilation, groups = self.geometry
            return self.activation(F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups))
        kept = self._kept
        if kept is None or kept[0] != x.shape:
            kernel = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, list(x.shape))
            kept = self._kept = (x.shape, kernel)  # in one step: threads may share this module
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, kept[1], self.bias, *self.geometry, *self.how)
        return y

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FusedConv2d:
        """As in torch; weights of another type or place need another layout."""
        self._kept = None
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """A copy lays its kernel out itself."""
        return self.__dict__ | {"_kept": None}

    def extra_repr(self) -> str:
        outputs, inputs, *kernel = self.weight.shape
        return f"{inputs * self.geometry[3]}, {outputs}, {kernel}, {self.how.name}"


def pack(root: nn.Module) -> None:
    """Put together what follows one another in ``root``, in place; what is left is for evaluation alone.

    A module names in ``followed`` the parts that it always applies one after another, as ``("fc1", "activation")``; of
    an ``nn.Sequential`` they are known.
    """
    merge(root)
    for module in list(root.modules()):
        for names in _chains(module):
            _join(module, names)
    done: dict[nn.Module, nn.Module] = {}
    for module in list(root.modules()):
        for name, child in list(module._modules.items()):  # named_children leaves out the second name of one part
            if child is not None:
                done.setdefault(child, _alone(child))
                setattr(module, name, done[child])


def _chains(module: nn.Module) -> Iterator[Sequence[str]]:
    yield from getattr(module, "followed", ())
    if isinstance(module, nn.Sequential):
        yield [name for name, _ in module.named_children()]


def _join(module: nn.Module, names: Sequence[str]) -> None:
    """Take each part into the one before it where that is possible."""
    first = names[0]
    for second in names[1:]:
        joined = _joined(_part(module, first), _part(module, second))
        if joined is None:
            first = second
        else:
            _put(module, first, joined)
            _put(module, second, nn.Identity())


def _joined(layer: Any, after: Any) -> nn.Module | None:
    """``after`` applied to ``layer``'s result as one module; None where there is no such thing."""
    if isinstance(after, nn.Identity):
        return layer if isinstance(layer, nn.Module) else None
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return None
    if isinstance(after, nn.BatchNorm2d) and isinstance(layer, nn.Conv2d):
        _fold_norm(layer, after)
        return layer
    if isinstance(after, LayerScale):
        _fold_scale(layer, after)
        return layer
    how = post(after)
    return None if how is None else _fused(layer, after, how)


def _fold_norm(layer: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    layer.weight, layer.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _fold_scale(layer: nn.Linear | nn.Conv2d, scale: LayerScale) -> None:
    gamma = scale.gamma.detach()
    layer.weight = nn.Parameter(layer.weight * gamma.view(-1, *(1,) * (layer.weight.ndim - 1)), requires_grad=False)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias * gamma, requires_grad=False)


def _fused(layer: Any, activation: Activation, how: Post) -> nn.Module | None:
    """Both in one; None for a subclass, which computes in its own way."""
    if type(layer) in (nn.Linear, Linear):
        return FusedLinear(layer, activation, how)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return FusedConv2d(layer, activation, how)
    return None


def _alone(module: nn.Module) -> nn.Module:
    """What stands for ``module``: of a brick its convolution if nothing else is left, of a layer the fused one."""
    if isinstance(module, ConvNorm) and isinstance(module.norm, nn.Identity) and isinstance(module.act, nn.Identity):
        module = module.conv
    return _fused(module, nn.Identity(), _POSTS[nn.Identity]) or module


def _part(module: nn.Module, name: str) -> Any:
    return reduce(getattr, name.split("."), module)


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    *path, last = name.split(".")
    setattr(reduce(getattr, path, module), last, part)
