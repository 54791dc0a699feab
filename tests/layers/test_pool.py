from __future__ import annotations

import torch
import torch.nn.functional as F

from vitreous.layers.pool import SequencePool, pool_map, pool_tokens


def test_pooling_tokens() -> None:
    tokens = torch.randn(2, 1 + 6, 4)
    assert torch.equal(pool_tokens(tokens, 1, "token"), tokens[:, 0])
    torch.testing.assert_close(pool_tokens(tokens, 1, "avg"), tokens[:, 1:].sum(1) / 6)
    assert torch.equal(pool_tokens(tokens, 1, "mae"), pool_tokens(tokens, 1, "avg"))
    assert torch.equal(pool_tokens(tokens, 2, "distilled"), torch.cat([tokens[:, 0], tokens[:, 1]], 1))
    expected = torch.cat([tokens[:, 0], tokens[:, 3:].sum(1) / 4], 1)
    torch.testing.assert_close(pool_tokens(tokens, 3, "both"), expected)


def test_sequence_pooling_is_a_convex_combination() -> None:
    """Equal scores give the mean; one score far above the others gives its token; a copy of a token gets its weight."""
    pool, tokens = SequencePool(4).double(), torch.randn(2, 6, 4, dtype=torch.float64)
    torch.nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(tokens), tokens.mean(1))
    torch.nn.init.normal_(pool.score.weight)
    scores = (tokens @ pool.score.weight[0]).exp()  # (b, n)
    torch.testing.assert_close(pool(tokens), (tokens * scores[..., None]).sum(1) / scores.sum(1, keepdim=True))
    torch.testing.assert_close(pool(torch.cat([tokens, tokens], 1)), pool(tokens))
    pool.score.weight.data *= 1e4
    torch.testing.assert_close(pool(tokens), tokens[range(2), scores.argmax(1)])


def test_pooling_maps_equals_torch() -> None:
    x = torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(pool_map(x), F.adaptive_avg_pool2d(x, 1).flatten(1))
