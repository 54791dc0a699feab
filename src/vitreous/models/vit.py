"""ViT: a picture as a sequence of patches through a plain transformer encoder.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale". What later work
changed is a field of the config:

- Touvron et al. 2021, DeiT: a distillation token beside the class token (``pool="distilled"``).
- Touvron et al. 2022, DeiT III: LayerScale, and no position for the class token.
- Beyer et al. 2022, "Better plain ViT baselines": the mean of the patches, fixed sine-cosine positions.
- He et al. 2022, MAE: fine-tuned on the mean of the patches, with the last norm after it (``pool="mae"``).
- Oquab et al. 2023, DINOv2: LayerScale, SwiGLU in the largest; Darcet et al. 2024: registers, tokens nobody reads.

Parameters carry timm's names. Pictures of any size are accepted: they are padded to whole patches and positions are
resampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attention
from vitreous.layers.blocks import Blocks
from vitreous.layers.mlp import Mlp, SwiGLU
from vitreous.layers.norm import DropPath, LayerScale, depth_rates
from vitreous.layers.patch import PatchEmbed, resample_kernel
from vitreous.layers.pool import Pool, pool_tokens
from vitreous.layers.position import Resampled, fit, sincos2d
from vitreous.layers.visible import replaced, visible
from vitreous.models.backbone import TokenBackbone
from vitreous.types import Features

_SUMMARIES = {
    "token": 1,
    "distilled": 2,
    "avg": 0,
    "mae": 1,
    "both": 1,
}  # class and distillation tokens of each pooling


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Everything that makes one ViT another.

    ``size`` must be a multiple of the patch, because one position is learned for each whole patch; pictures need not be
    of that size, and sides that are no multiple are padded.
    """

    size: int = 224  # side of the square picture whose positions are learned
    patch: int = 16
    channels: int = 3  # of the picture
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 4.0
    mlp: Literal["gelu", "swiglu"] = "gelu"
    pool: Pool = "token"  # what the picture's summary is, and with it which tokens there are
    registers: int = 0  # further tokens, without position, that nobody reads
    position: Literal["learned", "sincos"] = "learned"
    class_position: bool = True  # whether class and distillation token have rows in the table of positions
    qkv_bias: bool = True
    layer_scale: float | None = None  # start of LayerScale, None leaves it out
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if min(self.size, self.patch, self.channels, self.width, self.depth, self.heads) < 1:
            raise UsageError("A ViT needs size, patch, channels, width, depth and heads of at least 1.")
        if self.registers < 0:
            raise UsageError(f"A ViT cannot have {self.registers} registers; use 0 or more.")
        if self.size % self.patch:
            near = max(round(self.size / self.patch), 1) * self.patch
            raise UsageError(f"Size {self.size} is not a multiple of the patch {self.patch}; use {near}.")
        if self.width % self.heads:
            raise UsageError(f"Width {self.width} is not a multiple of {self.heads} heads; choose others.")
        if not 1 <= self.width * self.mlp_ratio < math.inf:
            raise UsageError(f"mlp_ratio {self.mlp_ratio} gives an MLP without channels; use 1.0 to 4.0.")
        if self.position == "sincos" and self.width % 4:
            raise UsageError(f"Position sincos needs a width that is a multiple of 4, not {self.width}.")


class Block(nn.Module):
    """Pre-norm encoder block: x + attention(norm(x)), then x + mlp(norm(x)) (the paper's equations 2 and 3)."""

    followed: ClassVar = (("attn.proj", "ls1"), ("mlp.fc2", "ls2"))

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        d, scale = config.width, config.layer_scale
        self.norm1 = nn.LayerNorm(d, eps=1e-6)
        self.attn = Attention(d, config.heads, config.qkv_bias)
        self.ls1 = nn.Identity() if scale is None else LayerScale(d, scale)
        self.norm2 = nn.LayerNorm(d, eps=1e-6)
        self.mlp = (Mlp if config.mlp == "gelu" else SwiGLU)(d, int(d * config.mlp_ratio))
        self.ls2 = nn.Identity() if scale is None else LayerScale(d, scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        x = x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        return x


class ViT(TokenBackbone):
    """(b, c, h, w) -> one map (b, d, h / patch, w / patch) after the last norm, and the pooled vector.

    With ``pool="mae"`` the norm comes after pooling, and the map is not normalised.
    """

    stem = "patch_embed.proj"
    adapts = ("patch", "pool", "position")

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        d, summaries = config.width, _SUMMARIES[config.pool]
        self.width = 2 * d if config.pool in ("distilled", "both") else d
        self.dims, self.strides = (d,), (config.patch,)
        self.summaries = max(summaries, 1)
        self.prefix = summaries + config.registers
        self._placed = summaries if config.class_position else 0  # prefix tokens that have a position
        side = config.size // config.patch

        self.patch_embed = PatchEmbed(config.patch, d, config.channels)
        self.cls_token = nn.Parameter(torch.empty(1, 1, d)) if summaries > 0 else None
        self.dist_token = nn.Parameter(torch.empty(1, 1, d)) if summaries > 1 else None
        self.reg_token = nn.Parameter(torch.empty(1, config.registers, d)) if config.registers else None
        positions = torch.empty(1, self._placed + side * side, d)
        if config.position == "learned":
            self.pos_embed = nn.Parameter(positions)
        else:
            self.register_buffer("pos_embed", positions)
        self._positions_on = Resampled((side, side))
        self.blocks = Blocks(*(Block(config, rate) for rate in depth_rates(config.drop_path, config.depth)))
        after = config.pool == "mae"
        self.norm = nn.Identity() if after else nn.LayerNorm(d, eps=1e-6)
        self.fc_norm = nn.LayerNorm(d, eps=1e-6) if after else nn.Identity()
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
        for token, std in ((self.cls_token, 1e-6), (self.dist_token, 0.02), (self.reg_token, 1e-6)):
            if token is not None:
                nn.init.normal_(token, std=std)
        if self.config.position == "learned":
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        else:
            self.pos_embed.copy_(sincos2d(self._positions_on.old, self.config.width, self._placed))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features; a side that is no multiple of the patch is padded on the right or at the bottom."""
        tokens = self.encode(self.embed(image))  # (b, p + n, d)
        grid = self.patch_embed.grid(image)
        plane = tokens[:, self.prefix :].transpose(1, 2).unflatten(2, grid)  # (b, d, h / p, w / p)
        return Features((plane,), self.fc_norm(pool_tokens(tokens, self.prefix, self.config.pool)))

    def embed(self, image: Tensor, mask: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> patch tokens with positions (b, n, d), without those that ``mask`` (b, n) hides.

        With a ``token`` (d,) they stay, and it stands in their place.

        Raises:
            ValueError: without a token, rows of ``mask`` that hide different numbers.
        """
        positions = self._positions_on(self.pos_embed, self.patch_embed.grid(image))[:, self._placed :]  # (1, n, d)
        if mask is not None and token is None:
            seen: Tensor = self.patch_embed(image, mask)  # (b, m, d)
            return seen + visible(positions.expand(len(mask), -1, -1), mask)
        tokens: Tensor = self.patch_embed(image)  # (b, n, d)
        return (tokens if mask is None or token is None else replaced(tokens, mask, token)) + positions

    def encode(self, tokens: Tensor) -> Tensor:
        """(b, m, d) -> (b, p + m, d): prefix tokens first, all blocks, last norm."""
        if self.prefix:
            tokens = torch.cat([self._first().expand(tokens.shape[0], -1, -1), tokens], dim=1)  # (b, p + m, d)
        tokens = self.norm(self.blocks(tokens))
        return tokens

    def _first(self) -> Tensor:
        """Class token, distillation token and registers, those that there are, with their positions: (1, p, d)."""
        tokens = torch.cat([t for t in (self.cls_token, self.dist_token, self.reg_token) if t is not None], dim=1)
        placed = self._placed
        return torch.cat([tokens[:, :placed] + self.pos_embed[:, :placed], tokens[:, placed:]], dim=1)

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Positions of another square grid and patches of another size, resampled."""
        if name == "pos_embed":
            return fit(tensor, self._positions_on.old, self._placed)
        if name == "patch_embed.proj.weight" and tensor.ndim == 4:
            return resample_kernel(tensor, self.config.patch)
        return None

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; the last norm goes with the last block."""
        groups: list[list[str]] = [[] for _ in range(1 + self.config.depth)]
        for name, _ in self.named_parameters():
            part, _, rest = name.partition(".")
            place = 1 + int(rest.partition(".")[0]) if part == "blocks" else -1 if part in ("norm", "fc_norm") else 0
            groups[place].append(name)
        return groups
