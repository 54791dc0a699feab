"""The contract between a task and the training loop. Supervised and self-supervised tasks meet it alike.

Knows nothing of any concrete task, and nothing of how the loop is run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vitreous.data.transforms import Transform
from vitreous.network import Network
from vitreous.types import Batch, Features

Gather = Callable[[Tensor], Tensor]
"""Joins a tensor over all processes along its first axis; lengths may differ."""


class Loss(NamedTuple):
    """What the loop minimises, and the named parts worth logging (scalars, detached)."""

    total: Tensor
    parts: dict[str, Tensor]


class Guide(nn.Module, ABC):
    """What draws a network somewhere beside its task's own loss, such as a teacher.

    Its parameters are trained with the network, saved with the state of a run, and thrown away with the task.
    """

    @abstractmethod
    def forward(self, loss: Loss, logits: Tensor, features: Features, batch: Batch) -> Loss:
        """The task's own ``loss`` of ``batch``, answered with ``logits`` from ``features``, and what comes on top."""

    def after_step(self, step: int) -> None:
        """As ``Task.after_step``."""


class Task(nn.Module, ABC):
    """Anything that turns a batch into a loss and metrics.

    Attributes:
        network: what is saved when training ends; everything else is thrown away.
        said: how many of the metrics, the first ones, are said at each evaluation.
    """

    network: Network
    said: int = 2

    @abstractmethod
    def views(self, train: bool, done: float = 0.0) -> Transform:
        """How samples become a batch: augmented for training, the declared preprocessing otherwise.

        Args:
            done: share of training that is over; augmentation may end before it does.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Loss:
        """The loss of one training batch."""

    def forward(self, batch: Batch) -> Loss:
        """The loss: what a distributed wrapper calls."""
        return self.loss(batch)

    def groups(self) -> list[list[str]]:
        """Names of the parameters that belong to a network which learns, one list a depth from the stem to the head.

        Those of ``network``; where another learns in its stead, such as a student, of that one.
        """
        return [[f"network.{name}" for name in group] for group in self.network.groups()]

    def begin(self) -> None:
        """Called before the first optimiser step, once what there is before it was measured."""

    def after_step(self, step: int) -> None:
        """Called once after each optimiser step: teachers, centres, queues."""

    def halted(self) -> str:
        """Why training should end now, in a sentence with the remedy; empty as long as it should not."""
        return ""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        """Metrics over ``batches``; with ``gather`` they are those of all processes together.

        The result holds ``score`` (larger is better): what the best checkpoint is chosen by.
        """

    def metric(self) -> str:
        """What that score is, in words."""
        return "score on validation"


class Watch(Protocol):
    """Looks at what a network has learned without labels while it learns."""

    def __call__(self, task: SelfSupervised, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        """As ``Task.evaluate``; ``batches`` are training views of pictures that are held out."""
        ...

    def halted(self) -> str:
        """As ``Task.halted``."""
        ...

    def metric(self, task: SelfSupervised) -> str:
        """As ``Task.metric``."""
        ...


class SelfSupervised(Task):
    """Learns from pictures alone. The classifier of ``network`` stays as it is.

    Attributes:
        nothing: the loss of a network that has learned nothing, in the unit of its own; infinite if there is none.
        by_loss: whether a smaller loss on held-out pictures means better features.
        least: pictures a step, below which the method does not work.
        wanted: pictures a step, below which it works badly.
        panels: what each panel of ``show`` is, in words.
    """

    by_loss: bool = True
    least: int = 1
    wanted: int = 1
    panels: tuple[str, ...] = ("the picture", "what it saw of it", "what it painted into that")
    said = 6
    nothing: Tensor
    steps: Tensor

    def __init__(self, network: Network, watch: Watch) -> None:
        super().__init__()
        network.head.requires_grad_(False)
        self.network = network
        self.watch = watch
        # kept with the state: a run that is resumed after its last evaluation has no other to learn them from
        self.register_buffer("nothing", torch.tensor(math.inf))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return int(self.steps)

    def after_step(self, step: int) -> None:
        self.steps.fill_(step + 1)

    def halted(self) -> str:
        return self.watch.halted()

    def metric(self) -> str:
        return self.watch.metric(self)

    def evaluate(self, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        return self.watch(self, batches, gather)

    @abstractmethod
    def show(self, batch: Batch) -> Tensor:
        """What is learned, to look at: (b, v, 3, h, w) in [0, 1], for each picture of ``batch`` v panels in a row."""
