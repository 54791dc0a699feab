"""Low-rank adaptation: frozen matrices with a small trained term beside each, which is added to them in the end.

Hu et al. 2021, "LoRA", section 4.1: W + (alpha / r) B A, with A random and B zero, so that nothing changes at first.
Gradients and the optimiser's moments are needed for A and B alone, and what enters a frozen layer need not be kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.layers.linear import Linear


class LowRank(Linear):
    """x W' + b + (alpha / r) (x A') B', taking over the parameters of ``layer``, which are frozen.

    ``down`` is the paper's A (r, c), ``up`` its B (d, r).
    """

    def __init__(self, layer: Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(layer.weight.new_empty(rank, layer.in_features))
        self.up = nn.Parameter(layer.weight.new_zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as linear layers begin, and as the authors' code does

    def forward(self, x: Tensor) -> Tensor:
        """(..., c) -> (..., d)"""
        return super().forward(x) + F.linear(F.linear(x, self.down * self.scale), self.up)

    @torch.no_grad()
    def merged(self) -> Linear:
        """One plain layer with the same answers, frozen if the term is: the weights plus the term."""
        plain = Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        delta = self.scale * (self.up.double() @ self.down.double())
        plain.weight = nn.Parameter((self.weight.double() + delta).to(self.weight.dtype))
        plain.bias = None if self.bias is None else nn.Parameter(self.bias.detach().clone())
        return plain.requires_grad_(self.up.requires_grad).train(self.training)


def adapt(root: nn.Module, rank: int, alpha: float) -> int:
    """Give every linear layer of every attention in ``root`` a low-rank term; the number of such layers.

    An attention is a module that holds ``attend``. Layers that it multiplies by itself instead of calling are plain
    ``nn.Linear`` in this house, and stay as they are.
    """
    found = [
        (attention, name, layer)
        for attention in root.modules()
        if hasattr(attention, "attend")
        for name, layer in attention.named_children()
        if type(layer) is Linear
    ]
    for attention, name, layer in found:
        setattr(attention, name, LowRank(layer, rank, alpha))
    return len(found)


def merge(root: nn.Module) -> None:
    """Put plain layers in the place of adapted ones, in place; answers stay the same but for rounding."""
    for parent, name, layer in list(_adapted(root)):
        setattr(parent, name, layer.merged())


def _adapted(root: nn.Module) -> Iterator[tuple[nn.Module, str, LowRank]]:
    for parent in root.modules():
        for name, child in parent.named_children():
            if isinstance(child, LowRank):
                yield parent, name, child
