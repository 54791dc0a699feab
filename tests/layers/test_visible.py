from __future__ import annotations

import pytest
import torch

from vitreous.layers.visible import visible


def test_what_is_not_hidden_stays_in_order() -> None:
    tokens = torch.arange(2 * 4 * 3.0).view(2, 4, 3)
    mask = torch.tensor([[True, False, False, True], [False, True, False, True]])
    assert torch.equal(visible(tokens, mask), torch.stack([tokens[0, [1, 2]], tokens[1, [0, 2]]]))
    assert torch.equal(visible(tokens, torch.zeros(2, 4, dtype=torch.bool)), tokens)
    with pytest.raises(ValueError, match="same number"):
        visible(tokens, torch.tensor([[True, False, False, True], [False, True, True, True]]))


def test_gradients_reach_what_is_seen_alone() -> None:
    tokens = torch.randn(1, 3, 2, requires_grad=True)
    visible(tokens, torch.tensor([[False, True, False]])).sum().backward()
    assert tokens.grad is not None and tokens.grad[0, :, 0].tolist() == [1, 0, 1]
