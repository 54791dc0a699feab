"""Swin: a pyramid of transformers that attend within small windows, and shift the windows from block to block.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows". Parameters carry timm's
names: a stage begins with the merging that leads to it. Pictures of any size are accepted: what fills up the last
windows is seen by no cell, and a grid smaller than the window is one window, whose biases are resampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.layers.attention import Attend
from vitreous.layers.linear import Linear
from vitreous.layers.mlp import Mlp
from vitreous.layers.position import fit_offsets, resample_offsets
from vitreous.layers.window import Biases, Layout, Quarter, WindowBlock
from vitreous.models.windowed import Windowed, WindowedConfig


@dataclass(frozen=True, kw_only=True)
class SwinConfig(WindowedConfig):
    """Everything that makes one Swin another; table 4 of the paper compares the kinds of position."""

    called = "Swin"


class WindowAttention(nn.Module):
    """softmax(q k' / sqrt(d_h) + B) v within each window (equation 4); B goes by the offset of two cells."""

    def __init__(self, dim: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.attend = Attend()
        self.proj = Linear(dim, dim)
        self._biases = Biases()

    def bias(self, layout: Layout) -> Tensor:
        """(k, heads, n, n): what is added to the scores of each kind of window."""
        table, side = self.relative_position_bias_table, self.window
        return self._biases(layout, [table], lambda: resample_offsets(table, (side, side), layout.window))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(m, n, d), bias (1 or m, heads, n, n) -> (m, n, d)"""
        m, n, d = x.shape
        qkv = self.qkv(x).view(m, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (m, heads, n, d_h) each
        x = self.attend(q, k, v, bias)
        x = self.proj(x.transpose(1, 2).reshape(m, n, d))
        return x


class Block(WindowBlock):
    """x + attention(norm(x)) within windows, regular or shifted, then x + mlp(norm(x)) (equation 3)."""

    def __init__(self, config: SwinConfig, stage: int, shifted: bool, drop_path: float) -> None:
        d, window = config.dims[stage], config.windows[stage]
        super().__init__(window, shifted, drop_path)
        self.norm1 = nn.LayerNorm(d)
        self.attn = WindowAttention(d, config.heads[stage], window, config.qkv_bias)
        self.norm2 = nn.LayerNorm(d)
        self.mlp = Mlp(d, int(d * config.mlp_ratio))

    def bias(self, layout: Layout) -> Tensor:
        """(k, heads, n, n)"""
        return self.attn.bias(layout)

    def within(self, windows: Tensor, bias: Tensor) -> Tensor:
        """(m, n, d) -> (m, n, d)"""
        windows = self.attn(self.norm1(windows), bias)
        return windows

    def alone(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        x = self.mlp(self.norm2(x))
        return x


class PatchMerging(nn.Module):
    """Every two by two neighbours become one cell of twice the width (section 3.1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.quarter = Quarter()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h / 2, w / 2, 2 d)"""
        x = self.quarter(x)  # (b, h / 2, w / 2, 4 d)
        grid = x.shape[1:3]
        x = self.reduction(self.norm(x.flatten(1, 2))).unflatten(1, grid)  # through (b, n / 4, 4 d), (b, n / 4, 2 d)
        return x


class Swin(Windowed):
    """(b, c, h, w) -> one map a stage, and the mean of the last one after the last norm."""

    config: SwinConfig
    adapts = ("window",)

    def block(self, stage: int, shifted: bool, drop_path: float) -> Block:
        """A new block of ``stage``."""
        return Block(self.config, stage, shifted, drop_path)

    def merging(self, dim: int) -> PatchMerging:
        """(b, h, w, dim) -> (b, h / 2, w / 2, 2 dim)"""
        return PatchMerging(dim)

    def reset_parameters(self) -> None:
        """Fresh weights: truncated normal of deviation .02, biases zero, norms at their start."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Positions of another square grid, and biases of other square windows, resampled."""
        if name.endswith("relative_position_bias_table"):
            return fit_offsets(tensor, self.get_parameter(name))
        return super().fitted(name, tensor)
