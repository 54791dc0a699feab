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


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    head, features = ClassifyHead(64, 4, dropout=0.5), Features((), torch.randn(2, 64))
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))
