from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitreous.heads.classify import ClassifyHead
from vitreous.types import Features


def test_logits_are_linear_in_the_pooled_vector() -> None:
    torch.manual_seed(0)
    head, pooled = ClassifyHead(16, 5), torch.randn(3, 16)
    torch.testing.assert_close(head(Features((), pooled)), F.linear(pooled, head.fc.weight, head.fc.bias))


def test_fresh_weights_are_small_and_biases_zero() -> None:
    torch.manual_seed(0)
    head = ClassifyHead(512, 100)
    torch.nn.init.constant_(head.fc.weight, float("nan"))
    head.reset_parameters()
    assert head.fc.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not head.fc.bias.any()


@pytest.mark.parametrize("summaries", [1, 2])
def test_softened_it_answers_the_same_with_weights_of_fresh_size(summaries: int) -> None:
    torch.manual_seed(0)
    head, features = ClassifyHead(64, 10, summaries=summaries), Features((), torch.randn(50, 64))
    head.take(3.0 * torch.randn(10, 64), 5.0 * torch.randn(10))
    before = head(features)
    head.soften()
    weights = torch.cat([p.flatten() for name, p in head.named_parameters() if name.endswith("weight")])
    assert weights.square().mean().sqrt().item() == pytest.approx(0.02)
    scale = (head(features) / before).median().item()
    assert scale < 0.02
    torch.testing.assert_close(head(features), scale * before)
    small = head.fc.weight.clone()
    head.soften()
    torch.testing.assert_close(head.fc.weight, small)
    torch.nn.init.zeros_(head.fc.weight)
    if head.fc_dist is not None:
        torch.nn.init.zeros_(head.fc_dist.weight)
    head.soften()
    assert not head.fc.weight.any() and head.fc.bias.isfinite().all()


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    head, features = ClassifyHead(64, 4, dropout=0.5), Features((), torch.randn(2, 64))
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))
