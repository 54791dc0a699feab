"""A few steps of DINO as one of several processes: python dino_program.py FILE, with the variables of torchrun."""

from __future__ import annotations

import os
import sys

import torch
from masked import Unwatched, network
from safetensors.torch import save_file

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.tasks.dino import Dino, DinoConfig
from vitreous.training.device import Device, open_device
from vitreous.training.optim import OptimConfig, Optimiser
from vitreous.training.state import State
from vitreous.training.step import Stepper
from vitreous.types import Batch

SMALL = {"prototypes": 32, "hidden": 24, "bottleneck": 8}
VIT = "vit_pico_patch4_32"
SIZE = 16


class Views:
    """Loader of noise on a colour of each picture's own; ``at`` is pure in the step."""

    def __init__(self, batch: int = 16, rank: int = 0, world: int = 1) -> None:
        self.batch, self.rank, self.world, self.steps_per_epoch = batch, rank, world, 4

    def at(self, step: int) -> Batch:
        g = torch.Generator().manual_seed(step)
        colour = torch.rand(self.batch, 1, 3, 1, 1, generator=g)
        large = 0.5 * colour + 0.5 * torch.rand(self.batch, 2, 3, SIZE, SIZE, generator=g)
        small = 0.5 * colour + 0.5 * torch.rand(self.batch, 2, 3, SIZE // 2, SIZE // 2, generator=g)
        mine = torch.arange(self.batch).chunk(self.world)[self.rank]
        return Batch(large[mine, 0], mine * 0, mine, views=large[mine, 1:], crops=small[mine])

    def train(self, start: int, stop: int):
        yield from (self.at(step) for step in range(start, stop))

    def evaluate(self):
        yield self.at(1_000)

    def reset_waited(self) -> float:
        return 0.0


def task(device: Device | None = None, name: str = VIT, size: int = SIZE, **config: object) -> Dino:
    """A small one, in training mode, of a run of 20 steps."""
    made = network(name, size)
    preprocess = Preprocess(size=made.config.size, store=made.config.size)
    torch.manual_seed(3)
    return Dino(
        made,
        DinoConfig(**SMALL | config),
        preprocess,
        AugmentConfig(),
        Unwatched(),
        total=(device or Device(place=torch.device("cpu"))).sum,
        progress=lambda step: min(step / 20, 1.0),
    ).train()


def main(file: str) -> None:
    torch.set_num_threads(1)
    with open_device("cpu", "fp32") as device:
        made = task(device, freeze=0.1)
        optim = OptimConfig(name="adamw", ema=None, warmup=0.0)
        stepper = Stepper(State(made, Optimiser(made, optim), None), device, accumulate=2, seed=0)
        data = Views(rank=device.rank, world=device.world)
        losses = [stepper.update(data.at(step), step, 1.0).values["loss"] for step in range(6)]
        if device.is_first:
            save_file({"losses": torch.tensor(losses), **made.state_dict()}, file)


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    main(sys.argv[1])
