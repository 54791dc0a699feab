"""One picture, many views: hidden patches and multi-crop, for methods that learn without labels.

Everything random comes from the generators that the loader hands over, so a view is a pure function of (seed, epoch,
sample), on any number of workers and processes. Knows nothing of what a method makes of its views.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vitreous.data.transforms import Transform
from vitreous.errors import UsageError
from vitreous.types import Batch, Sample


class Masked(Transform):
    """The views of another transform, and which patches of each are hidden, the same number in every picture.

    Args:
        views: gives the pictures.
        patches: n of each picture, in reading order.
        share: of them that is hidden, in (0, 1).

    Raises:
        UsageError: that would be none or all of so few.
    """

    def __init__(self, views: Transform, patches: int, share: float) -> None:
        self.views = views
        self.patches = patches
        self.count = round(share * patches)
        if not 1 <= self.count < patches:
            left = "leaves none to see" if self.count else "hides none"
            raise UsageError(f"A mask of {share} {left} of {patches} patches; take 0.6 to 0.75, or a larger --size.")

    def __call__(self, samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        """As ``views``, with ``hidden`` (b, n)."""
        batch = self.views(samples, rng)
        hidden = np.zeros((len(samples), self.patches), dtype=bool)
        for row, random in zip(hidden, rng, strict=True):
            row[random.choice(self.patches, self.count, replace=False)] = True
        return batch._replace(hidden=torch.from_numpy(hidden))


class Pair(Transform):
    """A weak and a strong view of each picture."""

    def __init__(self, weak: Transform, strong: Transform) -> None:
        self.weak, self.strong = weak, strong

    def __call__(self, samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        """``image`` is the weak view, ``views`` (b, 1, 3, h, w) the strong one."""
        batch = self.weak(samples, rng)
        return batch._replace(views=self.strong(samples, rng).image[:, None])


class MultiCrop(Transform):
    """Several large and small random views of each picture (Caron et al. 2020, SwAV, section 3.2).

    Args:
        large: views at the size of the network; the first becomes ``image``, the others ``views``.
        small: of little parts, usually at a smaller size; they become ``crops``.
        counts: how many of each; at least 2 large ones, 0 or more small ones.
    """

    def __init__(self, large: Transform, small: Transform, counts: tuple[int, int]) -> None:
        self.large, self.small, self.counts = large, small, counts

    def __call__(self, samples: Sequence[Sample], rng: Sequence[np.random.Generator]) -> Batch:
        """``image`` (b, 3, s, s), ``views`` (b, v - 1, 3, s, s), ``crops`` (b, m, 3, s', s') where m is not 0."""
        first, *others = (self.large(samples, rng) for _ in range(self.counts[0]))
        crops = [self.small(samples, rng).image for _ in range(self.counts[1])]
        return first._replace(
            views=torch.stack([other.image for other in others], dim=1),
            crops=torch.stack(crops, dim=1) if crops else None,
        )
