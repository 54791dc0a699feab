"""Supervised classification: cross-entropy on mixed and smoothed labels, and the metrics of its answers.

Knows nothing of files or of the loop. What ships is the network; this file is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.data.mix import MixConfig
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, AugmentConfig, Evaluate, Transform
from vitreous.errors import UsageError
from vitreous.heads.classify import ClassifyHead
from vitreous.network import Network
from vitreous.tasks.task import Gather, Guide, Loss, Task
from vitreous.types import Batch


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig:
    """How labels become a loss.

    Attributes:
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016, section 7).
        class_weights: weigh each picture by the inverse of its class's count, so that rare classes count as much as
            common ones. A mixed picture weighs what its parts do.
        balanced: show every class equally often instead; rare pictures return within an epoch.
        augment: how training pictures are varied.
        mix: mixup and cutmix; they happen in the loader's threads.
        soften: make the weights of the classifier as small as fresh ones before the first step. One that was solved for
            features as they are has large weights, and what it passes down at full learning rates wrecks them.
        locate: weight of dense relative localisation (``tasks.locate``); 0 leaves it out.

    Raises:
        UsageError: a value outside its range.
    """

    label_smoothing: float = 0.1
    class_weights: bool = False
    balanced: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    locate: float = 0.0
    soften: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.locate < float("inf"):
            raise UsageError(f"task.locate = {self.locate} must be a weight from 0 up; 0.1 is usual.")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"task.label_smoothing = {self.label_smoothing} must be a share from 0 to below 1.")


class ClassifyTask(Task):
    """Classification of one label a picture.

    Args:
        network: answers logits of shape (b, k).
        config: loss and augmentation.
        preprocess: the declared preprocessing; its size is what the network sees.
        counts: training pictures of each class, needed for ``config.class_weights``.
        guides: each adds to the loss.
    """

    weight: Tensor | None

    def __init__(
        self,
        network: Network,
        config: ClassifyConfig,
        preprocess: Preprocess,
        counts: Sequence[int],
        *guides: Guide,
    ) -> None:
        super().__init__()
        self.network = network
        self.guides = nn.ModuleList(guides)
        self.config = config
        self.preprocess = preprocess
        self.register_buffer("weight", inverse_frequency(counts) if config.class_weights else None, persistent=False)

    def views(self, train: bool, done: float = 0.0) -> Transform:
        return Augment(self.config.augment.at(done), self.preprocess) if train else Evaluate(self.preprocess)

    def loss(self, batch: Batch) -> Loss:
        features = self.network.features(batch.image)
        logits = self.network.head(features).float()  # (b, k)
        target = batch.label if batch.target is None else batch.target
        smoothing = self.config.label_smoothing
        if self.weight is None:
            total = F.cross_entropy(logits, target, label_smoothing=smoothing)
        else:
            # torch's own weights fall on the smoothed share too, where those of rare classes outweigh the label, and
            # its mean divides by their sum, so parts of a batch do not add up to it
            each = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")  # (b,)
            total = (each * (self.weight[target] if target.ndim == 1 else (target * self.weight).sum(1))).mean()
        loss = Loss(total, {"cross_entropy": total.detach()})
        for guide in self.guides:
            loss = guide(loss, logits, features, batch)
        return loss

    def begin(self) -> None:
        if self.config.soften:
            assert isinstance(self.network.head, ClassifyHead)
            self.network.head.soften()

    def after_step(self, step: int) -> None:
        for guide in self.guides:
            assert isinstance(guide, Guide)
            guide.after_step(step)

    def metric(self) -> str:
        return "accuracy on validation less 1e-5 loss"

    def evaluate(self, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        """Accuracy, mean accuracy over classes, cross-entropy and score over the pictures of all processes."""
        device = self.network.mean.device
        # a rank can be left without a share of a very small split
        logits = [torch.zeros(0, self.network.config.classes, device=device)]
        labels = [torch.zeros(0, dtype=torch.int64, device=device)]
        for batch in batches:
            logits.append(self.network(batch.image.to(device)).float())
            labels.append(batch.label.to(device))
        return metrics(gather(torch.cat(logits)).cpu(), gather(torch.cat(labels)).cpu())


def metrics(logits: Tensor, label: Tensor) -> dict[str, float]:
    """What (n, k) logits are worth against (n,) labels; ``score`` is accuracy with ties broken by the loss."""
    right = (logits.argmax(1) == label).double()
    per_class = [right[label == c].mean() for c in range(logits.shape[1]) if bool((label == c).any())]
    loss = float(F.cross_entropy(logits.double(), label))
    accuracy = float(right.mean())
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float(torch.stack(per_class).mean()),
        "loss": loss,
        # on small validation splits many checkpoints tie; a thousandth of a point can only decide between those
        "score": accuracy - 1e-5 * min(loss, 100.0),
    }


def inverse_frequency(counts: Sequence[int]) -> Tensor:
    """Class weights (k,) proportional to 1 / count, scaled so that the mean weight of a training picture is 1."""
    count = torch.tensor([max(c, 1) for c in counts], dtype=torch.float32)
    return count.sum() / (len(counts) * count)
