"""Whether learning without labels was worth its time on these pictures: the question, put to a comparison.

Knows nothing of how the answer is found (``comparison``); what is asked stands here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vitreous import duration, recipes
from vitreous.comparison import conduct
from vitreous.comparison.question import PRETRAINED, SCRATCH, Question
from vitreous.comparison.result import Comparison
from vitreous.comparison.setting import require_test
from vitreous.data.dataset import open_source
from vitreous.data.prepare import DataConfig, prepare
from vitreous.errors import UsageError, VitreousError
from vitreous.predictor import Predictor
from vitreous.training.interrupt import Interrupted
from vitreous.training.log import counting


def refuse(data: str, out: str | Path | None, changes: Sequence[str] = (), *, allow_bad: float) -> None:
    """Refuse, before anything is looked at, a verdict that could not be given.

    Raises:
        UsageError: the pictures have no labels to measure by, or an earlier verdict is in the way.
    """
    if len(open_source(data).classes) < 2:
        raise UsageError(
            f"--verdict measures by labels, and {data} has none of two classes or more; leave it out, or label some "
            "pictures: give the labelled ones as DATA and the others with --unlabelled."
        )
    if out is None or not place(out).exists():
        return
    earlier = UsageError(f"{place(out)} holds an earlier verdict; move it, or choose another --out.")
    if (place(out) / conduct.COMPARISON).exists():
        raise earlier
    try:
        question = ask(data, Predictor.load(out), changes, allow_bad=allow_bad)
    except VitreousError:
        raise earlier from None
    raise UsageError(
        f"{out} is whole, and its verdict was stopped; choose another --out, or go on with: {again(question, out)}"
    )


def examine(data: DataConfig, *, quiet: bool) -> None:
    """Refuse, before anything is trained, labelled pictures that a comparison, which has no others, would refuse.

    Raises:
        BadData: too many are unreadable, too few of a class, or none is left for test.
    """
    with counting("Looking at the labelled pictures", quiet=quiet) as look:
        require_test(prepare(replace(data, unlabelled=()), progress=look))


def place(run: str | Path) -> Path:
    """Where the verdict on a run lies: beside its folder, which nothing changes once it is whole."""
    path = Path(run)
    return path.with_name(f"{path.name}-verdict")


def ask(data: str, run: Predictor, changes: Sequence[str] = (), *, allow_bad: float) -> Question:
    """The same network from scratch, from ``run`` and from its frozen features, on the data of ``run``.

    Published weights are among them where ``train`` would begin with them: where they are in the cache and suit. Each
    fine-tuning gets as long as ``run`` took.

    Args:
        changes: fields of the run as its user set them; those of the data hold here too.
        allow_bad: as the run had it.
    """
    assert run.folder is not None
    if allow_bad != recipes.Wishes.allow_bad:  # else `compare` without it would ask another question
        changes = (f"data.allow_bad={allow_bad}", *changes)
    values = recipes.named(changes)
    fraction = float(values.pop("data.fraction", 1.0))
    about = tuple(f"{name}={value}" for name, value in values.items() if name.startswith("data."))
    budget = duration.show(max(60 * run.card["cost"]["minutes"], 1.0))
    usual, _ = recipes.choose(recipes.Wishes(data=data, budget=budget, set=about))
    init = (SCRATCH, str(run.folder), *([PRETRAINED] if usual.weights else []))
    return Question(data=data, init=init, fractions=(fraction,), set=about)


def again(question: Question, run: str | Path) -> str:
    """The command that asks ``question`` where the verdict on ``run`` lies."""
    words = ["vitreous", "compare", question.data, "--init", ",".join(question.init), "--out", str(place(run))]
    if question.fractions != (1.0,):
        words += ["--fractions", ",".join(map(str, question.fractions))]
    for change in question.set:
        words += ["--set", change]
    return shlex.join(words)


def judge(data: str, run: Predictor, changes: Sequence[str], *, allow_bad: float, quiet: bool) -> Comparison:
    """The verdict on ``run``, a finished one.

    Raises:
        Interrupted: everything is kept; says the command that goes on.
    """
    assert run.folder is not None
    question = ask(data, run, changes, allow_bad=allow_bad)
    try:
        return conduct.watched(question, place(run.folder), jobs=1, quiet=quiet)
    except Interrupted as stopped:
        said = f"{run.folder} is whole, and its verdict was stopped; go on with: {again(question, run.folder)}"
        raise Interrupted(stopped.signal, said) from None
