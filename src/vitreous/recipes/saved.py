"""A run that was saved, as a run again; and a run with single fields changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vitreous import config
from vitreous.errors import BadData, UsageError
from vitreous.run.plan import Run

_RATES = {"train.optim.name", "train.optim.lr", "train.optim.muon_lr"}
_LENGTHS = ("train.steps", "train.epochs", "train.budget_seconds")


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
    pairs = [change.partition("=") for change in changes]
    for name, equals, _ in pairs:
        if not (name.strip() and equals):
            raise UsageError(f"{name!r} does not set anything; write NAME=VALUE, as in train.optim.lr=1e-3.")
    named = {name.strip(): value for name, _, value in pairs}
    if len(named.keys() & _LENGTHS) == 1:
        named = {**dict.fromkeys(_LENGTHS, "none"), **named}
    if named.keys() & {*_LENGTHS, "train.batch", "train.evaluate_every"}:
        named.setdefault("train.plan", "none")
    if run.tune.guard == "lower" and named.keys() & _RATES:
        named.setdefault("tune.guard", "refuse")  # what was asked for is not silently changed
    if run.teacher is not None and ("train.plan" in named or any(name.startswith("teacher.") for name in named)):
        named.setdefault("teacher.plan", "none")
    return config.override(run, named)
