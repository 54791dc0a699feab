"""What a network has learned so far without labels: looked at while it learns, so that nobody waits for nothing.

The labelled pictures of train and validation answer through frozen features, by nearest neighbours and by logistic
regression; test is never touched. Without labels only the loss and the shape of the features can be told. Knows no
method but by its contract.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import closing

import torch
from torch import Tensor

from vitreous.analyse.probe import neighbours, right, solve
from vitreous.analyse.representation import effective_rank, spread
from vitreous.data.loader import Loader
from vitreous.data.prepare import Prepared, Side
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Evaluate
from vitreous.network import Network
from vitreous.tasks.task import Gather, SelfSupervised
from vitreous.training.device import Device
from vitreous.types import Batch

MOST = 2_000  # pictures of train, and of validation, that are asked each time
PENALTY = 1e-2  # of the regression, always the same, so that evaluations can be compared
NO_PROGRESS = 0.98  # share of the loss of having learned nothing, above which nothing has been learned
COLLAPSED = 0.05  # spread of features below which all pictures look the same


class Watcher:
    """Measures a self-supervised task; ``tasks.task.Watch``.

    Args:
        prepared: whose labelled pictures are asked, and whose held-out ones give the loss.
        batch: pictures at once.
        least: steps before a lack of progress is one.
    """

    def __init__(self, prepared: Prepared, preprocess: Preprocess, device: Device, *, batch: int, least: int) -> None:
        self.classes = len(prepared.classes)
        self.least = least
        self._why = ""
        sides: tuple[Side, ...] = ("train", "val") if self.classes else ("val",)
        self._loaders = {
            side: Loader(
                prepared.subset(prepared.indices(side)[:MOST]),
                Evaluate(preprocess),
                batch=batch,
                train=False,
                rank=device.rank,
                world=device.world,
            )
            for side in sides
            if len(prepared.indices(side))
        }

    def halted(self) -> str:
        return self._why

    def __call__(self, task: SelfSupervised, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        values = {"loss": _loss(task, batches, gather)}
        found = {side: _features(task.network, loader, gather) for side, loader in self._loaders.items()}
        if "val" in found:
            features = found["val"][0].numpy()
            values |= {"rank": effective_rank(features), "spread": spread(features)}
        if self.classes and "val" in found:
            values |= self._probes(*found["train"], *found["val"])
            values["score"] = values["linear"] + 1e-3 * values["neighbours"]
        else:
            values["score"] = -values["loss"] if task.by_loss else values.get("rank", 0.0)
        self._judge(task, values)
        return values

    def _probes(self, known: Tensor, labels: Tensor, asked: Tensor, true: Tensor) -> dict[str, float]:
        train, val = known.numpy(), asked.numpy()
        solved = solve(train, labels.numpy(), PENALTY, classes=self.classes)
        votes = neighbours(train, labels.numpy(), val, classes=self.classes)
        return {"linear": right(solved.logits(val), true.numpy()), "neighbours": right(votes, true.numpy())}

    def _judge(self, task: SelfSupervised, values: dict[str, float]) -> None:
        """Whether going on is of any use."""
        if task.step < self.least:
            return
        if values.get("spread", 1.0) < COLLAPSED:
            self._why = (
                f"Collapse: at step {task.step} all pictures have nearly the same features (spread "
                f"{values['spread']:.3f}); lower train.optim.lr, or take --method mae or simmim."
            )
        elif values["loss"] > NO_PROGRESS * task.nothing and task.nothing < math.inf:
            self._why = (
                f"No progress: at step {task.step} the loss is {values['loss']:.3f}, that of having learned nothing is "
                f"{task.nothing:.3f}; try another train.optim.lr, a smaller mask, or a longer --budget."
            )


def _loss(task: SelfSupervised, batches: Iterable[Batch], gather: Gather) -> float:
    """Over all processes, each picture counting the same."""
    sums = torch.zeros(1, 2)
    for batch in batches:
        sums += torch.tensor([[float(task.loss(batch).total) * len(batch.label), len(batch.label)]])
    total, count = gather(sums).sum(dim=0).tolist()
    return total / count if count else math.nan


def _features(network: Network, loader: Loader, gather: Gather) -> tuple[Tensor, Tensor]:
    """Pooled features (n, d) float32 and labels (n,), of all processes."""
    place = network.mean.device
    pooled = [torch.zeros(0, network.backbone.width)]
    labels = [torch.zeros(0, dtype=torch.int64)]
    with closing(loader.evaluate()) as batches:
        for batch in batches:
            pooled.append(network.features(batch.image.to(place)).pooled.float().cpu())
            labels.append(batch.label)
    return gather(torch.cat(pooled)).cpu(), gather(torch.cat(labels)).cpu()
