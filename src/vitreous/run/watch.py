"""What a network has learned so far without labels: looked at while it learns, so that nobody waits for nothing.

The labelled pictures of train and validation answer through frozen features, by nearest neighbours and by logistic
regression; test is never touched. Without labels only the loss and the shape of the features can be told. Knows no
method but by its contract.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor, nn

from vitreous.analyse.probe import logistic, neighbours, right
from vitreous.analyse.representation import effective_rank, spread
from vitreous.data.loader import Loader
from vitreous.data.prepare import Prepared, Side
from vitreous.data.preprocess import Preprocess
from vitreous.data.remarks import counted
from vitreous.data.transforms import Evaluate
from vitreous.layers.attention import Attend
from vitreous.network import Network
from vitreous.tasks.task import Gather, SelfSupervised
from vitreous.training.device import Device
from vitreous.training.norms import by_batch
from vitreous.types import Batch

CLEAR = 3.0  # deviations from which on two shares differ: the best of some 20 looks is held against the first
LOOKED = 16  # pictures whose attention is looked at
MOST = 2_000  # pictures of train, and of validation, that are asked each time
NO_PROGRESS = 0.98  # share of the loss of having learned nothing, above which nothing has been learned
SOON = 100  # steps that a network is given to beat that; on small pictures 16 to 25 were enough
COLLAPSED = 0.01  # spread of features below which all pictures look the same; fresh networks start at about 0.05


class Watcher:
    """Measures a self-supervised task; ``tasks.task.Watch``.

    Args:
        prepared: whose labelled pictures are asked, and whose held-out ones give the loss.
        batch: pictures at once.
        least: steps before features that are all the same are a collapse, such as those of an epoch.
        progress: share of training that is done before a step.
        warmup: share of it in which the learning rate rises; as long again, and a lack of progress is one.
        strips: draws what is learned, at each evaluation; only the first process has it.
    """

    def __init__(
        self,
        prepared: Prepared,
        preprocess: Preprocess,
        device: Device,
        *,
        batch: int,
        least: int,
        progress: Callable[[int], float],
        warmup: float,
        strips: Callable[[SelfSupervised], None] | None = None,
    ) -> None:
        self.classes = len(prepared.classes)
        self.strips = strips
        self.least, self.progress, self.warmup = least, progress, warmup
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
        found = {side: _features(task.network, loader, gather) for side, loader in self._loaders.items()}
        values = self._probes(*found["train"], *found["val"]) if self.has_labels else {}
        if "val" in found:
            features = found["val"][0].numpy()
            values |= {"rank": effective_rank(features), "spread": spread(features)}
        values["loss"] = _loss(task, batches, gather)
        values |= self._attention(task.network, gather)
        if self.has_labels:
            # alone, a regression is soon right nearly always, and luck would choose among good weights
            values["score"] = (values["linear"] + values["neighbours"]) / 2
        else:
            values["score"] = -values["loss"] if task.by_loss else values.get("rank", 0.0)
        if self.strips is not None:
            self.strips(task)
        self._judge(task, values)
        return values

    @property
    def has_labels(self) -> bool:
        """Whether labelled pictures tell how good the features are."""
        return self.classes > 0 and "val" in self._loaders

    def metric(self, task: SelfSupervised) -> str:
        if self.has_labels:
            return "mean of linear probe and k-NN on validation"
        return "negative loss on validation" if task.by_loss else "effective rank on validation"

    def _attention(self, network: Network, gather: Gather) -> dict[str, float]:
        """Of a few pictures; nothing where no attention has weights to look at, or nothing is held out."""
        loader = self._loaders.get("val")
        if loader is None or not any(isinstance(module, Attend) for module in network.modules()):
            return {}
        with closing(loader.evaluate()) as batches:
            sums = [[attention_entropy(network, batch.image[:LOOKED]), 1.0] for batch in islice(batches, 1)]
        total, count = gather(torch.tensor(sums or [[0.0, 0.0]])).sum(dim=0).tolist()
        return {"attention": total / count}

    def _probes(self, known: Tensor, labels: Tensor, asked: Tensor, true: Tensor) -> dict[str, float]:
        train, val = (known.numpy(), labels.numpy()), (asked.numpy(), true.numpy())
        solved = logistic(*train, val, classes=self.classes)
        votes = neighbours(*train, val[0], classes=self.classes)
        return {"linear": right(solved.logits(val[0]), val[1]), "neighbours": right(votes, val[1])}

    def _judge(self, task: SelfSupervised, values: dict[str, float]) -> None:
        """Whether going on is of any use."""
        if task.step < self.least:
            return
        learning = task.step >= SOON and self.progress(task.step) >= 2 * self.warmup
        if values.get("spread", 1.0) < COLLAPSED:
            self._why = (
                f"Collapse: at step {task.step} all pictures have nearly the same features (spread "
                f"{values['spread']:.3f}); lower train.optim.lr, or take --method mae or simmim."
            )
        elif learning and math.isfinite(nothing := float(task.nothing)) and values["loss"] > NO_PROGRESS * nothing:
            self._why = (
                f"No progress: at step {task.step} the loss is {values['loss']:.3f}, that of having learned nothing is "
                f"{nothing:.3f}; try another train.optim.lr, a smaller mask, or a longer --budget."
            )


def told(first: Mapping[str, float], kept: Mapping[str, float], asked: int, begun: str, step: int) -> str:
    """In a sentence, whether the features became better.

    Args:
        first: what was measured before the first step, as ``Watcher`` gives it.
        kept: what was measured of the weights that are kept.
        asked: validation pictures that were asked.
        begun: whose features the first ones are, in words.
        step: of the weights that are kept.
    """
    if "linear" not in first or "linear" not in kept:
        there = {name: (first[name], kept[name]) for name in ("loss", "rank") if first.get(name) and kept.get(name)}
        went = ", ".join(f"the {name} went from {a:.3g} to {b:.3g}" for name, (a, b) in there.items())
        return f"Without labels nobody can tell whether the features became better{': ' if went else ''}{went}."
    before, after = (0.5 * (found["linear"] + found["neighbours"]) for found in (first, kept))  # as ``Watcher`` scores
    deviation = math.sqrt((before * (1 - before) + after * (1 - after)) / max(asked, 1))
    found = (
        f"on {counted(asked)} of validation a linear classifier on them is right {kept['linear']:.1%} of the time, "
        f"before {first['linear']:.1%}, and nearest neighbours {kept['neighbours']:.1%}, before "
        f"{first['neighbours']:.1%}"
    )
    if step == 0:
        return (
            f"No step made the features better than those {begun}: on {counted(asked)} of validation a linear "
            f"classifier on these is right {first['linear']:.1%} of the time, and nearest neighbours "
            f"{first['neighbours']:.1%}; the mean of both never rose."
        )
    if abs(after - before) <= CLEAR * deviation:
        return f"The features are not clearly better than those {begun}: {found}."
    return f"The features became {'better' if after > before else 'worse'} than those {begun}: {found}."


@torch.no_grad()
def attention_entropy(network: Network, image: Tensor) -> float:
    """How evenly attention looks around: the entropy of its weights over its largest possible value, log n.

    The mean over pictures, tokens and heads, and then over blocks: 0 where each token looks at one other, 1 where it
    looks at all of them alike.

    Args:
        image: (b, 3, h, w), as ``network`` takes it.
    """
    found: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor | None, ...]) -> None:
        q, k, _, bias = (*inputs, None)[:4]  # (b, heads, n, d_h), bias (..., n, n)
        assert q is not None and k is not None
        with torch.autocast(q.device.type, enabled=False):
            scores = q.float() @ k.float().transpose(-2, -1) / math.sqrt(q.shape[-1])
        weights = (scores if bias is None else scores + bias.float()).softmax(dim=-1)
        if weights.shape[-1] > 1:
            found.append(torch.special.entr(weights).sum(dim=-1).mean() / math.log(weights.shape[-1]))

    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if isinstance(m, Attend)]
    try:
        network.features(image.to(network.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.stack(found).mean()) if found else math.nan


def _loss(task: SelfSupervised, batches: Iterable[Batch], gather: Gather) -> float:
    """Over all processes, each picture counting the same."""
    sums = torch.zeros(1, 2)
    with by_batch(task) as normed:  # what norms hold here are statistics of whole pictures
        for batch in batches:
            if len(batch.label) > 1 or not normed:
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
