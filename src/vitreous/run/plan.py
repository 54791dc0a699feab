"""A run: everything that decides what comes out, as one config.

Knows how a run is written and read, and none of the recipes that choose its values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vitreous import config as configs
from vitreous.data.prepare import DataConfig, Prepared
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import NetworkConfig
from vitreous.run.methods import PretrainConfig
from vitreous.run.teacher import TeacherConfig
from vitreous.store.checkpoint import RUN, RunFolder
from vitreous.tasks.classify import ClassifyConfig
from vitreous.tasks.pseudo import PseudoConfig
from vitreous.training.config import TrainConfig


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
