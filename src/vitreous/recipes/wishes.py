"""What a user can ask of a recipe. Knows nothing of how it is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vitreous import duration, models
from vitreous.errors import UsageError

Recipe = Literal["auto", "scratch", "plain"]
Tune = Literal["full", "lora", "frozen", "plain"]
DEFAULT_BUDGET = "10m"
LENGTHS = ("train.steps", "train.epochs", "train.budget_seconds")


def named(changes: Sequence[str]) -> dict[str, str]:
    """``["train.batch=8"]`` -> {"train.batch": "8"}

    Raises:
        UsageError: not of the form NAME=VALUE.
    """
    pairs = [change.partition("=") for change in changes]
    for name, equals, _ in pairs:
        if not (name.strip() and equals):
            raise UsageError(f"{name!r} does not set anything; write NAME=VALUE, as in train.optim.lr=1e-3.")
    return {name.strip(): value for name, _, value in pairs}


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user asked for; None where it is left to the data."""

    data: str
    recipe: Recipe = "auto"  # the ladder; never weights of others; or the textbook's, to compare with
    model: str = "auto"
    budget: str | None = None
    epochs: float | None = None
    size: int | None = None
    batch: int | None = None
    resize: Literal["crop", "letterbox", "squash"] | None = None
    weights: str | None = None
    pretrained: bool | str = False  # the model's default published weights, or those with this tag
    teacher: str | None = None
    unlabelled: Sequence[str] = ()  # sources of pictures that teach without a label
    tune: Tune | None = None  # what becomes of weights to begin with
    seed: int = 0
    workers: int = 1
    allow_bad: float = 0.01
    test: float = 0.15
    tensorboard: bool = False
    set: Sequence[str] = ()  # fields of the run, as "train.batch=32"

    @property
    def seconds(self) -> float:
        """Of the time budget; any number where the length is given otherwise."""
        changes = named(self.set)
        try:
            return float(changes["train.budget_seconds"])
        except (KeyError, ValueError):  # not set, or "none"; what is no number is refused where it is set
            pass
        if self.epochs is not None or changes.keys() & LENGTHS:
            return float("inf")
        return duration.seconds(self.budget or DEFAULT_BUDGET)

    def refuse(self) -> None:
        """Refuse what can have no meaning.

        Raises:
            UsageError: an unknown model, or a number out of its range.
        """
        if self.model != "auto":
            models.find(self.model)
        for name, value, least in (("--size", self.size, 8), ("--batch", self.batch, 1)):
            if value is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, not {value}.")
        if self.epochs is not None and not 0 < self.epochs < float("inf"):
            raise UsageError(f"--epochs must be more than 0, not {self.epochs}.")
        if self.budget is not None and self.epochs is not None:
            raise UsageError("Give either a time budget or a number of epochs, not both.")
        if self.budget is not None:
            duration.seconds(self.budget)
        if self.recipe not in get_args(Recipe):
            raise UsageError(f"--recipe is one of {', '.join(get_args(Recipe))}, not {self.recipe}.")
        begun = self.weights or self.pretrained or named(self.set).get("weights", "none") != "none"
        if self.recipe != "auto" and begun:
            raise UsageError(f"--recipe {self.recipe} begins from scratch; leave it out to begin with weights.")
        if self.recipe == "plain" and self.teacher is not None:
            raise UsageError("--recipe plain is without a teacher; leave out --teacher, or take --recipe scratch.")
        if self.tune not in (None, *get_args(Tune)):
            raise UsageError(f"--tune is one of {', '.join(get_args(Tune))}, not {self.tune}.")
        if self.tune is not None and not (self.weights or self.pretrained):
            raise UsageError("--tune says what becomes of weights to begin with; give --weights or --pretrained.")
        if self.tune == "frozen" and (self.budget is not None or self.epochs is not None):
            raise UsageError("--tune frozen trains nothing, so --budget and --epochs would do nothing; leave them out.")
