"""A run: everything that decides what comes out, as one config, and the trainer it describes.

Knows every room it wires together and none of the recipes that choose the values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from vitreous import config as configs
from vitreous.data.loader import After, Loader
from vitreous.data.mix import Mixer
from vitreous.data.prepare import DataConfig, Prepared
from vitreous.data.transforms import Augment
from vitreous.data.views import Pair
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import Network, NetworkConfig
from vitreous.run import methods
from vitreous.run.methods import PretrainConfig
from vitreous.run.strips import SHOWN, Strips
from vitreous.run.teacher import Teacher, TeacherConfig
from vitreous.run.watch import Watcher
from vitreous.store.checkpoint import RUN, RunFolder
from vitreous.tasks.classify import ClassifyConfig, ClassifyTask
from vitreous.tasks.distill import Distill
from vitreous.tasks.locate import Locate
from vitreous.tasks.pseudo import Pseudo, PseudoConfig
from vitreous.tasks.task import Guide
from vitreous.training.config import TrainConfig
from vitreous.training.device import Device
from vitreous.training.log import Log
from vitreous.training.trainer import Trainer
from vitreous.types import Batch


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """What becomes of weights that a run begins with.

    Attributes:
        probe: first measure what their frozen features are worth; the classifier begins with a logistic regression.
        pictures: of training that are looked at for it; None as many as a share of the time allows.
        penalty: of the logistic regression; None the best of ``analyse.probe.PENALTIES`` that there is time for.
        lora: rank of the terms that are trained beside frozen attention; None trains all weights (``layers.lora``).
        alpha: by which these terms are multiplied, over the rank.
        guard: whether a learning rate that destroys the features is lowered, refused, or not looked for.
    """

    probe: bool = False
    pictures: int | None = None
    penalty: float | None = None
    lora: int | None = None
    alpha: float = 16.0
    guard: Literal["lower", "refuse", "off"] = "off"

    def __post_init__(self) -> None:
        for name in ("pictures", "penalty", "lora", "alpha"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"tune.{name} must be more than 0, not {value}.")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, complete: the same ``Run`` on the same data, machine and versions gives the same weights.

    Attributes:
        weights: where the network starts from: a run folder, a checkpoint file, or published weights as
            ``hub:NAME.TAG@SHA256``; None from scratch.
        tune: what becomes of these weights.
        init: how attention begins without ``weights``: as its family has it, or "mimetic" (``layers.mimetic``).
        teacher: a frozen network whose answers are matched beside the labels.
        pretrain: learn from the pictures alone, also from those without a label; ``task`` then says only how they are
            varied.
        pseudo: learn beside the labels from pictures that have none, by what the network's own average says of them.
        seed: of everything random.
        workers: threads that prepare batches; no influence on the result.
        tensorboard: also write events for TensorBoard.
    """

    data: DataConfig
    network: NetworkConfig
    task: ClassifyConfig = field(default_factory=ClassifyConfig)
    train: TrainConfig
    weights: str | None = None
    tune: TuneConfig = field(default_factory=TuneConfig)
    init: Literal["default", "mimetic"] = "default"
    teacher: TeacherConfig | None = None
    pretrain: PretrainConfig | None = None
    pseudo: PseudoConfig | None = None
    seed: int = 0
    workers: int = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.data.preprocess.size != self.network.size:
            raise UsageError(
                f"data.preprocess.size = {self.data.preprocess.size} and network.size = {self.network.size} differ; "
                "set both."
            )
        if self.weights is None and (self.tune.probe or self.tune.lora is not None):
            raise UsageError("tune says what becomes of weights to begin with; give --weights or --pretrained.")
        if self.pseudo is not None and self.pretrain is not None:
            raise UsageError("pretrain needs no labels, and pseudo makes some; leave out one of them.")
        if self.workers < 0:
            raise UsageError(f"workers = {self.workers} must be 0 or more.")
        if self.teacher is not None and self.teacher.view == "whole" and self.task.mix.is_on:
            raise UsageError(
                "A teacher that saw whole pictures cannot answer for mixed ones; set teacher.view=same, or "
                "task.mix.prob=0."
            )


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
    share: dict[str, Any] = {"seed": run.seed, "rank": device.rank, "world": device.world, "workers": run.workers}
    batch = run.train.batch

    def progress(step: int) -> float:  # known to the trainer alone, which is made from these loaders
        return trainer.progress(step)

    device.seed(run.seed, -2)  # what guides begin with depends on nothing that was drawn before
    if run.pretrain is not None:
        return _without_labels(run, prepared, network, folder, device, log=log, spent=spent, share=share)
    counts = prepared.class_counts["train"]
    guides = _guides(run, network, counts, teacher, progress)
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
    trainer = Trainer(
        task,
        run.train,
        train=train,
        val=val,
        folder=folder,
        device=device,
        seed=run.seed,
        identity=identity(run, prepared),
        spent=spent,
        log=log,
    )
    return trainer


def _guides(
    run: Run, network: Network, counts: Sequence[int], teacher: Teacher | None, progress: Callable[[int], float]
) -> list[Guide]:
    """What draws ``network`` beside the labels; ``counts`` are those of each class."""
    guides: list[Guide] = []
    if run.teacher is not None and teacher is not None:
        widths = run.teacher.width(network), teacher.width
        guides.append(Distill(run.teacher.distill, widths, teacher, progress))
    if run.task.locate:  # after the teacher, who takes a share of what stands before it
        guides.append(Locate(run.task.locate, network.backbone.dims[-1]))
    if run.pseudo is not None:
        guides.append(Pseudo(run.pseudo, network, counts, progress))
    return guides


def _beside(run: Run, prepared: Prepared, after: After | None, share: dict[str, Any]) -> After:
    """``after``, and beside each labelled picture of a batch the two views of one whose label is not looked at."""
    augment = run.task.augment
    strong = replace(augment, policy="randaugment", num_ops=2, magnitude=10.0, erase=1.0)
    if not augment.flip:  # turned signs are others, like mirrored ones
        strong = replace(augment, erase=1.0)
    rules = run.data.preprocess
    further = Loader(
        prepared.subset(np.concatenate([prepared.indices("train"), prepared.indices("unlabelled")])),
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


def _without_labels(
    run: Run,
    prepared: Prepared,
    network: Network,
    folder: RunFolder,
    device: Device,
    *,
    log: Log | None,
    spent: float,
    share: dict[str, Any],
) -> Trainer:
    """The trainer of a run that learns without labels."""
    assert run.pretrain is not None
    batch, preprocess = run.train.batch, run.data.preprocess
    pictures = prepared.subset(np.concatenate([prepared.indices("train"), prepared.indices("unlabelled")]))
    least = max(1, len(pictures) // batch)

    def progress(step: int) -> float:  # known to the trainer alone, which is made after the task
        return trainer.progress(step)

    shown = prepared.indices("val" if len(prepared.val) else "train")[:SHOWN]
    strips = Strips(folder, prepared.subset(shown)) if device.is_first else None
    watcher = Watcher(prepared, preprocess, device, batch=batch, least=least, strips=strips)
    task = methods.make(
        run.pretrain,
        network,
        preprocess,
        run.task.augment,
        watcher,
        device=device,
        progress=progress,
    )
    train = Loader(pictures, task.views(True), batch=batch, train=True, **share)
    # the views of training, so that the loss means the same; the same ones each time, as nothing is shuffled
    val = Loader(prepared.val, task.views(True), batch=batch, train=False, **share)
    trainer = Trainer(
        task,
        run.train,
        train=train,
        val=val,
        folder=folder,
        device=device,
        seed=run.seed,
        identity=identity(run, prepared),
        spent=spent,
        log=log,
    )
    return trainer


def identity(run: Run, prepared: Prepared) -> dict[str, Any]:
    """What a resumed run must share with the one that was stopped; how fast data comes is not part of it."""
    values = configs.to_dict(run)
    for name in ("workers", "tensorboard"):
        values.pop(name)
    for name in ("cache_dir", "cache_gib", "source"):
        values["data"].pop(name)
    return {"run": values, "data": prepared.digests}


def read_run(folder: RunFolder) -> Run:
    """The settings of a run folder.

    Raises:
        DamagedFile: run.json is missing or is not JSON.
        UsageError: it is of another version; names the field.
    """
    return configs.from_dict(Run, read_json(folder.path / RUN))


def to_json(values: Any) -> bytes:
    """``values`` as a small file that people can read."""
    return (json.dumps(values, indent=1, ensure_ascii=True) + "\n").encode()


def read_json(path: Path) -> Any:
    """What such a file of a run folder holds.

    Raises:
        DamagedFile: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DamagedFile(f"{path} is missing or damaged; restore it from a copy or train again.") from None
