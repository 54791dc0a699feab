"""Swin: a pyramid of transformers that attend within small windows, and shift the windows from block to block.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows". Parameters carry timm's
names: a stage begins with the merging that leads to it. Pictures of any size are accepted: what fills up the last
windows is seen by no cell, and a grid smaller than the window is one window, whose biases are resampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.layers.linear import Linear
from vitreous.layers.mlp import Mlp
from vitreous.layers.norm import depth_rates
from vitreous.layers.patch import PatchEmbed
from vitreous.layers.position import Resampled, fit, resample
from vitreous.layers.window import Biases, Grid, Layout, Quarter, WindowBlock, WindowStage
from vitreous.models.backbone import TokenBackbone
from vitreous.types import Features


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Everything that makes one Swin another."""

    size: int = 224  # side of the square picture whose grids bound the windows
    patch: int = 4
    channels: int = 3  # of the picture
    width: int  # of the first stage, doubled from stage to stage
    depths: tuple[int, ...]  # blocks a stage
    heads: tuple[int, ...]  # a stage
    window: int = 7  # cells a side
    mlp_ratio: float = 4.0
    position: Literal["relative", "both"] = "relative"  # "both" also adds learned positions to the patches (table 4)
    qkv_bias: bool = True
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.heads) or min(*self.depths, *self.heads) < 1:
            raise UsageError("A Swin needs as many depths as heads, all of them at least 1.")
        if min(self.size, self.patch, self.channels, self.width, self.window) < 1:
            raise UsageError("A Swin needs size, patch, channels, width and window of at least 1.")
        for width, heads in zip(self.dims, self.heads, strict=True):
            if width % heads:
                raise UsageError(f"Width {width} is not a multiple of {heads} heads; choose others.")

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each stage."""
        return tuple(self.width * 2**i for i in range(len(self.depths)))

    @property
    def windows(self) -> tuple[int, ...]:
        """Side of each stage's windows: never larger than its grid at the size that the network is built for."""
        return tuple(min(self.window, -(-self.size // (self.patch * 2**i))) for i in range(len(self.depths)))


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
        table = self.relative_position_bias_table
        return self._biases(layout, [table], lambda: _stretched(table, self.window, layout.window))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(m, n, d), bias (1 or m, heads, n, n) -> (m, n, d)"""
        m, n, d = x.shape
        qkv = self.qkv(x).view(m, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (m, heads, n, d_h) each
        x = self.attend(q, k, v, bias)
        x = self.proj(x.transpose(1, 2).reshape(m, n, d))
        return x


def _stretched(table: Tensor, old: int, new: Grid) -> Tensor:
    """The biases of all offsets in windows of ``old`` x ``old`` cells, for ``new``: bicubic, as section 3.2 has it."""
    return resample(table[None], (2 * old - 1, 2 * old - 1), (2 * new[0] - 1, 2 * new[1] - 1))[0]


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


class Swin(TokenBackbone):
    """(b, c, h, w) -> one map a stage, and the mean of the last one after the last norm."""

    stem = "patch_embed.proj"
    drops_hidden = False

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.dims, self.width = config.dims, config.dims[-1]
        self.strides = tuple(config.patch * 2**i for i in range(len(self.dims)))

        self.patch_embed = PatchEmbed(config.patch, config.width, config.channels, norm=True)
        side = -(-config.size // config.patch)
        learned = config.position == "both"
        self.absolute_pos_embed = nn.Parameter(torch.empty(1, side * side, config.width)) if learned else None
        self._positions_on = Resampled((side, side))
        rates = iter(depth_rates(config.drop_path, sum(config.depths)))
        self.layers = nn.Sequential()
        for i, depth in enumerate(config.depths):
            merging = PatchMerging(self.dims[i - 1]) if i else nn.Identity()
            blocks = [Block(config, i, bool(j % 2), next(rates)) for j in range(depth)]
            self.layers.append(WindowStage(merging, blocks))
        self.norm = nn.LayerNorm(self.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: truncated normal of deviation .02, biases zero, norms at their start."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, PatchEmbed)):
                module.reset_parameters()
            elif isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        maps = self._pyramid(self.embed(image), self.patch_embed.grid(image))  # (b, h_i, w_i, d_i) each
        pooled = self.norm(maps[-1]).mean(dim=(1, 2))
        return Features(tuple(x.permute(0, 3, 1, 2) for x in maps), pooled)

    def embed(self, image: Tensor, mask: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> patch tokens (b, n, d), with ``token`` (d,) wherever ``mask`` (b, n) hides one.

        The token is zero unless given: it belongs to whoever pretrains and learns it (Xie et al. 2022, "SimMIM",
        section 3.2), and does not ship with the backbone.
        """
        tokens: Tensor = self.patch_embed(image)  # (b, n, d)
        if mask is not None:
            tokens = torch.where(mask[..., None], tokens.new_zeros(()) if token is None else token, tokens)
        if self.absolute_pos_embed is not None:
            tokens = tokens + self._positions_on(self.absolute_pos_embed, self.patch_embed.grid(image))
        return tokens

    def encode(self, tokens: Tensor, grid: Grid | None = None) -> Tensor:
        """(b, n, d) -> (b, n', d') of the last stage, after the last norm; ``grid`` is a square unless given.

        Raises:
            ValueError: the tokens do not fill the grid.
        """
        n = tokens.shape[1]
        grid = grid or (math.isqrt(n), math.isqrt(n))
        if grid[0] * grid[1] != n:
            raise ValueError(f"{n} tokens do not fill a grid of {grid[0]} x {grid[1]}; pass their grid")
        tokens = self.norm(self._pyramid(tokens, grid)[-1].flatten(1, 2))
        return tokens

    def _pyramid(self, tokens: Tensor, grid: Grid) -> list[Tensor]:
        """(b, n, d) -> (b, h_i, w_i, d_i) after each stage"""
        x, maps = tokens.unflatten(1, grid), []
        for stage in self.layers:
            x = stage(x)
            maps.append(x)
        return maps

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Positions of another square grid, and biases of other square windows, resampled."""
        if name == "absolute_pos_embed":
            return fit(tensor, self._positions_on.old, 0)
        if not name.endswith("relative_position_bias_table") or tensor.ndim != 2:
            return None
        side = math.isqrt(self.get_parameter(name).shape[0])
        table = fit(tensor[None], (side, side), 0)  # (1, offsets, heads)
        return None if table is None else table[0]

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; a merging goes with the block after it, the last norm with the last block."""
        groups: dict[str, list[str]] = {"stem": []}
        for name, _ in self.named_parameters():
            part, *path = name.split(".")
            if part == "layers":
                key = f"{path[0]}.{path[2] if path[1] == 'blocks' else 0}"
            else:
                key = list(groups)[-1] if part == "norm" else "stem"
            groups.setdefault(key, []).append(name)
        return list(groups.values())
