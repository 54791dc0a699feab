from __future__ import annotations

import torch
import torch.nn.functional as F

from vitreous.layers.pool import pool_map, pool_tokens


def test_pooling_tokens() -> None:
    tokens = torch.randn(2, 1 + 6, 4)
    assert torch.equal(pool_tokens(tokens, 1, "token"), tokens[:, 0])
    torch.testing.assert_close(pool_tokens(tokens, 1, "avg"), tokens[:, 1:].sum(1) / 6)


def test_pooling_maps_equals_torch() -> None:
    x = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(pool_map(x), F.adaptive_avg_pool2d(x, 1).flatten(1))
