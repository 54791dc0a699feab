"""A run: everything that decides what comes out, as one config, and the trainer it describes.

Knows every room it wires together and none of the recipes that choose the values.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitreous import config as configs
from vitreous.data.loader import Loader
from vitreous.data.mix import Mixer
from vitreous.data.prepare import DataConfig, Prepared
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.run.teacher import Teacher, TeacherConfig
from vitreous.store.checkpoint import RUN, RunFolder
from vitreous.tasks.classify import ClassifyConfig, ClassifyTask
from vitreous.tasks.distill import Distill
from vitreous.training.config import TrainConfig
from vitreous.training.device import Device
from vitreous.training.log import Log
from vitreous.training.trainer import Trainer
from vitreous.weights import foreign, pretrained
from vitreous.weights.files import read


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training, complete: the same ``Run`` on the same data, machine and versions gives the same weights.

    Attributes:
        weights: where the network starts from: a run folder, a checkpoint file, or published weights as
            ``hub:NAME.TAG@SHA256``; None from scratch.
        teacher: a frozen network whose answers are matched beside the labels.
        seed: of everything random.
        workers: threads that prepare batches; no influence on the result.
        tensorboard: also write events for TensorBoard.
    """

    data: DataConfig
    network: NetworkConfig
    task: ClassifyConfig = field(default_factory=ClassifyConfig)
    train: TrainConfig
    weights: str | None = None
    teacher: TeacherConfig | None = None
    seed: int = 0
    workers: int = 1
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.data.preprocess.size != self.network.size:
            raise UsageError(
                f"data.preprocess.size = {self.data.preprocess.size} and network.size = {self.network.size} differ; "
                "set both."
            )
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
    folder: RunFolder,
    device: Device,
    *,
    begin: bool = True,
    log: Log | None = None,
    spent: float = 0.0,
    teacher: Teacher | None = None,
) -> Trainer:
    """Wire network, task, loaders and loop together; nothing is trained yet.

    Args:
        begin: load ``run.weights``; a run that goes on from a checkpoint has no use for them.
        spent: seconds of the time budget that preparing the data has used.
        teacher: that of ``run``; it is asked from the first step on.

    Raises:
        UsageError: values that do not go together, or weights of another architecture.
        DamagedFile: the weights are not what was saved.
        Unreachable: the weights are not here and cannot be fetched.
    """
    device.seed(run.seed, -1)  # the fresh weights; steps are counted from 0
    network = build_network(run.network)
    if run.weights is not None and begin:
        said = load_weights(network, run.weights, prepared.classes)
        if log is not None:
            log.say(said)
    share: dict[str, Any] = {"seed": run.seed, "rank": device.rank, "world": device.world, "workers": run.workers}
    batch = run.train.batch

    def progress(step: int) -> float:  # known to the trainer alone, which is made from these loaders
        return trainer.progress(step)

    guide = None
    if run.teacher is not None and teacher is not None:
        widths = run.teacher.width(network), teacher.width
        guide = Distill(run.teacher.distill, widths, teacher, progress)
    task = ClassifyTask(network, run.task, run.data.preprocess, prepared.class_counts["train"], guide)
    mixer = Mixer(run.task.mix, run.network.classes, progress) if run.task.mix.is_on else None
    train = Loader(
        prepared.train, task.views(True), batch=batch, train=True, balanced=run.task.balanced, after=mixer, **share
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


def load_weights(network: Network, place: str, classes: Sequence[str]) -> str:
    """Start ``network`` from ``Run.weights``, and say what was done.

    The classifier comes along if the classes are the same, or, where a file does not name them, as many.

    Raises:
        UsageError: another architecture, or no such place.
        DamagedFile: not what was saved.
        Unreachable: it cannot be fetched.
    """
    if Path(place).is_dir():
        other = RunFolder.open(place)
        same = tuple(other.load_card()["data"]["classes"]) == tuple(classes)
        loaded = foreign.load(network, other.load_weights(), keep_head=same)
    else:
        published = pretrained.parse(place)
        tensors = read(published.fetch()[1] if published else place)
        same = pretrained.classifier(tensors, network.config.model)[1] == network.config.classes
        loaded = foreign.load(network, tensors, keep_head=same)
    return f"weights: {pretrained.told(loaded, fresh=not same)}"


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
