"""What a loss is worth: how large it is for someone who has learned nothing. Knows no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from vitreous.tasks.task import Gather
from vitreous.types import Batch


def alike(
    batches: Iterable[Batch], gather: Gather, wanted: Callable[[Batch], Tensor], d: int, tell: Callable[[float], object]
) -> Iterator[Batch]:
    """The same batches; after the last one, ``tell`` is called with the mean squared error of painting one patch alone.

    The best such patch is the mean of all; infinite without any.

    Args:
        wanted: the patches (n, d) that are to be painted in a batch.
    """
    sums = torch.zeros(1, 3, d, dtype=torch.float64)
    for batch in batches:
        patches = wanted(batch)
        values, squares = (x.sum(dim=0, dtype=torch.float64).cpu() for x in (patches, patches.square()))
        sums += torch.stack([torch.full_like(values, len(patches)), values, squares])
        yield batch
    count, values, squares = gather(sums).cpu().sum(dim=0)
    tell(float((squares / count - (values / count).square()).mean()) if count.any() else math.inf)


def guessed(
    batches: Iterable[Batch], gather: Gather, deviation: Tensor, tell: Callable[[float], object]
) -> Iterator[Batch]:
    """The same batches; after the last one, ``tell`` is called with the mean absolute error of painting one colour.

    Args:
        deviation: as ``guessing``'s.
    """
    counts = torch.zeros(len(deviation), 256, dtype=torch.int64)
    for batch in batches:
        counts += colours(batch.image).cpu()
        yield batch
    tell(guessing(gather(counts[None]).cpu().sum(dim=0), deviation.cpu()))


def colours(image: Tensor) -> Tensor:
    """How often each value occurs: (b, c, h, w) uint8, or float in [0, 1] -> (c, 256) int64."""
    values = image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255)
    return torch.stack([torch.bincount(channel.flatten().long(), minlength=256) for channel in values.unbind(1)])


def guessing(counts: Tensor, deviation: Tensor) -> float:
    """The mean of |x - g| over pixels that occur so often, for each channel's best g, the median; infinite for none.

    Args:
        counts: (c, 256), as ``colours`` counts.
        deviation: c numbers, by which pixels in [0, 1] are divided.
    """
    if not counts.any():
        return math.inf
    share = counts.double() / counts.sum(dim=1, keepdim=True)  # (c, 256)
    values = torch.arange(256, dtype=torch.float64, device=counts.device)
    best = (share.cumsum(dim=1) < 0.5).sum(dim=1)  # (c,)
    apart = (values - best[:, None]).abs() / (255 * deviation.double().view(-1, 1))  # (c, 256)
    return float((share * apart).sum(dim=1).mean())
