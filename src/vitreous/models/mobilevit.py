"""MobileViT: MobileNetV2 whose last three stages look at the whole picture through a transformer.

Mehta and Rastegari 2022, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer", section 3.
A map is cut into patches of 2 x 2 cells. The transformer joins cells that stand at the same place of their patches, so
four sequences run side by side; convolutions before and after join the cells within a patch. Positions are never coded:
folding puts every cell back where it was. Parameters carry timm's names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attention
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm, convolution
from vitreous.layers.inverted import InvertedResidual, reset_mobile
from vitreous.layers.mlp import Mlp
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.pool import pool_map
from vitreous.models.backbone import Backbone
from vitreous.types import Features

SILU = partial(nn.SiLU, inplace=True)


@dataclass(frozen=True, kw_only=True)
class MobileViTConfig:
    """Everything that makes one MobileViT another (the paper's table 4)."""

    channels: int = 3  # of the picture
    stem: int = 16  # width of the first convolution
    widths: tuple[int, ...]  # of the maps, a stage
    expansion: int = 4  # of the inverted residuals
    inverted: tuple[int, ...] = (1, 3)  # inverted residuals in each stage without a transformer
    dims: tuple[int, ...]  # of the transformers, in the stages that have one
    layers: tuple[int, ...] = (2, 4, 3)  # of each transformer
    heads: int = 4
    mlp_ratio: float = 2.0
    patch: int = 2  # cells a side
    head: int  # width of the last 1x1 convolution
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        counts = (self.channels, self.stem, self.expansion, self.heads, self.patch, self.head)
        if min(*counts, *self.widths, *self.inverted, *self.dims, *self.layers) < 1:
            raise UsageError("Every number of a MobileViT must be at least 1.")
        if len(self.dims) != len(self.layers):
            raise UsageError(f"{len(self.dims)} dims and {len(self.layers)} layers of a MobileViT must be as many.")
        if len(self.widths) != len(self.inverted) + len(self.dims):
            stages = f"{len(self.inverted)} convolutional stages and {len(self.dims)} with a transformer"
            raise UsageError(f"A MobileViT of {stages} needs as many widths, not {len(self.widths)}.")
        if not 1 <= min(self.dims, default=1) * self.mlp_ratio < math.inf:
            raise UsageError(f"mlp_ratio {self.mlp_ratio} gives an MLP without channels; use 1.0 to 4.0.")
        if any(d % self.heads for d in self.dims):
            raise UsageError(f"Dims {self.dims} must be multiples of {self.heads} heads; choose others.")


class Layer(nn.Module):
    """Pre-norm encoder layer, as ViT's, with SiLU."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), F.silu)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


def unfold(x: Tensor, patch: int) -> Tensor:
    """(b, d, h, w) -> (b p p, n, d): one sequence for each place in a patch, patches in reading order."""
    return rearrange(x, "b d (y p) (x q) -> (b p q) (y x) d", p=patch, q=patch)


def fold(tokens: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """(b p p, n, d) -> (b, d, h, w): the inverse of ``unfold`` for a map of ``size`` (h, w)."""
    y, x = size[0] // patch, size[1] // patch
    cells = rearrange(tokens, "(b p q) (y x) d -> b (y p) (x q) d", p=patch, q=patch, y=y, x=x)
    return cells.permute(0, 3, 1, 2)  # in memory still channels last


class MobileViTBlock(nn.Module):
    """Convolutions for what is near, a transformer for what is far, and both joined with x (the paper's figure 1b)."""

    def __init__(self, width: int, dim: int, layers: int, config: MobileViTConfig, drop_path: float) -> None:
        super().__init__()
        self.patch = config.patch
        self.conv_kxk = ConvNorm(width, width, 3, activation=SILU())
        self.conv_1x1 = convolution(width, dim, 1)  # neither norm nor activation: the transformer begins with a norm
        self.transformer = nn.Sequential(
            *(Layer(dim, config.heads, config.mlp_ratio, drop_path) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(dim)
        self.conv_proj = ConvNorm(dim, width, 1, activation=SILU())
        self.conv_fusion = ConvNorm(2 * width, width, 3, activation=SILU())

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)"""
        y = self.conv_kxk(x)
        y = self.conv_1x1(y)  # (b, d, h, w)
        y = self.globally(y)
        y = self.conv_proj(y)  # (b, c, h, w)
        x = self.conv_fusion(torch.cat([x, y], dim=1))
        return x

    def globally(self, y: Tensor) -> Tensor:
        """(b, d, h, w) -> the same through the transformer; sides that are no whole patches are stretched meanwhile."""
        old = (y.shape[-2], y.shape[-1])
        new = (old[0] + -old[0] % self.patch, old[1] + -old[1] % self.patch)
        if new != old:
            y = F.interpolate(y, new, mode="bilinear")
        tokens = unfold(y, self.patch)  # (b p p, n, d)
        tokens = self.norm(self.transformer(tokens))
        y = fold(tokens, self.patch, new)
        return F.interpolate(y, old, mode="bilinear") if new != old else y


class MobileViT(Backbone):
    """(b, c, h, w) -> one map a stage, the last one widened by a 1x1 convolution, and the mean of that."""

    layout = torch.channels_last
    stem = "conv_stem.conv"

    def __init__(self, config: MobileViTConfig) -> None:
        super().__init__()
        self.config = config
        self.dims = (*config.widths[:-1], config.head)
        self.strides = tuple(2 ** (i + 1) for i in range(len(config.widths)))
        self.width = config.head

        self.conv_stem = ConvNorm(config.channels, config.stem, 3, 2, activation=SILU())
        counts = (*config.inverted, *(1 for _ in config.dims))  # inverted residuals, a stage
        rates = iter(depth_rates(config.drop_path, sum(counts) + len(config.dims)))
        self.stages = nn.ModuleList()
        channels = config.stem
        for i, (width, count) in enumerate(zip(config.widths, counts, strict=True)):
            blocks: list[nn.Module] = []
            for j in range(count):
                stride, hidden = 2 if i and not j else 1, channels * config.expansion
                blocks.append(
                    InvertedResidual(channels, hidden, width, stride=stride, activation=SILU, drop_path=next(rates))
                )
                channels = width
            k = i - len(config.inverted)
            if k >= 0:
                blocks.append(MobileViTBlock(width, config.dims[k], config.layers[k], config, next(rates)))
            self.stages.append(Blocks(*blocks))
        self.final_conv = ConvNorm(channels, config.head, 1, activation=SILU())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: convolutions He normal by outputs, transformers as ViT's; last norms of shortcuts zero."""
        reset_mobile(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, InvertedResidual) and module.residual:
                nn.init.zeros_(module.project.get_parameter("norm.weight"))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.conv_stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)  # (b, d_i, h_i, w_i)
            maps.append(x)
        maps[-1] = self.final_conv(x)
        return Features(tuple(maps), pool_map(maps[-1]))

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; the last convolution goes with the last block."""
        groups: dict[str, list[str]] = {"stem": []}
        key = "stem"
        for name, _ in self.named_parameters():
            if name.startswith("stages."):
                key = ".".join(name.split(".")[:3])
            groups.setdefault(key, []).append(name)
        return list(groups.values())
