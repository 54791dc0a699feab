"""Where a run starts: a network with its weights, the first answer from them, and settings that leave them alive.

Knows the order in which these follow; frozen.py measures, rates.py tries, plan.py says what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vitreous.analyse.probe import Numbers
from vitreous.config import from_dict
from vitreous.data.loader import Loader
from vitreous.data.prepare import Prepared
from vitreous.data.remarks import counted
from vitreous.errors import UsageError
from vitreous.layers.lora import adapt
from vitreous.layers.mimetic import mimetic
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.run import frozen, rates
from vitreous.run.frozen import Baseline
from vitreous.run.memory import require_memory
from vitreous.run.outcome import answer, chosen_by_known, shown_before, speed
from vitreous.run.plan import Run
from vitreous.store.checkpoint import RunFolder
from vitreous.tasks.classify import ClassifyTask
from vitreous.training.device import Device
from vitreous.training.log import Log
from vitreous.weights import foreign, pretrained

SHARE = 0.25  # of a time budget that looking at frozen features may take
GUARD = 0.2  # of it, that trying rates may take; the first trial half of that
_LEAST = 0.25  # of the pictures of a trial, below which it would say nothing


class Start(NamedTuple):
    """What is trained, and how; ``run`` is as asked for, with what was left open settled."""

    run: Run
    network: Network
    baseline: Baseline | None


def begin(run: Run, prepared: Prepared, device: Device, log: Log, *, load: bool = True) -> Start:
    """The network of ``run``, ready to be trained.

    Args:
        load: also load ``run.weights`` and settle what hangs on them; a run that goes on from a checkpoint has done so.

    Raises:
        UsageError: weights of another architecture or none where they are needed, or a rate that would destroy them.
        DamagedFile: the weights are not what was saved.
        Unreachable: the weights are not here and cannot be fetched.
    """
    if run.train.steps != 0:
        require_memory(run, device.place, world=device.world)
    device.seed(run.seed, -1)  # the fresh weights; steps are counted from 0
    network = build_network(run.network)
    if run.init == "mimetic" and not mimetic(network.backbone):
        raise UsageError(f"init = mimetic is for ViT and CCT; {run.network.model} has no such attention, leave it out.")
    network.to(device.place)
    baseline, pace = None, math.inf
    if run.weights is not None and load:
        if budget(run) < math.inf:
            pace = device.agree(speed(network, batch=8, repeats=3))
        baseline = _load(run, network, prepared, log, pace) if device.is_first else None  # others get its weights
        looked = int(device.agree(baseline.pictures if baseline else 0))
        penalty = device.agree(baseline.penalty if baseline else 0.0)
        run = replace(run, tune=replace(run.tune, pictures=looked or None, penalty=penalty or None))
    if run.tune.lora is not None:
        network.backbone.freeze()
        if not adapt(network.backbone, run.tune.lora, run.tune.alpha):
            raise UsageError(f"{run.network.model} has no attention with linear layers for LoRA; leave out tune.lora.")
    device.share([*network.parameters(), *network.buffers()])
    if run.weights is not None and load and run.tune.guard != "off" and run.train.steps != 0:
        run = _guarded(run, network, prepared, device, log, pace=pace)
    return Start(run, network, baseline)


def budget(run: Run) -> float:
    """Seconds that the run may take; any number where its length is known in steps."""
    train = run.train
    return math.inf if train.budget_seconds is None or train.plan is not None else train.budget_seconds


def _load(run: Run, network: Network, prepared: Prepared, log: Log, pace: float) -> Baseline | None:
    """Load the weights, and ask what they know."""
    assert run.weights is not None
    before = [tensor.clone() for tensor in network.head.parameters()]
    log.say(f"weights: {pretrained.told(load_weights(network, run.weights, prepared.classes))}")
    if Path(run.weights).is_dir():
        other, who = RunFolder.open(run.weights), f"The weights of {run.weights} were"
        for sentence in (*shown_before(other, prepared, who), *chosen_by_known(other, prepared, who)):
            log.notice(sentence)
    if not run.tune.probe:
        return None
    baseline = frozen.probe(
        network,
        prepared,
        fresh=all(torch.equal(old, new) for old, new in zip(before, network.head.parameters(), strict=True)),
        balanced=run.task.balanced or run.task.class_weights,
        pictures=run.tune.pictures,
        penalty=run.tune.penalty,
        seconds=SHARE * budget(run),
        pace=pace,
    )
    log.say(baseline.told())
    return baseline


def _guarded(run: Run, network: Network, prepared: Prepared, device: Device, log: Log, *, pace: float) -> Run:
    """``run`` with a learning rate that leaves the features alive. From then on that rate is meant.

    A trial looks at fewer pictures where the budget is short; one that was settled so is not tried again with all.

    Raises:
        UsageError: the rate was asked for and is not such a one, or none is.
    """
    seconds = GUARD * budget(run)
    work = 2 * rates.LOOKED + 3 * rates.STEPS * rates.BATCH  # in pictures looked at; a step is three looks
    share = min(1.0, 0.5 * seconds * pace / work) if pace < math.inf else 1.0
    if share < _LEAST:
        asked_for = f"a learning rate of {run.train.optim.rate:g}"
        log.notice(f"The budget is too short to try whether {asked_for} destroys what these weights know.")
        return replace(run, tune=replace(run.tune, guard="off"))
    task = ClassifyTask(network, run.task, run.data.preprocess, prepared.class_counts["train"])
    place: dict[str, Any] = {"seed": run.seed, "rank": device.rank, "world": device.world, "workers": run.workers}
    batch = min(run.train.batch, round(share * rates.BATCH))
    train = Loader(prepared.train, task.views(True), batch=batch, train=True, balanced=run.task.balanced, **place)
    few = prepared.subset(prepared.indices("train")[: round(share * rates.LOOKED)])

    def look() -> tuple[Numbers, Numbers]:
        found = answer(network, few)
        return found.pooled.numpy(), found.labels.numpy()

    found = rates.attempt(task, run.train.optim, train, look, device, seed=run.seed, seconds=seconds)
    asked, best = found.trials[0], found.trials[-1]
    tune = replace(run.tune, guard="refuse" if share == 1 else "off")
    settled = replace(run, tune=tune, train=replace(run.train, optim=best.optim))
    if asked.sound:
        return settled
    told = (
        f"A learning rate of {asked.optim.rate:g} destroys what these weights know: after {rates.STEPS} steps their "
        f"nearest neighbours name {asked.after:.0%} of {counted(len(few))} rightly, {found.before:.0%} before"
    )
    rate = best.optim.rate
    if not best.sound:
        raise UsageError(f"{told}, and {rate:g} still leaves {best.after:.0%}; keep them frozen: --tune frozen.")
    told += f"; {rate:g} leaves {best.after:.0%}"
    if run.tune.guard == "refuse":
        raise UsageError(f"{told}: set train.optim.lr={rate:g}, or tune.guard=off to insist.")
    log.notice(f"{told}, so it is {rate:g}.")
    return settled


def load_weights(network: Network, place: str, classes: Sequence[str]) -> foreign.Loaded:
    """Start ``network`` from ``Run.weights``.

    The classifier comes along if the classes are the same, or, where a file does not name them, as many.

    Raises:
        UsageError: another architecture, or no such place.
        DamagedFile: not what was saved.
        Unreachable: it cannot be fetched.
    """
    if Path(place).is_dir():
        other = RunFolder.open(place)
        card = other.load_card()
        made = from_dict(NetworkConfig, card["network"]["config"])
        found = foreign.understand(other.load_weights(), network.config.model, made)
        return foreign.load(network, found, keep_head=tuple(card["data"]["classes"]) == tuple(classes))
    published = pretrained.parse(place)
    return foreign.load(network, published.fetch()[1] if published else place, keep_head=None)
