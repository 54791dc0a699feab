"""Pseudo-labels: what the running average of the network is sure of, the network is to answer for a stronger view.

FixMatch (Sohn et al. 2020, section 2.2) with the teacher of Tarvainen and Valpola 2017 (section 2), which is steadier
than the network of the step itself. Whatever class is named more often than its share among the labelled pictures
counts for less, as otherwise the first mistakes feed themselves. Knows nothing of where the pictures come from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.network import Network
from vitreous.tasks.task import Guide, Loss
from vitreous.types import Batch, Features

_MOST = 4.0  # times that a picture of a class that is hardly ever named may count
_MEMORY = 0.02  # of a step in the running share of each class


@dataclass(frozen=True, kw_only=True)
class PseudoConfig:
    """How answers on pictures without a label become a loss.

    Attributes:
        weight: of it, once it has risen.
        rise: share of training over which the weight rises linearly.
        sure: probability from which on an answer counts as a label. Smoothed labels teach no more than 0.91 of ten
            classes, so it is less than the 0.95 of FixMatch.
        decay: of the teacher; at step t at most (1 + t) / (10 + t).

    Raises:
        UsageError: a value outside its range.
    """

    weight: float = 1.0
    rise: float = 0.4
    sure: float = 0.8
    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise UsageError(f"pseudo.weight = {self.weight} must be more than 0; 1 is usual.")
        if not 0 < self.rise <= 1:
            raise UsageError(f"pseudo.rise = {self.rise} must be a share above 0, up to 1.")
        if not 0 < self.sure < 1:
            raise UsageError(f"pseudo.sure = {self.sure} must be a probability between 0 and 1; 0.8 to 0.95 is usual.")
        if not 0 <= self.decay < 1:
            raise UsageError(f"pseudo.decay = {self.decay} lies in [0, 1); 0.999 is usual.")

    def weigh(self, progress: float) -> float:
        """The weight when ``progress`` of the training is done."""
        return self.weight * min(1.0, progress / self.rise)


class Pseudo(Guide):
    """Learns from ``Batch.others``: of each picture a weak view (b, 0), which is answered, and a strong one (b, 1).

    Args:
        network: that is trained; it is not part of this module.
        counts: labelled training pictures of each class.
        progress: share of the training that is done before a step.
        total: adds a tensor up over all processes, in place.

    Attributes:
        shares: (k,) of each class among the answers that were sure, lately; kept with the state, like ``weight``.
    """

    shares: Tensor
    wanted: Tensor
    weight: Tensor
    tally: Tensor

    def __init__(
        self,
        config: PseudoConfig,
        network: Network,
        counts: Sequence[int],
        progress: Callable[[int], float],
        *,
        total: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.config = config
        self.progress, self.total = progress, total
        self.answer = network.forward  # bound, and so not a module of ours
        self._live = list(network.state_dict().values())
        self.teacher = copy.deepcopy(network).requires_grad_(False).eval()
        self.register_buffer("wanted", F.normalize(torch.tensor(counts, dtype=torch.float32), p=1, dim=0))
        self.register_buffer("shares", self.wanted.clone())
        self.register_buffer("weight", torch.tensor(config.weigh(0.0)))
        self.register_buffer("tally", torch.zeros(len(counts)), persistent=False)  # sure answers of this step

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, loss: Loss, logits: Tensor, features: Features, batch: Batch) -> Loss:
        assert batch.others is not None
        weak, strong = batch.others.unbind(1)
        with torch.no_grad():
            likely, label = self.teacher(weak).float().softmax(dim=1).max(dim=1)  # (b,), (b,)
            sure = likely >= self.config.sure
        each = F.cross_entropy(self.answer(strong).float(), label, reduction="none")
        own = (each * sure * balance(self.wanted, self.shares)[label]).mean()
        self.tally += torch.bincount(label[sure], minlength=len(self.tally))  # the batch may come in parts
        parts = {**loss.parts, "pseudo": own.detach(), "sure": sure.float().mean()}
        return Loss(loss.total + self.weight * own, parts)

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        count = self.total(self.tally).sum()
        self.shares.lerp_(self.tally / count.clamp(min=1), _MEMORY * (count > 0))
        self.tally.zero_()
        self.weight.fill_(self.config.weigh(self.progress(step + 1)))
        decay = min(self.config.decay, (2 + step) / (11 + step))
        for own, live in zip(self.teacher.state_dict().values(), self._live, strict=True):
            own.lerp_(live, 1 - decay) if own.is_floating_point() else own.copy_(live)


def balance(wanted: Tensor, shares: Tensor) -> Tensor:
    """(k,) what a picture of each class counts: as much as brings its share to the one that is wanted."""
    return (wanted / shares.clamp(min=1e-6)).clamp(max=_MOST)
