"""The verb ``pretrain``. Importing this loads neither torch nor another room: the command line's help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vitreous.comparison.result import Comparison
    from vitreous.predictor import Predictor


def pretrain(
    data: str | Path,
    *,
    method: Literal["mae", "simmim", "dino"],
    unlabelled: str | Path | Sequence[str | Path] = (),
    model: str = "auto",
    begin: str | Path | None = None,
    budget: str | None = None,
    epochs: float | None = None,
    size: int | None = None,
    batch: int | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    workers: int = 1,
    allow_bad: float = 0.01,
    set: Sequence[str] = (),
    verdict: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
) -> Predictor | Comparison:
    """Learn from your own pictures without their labels, and watch whether it is worth the time.

    Labels, where there are some, only tell how good the features are while they are learned: by nearest neighbours and
    by a linear classifier on validation. Pictures of validation and test, and those like them, are never learned from.
    The result is a run folder: begin with it by `vitreous train DATA --weights RUN`.

    Parameters
    ----------
    data
        Folder of pictures with or without class folders, CSV file, or an embedded set (digits, shapes).
    method
        mae hides most patches from a ViT and paints them; simmim does so with any model; dino makes views of one
        picture agree.
    unlabelled
        Further folders or tables of pictures, whose labels are not looked at; may be given several times.
    model
        A name from `vitreous models`, or auto: chosen from the data and the method.
    begin
        Start from the weights of a run folder, a file, or `pretrained`: the published ones of the model.
    budget
        Time to train, for example 20m or 1h30m.
    epochs
        Passes over the pictures, instead of a time budget.
    size
        Side in pixels of what the network sees; default chosen from the data.
    batch
        Pictures a step; default chosen from the data.
    out
        The run folder; default runs/DATA-METHOD-MODEL, numbered when that exists.
    seed
        Seed of everything random; the same seed on the same machine gives the same weights.
    workers
        Threads that prepare batches.
    allow_bad
        Share of unreadable pictures that is tolerated (they are left out).
    set
        Change any field of the run: --set pretrain.mae.mask=0.6. See run.json for the names.
    verdict
        Settle afterwards whether it was worth it: three seeds each of as much fine-tuning from scratch, from this run,
        from its frozen features, and of training from scratch for the whole time. The page is beside the run folder,
        RUN-verdict/comparison.html; `vitreous compare DATA --init scratch,RUN` does the same later. Where no step made
        the features better, that is the verdict.
    overwrite
        Replace the run folder if it exists.
    tensorboard
        Also write TensorBoard events into RUN/events.
    quiet
        No progress bar, and no lines of what was chosen and left out.
    """
    from vitreous import recipes
    from vitreous.pretraining import verdict as worth
    from vitreous.recipes import pretrain as recipe
    from vitreous.run import execution

    if verdict:
        worth.refuse(str(data), out, set, allow_bad=allow_bad)
    wishes = recipes.Wishes(
        data=str(data),
        model=model,
        budget=budget,
        epochs=epochs,
        size=size,
        batch=batch,
        weights=None if begin in (None, "pretrained") else str(begin),
        pretrained=begin == "pretrained",
        seed=seed,
        workers=workers,
        allow_bad=allow_bad,
        tensorboard=tensorboard,
    )
    further = (unlabelled,) if isinstance(unlabelled, (str, Path)) else unlabelled
    plan, reasons = recipe.choose(wishes, method, unlabelled=tuple(map(str, further)))
    plan = recipes.adjust(plan, set)
    if verdict:
        worth.examine(plan.data, quiet=quiet)
    run = execution.execute(plan, out, reasons=reasons, overwrite=overwrite, quiet=quiet)
    if not verdict or run.card["selection"]["step"] == 0:  # what learned nothing has nothing to be judged by
        return run
    return worth.judge(str(data), run, set, allow_bad=allow_bad, quiet=quiet)
