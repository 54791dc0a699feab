"""SimMIM: large squares of the picture are hidden, and one linear layer paints them from the last map.

Xie et al. 2022, "SimMIM: A Simple Framework for Masked Image Modeling", section 3. The whole grid is kept, so any
backbone can learn so. Where a token sees its own patch alone (ViT, Swin), another token stands for hidden ones; where
windows overlap (convolutions), a colour stands for hidden pixels. Both are learned, and thrown away with the layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, AugmentConfig, Evaluate, Transform
from vitreous.data.views import Masked
from vitreous.errors import UsageError
from vitreous.models.backbone import Backbone, TokenBackbone
from vitreous.network import Network
from vitreous.tasks.losses import guessed
from vitreous.tasks.task import Gather, Loss, SelfSupervised, Watch
from vitreous.types import Batch

LEAST = 6  # units a side, as the paper has of 32 pixels at 192


@dataclass(frozen=True, kw_only=True)
class SimmimConfig:
    """How much is hidden, and in what pieces.

    Attributes:
        mask: share of the units that is hidden.
        unit: side in pixels of the squares that are hidden or seen as a whole, of tokens a whole number; None: 32 at
            192 to 383 pixels, and in proportion at others (``unit_side``).
    """

    mask: float = 0.6
    unit: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise UsageError(f"pretrain.simmim.mask = {self.mask} must be a share between 0 and 1; 0.6 is usual.")
        if self.unit is not None and self.unit < 1:
            raise UsageError(f"pretrain.simmim.unit must be at least 1 pixel, not {self.unit}.")


class Simmim(SelfSupervised):
    """The mean absolute error of the hidden pixels, which are normalised as the network sees them.

    What a backbone has after its last map (layers before or within its pooling) learns nothing here.

    Args:
        augment: crops and mirror images; the method needs no more.

    Raises:
        UsageError: units that tokens do not fit into, or too few of them.
    """

    def __init__(
        self, network: Network, config: SimmimConfig, preprocess: Preprocess, augment: AugmentConfig, watch: Watch
    ) -> None:
        super().__init__(network, watch)
        self.preprocess, self.augment = preprocess, augment
        backbone, channels = network.backbone, len(network.config.mean)
        self.grain = grain(backbone)
        self.unit = config.unit or unit_side(preprocess.size, self.grain)
        if self.unit % self.grain:
            raise UsageError(
                f"pretrain.simmim.unit = {self.unit} is no multiple of the {self.grain} pixels of a token; take "
                f"{max(round(self.unit / self.grain), 1) * self.grain}."
            )
        self.side = math.ceil(preprocess.size / self.unit)  # units
        if self.side < 2:
            raise UsageError(
                f"Pictures of {preprocess.size} px are one unit of {self.unit} px to simmim; give a larger --size."
            )
        self.mask = config.mask
        # in tokens the one that stands for hidden ones; in pixels the colour, the mean at first
        self.hidden = nn.Parameter(torch.zeros(backbone.dims[0] if self.grain > 1 else channels))
        self.paint = nn.Conv2d(backbone.dims[-1], backbone.strides[-1] ** 2 * channels, kernel_size=1)
        for tensor in (self.hidden, self.paint.weight) if self.grain > 1 else (self.paint.weight,):
            nn.init.trunc_normal_(tensor, std=0.02)
        assert self.paint.bias is not None
        nn.init.zeros_(self.paint.bias)

    def views(self, train: bool, done: float = 0.0) -> Transform:
        seen = Augment(self.augment, self.preprocess) if train else Evaluate(self.preprocess)
        return Masked(seen, self.side**2, self.mask)

    def loss(self, batch: Batch) -> Loss:
        assert batch.hidden is not None
        image = self.network.normalise(batch.image)
        covered = self.covered(batch.hidden, 1, image)[:, None]  # (b, 1, h, w)
        apart = (self.painted(image, batch.hidden).to(image.dtype) - image).abs()
        # of each picture and then of all: where the last units are cut off, some have fewer hidden pixels than others
        total = ((apart * covered).sum(dim=(1, 2, 3)) / (covered.sum(dim=(1, 2, 3)) * image.shape[1])).mean()
        return Loss(total, {})

    def painted(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(b, c, h, w) normalised and units (b, n) -> (b, c, h, w): the whole picture, painted from what is seen."""
        backbone = self.network.backbone
        covered = self.covered(hidden, self.grain, image)  # (b, y, x)
        if self.grain > 1:
            assert isinstance(backbone, TokenBackbone)
            tokens = backbone.encode(backbone.embed(image, covered.flatten(1), self.hidden))  # (b, p + n', d')
            rows = math.ceil(image.shape[2] / backbone.strides[-1])
            last = tokens[:, -rows * rows :].transpose(1, 2).unflatten(2, (rows, rows))  # (b, d', rows, rows)
        else:
            colour = self.hidden.view(-1, 1, 1).to(image.dtype)
            last = backbone(torch.where(covered[:, None], colour, image)).maps[-1]
        painted = F.pixel_shuffle(self.paint(last), backbone.strides[-1])
        return painted[:, :, : image.shape[2], : image.shape[3]]

    def covered(self, hidden: Tensor, cell: int, image: Tensor) -> Tensor:
        """Units (b, n) -> (b, y, x) bool: which cells of so many pixels are hidden."""
        times = self.unit // cell
        units = hidden.view(-1, self.side, self.side)
        cells = units.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
        return cells[:, : math.ceil(image.shape[2] / cell), : math.ceil(image.shape[3] / cell)]

    def evaluate(self, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        return super().evaluate(guessed(batches, gather, self.network.std.flatten(), self.nothing.fill_), gather)

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The picture, what was seen of it, and what was painted into that."""
        assert batch.hidden is not None
        image = self.network.normalise(batch.image)
        covered = self.covered(batch.hidden, 1, image)[:, None]
        painted = self.painted(image, batch.hidden).to(image.dtype)
        panels = (image, torch.where(covered, 0.0, image), torch.where(covered, painted, image))
        return torch.stack([self.network.pixels(panel) for panel in panels], dim=1)


def grain(backbone: Backbone) -> int:
    """Pixels a side of what is hidden in one piece: a patch where tokens stand for patches, otherwise one."""
    tokens = isinstance(backbone, TokenBackbone) and not backbone.overlaps
    return backbone.strides[0] if tokens else 1


def unit_side(size: int, grain: int) -> int:
    """Pixels a side of a unit: the grain times the largest power of two that leaves ``LEAST`` units a side.

    224 -> 32, 64 -> 8 and 32 -> 4. Smaller units are painted from what is beside them, larger ones cannot be guessed.
    """
    return grain << max(math.floor(math.log2(size / (LEAST * grain))), 0)
