"""The public verbs: what ``import vitreous`` and the command line both call, with the same names and arguments.

Each verb is thin: it opens what it is given, calls one room, and hands back a result. Importing this module loads
neither torch nor any room, so that ``vitreous --help`` is quick.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Never

from vitreous.comparison.verb import compare
from vitreous.embedding.verb import embed
from vitreous.explain.verb import trace
from vitreous.pretraining.verb import pretrain

if TYPE_CHECKING:
    from vitreous.data.check import CheckResult
    from vitreous.network import Network
    from vitreous.predictor import Predictor
    from vitreous.recipes import Wishes
    from vitreous.results import Classes
    from vitreous.run.review import Evaluation
    from vitreous.weights.ledger import Listed

__all__ = [
    "check",
    "compare",
    "create",
    "embed",
    "evaluate",
    "list_models",
    "load",
    "predict",
    "pretrain",
    "report",
    "resume",
    "trace",
    "train",
]


def check(data: str | Path, *, out: str | Path | None = None, quiet: bool = False) -> CheckResult:
    """Look through a data set before training: what is unreadable, duplicated, leaking, imbalanced.

    Nothing is deleted or changed. Writes check.json and quarantine.csv into DATA.check/ beside the data; every
    later verb leaves the pictures listed there alone, and the list may be edited by hand. The exit code is 0 if what
    is left can be trained on, and 7 if train would refuse it.

    Parameters
    ----------
    data
        Folder of class folders (or of train/val/test folders of class folders), CSV file with the columns path,label,
        or an embedded set: digits, shapes.
    out
        Folder for check.json and quarantine.csv instead of DATA.check/.
    quiet
        No progress bar.
    """
    from vitreous.data.check import check as examine
    from vitreous.training.log import counting

    with counting("Looking at every picture", quiet=quiet) as progress:
        return examine(data, out=out, progress=progress)


def train(
    data: str | Path,
    *,
    recipe: Literal["auto", "scratch", "plain"] = "auto",
    model: str = "auto",
    out: str | Path | None = None,
    budget: str | None = None,
    epochs: float | None = None,
    size: int | None = None,
    batch: int | None = None,
    resize: Literal["crop", "letterbox", "squash"] | None = None,
    weights: str | Path | None = None,
    pretrained: bool | str = False,
    tune: Literal["full", "lora", "frozen", "plain"] | None = None,
    teacher: str | Path | None = None,
    unlabelled: str | Path | Sequence[str | Path] = (),
    seed: int = 0,
    workers: int = 1,
    allow_bad: float = 0.01,
    set: Sequence[str] = (),
    overwrite: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
) -> Predictor:
    """Train a classifier and measure it on pictures it never saw.

    Writes a run folder: weights, a card of how they came to be, report.html. RUN/run.json as DATA repeats that run.

    Parameters
    ----------
    data
        Folder of class folders (or of train/val/test folders of class folders), CSV file with the columns
        path,label[,split], an embedded set (digits, shapes), or the run.json of an earlier run.
    recipe
        How what is left open is chosen: auto begins with published weights if they are in the cache already and suit
        the pictures, else from scratch; scratch never begins with weights; plain is a textbook's, to compare with.
    model
        A name from `vitreous models`, or auto: chosen from the data.
    out
        The run folder; default runs/DATA-MODEL, numbered when that exists.
    budget
        Time to train, for example 20m or 1h30m. The number of steps follows from how fast the first ones are.
    epochs
        Passes over the training pictures, instead of a time budget.
    size
        Side in pixels of what the network sees; default chosen from the data.
    batch
        Pictures a step; default chosen from the data.
    resize
        How a picture becomes a square: crop its centre, letterbox it with grey bars, or squash it; chosen by default.
    weights
        Start from a run folder, or a checkpoint file (safetensors, pt) of timm, torchvision, Hugging Face.
    pretrained
        Start from published weights of the model, fetched from the Hugging Face hub: its default ones, or those
        with this tag; `vitreous models NAME` lists them. With --weights FILE that file is taken for them.
    tune
        What becomes of these weights: a classifier on frozen features, in under a minute (frozen), followed by all
        weights at low rates (full, the default but for runs from scratch) or by terms of low rank (lora, for little
        memory); or all at once (plain).
    teacher
        Learn from a frozen network beside the labels: a run folder; hub:NAME or hub:NAME.TAG, published weights; or
        a model such as resnet20_cifar, which is trained first on the same pictures, with 40 % of the budget.
    unlabelled
        Further folders or tables of pictures, whose labels are not looked at: what the network is sure of, it learns
        from too. Those like one of validation or test are left out. Several with --unlabelled A --unlabelled B.
    seed
        Seed of everything random; the same seed on the same machine gives the same model.
    workers
        Threads that prepare batches.
    allow_bad
        Share of unreadable pictures that is tolerated (they are left out).
    set
        Change any field of the run: --set train.optim.lr=1e-3. See run.json for the names.
    overwrite
        Replace the run folder if it exists.
    tensorboard
        Also write TensorBoard events into RUN/events.
    quiet
        No progress bar, and no lines of what was chosen and left out; the report has them.
    """
    given = locals()
    from vitreous import recipes
    from vitreous.run import execution

    like = Path(data).parent if Path(data).suffix == ".json" else None
    if like is None:
        plan, reasons = recipes.choose(_wishes(given))
    else:
        _refuse_beside_a_run(given)
        plan, reasons = recipes.adjust(recipes.repeat(data), set), list[str]()
    return execution.execute(plan, out, reasons=reasons, like=like, overwrite=overwrite, quiet=quiet)


def _wishes(given: Mapping[str, Any]) -> Wishes:
    """The arguments of ``train`` but for where the run goes and what is shown of it, paths as texts."""
    from vitreous.recipes import Wishes

    texts = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    wishes: dict[str, Any] = {n: text for n, text in texts.items() if n not in ("out", "overwrite", "quiet")}
    places = (wishes["unlabelled"],) if isinstance(wishes["unlabelled"], str) else wishes["unlabelled"]
    return Wishes(**{**wishes, "unlabelled": tuple(map(str, places))})


def _refuse_beside_a_run(given: Mapping[str, Any]) -> None:
    """A run.json says everything of a run; an option that it would silently outvote is refused."""
    from vitreous.errors import UsageError

    allowed = ("data", "out", "set", "overwrite", "quiet")
    options = [p for p in inspect.signature(train).parameters.values() if p.name not in allowed]
    changed = [f"--{p.name.replace('_', '-')}" for p in options if given[p.name] != p.default]
    if changed:
        raise UsageError(
            f"{given['data']} says all of a run, so {' and '.join(changed)} would do nothing; "
            "change its fields with --set, as in --set seed=7 or --set train.epochs=50."
        )


def resume(folder: str | Path, *, previous: bool = False, force: bool = False, quiet: bool = False) -> Predictor:
    """Go on with an interrupted run; the result is the same, bit for bit, as if it had never stopped.

    Parameters
    ----------
    folder
        The run folder.
    previous
        If the newest checkpoint is damaged, go on from the one before it.
    force
        Go on even though the data has changed since the run began.
    quiet
        No progress bar.
    """
    from vitreous.run import execution

    return execution.resume(folder, previous=previous, force=force, quiet=quiet)


def evaluate(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    split: Literal["test", "val", "train", "all"] | None = None,
    allow_bad: float | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Measure a trained run on its own test split, or on other labelled pictures.

    Parameters
    ----------
    folder
        The run folder.
    data
        Another data set with the same classes; default: the run's own.
    split
        Which part: default the test split of the run's own data, all of another data set.
    allow_bad
        Share of unreadable pictures that is tolerated; default: as in training.
    quiet
        No progress bar.
    """
    from vitreous.run import review

    return review.evaluate(folder, data, split=split, allow_bad=allow_bad, quiet=quiet)


def predict(
    folder: str | Path,
    pictures: str | Path | bytes | Sequence[Any],
    *,
    batch: int = 32,
    coverage: float | None = None,
) -> Classes | list[Classes]:
    """Classify pictures with a trained run. One picture in, one answer out; several in, a list out.

    Parameters
    ----------
    folder
        The run folder.
    pictures
        File, folder, glob pattern, or a list of files.
    batch
        Pictures that go through the network at once.
    coverage
        Also name the classes among which the right one is with at least this probability, such as 0.9.
    """
    return load(folder).predict(pictures, batch=batch, coverage=coverage)


def report(folder: str | Path, *, out: str | Path | None = None) -> Path:
    """Write the page of a run again and return its place.

    Parameters
    ----------
    folder
        The run folder.
    out
        File to write; default RUN/report.html.
    """
    from vitreous.run import review

    return review.report(folder, out)


def create(
    model: str,
    *,
    classes: int | None = None,
    pretrained: bool | str = False,
    weights: str | Path | None = None,
    size: int | None = None,
    channels: int | None = None,
    drop_path: float = 0.0,
    options: Mapping[str, Any] | None = None,
    **misnamed: Never,
) -> Network:
    """A network by name: a torch module from pictures (b, c, h, w), uint8 or float in [0, 1], to logits.

    What is done with published weights is logged: ``logging.getLogger("vitreous")``.

    Parameters
    ----------
    model
        A name of the catalogue.
    classes
        Outputs. Default 1000, or as many as the weights have. Any other number gives a fresh classifier.
    pretrained
        Published weights from the Hugging Face hub, and the preprocessing that goes with them: True for the model's
        default ones, or a tag.
    weights
        A file (.safetensors, .pt, .pth) of timm, torchvision, Hugging Face, an original release, or one's own: what
        ``Network.save`` wrote comes back as it was, unless other arguments say otherwise. Beside ``pretrained``: the
        file of those published weights, where it cannot be fetched.
    size
        Side of the pictures in pixels. Default: the model's own, or that of the weights; positions are resampled.
    channels
        Of the pictures. Default 3, or as many as one's own weights have. The kernels of weights for another number
        are summed to one channel or repeated for more.
    drop_path
        Rate of stochastic depth.
    options
        Further fields of the family's config.
    misnamed
        Nothing: other arguments, such as those of timm and transformers, are refused with their name here.

    Raises:
        UsageError: an unknown model, tag or option, or values that contradict each other.
        Unreachable: the weights are not here and cannot be fetched.
        UnusableWeights: they do not fit the model, or the file is broken or not to be trusted; ``keys`` names them.
        DamagedFile: the weights are not what was published.
    """
    from vitreous.errors import UsageError
    from vitreous.weights import pretrained as published

    published.refuse(misnamed, [name for name in inspect.signature(create).parameters if name != "misnamed"])
    if not isinstance(pretrained, bool) and not (isinstance(pretrained, str) and pretrained):
        raise UsageError(f"pretrained is true, false or the tag of published weights, not {pretrained!r}.")
    more: dict[str, Any] = {"size": size, "drop_path": drop_path, "options": options}
    if weights is not None and not pretrained:
        return published.own(model, weights, classes=classes, channels=channels, **more)
    more["channels"] = 3 if channels is None else channels
    if not pretrained:
        return published.fresh(model, classes=1000 if classes is None else classes, **more)
    tag = pretrained if isinstance(pretrained, str) else None
    return published.create(model, tag=tag, file=weights, classes=classes, **more)


def list_models(pattern: str = "*") -> list[Listed]:
    """The models that can be trained, with their cost and the weights published for them.

    Parameters
    ----------
    pattern
        Part of a name, or a pattern such as 'vit_*'.
    """
    from vitreous import models
    from vitreous.weights.ledger import listed

    found = models.names(pattern) or models.names(f"*{pattern}*")
    if not found:
        models.find(pattern)  # raises, with the nearest names
    return [listed(name) for name in found]


def load(folder: str | Path) -> Predictor:
    """A trained run, checked against its hashes and ready to answer.

    Raises:
        DamagedFile: a file is not what was saved; names it.
        UsageError: the folder is not a run.
    """
    from vitreous.predictor import Predictor

    return Predictor.load(folder)
