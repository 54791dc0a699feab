"""The contract between a task and the training loop. Supervised and self-supervised tasks meet it alike.

Knows nothing of any concrete task, and nothing of how the loop is run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor, nn

from vitreous.data.transforms import Transform
from vitreous.network import Network
from vitreous.types import Batch

Gather = Callable[[Tensor], Tensor]
"""Joins a tensor over all processes along its first axis; lengths may differ."""


class Loss(NamedTuple):
    """What the loop minimises, and the named parts worth logging (scalars, detached)."""

    total: Tensor
    parts: dict[str, Tensor]


class Task(nn.Module, ABC):
    """Anything that turns a batch into a loss and metrics.

    Attributes:
        network: what is saved when training ends; everything else is thrown away.
    """

    network: Network

    @abstractmethod
    def views(self, train: bool) -> Transform:
        """How samples become a batch: augmented for training, the declared preprocessing otherwise."""

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The loss of one training batch."""

    def forward(self, batch: Batch) -> Loss:
        """The loss: what a distributed wrapper calls."""
        return self.loss(batch)

    def after_step(self, step: int) -> None:
        """Called once after each optimiser step: teachers, centres, queues."""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        """Metrics over ``batches``; with ``gather`` they are those of all processes together.

        The result holds ``score`` (larger is better): what the best checkpoint is chosen by.
        """
