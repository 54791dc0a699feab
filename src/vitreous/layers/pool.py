"""Many vectors to one: how a picture's summary is taken."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Pool = Literal["token", "avg"]
"""``token``: the class token, which is the first; ``avg``: the mean of the patch tokens."""


def pool_tokens(tokens: Tensor, prefix: int, kind: Pool) -> Tensor:
    """(b, p + n, d) -> (b, d)"""
    return tokens[:, 0] if kind == "token" else tokens[:, prefix:].mean(dim=1)


def pool_map(x: Tensor) -> Tensor:
    """(b, d, h, w) -> (b, d): the mean over all cells."""
    return x.mean(dim=(2, 3))
