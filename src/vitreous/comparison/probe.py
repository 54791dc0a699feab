"""How long a network takes for one epoch, tried before anything is trained: a guess that refuses hopeless budgets."""

from __future__ import annotations

import time

import torch

from vitreous.network import build_network
from vitreous.run.plan import Run
from vitreous.training.device import open_device

_MACS = 2e9  # about so much is tried, so that a large network is tried on few pictures
_TIMES = 3


def seconds_per_picture(run: Run, macs: int) -> float:
    """Forward and backward through the network of ``run``, for one picture of a batch.

    Args:
        macs: of its forward pass.

    Raises:
        VitreousError: the network cannot be built.
    """
    config = run.network
    many = int(min(run.train.batch, max(2, _MACS // max(macs, 1))))
    with open_device(run.train.device, run.train.precision) as device:
        network = build_network(config).to(device.place)
        image = torch.randint(0, 256, (many, 3, config.size, config.size), dtype=torch.uint8, device=device.place)
        times = []
        for _ in range(_TIMES):
            start = time.perf_counter()
            with device.autocast():
                loss = network(image).float().square().mean()
            loss.backward()
            if device.place.type == "cuda":
                torch.cuda.synchronize(device.place)
            times.append(time.perf_counter() - start)
    return min(times) / many
