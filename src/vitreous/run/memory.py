"""Whether a network can be trained in the memory there is: said before the first step, not by a killed process."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from vitreous.errors import UsageError
from vitreous.models.describe import describe
from vitreous.run.plan import Run

_CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may use, where there is one
_MOMENTS = {"adamw": 2, "muon": 1, "sgd": 1}


def require_memory(run: Run, place: torch.device | None = None) -> None:
    """Refuse a network whose weights, gradients, moments and average do not fit, whatever the batch.

    Args:
        place: where it is trained; this machine's own memory by default.

    Raises:
        UsageError: says how much is needed and how much there is.
    """
    network, optim = run.network, run.train.optim
    copies = 2 + _MOMENTS[optim.name] + (optim.ema is not None)
    needed = 4 * copies * describe(network.model, network.size, network.classes, network.options).params
    there = memory(place)
    if needed > there:
        raise UsageError(
            f"To train {network.model} takes {needed / 1e9:.0f} GB for weights, gradients and moments, before the "
            f"first picture, and there are {there / 1e9:.0f} GB; choose a smaller model."
        )


def memory(place: torch.device | None = None) -> int:
    """Bytes that may be used in all."""
    if place is not None and place.type == "cuda":
        return int(torch.cuda.get_device_properties(place).total_memory)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or no limit
        return physical
