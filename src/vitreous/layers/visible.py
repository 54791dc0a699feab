"""Which tokens an encoder sees when others are hidden from it. Knows nothing of why they are hidden."""

from __future__ import annotations

import torch
from torch import Tensor


def visible(tokens: Tensor, mask: Tensor) -> Tensor:
    """The tokens (b, n, d) that ``mask`` (b, n) does not hide, in order: (b, m, d).

    Raises:
        ValueError: the rows of ``mask`` hide different numbers of tokens.
    """
    b, n, d = tokens.shape
    seen = (~mask).sum(dim=1)
    if not bool((seen == seen[0]).all()):
        raise ValueError("every row of the mask must hide the same number of tokens")
    # index_select, because the backward pass of boolean indexing is far slower
    return tokens.reshape(b * n, d).index_select(0, (~mask).flatten().nonzero()[:, 0]).view(b, -1, d)


def replaced(tokens: Tensor, mask: Tensor, token: Tensor) -> Tensor:
    """The tokens (b, n, d), with ``token``, (d,) or (), wherever ``mask`` (b, n) hides one."""
    return torch.where(mask[..., None], token.to(tokens.dtype), tokens)


def restored(tokens: Tensor, mask: Tensor, filler: Tensor) -> Tensor:
    """The inverse of ``visible``: tokens (b, m, d) in their places, ``filler`` (d,) where ``mask`` (b, n) hides one."""
    place = (~mask).cumsum(dim=1).sub(1).clamp(min=0)  # (b, n): which of the visible tokens stands here
    spread = tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[2]))  # (b, n, d)
    return torch.where(mask[..., None], filler.to(tokens.dtype), spread)
