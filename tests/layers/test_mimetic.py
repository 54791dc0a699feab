"""Attention that begins as trained attention looks: its products, against the paper's formula."""

from __future__ import annotations

import torch

from vitreous.layers.attention import Attention
from vitreous.layers.mimetic import mimetic


def test_products_are_near_multiples_of_the_identity() -> None:
    torch.manual_seed(0)
    d = 64
    attention = Attention(d, heads=1)
    assert mimetic(torch.nn.Sequential(attention, torch.nn.Linear(3, 3))) == 1
    query, key, value = attention.qkv.weight.view(3, d, d).double()
    output = attention.proj.weight.double()
    for product, noise, identity in ((query.t() @ key, 0.7, 0.7), (output @ value, 0.4, -0.4)):
        rest = product - identity * torch.eye(d)
        assert abs(rest.std() * d**0.5 - noise) < 0.05
        assert abs(rest.mean()) < 0.02
        assert abs(product.trace() / d - identity) < 0.1


def test_a_head_holds_the_largest_part_of_its_product() -> None:
    torch.manual_seed(0)
    d, heads = 32, 4
    attention = Attention(d, heads)
    mimetic(attention)
    query, key, _ = attention.qkv.weight.view(3, heads, d // heads, d).double()
    for q, k in zip(query, key, strict=True):
        product = q.t() @ k  # (d, d), of the head's rank
        assert torch.linalg.matrix_rank(product) == d // heads
        values = torch.linalg.svdvals(product)[: d // heads]
        assert values.min() > 0.7  # the best d_h of singular values around .7 (1 + Z)


def test_a_network_without_such_attention_is_told_apart() -> None:
    assert mimetic(torch.nn.Linear(3, 3)) == 0
