"""Masked autoencoder: three quarters of the patches are hidden, and a small decoder paints them from the rest.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3. The encoder never sees a hidden patch, so
a step costs a fraction of a supervised one. Knows any backbone that drops hidden tokens; the decoder is thrown away.
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
from vitreous.layers.blocks import Blocks
from vitreous.layers.patch import patchify, unpatchify
from vitreous.layers.position import sincos2d
from vitreous.layers.visible import restored, visible
from vitreous.models.backbone import TokenBackbone
from vitreous.models.vit import Block, ViTConfig
from vitreous.network import Network
from vitreous.tasks.losses import alike
from vitreous.tasks.task import Gather, Loss, SelfSupervised, Watch
from vitreous.types import Batch

EPS = 1e-6  # in the deviation of a patch, as in the paper's code


@dataclass(frozen=True, kw_only=True)
class MaeConfig:
    """How much is hidden, and who paints it.

    Attributes:
        mask: share of the patches that is hidden.
        width: of the decoder; None: half of the encoder's, in whole heads of 32.
        depth: blocks of the decoder.
        heads: of the decoder; None: of 32 channels each.
        normalise: each patch is to be painted with mean 0 and deviation 1 of its own (section 4.1, "reconstruction
            target"), the known cure on some sets; without, in the pixels that the network sees.
    """

    mask: float = 0.75
    width: int | None = None
    depth: int = 2
    heads: int | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise UsageError(f"pretrain.mae.mask = {self.mask} must be a share between 0 and 1; 0.75 is usual.")
        for name in ("width", "depth", "heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"pretrain.mae.{name} must be at least 1, not {value}.")
        if self.width is not None and (self.width % 4 or self.width % (self.heads or max(self.width // 32, 1))):
            raise UsageError(
                f"pretrain.mae.width = {self.width} must be a multiple of 4 and of its heads; 64 or 128 is usual."
            )


class Mae(SelfSupervised):
    """The mean squared error of the hidden patches.

    Args:
        network: whose backbone is a ``TokenBackbone`` that drops hidden tokens.
        augment: crops and mirror images; the method needs no more.

    Raises:
        UsageError: another backbone, or pictures that are not two or more whole patches a side.
    """

    position: Tensor

    def __init__(
        self, network: Network, config: MaeConfig, preprocess: Preprocess, augment: AugmentConfig, watch: Watch
    ) -> None:
        super().__init__(network, watch)
        backbone, size = network.backbone, preprocess.size
        if not isinstance(backbone, TokenBackbone) or not backbone.drops_hidden:
            raise UsageError(
                f"mae leaves hidden patches out, which {network.config.model} cannot; choose a ViT, or --method simmim."
            )
        self.config, self.preprocess, self.augment = config, preprocess, augment
        self.patch = backbone.strides[-1]
        self.grid = _grid(size, self.patch)
        d, channels = backbone.dims[-1], len(network.config.mean)
        width = config.width or max(d // 64, 1) * 32
        shape = ViTConfig(width=width, depth=config.depth, heads=config.heads or max(width // 32, 1))
        self.embed = nn.Linear(d, width)
        self.hidden = nn.Parameter(torch.empty(width))
        self.register_buffer("position", sincos2d(self.grid, width), persistent=False)  # (1, n, w)
        self.blocks = Blocks(*(Block(shape, 0.0) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.paint = nn.Linear(width, self.patch**2 * channels)
        for module in (self.embed, self.blocks, self.paint):
            module.apply(_begin)
        nn.init.normal_(self.hidden, std=0.02)

    def views(self, train: bool, done: float = 0.0) -> Transform:
        seen = Augment(self.augment, self.preprocess) if train else Evaluate(self.preprocess)
        return Masked(seen, self.grid[0] * self.grid[1], self.config.mask)

    def loss(self, batch: Batch) -> Loss:
        assert batch.hidden is not None
        image = self.network.normalise(batch.image)
        wanted = self.target(image, batch.hidden)
        total = F.mse_loss(self.painted(image, batch.hidden).to(wanted.dtype), wanted)
        return Loss(total, {})

    def target(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(b, c, h, w) normalised and (b, n) -> (b, m, p p c): what is to be painted of the m hidden patches."""
        patches = visible(patchify(image, self.patch), ~hidden)
        return normalised(patches) if self.config.normalise else patches

    def painted(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(b, c, h, w) normalised and (b, n) -> (b, m, p p c), the hidden patches in reading order."""
        backbone = self.network.backbone
        assert isinstance(backbone, TokenBackbone)
        if backbone.overlaps:  # the rim of a hidden patch would show in its neighbours
            image = unpatchify(patchify(image, self.patch).masked_fill(hidden[..., None], 0.0), self.patch, self.grid)
        tokens = self.embed(backbone.encode(backbone.embed(image, hidden)))  # (b, prefix + seen, w)
        prefix = tokens.shape[1] - int((~hidden[0]).sum())
        patches = restored(tokens[:, prefix:], hidden, self.hidden) + self.position  # (b, n, w)
        decoded = self.blocks(torch.cat([tokens[:, :prefix], patches], dim=1))[:, prefix:]
        painted: Tensor = self.paint(self.norm(visible(decoded, ~hidden)))
        return painted

    def evaluate(self, batches: Iterable[Batch], gather: Gather) -> dict[str, float]:
        batches = alike(batches, gather, self._rows, self.paint.out_features, self.nothing.fill_)
        return super().evaluate(batches, gather)

    def _rows(self, batch: Batch) -> Tensor:
        """(b m, p p c), as ``target``."""
        assert batch.hidden is not None
        return self.target(self.network.normalise(batch.image), batch.hidden).flatten(0, 1)

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The picture, what was seen of it, and what was painted into that."""
        assert batch.hidden is not None
        image = self.network.normalise(batch.image)
        patches, hidden = patchify(image, self.patch), batch.hidden[..., None]  # (b, n, p p c), (b, n, 1)
        painted = self.painted(image, batch.hidden).to(image.dtype)
        if self.config.normalise:  # nobody asked for brightness and contrast, so they are given
            variance, mean = torch.var_mean(visible(patches, ~batch.hidden), dim=-1, keepdim=True)
            painted = painted * (variance + EPS).sqrt() + mean
        whole = restored(painted, ~batch.hidden, painted.new_zeros(painted.shape[-1]))
        panels = (patches, torch.where(hidden, 0.0, patches), torch.where(hidden, whole, patches))
        images = [self.network.pixels(unpatchify(panel, self.patch, self.grid)) for panel in panels]
        return torch.stack(images, dim=1)


def normalised(patches: Tensor) -> Tensor:
    """(b, m, d) -> the same, each patch less its mean and over the root of its variance and ``EPS``.

    The variance is the paper's code's, with d - 1 below the sum; a layer norm, which takes one pass, has d.
    """
    d = patches.shape[-1]
    whitened: Tensor = F.layer_norm(patches, (d,), eps=EPS * (d - 1) / d)
    return whitened * math.sqrt((d - 1) / d)


def _grid(size: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches."""
    side = size // patch
    if size % patch or side < 2:
        near = max(round(size / patch), 2) * patch
        raise UsageError(
            f"Pictures of {size} px are not 2 or more whole patches of {patch} px a side; set --size {near}."
        )
    return side, side


def _begin(module: nn.Module) -> None:
    """Xavier for matrices, as in the paper's code; norms as they are."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
