"""A complete run from a folder of pictures and few wishes: what is left open is chosen from the data, with the reason.

Knows nothing of how a run is executed. Reasons are sentences for the user; the measurements behind them stand in
docs/recipes.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitreous import duration, models
from vitreous.data.dataset import BUILTIN, Source, open_source
from vitreous.data.image import decode
from vitreous.data.mix import MixConfig
from vitreous.data.prepare import DataConfig
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.errors import BadData
from vitreous.network import NetworkConfig
from vitreous.recipes import scratch, transfer
from vitreous.recipes.saved import adjust
from vitreous.recipes.wishes import DEFAULT_BUDGET, LENGTHS, Wishes, named
from vitreous.run import find_teacher
from vitreous.run.plan import Run
from vitreous.run.teacher import TeacherConfig
from vitreous.tasks.classify import ClassifyConfig
from vitreous.tasks.pseudo import PseudoConfig
from vitreous.training.config import TrainConfig
from vitreous.training.optim import OptimConfig
from vitreous.weights import pretrained

VALIDATION = DataConfig.val  # the share that is held out to choose by
LOOKS = 64  # pictures that are opened to learn the usual size and shape


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What can be known of a data set in a moment."""

    pictures: int
    training: int  # about how many of them there will be to learn from
    classes: int
    side: int  # pixels, median of the shorter sides
    elongated: float  # share of pictures whose sides differ by a factor of more than 1.8


def choose(
    wishes: Wishes, source: Source | None = None, *, fraction: float = 1.0, seen: Glance | None = None
) -> tuple[Run, list[str]]:
    """The run for ``wishes``, and why it is as it is.

    Args:
        source: pictures that are open already, instead of ``wishes.data``.
        fraction: share of the training pictures that is used.
        seen: what ``glance`` found in ``source``, where several runs are chosen for the same pictures.

    Raises:
        UsageError: an unknown model, or wishes that contradict each other.
        BadData: there are no pictures, or none of those looked at can be read.
    """
    wishes.refuse()
    source = source if source is not None else open_source(wishes.data)
    seen = glance(source, wishes.test) if seen is None else seen
    seen = replace(seen, pictures=round(fraction * seen.pictures), training=round(fraction * seen.training))
    reasons: list[str] = []
    if wishes.recipe == "scratch":
        reasons.append("recipe scratch: weights of others are not looked for")
    run = draft(wishes, seen, reasons, fraction=fraction)
    return _finished(run, wishes, seen, reasons), reasons


def draft(wishes: Wishes, seen: Glance, reasons: list[str], *, fraction: float = 1.0) -> Run:
    """The run before what its weights, or the want of them, ask for: as from scratch and not long."""
    wishes, begun = transfer.begin(wishes, seen.side, seen.training, reasons)
    size = wishes.size or _size(wishes, seen, reasons)
    model = _model(wishes, size, reasons)
    data = DataConfig(
        source=lasting(wishes.data),
        preprocess=Preprocess(size=size, store=_store(size), policy=_policy(wishes, seen, reasons)),
        allow_bad=wishes.allow_bad,
        test=wishes.test,
        fraction=fraction,
        unlabelled=tuple(map(lasting, wishes.unlabelled)),
    )
    return Run(
        data=data,
        network=NetworkConfig(model=model, classes=max(seen.classes, 1), size=size, **begun),
        task=ClassifyConfig(augment=_crops(wishes, size, reasons), mix=MixConfig(mixup=0.0, cutmix=0.0)),
        train=_train(wishes, seen, reasons),
        weights=None if wishes.weights is None else lasting(wishes.weights),
        teacher=None if wishes.teacher is None else _teacher(wishes.teacher, reasons),
        pseudo=_pseudo(wishes, reasons),
        seed=wishes.seed,
        workers=wishes.workers,
        tensorboard=wishes.tensorboard,
    )


def _finished(run: Run, wishes: Wishes, seen: Glance, reasons: list[str]) -> Run:
    """``run`` with what its weights, or the want of them, ask for, and with the fields that were set."""
    if wishes.model == "auto" and run.weights is None and "network.model" not in named(wishes.set):
        wide = scratch.widen(adjust(run, wishes.set), seen.training, reasons)  # only then is known how long it is
        run = replace(run, network=replace(run.network, model=wide.network.model))
    own = wishes.tune is None and transfer.homegrown(run)
    if own:
        run = transfer.grown(run, reasons)
    elif run.weights is not None:
        return adjust(transfer.tuned(run, wishes, reasons), wishes.set)
    if wishes.recipe == "plain":
        return adjust(scratch.plain(run, reasons), wishes.set)
    run = adjust(run, wishes.set)  # only now is known how long it is
    if (run.weights is not None and not own) or "task.augment.policy" in named(wishes.set):
        return run
    return scratch.vary(run, seen.training, reasons)


def _teacher(place: str, reasons: list[str]) -> TeacherConfig:
    config = find_teacher.named(place)
    published = pretrained.parse(config.place)
    if published is not None:
        reasons.append(f"teacher {published.repository}: its features alone teach; licence {published.terms}")
    elif config.is_model:
        reasons.append(f"teacher {place}: trained first on the same pictures, with {config.share:.0%} of the time")
    else:
        reasons.append(f"teacher {place}: frozen; its logits teach where its classes are the same, its features always")
    return config


def _pseudo(wishes: Wishes, reasons: list[str]) -> PseudoConfig | None:
    if not wishes.unlabelled:
        return None
    config = PseudoConfig()
    reasons.append(f"pictures without a label: where the network is {config.sure:.0%} sure, that is what they are of")
    return config


def lasting(place: str) -> str:
    """A path that still leads there from another working directory; names of embedded sets as they are."""
    return place if place in BUILTIN or not Path(place).exists() else str(Path(place).absolute())


def glance(source: Source, test: float = DataConfig.test) -> Glance:
    """Open a few pictures, evenly spread, for their size and shape.

    Args:
        test: share that is held out to measure by, where the source is not divided.

    Raises:
        BadData: the source is empty, or none of the pictures can be read.
    """
    shorter, longer = [], []
    for i in np.unique(np.linspace(0, len(source) - 1, min(LOOKS, len(source))).astype(int)):
        try:
            facts = decode(source.read(int(i)), Preprocess(store=32)).facts
        except BadData:
            continue  # the survey counts these, names them, and stops when there are too many
        shorter.append(min(facts.width, facts.height))
        longer.append(max(facts.width, facts.height))
    if not shorter:
        raise BadData(
            f"None of the pictures in {source.root} that were tried can be read; `vitreous check` says what is wrong."
        )
    elongated = np.mean(np.array(longer) > 1.8 * np.array(shorter))
    if source.split is None:
        training = len(source) * (1 - VALIDATION - test)
    else:
        training = (source.split == 0).sum() * (1.0 if (source.split == 1).any() else 1 - VALIDATION)
    return Glance(
        pictures=len(source),
        training=round(training),
        classes=len(source.classes),
        side=int(np.median(shorter)),
        elongated=float(elongated),
    )


def _size(wishes: Wishes, seen: Glance, reasons: list[str]) -> int:
    """As much as the pictures hold, up to what can be trained from scratch in reasonable time."""
    size = 32 if seen.side < 48 else 64 if seen.side < 80 else 96
    why = f"the shorter side of the pictures is {seen.side} px at the median"
    if wishes.model != "auto" and models.find(wishes.model).size >= 224:
        size = min(224, max(96, seen.side // 32 * 32))
        patch = models.find(wishes.model).options.get("patch", 1)
        size = round(size / patch) * patch  # 14 is no divisor of 32
        if size > seen.side:
            why += f", and {wishes.model}, made for {models.find(wishes.model).size} px, would see little in fewer"
    reasons.append(f"size {size}: {why}")
    return size


def _store(size: int) -> int:
    """A little more than the network sees, so that random crops have something to choose from."""
    return size if size <= 32 else round(size * 8 / 7)


def _model(wishes: Wishes, size: int, reasons: list[str]) -> str:
    if wishes.model != "auto":
        return wishes.model
    model = scratch.transformer(size)
    why = "convolutions first, attention on few cells; from scratch it beat the plain ViT in our measurements"
    reasons.append(f"model {model}: {why} (docs/recipes.md); --model takes another")
    return model


def _policy(wishes: Wishes, seen: Glance, reasons: list[str]) -> Literal["crop", "letterbox", "squash"]:
    if wishes.resize is not None:
        return wishes.resize
    if seen.elongated > 0.1:
        reasons.append(f"resize letterbox: {seen.elongated:.0%} of the pictures are elongated, a crop would cut them")
        return "letterbox"
    return "crop"


def _crops(wishes: Wishes, size: int, reasons: list[str]) -> AugmentConfig:
    if wishes.data != "digits":
        return scratch.crops(size, flip=0.5)
    reasons.append("no mirror images and no turns: such a digit is another sign")
    return scratch.crops(size, flip=0.0)


def _train(wishes: Wishes, seen: Glance, reasons: list[str]) -> TrainConfig:
    batch = wishes.batch or int(np.clip(2 ** np.floor(np.log2(max(seen.pictures / 10, 1))), 4, 64))
    budget = wishes.budget
    if budget is None and wishes.epochs is None:
        budget = DEFAULT_BUDGET
        if not named(wishes.set).keys() & LENGTHS:
            reasons.append(f"budget {budget}: the default; --budget 1h or --epochs 50 set another")
    optim = OptimConfig(name="muon")  # from scratch; ``transfer.tuned`` has another for weights
    return TrainConfig(
        epochs=wishes.epochs,
        budget_seconds=None if budget is None else duration.seconds(budget),
        batch=batch,
        optim=optim,
    )
