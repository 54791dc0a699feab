"""From scratch on small sets: which network, and how its pictures are varied, with the reason.

The measurements behind the choices stand in docs/recipes.md. What decides about augmentation is how often each picture
will be seen: a network that sees it thirty times has not finished learning, one that sees it a hundred times learns it
by heart.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from vitreous.data.transforms import AugmentConfig
from vitreous.models.describe import describe
from vitreous.run.plan import Run
from vitreous.training.optim import OptimConfig

SIDES = (32, 64, 96, 224)  # pixels for which there is a hybrid
LONG = 200  # times the usual hybrid would see each picture, from which on one twice as wide learns more of
MANY = 2_000  # pictures or more; of fewer it only learned more by heart
OFTEN = 50  # times each picture is seen, from which on plain crops are learned by heart
_SPEED = 20e9  # MACs of training a second on one core, with the hybrid in bfloat16; half or twice changes little
_GPU = 100  # cores that a GPU stands for; a guess, which errs towards more augmentation


def transformer(size: int) -> str:
    """The transformer that learns from few pictures of ``size`` pixels: a hybrid."""
    return f"hybrid_tiny_{next((side for side in SIDES if size <= side), SIDES[-1])}"


def widen(run: Run, pictures: int, reasons: list[str]) -> Run:
    """``run`` with a network twice as wide, where the usual one would have time to learn all that it can hold."""
    wide = run.network.model.replace("_tiny_", "_small_")
    times, core = times_seen(run, pictures)
    if times < LONG or pictures < MANY:
        return run
    reasons.append(f"model {wide} instead: the other would see each picture about {times:.0f} times{core}")
    return replace(run, network=replace(run.network, model=wide))


def times_seen(run: Run, pictures: int) -> tuple[float, str]:
    """About how often each of the ``pictures`` of training will be seen, and " on one core" where that is a guess.

    A time budget is taken for one core's, as it was where this was measured, however many there are: the same wishes
    are the same run with any number of threads.
    """
    train, network = run.train, run.network
    steps = train.steps if train.plan is None else train.plan.steps
    if steps is not None:
        return steps * train.batch / max(pictures, 1), ""
    if train.epochs is not None:
        return train.epochs, ""
    share = run.teacher.share if run.teacher is not None and run.teacher.is_model else 0.0
    seconds = (1 - share) * (train.budget_seconds or 0.0)
    guess = expected_epochs(network.model, network.size, pictures, seconds)
    return guess, "" if torch.cuda.is_available() else " on one core"


def expected_epochs(model: str, size: int, pictures: int, seconds: float, cores: int = 1) -> float:
    """About how often each picture will be seen in so much time on so many cores, or on the GPU where there is one."""
    images = seconds * (_GPU if torch.cuda.is_available() else cores) * _SPEED / describe(model, size, 10).macs
    return images / max(pictures, 1)


def crops(size: int, flip: float) -> AugmentConfig:
    """Random crops and mirror images, and nothing else."""
    return AugmentConfig(pad=size // 8, flip=flip) if size <= 32 else AugmentConfig(crop_scale=(0.35, 1.0), flip=flip)


def vary(run: Run, pictures: int, reasons: list[str]) -> Run:
    """``run`` with TrivialAugment, where it is long enough for its ``pictures`` of training to be learned by heart."""
    views = run.task.augment
    times, core = times_seen(run, pictures)
    if times < OFTEN or not views.flip:  # turned signs are others, like mirrored ones
        return run
    reasons.append(f"TrivialAugment: each picture will be seen about {times:.0f} times{core} (docs/recipes.md)")
    return replace(run, task=replace(run.task, augment=replace(views, policy="trivial")))


def plain(run: Run, reasons: list[str]) -> Run:
    """``run`` as a textbook has it: the control that shows what the rest of a recipe is worth."""
    reasons.append("recipe plain: AdamW, no running average, no label smoothing, crops alone; made to compare with")
    optim = OptimConfig(name="adamw", ema=None)
    return replace(run, train=replace(run.train, optim=optim), task=replace(run.task, label_smoothing=0.0))
