"""Which method learns without labels, and the task it becomes: the one place that knows all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.errors import UsageError
from vitreous.network import Network
from vitreous.tasks.dino import Dino, DinoConfig
from vitreous.tasks.mae import Mae, MaeConfig
from vitreous.tasks.simmim import Simmim, SimmimConfig
from vitreous.tasks.task import SelfSupervised, Watch
from vitreous.training.device import Device

Method = Literal["mae", "simmim", "dino"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Learning without labels: exactly one method, with what is chosen about it."""

    mae: MaeConfig | None = None
    simmim: SimmimConfig | None = None
    dino: DinoConfig | None = None

    def __post_init__(self) -> None:
        if sum(getattr(self, name) is not None for name in METHODS) != 1:
            raise UsageError("pretrain needs exactly one of mae, simmim and dino; give --method.")

    @property
    def method(self) -> Method:
        """Its name."""
        return next(name for name in METHODS if getattr(self, name) is not None)


def make(
    config: PretrainConfig,
    network: Network,
    preprocess: Preprocess,
    augment: AugmentConfig,
    watch: Watch,
    *,
    device: Device,
    progress: Callable[[int], float],
) -> SelfSupervised:
    """The task of ``config``.

    Args:
        progress: share of training that is done before a step.

    Raises:
        UsageError: the method does not go with this network or this size.
    """
    if config.dino is not None:
        return Dino(network, config.dino, preprocess, augment, watch, total=device.sum, progress=progress)
    if config.simmim is not None:
        return Simmim(network, config.simmim, preprocess, augment, watch)
    assert config.mae is not None
    return Mae(network, config.mae, preprocess, augment, watch)


def advised(task: SelfSupervised, batch: int, *, world: int, accumulate: int) -> str:
    """What speaks against batches of so many pictures, in a sentence with the remedy; empty if nothing does.

    Args:
        batch: pictures a step, over all processes.

    Raises:
        UsageError: nothing could be learned from them.
    """
    name = type(task).__name__.lower()
    if batch < task.least:
        raise UsageError(
            f"A batch of {batch} is too small for {name}, which needs {task.least}; give --batch {task.wanted}."
        )
    own = batch // world
    part = math.ceil(own / accumulate)
    if (own % part or part) < 2 and any(isinstance(module, nn.BatchNorm2d) for module in task.modules()):
        raise UsageError(
            f"The batch norms of {task.network.config.model} have nothing to compare in 1 picture at a time; give a "
            "larger --batch, 2 or more for each process and part of train.accumulate."
        )
    if batch < task.wanted:
        return f"A batch of {batch} is small for {name}, which learns better from --batch {task.wanted} or more."
    return ""
