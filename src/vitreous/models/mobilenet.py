"""MobileNetV3: inverted residuals chosen by a search for the time they take on a phone.

Howard et al. 2019, "Searching for MobileNetV3": tables 1 (large) and 2 (small); section 5.1 (the widest layer stands
behind the pooling), 5.2 (hard swish), 5.3 (squeeze-and-excitation to a quarter, with a hard sigmoid).

Sides are halved as in PyTorch, with zeros all round. torchvision's weights need ``eps=1e-3``; those trained in
TensorFlow (timm's ``tf_mobilenetv3_*``) need ``padding="same"`` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm
from vitreous.layers.inverted import InvertedResidual, divisible, reset_mobile
from vitreous.layers.norm import depth_rates
from vitreous.layers.pool import pool_map
from vitreous.layers.squeeze import SqueezeExcite
from vitreous.models.backbone import Backbone
from vitreous.types import Features

RELU = partial(nn.ReLU, inplace=True)
HARD_SWISH = partial(nn.Hardswish, inplace=True)


class Row(NamedTuple):
    """A row of tables 1 and 2, in their order."""

    kernel: int
    hidden: int  # "exp size"
    outputs: int
    excite: bool
    activation: Callable[[], nn.Module]
    stride: int


STEM = 16
LARGE = (
    Row(3, 16, 16, False, RELU, 1),
    Row(3, 64, 24, False, RELU, 2),
    Row(3, 72, 24, False, RELU, 1),
    Row(5, 72, 40, True, RELU, 2),
    Row(5, 120, 40, True, RELU, 1),
    Row(5, 120, 40, True, RELU, 1),
    Row(3, 240, 80, False, HARD_SWISH, 2),
    Row(3, 200, 80, False, HARD_SWISH, 1),
    Row(3, 184, 80, False, HARD_SWISH, 1),
    Row(3, 184, 80, False, HARD_SWISH, 1),
    Row(3, 480, 112, True, HARD_SWISH, 1),
    Row(3, 672, 112, True, HARD_SWISH, 1),
    Row(5, 672, 160, True, HARD_SWISH, 2),
    Row(5, 960, 160, True, HARD_SWISH, 1),
    Row(5, 960, 160, True, HARD_SWISH, 1),
)
SMALL = (
    Row(3, 16, 16, True, RELU, 2),
    Row(3, 72, 24, False, RELU, 2),
    Row(3, 88, 24, False, RELU, 1),
    Row(5, 96, 40, True, HARD_SWISH, 2),
    Row(5, 240, 40, True, HARD_SWISH, 1),
    Row(5, 240, 40, True, HARD_SWISH, 1),
    Row(5, 120, 48, True, HARD_SWISH, 1),
    Row(5, 144, 48, True, HARD_SWISH, 1),
    Row(5, 288, 96, True, HARD_SWISH, 2),
    Row(5, 576, 96, True, HARD_SWISH, 1),
    Row(5, 576, 96, True, HARD_SWISH, 1),
)
TABLES = {"large": (LARGE, 960, 1280), "small": (SMALL, 576, 1024)}  # rows, last map, pooled vector


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Config:
    """Everything that makes one MobileNetV3 another."""

    table: Literal["large", "small"]
    channels: int = 3  # of the picture
    multiplier: float = 1.0  # of every width but the pooled vector's; the stem is never narrower than 16
    eps: float = 1e-5  # of the batch norms
    padding: Literal["symmetric", "same"] = "symmetric"  # where a stride is: PyTorch's habit or TensorFlow's
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if self.multiplier <= 0:
            raise UsageError(f"A MobileNetV3 has a positive width multiplier, not {self.multiplier}.")
        if self.eps <= 0:
            raise UsageError(f"eps keeps batch norms from dividing by zero, so it is positive, not {self.eps}.")


class MobileNetV3(Backbone):
    """(b, c, h, w) -> maps of strides 4 to 32, the last of them wide, and a vector computed from its mean."""

    layout = torch.channels_last
    stem = "conv_stem.conv"

    def __init__(self, config: MobileNetV3Config) -> None:
        super().__init__()
        self.config = config
        same = config.padding == "same"
        table, last, self.width = TABLES[config.table]
        rows = list(_scaled(table, config.multiplier))
        rates = depth_rates(config.drop_path, len(rows))

        inputs = max(STEM, divisible(STEM * config.multiplier))
        self.conv_stem = ConvNorm(
            config.channels, inputs, 3, stride=2, eps=config.eps, same=same, activation=HARD_SWISH()
        )
        blocks = []
        for row, rate in zip(rows, rates, strict=True):
            block = InvertedResidual(
                inputs,
                row.hidden,
                row.outputs,
                activation=row.activation,
                kernel=row.kernel,
                stride=row.stride,
                squeeze=_squeeze(row.hidden) if row.excite else None,
                eps=config.eps,
                same=same,
                drop_path=rate,
            )
            blocks.append(block)
            inputs = row.outputs
        self.blocks = Blocks(*blocks)
        outputs = divisible(last * config.multiplier)
        self.conv_last = ConvNorm(inputs, outputs, 1, eps=config.eps, activation=HARD_SWISH())
        self.hidden = nn.Linear(outputs, self.width)

        strides = [row.stride for row in rows]
        totals = list(accumulate(strides, mul, initial=2))  # of what enters each block, and of the end
        halved = [i for i, stride in enumerate(strides) if stride == 2 and totals[i] >= 4]
        self.ends = (*halved, len(rows))  # a map is what is halved next
        self.dims = (*(rows[end - 1].outputs for end in halved), outputs)
        self.strides = tuple(totals[end] for end in self.ends)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights as the paper's code has them."""
        reset_mobile(self)

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.conv_stem(image)  # (b, 16, h / 2, w / 2)
        maps = []
        for start, end in pairwise((0, *self.ends)):
            x = self.blocks(x, start, end)  # (b, d_i, h_i, w_i)
            maps.append(x)
        maps[-1] = self.conv_last(x)  # (b, 960, h / 32, w / 32)
        pooled = F.hardswish(self.hidden(pool_map(maps[-1])))  # (b, 1280)
        return Features(tuple(maps), pooled)

    def groups(self) -> list[list[str]]:
        """Stem, one list a block, the two layers of the head."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            part, index, *_rest = name.split(".")
            groups.setdefault(index if part == "blocks" else part, []).append(name)
        return list(groups.values())


def _scaled(table: tuple[Row, ...], multiplier: float) -> Iterator[Row]:
    """The table with other widths: a hidden one is to the scaled input of its block as it was to the table's."""
    inputs, scaled = STEM, max(STEM, divisible(STEM * multiplier))
    for row in table:
        outputs = divisible(row.outputs * multiplier)
        yield row._replace(hidden=divisible(scaled * row.hidden / inputs), outputs=outputs)
        inputs, scaled = row.outputs, outputs


def _squeeze(width: int) -> SqueezeExcite:
    """To a quarter, with ReLU and a hard sigmoid."""
    return SqueezeExcite(width, divisible(width / 4), activation=RELU, gate=nn.Hardsigmoid)
