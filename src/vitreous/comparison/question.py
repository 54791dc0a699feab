"""What is asked of a comparison, and what of that can have no answer. Knows nothing of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitreous import duration, models
from vitreous.errors import UsageError
from vitreous.recipes.wishes import LENGTHS, named

AUTO = "auto"
"""The transformer that the recipes would take for pictures of this size."""

SMALL = (AUTO, "vit_pico_patch4_32", "resnet20_cifar")
"""Who is compared on pictures of up to 48 px. Of such a picture the networks made for 224 px, which reduce by 32, see
one or two cells; in their places stand the ViT and the ResNet that are made for this size."""

USUAL = (
    AUTO, "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "mobilevit_xs", "mobilenetv3_large_100", "resnet18",
    "efficientnet_b0",
)  # fmt: skip
"""Who is compared on all others."""

Equal = Literal["time", "epochs", "steps", "macs"]
SCRATCH, PRETRAINED = "scratch", "pretrained"

_DECIDED = {  # what compare decides itself, and the option that says so
    "seed": "--seeds",
    "weights": "--init",
    "network.model": "--models",
    "network.size": "--size",
    "data.preprocess.size": "--size",
    "data.source": "DATA",
    "data.fraction": "--fractions",
    "train.budget_seconds": "--budget",
    "train.plan": "--budget",
    "teacher.place": "--teacher",
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which models, how begun, how long, how often, on how much of the data.

    Attributes:
        models: names of the catalogue, or auto; empty for the usual ones.
        init: scratch, pretrained, or run folders to begin with.
        teacher: a run folder, ``hub:NAME.TAG`` or a model; the transformer also stands as an arm taught by it.
        seeds: runs of every arm.
        budget: wall-clock time of one run; of the first arm's first run where something else is equal. None: chosen.
        equal: what all arms have the same of.
        fractions: shares of the training pictures.
        size: side of the pictures in pixels; None: chosen from the data.
        set: fields of every run, as ``"train.batch=32"``.
    """

    data: str
    models: tuple[str, ...] = ()
    init: tuple[str, ...] = (SCRATCH,)
    teacher: str | None = None
    seeds: int = 3
    budget: str | None = None
    equal: Equal = "time"
    fractions: tuple[float, ...] = (1.0,)
    size: int | None = None
    set: tuple[str, ...] = ()

    @property
    def length(self) -> str | None:
        """The length that ``set`` gives every run, if it does."""
        return next((change.strip() for change in self.set if named([change]).keys() & LENGTHS), None)

    def refuse(self) -> None:
        """Refuse what can have no meaning.

        Raises:
            UsageError: an unknown model, a number out of its range, or options that contradict each other.
        """
        for model in self.models:
            if model != AUTO:
                models.find(model)
        for what, given in (("--models", self.models), ("--init", self.init), ("--fractions", self.fractions)):
            if len(set(given)) < len(given):
                raise UsageError(f"{what} names something twice; name each once.")
        if not self.init or not self.fractions:
            raise UsageError("--init and --fractions need at least one value each; leave them out for the usual ones.")
        for place in self.init:
            if place not in (SCRATCH, PRETRAINED) and not Path(place).is_dir():
                raise UsageError(f"--init takes scratch, pretrained or a run folder, and {place} is none of these.")
        if self.teacher is not None and SCRATCH not in self.init:
            raise UsageError("--teacher teaches a transformer from scratch; add scratch to --init.")
        if not 1 <= self.seeds <= 1000:
            raise UsageError(f"--seeds must be at least 1, not {self.seeds}; 3 is usual.")
        if not all(0 < f <= 1 for f in self.fractions):
            raise UsageError("--fractions are shares above 0 and at most 1, as in 0.1,0.25,0.5,1.")
        if self.size is not None and self.size < 8:
            raise UsageError(f"--size must be at least 8, not {self.size}.")
        if self.budget is not None:
            duration.seconds(self.budget)
        self._refuse_set()

    def _refuse_set(self) -> None:
        for name, value in named(self.set).items():
            option = _DECIDED.get(name)
            if option:
                raise UsageError(
                    f"--set {name}={value} contradicts {option}, which decides that for all arms; use {option}."
                )
        if self.length and self.budget is not None:
            raise UsageError(f"Give either --budget or --set {self.length}, not both.")
        if self.length and self.equal != "time":
            raise UsageError(f"--set {self.length} makes that equal; leave out --equal {self.equal}.")


def default_budget(pictures: int, size: int) -> float:
    """Seconds of one run where nothing was said: 10 ms a picture of 32 x 32 pixels, from 20 s to 10 minutes."""
    found = min(600.0, max(20.0, 10e-3 * pictures * (size / 32) ** 2))
    step = 10.0 ** (math.floor(math.log10(found)) - 1)
    return round(found / step) * step


def ask(
    data: str | Path,
    models: str | Sequence[str],
    init: str | Sequence[str],
    fractions: str | float | Sequence[float],
    **fields: Any,
) -> Question:
    """The question, from lists that may be texts with commas between; ``fields`` are further ones of ``Question``."""
    return Question(data=str(data), models=listed(models), init=listed(init), fractions=numbers(fractions), **fields)


def listed(text: str | Sequence[str]) -> tuple[str, ...]:
    """``"a,b"`` -> ("a", "b"); a sequence of such texts is read one after the other."""
    parts = [text] if isinstance(text, str) else text
    return tuple(word.strip() for part in parts for word in str(part).split(",") if word.strip())


def numbers(values: str | float | Sequence[float]) -> tuple[float, ...]:
    """``"0.1,1"`` -> (0.1, 1.0); numbers are taken as they are.

    Raises:
        UsageError: one of them is no number.
    """
    given = listed(values) if isinstance(values, str) else values if isinstance(values, Sequence) else (values,)
    try:
        return tuple(float(value) for value in given)
    except ValueError:
        raise UsageError(f"--fractions are numbers with commas between, as in 0.1,0.25,0.5,1, not {values}.") from None
