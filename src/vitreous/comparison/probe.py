"""How long a run takes for one epoch, tried beforehand: a guess that refuses hopeless budgets."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from vitreous.data.prepare import Prepared
from vitreous.models.describe import describe
from vitreous.network import build_network
from vitreous.run.find_teacher import open_teacher, own_run
from vitreous.run.memory import require_memory
from vitreous.run.outcome import speed
from vitreous.run.plan import Run
from vitreous.run.wiring import build
from vitreous.store.checkpoint import RunFolder
from vitreous.training.device import open_device
from vitreous.training.optim import Optimiser
from vitreous.training.step import split

_MACS = 2e9  # about so much is tried, so that a large network is tried on few pictures
_TIMES = 3
_BESIDE = 1.15  # evaluations, checkpoints and the start, beside the steps themselves
_NOWHERE = RunFolder(Path(os.devnull) / "run")  # nothing is written, and nothing could be


def seconds_per_picture(run: Run, prepared: Prepared, threads: int) -> float:
    """Seconds of a budget that ``run`` needs to see one picture once: a share of a real step, and of what is beside it.

    What a step costs whatever the number of pictures, such as the iterations of Muon, is shared by a whole batch. A
    teacher looks at every picture too; one that is trained first takes its part of the time, and needs an epoch of its
    own.

    Args:
        threads: that the run will have.

    Raises:
        VitreousError: the network cannot be built, or the teacher not be had.
    """
    run = replace(run, network=replace(run.network, classes=len(prepared.classes)))
    own = _BESIDE * _step(run, prepared, threads)
    if run.teacher is None:
        return own
    own += _look(run, prepared, threads)
    if not run.teacher.is_model:
        return own
    share = run.teacher.share
    teacher = replace(own_run(run, run.train.budget_seconds), train=run.train)
    return max(own / (1 - share), _BESIDE * _step(teacher, prepared, threads) / share)


def _step(run: Run, prepared: Prepared, threads: int) -> float:
    """Seconds of a training step, for each picture of its batch."""
    config, run = run.network, replace(run, teacher=None)
    macs = describe(config.model, config.size, config.classes, config.options).macs
    with open_device(run.train.device, run.train.precision) as device, _limited(threads):
        if run.train.steps != 0:
            require_memory(run, device.place)
        network = build_network(config)
        trainer = build(run, prepared, network, _NOWHERE, device)
        task, optimiser = trainer.task, Optimiser(trainer.task, run.train.optim)
        begin = time.perf_counter()
        batch = trainer.train.at(0)
        loading = (time.perf_counter() - begin) / len(batch.label)
        parts = min(math.ceil(len(batch.label) * macs / _MACS), len(batch.label) // 2)  # two for batch norms
        few = next(split(batch.to(device.place), max(1, parts)))
        looks, steps = [], []
        for _ in range(_TIMES):
            begin = time.perf_counter()
            with device.autocast():
                loss = task(few).total
            loss.backward()
            middle = _now(device.place)
            optimiser.clip()
            optimiser.step()
            end = _now(device.place)
            optimiser.zero_grad()
            looks.append(middle - begin)
            steps.append(end - middle)
    return loading + min(looks) / len(few.label) + min(steps) / run.train.batch


def _look(run: Run, prepared: Prepared, threads: int) -> float:
    """Seconds that the teacher takes for each picture: at every step, or once for it and for its mirror image."""
    with open_device(run.train.device, run.train.precision) as device, _limited(threads):
        teacher = open_teacher(run, prepared, _NOWHERE)
        assert run.teacher is not None and teacher.network is not None
        views = 2 if run.teacher.view == "whole" and run.task.augment.flip > 0 else 1
        return views / speed(teacher.network.to(device.place), batch=8, repeats=_TIMES)


def _now(place: torch.device) -> float:
    """The time when all that was begun is done."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    return time.perf_counter()


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
