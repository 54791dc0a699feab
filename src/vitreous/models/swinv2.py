"""Swin v2: Swin made steadier and free of its window's size: norms after the branches, cosine attention, and a position
bias that is a function of the offset instead of a table.

Liu et al. 2022, "Swin Transformer V2: Scaling Up Capacity and Resolution". Parameters carry timm's names: a stage
begins with the merging that leads to it. Pictures of any size are accepted: what fills up the last windows is seen by
no cell, and a grid smaller than the window is one window, whose biases the function gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.layers.linear import Linear
from vitreous.layers.mlp import Mlp
from vitreous.layers.window import Biases, Grid, Layout, Quarter, WindowBlock
from vitreous.models.windowed import Windowed, WindowedConfig


@dataclass(frozen=True, kw_only=True)
class SwinV2Config(WindowedConfig):
    """Everything that makes one Swin v2 another."""

    called = "Swin v2"

    size: int = 256
    window: int = 8
    trained: tuple[int, ...] = ()  # windows of an earlier training, a stage, in which offsets are measured

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trained and (len(self.trained) != len(self.depths) or min(self.trained) < 1):
            raise UsageError(f"trained names a window of at least 1 for each of {len(self.depths)} stages, or none.")

    @property
    def measures(self) -> tuple[int, ...]:
        """Side of the windows in which a stage measures offsets."""
        return self.trained or self.windows


class CosineAttention(nn.Module):
    """softmax(cos(q, k) / tau + B) v within each window (equation 2); B is a small network of the offset of two cells.

    A key has no bias, as in the authors' code: it would make keys alike.
    """

    def __init__(self, dim: int, heads: int, trained: int | None, qkv_bias: bool) -> None:
        super().__init__()
        self.heads, self.trained = heads, trained
        self.logit_scale = nn.Parameter(torch.empty(heads, 1, 1))  # the logarithm of 1 / tau
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, heads, bias=False))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.empty(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.empty(dim)) if qkv_bias else None
        self.attend = Attend()
        self.proj = Linear(dim, dim)
        self._biases = Biases()

    def bias(self, layout: Layout) -> Tensor:
        """(k, heads, n, n): what is added to the scores of each kind of window, between 0 and 16 where it is finite."""
        return self._biases(layout, list(self.cpb_mlp.parameters()), lambda: self._table(layout.window))

    def _table(self, window: Grid) -> Tensor:
        """((2p - 1)(2q - 1), heads)"""
        weight = self.logit_scale
        apart = log_offsets(window, self.trained).to(weight.device, weight.dtype)  # ((2p - 1)(2q - 1), 2)
        table: Tensor = 16 * torch.sigmoid(self.cpb_mlp(apart))
        return table

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(m, n, d), bias (1 or m, heads, n, n) -> (m, n, d)"""
        m, n, d = x.shape
        if self.q_bias is None or self.v_bias is None:
            qkv = self.qkv(x)
        else:
            qkv = F.linear(x, self.qkv.weight, torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias]))
        q, k, v = qkv.view(m, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)  # (m, heads, n, d_h)
        scale = self.logit_scale.clamp(max=math.log(100)).exp()  # (heads, 1, 1); tau is .01 or more
        q = unit(q) * (scale * math.sqrt(q.shape[-1]))  # attention divides by this root
        x = self.attend(q, unit(k), v, bias)
        x = self.proj(x.transpose(1, 2).reshape(m, n, d))
        return x


def unit(x: Tensor) -> Tensor:
    """x / |x| over the last axis; a zero stays one, also in float16, where torch's own bound of 1e-12 is zero."""
    return F.normalize(x, dim=-1, eps=max(1e-12, torch.finfo(x.dtype).tiny))


def log_offsets(window: Grid, trained: int | None = None) -> Tensor:
    """((2p - 1)(2q - 1), 2): every offset within a window, down and to the right, by the logarithm (section 3.3).

    The farthest offset of the window in training, by default of this one, is 8 steps of equal meaning: 8 x becomes
    sign(x) log2(1 + |8 x|) / log2(8). In float32, as everybody's weights were trained.
    """
    axes = [torch.arange(1 - side, side).float() / max((trained or side) - 1, 1) * 8 for side in window]
    apart = torch.cartesian_prod(*axes)
    return apart.sign() * (apart.abs() + 1).log2() / 3


class Block(WindowBlock):
    """x + norm(attention(x)) within windows, regular or shifted, then x + norm(mlp(x)) (figure 1)."""

    def __init__(self, config: SwinV2Config, stage: int, shifted: bool, drop_path: float) -> None:
        super().__init__(config.windows[stage], shifted, drop_path)
        d, trained = config.dims[stage], config.trained[stage] if config.trained else None
        self.attn = CosineAttention(d, config.heads[stage], trained, config.qkv_bias)
        self.norm1 = nn.LayerNorm(d)
        self.mlp = Mlp(d, int(d * config.mlp_ratio))
        self.norm2 = nn.LayerNorm(d)

    def bias(self, layout: Layout) -> Tensor:
        """(k, heads, n, n)"""
        return self.attn.bias(layout)

    def within(self, windows: Tensor, bias: Tensor) -> Tensor:
        """(m, n, d) -> (m, n, d)"""
        windows = self.norm1(self.attn(windows, bias))
        return windows

    def alone(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)"""
        x = self.norm2(self.mlp(x))
        return x


class PatchMerging(nn.Module):
    """Every two by two neighbours become one cell of twice the width, normalised at the end."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.quarter = Quarter()
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h / 2, w / 2, 2 d)"""
        x = self.quarter(x)  # (b, h / 2, w / 2, 4 d)
        grid = x.shape[1:3]
        x = self.norm(self.reduction(x.flatten(1, 2))).unflatten(1, grid)  # through (b, n / 4, 4 d), (b, n / 4, 2 d)
        return x


class SwinV2(Windowed):
    """(b, c, h, w) -> one map a stage, and the mean of the last one after the last norm."""

    config: SwinV2Config
    adapts = ("window", "trained")

    def block(self, stage: int, shifted: bool, drop_path: float) -> Block:
        """A new block of ``stage``."""
        return Block(self.config, stage, shifted, drop_path)

    def merging(self, dim: int) -> PatchMerging:
        """(b, h, w, dim) -> (b, h / 2, w / 2, 2 dim)"""
        return PatchMerging(dim)

    def measured(self, name: str, tensor: Tensor) -> str | None:
        """Whether a block's table of offsets, (1, 2p - 1, 2p - 1, 2), has the logarithms that they have here."""
        stage = int(name.split(".")[1])
        window = self.config.windows[stage]
        side = (len(tensor[0]) + 1) // 2 if tensor.ndim == 4 and len(tensor) else 0
        if tensor.shape != (1, 2 * side - 1, 2 * side - 1, 2):
            raise UsageError(f"{name} is no table of offsets within a window; take another file.")
        if side < 2 or window < 2:
            return None  # a window of one cell has no offset to measure
        theirs = float(tensor[0, side, side, 1])  # one step to the right: log2(1 + 8 / (m - 1)) / 3
        if abs(theirs - float(log_offsets((1, window), self.config.measures[stage])[window, 1])) < 5e-4:
            return None
        m = round(1 + 8 / (2 ** (3 * theirs) - 1)) if 1e-6 < theirs < 2 else 0  # beyond, floats end before windows do
        return self._remeasured(stage, side, m)

    def adapted(self, theirs: SwinV2Config) -> list[str]:
        """Stages that measure offsets in other windows than the weights did."""
        told = []
        for stage, (side, measure) in enumerate(zip(theirs.windows, theirs.measures, strict=True)):
            if measure != self.config.measures[stage] and min(side, self.config.windows[stage]) > 1:
                told.append(f"layers.{stage}: {self._remeasured(stage, side, measure)}")
        return told

    def _remeasured(self, stage: int, side: int, measure: int) -> str:
        """In words, that offsets come from windows of ``side``, measured in ``measure``; refused if windows stay."""
        ours = self.config.measures[stage]
        if side != self.config.windows[stage]:
            return f"offsets measured in windows of {measure} cells to those of {ours}"
        raise UsageError(
            f"These weights measure offsets in windows of {measure} cells in stage {stage + 1}, and this network in "
            f"those of {ours}; build it with the right trained=(...) among its options."
        )

    def reset_parameters(self) -> None:
        """Fresh weights: truncated normal of deviation .02, biases zero; norms that end a branch zero."""
        super().reset_parameters()
        for module in self.modules():
            if isinstance(module, CosineAttention):
                nn.init.constant_(module.logit_scale, math.log(10))
                for bias in (module.q_bias, module.v_bias):
                    if bias is not None:
                        nn.init.zeros_(bias)
            elif isinstance(module, Block):
                nn.init.zeros_(module.norm1.weight)
                nn.init.zeros_(module.norm2.weight)
