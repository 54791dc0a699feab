"""A run that begins with weights that others trained: which, and what they decide about the rest of the run.

Knows nothing of how a run is executed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitreous import duration, models
from vitreous.config import from_dict
from vitreous.data.dataset import BUILTIN
from vitreous.data.mix import MixConfig
from vitreous.errors import UsageError
from vitreous.models.costs import costs
from vitreous.models.describe import has_attention, outline
from vitreous.network import NetworkConfig
from vitreous.recipes import scratch
from vitreous.recipes.wishes import Wishes, named
from vitreous.run.plan import Run, TuneConfig, read_run
from vitreous.store.checkpoint import CARD, RunFolder
from vitreous.training.optim import OptimConfig
from vitreous.weights import ledger, pretrained
from vitreous.weights.ledger import Weights
from vitreous.weights.pretrained import Published

RANK = 8  # of LoRA; Hu et al. 2021, table 6: little is gained beyond
DEFAULT = "vit_small_patch14_dinov2"  # Apache-2.0; features that nothing else of its size equals without tuning
PHOTOGRAPH = 64  # pixels of the shorter side, below which its features have little to look at
_OTHERWISE = ("network.", "weights", "init", "teacher", "tune.", "train.optim.")  # fields that hang on how it begins


def begin(wishes: Wishes, side: int, pictures: int, reasons: list[str]) -> tuple[Wishes, dict[str, Any]]:
    """What the weights to begin with decide: model and size where they were left open, and the network's constants.

    Args:
        side: of the pictures, usually, in pixels.
        pictures: of training.
    """
    if wishes.model == "auto" and not wishes.weights:
        wishes = _usual(wishes, side, pictures, reasons)
    published = _published(wishes)
    if published is not None:
        changes: dict[str, Any] = {"model": published.model, "size": wishes.size or _size(published.weights, reasons)}
        if wishes.weights is None or pretrained.parse(wishes.weights):
            published, _ = published.fetch()
            changes["weights"] = published.place
        elif Path(wishes.weights).is_file():
            reasons.append(published.compared(wishes.weights)[1])
        reasons.append(f"weights {published.repository}: licence {published.terms}")
        return replace(wishes, **changes), {"mean": published.weights.mean, "std": published.weights.std}
    if wishes.weights is None:
        return wishes, {}
    if not (Path(wishes.weights) / "card.json").exists():
        if wishes.model == "auto" and Path(wishes.weights).is_file():
            raise UsageError(f"{wishes.weights} does not say which model its weights are of; name it with --model.")
        return wishes, _constants(Path(wishes.weights), wishes.model, reasons)
    card = RunFolder.open(wishes.weights).load_card()
    theirs = from_dict(NetworkConfig, card["network"]["config"])
    reasons.append(f"model {theirs.model} at {theirs.size} px: that of {wishes.weights}")
    model = theirs.model if wishes.model == "auto" else wishes.model
    return replace(wishes, model=model, size=wishes.size or theirs.size), {
        "mean": theirs.mean,
        "std": theirs.std,
        "options": theirs.options if model == theirs.model else {},
    }


def _usual(wishes: Wishes, side: int, pictures: int, reasons: list[str]) -> Wishes:
    """The usual published weights, if they were asked for, or are in the cache and suit; if not, a word about them."""
    size = wishes.size or (224 if side >= 128 else 112)
    if wishes.pretrained:
        reasons.append(f"model {DEFAULT} at {size} px: the usual one to begin with; --model takes another")
        return replace(wishes, model=DEFAULT, size=size)
    if side < PHOTOGRAPH or not _left_open(wishes, size):
        return wishes
    cached = Published(DEFAULT, ledger.find(DEFAULT)).cached()
    if cached is None:
        megabytes = 4 * costs()[DEFAULT].params / 1e6
        reasons.append(f"from scratch: --pretrained would fetch weights of {DEFAULT} (about {megabytes:.0f} MB)")
        return wishes
    if scratch.expected_epochs(DEFAULT, size, pictures, wishes.seconds, torch.get_num_threads()) < 1:
        reasons.append(
            f"from scratch, though weights of {DEFAULT} are in the cache: a budget of {duration.show(wishes.seconds)} "
            "is less than one pass with them; --pretrained begins with them all the same"
        )
        return wishes
    reasons.append(f"model {DEFAULT} at {size} px: its weights are in the cache; --recipe scratch begins without them")
    return replace(wishes, model=DEFAULT, size=size, weights=cached.place)


def _left_open(wishes: Wishes, size: int) -> bool:
    """Whether nothing that was asked for speaks against weights of others, and these can read ``size`` pixels."""
    hangs = any(name.startswith(_OTHERWISE) for name in named(wishes.set))
    if wishes.recipe != "auto" or wishes.teacher is not None or hangs or wishes.data in BUILTIN:
        return False
    return size >= PHOTOGRAPH and size % models.find(DEFAULT).options["patch"] == 0


def _published(wishes: Wishes) -> Published | None:
    """The published weights that were asked for, with --pretrained or as a place of their own."""
    place = pretrained.parse(wishes.weights) if wishes.weights else None
    if place is not None:
        if wishes.pretrained or wishes.model not in ("auto", place.model):
            raise UsageError(f"{wishes.weights} says model and weights already; leave out --model and --pretrained.")
        return place
    if not wishes.pretrained:
        return None
    if wishes.model == "auto":
        raise UsageError("--pretrained beside --weights needs --model NAME, for a file does not say what it holds.")
    if wishes.weights is not None and Path(wishes.weights).is_dir():
        raise UsageError("--pretrained goes with no weights or with the file of them, not with those of another run.")
    tag = wishes.pretrained if isinstance(wishes.pretrained, str) else None
    return Published(wishes.model, ledger.find(wishes.model, tag))


def _constants(file: Path, model: str, reasons: list[str]) -> dict[str, Any]:
    """Mean and deviation that go with a file of weights."""
    (mean, std), why = pretrained.stated(file, model)
    reasons.append(f"pixels of mean {mean} and deviation {std}: {why}; --set network.mean=... sets others")
    return {"mean": mean, "std": std}


def _size(weights: Weights, reasons: list[str]) -> int:
    size, known = weights.usual_size, f"these weights were trained at {weights.size} px"
    reasons.append(f"size {size}: {known}{'' if size == weights.size else ', which few machines can train at'}")
    return size


def homegrown(run: Run) -> bool:
    """Whether the weights of ``run`` are those of a run of ours that began from scratch, or with such a run."""
    place = run.weights
    while place is not None:
        if not (Path(place) / CARD).is_file():  # a file, published ones, or a run that is gone
            return False
        place = read_run(RunFolder(Path(place))).weights
    return run.weights is not None


def grown(run: Run, reasons: list[str]) -> Run:
    """``run``, which is as from scratch, from weights that have seen few pictures, and not for long.

    Such features are far from those of published weights: rates that spare them cost more than they keep
    (docs/transfer.md). What they are worth as they are is the first evaluation, so the run ends no worse; the
    classifier that was solved for it is softened afterwards.
    """
    reasons.append(
        "weights that began from scratch in a run of ours: trained on as from scratch, with all its rates and "
        "variation, which was better than sparing them (docs/transfer.md); --tune full spares them"
    )
    return replace(
        run,
        tune=TuneConfig(probe=True),
        train=replace(run.train, evaluate_first=True),
        task=replace(run.task, soften=True),
    )


def tuned(run: Run, wishes: Wishes, reasons: list[str]) -> Run:
    """``run`` with what becomes of the weights it begins with; a run from scratch as it is."""
    if run.weights is None:
        return run
    run = replace(run, train=replace(run.train, optim=_optim(run.network)))
    if wishes.tune == "plain":
        return replace(run, tune=TuneConfig(guard="lower"))
    tune, train = TuneConfig(probe=True, guard="lower"), replace(run.train, evaluate_first=True)
    augment = run.task.augment  # weaker than from scratch: the classifier was solved for whole pictures
    augment = replace(augment, crop_scale=(0.7, 1.0), pad=-(-augment.pad // 2), policy="none", erase=0.0)
    task = replace(run.task, augment=augment, mix=MixConfig(mixup=0.0, cutmix=0.0), locate=0.0)
    if wishes.tune == "frozen":
        train = replace(train, steps=0, budget_seconds=None, epochs=None)
        reasons.append("tune frozen: the network stays as it is, and a logistic regression on its features answers")
    elif wishes.tune == "lora":
        tune, train = replace(tune, lora=RANK), replace(train, optim=replace(train.optim, lr=5e-4, layer_decay=1.0))
        reasons.append(f"tune lora: terms of rank {RANK} beside frozen attention, after a logistic regression")
    else:
        reasons.append("tune full: a logistic regression on frozen features first, then all weights with a low rate")
    return replace(run, tune=tune, train=train, task=task)


def _optim(network: NetworkConfig) -> OptimConfig:
    """How weights that know something are trained on: the deeper in the network, the less.

    The decay of 0.75 a block is that of networks of 12 blocks (Bao et al. 2022, BEiT, appendix); in deeper ones the
    lowest blocks would stand still, so there it is as much over all blocks together.
    """
    backbone = outline(network.model, network.size, network.options)
    decay = 0.75 ** min(1.0, 12 / len(backbone.groups()))
    return OptimConfig(name="adamw", lr=3e-4 if has_attention(backbone) else 1e-3, layer_decay=round(decay, 3))
