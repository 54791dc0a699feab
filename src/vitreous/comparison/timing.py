"""How fast networks answer on this machine, measured in turn; what an earlier call measured is taken from its file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from vitreous.errors import DamagedFile
from vitreous.predictor import Predictor
from vitreous.run.outcome import speed
from vitreous.run.plan import read_json

_REPEATS = 30  # single pictures that are timed


class Speed(NamedTuple):
    """How fast a network answers on this machine."""

    latency_ms: float  # least for one picture: what comes on top is of the machine, not of the network
    images_per_second: float  # 32 at once


@torch.inference_mode()
def measure(folders: Sequence[Path]) -> list[Speed]:
    """Time the networks of finished runs, in turn, so that whatever else the machine does falls on all alike."""
    networks = [Predictor.load(folder).network for folder in folders]
    many = [speed(network) for network in networks]
    networks = [network.optimise() for network in networks]
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(_REPEATS):
        for network, took in zip(networks, times, strict=True):
            size = network.config.size
            image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, device=network.mean.device)
            start = time.perf_counter()
            network(image).cpu()
            took.append(time.perf_counter() - start)
    return [Speed(1e3 * min(took), rate) for took, rate in zip(times, many, strict=True)]


def remembered(file: Path, folders: Sequence[Path]) -> list[Speed] | None:
    """What the comparison in ``file`` says of the runs in ``folders``; None where it does not know all of them."""
    try:
        arms = [arm for arm in read_json(file)["arms"] if arm.get("runs")]
        known = {arm["runs"][0]["folder"]: (arm["latency_ms"], arm["images_per_second"]) for arm in arms}
        return [Speed(*map(float, known[str(folder)])) for folder in folders]
    except (DamagedFile, KeyError, TypeError):  # no file yet, or one of which another time made something else
        return None
