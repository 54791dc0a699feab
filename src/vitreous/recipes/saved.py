"""A run that was saved, as a run again; and a run with single fields changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vitreous import config
from vitreous.errors import BadData
from vitreous.recipes.wishes import LENGTHS, named
from vitreous.run.plan import Run

_RATES = {"train.optim.name", "train.optim.lr", "train.optim.muon_lr"}


def repeat(file: str | Path) -> Run:
    """The run that a run.json describes.

    Raises:
        BadData: the file is missing or not JSON.
        UsageError: it is JSON, but not of a run of this version; names the field.
    """
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadData(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise BadData(f"{file} is not valid JSON ({error}); take the run.json of a run folder.") from None
    return config.from_dict(Run, values)


def adjust(run: Run, changes: Sequence[str]) -> Run:
    """``run`` with ``"train.optim.lr=1e-3"`` and the like applied.

    One length (steps, epochs, budget) takes the place of another. A repeated run keeps the steps that it had, unless a
    change is about how long, how often or how many at once.

    Raises:
        UsageError: not of the form NAME=VALUE, no such field, or a value that does not fit it.
    """
    values = named(changes)
    if len(values.keys() & LENGTHS) == 1:
        values = {**dict.fromkeys(LENGTHS, "none"), **values}
    if values.keys() & {*LENGTHS, "train.batch", "train.evaluate_every"}:
        values.setdefault("train.plan", "none")
    if run.tune.guard == "lower" and values.keys() & _RATES:
        values.setdefault("tune.guard", "refuse")  # what was asked for is not silently changed
    if run.teacher is not None and ("train.plan" in values or any(name.startswith("teacher.") for name in values)):
        values.setdefault("teacher.plan", "none")
    return config.override(run, values)
