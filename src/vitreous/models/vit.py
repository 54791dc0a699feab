"""ViT: a picture as a sequence of patches through a plain transformer encoder.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale". Pooling by the
mean and fixed sine-cosine positions follow Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k".
Parameters carry timm's names. Pictures of any size are accepted: they are padded to whole patches and positions are
resampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attention
from vitreous.layers.blocks import Blocks
from vitreous.layers.mlp import Mlp
from vitreous.layers.norm import DropPath, LayerScale, depth_rates
from vitreous.layers.patch import PatchEmbed
from vitreous.layers.pool import Pool, pool_tokens
from vitreous.layers.position import Resampled, fit, sincos2d
from vitreous.models.backbone import TokenBackbone
from vitreous.types import Features


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Everything that makes one ViT another."""

    size: int = 224  # side of the square picture whose positions are learned
    patch: int = 16
    channels: int = 3  # of the picture
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    pool: Pool = "token"  # "avg" builds no class token
    position: Literal["learned", "sincos"] = "learned"
    qkv_bias: bool = True
    layer_scale: float | None = None  # start of LayerScale, None leaves it out
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if min(self.size, self.patch, self.channels, self.width, self.depth, self.heads) < 1:
            raise UsageError("A ViT needs size, patch, channels, width, depth and heads of at least 1.")
        if self.size % self.patch:
            near = max(round(self.size / self.patch), 1) * self.patch
            raise UsageError(f"Size {self.size} is not a multiple of the patch {self.patch}; use {near}.")
        if self.width % self.heads:
            raise UsageError(f"Width {self.width} is not a multiple of {self.heads} heads; choose others.")
        if self.position == "sincos" and self.width % 4:
            raise UsageError(f"Position sincos needs a width that is a multiple of 4, not {self.width}.")


class Block(nn.Module):
    """Pre-norm encoder block: x + attention(norm(x)), then x + mlp(norm(x)) (the paper's equations 2 and 3)."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        d, scale = config.width, config.layer_scale
        self.norm1 = nn.LayerNorm(d, eps=1e-6)
        self.attn = Attention(d, config.heads, config.qkv_bias)
        self.ls1 = nn.Identity() if scale is None else LayerScale(d, scale)
        self.norm2 = nn.LayerNorm(d, eps=1e-6)
        self.mlp = Mlp(d, int(d * config.mlp_ratio))
        self.ls2 = nn.Identity() if scale is None else LayerScale(d, scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return x


class ViT(TokenBackbone):
    """(b, c, h, w) -> one map (b, d, h / patch, w / patch) after the last norm, and the pooled vector (b, d)."""

    stem = "patch_embed.proj"

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.dims, self.strides = (config.width,), (config.patch,)
        self.prefix = 1 if config.pool == "token" else 0
        side = config.size // config.patch

        self.patch_embed = PatchEmbed(config.patch, config.width, config.channels)
        if self.prefix:
            self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        positions = torch.empty(1, self.prefix + side * side, config.width)
        if config.position == "learned":
            self.pos_embed = nn.Parameter(positions)
        else:
            self.register_buffer("pos_embed", positions)
        self._positions_on = Resampled((side, side))
        rates = depth_rates(config.drop_path, config.depth)
        self.blocks = Blocks(*(Block(config, rate) for rate in rates))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights: truncated normal of deviation .02, biases zero, norms and LayerScale at their start."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, LayerScale, PatchEmbed)):
                module.reset_parameters()
        if self.prefix:
            nn.init.normal_(self.cls_token, std=1e-6)
        if self.config.position == "learned":
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        else:
            self.pos_embed.copy_(sincos2d(self._positions_on.old, self.width, self.prefix))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features; a side that is no multiple of the patch is padded on the right or at the bottom."""
        tokens = self.encode(self.embed(image))  # (b, p + n, d)
        grid = self.patch_embed.grid(image)
        plane = tokens[:, self.prefix :].transpose(1, 2).reshape(-1, self.width, *grid)  # (b, d, h / p, w / p)
        return Features((plane,), pool_tokens(tokens, self.prefix, self.config.pool))

    def embed(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> patch tokens with positions (b, n, d), without those that ``mask`` (b, n) hides.

        Raises:
            ValueError: the rows of ``mask`` hide different numbers of tokens.
        """
        positions = self._positions_on(self.pos_embed, self.patch_embed.grid(image))
        tokens = self.patch_embed(image) + positions[:, self.prefix :]  # (b, n, d)
        return tokens if mask is None else _visible(tokens, mask)

    def encode(self, tokens: Tensor) -> Tensor:
        """(b, m, d) -> (b, p + m, d): class token first if there is one, all blocks, last norm."""
        if self.prefix:
            first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([first, tokens], dim=1)  # (b, 1 + m, d)
        tokens = self.norm(self.blocks(tokens))
        return tokens

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Positions of another square grid, resampled."""
        return fit(tensor, self._positions_on.old, self.prefix) if name == "pos_embed" else None

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; the last norm goes with the last block."""
        groups: list[list[str]] = [[] for _ in range(1 + self.config.depth)]
        for name, _ in self.named_parameters():
            part, _, rest = name.partition(".")
            place = 1 + int(rest.partition(".")[0]) if part == "blocks" else -1 if part == "norm" else 0
            groups[place].append(name)
        return groups


def _visible(tokens: Tensor, mask: Tensor) -> Tensor:
    """The tokens (b, n, d) that ``mask`` (b, n) does not hide, in order: (b, m, d)."""
    b, n, d = tokens.shape
    seen = (~mask).sum(dim=1)
    if not bool((seen == seen[0]).all()):
        raise ValueError("every row of the mask must hide the same number of tokens")
    # index_select, because the backward pass of boolean indexing is far slower
    return tokens.reshape(b * n, d).index_select(0, (~mask).flatten().nonzero()[:, 0]).view(b, -1, d)
