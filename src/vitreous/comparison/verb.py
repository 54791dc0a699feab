"""The verb ``compare``. Importing this loads neither torch nor another room: the command line's help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vitreous.comparison.result import Comparison


def compare(
    data: str | Path,
    *,
    models: str | Sequence[str] = (),
    init: str | Sequence[str] = "scratch",
    teacher: str | Path | None = None,
    seeds: int = 3,
    budget: str | None = None,
    equal: Literal["time", "epochs", "steps", "macs"] = "time",
    fractions: str | float | Sequence[float] = 1.0,
    size: int | None = None,
    out: str | Path | None = None,
    jobs: int = 1,
    set: Sequence[str] = (),
    quiet: bool = False,
) -> Comparison:
    """Settle on your own pictures which model to use: same split, same preprocessing, same time for each.

    Writes a page and one sentence: which to use, by how much and at what cost, or that the data cannot tell. The same
    command goes on where it was stopped; a model that fails does not lose the others.

    Parameters
    ----------
    data
        Folder of class folders, CSV file, or an embedded set (digits, shapes), as for train.
    models
        Names from `vitreous models` with commas between; auto is the transformer that suits the pictures, which is
        also compared with itself without attention. Default: auto and the usual ones.
    init
        How they begin, with commas between: scratch, pretrained (published weights), or run folders.
    teacher
        Adds the transformer taught by it: a model that is trained first, a run folder, or hub:NAME.TAG, as for train.
    seeds
        Runs of every model.
    budget
        Time of one run, for example 10m; default by the number and size of the pictures.
    equal
        What all have the same of. Other than time, all get what the first run of the first model did in the budget.
    fractions
        Shares of the training pictures, as in 0.1,0.25,0.5,1: how much further pictures would help.
    size
        Side in pixels of what the networks see; default chosen from the data.
    out
        Folder for the runs and the page; default runs/DATA-comparison.
    jobs
        Runs at a time.
    set
        Change any field of all runs: --set train.batch=32.
    quiet
        No progress bar.
    """
    from vitreous.comparison import conduct
    from vitreous.comparison.question import ask

    fields = {"seeds": seeds, "budget": budget, "equal": equal, "size": size, "set": tuple(set)}
    question = ask(data, models, init, fractions, teacher=None if teacher is None else str(teacher), **fields)
    return conduct.watched(question, out, jobs=jobs, quiet=quiet)
