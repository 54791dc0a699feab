"""What a model costs, as one record. Knows nothing of how the numbers are measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The price of one trained model. ``None`` means that it was not measured, never zero.

    Attributes:
        parameters: learned numbers in the network that ships.
        macs: multiply-accumulates for one picture at the declared size.
        minutes: wall-clock time of training, evaluation included.
        images_per_second_train: pictures through forward, backward and step, a second.
        images_per_second_predict: pictures through the forward pass alone, a second.
        peak_memory_mb: the most memory the run held at once, in 10**6 bytes: of the device when there is one,
            else of the process.
    """

    parameters: int
    macs: int | None = None
    minutes: float | None = None
    images_per_second_train: float | None = None
    images_per_second_predict: float | None = None
    peak_memory_mb: float | None = None
