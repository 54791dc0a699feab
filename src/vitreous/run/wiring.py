"""The trainer that a run describes: network, task, loaders and loop wired together. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from vitreous.data.loader import After, Loader
from vitreous.data.mix import Mixer
from vitreous.data.prepare import Prepared
from vitreous.data.transforms import Augment, Evaluate
from vitreous.data.views import Pair
from vitreous.network import Network
from vitreous.run import methods
from vitreous.run.plan import Run, identity
from vitreous.run.strips import SHOWN, Strips
from vitreous.run.teacher import Teacher
from vitreous.run.watch import Watcher
from vitreous.store.checkpoint import RunFolder
from vitreous.tasks.classify import ClassifyTask
from vitreous.tasks.distill import Distill
from vitreous.tasks.locate import Locate
from vitreous.tasks.pseudo import Pseudo
from vitreous.tasks.task import Guide, Task
from vitreous.training.device import Device
from vitreous.training.log import Log
from vitreous.training.trainer import Trainer
from vitreous.types import Batch

MEASURED = 512  # training pictures on which batch norms are measured anew

Progress = Callable[[int], float]


class _Parts(NamedTuple):
    """What a trainer is made of."""

    task: Task
    train: Loader
    val: Loader | None


def build(
    run: Run,
    prepared: Prepared,
    network: Network,
    folder: RunFolder,
    device: Device,
    *,
    log: Log | None = None,
    spent: float = 0.0,
    teacher: Teacher | None = None,
) -> Trainer:
    """Wire network, task, loaders and loop together; nothing is trained yet.

    Args:
        network: as ``start.begin`` leaves it.
        spent: seconds of the time budget that preparing the data has used.
        teacher: that of ``run``; it is asked from the first step on.

    Raises:
        UsageError: values that do not go together.
    """

    def progress(step: int) -> float:  # known to the trainer alone, which is made from these parts
        return trainer.progress(step)

    device.seed(run.seed, -2)  # what a task begins with depends on nothing that was drawn before
    if run.pretrain is None:
        parts = _supervised(run, prepared, network, device, teacher=teacher, progress=progress)
    else:
        parts = _self_supervised(run, prepared, network, device, folder=folder, log=log, progress=progress)
    trainer = Trainer(
        parts.task,
        run.train,
        train=parts.train,
        val=parts.val,
        plain=Loader(
            prepared.subset(_learned_from(prepared)[:MEASURED]),
            Evaluate(run.data.preprocess),
            batch=max(run.train.batch, 2),
            train=False,
        ),
        folder=folder,
        device=device,
        seed=run.seed,
        identity=identity(run, prepared),
        spent=spent,
        log=log,
    )
    return trainer


def _supervised(
    run: Run, prepared: Prepared, network: Network, device: Device, *, teacher: Teacher | None, progress: Progress
) -> _Parts:
    batch, share = run.train.batch, _share(run, device)
    counts = prepared.class_counts["train"]
    guides = _guides(run, network, counts, teacher, progress=progress, device=device)
    task = ClassifyTask(network, run.task, run.data.preprocess, counts, *guides)
    after: After | None = Mixer(run.task.mix, run.network.classes, progress) if run.task.mix.is_on else None
    if run.pseudo is not None:
        after = _beside(run, prepared, after, share)
    early, late = task.views(True), task.views(True, done=1.0)
    train = Loader(
        prepared.train,
        early,
        batch=batch,
        train=True,
        balanced=run.task.balanced,
        after=after,
        at_step=lambda step: early if progress(step) < run.task.augment.off_after else late,
        **share,
    )
    val = Loader(prepared.val, task.views(False), batch=batch, train=False, **share) if len(prepared.val) else None
    return _Parts(task, train, val)


def _self_supervised(
    run: Run,
    prepared: Prepared,
    network: Network,
    device: Device,
    *,
    folder: RunFolder,
    log: Log | None,
    progress: Progress,
) -> _Parts:
    assert run.pretrain is not None
    batch, share, preprocess = run.train.batch, _share(run, device), run.data.preprocess
    pictures = prepared.subset(_learned_from(prepared))
    shown = prepared.indices("val" if len(prepared.val) else "train")[:SHOWN]
    strips = Strips(folder, prepared.subset(shown)) if device.is_first else None
    least = max(1, len(pictures) // batch)
    warmup = run.train.optim.warmup
    watcher = Watcher(
        prepared, preprocess, device, batch=batch, least=least, progress=progress, warmup=warmup, strips=strips
    )
    task = methods.make(run.pretrain, network, preprocess, run.task.augment, watcher, device=device, progress=progress)
    advice = methods.advised(task, batch, world=device.world, accumulate=run.train.accumulate)
    if advice and log is not None:
        log.notice(advice)
    train = Loader(pictures, task.views(True), batch=batch, train=True, **share)
    # the views of training, so that the loss means the same; the same ones each time, as nothing is shuffled
    val = Loader(prepared.val, task.views(True), batch=batch, train=False, **share)
    return _Parts(task, train, val)


def _share(run: Run, device: Device) -> dict[str, Any]:
    """What all loaders of a process have in common."""
    return {"seed": run.seed, "rank": device.rank, "world": device.world, "workers": run.workers}


def _learned_from(prepared: Prepared) -> np.ndarray:
    """Numbers of all pictures that may be learned from without looking at a label."""
    return np.concatenate([prepared.indices("train"), prepared.indices("unlabelled")])


def _guides(
    run: Run, network: Network, counts: Sequence[int], teacher: Teacher | None, *, progress: Progress, device: Device
) -> list[Guide]:
    """What draws ``network`` beside the labels; ``counts`` are those of each class."""
    guides: list[Guide] = []
    if run.teacher is not None and teacher is not None:
        widths = run.teacher.width(network), teacher.width
        guides.append(Distill(run.teacher.distill, widths, teacher, progress))
    if run.task.locate:  # after the teacher, who takes a share of what stands before it
        guides.append(Locate(run.task.locate, network.backbone.dims[-1]))
    if run.pseudo is not None:
        guides.append(Pseudo(run.pseudo, network, counts, progress, total=device.sum))
    return guides


def _beside(run: Run, prepared: Prepared, after: After | None, share: dict[str, Any]) -> After:
    """``after``, and beside each labelled picture of a batch the two views of one whose label is not looked at."""
    augment = run.task.augment
    strong = replace(augment, policy="randaugment", num_ops=2, magnitude=10.0, erase=1.0)
    if not augment.flip:  # turned signs are others, like mirrored ones
        strong = replace(augment, erase=1.0)
    rules = run.data.preprocess
    further = Loader(
        prepared.subset(_learned_from(prepared)),
        Pair(Augment(replace(augment, policy="none", erase=0.0), rules), Augment(strong, rules)),
        batch=run.train.batch,
        train=True,
        **share,
    )

    def beside(batch: Batch, step: int, rng: np.random.Generator) -> Batch:
        others = further.at(step)  # a pure function of the step, as the batch is
        assert others.views is not None
        batch = batch if after is None else after(batch, step, rng)
        return batch._replace(others=torch.cat([others.image[:, None], others.views], dim=1))

    return beside
