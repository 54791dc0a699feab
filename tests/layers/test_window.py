"""Windows against the paper's definition, written down cell by cell."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from vitreous.layers import window
from vitreous.layers.attention import Attend
from vitreous.layers.window import (
    Biases,
    Layout,
    Quarter,
    WindowBlock,
    from_windows,
    hidden,
    kinds,
    offsets,
    partition,
    places,
    regions,
    reverse,
    to_windows,
)

CPU = torch.device("cpu")
GRIDS = [(8, 8), (12, 4), (7, 9), (5, 13), (9, 5), (3, 6), (1, 10), (4, 4), (2, 3), (1, 1), (11, 11)]
LAYOUTS = [Layout.of(grid, side, shifted) for grid in GRIDS for side in (1, 3, 4) for shifted in (False, True)]


def shifted_window(cell: int, side: int, shift: int) -> int:
    """Number of the window of an axis that a cell lies in, where windows begin at ``shift`` and nothing is rolled."""
    return math.floor((cell - shift) / side)


def together(layout: Layout) -> Tensor:
    """(n, n) bool: which cells of the grid lie in one window, from the definition."""
    (p, q), (s, t) = layout.window, layout.shift
    cells = list(itertools.product(range(layout.grid[0]), range(layout.grid[1])))
    lies = [(shifted_window(y, p, s), shifted_window(x, q, t)) for y, x in cells]
    return torch.tensor([[a == b for b in lies] for a in lies])


def test_partition_cuts_and_reverse_puts_together() -> None:
    x = torch.randn(3, 56, 56, 96)
    windows = partition(x, (7, 7))
    assert windows.shape == (192, 7, 7, 96)
    assert torch.equal(windows[64 + 8 + 2], x[1, 7:14, 14:21])  # of the second picture, second row, third window
    assert torch.equal(reverse(windows, (7, 7), (56, 56)), x)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_windows_can_be_undone(layout: Layout) -> None:
    x = torch.randn(2, *layout.grid, 3)
    windows = to_windows(x, layout)
    assert windows.shape == (2 * math.prod(layout.counts), *layout.window, 3)
    assert torch.equal(from_windows(windows, layout), x)


def test_the_shift_moves_cells_up_and_to_the_left() -> None:
    x = torch.arange(64.0).view(1, 8, 8, 1)
    windows = to_windows(x, Layout.of((8, 8), 4, True))
    assert torch.equal(windows[0, ..., 0], x[0, 2:6, 2:6, 0])


@pytest.mark.parametrize(
    ("grid", "side", "shifted", "window", "shift"),
    [
        ((56, 56), 7, False, (7, 7), (0, 0)),
        ((56, 56), 7, True, (7, 7), (3, 3)),
        ((14, 7), 7, True, (7, 7), (3, 0)),  # an axis that one window spans is not shifted
        ((8, 5), 7, True, (7, 5), (3, 0)),
        ((3, 2), 7, True, (3, 2), (0, 0)),
    ],
)
def test_windows_are_never_larger_than_the_grid(
    grid: tuple[int, int], side: int, shifted: bool, window: tuple[int, int], shift: tuple[int, int]
) -> None:
    layout = Layout.of(grid, side, shifted)
    assert (layout.window, layout.shift) == (window, shift)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_masks_let_cells_of_one_shifted_window_see_each_other_and_nothing_else(layout: Layout) -> None:
    n = layout.grid[0] * layout.grid[1]
    place = places(layout, 1, CPU)  # (m, n)
    first, kind = kinds(layout)
    mask = hidden(layout, CPU)[kind, 0]  # (m, n, n)
    assert len(first) <= 9 and len(mask) == len(place) == math.prod(layout.counts)
    assert sorted(place[place < n].tolist()) == list(range(n))  # every cell stands in one place
    sees = torch.zeros(n + 1, n + 1, dtype=torch.bool)  # the last is what fills up
    for cells, away in zip(place, mask, strict=True):
        assert not away.diagonal().any()  # whatever stands there sees itself: no row of the softmax is empty
        sees[cells[:, None], cells] |= ~away
    assert torch.equal(sees[:n, :n], together(layout))
    assert not sees[:n, n].any() and not sees[n, :n].any()
    assert layout.masked == bool(mask.any()) or layout.window == (1, 1)


def test_most_windows_are_of_one_kind() -> None:
    assert kinds(Layout.of((56, 56), 7, False))[0] == [0]
    first, kind = kinds(Layout.of((56, 56), 7, True))
    assert first == [0, 7, 56, 63] and [kind.count(i) for i in range(4)] == [49, 7, 7, 1]


def test_the_picture_of_regions_is_that_of_figure_4() -> None:
    image = regions(Layout.of((56, 56), 7, True), CPU)
    assert image.shape == (1, 56, 56, 1)
    rows = image[0, :, 0, 0]
    assert [int((rows == r).sum()) for r in rows.unique()] == [3, 7, 7, 7, 7, 7, 7, 7, 4]
    assert len(image.unique()) == 81 and int(image.min()) > 0


@pytest.mark.parametrize("size", [(7, 7), (3, 5), (1, 4), (1, 1)])
def test_offsets_point_into_a_table_of_all_of_them(size: tuple[int, int]) -> None:
    p, q = size
    cells = list(itertools.product(range(p), range(q)))
    table = list(itertools.product(range(1 - p, p), range(1 - q, q)))
    where = offsets(size, CPU)
    for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(cells), enumerate(cells)):
        assert table[where[i, j]] == (y - v, x - u)


@pytest.mark.parametrize("grid", [(4, 6), (5, 6), (4, 3), (1, 1)])
def test_neighbours_become_one_cell(grid: tuple[int, int]) -> None:
    x = torch.randn(2, *grid, 3)
    y = Quarter()(x)
    assert y.shape == (2, -(-grid[0] // 2), -(-grid[1] // 2), 12)
    for row, column, part in itertools.product(range(grid[0]), range(grid[1]), range(3)):
        assert (y[:, row // 2, column // 2, 3 * (2 * (column % 2) + row % 2) + part] == x[:, row, column, part]).all()
    assert y.square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-5)  # what fills up is zero


class Plain(WindowBlock):
    """Attention within windows of two heads and a bias for each offset, and a linear map."""

    def __init__(self, side: int, shifted: bool, dim: int = 8, drop_path: float = 0.0) -> None:
        super().__init__(side, shifted, drop_path)
        self.side = side
        self.values = nn.Parameter(torch.randn((2 * side - 1) ** 2, 2))
        self.qkv, self.map = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attend, self.sums = Attend(), Biases()

    def table(self, size: tuple[int, int]) -> Tensor:
        """The middle of the table of the whole window."""
        (p, q), a = size, self.side
        return self.values.view(2 * a - 1, 2 * a - 1, 2)[a - p : a + p - 1, a - q : a + q - 1].reshape(-1, 2)

    def bias(self, layout: Layout) -> Tensor:
        return self.sums(layout, [self.values], lambda: self.table(layout.window))

    def within(self, windows: Tensor, bias: Tensor) -> Tensor:
        m, n, d = windows.shape
        q, k, v = self.qkv(windows).view(m, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        return self.attend(q, k, v, bias).transpose(1, 2).reshape(m, n, d)

    def alone(self, x: Tensor) -> Tensor:
        return self.map(x).tanh()


def dense(block: Plain, x: Tensor) -> Tensor:
    """The same with one attention over all cells of the picture, and minus infinity where the paper hides a cell."""
    b, h, w, d = x.shape
    layout = Layout.of((h, w), block.window, block.shifted)
    cells = list(itertools.product(range(h), range(w)))
    sees = together(layout)
    q, k, v = block.qkv(x.view(b, h * w, d)).view(b, h * w, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / math.sqrt(d // 2)
    bias = torch.full((2, h * w, h * w), -math.inf, dtype=x.dtype)
    a = block.side
    for (i, (y, z)), (j, (s, t)) in itertools.product(enumerate(cells), enumerate(cells)):
        if sees[i, j]:
            bias[:, i, j] = block.values.view(2 * a - 1, 2 * a - 1, 2)[y - s + a - 1, z - t + a - 1]
    x = x + ((scores + bias).softmax(-1) @ v).transpose(1, 2).reshape(b, h, w, d)
    return x + block.map(x).tanh()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("shifted", [False, True])
def test_rolled_windows_are_one_masked_attention(
    grid: tuple[int, int], shifted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whole and in pieces, with what fills up the last windows and without."""
    torch.manual_seed(0)
    block = Plain(4, shifted).double().eval()
    x = torch.randn(2, *grid, 8, dtype=torch.float64)
    expected = dense(block, x)
    given = x.clone()
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=1e-12)
    for piece in (1, 100, 1000):
        monkeypatch.setattr(window, "_PIECE", piece)
        with torch.no_grad():
            assert block._may_take_pieces(x) == (x.numel() > piece)
            torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=1e-12)
    assert torch.equal(x, given)  # what a block is given is not its to change


def test_gradients_of_rolled_windows_are_those_of_one_masked_attention() -> None:
    torch.manual_seed(0)
    block = Plain(3, True).double()
    x = torch.randn(2, 5, 7, 8, dtype=torch.float64)
    wanted = [x.requires_grad_(), *block.parameters()]
    weight = torch.randn(2, 5, 7, 8, dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((y * weight).sum(), wanted) for y in (block(x), dense(block, x)))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_whoever_watches_sees_all_windows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_PIECE", 1)
    block, seen = Plain(4, True).eval(), []
    x = torch.randn(2, 8, 8, 8)
    with torch.no_grad():
        pieces = block(x)
        handle = block.attend.register_forward_hook(lambda module, args, output: seen.append(args))
        whole = block(x)
        handle.remove()
    [(q, k, v, bias)] = seen
    assert q.shape == k.shape == v.shape == (8, 2, 16, 4) and bias.shape == (8, 2, 16, 16)
    assert int(bias.isinf().sum()) > 0
    torch.testing.assert_close(whole, pieces)


def test_stochastic_depth_drops_pictures_and_not_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "_PIECE", 1)
    torch.manual_seed(0)
    block = Plain(2, True, drop_path=0.5).train()
    x = torch.randn(64, 4, 4, 8)
    with torch.no_grad():
        unchanged = (block(x) == x).flatten(1)
    assert (unchanged.all(1) | ~unchanged.any(1)).all() and unchanged.any() and not unchanged.all()


def test_what_was_learnt_in_inference_mode_serves_training() -> None:
    block = Plain(4, True)
    x = torch.randn(1, 7, 7, 8)
    with torch.inference_mode():
        block.eval()(x)
    block.train()(x).sum().backward()
    assert block.values.grad.any()


def test_biases_follow_the_weights() -> None:
    block = Plain(4, True).eval()
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        before = block(x)
        assert torch.equal(block(x), before)
        block.values.add_(torch.randn_like(block.values))
        after = block(x)
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, dense(block, x))


def test_autocast_computes_in_half_and_adds_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Plain(4, True).eval()
    x = torch.randn(2, 8, 8, 8)
    whole = block(x)
    monkeypatch.setattr(window, "_PIECE", 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        pieces = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        trained = block(x)
    for y in (pieces, trained):
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, whole, atol=0.05, rtol=0.05)
