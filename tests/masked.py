"""What tests of methods that hide parts of pictures share: small networks, batches with hidden parts, no watching."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from small_models import small
from torch import Tensor, nn

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.data.views import Masked
from vitreous.models import CATALOGUE
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.tasks.mae import Mae, MaeConfig
from vitreous.tasks.simmim import Simmim, SimmimConfig
from vitreous.tasks.task import Gather, SelfSupervised
from vitreous.types import Batch

FAMILIES = tuple({row.family: name for name, row in reversed(CATALOGUE.items())}.values())  # one member of each
VIT, SWIN, CNN = "vit_pico_patch4_32", "swin_tiny_patch4_window7_224", "resnet20_cifar"


class Unwatched:
    """``tasks.task.Watch`` that only goes through the batches."""

    def __call__(self, task: SelfSupervised, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        return {"loss": sum(float(task.loss(batch).total.detach()) for batch in batches)}

    def halted(self) -> str:
        return ""

    def metric(self, task: SelfSupervised) -> str:
        return "score"


def network(name: str, size: int = 0, **options: object) -> Network:
    """A small network of that name, every weight away from its special value."""
    torch.manual_seed(0)
    side, less = small(CATALOGUE[name])
    made = build_network(NetworkConfig(model=name, classes=2, size=size or side, options=less | options))
    shaken(made)
    return made


@torch.no_grad()
def shaken(module: nn.Module) -> None:
    """Move every parameter a little."""
    for p in module.parameters():
        p.add_(torch.randn_like(p) * 0.05)


def mae(name: str = VIT, size: int = 16, **config: Any) -> Mae:
    """A small one, in training mode, every weight away from its special value."""
    return _made(Mae, MaeConfig(**config), network(name, size))


def simmim(name: str, size: int = 0, **config: Any) -> Simmim:
    """As ``mae``; without ``size`` at the network's own."""
    return _made(Simmim, SimmimConfig(**config), network(name, size))


def _made(kind: type, config: MaeConfig | SimmimConfig, found: Network) -> Any:
    size = found.config.size
    task = kind(found, config, Preprocess(size=size, store=size), AugmentConfig(), Unwatched())
    shaken(task)
    return task.train()


def given(task: Mae | Simmim, b: int = 3) -> Batch:
    """Pictures of noise of which ``task`` has to paint some."""
    views = task.views(True)
    assert isinstance(views, Masked)
    return batch(b, task.preprocess.size, some(b, views.patches, views.count))


def covered(task: Mae | Simmim, asked: Batch) -> Tensor:
    """(b, 1, size, size): the pixels that are hidden."""
    assert asked.hidden is not None
    return over(asked.hidden, task.patch if isinstance(task, Mae) else task.unit, task.preprocess.size)


def changed(asked: Batch, where: Tensor) -> Batch:
    """The batch with other pixels at some places."""
    return asked._replace(image=torch.where(where, 255 - asked.image, asked.image))


def batch(b: int, size: int, hidden: Tensor) -> Batch:
    """Pictures of noise with those parts hidden."""
    torch.manual_seed(1)
    image = torch.randint(256, (b, 3, size, size), dtype=torch.uint8)
    return Batch(image, torch.zeros(b, dtype=torch.int64), torch.arange(b), hidden=hidden)


def some(b: int, n: int, count: int) -> Tensor:
    """(b, n) bool, ``count`` of each row hidden."""
    torch.manual_seed(2)
    return torch.rand(b, n).argsort(1) < count


def over(hidden: Tensor, cell: int, size: int) -> Tensor:
    """Cells (b, n) of so many pixels -> (b, 1, size, size): the hidden pixels, found one by one."""
    side = -(-size // cell)
    rows = torch.arange(size) // cell
    return hidden.view(len(hidden), side, side)[:, rows][:, :, rows][:, None]
