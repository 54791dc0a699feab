"""Multi-head self-attention: tokens exchange information. Knows nothing of pictures or grids.

Vaswani et al. 2017, section 3.2; Dosovitskiy et al. 2021, appendix A.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.layers.linear import Linear

_HALVES = (torch.bfloat16, torch.float16)
_LONG = 1024  # tokens from which the (n, n) scores cost more memory than they save time


class Attend(nn.Module):
    """softmax(q k' / sqrt(d_h) + bias) v, without parameters: the place where an observer looks.

    Hook its inputs and recompute the exact weights outside; the forward pass itself never returns them.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Three times (b, heads, n, d_h), bias broadcastable to (b, heads, n, n) -> (b, heads, n, d_h)."""
        # on CPUs the fused kernel gains nothing from bfloat16 and its backward pass takes twice to four times as long
        if q.device.type == "cpu" and q.dtype in _HALVES and k.shape[-2] <= _LONG:
            scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # (b, heads, n, n)
            return (scores if bias is None else scores + bias).softmax(dim=-1) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class Attention(nn.Module):
    """Self-attention with one fused q, k, v matrix, in that order."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.attend = Attend()
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (b, heads, n, d_h) each
        x = self.attend(q, k, v)
        x = self.proj(x.transpose(1, 2).reshape(b, n, d))
        return x
