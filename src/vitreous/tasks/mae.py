"""Masked autoencoder: three quarters of the patches are hidden, and a small decoder paints them from the rest.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", section 3. The encoder never sees a hidden patch, so
a step costs a fraction of a supervised one. Knows any backbone that drops hidden tokens; the decoder is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, AugmentConfig, Transform
from vitreous.data.views import Masked
from vitreous.errors import UsageError
from vitreous.layers.blocks import Blocks
from vitreous.layers.patch import patchify, unpatchify
from vitreous.layers.position import sincos2d
from vitreous.layers.visible import restored, visible
from vitreous.models.backbone import TokenBackbone
from vitreous.models.vit import Block, ViTConfig
from vitreous.network import Network
from vitreous.tasks.task import Loss, SelfSupervised, Watch
from vitreous.types import Batch


@dataclass(frozen=True, kw_only=True)
class MaeConfig:
    """How much is hidden, and who paints it.

    Attributes:
        mask: share of the patches that is hidden.
        width: of the decoder; None: half of the encoder's.
        depth: blocks of the decoder.
        heads: of the decoder; None: as wide as the encoder's.
        normalise: each patch is to be painted with mean 0 and deviation 1 of its own (section 4.1), the known cure on
            some sets; without, in the pixels that the network sees.
    """

    mask: float = 0.75
    width: int | None = None
    depth: int = 2
    heads: int | None = None
    normalise: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise UsageError(f"mae.mask = {self.mask} must be a share between 0 and 1; 0.75 is usual.")
        for name in ("width", "depth", "heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"mae.{name} must be at least 1, not {value}.")


class Mae(SelfSupervised):
    """The mean squared error of the hidden patches.

    Args:
        network: whose backbone is a ``TokenBackbone`` that drops hidden tokens.
        augment: crops and mirror images; the method needs no more.

    Raises:
        UsageError: another backbone, or a mask that hides nothing or all of so few patches.
    """

    position: Tensor

    def __init__(
        self, network: Network, config: MaeConfig, preprocess: Preprocess, augment: AugmentConfig, watch: Watch
    ) -> None:
        super().__init__(network, watch)
        backbone = network.backbone
        if not isinstance(backbone, TokenBackbone) or not backbone.drops_hidden:
            raise UsageError(
                f"mae leaves hidden patches out, which {network.config.model} cannot; choose a ViT, or --method simmim."
            )
        self.config, self.preprocess, self.augment = config, preprocess, augment
        self.patch = backbone.strides[-1]
        side = preprocess.size // self.patch
        if preprocess.size % self.patch:
            raise UsageError(f"Pictures of {preprocess.size} px are no whole patches of {self.patch}; set --size.")
        self.grid = (side, side)
        if not 1 <= round(config.mask * side * side) < side * side:
            raise UsageError(
                f"mae.mask = {config.mask} leaves nothing to do with {side * side} patches; give a larger --size."
            )
        d = backbone.dims[-1]
        width = config.width or max(d // 2 // 32, 1) * 32
        heads = config.heads or max(width // 32, 1)
        shape = ViTConfig(width=width, depth=config.depth, heads=heads)
        self.embed = nn.Linear(d, width)
        self.hidden = nn.Parameter(torch.zeros(width))
        self.register_buffer("position", sincos2d(self.grid, width), persistent=False)  # (1, n, w)
        self.blocks = Blocks(*(Block(shape, 0.0) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.paint = nn.Linear(width, self.patch**2 * len(network.config.mean))
        self.nothing = 1.0 if config.normalise else float("inf")
        for module in (self.embed, self.blocks, self.paint):
            module.apply(_begin)
        nn.init.normal_(self.hidden, std=0.02)

    def views(self, train: bool, done: float = 0.0) -> Transform:
        return Masked(Augment(self.augment, self.preprocess), self.grid[0] * self.grid[1], self.config.mask)

    def loss(self, batch: Batch) -> Loss:
        assert batch.hidden is not None
        image = self.network.normalise(batch.image)
        wanted = visible(patchify(image, self.patch), ~batch.hidden)  # (b, m, p p c), m of them hidden
        if self.config.normalise:
            wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True) + 1e-6).sqrt()
        painted = self.painted(image, batch.hidden)
        total = (painted.float() - wanted).square().mean()
        return Loss(total, {"pixels": total.detach()})

    def painted(self, image: Tensor, hidden: Tensor) -> Tensor:
        """(b, c, h, w) normalised and (b, n) -> (b, m, p p c), the hidden patches in reading order."""
        backbone = self.network.backbone
        assert isinstance(backbone, TokenBackbone)
        tokens = self.embed(backbone.encode(backbone.embed(image, hidden)))  # (b, prefix + seen, w)
        prefix = tokens.shape[1] - int((~hidden[0]).sum())
        patches = restored(tokens[:, prefix:], hidden, self.hidden) + self.position  # (b, n, w)
        decoded = self.blocks(torch.cat([tokens[:, :prefix], patches], dim=1))[:, prefix:]
        painted: Tensor = self.paint(self.norm(visible(decoded, ~hidden)))
        return painted

    @torch.no_grad()
    def show(self, batch: Batch) -> Tensor:
        """The picture, what was seen of it, and what was painted into that."""
        assert batch.hidden is not None
        image = self.network.normalise(batch.image)
        patches, hidden = patchify(image, self.patch), batch.hidden[..., None]  # (b, n, p p c), (b, n, 1)
        painted = self.painted(image, batch.hidden).float()
        if self.config.normalise:
            true = visible(patches, ~batch.hidden)  # nobody asked for brightness and contrast, so they are given
            painted = painted * (true.var(-1, keepdim=True) + 1e-6).sqrt() + true.mean(-1, keepdim=True)
        whole = restored(painted, ~batch.hidden, painted.new_zeros(painted.shape[-1]))
        panels = (patches, torch.where(hidden, 0.0, patches), torch.where(hidden, whole, patches))
        images = [self.network.pixels(unpatchify(panel, self.patch, self.grid)) for panel in panels]
        return torch.stack(images, dim=1)


def _begin(module: nn.Module) -> None:
    """Xavier for matrices, as in the paper's code; norms as they are."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
