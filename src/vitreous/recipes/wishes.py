"""What a user can ask of a recipe. Knows nothing of how it is met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vitreous import duration, models
from vitreous.errors import UsageError

Tune = Literal["full", "lora", "frozen", "plain"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user asked for; None where it is left to the data."""

    data: str
    model: str = "auto"
    budget: str | None = None
    epochs: float | None = None
    size: int | None = None
    batch: int | None = None
    resize: Literal["crop", "letterbox", "squash"] | None = None
    weights: str | None = None
    pretrained: bool | str = False  # the model's default published weights, or those with this tag
    teacher: str | None = None
    tune: Tune | None = None  # what becomes of weights to begin with
    seed: int = 0
    workers: int = 1
    allow_bad: float = 0.01
    test: float = 0.15
    tensorboard: bool = False

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
        if self.tune not in (None, *get_args(Tune)):
            raise UsageError(f"--tune is one of {', '.join(get_args(Tune))}, not {self.tune}.")
        if self.tune is not None and not (self.weights or self.pretrained):
            raise UsageError("--tune says what becomes of weights to begin with; give --weights or --pretrained.")
        if self.tune == "frozen" and (self.budget is not None or self.epochs is not None):
            raise UsageError("--tune frozen trains nothing, so --budget and --epochs would do nothing; leave them out.")
