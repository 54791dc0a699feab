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
    whole = filler.to(tokens.dtype).expand(mask.numel(), -1)  # (b n, d)
    # index_copy, because gathering and choosing takes ten times as long, there and back
    return whole.index_copy(0, (~mask).flatten().nonzero()[:, 0], tokens.flatten(0, 1)).view(*mask.shape, -1)
