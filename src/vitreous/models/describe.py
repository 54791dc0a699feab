"""What a model costs, without building it: parameters and multiply-accumulates.

Convention: one MAC is one multiplication with its addition in a convolution, a linear layer or either matrix product of
attention; norms, activations, softmax, poolings and additions count nothing. A classifier of ``classes`` outputs is
included, as in published figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitreous import models
from vitreous.layers.attention import Attend
from vitreous.models.backbone import Backbone


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
    backbone, image = outline(name, side, options).eval(), torch.empty(1, 3, side, side, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone(image)
    head = backbone.width * classes
    params = sum(p.numel() for p in backbone.parameters()) + head + backbone.summaries * classes
    macs = counter.get_total_flops() // 2 + head
    return Description(name, side, params, macs, backbone.dims, backbone.strides, backbone.width)


def kept(name: str, size: int, options: Mapping[str, Any] | None = None) -> int:
    """Bytes that one picture of ``size`` pixels at least leaves in memory for the way back, in float32.

    What attention itself keeps is not counted: fused kernels never hold its (n, n) weights.

    Raises:
        UsageError: as ``describe``.
    """
    backbone, pictures = outline(name, size, options).train(), 2  # batch norms want two
    held: dict[int, int] = {}
    inside: list[nn.Module] = []

    def note(tensor: Tensor) -> Tensor:
        if not inside:
            storage = tensor.untyped_storage()
            held[storage._cdata] = storage.nbytes()
        return tensor

    for module in backbone.modules():
        if isinstance(module, Attend):
            module.register_forward_pre_hook(lambda attend, _: inside.append(attend))
            module.register_forward_hook(lambda *_: inside.clear())
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = backbone(torch.empty(pictures, 3, size, size, device="meta"))
    for parameter in backbone.parameters():
        held.pop(parameter.untyped_storage()._cdata, None)
    del features  # until here, so that no storage was freed and its number taken by another
    return sum(held.values()) // pictures


def outline(name: str, size: int | None = None, options: Mapping[str, Any] | None = None) -> Backbone:
    """The backbone called ``name`` as shapes alone, which takes neither time nor memory; sizes as in ``describe``."""
    with torch.device("meta"):
        return models.create(name, size=models.find(name).size if size is None else size, options=options)


def has_attention(backbone: Backbone) -> bool:
    """Whether any layer of it is attention."""
    return any(hasattr(module, "attend") for module in backbone.modules())
