"""CCT: a small transformer for small sets, that learns its patches with convolutions and weighs its tokens.

Hassani et al. 2021, "Escaping the Big Data Paradigm with Compact Transformers". A convolutional tokenizer takes the
place of patches (section 3.3) and a learned mean of all tokens that of the class token (section 3.2). ``cct_7_3x2_32``
has 7 blocks and 2 convolutions of 3 x 3. As in the authors' code the second norm of a block lies on the main path, not
on the branch; the dropout of 0.1 that they put on the attention weights in training is left out.
Pictures of any size are accepted: positions are resampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attention
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import convolution
from vitreous.layers.mlp import Mlp
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.pool import SequencePool
from vitreous.layers.position import Resampled, fit, sincos1d
from vitreous.layers.visible import replaced, visible
from vitreous.models.backbone import TokenBackbone
from vitreous.types import Features


@dataclass(frozen=True, kw_only=True)
class CCTConfig:
    """Everything that makes one CCT another."""

    size: int = 32  # side of the square picture whose positions are learned
    channels: int = 3  # of the picture
    kernel: int = 3  # of the tokenizer's convolutions; 7 has a stride of 2
    convolutions: int = 1  # of the tokenizer, each followed by a max pooling of stride 2
    width: int
    depth: int
    heads: int
    mlp_ratio: float = 2.0
    position: Literal["learned", "sine"] = "learned"
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if min(self.size, self.channels, self.convolutions, self.width, self.depth, self.heads) < 1:
            raise UsageError("A CCT needs size, channels, convolutions, width, depth and heads of at least 1.")
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise UsageError(f"The tokenizer's kernel is odd and at least 3, not {self.kernel}; use 3 or 7.")
        if self.width % self.heads:
            raise UsageError(f"Width {self.width} is not a multiple of {self.heads} heads; choose others.")
        if not 1 <= self.width * self.mlp_ratio < math.inf:
            raise UsageError(f"mlp_ratio {self.mlp_ratio} gives an MLP without channels; use 1.0 to 4.0.")
        if self.position == "sine" and self.width % 2:
            raise UsageError(f"Position sine needs an even width, not {self.width}.")


class Stage(nn.Module):
    """Convolution, max pooling, ReLU (the paper's equation 2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / 2 stride, w / 2 stride), sides rounded up"""
        x = self.conv(x)
        x = self.pool(x)
        return x.relu_()  # after the pooling, which it does not change, there is a quarter left to do


class Block(nn.Module):
    """x + attention(norm(x)), a norm of that, then x + mlp(x)."""

    def __init__(self, config: CCTConfig, drop_path: float) -> None:
        super().__init__()
        d = config.width
        self.norm1 = nn.LayerNorm(d)
        self.attn = Attention(d, config.heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(d)
        self.mlp = Mlp(d, int(d * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d)"""
        x = self.norm2(x + self.drop_path(self.attn(self.norm1(x))))
        x = x + self.drop_path(self.mlp(x))
        return x


class CCT(TokenBackbone):
    """(b, c, h, w) -> one map (b, d, h / stride, w / stride) after the last norm, and its cells' weighted mean."""

    layout = torch.channels_last  # what the tokenizer gives is then already a sequence of tokens
    stem = "tokenizer.0.conv"
    adapts = ("position",)
    overlaps = True

    def __init__(self, config: CCTConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        stride = max(config.kernel // 2 - 1, 1)
        self.dims, self.strides = (config.width,), ((2 * stride) ** config.convolutions,)
        side = -(-config.size // self.strides[0])

        widths = (config.channels, *(64,) * (config.convolutions - 1), config.width)
        self.tokenizer = Blocks(*(Stage(c, d, config.kernel, stride) for c, d in pairwise(widths)))
        positions = torch.empty(1, side * side, config.width)
        if config.position == "learned":
            self.pos_embed = nn.Parameter(positions)
        else:
            self.register_buffer("pos_embed", positions)
        self._positions_on = Resampled((side, side))
        self.blocks = Blocks(*(Block(config, rate) for rate in depth_rates(config.drop_path, config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.pool = SequencePool(config.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights as the authors draw them: convolutions He normal, linear layers .02, positions .2."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        if self.config.position == "learned":
            nn.init.trunc_normal_(self.pos_embed, std=0.2)
        else:
            self.pos_embed.copy_(sincos1d(self.pos_embed.shape[1], self.width))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with one map at ``strides``, each side rounded up."""
        tokens = self.encode(self.embed(image))  # (b, n, d)
        plane = tokens.transpose(1, 2).unflatten(2, self._grid(image))  # (b, d, h / stride, w / stride)
        return Features((plane,), self.pool(tokens))

    def embed(self, image: Tensor, mask: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> tokens with positions (b, n, d), without those that ``mask`` (b, n) hides.

        With a ``token`` (d,) they stay, and it stands in their place. Windows of neighbouring tokens overlap: the rim
        of a hidden one shows in the next.

        Raises:
            ValueError: without a token, rows of ``mask`` that hide different numbers.
        """
        tokens = self.tokenizer(image).flatten(2).transpose(1, 2)  # (b, n, d)
        if mask is not None and token is not None:
            tokens = replaced(tokens, mask, token)
        tokens = tokens + self._positions_on(self.pos_embed, self._grid(image))
        return visible(tokens, mask) if mask is not None and token is None else tokens

    def encode(self, tokens: Tensor) -> Tensor:
        """(b, m, d) -> (b, m, d): all blocks, last norm."""
        tokens = self.norm(self.blocks(tokens))
        return tokens

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Positions of another square grid, resampled."""
        return fit(tensor, self._positions_on.old, 0) if name == "pos_embed" else None

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; the last norm and the pooling go with the last block."""
        groups: list[list[str]] = [[] for _ in range(1 + self.config.depth)]
        for name, _ in self.named_parameters():
            part, _, rest = name.partition(".")
            place = 1 + int(rest.partition(".")[0]) if part == "blocks" else -1 if part in ("norm", "pool") else 0
            groups[place].append(name)
        return groups

    def _grid(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of tokens that ``image`` gives."""
        stride = self.strides[0]
        return -(-image.shape[-2] // stride), -(-image.shape[-1] // stride)
