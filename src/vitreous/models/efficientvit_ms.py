"""EfficientViT of Microsoft: a transformer that saves memory traffic, and whose heads pass on what they saw.

Liu et al. 2023, "EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention". Attention moves more
memory than it computes, so a block has one of it between two pairs of cheap layers (the sandwich, section 3.1). A head
sees its own share of the channels, plus the output of the head before it (the cascade).

MIT has an unrelated network of the same name (``efficientvit``, models b0 to b3), and nobody has an "xs": see there.
Weights start as in the authors' code: every branch of a block ends in a norm that is zero.

Pictures of any size are accepted. Windows keep their side, and a learned bias belongs to an offset in cells, so nothing
is resampled when a picture is larger or smaller than ``size``. A map narrower than a window is one window. A window
that reaches over the right or lower edge is filled up with zeros that no query sees: its cells get the answer of a
window that ends at the edge. (timm lets queries see the filling; at 224 pixels there is none.) While training, filled
cells count in the statistics of the norm on the queries. A network built for another ``size`` may have other windows;
then ``fitted`` resamples the table of biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitreous.errors import UsageError
from vitreous.layers.attention import Attend
from vitreous.layers.blocks import Blocks
from vitreous.layers.conv import ConvNorm
from vitreous.layers.norm import DropPath, depth_rates
from vitreous.layers.position import fit_offsets
from vitreous.layers.squeeze import SqueezeExcite
from vitreous.models.backbone import Backbone
from vitreous.types import Features

Sides = tuple[int, int]  # rows, columns


@dataclass(frozen=True, kw_only=True)
class EfficientViTMSConfig:
    """Everything that makes one EfficientViT-M another."""

    size: int = 224  # side of the square picture for which windows are chosen
    channels: int = 3  # of the picture
    widths: tuple[int, ...]  # of the three stages
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    kernels: tuple[int, ...]  # of the depthwise convolution on the queries, a head
    window: int = 7  # side in cells; less where the map is smaller
    key: int = 16  # width of queries and keys of a head; values have the width of the head's share
    drop_path: float = 0.0  # rate of the last block, earlier ones linearly less

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.depths) == len(self.heads) or not self.widths:
            raise UsageError("An EfficientViT-M needs as many depths and heads as widths.")
        if min(*self.widths, *self.depths, *self.heads, self.size, self.channels, self.window, self.key) < 1:
            raise UsageError(
                "Size, channels, widths, depths, heads, window and key of an EfficientViT-M are at least 1."
            )
        if self.widths[0] % 8:
            raise UsageError(f"The first width of an EfficientViT-M is a multiple of 8, not {self.widths[0]}.")
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % heads:
                raise UsageError(f"Width {width} is not a multiple of {heads} heads; choose others.")
        if len(self.kernels) < max(self.heads) or not all(kernel % 2 for kernel in self.kernels):
            raise UsageError(f"kernels needs an odd number for each of {max(self.heads)} heads.")


class Slice(nn.Module):
    """A slice of the sandwich's bread: depthwise 3x3 convolution, then widen and narrow; both are added to x."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.dw = ConvNorm(dim, dim, 3, groups=dim)
        self.pw1 = ConvNorm(dim, 2 * dim, 1, activation=nn.ReLU(inplace=True))
        self.pw2 = ConvNorm(2 * dim, dim, 1)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        x = self.drop_path(self.dw(x)).add_(x)
        x = self.drop_path(self.pw2(self.pw1(x))).add_(x)
        return x


class CascadedAttention(nn.Module):
    """Attention within windows, head after head (the paper's equations 2 and 3)."""

    offsets: Tensor

    def __init__(self, config: EfficientViTMSConfig, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window, self.key, share = window, config.key, dim // heads
        self.qkvs = nn.ModuleList(ConvNorm(share, 2 * self.key + share, 1) for _ in range(heads))
        self.dws = nn.ModuleList(
            ConvNorm(self.key, self.key, kernel, groups=self.key) for kernel in config.kernels[:heads]
        )
        self.attention_biases = nn.Parameter(torch.empty(heads, window**2))
        self.register_buffer("offsets", torch.empty((window,) * 4, dtype=torch.long), persistent=False)
        self.attend = Attend()
        self.proj = ConvNorm(dim, dim, 1)

    def reset_parameters(self) -> None:
        """Biases zero; the bias of offset (i, j), either way, stands at i * window + j."""
        nn.init.zeros_(self.attention_biases)
        with torch.no_grad():
            cells = torch.arange(self.window, device=self.offsets.device)
            apart = (cells[:, None] - cells).abs()  # (window, window)
            self.offsets.copy_(apart[:, None, :, None] * self.window + apart[None, :, None, :])

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        h, w = x.shape[-2:]
        sides = p, q = min(self.window, h), min(self.window, w)
        m = -(-h // p) * -(-w // q)
        shares = x.chunk(len(self.qkvs), dim=1)
        outputs: list[Tensor] = []
        for share, qkv, dw, bias in zip(shares, self.qkvs, self.dws, self._biases(x, sides), strict=True):
            y = qkv(share + outputs[-1] if outputs else share)  # (b, 2 key + d_v, h, w)
            y = _windows(y, sides)  # (b m, 2 key + d_v, p, q)
            queries = rearrange(dw(y[:, : self.key]), "(b m) k p q -> b m (p q) k", m=m)
            keys, values = rearrange(y[:, self.key :], "(b m) c p q -> b m (p q) c", m=m).tensor_split((self.key,), -1)
            y = self.attend(queries, keys, values, bias.to(queries.dtype))  # (b, m, n, d_v)
            outputs.append(_map(y, sides, (h, w)))  # (b, d_v, h, w)
        x = F.relu_(torch.cat(outputs, dim=1))
        x = self.proj(x)
        return x

    def _biases(self, x: Tensor, sides: Sides) -> Tensor:
        """What is added to the scores: (heads, n, n), or (heads, m, n, n) where zeros fill up windows."""
        (h, w), (p, q) = x.shape[-2:], sides
        bias = self.attention_biases[:, self.offsets[:p, :q, :p, :q].reshape(p * q, p * q)]
        if h % p or w % q:
            inside = _windows(x.new_ones(1, 1, h, w), sides).flatten(1) > 0  # (m, n)
            bias = bias[:, None].masked_fill(~inside[:, None], -math.inf)
        return bias


def _windows(x: Tensor, sides: Sides) -> Tensor:
    """(b, c, h, w) -> (b m, c, p, q) in reading order; zeros fill up what reaches over the right and lower edge."""
    (h, w), (p, q) = x.shape[-2:], sides
    if (h, w) == sides:
        return x
    if h % p or w % q:
        x = F.pad(x, (0, -w % q, 0, -h % p))
    return rearrange(x, "b c (y p) (x q) -> (b y x) p q c", p=p, q=q).permute(0, 3, 1, 2)


def _map(x: Tensor, sides: Sides, size: Sides) -> Tensor:
    """(b, m, n, c) -> (b, c, h, w): the windows put together again, without what filled them up."""
    h, w = size
    x = rearrange(x, "b (y x) (p q) c -> b (y p) (x q) c", y=-(-h // sides[0]), p=sides[0]).permute(0, 3, 1, 2)
    return x[:, :, :h, :w]


class Block(nn.Module):
    """The sandwich: attention between two slices (the paper's figure 6b)."""

    def __init__(self, config: EfficientViTMSConfig, dim: int, heads: int, window: int, drop_path: float) -> None:
        super().__init__()
        self.before = Slice(dim, drop_path)
        self.attn = CascadedAttention(config, dim, heads, window)
        self.drop_path = DropPath(drop_path)
        self.after = Slice(dim, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, d, h, w) -> (b, d, h, w)"""
        x = self.before(x)
        x = self.drop_path(self.attn(x)).add_(x)
        x = self.after(x)
        return x


class Subsample(nn.Module):
    """The sandwich with an inverted residual of stride 2 in place of attention (section 3.2)."""

    def __init__(self, inputs: int, outputs: int, drop_path: float) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.before = Slice(inputs, drop_path)
        self.conv1 = ConvNorm(inputs, hidden, 1, activation=nn.ReLU(inplace=True))
        self.conv2 = ConvNorm(hidden, hidden, 3, 2, groups=hidden, activation=nn.ReLU(inplace=True))
        self.se = SqueezeExcite(hidden, hidden // 4)
        self.conv3 = ConvNorm(hidden, outputs, 1)
        self.after = Slice(outputs, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / 2, w / 2)"""
        x = self.before(x)
        x = self.conv1(x)  # (b, 4 c, h, w)
        x = self.conv2(x)  # (b, 4 c, h / 2, w / 2)
        x = self.se(x)
        x = self.conv3(x)
        x = self.after(x)
        return x


class EfficientViTMS(Backbone):
    """(b, c, h, w) -> one map a stage, at strides 16, 32 and 64, and the mean of the last one, normalised."""

    layout = torch.channels_last
    stem = "patch_embed.0.conv"
    adapts = ("window",)

    def __init__(self, config: EfficientViTMSConfig) -> None:
        super().__init__()
        self.config = config
        self.dims, self.width = config.widths, config.widths[-1]
        self.strides = tuple(16 * 2**i for i in range(len(self.dims)))

        d, relu = self.dims[0], nn.ReLU(inplace=True)
        self.patch_embed = nn.Sequential(
            ConvNorm(config.channels, d // 8, 3, 2, activation=relu),
            ConvNorm(d // 8, d // 4, 3, 2, activation=relu),
            ConvNorm(d // 4, d // 2, 3, 2, activation=relu),
            ConvNorm(d // 2, d, 3, 2),
        )
        rates = iter(depth_rates(config.drop_path, sum(config.depths) + len(self.dims) - 1))
        self.stages = nn.ModuleList()
        for i, (width, depth, heads) in enumerate(zip(self.dims, config.depths, config.heads, strict=True)):
            window = min(config.window, -(-config.size // self.strides[i]))
            blocks: list[nn.Module] = [Subsample(self.dims[i - 1], width, next(rates))] if i else []
            blocks += [Block(config, width, heads, window, next(rates)) for _ in range(depth)]
            self.stages.append(Blocks(*blocks))
        # stands before a classifier; in two dimensions like all others, and not folded, because ``pooled`` is public
        self.norm = nn.BatchNorm2d(self.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fresh weights as torch draws them; norms that end a branch zero, but for depthwise ones of ``Subsample``."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, CascadedAttention)):
                module.reset_parameters()
        for module in self.modules():
            ends: list[ConvNorm] = []
            if isinstance(module, Slice):
                ends = [module.pw2]
            elif isinstance(module, Block):
                ends = [module.before.dw, module.attn.proj, module.after.dw]
            for end in ends:
                nn.init.zeros_(end.get_parameter("norm.weight"))

    def forward(self, image: Tensor) -> Features:
        """(b, c, h, w) -> Features with maps at ``strides``, each side rounded up.

        Raises:
            UsageError: one picture alone in training; the last norm has nothing else to compare it with.
        """
        if self.norm.training and image.shape[0] == 1:
            raise UsageError(
                "EfficientViT-M ends in a batch norm of one vector a picture, so it trains on batches of 2 or more."
            )
        x = self.patch_embed(image)  # (b, d_0, h / 16, w / 16)
        maps = []
        for stage in self.stages:
            x = stage(x)  # (b, d_i, h_i, w_i)
            maps.append(x)
        pooled = self.norm(x.mean(dim=(2, 3), keepdim=True)).flatten(1)  # (b, width)
        return Features(tuple(maps), pooled)

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Biases of windows of another side, resampled: a table of offsets is stretched like a picture, bicubic."""
        if not name.endswith("attention_biases") or tensor.ndim != 2:
            return None
        table = fit_offsets(tensor.t(), self.get_parameter(name).t())  # (offsets, heads)
        return None if table is None else table.t().contiguous()

    def groups(self) -> list[list[str]]:
        """Stem, then one list a block; the last norm goes with the last block."""
        groups: dict[str, list[str]] = {}
        for name, _ in self.named_parameters():
            parts = name.split(".")
            key = ".".join(parts[:3]) if parts[0] == "stages" else parts[0]
            groups.setdefault(key, []).append(name)
        last = groups.pop("norm")
        groups[next(reversed(groups))] += last
        return list(groups.values())
