"""Whether a learning rate lets pretrained features live: a few steps, a look at the features, and back again.

A rate that is far too high for weights that know something (AdamW at 1e-3 on a ViT-B, for one) makes of them, within a
handful of steps, weights that know nothing; the loss that falls afterwards hides it. So the features are held against
themselves: how many of a few training pictures do their nearest neighbours name rightly, before and after? All of it
is a function of settings, data, seed and how many pictures there is time for, and it is undone bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from vitreous.analyse.probe import Numbers, neighbours, right
from vitreous.data.loader import Loader
from vitreous.tasks.task import Task
from vitreous.training.device import Device
from vitreous.training.optim import OptimConfig, Optimiser
from vitreous.training.state import State
from vitreous.training.step import Stepper

STEPS = 8  # to the first half of which the rate rises
BATCH = 32  # pictures a step: a sound rate survives smaller batches than those it will see
LOOKED = 256  # pictures whose neighbours are asked
KEPT = 0.8  # of what the neighbours know beyond chance, a sound rate leaves
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Of the rate that was asked for, tried in this order until one is sound."""

Look = Callable[[], tuple[Numbers, Numbers]]
"""Features (n, d) of the same few pictures by the network as it is now, and their labels (n,)."""


@dataclass(frozen=True)
class Trial:
    """What a rate did to the features."""

    optim: OptimConfig
    after: float  # share of the pictures that their neighbours name rightly, afterwards
    sound: bool


@dataclass(frozen=True)
class Found:
    """The trials, the rate that was asked for first; ``before`` is the share before any step."""

    before: float
    trials: tuple[Trial, ...]


def attempt(
    task: Task, optim: OptimConfig, train: Loader, look: Look, device: Device, *, seed: int, seconds: float = math.inf
) -> Found:
    """Try ``optim`` at shares of its rate until one is sound; then the state of ``task`` is as it was.

    Args:
        seconds: no further trial is begun that would end later.
    """
    begin = time.monotonic()
    before, pictures = _right(*look())
    chance = 1 / task.network.config.classes
    noise = 2 * math.sqrt(before * (1 - before) / pictures)
    bound = min(chance + KEPT * (before - chance), before - noise)
    trials: list[Trial] = []
    for share in SHARES:
        tried = optim if share == 1 else replace(optim, lr=_digit(optim.rate * share), muon_lr=optim.muon_lr * share)
        after, _ = _after(task, tried, train, look, device, seed=seed)
        sound = device.agree(float(after >= bound)) > 0  # all processes go the same way
        trials.append(Trial(tried, after, sound))
        spent = time.monotonic() - begin
        if sound or device.agree(float(spent + spent / len(trials) > seconds)):
            break
    return Found(before, tuple(trials))


def _after(
    task: Task, optim: OptimConfig, train: Loader, look: Look, device: Device, *, seed: int
) -> tuple[float, int]:
    """What ``_right`` says after ``STEPS`` steps, which are undone."""
    state = State(task, Optimiser(task, optim), None)
    stepper = Stepper(state, device, accumulate=1, seed=seed)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    task.train()
    try:
        with closing(train.train(0, STEPS)) as batches:
            for step, batch in enumerate(batches):
                stepper.update(batch, step, min(1.0, 2 * (step + 1) / STEPS))
        return _right(*look())
    finally:
        state.load(before)


def _right(features: Numbers, labels: Numbers) -> tuple[float, int]:
    """(share of the pictures that their nearest neighbours among the others name rightly, how many pictures)."""
    if not np.isfinite(features).all():
        return 0.0, len(labels)
    votes = neighbours(features, labels, classes=int(labels.max()) + 1)
    return right(votes, labels), len(labels)


def _digit(rate: float) -> float:
    return float(f"{rate:.0e}")
