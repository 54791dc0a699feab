"""How weights came to be, for their card: what repeats them, what they began with, the machine, the licences.

What was measured of them stands in outcome.py.
"""

from __future__ import annotations

import math
import resource
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from vitreous import config as configs
from vitreous.data.dataset import BUILTIN
from vitreous.reports.recorded import json_rows
from vitreous.run import frozen
from vitreous.run.plan import Run, read_json
from vitreous.run.watch import COLLAPSED, MOST, told
from vitreous.store.checkpoint import METRICS, RUN, RunFolder
from vitreous.store.files import sha256_file
from vitreous.tasks.task import SelfSupervised
from vitreous.training.device import Device, versions
from vitreous.training.trainer import Fitted, Trainer
from vitreous.weights import pretrained


def provenance(run: Run, folder: RunFolder, trainer: Trainer, fitted: Fitted) -> dict[str, Any]:
    """What the card of a finished ``run`` says of it, beside what was measured."""
    machine = trainer.device.facts()
    epochs = fitted.steps / trainer.train.steps_per_epoch
    return {
        "command": f"vitreous train {shlex.quote(str(folder.path / RUN))}" if _can_be_opened(run) else "",
        "seed": run.seed,
        "initialisation": _scratch(run) if run.weights is None else f"weights of {_origin(run.weights)}",
        "train": {**configs.to_dict(run.train), "steps": fitted.steps, "epochs": round(epochs, 2)},
        "augmentation": configs.to_dict(run.task),
        **_pretrained(run, folder, trainer, fitted.step),
        **({"frozen": read_json(folder.path / frozen.FILE)} if (folder.path / frozen.FILE).exists() else {}),
        "selection": {"step": fitted.step, "metric": trainer.task.metric(), "value": fitted.score},
        "device": machine["device"],
        "machine": machine,
        "versions": versions(),
        "licences": _licences(run.weights),
        "notices": list(fitted.notices),
    }


def _pretrained(run: Run, folder: RunFolder, trainer: Trainer, step: int) -> dict[str, Any]:
    """What a run without labels adds: its settings, and what was measured at the beginning and of what was kept."""
    if run.pretrain is None:
        return {}
    task, asked = trainer.task, 0 if trainer.val is None else len(trainer.val.pictures)
    assert isinstance(task, SelfSupervised)
    nothing = float(task.nothing)
    rows = {row["step"]: row["val"] for row in json_rows(folder.path / METRICS) if "val" in row}
    first, kept = rows.get(0, {}), rows.get(step, {})
    begun = "of the untrained network" if run.weights is None else "it began with"
    learned = {
        "method": run.pretrain.method,
        "first": first,
        "kept": kept,
        "asked": min(asked, MOST),
        "told": told(first, kept, min(asked, MOST), begun, step),
        "nothing": nothing if math.isfinite(nothing) else None,
        "collapsed": COLLAPSED,
        "panels": list(task.panels),
    }
    return {"pretrain": configs.to_dict(run.pretrain), "learned": learned}


def _can_be_opened(run: Run) -> bool:
    """Whether the data has a name; pictures that were handed over in memory have none."""
    return run.data.source in BUILTIN or Path(run.data.source).exists()


def _scratch(run: Run) -> str:
    return "scratch" if run.init == "default" else f"scratch, {run.init}"


def _origin(weights: str) -> str:
    published = pretrained.parse(weights)
    if published:
        return f"{published.repository}, SHA-256 {published.sha256}"
    return f"{weights}, SHA-256 {sha256_file(weights)}" if Path(weights).is_file() else weights


def _licences(weights: str | None) -> dict[str, str]:
    """Of the program, of what was trained, and of what that began with."""
    licences = {"vitreous": "Apache-2.0", "these weights": "yours: trained on your pictures"}
    published = pretrained.parse(weights) if weights else None
    if published:
        licences["these weights"] += f", from weights under {published.terms}"
        licences[published.repository] = published.terms
    return licences


def peak_memory(device: Device) -> float:
    """The most memory held at once, in 10**6 bytes: of the GPU, or of this process."""
    if device.place.type == "cuda":
        return torch.cuda.max_memory_allocated(device.place) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
