"""All that changes while a run trains, as named tensors and a few numbers that a checkpoint can hold exactly.

There is no state of random generators: the loader's is a function of (seed, epoch, sample), the model's of
(seed, step, rank). The learning rate is a function of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitreous.tasks.task import Task
from vitreous.training.average import Average
from vitreous.training.optim import Optimiser

_TASK, _AVERAGE, _OPTIMISER = "task.", "average.", "optimiser."


@dataclass
class Counters:
    """Where a run stands."""

    step: int = 0  # steps done, skipped ones among them
    evaluated: int = -1  # the step of the last milestone
    milestone: int = 0  # the last milestone whose weights can be gone back to
    best: float | None = None
    best_step: int = 0
    stale: int = 0  # evaluations since the best
    bad: int = 0  # steps in a row whose loss or gradient was not finite
    skipped: int = 0  # such steps in all
    restored: int = 0  # how often the weights went back to a milestone
    lr_scale: float = 1.0  # halved each time
    halted: str = ""  # why the task ended its training; one that goes on knows of nothing it saw before


class State:
    """Weights, their average, what the optimiser remembers, and the counters."""

    def __init__(self, task: Task, optimiser: Optimiser, average: Average | None) -> None:
        self.task = task
        self.optimiser = optimiser
        self.average = average
        self.counters = Counters()

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name; they are the live ones, not copies."""
        average = {} if self.average is None else self.average.tensors
        return {
            **{_TASK + name: tensor for name, tensor in self.task.state_dict().items()},
            **{_AVERAGE + name: tensor for name, tensor in average.items()},
            **{_OPTIMISER + name: tensor for name, tensor in self.optimiser.tensors().items()},
        }

    def begin(self, step: int) -> None:
        """Before the first step, and only there, let the task begin, and the average with what it begins with."""
        if step == 0:
            self.task.begin()
            if self.average is not None:
                self.average.adopt()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``tensors()`` gave, exactly. The counters stay."""
        self.task.load_state_dict(_below(_TASK, tensors))
        if self.average is not None:
            for name, tensor in _below(_AVERAGE, tensors).items():
                self.average.tensors[name].copy_(tensor)
        self.optimiser.load(_below(_OPTIMISER, tensors))

    def bytes(self) -> int:
        """Size of a checkpoint in bytes, once the optimiser remembers something of every parameter."""
        moments = 2 * sum(member.tensor.nbytes for member in self.optimiser.members)
        return moments + sum(t.nbytes for n, t in self.tensors().items() if not n.startswith(_OPTIMISER))


def shipped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's weights among the tensors of a state: averaged, when an average was kept."""
    averaged = _below(_AVERAGE, tensors)
    chosen = averaged or _below(_TASK + "network.", tensors)
    return {name: tensor.detach().cpu().clone() for name, tensor in chosen.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
