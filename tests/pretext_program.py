"""A few steps without labels, and a look at what they taught, as one of several processes.

python pretext_program.py METHOD FILE, with the variables of torchrun.
"""

from __future__ import annotations

import os
import sys

import torch
from digits import Digits, Sides
from masked import SWIN, Unwatched, mae, network, simmim
from safetensors.torch import save_file

from vitreous.data.loader import Loader
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.run.watch import Watcher
from vitreous.tasks.dino import Dino, DinoConfig
from vitreous.tasks.task import SelfSupervised
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


def chosen(method: str, device: Device) -> SelfSupervised:
    """A small task; SimMIM's pictures are no whole number of units, so that not all hide as many pixels."""
    if method == "dino":
        return task(device, freeze=0.1)
    return mae() if method == "mae" else simmim(SWIN, 30, unit=8)


def main(method: str, file: str) -> None:
    torch.set_num_threads(1)
    with open_device("cpu", "fp32") as device:
        made, share = chosen(method, device), {"rank": device.rank, "world": device.world}
        # of what rounding makes of the zero gradient of a key's bias Adam makes steps, in MAE's decoder large ones
        name, rate = ("adamw", 1e-3) if method == "dino" else ("sgd", 0.01)
        optim = OptimConfig(name=name, lr=rate, ema=None, warmup=0.0)
        stepper = Stepper(State(made, Optimiser(made, optim), None), device, accumulate=2, seed=0)
        data = Loader(Digits(200), made.views(True), batch=16, train=True, **share)
        losses = [stepper.update(data.at(step), step, 1.0).values["loss"] for step in range(6)]
        made.watch = Watcher(
            Sides(100, 41, 10), made.preprocess, device, batch=16, least=1, progress=lambda step: 1.0, warmup=0.0
        )
        held_out = Loader(Digits(41, 100), made.views(True), batch=16, train=False, **share)
        with torch.no_grad():
            looked = made.eval().evaluate(held_out.evaluate(), device.gather)
        if device.is_first:
            numbers = {"losses": torch.tensor(losses), **{name: torch.tensor(value) for name, value in looked.items()}}
            save_file({**numbers, **made.state_dict()}, file)


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    main(*sys.argv[1:])
