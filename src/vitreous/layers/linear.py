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
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])  # (m, d)
        wanted = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if wanted[0] else None,
            _product(rows.t(), x.reshape(-1, x.shape[-1]).t()) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
