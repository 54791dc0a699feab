"""The time a run has taken and, under a budget, how many steps still fit.

A budget is turned into a number of steps before training, from a few measured ones, and corrected whenever a
checkpoint is saved, since a machine's speed drifts by more than a budget may. Each correction goes into the plan that
this checkpoint holds, before any step depends on it: that is why a resumed run, or one repeated from its plan, takes
the same steps although the clock has gone elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from vitreous.training.schedule import EVALUATIONS, Plan

_TOLERANCE = 0.02  # a smaller correction of what is left is not worth a kink in the learning rate
_SHARE = 0.1  # of a budget that evaluations may take
_FORWARD = 0.4  # a forward pass takes about so much of a training step


class Clock:
    """Wall-clock time of one run over all its sessions.

    Args:
        spent: seconds already taken, by earlier sessions and by preparing the data.
        budget: seconds the run may take in all, or None.
    """

    def __init__(self, spent: float = 0.0, budget: float | None = None) -> None:
        self.budget = budget
        self._zero = time.monotonic() - spent
        self._step = 0.0  # seconds a step
        self._milestone = 0.0  # seconds an evaluation; saving is timed as part of the steps that it happens between
        self._since = (0, 0.0)  # step and moment from which steps are timed, pauses taken out

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._zero

    def start(self, step: int) -> None:
        """Steps are timed from here on."""
        self._since = (step, self.elapsed)

    @contextmanager
    def milestone(self) -> Iterator[None]:
        """Time inside belongs to an evaluation, not to steps."""
        begin = self.elapsed
        yield
        took = self.elapsed - begin
        self._milestone = took
        self._since = (self._since[0], self._since[1] + took)

    def first_plan(self, step_seconds: float, evaluation_steps: int, steps_per_epoch: int, every: int | None) -> Plan:
        """The plan that fills what is left of the budget.

        Args:
            step_seconds: measured.
            evaluation_steps: batches of one evaluation.
            every: steps between evaluations, if that was asked for.
        """
        self._step, self._milestone = step_seconds, evaluation_steps * step_seconds * _FORWARD
        whole = max(1, int(self._left() / step_seconds))
        rare = math.ceil(self._milestone / (_SHARE * step_seconds))
        every = every or max(steps_per_epoch, math.ceil(whole / EVALUATIONS), rare)
        steps = self._steps_left(every)
        return Plan(steps=steps, evaluate_every=min(every, steps))

    def revise(self, plan: Plan, step: int) -> Plan:
        """``plan``, with its end moved to where the budget will be used up."""
        done, moment = step - self._since[0], self.elapsed - self._since[1]
        if self.budget is None or step >= plan.end or done == 0:
            return plan
        recent = moment / done
        self._step = recent if self._step == 0 else (self._step + recent) / 2
        self.start(step)
        left = self._steps_left(plan.evaluate_every)
        if abs(left - (plan.end - step)) <= _TOLERANCE * left:
            return plan
        return plan.revised(step, step + left)

    def _left(self) -> float:
        return 0.0 if self.budget is None else self.budget - self.elapsed

    def _steps_left(self, every: int) -> int:
        # the last evaluation comes whatever the number of steps
        return max(1, round((self._left() - self._milestone) / (self._step + self._milestone / every)))
