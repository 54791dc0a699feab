"""EfficientNet: one network searched for, and grown in depth, width and resolution at once.

Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks": section 4 and table 1 (B0),
equation 3 (the growth). A block is MobileNetV2's inverted residual with squeeze-and-excitation, whose hidden width is a
quarter of the block's input, and SiLU throughout.

Sides are halved as in PyTorch, with zeros all round. Weights trained in TensorFlow (timm's ``tf_efficientnet_*``, those
of Hugging Face) need ``padding="same"`` and ``eps=1e-3``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal, NamedTuple

import torch
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


class Stage(NamedTuple):
    """A row of table 1."""

    expansion: int
    kernel: int
    stride: int
    outputs: int
    layers: int


STEM, HEAD = 32, 1280  # widths of stages 1 and 9
STAGES = (
    # stages 2 to 8 of table 1, for B0; the stride is that of the first layer
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
_ACTIVATION = partial(nn.SiLU, inplace=True)


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """Everything that makes one EfficientNet another."""

    channels: int = 3  # of the picture
    wider: float = 1.0  # factor on every width of table 1: the paper's w
    deeper: float = 1.0  # factor on every number of layers: the paper's d
    eps: float = 1e-5  # of the batch norms
    padding: Literal["symmetric", "same"] = "symmetric"  # where a stride is: PyTorch's habit or TensorFlow's
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if min(self.wider, self.deeper) <= 0:
            raise UsageError(
                f"An EfficientNet grows by positive factors, not wider {self.wider}, deeper {self.deeper}."
            )
        if self.eps <= 0:
            raise UsageError(f"eps keeps batch norms from dividing by zero, so it is positive, not {self.eps}.")


class EfficientNet(Backbone):
    """(b, c, h, w) -> maps of stages 3, 4, 6 and 8 of table 1, strides 4 to 32, and the pooled vector of stage 9."""

    layout = torch.channels_last
    stem = "conv_stem.conv"

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        same = config.padding == "same"
        self.width = divisible(HEAD * config.wider)
        layers = list(_layers(config.wider, config.deeper))
        rates = depth_rates(config.drop_path, len(layers))

        inputs = divisible(STEM * config.wider)
        self.conv_stem = ConvNorm(
            config.channels, inputs, 3, stride=2, eps=config.eps, same=same, activation=_ACTIVATION()
        )
        blocks = []
        for layer, rate in zip(layers, rates, strict=True):
            hidden = inputs * layer.expansion
            block = InvertedResidual(
                inputs,
                hidden,
                layer.outputs,
                activation=_ACTIVATION,
                kernel=layer.kernel,
                stride=layer.stride,
                squeeze=SqueezeExcite(hidden, inputs // 4, activation=_ACTIVATION),
                eps=config.eps,
                same=same,
                drop_path=rate,
            )
            blocks.append(block)
            inputs = layer.outputs
        self.blocks = Blocks(*blocks)
        self.conv_head = ConvNorm(inputs, self.width, 1, eps=config.eps, activation=_ACTIVATION())

        strides = [layer.stride for layer in layers]
        totals = list(accumulate(strides, mul, initial=2))  # of what enters each block, and of the end
        halved = [i for i, stride in enumerate(strides) if stride == 2 and totals[i] >= 4]
        self.ends = (*halved, len(layers))  # a map is what is halved next
        self.dims = tuple(layers[end - 1].outputs for end in self.ends)
        self.strides = tuple(totals[end] for end in self.ends)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights as the paper's code has them."""
        reset_mobile(self)

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up."""
        x = self.conv_stem(image)  # (b, 32, h / 2, w / 2) of B0
        maps = []
        for start, end in pairwise((0, *self.ends)):
            x = self.blocks(x, start, end)  # (b, d_i, h_i, w_i)
            maps.append(x)
        x = self.conv_head(x)  # (b, 1280, h / 32, w / 32) of B0
        return Features(tuple(maps), pool_map(x))

    def groups(self) -> list[list[str]]:
        """Stem, one list a block, head."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            part, index, *_rest = name.split(".")
            groups.setdefault(index if part == "blocks" else part, []).append(name)
        return list(groups.values())


def _layers(wider: float, deeper: float) -> Iterator[Stage]:
    """Every block as a stage of one layer, grown: widths to multiples of 8, numbers of layers rounded up."""
    for stage in STAGES:
        first = stage._replace(outputs=divisible(stage.outputs * wider), layers=1)
        yield first
        yield from [first._replace(stride=1)] * (math.ceil(stage.layers * deeper) - 1)
