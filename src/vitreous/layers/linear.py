"""A linear layer that also trains fast where torch's own is slow: float32 on a CPU.

There torch gives matrix products to MKL, which uses half the width of AVX-512 on AMD's processors; oneDNN uses all of
it on every processor that has it. Products of other types, on other devices, and in programs being traced are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vitreous.layers.onednn import available


class Linear(nn.Linear):
    """``nn.Linear``: x W' + b. Only what a training step on a CPU takes for it differs."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., c) -> (..., d)"""
        if _applies(x, self.weight):
            y: Tensor = _Product.apply(x, self.weight, self.bias)
            return y
        return F.linear(x, self.weight, self.bias)


def _applies(x: Tensor, weight: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and x.is_cpu
        and x.numel() > 0  # oneDNN has no product of nothing
        and x.dtype == weight.dtype == torch.float32
        and (x.requires_grad or weight.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]  # as torch documents it, and does not export it
        and available(torch.float32)
    )


class _Product(torch.autograd.Function):
    """x W' + b and its three gradients, each one product of oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        for_x, for_weight, _ = ctx.needs_input_grad  # of a frozen layer the gradient of x needs only the weight
        ctx.save_for_backward(x if for_weight else None, weight if for_x else None)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])  # (m, d)
        return (
            None if weight is None else _product(gradient, weight.t()),
            None if x is None else _product(rows.t(), x.reshape(-1, x.shape[-1]).t()),
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
