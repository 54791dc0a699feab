"""What follows from weights alone need not be computed again while they stay the same. Knows nothing of what it is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor


class Remembered:
    """The last answers of a function of weights, given again while the weights are unchanged and no gradient is wanted.

    A change is noticed by the version that torch counts up with every operation in place, and by where the weights lie;
    they are held on to, so that no others come to lie there. Fused optimisers change weights without counting; but no
    optimiser steps without a pass with gradients before it, and such a pass forgets everything. The one change that
    goes unseen is a write through ``.data``. What follows from no weights at all is always remembered.
    """

    def __init__(self, keep: int = 8) -> None:
        self.keep = keep
        self._kept: tuple[tuple[object, ...], list[Tensor], dict[Hashable, Tensor]] = ((), [], {})

    def __call__(self, key: Hashable, weights: Sequence[Tensor], compute: Callable[[], Tensor]) -> Tensor:
        """``compute()``, or what it gave before for this ``key`` and these ``weights``."""
        if torch.compiler.is_compiling():
            return compute()
        if weights and (torch.is_grad_enabled() or any(w.is_inference() for w in weights)):
            self._kept = ((), [], {})
            return compute()
        stamp = (*((w.data_ptr(), w._version, w.device, w.dtype) for w in weights), *_precision(weights))
        known, _, answers = self._kept
        if stamp != known or (key not in answers and len(answers) >= self.keep):
            answers = {}
            self._kept = (stamp, [w.detach() for w in weights], answers)  # in one step: threads may share this
        if key not in answers:
            # an answer that will also be used with gradients must not be born in inference mode
            with torch.inference_mode(bool(weights) and torch.is_inference_mode_enabled()):
                answers[key] = compute()
        return answers[key]

    def __getstate__(self) -> dict[str, object]:
        """A copy starts empty: its weights lie elsewhere."""
        return {"keep": self.keep, "_kept": ((), [], {})}


def _precision(weights: Sequence[Tensor]) -> tuple[object, ...]:
    """What autocast would make of products: an answer computed under it is another."""
    kinds = sorted({w.device.type for w in weights if torch.amp.is_autocast_available(w.device.type)})
    return tuple((kind, torch.get_autocast_dtype(kind)) for kind in kinds if torch.is_autocast_enabled(kind))
