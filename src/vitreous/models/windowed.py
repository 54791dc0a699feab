"""What Swin and Swin v2 share: stages of windowed blocks, each after the first begun by a merging of neighbours.

Knows no attention and no norm within a block: a family gives its blocks and its merging, and says how they begin.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.norm import depth_rates
from vitreous.layers.patch import PatchEmbed
from vitreous.layers.position import Resampled, fit
from vitreous.layers.visible import replaced
from vitreous.layers.window import Grid, WindowBlock, WindowStage
from vitreous.models.backbone import TokenBackbone
from vitreous.types import Features


@dataclass(frozen=True, kw_only=True)
class WindowedConfig:
    """What makes one network of windows another."""

    called: ClassVar[str]  # the family, in sentences

    size: int = 224  # side of the square picture whose grids bound the windows
    patch: int = 4
    channels: int = 3  # of the picture
    width: int  # of the first stage, doubled from stage to stage
    depths: tuple[int, ...]  # blocks a stage
    heads: tuple[int, ...]  # a stage
    window: int = 7  # cells a side
    mlp_ratio: float = 4.0
    position: Literal["relative", "both"] = "relative"  # "both" also adds learned positions to the patches
    qkv_bias: bool = True
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.heads) or min(*self.depths, *self.heads) < 1:
            raise UsageError(f"A {self.called} needs as many depths as heads, all of them at least 1.")
        if min(self.size, self.patch, self.channels, self.width, self.window) < 1:
            raise UsageError(f"A {self.called} needs size, patch, channels, width and window of at least 1.")
        for width, heads in zip(self.dims, self.heads, strict=True):
            if width % heads:
                raise UsageError(f"Width {width} is not a multiple of {heads} heads; choose others.")
        if not 1 <= self.width * self.mlp_ratio < math.inf:
            raise UsageError(f"mlp_ratio {self.mlp_ratio} gives an MLP without channels; use 1.0 to 4.0.")

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each stage."""
        return tuple(self.width * 2**i for i in range(len(self.depths)))

    @property
    def windows(self) -> tuple[int, ...]:
        """Side of each stage's windows: never larger than its grid at the size that the network is built for."""
        return tuple(min(self.window, -(-self.size // (self.patch * 2**i))) for i in range(len(self.depths)))


class Windowed(TokenBackbone, ABC):
    """(b, c, h, w) -> one map a stage, and the mean of the last one after the last norm."""

    stem = "patch_embed.proj"
    drops_hidden = False

    def __init__(self, config: WindowedConfig) -> None:
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
            merging = self.merging(self.dims[i - 1]) if i else nn.Identity()
            blocks = [self.block(i, bool(j % 2), next(rates)) for j in range(depth)]
            self.layers.append(WindowStage(merging, blocks))
        self.norm = nn.LayerNorm(self.width)
        self.reset_parameters()

    @abstractmethod
    def block(self, stage: int, shifted: bool, drop_path: float) -> WindowBlock:
        """A new block of ``stage``."""

    @abstractmethod
    def merging(self, dim: int) -> nn.Module:
        """A new layer, (b, h, w, dim) -> (b, h / 2, w / 2, 2 dim)."""

    def reset_parameters(self) -> None:
        """Fresh weights: truncated normal of deviation .02, biases zero, norms at their start."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, PatchEmbed)):
                module.reset_parameters()
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        maps = self._pyramid(self.embed(image), self.patch_embed.grid(image))  # (b, h_i, w_i, d_i) each
        pooled = self.norm(maps[-1]).mean(dim=(1, 2))
        return Features(tuple(x.permute(0, 3, 1, 2) for x in maps), pooled)

    def embed(self, image: Tensor, mask: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> patch tokens (b, n, d), with ``token`` (d,), or zeros, wherever ``mask`` (b, n) hides one."""
        tokens: Tensor = self.patch_embed(image)  # (b, n, d)
        if mask is not None:
            tokens = replaced(tokens, mask, tokens.new_zeros(()) if token is None else token)
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
        """Learned positions of another square grid, resampled."""
        return fit(tensor, self._positions_on.old, 0) if name == "absolute_pos_embed" else None

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
