"""MobileViT v2: MobileViT whose attention costs as much as there are cells, not their square.

Mehta and Rastegari 2022, "Separable Self-attention for Mobile Vision Transformers", section 3. Every cell gives one
score for how much it has to say; what the scores pick from the keys is one context vector, and all values are scaled by
it. As in MobileViT the cells of one patch of 2 x 2 do not meet in the transformer: four sequences, one for each place
in a patch, run side by side. All else works on each cell alone, so the map is never unfolded. Parameters carry timm's
names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm, convolution
from vitreous.layers.inverted import InvertedResidual, reset_mobile
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.pool import pool_map
from vitreous.models.backbone import Backbone
from vitreous.types import Features

SILU = partial(nn.SiLU, inplace=True)


@dataclass(frozen=True, kw_only=True)
class MobileViTv2Config:
    """Everything that makes one MobileViT v2 another (the paper's table 5): above all, how wide it is."""

    channels: int = 3  # of the picture
    multiplier: float = 1.0  # of every width below
    stem: int = 32  # width of the first convolution
    widths: tuple[int, ...] = (64, 128, 256, 384, 512)  # of the maps, a stage; a transformer has half of it
    expansion: int = 2  # of the inverted residuals
    inverted: tuple[int, ...] = (1, 2)  # inverted residuals in each stage without a transformer
    layers: tuple[int, ...] = (2, 4, 3)  # of each transformer
    mlp_ratio: float = 2.0
    patch: int = 2  # cells a side
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if min(self.channels, self.stem, self.expansion, self.patch, *self.widths, *self.inverted, *self.layers) < 1:
            raise UsageError("Every number of a MobileViT v2 must be at least 1.")
        if len(self.widths) != len(self.inverted) + len(self.layers):
            stages = f"{len(self.inverted)} convolutional stages and {len(self.layers)} with a transformer"
            raise UsageError(f"A MobileViT v2 of {stages} needs as many widths, not {len(self.widths)}.")
        scaled = [width * self.multiplier for width in (self.stem, *self.widths)]
        if any(width < 2 or width % 2 for width in scaled):
            raise UsageError(f"Multiplier {self.multiplier} gives widths that are not even; use a multiple of 1/16.")
        narrowest = min(scaled[1 + len(self.inverted) :], default=2) / 2
        if not 1 <= narrowest * self.mlp_ratio < math.inf:
            raise UsageError(f"mlp_ratio {self.mlp_ratio} gives an MLP without channels; use 1.0 to 4.0.")


class SeparableAttention(nn.Module):
    """A context vector in linear time (the paper's equation 4).

    There is no attention matrix, so there is no place where an observer could read one: a cell has one context score,
    the first channel of ``qkv_proj``, whose softmax over the cells of its place says how much of its key is taken.
    """

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.dim, self.patch = dim, patch
        self.qkv_proj = nn.Conv2d(dim, 1 + 2 * dim, 1)
        self.out_proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w), h and w multiples of the patch"""
        (b, d, h, w), p = x.shape, self.patch
        qkv: Tensor = self.qkv_proj(x)
        qkv = qkv.permute(0, 2, 3, 1).flatten(1, 2)  # (b, n, 1 + 2 d), a view if channels are last
        score, key, value = qkv.split([1, d, d], dim=2)
        score = score.transpose(1, 2) + self.others(h, w, score)  # (b, p p, n): a row for each place in a patch
        context = score.softmax(dim=-1) @ key  # (b, p p, d)
        value = F.relu(value).view(b, h // p, p, w // p, p, d)
        taken = (value * context.view(b, 1, p, 1, p, d)).view(b, h, w, d)
        x = self.out_proj(taken.permute(0, 3, 1, 2))
        return x

    def others(self, h: int, w: int, like: Tensor) -> Tensor:
        """(p p, n): minus infinity where a cell stands at another place of its patch, else 0."""
        rows, columns = (torch.arange(side, device=like.device) % self.patch for side in (h, w))
        place = (rows[:, None] * self.patch + columns).flatten()  # (n,)
        own = place == torch.arange(self.patch**2, device=like.device)[:, None]  # (p p, n)
        return torch.zeros_like(own, dtype=like.dtype).masked_fill_(~own, -torch.inf)


class PointwiseMlp(nn.Module):
    """Widen, SiLU, narrow, on each cell alone."""

    followed: ClassVar = (("fc1", "act"),)

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.act = SILU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        x = self.fc2(self.act(self.fc1(x)))
        return x


class Layer(nn.Module):
    """Pre-norm encoder layer on a map; a norm takes mean and deviation over all cells and channels of a picture."""

    def __init__(self, dim: int, mlp_ratio: float, patch: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim)
        self.attn = SeparableAttention(dim, patch)
        self.norm2 = nn.GroupNorm(1, dim)
        self.mlp = PointwiseMlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class MobileViTv2Block(nn.Module):
    """A depthwise convolution for what is near and a transformer for what is far; no shortcut and no fusion."""

    def __init__(self, width: int, layers: int, config: MobileViTv2Config, drop_path: float) -> None:
        super().__init__()
        dim, self.patch = width // 2, config.patch
        self.conv_kxk = ConvNorm(width, width, 3, groups=width, activation=SILU())
        self.conv_1x1 = convolution(width, dim, 1)  # neither norm nor activation: the transformer begins with a norm
        self.transformer = nn.Sequential(
            *(Layer(dim, config.mlp_ratio, config.patch, drop_path) for _ in range(layers))
        )
        self.norm = nn.GroupNorm(1, dim)
        self.conv_proj = ConvNorm(dim, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h', w'), the sides rounded up to whole patches"""
        h, w = x.shape[-2:]
        if h % self.patch or w % self.patch:
            x = stretch(x, h + -h % self.patch, w + -w % self.patch)
        x = self.conv_kxk(x)
        x = self.conv_1x1(x)  # (b, d, h', w')
        x = self.norm(self.transformer(x))
        x = self.conv_proj(x)
        return x


def stretch(x: Tensor, h: int, w: int) -> Tensor:
    """(b, d, h', w') -> (b, d, h, w), corners on corners."""
    return F.interpolate(x, (h, w), mode="bilinear", align_corners=True)


class MobileViTv2(Backbone):
    """(b, c, h, w) -> one map a stage, and the mean of the last one.

    A map whose sides are odd is stretched to whole patches and stays so in all that follows, as the released weights
    have it; what ``Features.maps`` holds is brought back to the grid of its stride.
    """

    layout = torch.channels_last
    stem = "conv_stem.conv"

    def __init__(self, config: MobileViTv2Config) -> None:
        super().__init__()
        self.config = config
        self.dims = tuple(int(width * config.multiplier) for width in config.widths)
        self.strides = tuple(2 ** (i + 1) for i in range(len(config.widths)))
        self.width = self.dims[-1]

        channels = int(config.stem * config.multiplier)
        self.conv_stem = ConvNorm(config.channels, channels, 3, 2, activation=SILU())
        counts = (*config.inverted, *(1 for _ in config.layers))  # inverted residuals, a stage
        rates = iter(depth_rates(config.drop_path, sum(counts) + len(config.layers)))
        self.stages = nn.ModuleList()
        for i, (width, count) in enumerate(zip(self.dims, counts, strict=True)):
            blocks: list[nn.Module] = []
            for j in range(count):
                stride, hidden = 2 if i and not j else 1, channels * config.expansion
                blocks.append(
                    InvertedResidual(channels, hidden, width, stride=stride, activation=SILU, drop_path=next(rates))
                )
                channels = width
            k = i - len(config.inverted)
            if k >= 0:
                blocks.append(MobileViTv2Block(width, config.layers[k], config, next(rates)))
            self.stages.append(Blocks(*blocks))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: convolutions He normal by outputs, norms one and zero, last norms of shortcuts zero."""
        reset_mobile(self)
        for module in self.modules():
            if isinstance(module, nn.GroupNorm):
                module.reset_parameters()
            elif isinstance(module, InvertedResidual) and module.residual:
                nn.init.zeros_(module.project.get_parameter("norm.weight"))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.conv_stem(image)
        maps = []
        for stage, stride in zip(self.stages, self.strides, strict=True):
            x = stage(x)  # (b, d_i, h_i, w_i)
            h, w = (-(-side // stride) for side in image.shape[-2:])
            maps.append(x if x.shape[-2:] == (h, w) else stretch(x, h, w))
        return Features(tuple(maps), pool_map(x))

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block."""
        groups: dict[str, list[str]] = {"stem": []}
        for name, _ in self.named_parameters():
            key = ".".join(name.split(".")[:3]) if name.startswith("stages.") else "stem"
            groups.setdefault(key, []).append(name)
        return list(groups.values())
