"""Hybrid: a convolutional trunk, and attention among the few cells that it leaves. For small sets, from scratch.

Ours, after Graham et al. 2021, "LeViT" (convolutions first, batch norms instead of layer norms, a learned bias for each
offset between two cells), and Xiao et al. 2021, "Early convolutions help transformers see better". The trunk of basic
residual blocks brings what a transformer cannot learn from a few thousand pictures, locality; attention works where
all cells together are few, so that it is cheap and sees the whole picture. Its branches end in norms that start at
zero: the network begins as its trunk. The trunk's own norms start at one; zeros there cost 3 points (docs/recipes.md).

``mixer`` makes the controls that tell whether attention earns its time: the same network with a convolution of equal
cost in its place ("conv"), or with nothing ("none").

Pictures of any size are accepted: the table of offsets is resampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.pool import pool_map
from vitreous.layers.position import fit_offsets, resample_offsets
from vitreous.layers.remember import Remembered
from vitreous.layers.residual import Basic, projection
from vitreous.layers.window import offsets
from vitreous.models.backbone import Backbone
from vitreous.types import Features

Mixer = Literal["attention", "conv", "none"]
"""How the cells of the last maps exchange information."""


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """Everything that makes one hybrid another."""

    size: int = 32  # side of the square picture whose offsets are learned
    channels: int = 3  # of the picture
    halvings: int = 0  # convolutions of stride 2 in the stem: 0 at 32 pixels, 1 at 64 to 128, 2 above
    widths: tuple[int, ...] = (16, 32, 64, 96)  # of the trunk's stages, each half as fine as the one before
    depths: tuple[int, ...] = (1, 2, 2, 1)  # basic blocks a stage; the first stage may have none
    blocks: int = 2  # of attention, at the end of the last stage
    head_dim: int = 32
    mlp_ratio: float = 2.0
    mixer: Mixer = "attention"
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if not self.widths or len(self.widths) != len(self.depths):
            raise UsageError("A hybrid needs as many depths as widths, at least one of each.")
        if min(*self.widths, self.size, self.channels, self.head_dim, *self.depths[1:]) < 1:
            raise UsageError("Size, channels, widths, head_dim and the later depths of a hybrid are at least 1.")
        if min(self.depths[0], self.blocks, self.halvings) < 0:
            raise UsageError("The first depth, blocks and halvings of a hybrid are 0 or more.")
        if self.widths[-1] % self.head_dim:
            raise UsageError(f"Width {self.widths[-1]} is not a multiple of head_dim {self.head_dim}; choose others.")
        if not 1 <= self.widths[-1] * self.mlp_ratio < math.inf:
            raise UsageError(f"mlp_ratio {self.mlp_ratio} gives an MLP without channels; use 1.0 to 4.0.")

    @property
    def stride(self) -> int:
        """Pixels a cell of the last map."""
        return 1 << (self.halvings + len(self.widths) - 1)


class MapAttention(nn.Module):
    """Self-attention among all cells of a map, with a learned bias for each offset (LeViT, section 4.2)."""

    def __init__(self, dim: int, head_dim: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = dim // head_dim, side
        self.qkv = ConvNorm(dim, 3 * dim, 1)
        self.bias = nn.Parameter(torch.empty((2 * side - 1) ** 2, self.heads))  # row by row of offsets
        self.attend = Attend()
        self.proj = ConvNorm(dim, dim, 1)
        self._geometry = Remembered()
        self._biases = Remembered()

    def reset_parameters(self) -> None:
        """No offset is preferred."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        b, d, h, w = x.shape
        qkv = self.qkv(x).permute(0, 2, 3, 1).reshape(b, h * w, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (b, heads, n, d_h) each
        bias = self._biases((h, w), [self.bias], lambda: self._bias(h, w))
        x = self.attend(q, k, v, bias.to(q.dtype))
        x = x.transpose(1, 2).reshape(b, h, w, d).permute(0, 3, 1, 2)
        x = self.proj(x)
        return x

    def _bias(self, h: int, w: int) -> Tensor:
        """(1, heads, n, n): what is added to the scores on a grid of h x w cells."""
        where = self._geometry((h, w, self.bias.device), (), lambda: offsets((h, w), self.bias.device))  # (n, n)
        table = resample_offsets(self.bias, (self.side, self.side), (h, w))  # (offsets, heads)
        return table[where.flatten()].view(*where.shape, -1).permute(2, 0, 1)[None].contiguous()


class MapConvolution(nn.Module):
    """What stands for attention in the control: widen, depthwise 3x3, narrow, at the MACs of attention on the map."""

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        n = side * side
        hidden = max(1, round((4 * dim * dim + 2 * n * dim) / (2 * dim + 9)))
        self.expand = ConvNorm(dim, hidden, 1, activation=nn.ReLU(inplace=True))
        self.spread = ConvNorm(hidden, hidden, 3, groups=hidden, activation=nn.ReLU(inplace=True))
        self.proj = ConvNorm(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        x = self.expand(x)
        x = self.spread(x)
        x = self.proj(x)
        return x


class Block(nn.Module):
    """x + mixer(x), then x + mlp(x); no norm stands on the main path."""

    def __init__(self, config: HybridConfig, drop_path: float) -> None:
        super().__init__()
        d, side = config.widths[-1], -(-config.size // config.stride)
        hidden = int(d * config.mlp_ratio)
        self.mix: MapAttention | MapConvolution | None = None
        if config.mixer == "attention":
            self.mix = MapAttention(d, config.head_dim, side)
        elif config.mixer == "conv":
            self.mix = MapConvolution(d, side)
        self.fc1 = ConvNorm(d, hidden, 1, activation=nn.ReLU(inplace=True))
        self.fc2 = ConvNorm(hidden, d, 1)
        self.drop_path = DropPath(drop_path)

    @property
    def ends(self) -> list[ConvNorm]:
        """What closes each branch."""
        return [self.fc2] if self.mix is None else [self.mix.proj, self.fc2]

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        if self.mix is not None:
            x = x + self.drop_path(self.mix(x))
        x = x + self.drop_path(self.fc2(self.fc1(x)))
        return x


class Hybrid(Backbone):
    """(b, c, h, w) -> one map a stage, and the mean of the last one."""

    layout = torch.channels_last
    stem = "stem_convs.0.conv"

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.dims, self.width = config.widths, config.widths[-1]
        self.strides = tuple(2 ** (config.halvings + i) for i in range(len(self.dims)))

        channels, first = config.channels, config.widths[0]
        stem = []
        for _ in range(max(config.halvings, 1)):
            stem.append(ConvNorm(channels, first, 3, 2 if config.halvings else 1, activation=nn.ReLU(inplace=True)))
            channels = first
        self.stem_convs = nn.Sequential(*stem)
        rates = iter(depth_rates(config.drop_path, sum(config.depths) + config.blocks))
        self.stages = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            blocks: list[nn.Module] = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                blocks.append(Basic(channels, width, stride, projection(channels, width, stride), next(rates)))
                channels = width
            self.stages.append(Blocks(*blocks))
        self.blocks = Blocks(*(Block(config, next(rates)) for _ in range(config.blocks)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: convolutions He normal by outputs, norms that end a block's branch zero, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, (nn.BatchNorm2d, MapAttention)):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Block):
                for end in module.ends:
                    nn.init.zeros_(end.get_parameter("norm.weight"))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.stem_convs(image)
        maps = []
        for stage in self.stages:
            x = stage(x)  # (b, d_i, h_i, w_i)
            maps.append(x)
        maps[-1] = self.blocks(x)
        return Features(tuple(maps), pool_map(maps[-1]))

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Biases of the offsets on another grid, resampled."""
        return fit_offsets(tensor, self.get_parameter(name)) if name.endswith("mix.bias") else None

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            parts = name.split(".")
            depth = {"stages": 3, "blocks": 2}.get(parts[0], 1)
            groups.setdefault(".".join(parts[:depth]), []).append(name)
        return list(groups.values())
