"""Distillation: the answers of a frozen teacher, beside the labels, as what a network is to match.

Logits after Hinton et al. 2015, section 2.1. Features after Li et al. 2022 (locality guidance, ECCV, section 3), on
pooled vectors or on the last map, with a weight that fades. Knows nothing of where the answers come from; the
projector is trained with the network and thrown away with this file's module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.tasks.task import Guide, Loss
from vitreous.types import Batch, Features

Place = Literal["pooled", "map"]


class Answers(NamedTuple):
    """What a teacher says of a batch; no gradient leads back to it."""

    logits: Tensor | None  # (b, k) float32; None where its classes are others
    features: Tensor  # (b, d, h, w) float32, of mean 0 and deviation 1 over the training pictures; (b, d, 1, 1) pooled


Ask = Callable[[Batch], Answers]


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """How a teacher's answers become a loss.

    Attributes:
        logits: share of the loss that the teacher's logits take from the labels; 0 leaves them out.
        temperature: both logits are divided by it before the softmax.
        features: weight of the features at the beginning; 0 leaves them out.
        fade: share of training after which that weight, falling linearly, is zero; then labels and logits decide.
        at: which features: "pooled", one vector a picture, or "map", the last map cell by cell.

    Raises:
        UsageError: a value outside its range, or nothing to learn from.
    """

    logits: float = 0.5
    temperature: float = 2.0
    features: float = 1.0
    fade: float = 0.6
    at: Place = "pooled"

    def __post_init__(self) -> None:
        if not 0 <= self.logits <= 1:
            raise UsageError(f"distill.logits = {self.logits} must be a share from 0 to 1.")
        if not 0 < self.temperature < float("inf"):
            raise UsageError(f"distill.temperature = {self.temperature} must be more than 0; 2 is usual.")
        if not 0 <= self.features < float("inf"):
            raise UsageError(f"distill.features = {self.features} must be a number from 0 up.")
        if not 0 < self.fade <= 1:
            raise UsageError(f"distill.fade = {self.fade} must be a share above 0, up to 1.")
        if self.logits == self.features == 0:
            raise UsageError("A teacher whose logits and features both weigh 0 teaches nothing; set one of them.")

    def weight(self, progress: float) -> float:
        """Of the features, when ``progress`` of the training is done."""
        return self.features * max(0.0, 1 - progress / self.fade)


class Distill(Guide):
    """Draws a network towards a teacher.

    Args:
        widths: of the features, of the network and of the teacher.
        ask: the teacher.
        progress: share of the training that is done before a step.
    """

    weight: Tensor

    def __init__(
        self, config: DistillConfig, widths: tuple[int, int], ask: Ask, progress: Callable[[int], float]
    ) -> None:
        super().__init__()
        self.config = config
        self.ask = ask
        self.progress = progress
        self.projector = nn.Linear(*widths) if config.features else None
        # kept with the state: a resumed run does not know the step before its first one is done
        self.register_buffer("weight", torch.tensor(config.weight(0.0)))

    def forward(self, loss: Loss, logits: Tensor, features: Features, batch: Batch) -> Loss:
        weight = float(self.weight)
        if self.config.logits == 0 and weight == 0:
            return loss  # nothing more is to be learned from the teacher, and asking may be dear
        answers = self.ask(batch)
        total, parts = loss.total, dict(loss.parts)
        if self.config.logits and answers.logits is not None:
            parts["teacher"] = divergence(answers.logits, logits, self.config.temperature)
            total = (1 - self.config.logits) * total + self.config.logits * parts["teacher"]
        if self.projector is not None and weight:
            own = features.pooled[:, :, None, None] if self.config.at == "pooled" else features.maps[-1]
            parts["teacher_features"] = distance(self.projector, own, answers.features)
            total = total + weight * parts["teacher_features"]
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def after_step(self, step: int) -> None:
        self.weight.fill_(self.config.weight(self.progress(step + 1)))


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence of ``student`` from ``teacher``, both logits (b, k), times the temperature
    squared, so that its gradient does not shrink with it (Hinton et al. 2015, section 2.1)."""
    wanted = F.log_softmax(teacher.float() / temperature, dim=1)
    found = F.log_softmax(student.float() / temperature, dim=1)
    return F.kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2


def distance(projector: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine over cells, between the projected map (b, c, h, w) and the teacher's (b, d, h', w').

    Where the grids differ, both are averaged to the coarser one.
    """
    grid = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    found, wanted = (F.adaptive_avg_pool2d(x, grid).flatten(2).transpose(1, 2) for x in (student, teacher))  # (b, n, d)
    return 1 - F.cosine_similarity(projector(found).float(), wanted.float(), dim=2).mean()
