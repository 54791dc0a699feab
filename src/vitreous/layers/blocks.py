"""Blocks one after another, whose activations may be computed twice instead of kept.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". Knows nothing of what a block does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


class Blocks(nn.Sequential):
    """``nn.Sequential`` that keeps only the input of each block while ``checkpointing`` and gradients are on."""

    checkpointing = False

    def forward(self, x: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Whatever the blocks take and give; through those from ``start`` to before ``stop``, all by default."""
        again = self.checkpointing and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        for block in islice(self, start, stop):
            x = checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block)) if again else block(x)
        return x


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first pass, nothing; around the second, statistics at rest."""
    return nullcontext(), _statistics_at_rest(block)


@contextmanager
def _statistics_at_rest(block: nn.Module) -> Iterator[None]:
    """Batch norms see the batch a second time and must not count it twice: they count in copies."""
    real = [(norm, norm._buffers) for norm in block.modules() if isinstance(norm, _NormBase) and norm.training]
    for norm, buffers in real:
        norm._buffers = {name: None if b is None else b.clone() for name, b in buffers.items()}
    try:
        yield
    finally:
        for norm, buffers in real:
            norm._buffers = buffers
