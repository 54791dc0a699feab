"""What an arm amounts to: its finished runs, read from their folders.

Knows nothing of how runs are made.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitreous.comparison.arms import Arm
from vitreous.comparison.entries import Mixer
from vitreous.comparison.statistics import Interval, Right, over_pictures, over_seeds
from vitreous.comparison.timing import Speed
from vitreous.errors import DamagedFile
from vitreous.reports.recorded import Recorded, json_rows, read_run


class Point(NamedTuple):
    """One evaluation on the way: when, and how good it was on the validation part."""

    seconds: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One run that has ended well."""

    seed: int
    folder: Path
    right: NDArray[np.bool_]  # (n,) on the test part, in the order of its contents
    validation: float
    minutes: float
    epochs: float
    steps: int
    peak_mb: float | None
    parameters: int
    macs: int
    initialisation: str
    train_pictures: int
    floor: float  # accuracy of a linear classifier on thumbnails, 0 where none was asked
    curve: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An arm with what came of it; without ``runs`` it failed altogether.

    Attributes:
        reasons: seed to why that run failed.
    """

    arm: Arm
    runs: tuple[Finished, ...] = ()
    reasons: dict[int, str]
    speed: Speed | None = None

    @property
    def name(self) -> str:
        """Of the arm."""
        return self.arm.label

    @property
    def network(self) -> str:
        """The name of its network where the name of the arm does not say it; else empty."""
        return "" if self.arm.model in self.arm.name else self.arm.model

    @property
    def mixer(self) -> Mixer | None:
        """Of the arm."""
        return self.arm.mixer

    @property
    def teacher(self) -> str:
        """Of the arm; empty without one."""
        return self.arm.teacher or ""

    @property
    def untaught(self) -> str:
        """The name of the same arm without its teacher; empty where there is none."""
        return replace(self.arm, name=self.arm.untaught).label if self.arm.untaught else ""

    @property
    def unlearned(self) -> str:
        """The name of the same network from scratch; empty but for weights that were learned without labels."""
        return replace(self.arm, name=self.arm.unlearned).label if self.arm.unlearned else ""

    @property
    def longer(self) -> str:
        """The name of that with the time of learning without labels on top."""
        return replace(self.arm, name=self.arm.longer).label if self.arm.longer else ""

    @property
    def is_frozen(self) -> bool:
        """Of the arm."""
        return self.arm.is_frozen

    @property
    def leak(self) -> str:
        """Of the arm: that its accuracy flatters, for it knows held-out pictures."""
        return self.arm.leak

    @property
    def begun(self) -> str:
        """How it began, for tables."""
        return f"{self.arm.init} (knows held-out pictures)" if self.leak else self.arm.init

    @property
    def is_scratch(self) -> bool:
        """Of the arm."""
        return self.arm.is_scratch

    @property
    def right(self) -> Right:
        """(s, n) whether each seed's run was right on each picture of the test part."""
        return np.stack([run.right for run in self.runs])

    @property
    def latency_ms(self) -> float | None:
        """Time for one picture."""
        return self.speed.latency_ms if self.speed else None

    @property
    def accuracy(self) -> float:
        """Mean over seeds, on the test part."""
        return float(self.right.mean())

    @property
    def validation(self) -> float:
        """Mean over seeds of the best accuracy on the validation part: what arms are ranked by."""
        return statistics.fmean(run.validation for run in self.runs)

    @property
    def each(self) -> list[float]:
        """The accuracy of every seed, on the test part."""
        return [float(run.right.mean()) for run in self.runs]

    @property
    def over_seeds(self) -> Interval | None:
        """95 % interval of the accuracy over seeds."""
        return over_seeds(self.each)

    def luck(self, share: Callable[[float], str], span: Callable[[float, float], str]) -> str:
        """For tables: the interval over seeds, or the two accuracies that an interval could say nothing of."""
        if self.over_seeds is None:
            return "one seed"
        return ", ".join(map(share, self.each)) if len(self.each) == 2 else span(*self.over_seeds)

    @property
    def over_pictures(self) -> Interval:
        """95 % interval of the accuracy over pictures."""
        return over_pictures(self.right)

    @property
    def peak_mb(self) -> float | None:
        """The most memory that any of the runs held at once, in 10**6 bytes."""
        return max((run.peak_mb for run in self.runs if run.peak_mb is not None), default=None)

    def mean(self, name: str) -> float:
        """Mean over seeds of a field of ``Finished``."""
        return statistics.fmean(getattr(run, name) for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        arm = self.arm
        values: dict[str, Any] = {
            "name": arm.name,
            "model": arm.model,
            "init": arm.init,
            "mixer": arm.mixer,
            "teacher": arm.teacher,
            "leak": arm.leak or None,
            "fraction": arm.fraction,
            "failed": {str(seed): reason for seed, reason in self.reasons.items()} or None,
        }
        if not self.runs:
            return values | {"accuracy": None}
        first = self.runs[0]
        return values | {
            "initialisation": first.initialisation,
            "accuracy": self.accuracy,
            "accuracy_over_seeds": self.over_seeds,
            "accuracy_over_pictures": self.over_pictures,
            "validation_accuracy": self.validation,
            "parameters": first.parameters,
            "macs": first.macs,
            "train_pictures": first.train_pictures,
            "train_minutes": self.mean("minutes"),
            "epochs": self.mean("epochs"),
            "steps": self.mean("steps"),
            "peak_memory_mb": self.peak_mb,
            "latency_ms": self.latency_ms,
            "images_per_second": self.speed and self.speed.images_per_second,
            "runs": [
                {
                    "seed": run.seed,
                    "folder": str(run.folder),
                    "accuracy": accuracy,
                    "validation_accuracy": run.validation,
                    "curve": [list(point) for point in run.curve],
                }
                for run, accuracy in zip(self.runs, self.each, strict=True)
            ],
        }


def read(folder: Path, seed: int, digest: str) -> Finished:
    """The finished run in ``folder``.

    Args:
        digest: of the test pictures; arms that answered others cannot be held against each other.

    Raises:
        DamagedFile: the folder does not hold what a run writes, or answers to other pictures.
    """
    run = read_run(folder)
    outputs = run.outputs.get("test")
    if outputs is None or not len(outputs.labels):
        raise DamagedFile(f"{folder} has no answers on test pictures; remove it and run the same command again.")
    if run.text("data.digests.test") != digest:
        raise DamagedFile(f"{folder} answered other test pictures; remove it and run the same command again.")
    numbers = {n: run.get(n, float) for n in ("cost.minutes", "train.epochs", "train.steps", "metrics.val.accuracy")}
    missing = [name for name, value in numbers.items() if value is None]
    if missing:
        raise DamagedFile(f"{folder}/card.json has no {missing[0]}; remove the folder and run the same command again.")
    minutes, epochs, steps, validation = (float(value or 0.0) for value in numbers.values())
    return Finished(
        seed=seed,
        folder=folder,
        right=outputs.logits.argmax(axis=1) == outputs.labels,
        validation=validation,
        minutes=minutes,
        epochs=epochs,
        steps=int(steps),
        peak_mb=run.get("cost.peak_memory_mb", float),
        parameters=run.get("cost.parameters", int) or 0,
        macs=run.get("cost.macs", int) or 0,
        initialisation=run.get("initialisation", str) or "",
        train_pictures=sum(run.counts("train") or []),
        floor=run.get("floor.accuracy", float) or 0.0,
        curve=_curve(run, folder),
    )


def _curve(run: Recorded, folder: Path) -> tuple[Point, ...]:
    """Accuracy on validation at each evaluation, by the clock of the run."""
    moments = {row["step"]: row["seconds"] for row in json_rows(folder / "timings.jsonl") if "seconds" in row}
    found = [
        Point(moments[row["step"]], row["val"]["accuracy"])
        for row in run.rows
        if "accuracy" in (row.get("val") or {}) and row.get("step") in moments
    ]
    return tuple(sorted(found))
