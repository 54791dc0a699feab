"""EfficientViT of MIT: convolutions, and attention that is linear in the number of cells.

Cai et al. 2023, "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction". ReLU takes the place
of softmax, so that keys and values can be summed up before any query comes (section 3.1): the (n, n) matrix of
attention weights never exists, and there is none for an observer to see. What such attention lacks in sharpness,
depthwise convolutions give: one on q, k and v, for tokens of a second scale, and one in what follows in each block.

Microsoft has an unrelated network of the same name (``efficientvit_ms``, models m0 to m5). Neither paper and no public
release has an "xs". The nearest are ``efficientvit_b0`` here, ``efficientvit_m0`` there and ``mobilevit_xs``: an alias
would be a guess between three, so there is none. Weights start as in the authors' training code.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm
from vitreous.layers.inverted import InvertedResidual
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.pool import pool_map
from vitreous.models.backbone import Backbone
from vitreous.types import Features

EPS = 1e-5  # timm's; the authors' code has 1e-15


@dataclass(frozen=True, kw_only=True)
class EfficientViTConfig:
    """Everything that makes one EfficientViT-B another."""

    channels: int = 3  # of the picture
    widths: tuple[int, ...]  # of the stem and of the four stages
    depths: tuple[int, ...]  # blocks of the same; the last two stages have one more, which halves the map
    head_dim: int
    head: tuple[int, ...]  # widths after the last map: before and after the mean over it
    expansion: int = 4  # of the inverted residuals
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if len(self.widths) != 5 or len(self.depths) != 5 or len(self.head) != 2:
            raise UsageError("An EfficientViT needs 5 widths and 5 depths, stem first, and 2 widths of its head.")
        if min(*self.widths, *self.depths, *self.head, self.channels, self.head_dim, self.expansion) < 1:
            raise UsageError("Widths, depths, channels, head_dim and expansion of an EfficientViT are at least 1.")
        for width in self.widths[3:]:
            if width % self.head_dim:
                raise UsageError(f"Width {width} is not a multiple of head_dim {self.head_dim}; choose others.")


class LinearAttention(nn.Module):
    """ReLU attention over tokens of two scales: single cells, and the 5x5 cells around each (the paper's figure 2)."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)  # head by head: its q, its k, its v
        self.aggregate = nn.Sequential(
            nn.Conv2d(3 * dim, 3 * dim, 5, padding=2, groups=3 * dim, bias=False),
            nn.Conv2d(3 * dim, 3 * dim, 1, groups=3 * dim // head_dim, bias=False),
        )
        self.proj = ConvNorm(2 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        b, d, h, w = x.shape
        heads = 2 * d // self.head_dim  # of both scales
        qkv = self.qkv(x)  # (b, 3 d, h, w)
        qkv = torch.cat([qkv, self.aggregate(qkv)], dim=1)  # (b, 6 d, h, w)
        q, k, v = qkv.reshape(b, heads, 3, self.head_dim, h * w).unbind(2)  # (b, heads, d_h, n) each
        x = relu_attention(q, k, v).reshape(b, 2 * d, h, w)  # (b, 2 d, h, w)
        x = self.proj(x)
        return x


def relu_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """sum_j relu(q_i).relu(k_j) v_j / sum_j relu(q_i).relu(k_j), for all i at a cost linear in n (section 3.1).

    Three times (b, heads, d_h, n) -> (b, heads, d_h, n). Sums over all cells of values that no norm holds do not fit
    into half precision, so they are taken in float32 at least, autocast or not.
    """
    dtype = q.dtype
    with nullcontext() if q.is_meta else torch.autocast(q.device.type, enabled=False):
        if dtype in (torch.bfloat16, torch.float16):
            q, k, v = q.float(), k.float(), v.float()
        q, k = F.relu(q), F.relu(k)
        values = v @ k.transpose(-2, -1)  # (b, heads, d_h, d_h)
        total = k.sum(dim=-1).unsqueeze(-2) @ q  # (b, heads, 1, n)
        x: Tensor = values @ q / (total + EPS)
    return x.to(dtype)


class LeanResidual(nn.Module):
    """The inverted residual with a single norm, at its end; the convolutions before it have a bias instead."""

    followed: ClassVar = (("expand", "act1"), ("depthwise", "act2"))

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.act1 = nn.Hardswish(inplace=True)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden)
        self.act2 = nn.Hardswish(inplace=True)
        self.project = ConvNorm(hidden, outputs, 1)
        self.residual = stride == 1
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / stride, w / stride)"""
        y: Tensor = self.act1(self.expand(x))  # (b, hidden, h, w)
        y = self.act2(self.depthwise(y))  # (b, hidden, h / stride, w / stride)
        y = self.project(y)
        if self.residual:
            y = self.drop_path(y).add_(x)
        return y


class Block(nn.Module):
    """Attention for what is far, an inverted residual for what is near (figure 2, left)."""

    def __init__(self, dim: int, head_dim: int, expansion: int, drop_path: float) -> None:
        super().__init__()
        self.attn = LinearAttention(dim, head_dim)
        self.drop_path = DropPath(drop_path)
        self.local = LeanResidual(dim, dim, 1, expansion, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        x = self.drop_path(self.attn(x)).add_(x)
        x = self.local(x)
        return x


class EfficientViT(Backbone):
    """(b, c, h, w) -> one map a stage, at strides 4 to 32, and the last one widened, averaged and widened again."""

    layout = torch.channels_last
    stem = "input_stem.0.conv"

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        self.config = config
        self.dims, self.strides = config.widths[1:], (4, 8, 16, 32)
        wide, self.width = config.head
        first, depths = config.widths[0], config.depths

        hardswish = partial(nn.Hardswish, inplace=True)
        self.input_stem = nn.Sequential(
            ConvNorm(config.channels, first, 3, 2, activation=hardswish()),
            *(InvertedResidual(first, first, first, activation=hardswish) for _ in range(depths[0])),
        )
        rates = iter(depth_rates(config.drop_path, sum(depths[1:]) + 2))
        self.stages = nn.ModuleList()
        for i, (inputs, width) in enumerate(zip(config.widths, self.dims, strict=False)):
            blocks: list[nn.Module] = []
            if i < 2:
                for j in range(depths[i + 1]):
                    c, stride = (width, 1) if j else (inputs, 2)
                    hidden = c * config.expansion
                    blocks.append(
                        InvertedResidual(c, hidden, width, activation=hardswish, stride=stride, drop_path=next(rates))
                    )
            else:
                blocks.append(LeanResidual(inputs, width, 2, config.expansion, next(rates)))
                for _ in range(depths[i + 1]):
                    blocks.append(Block(width, config.head_dim, config.expansion, next(rates)))
            self.stages.append(Blocks(*blocks))
        self.widen = ConvNorm(self.dims[-1], wide, 1, activation=hardswish())
        self.fc = nn.Linear(wide, self.width, bias=False)
        self.norm = nn.LayerNorm(self.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal of deviation .02, biases zero; the norm that ends a residual branch starts at zero."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, LinearAttention):
                nn.init.zeros_(module.proj.get_parameter("norm.weight"))
            elif isinstance(module, (InvertedResidual, LeanResidual)) and module.residual:
                nn.init.zeros_(module.project.get_parameter("norm.weight"))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.input_stem(image)  # (b, d_0, h / 2, w / 2)
        maps = []
        for stage in self.stages:
            x = stage(x)  # (b, d_i, h_i, w_i)
            maps.append(x)
        pooled = pool_map(self.widen(x))  # (b, wide)
        pooled = F.hardswish(self.norm(self.fc(pooled)))  # (b, width)
        return Features(tuple(maps), pooled)

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block, then what follows the last map."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            parts = name.split(".")
            key = ".".join(parts[:3]) if parts[0] == "stages" else "stem" if parts[0] == "input_stem" else "end"
            groups.setdefault(key, []).append(name)
        return list(groups.values())
