"""Windows: attention among the cells of one small rectangle of a grid, and the shift that joins the rectangles.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", section 3.2.

The arrangement. A grid of cells is filled up to whole windows, rolled up and to the left by the shift, and cut into
windows (figure 4 of the paper). After the roll the last windows hold cells from opposite edges of the picture, and what
filled the grid up. So every cell has a region: the shifted window it would lie in if nothing were rolled; what fills up
is a region of its own. Cells attend to cells of their own region and to no others, so the result is that of windows cut
off by the edge of the picture, and the rolling never shows.

Everything that has to know where a cell went (masks, the order of cells in memory) is found by sending a picture of
region numbers or of cell numbers along the same way, ``to_windows``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitreous.layers.blocks import Blocks
from vitreous.layers.norm import DropPath
from vitreous.layers.remember import Remembered

Grid = tuple[int, int]  # rows, columns

_PIECE = 2**18  # numbers that a piece of the tokens holds, so that what is computed from them stays in a core's cache


@dataclass(frozen=True)
class Layout:
    """How a grid of cells is cut into windows of (p, q) cells, after rolling it by ``shift``."""

    grid: Grid
    window: Grid
    shift: Grid = (0, 0)

    @classmethod
    def of(cls, grid: Grid, side: int, shifted: bool) -> Layout:
        """Square windows of ``side`` cells; where the grid is no larger, one window as large as it, and no shift."""
        window = (min(side, grid[0]), min(side, grid[1]))
        rows, columns = (side // 2 if shifted and cells > side else 0 for cells in grid)
        return cls(grid, window, (rows, columns))

    @property
    def counts(self) -> Grid:
        """Windows in a column and in a row of windows."""
        (h, w), (p, q) = self.grid, self.window
        return -(-h // p), -(-w // q)

    @property
    def filled(self) -> Grid:
        """The grid with what fills it up to whole windows."""
        return self.counts[0] * self.window[0], self.counts[1] * self.window[1]

    @property
    def masked(self) -> bool:
        """Whether some window holds more than one region."""
        return self.shift != (0, 0) or self.filled != self.grid


def partition(x: Tensor, window: Grid) -> Tensor:
    """(b, h, w, d) -> (b m, p, q, d): the m windows of each picture in reading order."""
    return rearrange(x, "b (y p) (x q) d -> (b y x) p q d", p=window[0], q=window[1])


def reverse(windows: Tensor, window: Grid, grid: Grid) -> Tensor:
    """(b m, p, q, d) -> (b, h, w, d): the inverse of ``partition``."""
    y, x = grid[0] // window[0], grid[1] // window[1]
    return rearrange(windows, "(b y x) p q d -> b (y p) (x q) d", y=y, x=x)


def to_windows(x: Tensor, layout: Layout, fill: int = 0) -> Tensor:
    """(b, h, w, d) -> (b m, p, q, d)"""
    (h, w), (rows, columns) = layout.grid, layout.filled
    if (rows, columns) != (h, w):
        x = F.pad(x, (0, 0, 0, columns - w, 0, rows - h), value=fill)
    if layout.shift != (0, 0):
        x = x.roll((-layout.shift[0], -layout.shift[1]), dims=(1, 2))
    return partition(x, layout.window)


def from_windows(windows: Tensor, layout: Layout) -> Tensor:
    """(b m, p, q, d) -> (b, h, w, d): the inverse of ``to_windows``."""
    x = reverse(windows, layout.window, layout.filled)
    if layout.shift != (0, 0):
        x = x.roll(layout.shift, dims=(1, 2))
    return x[:, : layout.grid[0], : layout.grid[1]]


def regions(layout: Layout, device: torch.device) -> Tensor:
    """(1, h, w, 1): number of the shifted window that a cell would lie in if nothing were rolled; 0 is for filling."""
    rows, columns = (
        (torch.arange(cells, device=device) - shift) // side + 2  # from 1 on
        for cells, side, shift in zip(layout.grid, layout.window, layout.shift, strict=True)
    )
    return (rows[:, None] * (layout.counts[1] + 2) + columns)[None, :, :, None]


def kinds(layout: Layout) -> tuple[list[int], list[int]]:
    """(the first window of each kind, the kind of each window); windows of one kind have the same mask.

    Those that hold a single region are of one kind; only the last one or two of an axis hold more.
    """
    rows, columns = (
        [i if i >= (cells - shift) // side else 0 for i in range(count)]
        for cells, side, shift, count in zip(layout.grid, layout.window, layout.shift, layout.counts, strict=True)
    )
    like = [row * layout.counts[1] + column for row in rows for column in columns]
    number = {window: i for i, window in enumerate(sorted(set(like)))}
    return list(number), [number[window] for window in like]


def hidden(layout: Layout, device: torch.device) -> Tensor:
    """(k, 1, n, n) bool, for each kind of window: true where a cell does not attend to a cell of another region."""
    cells = to_windows(regions(layout, device), layout).flatten(1)  # (m, n)
    cells = cells[kinds(layout)[0]]  # (k, n)
    return cells[:, None, :, None] != cells[:, None, None, :]


def offsets(window: Grid, device: torch.device) -> Tensor:
    """(n, n): where the offset from cell j to cell i stands in a table of all (2p - 1)(2q - 1) offsets."""
    p, q = window
    rows, columns = (torch.arange(side, device=device) for side in window)
    down = (rows[:, None] - rows + p - 1)[:, None, :, None]  # (p, 1, p, 1)
    right = (columns[:, None] - columns + q - 1)[None, :, None, :]  # (1, q, 1, q)
    return (down * (2 * q - 1) + right).reshape(p * q, p * q)


def places(layout: Layout, b: int, device: torch.device) -> Tensor:
    """(b m, n): which of the b h w cells lies at each place of each window; b h w where something fills up."""
    h, w = layout.grid
    numbers = torch.arange(b * h * w, device=device).view(b, h, w, 1)
    return to_windows(numbers, layout, fill=b * h * w).flatten(1)


class Biases:
    """What is added to the scores of each kind of window: the bias of every offset, minus infinity across regions."""

    def __init__(self) -> None:
        self._geometry = Remembered()
        self._sums = Remembered()

    def __call__(self, layout: Layout, weights: Sequence[Tensor], table: Callable[[], Tensor]) -> Tensor:
        """(k, heads, n, n) from ``table()``, ((2p - 1)(2q - 1), heads), that is made of ``weights``."""
        return self._sums(layout, weights, lambda: self._sum(layout, table()))

    def _sum(self, layout: Layout, table: Tensor) -> Tensor:
        window, device = layout.window, table.device
        where = self._geometry((window, device), (), lambda: offsets(window, device))  # (n, n)
        bias = table.index_select(0, where.flatten()).view(*where.shape, -1).permute(2, 0, 1)[None]  # (1, heads, n, n)
        if not layout.masked:
            return bias.contiguous()
        across = self._geometry((layout, device), (), lambda: hidden(layout, device))  # (k, 1, n, n)
        return torch.where(across, -math.inf, bias)


class WindowBlock(nn.Module, ABC):
    """A block of two branches, each added to its input: attention within windows, and what a cell does alone.

    Without gradients on a CPU the block takes the windows a few at a time. What lies between two operations then never
    leaves the cache, and no large tensor is asked of the system: on two cores a block of Swin-T's first stage takes 40
    ms for 8 pictures instead of 71, and a picture of 896 pixels 110 MB instead of 350. Everywhere else, and where
    somebody watches a part of the block, it takes all of them at once.
    """

    def __init__(self, window: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.drop_path = DropPath(drop_path)
        self._geometry = Remembered()

    @abstractmethod
    def bias(self, layout: Layout) -> Tensor:
        """(k, heads, n, n): what is added to the scores of each kind of window."""

    @abstractmethod
    def within(self, windows: Tensor, bias: Tensor) -> Tensor:
        """The first branch: (m, n, d), bias (1 or m, heads, n, n) -> (m, n, d)."""

    @abstractmethod
    def alone(self, x: Tensor) -> Tensor:
        """The second branch: (..., d) -> (..., d)."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h, w, d)"""
        layout = Layout.of((x.shape[1], x.shape[2]), self.window, self.shifted)
        bias = self.bias(layout)  # (k, heads, n, n)
        kind = self._geometry((layout, x.device), (), lambda: torch.tensor(kinds(layout)[1], device=x.device))  # (m,)
        if self._may_take_pieces(x):
            return self._by_pieces(x, layout, bias, kind)
        windows = to_windows(x, layout)  # (b m, p, q, d)
        mixed = self.within(windows.flatten(1, 2), _of_kind(bias, kind.repeat(x.shape[0])))  # (b m, n, d)
        x = x + self.drop_path(from_windows(mixed.unflatten(1, layout.window), layout))
        x = x + self.drop_path(self.alone(x))
        return x

    def _may_take_pieces(self, x: Tensor) -> bool:
        """Whether pieces differ from the whole in nothing but time and memory."""
        if not x.is_cpu or x.numel() <= _PIECE:
            return False
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        return not any(part._forward_hooks or part._forward_pre_hooks for part in self.modules() if part is not self)

    def _by_pieces(self, x: Tensor, layout: Layout, bias: Tensor, kind: Tensor) -> Tensor:
        """The same; cells are gathered from their rows and put back there, one piece after another."""
        b, h, w, d = x.shape
        cells, kind = x.reshape(-1, d), kind.repeat(b)  # (b h w, d), (b m,)
        rows = self._geometry((layout, b), (), lambda: places(layout, b, x.device))  # (b m, n)
        out = x.new_empty(b * h * w + 1, d)  # the last row takes what comes of the filling
        size = max(1, _PIECE // (rows.shape[1] * d))
        for row, like in zip(rows.split(size), kind.split(size), strict=True):
            windows = cells.index_select(0, row.flatten().clamp(max=b * h * w - 1)).view(*row.shape, d)
            windows.add_(self.within(windows, _of_kind(bias, like)))  # (size, n, d)
            out.index_copy_(0, row.flatten(), windows.view(-1, d))
        for piece in out[:-1].split(max(1, _PIECE // d)):
            piece.add_(self.alone(piece))
        return out[:-1].view(b, h, w, d)


def _of_kind(bias: Tensor, kind: Tensor) -> Tensor:
    """The bias of each window, (m, heads, n, n); (1, heads, n, n) where all are of one kind."""
    return bias if len(bias) == 1 else bias.index_select(0, kind)


class WindowStage(nn.Module):
    """Perhaps neighbours merged, then blocks whose windows are shifted every second time."""

    def __init__(self, downsample: nn.Module, blocks: Iterable[WindowBlock]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = Blocks(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h', w', d')"""
        x = self.downsample(x)
        x = self.blocks(x)
        return x


class Quarter(nn.Module):
    """Neighbouring cells, two by two, as one cell of four times the width; zeros fill up odd rows and columns."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h / 2, w / 2, 4 d): upper left, lower left, upper right, lower right"""
        h, w = x.shape[1:3]
        if h % 2 or w % 2:
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        return rearrange(x, "b (y p) (x q) d -> b y x (q p d)", p=2, q=2)
