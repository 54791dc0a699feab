"""Whether a network can be trained in the memory there is: said before the first step, not by a killed process."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vitreous.data.remarks import counted
from vitreous.errors import UsageError
from vitreous.models.describe import describe, kept
from vitreous.run.plan import Run

_CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may use, where there is one
_OURS = 0.85  # of the memory; the rest is the system's, the pictures' and the libraries'
_MOMENTS = {"adamw": 2, "muon": 1, "sgd": 1}


def require_memory(run: Run, place: torch.device | None = None, *, world: int = 1) -> None:
    """Refuse a network whose weights, gradients, moments and average do not fit, or whose batch does not beside them.

    What is refused cannot fit; what is let through needs some more than is counted here, and may still not.

    Args:
        place: where it is trained; this machine's own memory by default.
        world: processes that share a batch.

    Raises:
        UsageError: says how much is needed and how much there is.
    """
    network, train, averaged = run.network, run.train, run.train.optim.ema is not None
    copies = 2 + _MOMENTS[train.optim.name] + averaged
    if train.budget_seconds is not None and train.plan is None:  # the steps that are timed are undone
        copies += 1 + averaged
    needed = 4 * copies * describe(network.model, network.size, network.classes, network.options).params
    ours = _OURS * memory(place)
    room = f"of {memory(place) / 1e9:.0f} GB about {ours / 1e9:.0f} can be used"
    if needed > ours:
        raise UsageError(
            f"To train {network.model} takes {needed / 1e9:.0f} GB for weights, gradients and moments, before the "
            f"first picture, and {room}; choose a smaller model."
        )
    if run.tune.lora is not None:  # of frozen weights little has to be kept
        return
    at_once = -(-run.train.batch // (world * run.train.accumulate))
    # as if all of it were in 16 bits, and less of it for a method that hides most of a picture
    each = kept(network.model, network.size, network.options) * _seen(run) / 2
    if needed + at_once * each > ours:
        fitting = int((ours - needed) / each)
        remedy = f"--batch {1 << fitting.bit_length() - 1} or less" if fitting else "a smaller model or --size"
        raise UsageError(
            f"To train {network.model} on {counted(at_once)} at once takes more than "
            f"{(needed + at_once * each) / 1e9:.0f} GB, and {room}; choose {remedy}."
        )


def _seen(run: Run) -> float:
    """The share of a picture that goes through the network."""
    return 1 - run.pretrain.mae.mask if run.pretrain is not None and run.pretrain.mae is not None else 1.0


def memory(place: torch.device | None = None) -> int:
    """Bytes that may be used in all."""
    if place is not None and place.type == "cuda":
        return int(torch.cuda.get_device_properties(place).total_memory)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or no limit
        return physical
