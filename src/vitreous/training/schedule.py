"""How long a run is and where in it a step stands: lengths, learning rate and evaluations as functions of the step.

Nothing here reads a clock (clock.py does) or has a state; a plan is data, saved with the run.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from vitreous.errors import UsageError

EVALUATIONS = 20  # a run is evaluated about so often, and never more than once an epoch


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run's length in steps, decided before it begins.

    A time budget may correct the length on the way. Each correction is kept as (step, new length): progress runs on
    from where it stood and still reaches 1 at the last step, so a plan repeats its run without a clock.
    """

    steps: int  # as first planned
    evaluate_every: int
    revisions: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0 or self.evaluate_every < 1:
            raise UsageError("A plan has no fewer than 0 steps, and evaluations at least 1 step apart.")

    @property
    def end(self) -> int:
        """Number of optimiser steps of the whole run."""
        return self.revisions[-1][1] if self.revisions else self.steps

    def revised(self, step: int, end: int) -> Plan:
        """The same plan with another end, from ``step`` on."""
        return self if end == self.end else replace(self, revisions=(*self.revisions, (step, end)))

    def progress(self, step: float) -> float:
        """Share of the run that lies before ``step``, in [0, 1]."""
        if self.end == 0:
            return 1.0
        starts = [start for start, _ in self.revisions]
        done, begin, end = 0.0, 0, self.steps
        for start, new_end in self.revisions[: bisect_right(starts, step)]:
            done += (start - begin) * (1 - done) / (end - begin)
            begin, end = start, new_end
        return min(1.0, done + (step - begin) * (1 - done) / (end - begin))

    def is_milestone(self, step: int) -> bool:
        """Whether the run is evaluated when ``step`` steps are done."""
        return step == self.end or (step > 0 and step % self.evaluate_every == 0)

    def next_milestone(self, step: int) -> int:
        """The first milestone after ``step``."""
        return min(self.end, (step // self.evaluate_every + 1) * self.evaluate_every)


def plan_steps(steps: int, steps_per_epoch: int, evaluate_every: int | None) -> Plan:
    """A plan of a known number of steps."""
    every = evaluate_every or max(steps_per_epoch, math.ceil(steps / EVALUATIONS))
    return Plan(steps=steps, evaluate_every=max(1, min(every, steps)))


def warmup_cosine(progress: float, warmup: float, last: float) -> float:
    """Factor on the learning rate: from 0 to 1 over the share ``warmup``, then half a cosine down to ``last``."""
    if progress < warmup:
        return progress / warmup
    fall = (progress - warmup) / (1 - warmup)
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * fall))
