"""ConvNeXt: a ResNet brought step by step to the design of a Swin transformer, without attention.

Liu et al. 2022, "A ConvNet for the 2020s". What section 2 changes is named beside the line that does it. The rows
smaller than T are timm's. Parameters carry timm's names, LayerScale and the last norm apart. Pictures of any size are
accepted: zeros fill up begun cells at the right and at the bottom, where the authors' code drops them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.layers.mlp import Mlp
from vitreous.layers.norm import DropPath, LayerScale, depth_rates
from vitreous.layers.pool import pool_map
from vitreous.models.backbone import Backbone
from vitreous.types import Features

EPS = 1e-6  # of every norm


@dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig:
    """Everything that makes one ConvNeXt another."""

    channels: int = 3  # of the picture
    depths: tuple[int, ...]  # blocks a stage, 1:1:3:1 (section 2.2)
    widths: tuple[int, ...]  # channels a stage
    layer_scale: float | None = 1e-6  # start of LayerScale, None leaves it out
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.widths):
            raise UsageError(f"A ConvNeXt needs as many depths as widths, not {self.depths} and {self.widths}.")
        if min(self.channels, *self.depths, *self.widths) < 1:
            raise UsageError("A ConvNeXt needs channels, depths and widths of at least 1.")


class CellNorm(nn.LayerNorm):
    """LayerNorm of each cell over its channels (section 2.6, "Substituting BN with LN")."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w); no copy is made where x lies channels last."""
        x = super().forward(x.permute(0, 2, 3, 1))  # (b, h, w, d)
        return x.permute(0, 3, 1, 2)


class Fill(nn.Module):
    """Zeros at the right and at the bottom, so that cells of ``side`` are whole."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, ceil(h / side) side, ceil(w / side) side)"""
        below, right = -x.shape[-2] % self.side, -x.shape[-1] % self.side
        return F.pad(x, (0, right, 0, below)) if below or right else x


class Block(nn.Module):
    """x + scale(mlp(norm(depthwise(x)))): a transformer block whose attention is a 7x7 depthwise convolution.

    It is ResNeXt's with as many groups as channels, turned inside out (section 2.4), the depthwise convolution moved up
    and enlarged (section 2.5), one norm and one GELU left (section 2.6). The two 1x1 convolutions are linear layers on
    each cell.
    """

    followed: ClassVar = (("mlp.fc2", "scale"),)

    def __init__(self, width: int, layer_scale: float | None, drop_path: float) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, 4 * width)
        self.scale = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        y: Tensor = self.conv_dw(x)
        y = self.norm(y.permute(0, 2, 3, 1))  # (b, h, w, d), which is how channels last lies in memory
        y = self.mlp(y)
        y = self.scale(y)
        x = x + self.drop_path(y.permute(0, 3, 1, 2))
        return x


class Stage(nn.Module):
    """Half the cells each way, if ``inputs`` is given, then blocks of one width."""

    def __init__(self, inputs: int | None, width: int, layer_scale: float | None, rates: list[float]) -> None:
        super().__init__()
        # a norm and a convolution of their own between stages (section 2.6, "Separate downsampling layers")
        self.downsample = (
            None
            if inputs is None
            else nn.Sequential(CellNorm(inputs, eps=EPS), Fill(2), nn.Conv2d(inputs, width, 2, stride=2))
        )
        self.blocks = Blocks(*(Block(width, layer_scale, rate) for rate in rates))

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / 2, w / 2), or (b, d, h, w) in the first stage"""
        if self.downsample is not None:
            x = self.downsample(x)  # (b, d, h / 2, w / 2)
        x = self.blocks(x)
        return x


class ConvNeXt(Backbone):
    """(b, c, h, w) -> one map a stage, and the norm of the mean of the last one."""

    layout = torch.channels_last
    stem = "patches.1"

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        self.config = config
        self.dims = config.widths
        self.strides = tuple(4 * 2**i for i in range(len(config.widths)))
        self.width = config.widths[-1]

        first = config.widths[0]
        # patches that do not overlap, as in Swin (section 2.2, "Changing stem to Patchify")
        self.patches = nn.Sequential(Fill(4), nn.Conv2d(config.channels, first, 4, stride=4), CellNorm(first, eps=EPS))
        rates = depth_rates(config.drop_path, sum(config.depths))
        self.stages = nn.ModuleList()
        for i, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            inputs = config.widths[i - 1] if i else None
            self.stages.append(Stage(inputs, width, config.layer_scale, rates[:depth]))
            rates = rates[depth:]
        self.norm = nn.LayerNorm(self.width, eps=EPS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: truncated normal of deviation .02, biases zero, norms and LayerScale at their start."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, LayerScale)):
                module.reset_parameters()

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.patches(image)  # (b, d_0, h / 4, w / 4)
        maps = []
        for stage in self.stages:
            x = stage(x)  # (b, d_i, h / (4 2^i), w / (4 2^i))
            maps.append(x)
        return Features(tuple(maps), self.norm(pool_map(x)))

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; what halves the cells goes with the next block, the last norm with the last."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            parts = name.split(".")
            if parts[0] == "stages":
                key = f"{parts[1]}.{parts[3] if parts[2] == 'blocks' else 0}"
            else:
                key = "stem" if parts[0] == "patches" else list(groups)[-1]
            groups.setdefault(key, []).append(name)
        return list(groups.values())
