"""Mixup and cutmix: two pictures become one, and so do their labels.

Works on a finished batch, whose partner is the same batch rolled by one. Knows nothing of models; label smoothing
belongs to the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.types import UNLABELLED, Batch


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How often and how strongly pictures are mixed. An alpha of 0 switches that kind off.

    Raises:
        UsageError: a value outside its range.
    """

    mixup: float = 0.8  # alpha of mixup's Beta(alpha, alpha)
    cutmix: float = 1.0  # alpha of cutmix's; with both, each batch takes one of them at even odds
    prob: float = 1.0  # share of batches that are mixed
    off_after: float = 0.8  # share of training after which pictures come unmixed, so that it ends on real ones

    @property
    def is_on(self) -> bool:
        """Whether any batch is ever mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0:
            raise UsageError(f"Mixing alphas are 0 or more, not mixup = {self.mixup} and cutmix = {self.cutmix}.")
        for name in ("prob", "off_after"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"Mixing {name} is a share from 0 to 1, not {getattr(self, name)}.")


class Mixer:
    """Mixing over a whole training: what ``Loader(after=...)`` takes.

    Args:
        config: see ``MixConfig``.
        classes: number of classes k.
        progress: share of the training done at a step; from ``off_after`` on targets are one-hot and pictures
            untouched.
    """

    def __init__(self, config: MixConfig, classes: int, progress: Callable[[int], float]) -> None:
        self.config = config
        self.classes = classes
        self.progress = progress

    def __call__(self, batch: Batch, step: int, rng: np.random.Generator) -> Batch:
        """The batch of ``step``, mixed or not, with ``target`` filled either way."""
        if self.progress(step) >= self.config.off_after:
            return batch._replace(target=one_hot(batch.label, self.classes))
        return mix(batch, self.classes, self.config, rng)


def mix(batch: Batch, classes: int, config: MixConfig, rng: np.random.Generator) -> Batch:
    """Mixup (Zhang et al. 2018, section 2) or cutmix (Yun et al. 2019, section 3.1) with the batch rolled by one.

    Args:
        batch: image (b, 3, h, w), uint8 or float; unlabelled pictures bring an empty row of targets.
        rng: decides whether, which and how much; one generator makes one and the same batch.

    Returns:
        The batch with its images mixed in their own dtype and ``target`` (b, k) float32. ``label`` stays what it was.

    Raises:
        UsageError: the batch carries masks.
    """
    if batch.mask is not None:
        raise UsageError("Mixup and cutmix are for whole-picture labels; switch mixing off to train on masks.")
    target = one_hot(batch.label, classes)
    chance, kind = rng.random(2)  # always drawn, so that one setting never shifts what the others draw
    alphas = {"mixup": config.mixup, "cutmix": config.cutmix}
    active = [name for name, alpha in alphas.items() if alpha > 0]
    if chance >= config.prob or not active:
        return batch._replace(target=target)
    name = active[int(kind * len(active))]
    share = float(rng.beta(alphas[name], alphas[name]))
    if name == "mixup":
        image = _blend(batch.image, share)
    else:
        image, share = _paste(batch.image, share, rng)
    return batch._replace(image=image, target=share * target + (1 - share) * target.roll(1, 0))


def one_hot(label: Tensor, classes: int) -> Tensor:
    """(b,) int64 -> (b, k) float32; an unlabelled picture's row is empty."""
    target = torch.zeros(len(label), classes)
    target.scatter_(1, label.clamp(min=0)[:, None], (label != UNLABELLED).float()[:, None])
    return target


def _blend(image: Tensor, share: float) -> Tensor:
    """``share`` of each picture and the rest of the one before it; uint8 is rounded to the nearest."""
    mixed = torch.empty_like(image)
    half = 0.0 if image.is_floating_point() else 0.5  # uint8 drops the fraction
    for i in range(len(image)):  # one by one: a float picture stays in the cache, a float batch does not
        mixed[i] = (image[i] * share).add_(image[i - 1], alpha=1 - share).add_(half)
    return mixed


def _paste(image: Tensor, share: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """A box of the picture before pasted into each one, and the share of its own pixels that each keeps."""
    height, width = image.shape[-2:]
    h, w = height * math.sqrt(1 - share), width * math.sqrt(1 - share)
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    top, bottom = max(0, round(y - h / 2)), min(height, round(y + h / 2))
    left, right = max(0, round(x - w / 2)), min(width, round(x + w / 2))
    mixed = image.clone()
    mixed[..., top:bottom, left:right] = image[..., top:bottom, left:right].roll(1, 0)
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
