"""Which method learns without labels, and the task it becomes: the one place that knows all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

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
