from __future__ import annotations

import pytest
import torch

from vitreous.layers.norm import DropPath, LayerScale, depth_rates


def test_layer_scale_scales_each_channel() -> None:
    scale = LayerScale(4, 0.1)
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(scale(x), 0.1 * x)
    assert torch.autograd.gradcheck(scale.double(), torch.randn(2, 4, dtype=torch.float64, requires_grad=True))
    torch.nn.init.zeros_(scale.gamma)
    scale.reset_parameters()
    assert torch.equal(scale.gamma, torch.full((4,), 0.1, dtype=torch.float64))


def test_drop_path_keeps_or_drops_whole_samples_and_the_expectation() -> None:
    torch.manual_seed(0)
    kept = DropPath(0.25)(torch.ones(20_000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(kept.amin((1, 2)), kept.amax((1, 2)))
    assert kept.mean().item() == pytest.approx(1, abs=4 * (1 / 3 / 20_000) ** 0.5)


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.5, False)])
def test_drop_path_does_nothing_at_rate_zero_or_in_evaluation(rate: float, train: bool) -> None:
    x = torch.randn(3, 2)
    assert DropPath(rate).train(train)(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_refuses_impossible_rates(rate: float) -> None:
    with pytest.raises(ValueError, match="drop rate"):
        DropPath(rate)


def test_rates_rise_linearly() -> None:
    assert depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert depth_rates(0.3, 1) == [0]
