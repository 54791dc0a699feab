"""What a loss is worth: how large it is for someone who has learned nothing. Knows no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from vitreous.tasks.task import Gather
from vitreous.types import Batch


def guessed(
    batches: Iterable[Batch], gather: Gather, deviation: Tensor, power: int, tell: Callable[[float], None]
) -> Iterator[Batch]:
    """The same batches; after the last one, ``tell`` is called with the loss of painting all of them in one colour.

    Args:
        deviation, power: as ``guessing``'s.
    """
    counts = torch.zeros(len(deviation), 256, dtype=torch.int64)
    for batch in batches:
        counts += colours(batch.image).cpu()
        yield batch
    tell(guessing(gather(counts[None]).cpu().sum(dim=0), deviation.cpu(), power))


def colours(image: Tensor) -> Tensor:
    """How often each value occurs: (b, c, h, w) uint8, or float in [0, 1] -> (c, 256) int64."""
    values = image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255)
    return torch.stack([torch.bincount(channel.flatten().long(), minlength=256) for channel in values.unbind(1)])


def guessing(counts: Tensor, deviation: Tensor, power: int) -> float:
    """The mean of |x - g|^power over pixels that occur so often, for each channel's best constant g; infinite for none.

    Args:
        counts: (c, 256), as ``colours`` counts.
        deviation: c numbers, by which pixels in [0, 1] are divided.
        power: 1, for which the best g is the median, or 2, for which it is the mean.
    """
    if not counts.any():
        return float("inf")
    share = counts.double() / counts.sum(dim=1, keepdim=True)  # (c, 256)
    values = torch.arange(256, dtype=torch.float64, device=counts.device)
    best = (share.cumsum(dim=1) < 0.5).sum(dim=1) if power == 1 else share @ values  # (c,)
    apart = (values - best[:, None]).abs() / (255 * deviation.double().view(-1, 1))  # (c, 256)
    return float((share * apart**power).sum(dim=1).mean())
