"""One training step: gradients of a batch, their norm, and the optimiser's step if all of it is finite.

Knows nothing of files or schedules; the same state, batch and numbers give the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.training.device import Device
from vitreous.training.state import State
from vitreous.types import Batch


class Report(NamedTuple):
    """What a step did, agreed on by all processes."""

    values: dict[str, float]  # the loss, and its parts by name: means over the whole batch
    norm: float  # of the gradient, before clipping
    finite: bool  # whether the weights moved
    signals: tuple[bool, ...]  # raised by any process


class Stepper:
    """Applies batches to a state.

    Args:
        accumulate: parts a batch is worked through in.
        seed: what is random in the model at a step is a function of (seed, step, rank).
    """

    def __init__(self, state: State, device: Device, *, accumulate: int, seed: int) -> None:
        self.state = state
        self.device = device
        self.accumulate = accumulate
        self.seed = seed
        self._buffers = list(state.task.buffers())

    def update(self, batch: Batch, step: int, factor: float, signals: tuple[bool, ...] = ()) -> Report:
        """Step ``step`` on ``batch``, learning rates multiplied by ``factor``.

        When loss or gradient is not finite, weights, average and running statistics stay as they were.

        Raises:
            UsageError: a batch norm is left with one value to average.
        """
        optimiser = self.state.optimiser
        self.device.seed(self.seed, step)
        optimiser.set_rate(factor)
        before = torch._foreach_mul(self._buffers, 1) if self._buffers else []
        values = self._gradients(batch.to(self.device.place))
        report = self._agree(values, optimiser.clip(), signals)
        if report.finite:
            optimiser.step()
            self.state.task.after_step(step)
            self.device.share(self._buffers)  # running statistics are each process's own until then
            if self.state.average is not None:
                self.state.average.update(step + 1)
        elif before:  # running statistics that have seen NaN never recover
            torch._foreach_copy_(self._buffers, list(before))
        optimiser.zero_grad()
        return report

    def measure(self, batches: Iterable[Batch], seconds: float) -> float:
        """Seconds a step, from a few real ones on ``batches`` that are then undone.

        Args:
            seconds: about how long to measure; 2 are always enough.
        """
        before = {name: tensor.clone() for name, tensor in self.state.tensors().items()}
        begin, count = 0.0, 0
        for count, batch in enumerate(batches):
            self.update(batch, count, 0.0)
            if count == 0:  # the first one warms up
                begin = time.monotonic()
            if self.device.agree(float(count >= 3 and time.monotonic() - begin >= min(seconds, 2.0))):
                break
        took = (time.monotonic() - begin) / max(count, 1)
        self.state.load(before)
        return took

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Leave the gradients of the mean loss over ``batch`` behind; the loss and its parts, detached scalars."""
        sums: dict[str, Tensor] = {}
        for part in split(batch, self.accumulate):
            share = len(part.label) / len(batch.label)
            with self.device.autocast(), _norms_need_two(len(part.label)):
                loss = self.state.task(part)
            (loss.total * share).backward()
            named = {"loss": loss.total} | {n: v for n, v in loss.parts.items() if n != "loss"}
            for name, value in named.items():
                sums[name] = sums.get(name, 0) + value.detach().to(self.device.place) * share
        self.device.average(self.state.optimiser.gradients())
        return sums

    def _agree(self, values: dict[str, Tensor], norm: Tensor, signals: tuple[bool, ...]) -> Report:
        """One exchange between the processes, and one wait for the device, for all that the loop decides by."""
        scalars = torch.stack([*values.values(), norm]).float()
        raised = torch.tensor(signals, dtype=torch.float32, device=scalars.device)
        told = self.device.sum(torch.cat([scalars, raised])).tolist()
        means = [v / self.device.world for v in told[: len(scalars)]]
        return Report(
            values=dict(zip(values, means, strict=False)),
            norm=means[-1],
            finite=math.isfinite(means[0]) and math.isfinite(means[-1]),
            signals=tuple(v > 0 for v in told[len(scalars) :]),
        )


@contextmanager
def _norms_need_two(pictures: int) -> Iterator[None]:
    """How many values a batch norm has to average, only the network itself can tell."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            f"The batch norms of this network cannot learn from {pictures} picture at a time; give a larger --batch, "
            "2 or more for each process and part of train.accumulate, or a larger --size."
        ) from None


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """``batch`` in at most ``parts`` pieces of nearly equal size."""
    size = math.ceil(len(batch.label) / parts)
    for start in range(0, len(batch.label), size):
        yield Batch(
            **{name: column[start : start + size] for name, column in batch._asdict().items() if column is not None}
        )
