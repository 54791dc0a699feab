"""What a model costs, without building it: parameters and multiply-accumulates.

Convention: one MAC is one multiplication with its addition in a convolution, a linear layer or either matrix product of
attention; norms, activations, softmax, poolings and additions count nothing. A classifier of ``classes`` outputs is
included, as in published figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitreous import models


class Description(NamedTuple):
    """The cost of one model on one picture."""

    name: str
    size: int  # side of the square picture, pixels
    params: int
    macs: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    width: int


def describe(
    name: str, size: int | None = None, classes: int = 1000, options: Mapping[str, Any] | None = None
) -> Description:
    """Parameters and MACs of the model called ``name`` with a linear classifier, on one picture of ``size`` pixels.

    Raises:
        UsageError: an unknown name or option, or a size the family cannot take.
    """
    side = models.find(name).size if size is None else size
    with torch.device("meta"):
        backbone = models.create(name, size=side, options=options).eval()
        image = torch.empty(1, 3, side, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(image)
    head = backbone.width * classes
    params = sum(p.numel() for p in backbone.parameters()) + head + backbone.summaries * classes
    macs = counter.get_total_flops() // 2 + head
    return Description(name, side, params, macs, backbone.dims, backbone.strides, backbone.width)
