"""Batch norms for the weights that are judged: measured anew on pictures as evaluation sees them, or as in training.

What they gathered while training belongs to earlier weights, to augmented pictures, and after few steps mostly to their
start; with a running average of the weights it belongs to none at all (Izmailov et al. 2018, "Averaging Weights Leads
to Wider Optima and Better Generalization", section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitreous.tasks.task import Task
from vitreous.training.average import Average
from vitreous.training.device import Device

if TYPE_CHECKING:
    from vitreous.data.loader import Loader


@torch.no_grad()
def remeasure(task: Task, average: Average | None, plain: Loader, device: Device) -> None:
    """Let the batch norms of the task's network hold the mean statistics of ``plain`` under the weights as they are.

    Only those that gather statistics are touched, which frozen ones never do.

    Args:
        task: in training mode, and left so.
        average: of the weights, whose norms are then meant; without, the network's own.
        plain: pictures, the same in every process; a batch of one may be too few for a norm, and is left out.
    """
    norms = [(module, module.momentum) for module in task.network.modules() if _gathers(module)]
    if not norms:
        return
    task.eval()
    for norm, _ in norms:
        norm.momentum = None  # the plain mean over batches
        norm.train()
    try:
        with device.autocast(), average.applied() if average else nullcontext(), closing(plain.evaluate()) as batches:
            for norm, _ in norms:
                norm.reset_running_stats()
            for batch in batches:
                if len(batch.label) > 1:
                    task.network(batch.image.to(device.place))
            if average is not None:
                average.adopt()
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum
        task.train()


@contextmanager
def by_batch(task: Task) -> Iterator[bool]:
    """The task in evaluation, but its batch norms take the statistics of the batch before them and gather none.

    So the loss of other pictures means what it means in training, also where these are no whole pictures. Norms that
    gather nothing in training, such as frozen ones, stay as they are.

    Yields:
        Whether there are such norms, which one picture alone may be too few for.
    """
    was = task.training
    task.train()
    norms = [module for module in task.modules() if _gathers(module)]
    task.eval()
    for norm in norms:
        norm.train()
        norm.track_running_stats = False
    try:
        yield bool(norms)
    finally:
        for norm in norms:
            norm.track_running_stats = True
        task.train(was)


def _gathers(module: nn.Module) -> TypeGuard[_BatchNorm]:
    return isinstance(module, _BatchNorm) and module.training and module.track_running_stats
