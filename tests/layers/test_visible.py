from __future__ import annotations

import pytest
import torch

from vitreous.layers.visible import replaced, restored, visible


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


def test_restored_is_the_inverse_of_visible_with_a_filler_between() -> None:
    torch.manual_seed(0)
    tokens, filler = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    mask = torch.rand(3, 5).argsort(1) < 2
    whole = restored(visible(tokens, mask), mask, filler)
    assert torch.equal(whole[~mask], tokens[~mask]) and torch.equal(whole[mask], filler.expand(6, 2))
    seen = visible(tokens, mask).requires_grad_()
    assert torch.autograd.gradcheck(lambda t, f: restored(t, mask, f), (seen, filler.requires_grad_()))


def test_replaced_keeps_what_is_seen_alone() -> None:
    tokens, token = torch.randn(1, 3, 2, requires_grad=True), torch.randn(2, requires_grad=True)
    mask = torch.tensor([[False, True, True]])
    found = replaced(tokens, mask, token)
    assert torch.equal(found[0, 0], tokens[0, 0]) and torch.equal(found[0, 1:], token.expand(2, 2))
    found.sum().backward()
    assert tokens.grad[0, :, 0].tolist() == [1, 0, 0] and token.grad.tolist() == [2, 2]
