"""A complete run that learns without labels: which network, how pictures are varied, how long, with the reason.

The measurements behind the choices stand in docs/recipes.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitreous.data.dataset import Source, open_source
from vitreous.data.transforms import AugmentConfig
from vitreous.errors import BadData
from vitreous.recipes import auto
from vitreous.recipes.wishes import Wishes
from vitreous.run.methods import Method, PretrainConfig
from vitreous.run.plan import Run
from vitreous.tasks.dino import Dino, DinoConfig
from vitreous.tasks.mae import MaeConfig
from vitreous.tasks.simmim import SimmimConfig
from vitreous.training.optim import OptimConfig

LEAST = 100  # pictures; fewer teach nothing that is worth the time
SMALLEST = 8  # pixels of their shorter side: two of the smallest patches there are
BATCH = 128
FROM_SCRATCH = OptimConfig(name="muon", ema=None)
FROM_WEIGHTS = OptimConfig(name="adamw", layer_decay=0.5, ema=None)
"""The decoder or head is new and learns at the full rate; each block below it at half the rate of the one above."""


def choose(
    wishes: Wishes, method: Method, *, unlabelled: tuple[str, ...] = (), source: Source | None = None
) -> tuple[Run, list[str]]:
    """The run for ``wishes`` with ``method``, and why it is as it is.

    Args:
        unlabelled: further sources of pictures.

    Raises:
        UsageError: an unknown model, one that does not go with the method, or wishes that contradict each other.
        BadData: fewer than ``LEAST`` pictures, or smaller ones than ``SMALLEST``.
    """
    wishes.refuse()
    source = source if source is not None else open_source(wishes.data)
    pictures = len(source) + sum(len(open_source(place)) for place in unlabelled)
    if pictures < LEAST:
        raise BadData(
            f"{pictures} pictures are too few to learn from without labels; give {LEAST} or more, also with "
            "--unlabelled, or begin with published weights: vitreous train --pretrained."
        )
    seen, reasons = auto.glance(source), list[str]()
    if seen.side < SMALLEST:
        raise BadData(
            f"The shorter side of the pictures is {seen.side} px at the median, less than two patches of "
            f"{SMALLEST // 2} px, and their parts tell nothing; give pictures of {SMALLEST} px or more."
        )
    if not (wishes.weights or wishes.pretrained):
        wishes = replace(wishes, recipe="scratch")  # whatever lies in the cache
        if wishes.model == "auto" and method == "mae":  # the others take any, as the recipe from scratch does
            wishes = replace(wishes, model=_model(wishes.size or seen.side))
            reasons.append(
                f"model {wishes.model}: mae leaves patches out, which a plain ViT can do; --model takes another"
            )
    run = auto.draft(wishes, seen, reasons)  # how it begins and is varied is for labels
    augment = AugmentConfig(crop_scale=(0.2, 1.0), flip=run.task.augment.flip)
    low, high = (Dino.wanted, Dino.wanted) if method == "dino" else (16, BATCH)  # whose pictures are four views each
    batch = wishes.batch or int(np.clip(2 ** np.floor(np.log2(pictures / 4)), low, high))
    optim = FROM_SCRATCH
    if run.weights is not None:
        optim = FROM_WEIGHTS
        reasons.append(
            f"begins with weights: AdamW at {optim.rate:g}, and each block at {optim.layer_decay:g} of the rate of the "
            "one above, for rates from scratch undo what they know (docs/pretrain.md)"
        )
    train = replace(run.train, optim=optim, batch=batch, evaluate_first=True)
    if len(source.classes) < 2:
        known = "all pictures are of one class" if source.classes else "no picture has a label"
        reasons.append(f"{known}: only the loss and the rank of the features tell how it goes, not what it is good for")
    return replace(
        run,
        data=replace(run.data, unlabelled=tuple(map(auto.lasting, unlabelled)), apart=True),
        task=replace(run.task, augment=augment),
        train=train,
        pretrain=_method(method, run.network.size),
    ), reasons


def _method(method: Method, size: int) -> PretrainConfig:
    """``method`` with what suits pictures of ``size`` pixels."""
    match method:
        case "mae":
            return PretrainConfig(mae=MaeConfig())
        case "simmim":
            return PretrainConfig(simmim=SimmimConfig())
        case "dino":
            # a twentieth of a little picture shows nothing (Gani et al. 2022); of a large one it does (the paper's)
            if size < 128:
                return PretrainConfig(dino=DinoConfig())
            return PretrainConfig(dino=DinoConfig(small=6, large_scale=(0.25, 1.0), small_scale=(0.05, 0.25)))


def _model(side: int) -> str:
    """The plain ViT for pictures of ``side`` pixels."""
    return "vit_pico_patch4_32" if side < 48 else "vit_pico_patch8_64" if side < 80 else "vit_pico_patch8_96"
