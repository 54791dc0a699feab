"""A finished run, looked at again: measured on other pictures, or its page written anew. Nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.scores import Scores, score
from vitreous.data.dataset import Source, open_source
from vitreous.data.image import decode, encode_jpeg
from vitreous.data.listing import printable
from vitreous.data.prepare import prepare
from vitreous.data.preprocess import Preprocess, shrink
from vitreous.data.remarks import counted
from vitreous.errors import BadData, DamagedFile, UsageError
from vitreous.predictor import Predictor
from vitreous.reports.gallery import on_page
from vitreous.reports.page import write_report
from vitreous.run import outcome
from vitreous.run.plan import read_run
from vitreous.store.checkpoint import PAGE, RunFolder
from vitreous.store.tensors import read_tensors
from vitreous.training.log import Log, counting
from vitreous.types import UNLABELLED

Split = Literal["test", "val", "train", "all"]
THUMBNAIL = 96  # pixels of the shorter side


class Evaluation(NamedTuple):
    """A trained run measured on one set of pictures; ``scores`` are those of pictures that it did not know."""

    data: str
    split: str
    scores: Scores
    notices: tuple[str, ...]


def evaluate(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    split: Split | None = None,
    allow_bad: float | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Measure a run on a side of its own data, or on all (or a given side) of other data with the same classes.

    Pictures that the weights were learned from or chosen on do not count, whatever they are called now, unless a side
    of the run's own data was asked for by name, or there are no others.

    Raises:
        UsageError: the other data has classes that the model does not know, or no such side.
        BadData: the pictures cannot be used.
    """
    predictor = Predictor.load(folder)
    predictor.require_classes()
    run = read_run(RunFolder.open(folder))
    other = data is not None
    config = replace(run.data, source=str(data)) if other else run.data
    if allow_bad is not None:
        config = replace(config, allow_bad=allow_bad)
    source = open_source(config.source)
    with counting("Looking at every picture", quiet=quiet) as progress:
        # other pictures may be of one class, or have no split: they are taken as they come
        prepared = prepare(config, labelled=not other, source=source, progress=progress)
    notices = list(prepared.found)
    side = split or ("all" if other else "test")
    indices = prepared.indices(side)
    if other:
        indices = indices[source.labels[indices] != UNLABELLED]
    elif not prepared.digests.items() <= predictor.card["data"]["digests"].items():  # others teach without a label
        notices.append("The data has changed since the run was trained.")
    if not len(indices):
        raise BadData(f"{source.root} has no labelled pictures for {side}; choose another split or other data.")
    labels = _translated(source, indices, predictor.classes)
    logits = outcome.answer(predictor.network, prepared.subset(indices)).logits.numpy()
    known = _known(predictor, [prepared.survey.digests[int(i)] for i in indices])
    taken = np.ones(len(indices), dtype=np.bool_)
    if known is None:
        notices += ["This run does not record which pictures it was trained on; any of them among these flatter it."]
    else:
        fresh = known == 0
        taken = fresh if fresh.any() and (other or side == "test") else taken
        notices += _about_known(known, taken, share=float((logits.argmax(axis=1) == labels).mean()))
    scores = score(logits[taken], labels[taken], predictor.classes, predictor.temperature)
    return Evaluation(str(source.root), side, scores, tuple(notices))


def _known(predictor: Predictor, digests: Sequence[str]) -> NDArray[np.int8] | None:
    """(n,) 1 for pictures that the weights were learned from, 2 for those they were chosen on, 0 for others.

    None for a run that does not say.
    """
    assert predictor.folder is not None
    kept = predictor.card["files"]["outputs.safetensors"]["sha256"]
    tensors = read_tensors(predictor.folder / "outputs.safetensors", kept)
    prints, found = outcome.fingerprints(digests), np.zeros(len(digests), dtype=np.int8)
    for number, side in ((2, "val"), (1, "train")):
        if f"{side}_seen" not in tensors:
            return None
        found[np.isin(prints, tensors[f"{side}_seen"].numpy())] = number
    return found


def _about_known(known: NDArray[np.int8], taken: NDArray[np.bool_], share: float) -> Iterator[str]:
    """How many of the pictures the weights know, and what became of them; ``share`` is the accuracy on all."""
    numbers = ((int((known == 1).sum()), "were trained on"), (int((known == 2).sum()), "chose the checkpoint"))
    told = " and ".join(f"{n:,} {what}" for n, what in numbers if n)
    told = f"Of {taken.size:,} pictures, {told}" if told else ""
    if told and taken.all():
        yield f"{told}: this tells how well it knows them, not how it does on others."
    elif told:
        yield f"{told} and do not count here; with them the accuracy would be {share:.1%}."


def report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run, finished or not, and return its place.

    Pictures that are gone from where they were are taken from the page that the run had before.

    Raises:
        UsageError: no such run, or the page cannot be written there.
        DamagedFile: a file of the run is not what was written.
    """
    opened, log = RunFolder.open(folder), Log(Path(folder))
    inside = out is None or Path(out).resolve().is_relative_to(opened.path.resolve())
    pictures = _Shown(opened)
    with opened.lock() if inside else nullcontext():
        sealed = opened.is_sealed()
        if sealed:
            opened.verify(besides={PAGE})
        if inside:
            opened.unseal()
        try:
            place = write_report(opened.path, None if out is None else Path(out), thumbnail=pictures)
        except OSError as error:
            raise UsageError(f"{out} cannot be written ({error.strerror}); choose another file with --out.") from None
        finally:
            if inside and sealed:  # whatever came of the page, the rest of the run is whole
                opened.seal()
    for sentence in pictures.about():
        log.notice(sentence)
    if not sealed:
        log.notice(f"This run has not finished: the page shows how far it came. vitreous resume {folder} goes on.")
    return place


class _Shown:
    """Small pictures by name, from the data or else from the page before, and what came of looking for them."""

    def __init__(self, run: RunFolder) -> None:
        try:
            self._fresh = thumbnails(open_source(read_run(run).data.source))
        except (BadData, UsageError, DamagedFile):
            self._fresh = lambda name: None  # they are elsewhere now
        self._before = on_page(run.path / PAGE)
        self._kept: set[str] = set()
        self._gone: set[str] = set()

    def __call__(self, name: str) -> bytes | None:
        found = self._fresh(name)
        if found is None:
            found = self._before(name)
            (self._gone if found is None else self._kept).add(name)
        return found

    def about(self) -> Iterator[str]:
        """What the user should know of them."""
        if self._kept:
            yield f"{counted(len(self._kept))} cannot be read any more and came from the page that was there."
        if self._gone:
            yield f"{counted(len(self._gone))} cannot be read any more: the page shows the names alone."


def thumbnails(source: Source) -> Callable[[str], bytes | None]:
    """What the report asks for a small picture by name."""
    numbers = {printable(source.name(i)): i for i in range(len(source))}
    small = Preprocess(size=THUMBNAIL, store=THUMBNAIL)

    def thumbnail(name: str) -> bytes | None:
        if name not in numbers:
            return None
        try:
            return encode_jpeg(shrink(decode(source.read(numbers[name]), small).pixels, small))
        except BadData:
            return None

    return thumbnail


def _translated(source: Source, indices: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
    """Labels of another data set in the model's numbers, by class name."""
    number = {name: i for i, name in enumerate(classes)}
    used = sorted({source.classes[source.labels[i]] for i in indices})
    unknown = [name for name in used if name not in number]
    if unknown:
        raise UsageError(
            f"The model does not know the class{'es' * (len(unknown) > 1)} {', '.join(unknown[:5])}; "
            f"it knows {', '.join(classes[:10])}. Rename the folders, or leave those pictures out."
        )
    return np.array([number[source.classes[source.labels[i]]] for i in indices], dtype=np.int64)
