"""From a run to a run folder: prepare the data, train, measure, report; and go on where that was stopped.

Knows the order of things and the files they leave. What a run is stands in plan.py, what its numbers mean in
outcome.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from vitreous import config as configs
from vitreous.data.dataset import Source, open_source, without_classes
from vitreous.data.prepare import Prepared, prepare
from vitreous.errors import UsageError
from vitreous.layers.lora import merge
from vitreous.predictor import Predictor
from vitreous.reports.page import write_report
from vitreous.run import frozen, outcome, start, trust
from vitreous.run.find_teacher import open_teacher, own_run
from vitreous.run.floor import floor
from vitreous.run.plan import Run, read_json, read_run, to_json
from vitreous.run.provenance import peak_memory, provenance
from vitreous.run.review import thumbnails
from vitreous.run.teacher import FOLDER, Teacher, TeacherConfig, earlier
from vitreous.run.wiring import build
from vitreous.store.checkpoint import RUN, RunFolder
from vitreous.training.device import Device, open_device
from vitreous.training.interrupt import Interrupted
from vitreous.training.log import Log, counting
from vitreous.training.trainer import Fitted, Trainer
from vitreous.weights import foreign

DATA = "data.json"  # what the data was when the run began


def execute(
    run: Run,
    out: str | Path | None = None,
    *,
    source: Source | None = None,
    reasons: Sequence[str] = (),
    like: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Predictor:
    """Train ``run`` in a new folder, measure it, and write its report.

    Args:
        out: the folder; by default one below runs/ that does not exist yet.
        source: pictures that are open already, instead of ``run.data.source``.
        reasons: why the run is as it is, for the user.
        like: the folder of an earlier run that this one repeats; said if the data is no longer the same.
        overwrite: replace a run that is there.

    Raises:
        VitreousError: as in the README's table of exit codes; nothing that was there before is lost.
    """
    with open_device(run.train.device, run.train.precision) as device:
        place = Path(out) if out is not None else _place(run)
        device.barrier()  # all processes have looked for a free name before one of them takes it
        folder = RunFolder.create(place) if device.is_first else RunFolder(place)
        device.barrier()
        try:
            return _work(
                run, folder, device, source=source, reasons=reasons, like=like, overwrite=overwrite, quiet=quiet
            )
        finally:
            if device.is_first:
                folder.remove_if_empty()


def resume(folder: str | Path, *, previous: bool = False, force: bool = False, quiet: bool = False) -> Predictor:
    """Go on with an interrupted run. A finished one is only checked and loaded.

    Raises:
        UsageError: not a run folder, or the data has changed and ``force`` is not given; names what changed.
        DamagedFile: the newest checkpoint is damaged and ``previous`` is not given.
    """
    opened = RunFolder.open(folder)
    if opened.is_sealed():
        return Predictor.load(folder)
    run = read_run(opened)
    with open_device(run.train.device, run.train.precision) as device:
        return _work(run, opened, device, going_on=True, previous=previous, force=force, quiet=quiet)


def _work(
    run: Run,
    folder: RunFolder,
    device: Device,
    *,
    source: Source | None = None,
    prepared: Prepared | None = None,
    reasons: Sequence[str] = (),
    like: Path | None = None,
    overwrite: bool = False,
    going_on: bool = False,
    previous: bool = False,
    force: bool = False,
    quiet: bool = False,
    brief: bool = False,
) -> Predictor:
    begin = time.monotonic()
    log = Log(folder.path if device.is_first else None, quiet=quiet, tensorboard=run.tensorboard)
    with folder.lock() if device.is_first else nullcontext():
        if device.is_first and not going_on:
            folder.require_free(overwrite=overwrite)
        prepared = prepared or _prepare(run, source, device, quiet=quiet)
        run = replace(run, network=replace(run.network, classes=max(len(prepared.classes), 1)))
        changed = _other_data(folder.path if going_on else like, prepared)
        if changed and going_on and not force:
            raise UsageError(
                f"The data is not what {folder.path} began with: {changed}. "
                "Bring it back, give --force to go on all the same, or train a new run."
            )
        if changed and like is not None:
            reasons = (*reasons, f"The data is not what {like} was trained on: {changed}. This is another run.")
        for sentence in (*reasons, *prepared.notices) if not going_on else ():
            log.say(sentence)
        new = not (going_on and folder.steps())
        teacher = open_teacher(run, prepared, folder, going_on=going_on) if run.teacher else None
        before = earlier(folder) if going_on and new else 0.0  # a checkpoint of the run itself knows all its time
        run, network, baseline = start.begin(run, prepared, device, log, load=new)
        spent = time.monotonic() - begin + before
        if teacher is not None and new:
            teacher.require_time(run, prepared, device, start.budget(run) - spent)
        trainer = build(run, prepared, network, folder, device, log=log, spent=spent, teacher=teacher)
        if device.is_first and not going_on:  # only now: what was here before is lost to no mistake in what was asked
            folder.clear()
            folder.write(RUN, to_json(configs.to_dict(run)))
            folder.write(DATA, to_json(describe(prepared)))
        if baseline is not None:
            folder.write(frozen.FILE, to_json(baseline.facts()))
        device.barrier()
        if teacher is not None:
            for sentence in teacher.facts.get("notices", ()):
                log.notice(sentence)
            _teach(run, teacher, folder, prepared, device, spent=spent, previous=previous, force=force, quiet=quiet)
        fitted = trainer.fit(resume=going_on, previous=previous, force=force)
        if device.is_first:
            _finish(run, folder, prepared, trainer, fitted, teacher=teacher, brief=brief)
        device.barrier()
    return Predictor.load(folder.path)


def _teach(
    run: Run,
    teacher: Teacher,
    folder: RunFolder,
    prepared: Prepared,
    device: Device,
    *,
    spent: float,
    previous: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Train the teacher first, where it is yet to be trained, and let it look at the training pictures."""
    config, own = run.teacher, RunFolder(folder.path / FOLDER)
    assert config is not None
    before, begin = earlier(folder), time.monotonic()
    if config.is_model and teacher.network is not None:
        device.barrier()
        finished, begun = own.is_sealed(), own.is_run()
        device.barrier()  # all processes have looked before one of them changes what is there
        budget = run.train.budget_seconds
        try:
            if finished:
                predictor = Predictor.load(own.path)
            else:  # its page and what is told of its trust would take time from its pupil
                first = read_run(own) if begun else own_run(run, None if budget is None else budget - spent)
                RunFolder.create(own.path)
                how: dict[str, Any] = {"going_on": begun, "previous": previous, "force": force, "quiet": quiet}
                predictor = _work(first, own, device, prepared=prepared, brief=True, **how)
        except Interrupted as stopped:
            said = f"Stopped while the teacher was being trained; go on with vitreous resume {folder.path}."
            raise Interrupted(stopped.signal, said) from None
        teacher.network = predictor.network
        teacher.facts["accuracy"] = predictor.card["metrics"].get("val", {}).get("accuracy")
    teacher.study(run, prepared, folder, device, before + time.monotonic() - begin)


def _prepare(run: Run, source: Source | None, device: Device, *, quiet: bool) -> Prepared:
    """Survey the data: the first process fills the cache, the others find it filled."""
    if not device.is_first:
        device.barrier()
    with counting("Looking at every picture", quiet=quiet or not device.is_first) as progress:
        source = source if source is not None else open_source(run.data.source)
        labelled = run.pretrain is None or len(source.classes) > 1
        if not labelled:  # one class tells no more than none
            source = without_classes(source, np.ones(len(source.classes), dtype=np.bool_))
        further = run.pretrain is not None or run.pseudo is not None
        prepared = prepare(run.data, labelled=labelled, unlabelled=further, source=source, progress=progress)
    if device.is_first:
        device.barrier()
    # that no picture of a class can be used is known only now
    if labelled and run.network.classes not in (len(prepared.classes), len(prepared.classes) + len(prepared.unused)):
        raise UsageError(
            f"network.classes = {run.network.classes}, but the data has {len(prepared.classes)} classes; "
            "set it, or train on the same data."
        )
    return prepared


def _other_data(earlier: Path | None, prepared: Prepared) -> str:
    """How the data differs from that of an earlier run, in words; nothing if it does not or nobody knows."""
    if earlier is None or not (earlier / DATA).exists():
        return ""
    before, now = read_json(earlier / DATA), describe(prepared)
    if before["digests"] == now["digests"]:
        return ""
    changes = [
        f"{path} was {old}, is {new}"
        for path, old, new in configs.diff(before, now)
        if path.startswith(("classes", "counts"))
    ]
    return "; ".join(changes) or "other pictures, as many as before"


def _finish(
    run: Run,
    folder: RunFolder,
    prepared: Prepared,
    trainer: Trainer,
    fitted: Fitted,
    *,
    teacher: Teacher | None,
    brief: bool = False,
) -> None:
    """Measure the chosen weights and write everything that ships; with ``brief`` no more than that."""
    network, device = trainer.task.network, trainer.device
    network.load_state_dict(fitted.weights)
    merge(network)
    seconds = fitted.seconds
    if run.pretrain is not None and prepared.classes:
        baseline = frozen.probe(network, prepared, fresh=True)
        seconds += baseline.seconds  # it is what ships of such a run, and a comparison gives others as much time
        trainer.log.say(baseline.told())
        folder.write(frozen.FILE, to_json(baseline.facts()))
    found = outcome.measure(network, prepared)
    trusted = trust.examine(network, prepared, found) if prepared.classes and not brief else trust.Trust({}, {})
    taught = 0.0 if teacher is None else float(teacher.facts["seconds"])
    images = fitted.steps * run.train.batch / max(fitted.seconds - taught, 1e-9) if fitted.steps else None
    cost = outcome.cost(network, seconds=seconds, images_per_second=images, peak=peak_memory(device))
    finished = replace(run, train=replace(run.train, plan=fitted.plan), teacher=_repeatable(run, folder))
    elders = (run.weights, run.teacher.place if run.teacher and not run.teacher.is_model else None)
    inherited, lost = outcome.handed_down(filter(None, elders))
    facts = provenance(finished, folder, trainer, fitted) | trusted.facts
    facts["notices"] += lost
    if not brief:
        facts["floor"] = floor(prepared)
    if teacher is not None:
        facts["teacher"] = teacher.told(fitted.seconds)
    card = outcome.card(network, prepared, found, cost, facts)
    folder.write(RUN, to_json(configs.to_dict(finished)))
    files = outcome.outputs(found, prepared, inherited) | trusted.files
    folder.publish(network.state_dict(), card, files, foreign.about(network.config))
    if not brief:
        write_report(folder.path, thumbnail=thumbnails(prepared.source))
    folder.seal()


def _repeatable(run: Run, folder: RunFolder) -> TeacherConfig | None:
    """The teacher as it was trained, so that the run file repeats that too."""
    if run.teacher is None or not run.teacher.is_model:
        return run.teacher
    return replace(run.teacher, plan=read_run(RunFolder(folder.path / FOLDER)).train.plan)


def describe(prepared: Prepared) -> dict[str, Any]:
    """The data as it was when the run began: enough to say later what has changed."""
    return {
        "source": prepared.source.root,
        "classes": list(prepared.classes),
        "counts": prepared.class_counts,
        "digests": prepared.digests,
    }


def _place(run: Run) -> Path:
    """runs/DATA-MODEL, of a run without labels runs/DATA-METHOD-MODEL, or that with the first free number."""
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(run.data.source).stem) or "pictures"
    name = "-".join((stem, *((run.pretrain.method,) if run.pretrain else ()), run.network.model))
    names = (f"{name}{f'-{n}' if n > 1 else ''}" for n in count(1))
    return next(Path("runs") / name for name in names if not (Path("runs") / name).exists())
