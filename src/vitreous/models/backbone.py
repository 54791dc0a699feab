"""The contract every model family keeps: image in, ``Features`` out.

Knows nothing of heads, tasks or data. A family subclasses ``Backbone`` (or ``TokenBackbone``) once and is final.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vitreous.config import must_be
from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.types import Features


class Backbone(nn.Module, ABC):
    """A network from a normalised image to a pyramid of maps and one pooled vector.

    Attributes:
        layout: the memory layout of pictures and kernels in which the family runs fastest.
        stem: name of the convolution that sees the picture; its input channels are the picture's.
        dims: width of each map of ``Features.maps``, fine to coarse; ``dims[-1]`` need not equal ``width``.
        strides: pixels per cell of each map.
        width: width of ``Features.pooled``.
        config: the family's dataclass.
        adapts: fields of the config in which weights may differ: ``fitted`` or ``adapted`` see to it.
        summaries: vectors that ``pooled`` holds side by side; 2 for a class token and a distillation token.
    """

    layout: ClassVar[torch.memory_format] = torch.contiguous_format
    stem: ClassVar[str]

    adapts: ClassVar[tuple[str, ...]] = ()

    config: Any
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    width: int
    summaries: int = 1
    packed: bool = False  # by ``Network.optimise``
    _frozen: frozenset[str] = frozenset()

    @abstractmethod
    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) float, already normalised -> Features. The meaning is the same in train and eval mode.

        Any h and w of at least one cell of the coarsest map; a map has ``ceil(h / stride)`` rows.
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Give every parameter and buffer a fresh value, whatever it held before."""

    @abstractmethod
    def groups(self) -> list[list[str]]:
        """Parameter names, stem first, one list a depth: what layer decay and freezing go by.

        Every parameter of the backbone stands in exactly one list.
        """

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """A foreign tensor in the shape of this backbone's ``name``, where the family knows a resampling for it.

        Called only when the shapes differ; None says that the tensor does not belong here.
        """
        return None

    def measured(self, name: str, tensor: Tensor) -> str | None:
        """What changes for weights that came with this ``tensor``, which is computed and not learned; None: nothing.

        Raises:
            UsageError: the weights were trained with other arithmetic than this network has.
        """
        return None

    def adapted(self, theirs: Any) -> list[str]:
        """What changes for weights of a network that had ``theirs`` for its config.

        Raises:
            UsageError: the weights were trained with other arithmetic than this network has.
        """
        pairs = ((name, getattr(theirs, name), getattr(self.config, name)) for name in self.adapts)
        return [f"{name} {old} to {new}" for name, old, new in pairs if old != new]

    def checkpoint(self, on: bool = True) -> None:
        """Keep only what enters each block and compute the rest again on the way back: less memory, more time.

        Gradients, statistics and random numbers are those of the plain backward pass.
        """
        for module in self.modules():
            if isinstance(module, Blocks):
                module.checkpointing = on

    def freeze(self, depth: int | None = None) -> None:
        """Hold the first ``depth`` of ``groups`` fixed (all of them by default): no gradients, no new statistics.

        ``freeze(0)`` sets everything free again.

        Raises:
            UsageError: there are fewer groups, or this is an optimised network's.
        """
        if self.packed:
            raise UsageError("An optimised network is fixed as a whole; freeze the network it was made from.")
        groups = self.groups()
        if depth is not None:
            must_be(Integral, depth=depth)
        if depth is not None and not 0 <= depth <= len(groups):
            raise UsageError(f"This network has {len(groups)} depths to freeze, not {depth}; give 0 to {len(groups)}.")
        self._frozen = frozenset(name for group in groups[:depth] for name in group)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in self._frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """As in torch; batch norms whose parameters are frozen stay in evaluation mode."""
        super().train(mode)
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in self._frozen:
                module.eval()
        return self


class TokenBackbone(Backbone, ABC):
    """A backbone that works on tokens and lets masked pretraining choose which of them it sees.

    Attributes:
        drops_hidden: whether hidden tokens are left out, and those left need no grid.
        overlaps: whether a token also sees pixels of its neighbours' patches, so that they show through it.
    """

    drops_hidden: ClassVar[bool] = True
    overlaps: ClassVar[bool] = False

    @abstractmethod
    def embed(self, image: Tensor, mask: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> patch tokens with positions (b, n, d); ``mask`` (b, n) bool, true where a token is hidden.

        With a ``token`` (d,), it stands wherever one is hidden, before positions are added (Xie et al. 2022, "SimMIM",
        section 3.2): it belongs to whoever pretrains and learns it, and does not ship with the backbone. Without, what
        hidden means is the family's: a plain ViT drops the tokens, so every row of ``mask`` must hide the same number;
        a family that needs the whole grid (Swin) puts zeros in their place.
        """

    @abstractmethod
    def encode(self, tokens: Tensor) -> Tensor:
        """(b, m, d) patch tokens -> (b, p + m', d') encoded tokens after the last norm, p prefix tokens first."""
