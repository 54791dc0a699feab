"""Where the teacher of a run comes from: another run, published weights, or a network that is trained first.

Refuses one that cannot teach, in one sentence. What is asked of a teacher stands in teacher.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitreous import config as configs
from vitreous import models
from vitreous.data.prepare import Prepared
from vitreous.data.preprocess import Preprocess
from vitreous.errors import UsageError
from vitreous.network import NetworkConfig, build_network
from vitreous.run.outcome import chosen_by_known, shown_before
from vitreous.run.teacher import FACTS, Teacher, TeacherConfig, is_kept
from vitreous.store.checkpoint import WEIGHTS, RunFolder
from vitreous.store.sealed import read_sealed
from vitreous.training.optim import OptimConfig
from vitreous.weights import pretrained

if TYPE_CHECKING:
    from vitreous.run.plan import Run


def named(place: str) -> TeacherConfig:
    """The teacher that ``--teacher`` names, pinned to the weights it has today.

    Raises:
        UsageError: no such run, weights or model, or a run that has not finished.
        Unreachable: published weights are not here and cannot be fetched.
    """
    published = pretrained.parse(place)
    if published is not None:
        # one look and one forward pass a picture: published networks are large beside what is trained from scratch
        return TeacherConfig(place=published.fetch()[0].place, view="whole")
    if Path(place).is_dir():
        card = RunFolder.open(place).load_card()
        return TeacherConfig(place=str(Path(place).absolute()), sha256=card["files"][WEIGHTS]["sha256"])
    try:
        models.find(place)
    except UsageError as error:
        raise UsageError(f"{place!r} is no run folder, nor hub:NAME.TAG; and as a model, {error}") from None
    return TeacherConfig(place=place)


def own_run(run: Run, left: float | None) -> Run:
    """The run that trains the teacher of ``run``, when ``left`` seconds of its budget are left."""
    config, train = run.teacher, run.train
    assert config is not None
    lengths: dict[str, Any] = {
        "steps": None if train.steps is None else max(1, round(train.steps * config.share)),
        "epochs": None if train.epochs is None else train.epochs * config.share,
        "budget_seconds": None if left is None else max(left * config.share, 1e-3),
    }
    return replace(
        run,
        network=_fresh(run, config.place),
        task=replace(run.task, label_smoothing=0.0, locate=0.0, soften=False),
        train=replace(train, plan=config.plan, optim=OptimConfig() if run.weights else train.optim, **lengths),
        weights=None,
        tune=replace(run.tune, probe=False, lora=None),
        init="default",
        teacher=None,
    )


def _fresh(run: Run, model: str) -> NetworkConfig:
    network = run.network
    return NetworkConfig(model=model, classes=network.classes, size=network.size, mean=network.mean, std=network.std)


def open_teacher(run: Run, prepared: Prepared, folder: RunFolder, *, going_on: bool = False) -> Teacher:
    """The teacher of ``run``; one that is to be trained first has fresh weights as yet.

    Args:
        going_on: what is kept in ``folder`` is of this run.

    Raises:
        UsageError: there is no such teacher, it is another one than it was, or it cannot read these pictures.
        DamagedFile: it is not what was saved.
        Unreachable: published weights are not here and cannot be fetched.
    """
    config = run.teacher
    assert config is not None
    if going_on and config.view == "whole" and is_kept(folder, config, prepared):
        facts = read_sealed(folder.path / FACTS)
        return Teacher(config, None, run.data.preprocess, None, facts)
    if config.place.startswith(pretrained.PREFIX):
        teacher = _published(run, config)
    elif config.is_model:
        teacher = _model(run, config)
    else:
        teacher = _finished(run, config, prepared, folder)
    assert teacher.network is not None
    channels, ours = len(teacher.network.config.mean), len(run.network.mean)
    if channels != ours:
        raise UsageError(f"The teacher {config.place} reads pictures of {channels} channels, not {ours}; take another.")
    if teacher.columns is None and config.distill.features == 0:
        raise UsageError(
            f"The teacher {config.place} knows other classes, so only its features can teach; "
            "set teacher.distill.features above 0."
        )
    return teacher


def _published(run: Run, config: TeacherConfig) -> Teacher:
    published = pretrained.parse(config.place)
    assert published is not None
    published, file = published.fetch()
    weights = published.weights
    size = weights.usual_size
    network = pretrained.create(published.model, tag=weights.tag, file=file, classes=weights.classes or 1, size=size)
    preprocess = replace(run.data.preprocess, size=size, store=size)
    facts = {"name": f"{published.repository} (published weights)", "licence": published.terms}
    return Teacher(config, network, preprocess, None, facts)


def _model(run: Run, config: TeacherConfig) -> Teacher:
    network = build_network(_fresh(run, config.place))
    facts = {"name": f"{config.place}, trained first on the same pictures"}
    columns = list(range(run.network.classes))
    return Teacher(config, network, run.data.preprocess, columns, facts)


def _finished(run: Run, config: TeacherConfig, prepared: Prepared, folder: RunFolder) -> Teacher:
    other = RunFolder.open(config.place)
    if folder.path.resolve() in (other.path.resolve(), *other.path.resolve().parents):
        raise UsageError(f"The teacher {config.place} lies where the run itself is to be; choose another --out.")
    card = other.load_card()
    if config.sha256 not in (None, card["files"][WEIGHTS]["sha256"]):
        raise UsageError(
            f"{config.place} holds other weights than the teacher had; set teacher.sha256=none to take them."
        )
    network = build_network(configs.from_dict(NetworkConfig, card["network"]["config"]))
    other.load_weights(network)
    theirs = list(card["data"]["classes"])
    columns = [theirs.index(name) for name in prepared.classes] if set(theirs) == set(prepared.classes) else None
    who = f"The teacher {config.place} was"
    notices = [*shown_before(other, prepared, who), *chosen_by_known(other, prepared, who)]
    if columns is None:
        notices.append(f"The teacher {config.place} knows other classes: its features teach, its answers do not.")
    facts = {"name": f"{network.config.model} of {config.place}", "notices": notices}
    preprocess = configs.from_dict(Preprocess, card["preprocess"])
    return Teacher(config, network, preprocess, columns, facts)
