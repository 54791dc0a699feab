from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from vitreous.layers.position import Resampled, fit, resample, sincos1d, sincos2d


def test_sincos_equals_its_formula() -> None:
    table = sincos2d((3, 5), 16, prefix=1)
    assert table.shape == (1, 16, 16)
    assert not table[0, 0].any()
    frequency = 10_000.0 ** -(np.arange(4) / 3)
    for row in range(3):
        for column in range(5):
            angles = [
                np.sin(column * frequency),
                np.cos(column * frequency),
                np.sin(row * frequency),
                np.cos(row * frequency),
            ]
            np.testing.assert_allclose(table[0, 1 + row * 5 + column].numpy(), np.concatenate(angles), atol=1e-6)


def test_sincos_products_depend_on_distance_only() -> None:
    table = sincos2d((4, 6), 32)[0].view(4, 6, 32)
    for step_y, step_x in [(0, 1), (1, 0), (2, 3)]:
        products = (table[: 4 - step_y, : 6 - step_x] * table[step_y:, step_x:]).sum(-1)
        torch.testing.assert_close(products, products[:1, :1].expand_as(products), atol=1e-4, rtol=1e-5)


def test_sincos_needs_a_width_of_quarters() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos2d((2, 2), 6)


def test_places_in_a_sequence_equal_their_formula() -> None:
    """PE(p, 2i) = sin(p / 10000^(2i / d)), PE(p, 2i + 1) = cos of the same (Vaswani et al. 2017)."""
    table = sincos1d(7, 6)
    assert table.shape == (1, 7, 6)
    for place in range(7):
        for i in range(3):
            angle = place / 10_000 ** (2 * i / 6)
            assert table[0, place, 2 * i].item() == pytest.approx(np.sin(angle), abs=1e-6)
            assert table[0, place, 2 * i + 1].item() == pytest.approx(np.cos(angle), abs=1e-6)
    with pytest.raises(ValueError, match="even width"):
        sincos1d(2, 5)


def test_only_square_tables_of_the_same_prefix_are_fitted() -> None:
    table = torch.randn(1, 2 + 16, 4)
    torch.testing.assert_close(fit(table, (3, 5), 2), resample(table, (4, 4), (3, 5)))
    assert fit(table, (3, 5), 0) is None and fit(table[0], (3, 5), 2) is None and fit(table[:, :2], (3, 5), 2) is None


def test_the_same_grid_changes_nothing() -> None:
    table = torch.randn(1, 1 + 12, 8)
    assert resample(table, (3, 4), (3, 4)) is table


def test_resampling_keeps_prefix_constants_and_dtype() -> None:
    table = torch.full((1, 2 + 9, 4), 0.75, dtype=torch.bfloat16)
    table[:, :2] = torch.randn(1, 2, 4)
    moved = resample(table, (3, 3), (7, 5))
    assert moved.shape == (1, 2 + 35, 4) and moved.dtype == torch.bfloat16
    assert torch.equal(moved[:, :2], table[:, :2])
    torch.testing.assert_close(moved[:, 2:].float(), torch.full((1, 35, 4), 0.75))


def test_resampling_commutes_with_mirroring_and_transposing() -> None:
    table = torch.randn(1, 5 * 7, 3)
    plane = table.view(1, 5, 7, 3)
    moved = resample(table, (5, 7), (8, 4)).view(1, 8, 4, 3)
    mirrored = resample(plane.flip(2).reshape(1, 35, 3), (5, 7), (8, 4)).view(1, 8, 4, 3)
    transposed = resample(plane.transpose(1, 2).reshape(1, 35, 3), (7, 5), (4, 8)).view(1, 4, 8, 3)
    torch.testing.assert_close(mirrored.flip(2), moved, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(transposed.transpose(1, 2), moved, atol=1e-5, rtol=1e-5)


def test_remembered_tables_follow_every_change_of_the_table() -> None:
    table = torch.nn.Parameter(torch.randn(1, 1 + 16, 8))
    remember = Resampled((4, 4))
    with torch.no_grad():
        first = remember(table, (6, 6))
        assert remember(table, (6, 6)) is first
        table.mul_(2)
        torch.testing.assert_close(remember(table, (6, 6)), first * 2)
        assert torch.equal(remember(table.double(), (6, 6)), resample(table.double(), (4, 4), (6, 6)))
    assert remember(table, (6, 6)).requires_grad


def test_a_table_born_in_inference_mode_is_no_obstacle() -> None:
    with torch.inference_mode():
        table, remember = torch.randn(1, 16, 4), Resampled((4, 4))
        assert torch.equal(remember(table, (6, 5)), resample(table, (4, 4), (6, 5)))


def test_many_threads_may_ask_at_once() -> None:
    table, remember = torch.randn(1, 16, 4), Resampled((4, 4), keep=2)
    grids = [(5, 5), (6, 5), (7, 7), (8, 8)]
    expected = {grid: resample(table, (4, 4), grid) for grid in grids}
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            wanted = grids * 200
            answers = list(pool.map(lambda grid: remember(table.detach(), grid), wanted))
    finally:
        sys.setswitchinterval(before)
    assert all(torch.equal(a, expected[grid]) for a, grid in zip(answers, wanted, strict=True))


def test_memory_is_bounded_and_not_copied() -> None:
    table, remember = torch.randn(1, 16, 4), Resampled((4, 4), keep=2)
    with torch.no_grad():
        for side in range(5, 10):
            remember(table, (side, side))
            assert len(remember._remembered._kept[2]) <= 2
    assert not copy.deepcopy(remember)._remembered._kept[2]
