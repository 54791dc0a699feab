"""The contract every model family keeps: image in, ``Features`` out.

Knows nothing of heads, tasks or data. A family subclasses ``Backbone`` (or ``TokenBackbone``) once and is final.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from vitreous.types import Features


class Backbone(nn.Module, ABC):
    """A network from a normalised image to a pyramid of maps and one pooled vector.

    Attributes:
        dims: width of each map of ``Features.maps``, fine to coarse; ``dims[-1]`` need not equal ``width``.
        strides: pixels per cell of each map.
        width: width of ``Features.pooled``.
        layout: the memory layout of pictures and kernels in which the family runs fastest.
    """

    layout: ClassVar[torch.memory_format] = torch.contiguous_format

    dims: tuple[int, ...]
    strides: tuple[int, ...]
    width: int

    @abstractmethod
    def forward(self, image: Tensor) -> Features:
        """(b, 3, h, w) float, already normalised -> Features. The meaning is the same in train and eval mode."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Give every parameter and buffer a fresh value, whatever it held before."""

    @abstractmethod
    def groups(self) -> list[list[str]]:
        """Parameter names, stem first, one list a depth: what layer decay and freezing go by.

        Every parameter of the backbone stands in exactly one list.
        """


class TokenBackbone(Backbone, ABC):
    """A backbone that works on tokens and lets masked pretraining choose which of them it sees."""

    @abstractmethod
    def embed(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, 3, h, w) -> patch tokens with positions (b, n, d); ``mask`` (b, n) bool, true where a token is hidden.

        Hidden tokens are dropped, so every row of ``mask`` must hide the same number.
        """

    @abstractmethod
    def encode(self, tokens: Tensor) -> Tensor:
        """(b, m, d) patch tokens -> (b, p + m, d) encoded tokens after the last norm, p prefix tokens first."""
