"""What is chosen about training: how long, how, and how often it is saved."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from vitreous import config as configs
from vitreous.errors import UsageError
from vitreous.training.device import Precision
from vitreous.training.optim import OptimConfig
from vitreous.training.schedule import Plan

_HARMLESS = re.compile(r"(.+\.)?train\.(save|plan|device)(\..+)?")  # settings that do not change what is computed


@dataclass(frozen=True, kw_only=True)
class SaveConfig:
    """How often a run can be resumed from, beside its milestones. No influence on its result."""

    seconds: float = 60.0
    steps: int | None = None

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise UsageError(f"train.save.seconds = {self.seconds} must be 0 or more; 60 is usual.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"train.save.steps = {self.steps} must be 1 or more, or none.")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how a task is trained. Give exactly one of steps, epochs and budget_seconds.

    Attributes:
        steps: optimiser steps; 0, which needs ``evaluate_first``, measures the weights as they are.
        epochs: passes over the training pictures.
        budget_seconds: wall-clock time from the start of the run to its last evaluation.
        plan: of a finished run, which is thereby repeated; goes before the three above.
        batch: pictures a step, over all processes and accumulated parts.
        accumulate: parts that a batch is worked through in, for want of memory; the gradient is that of the whole.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto" takes bf16 where the hardware is fast at it.
        evaluate_every: steps between evaluations; default once an epoch, but about 20 times a run.
        evaluate_first: also evaluate before the first step, so that what is kept is never worse than the beginning.
        patience: evaluations without a better score before the run ends early; None never.
    """

    steps: int | None = None
    epochs: float | None = None
    budget_seconds: float | None = None
    plan: Plan | None = None
    batch: int = 64
    accumulate: int = 1
    optim: OptimConfig = field(default_factory=OptimConfig)
    device: str = "auto"
    precision: Precision = "auto"
    evaluate_every: int | None = None
    evaluate_first: bool = False
    patience: int | None = None
    save: SaveConfig = field(default_factory=SaveConfig)

    def __post_init__(self) -> None:
        lengths = {n: getattr(self, n) for n in ("steps", "epochs", "budget_seconds")}
        given = [n for n, value in lengths.items() if value is not None]
        if len(given) > 1 or not (given or self.plan):
            raise UsageError("Give exactly one of train.steps, train.epochs and train.budget_seconds.")
        wholes = {n: getattr(self, n) for n in ("batch", "accumulate", "evaluate_every", "patience")}
        if self.steps == 0 and self.evaluate_first:
            lengths["steps"] = None
        for name, value in {**lengths, **wholes}.items():
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"train.{name} must be positive, not {value}.")


def refuse_changes(old: Any, new: Any, place: str) -> None:
    """Refuse to go on with settings or data other than those the run began with.

    Raises:
        UsageError: names every value that differs.
    """
    changes = [c for c in configs.diff(old, new) if not _HARMLESS.fullmatch(c[0])]
    if changes:
        listed = "; ".join(f"{path} was {before}, is {after}" for path, before, after in changes)
        raise UsageError(f"{place} began with other settings: {listed}. Go back to them, or choose another folder.")
