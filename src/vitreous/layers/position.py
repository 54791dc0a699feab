"""Where a token stands: tables of position vectors and their resampling to another grid.

A table is (1, p + n, d): p prefix tokens (class token) that stand nowhere, then n = rows x columns patches in
reading order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitreous.layers.remember import Remembered

Grid = tuple[int, int]  # rows, columns


def sincos2d(grid: Grid, dim: int, prefix: int = 0, temperature: float = 10_000.0) -> Tensor:
    """Fixed sine-cosine table (1, p + n, d); prefix rows are zero. ``dim`` must be a multiple of 4.

    A quarter each: sin and cos of the column, sin and cos of the row, at geometrically falling frequencies
    (Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k"; Chen et al. 2021, MoCo v3, section 4.3).
    """
    if dim % 4:
        raise ValueError(f"sincos2d needs a width that is a multiple of 4, not {dim}")
    frequency = temperature ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4 - 1 or 1))  # (d/4,)
    row, column = (torch.arange(cells, dtype=torch.float64)[:, None] * frequency for cells in grid)
    row = row[:, None].expand(*grid, -1).flatten(0, 1)  # (n, d/4)
    column = column[None].expand(*grid, -1).flatten(0, 1)  # (n, d/4)
    table = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)  # (n, d)
    return torch.cat([table.new_zeros(prefix, dim), table])[None].float()


def sincos1d(length: int, dim: int, temperature: float = 10_000.0) -> Tensor:
    """Fixed sine-cosine table (1, n, d) of places in a sequence; ``dim`` must be even.

    Sine and cosine of one frequency stand side by side (Vaswani et al. 2017, section 3.5).
    """
    if dim % 2:
        raise ValueError(f"sincos1d needs an even width, not {dim}")
    frequency = temperature ** -(torch.arange(dim // 2, dtype=torch.float64) * 2 / dim)  # (d/2,)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency  # (n, d/2)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[None].float()


def resample(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """The table (1, p + n, d) of grid ``old`` on grid ``new``, bicubic with antialias; prefix rows are kept.

    Computed in float32 and returned in the table's dtype.
    """
    if old == new:
        return table
    prefix = table.shape[1] - old[0] * old[1]
    plane = table[:, prefix:].float().reshape(1, *old, -1).permute(0, 3, 1, 2)  # (1, d, h, w)
    plane = F.interpolate(plane, size=new, mode="bicubic", antialias=True)
    moved = plane.flatten(2).transpose(1, 2).to(table.dtype)  # (1, n', d)
    return torch.cat([table[:, :prefix], moved], dim=1)


def fit(table: Tensor, new: Grid, prefix: int) -> Tensor | None:
    """A table (1, p + n, d) of some square grid on grid ``new``; None if its patches do not fill a square."""
    if table.ndim != 3 or table.shape[0] != 1:
        return None
    side = math.isqrt(max(table.shape[1] - prefix, 0))
    return resample(table, (side, side), new) if side and prefix + side * side == table.shape[1] else None


def resample_offsets(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """((2h - 1)(2w - 1), heads) -> what belongs to each offset of two cells, stretched for windows of ``new`` cells."""
    (h, w), (p, q) = old, new
    return resample(table[None], (2 * h - 1, 2 * w - 1), (2 * p - 1, 2 * q - 1))[0]


def fit_offsets(table: Tensor, like: Tensor) -> Tensor | None:
    """A table of offsets of some square window with as many rows as ``like``; None if its rows do not fill a square."""
    side = math.isqrt(len(like))
    fitted = fit(table[None], (side, side), 0)
    return None if fitted is None else fitted[0]


class Resampled:
    """``resample`` that remembers its last answers while the table stays the same and no gradient is wanted."""

    def __init__(self, old: Grid, keep: int = 8) -> None:
        self.old = old
        self._remembered = Remembered(keep)

    def __call__(self, table: Tensor, new: Grid) -> Tensor:
        """The table on grid ``new``; differentiable whenever gradients are enabled."""
        return self._remembered(new, [table], lambda: resample(table, self.old, new))
