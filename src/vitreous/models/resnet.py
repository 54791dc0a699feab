"""ResNet: the convolutional yardstick, for ImageNet-sized and for CIFAR-sized pictures.

He et al. 2016, "Deep Residual Learning for Image Recognition": section 4.1 (ImageNet, stem of stride 4) and 4.2 (CIFAR,
widths 16/32/64, shortcut option A). Bottlenecks have their stride in the 3x3 convolution, as everybody's weights do.
Parameters carry the names of torchvision and timm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.pool import pool_map
from vitreous.layers.residual import Basic, projection
from vitreous.models.backbone import Backbone
from vitreous.types import Features


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Everything that makes one ResNet another."""

    block: Literal["basic", "bottleneck"] = "basic"
    channels: int = 3  # of the picture
    depths: tuple[int, ...]  # blocks a stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # of the 3x3 convolutions, a stage
    stem: Literal["imagenet", "cifar"] = "imagenet"  # 7x7 of stride 2 and max pooling, or 3x3 of stride 1
    shortcut: Literal["projection", "pad"] = "projection"  # option B or option A of the paper
    zero_init: bool = True  # last norm of each branch starts at zero (Goyal et al. 2017, section 5.1)
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.widths) or min(*self.depths, *self.widths) < 1:
            raise UsageError("A ResNet needs as many depths as widths, all of them at least 1.")


class Bottleneck(nn.Module):
    """1x1 narrow, 3x3, 1x1 wide (the paper's figure 5, right)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, shortcut: nn.Module | None, drop_path: float) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, width, 1, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvNorm(width, width, 3, stride, activation=nn.ReLU(inplace=True))
        self.conv3 = ConvNorm(width, width * self.expansion, 1)
        self.downsample = shortcut
        self.drop_path = DropPath(drop_path)

    @property
    def last(self) -> ConvNorm:
        """What closes the branch."""
        return self.conv3

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, 4 width, h / stride, w / stride)"""
        y = self.drop_path(self.conv3(self.conv2(self.conv1(x))))
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


class PadShortcut(nn.Module):
    """Option A of the paper: every ``stride``-th cell, new channels zero, half of them before and half after."""

    def __init__(self, added: int, stride: int) -> None:
        super().__init__()
        self.before, self.after, self.stride = added // 2, added - added // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c + added, h / stride, w / stride)"""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class ResNet(Backbone):
    """(b, c, h, w) -> one map a stage, and the mean of the last one."""

    layout = torch.channels_last
    stem = "conv1.conv"

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        block = Basic if config.block == "basic" else Bottleneck
        self.dims = tuple(width * block.expansion for width in config.widths)
        imagenet = config.stem == "imagenet"
        self.strides = tuple((4 if imagenet else 1) * 2**i for i in range(len(config.depths)))
        self.width = self.dims[-1]

        channels = config.widths[0]
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv1 = ConvNorm(config.channels, channels, kernel, stride, activation=nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else nn.Identity()
        rates = iter(depth_rates(config.drop_path, sum(config.depths)))
        for i, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                outputs = width * block.expansion
                shortcut = _shortcut(config.shortcut, channels, outputs, stride)
                blocks.append(block(channels, width, stride, shortcut, next(rates)))
                channels = outputs
            self.add_module(f"layer{i + 1}", Blocks(*blocks))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: convolutions He normal by outputs, norms one and zero, last norms as the config says."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        if self.config.zero_init:
            for module in self.modules():
                if isinstance(module, (Basic, Bottleneck)):
                    nn.init.zeros_(module.last.get_parameter("norm.weight"))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.maxpool(self.conv1(image))
        maps = []
        for i in range(len(self.dims)):
            x = self.get_submodule(f"layer{i + 1}")(x)  # (b, d_i, h_i, w_i)
            maps.append(x)
        return Features(tuple(maps), pool_map(x))

    def groups(self) -> list[list[str]]:
        """Stem, then one list a residual block."""
        groups: dict[str, list[str]] = {"stem": []}
        for name, _ in self.named_parameters():
            parts = name.split(".")
            key = ".".join(parts[:2]) if parts[0].startswith("layer") else "stem"
            groups.setdefault(key, []).append(name)
        return list(groups.values())


def _shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """What carries x past a block; None where it needs no change."""
    if kind == "pad" and (stride > 1 or inputs != outputs):
        return PadShortcut(outputs - inputs, stride)
    return projection(inputs, outputs, stride)
