"""From scratch on small sets: which network, and how its pictures are varied, with the reason.

The measurements behind the choices stand in docs/recipes.md. What decides about augmentation is how often each picture
will be seen: a network that sees it thirty times has not finished learning, one that sees it a hundred times learns it
by heart.
"""

from __future__ import annotations

import torch

from vitreous.data.transforms import AugmentConfig, PolicyName
from vitreous.models.describe import describe

SIDES = (32, 64, 96, 224)  # pixels for which there is a hybrid
OFTEN = 50  # times each picture is seen, from which on plain crops are learned by heart
_SPEED = 20e9  # MACs of training a second and core, with the hybrid in bfloat16; half or twice changes little
_GPU = 100  # cores that a GPU stands for; a guess, which errs towards more augmentation


def transformer(size: int) -> str:
    """The transformer that learns from few pictures of ``size`` pixels: a hybrid."""
    return f"hybrid_tiny_{next((side for side in SIDES if size <= side), SIDES[-1])}"


def expected_epochs(model: str, size: int, pictures: int, seconds: float) -> float:
    """About how often each picture will be seen in so much time on this machine's cores."""
    cores = _GPU if torch.cuda.is_available() else torch.get_num_threads()
    images = seconds * cores * _SPEED / describe(model, size, 10).macs
    return images / max(pictures, 1)


def augment(size: int, epochs: float, flip: float, reasons: list[str]) -> AugmentConfig:
    """Random views for pictures that are seen about ``epochs`` times."""
    # turned signs are others, like mirrored ones
    policy: PolicyName = "trivial" if epochs >= OFTEN and flip else "none"
    if policy != "none":
        reasons.append(f"TrivialAugment: each picture will be seen about {epochs:.0f} times (docs/recipes.md)")
    if size <= 32:
        return AugmentConfig(pad=size // 8, flip=flip, policy=policy)
    return AugmentConfig(crop_scale=(0.35, 1.0), flip=flip, policy=policy)
