"""A running average of a network's weights: what is evaluated and shipped instead of the last, noisy step.

Polyak and Juditsky 1992; the warm-up of the decay follows the usage of ``tf.train.ExponentialMovingAverage``, so
that the average of a short run is not mostly its random start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential average of every parameter and floating buffer; whole numbers are copied.

    Args:
        network: followed by reference; its tensors must stay the same objects.
        decay: of the average; at step t at most (1 + t) / (10 + t).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = network.state_dict()
        self.tensors: dict[str, Tensor] = {name: t.detach().clone() for name, t in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after ``step`` steps."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        floating = [n for n, t in self._live.items() if t.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in floating], [self._live[n] for n in floating], weight)
        for name in self._live.keys() - set(floating):
            self.tensors[name].copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights inside, and its own again, bit for bit, outside."""
        own = {name: tensor.clone() for name, tensor in self._live.items()}
        self._write(self.tensors)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def adopt(self) -> None:
        """What the network holds now is the average from here on, also within ``applied``."""
        for name, live in self._live.items():
            self.tensors[name].copy_(live)

    @torch.no_grad()
    def _write(self, tensors: dict[str, Tensor]) -> None:
        for name, live in self._live.items():
            live.copy_(tensors[name])
