"""What a run folder holds, read for the page. Every field may be missing: an unfinished run has a page too.

``card.json``. Texts unless said otherwise; the page leaves out what is absent or of another type:

    vitreous        version                         created     ISO 8601 time
    command         the exact command to repeat     status      "finished" | "stopped" | "running"
    seed            int                             device      "NVIDIA H100", "cpu, 2 threads"
    initialisation  "scratch", or the name of the weights the run started from
    data            {"source", "classes": [k names], "split": "given" | "automatic",
                     "counts": {"train": [k ints], "val": [...], "test": [...]},
                     "digests": {"train": hex, "val": hex, "test": hex}, "notices": [texts],
                     "pictures": {"train", "val", "test", "unlabelled": ints},
                     "unreadable": [[name, reason], ...], "left_out": [[name, reason], ...]}
    network         {"model", "parameters": int, "macs": int, "size": int, "options": {...}}
    preprocess      {...}                           train       {"steps": int, "epochs": number, "batch": int, ...}
    frozen          {"neighbours", "logistic", "classifier": shares right on val before any training, "head", ...}
    selection       {"step": int, "metric", "value": number}    the checkpoint that was kept, chosen on val
    calibration     {"temperature": number}                     fitted on val
    metrics         {"val": Scores.summary(), "test": Scores.summary()}
    cost            dataclasses.asdict(Cost)        versions    {"python", "torch", ...}
    licences        {what: licence}                 notices     [texts]
    augmentation    {...}                           machine     {...}
    teacher         {"name", "says": "features" | "logits and features", "accuracy": number on val, "minutes": number,
                     "share_of_time": number, "licence", "settings": {...}}, where there was one
    pretrain        {...}, where no labels were learned from, and
    learned         {"method", "told": one sentence, "first", "kept": {metric: number} at the beginning and of what is
                     kept, "asked": int, "nothing", "collapsed": loss and spread of having learned nothing, "panels":
                     [what each panel of a strip is]}
    labels          {"checked": int, "pictures": int, "suspects": int, "agreement": number, "list": [suspects]}
    floor           {"side", "accuracy": share right there of a linear classifier on thumbnails, "pictures": int}
    copies          {"groups", "pictures", "left_out", "across": ints, "pairs": [[name, name, what became of them]]}

A suspect is ``{"name", "side", "given", "suggested", "shares": [of given, of suggested]}``; labels.csv has them all.
``selection.metric`` is words, as in "accuracy on validation". ``options``, ``preprocess``, ``train``,
``augmentation``, ``machine``, ``versions`` and ``licences`` are shown as they are, nested fields dotted; a ``config``
inside ``network`` is for programs and is not shown.

``metrics.jsonl``: one object a line, ``{"step", "loss", "lr", ...}`` for training and
``{"step", "val": {"accuracy", "loss", ...}}`` for evaluation; a row may be both; a torn last line is skipped.
``outputs.safetensors``: float32 ``SPLIT_logits`` (n, k) and int64 ``SPLIT_labels`` (n,) for val and test.
It also holds ``train_seen`` and ``val_seen``, fingerprints of the pictures that the weights know, also from a run that
they began with or were taught by; the page has no use for them.
``learned/step-N.png``: what a run without labels shows of a few pictures after step N.
``outputs.json``: ``{"val": [n names], "test": [n names]}``.
``run.json`` and ``data.json`` (as ``data`` above) stand in for the card while there is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vitreous.errors import DamagedFile, UsageError

T = TypeVar("T")
Split = Literal["val", "test"]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The network's answers on one split, labelled pictures only."""

    logits: NDArray[Any]  # (n, k)
    labels: NDArray[np.int64]  # (n,)
    names: list[str]  # n


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """All that the page is made of."""

    name: str  # of the folder
    card: dict[str, Any]
    settings: dict[str, Any]  # run.json, or {}
    rows: list[dict[str, Any]]  # metrics.jsonl
    outputs: dict[Split, Outputs]
    strips: dict[int, bytes] = field(default_factory=dict)  # step: PNG

    def get(self, path: str, kind: type[T]) -> T | None:
        """The card's value at the dotted ``path``, or None when it is absent or not a ``kind``."""
        value: Any = self.card
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, bool) and kind is not bool:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value if isinstance(value, kind) else None

    def text(self, path: str) -> str:
        """The text or whole number at ``path``; "" when absent."""
        found = self.get(path, str)
        number = self.get(path, int)
        return found if found is not None else "" if number is None else str(number)

    def texts(self, path: str) -> list[str]:
        """The list at ``path`` as texts; empty when absent."""
        return [str(v) for v in self.get(path, list) or []]

    def pairs(self, path: str) -> list[tuple[str, str]]:
        """A list of ``[name, reason]`` at ``path``; malformed entries are left out."""
        found = self.get(path, list) or []
        return [(str(p[0]), str(p[1])) for p in found if isinstance(p, (list, tuple)) and len(p) == 2]

    def counts(self, split: str) -> list[int] | None:
        """Pictures of each class in ``split``, or None when that was not recorded."""
        found = self.get(f"data.counts.{split}", list)
        fits = found is not None and all(isinstance(c, int) and c >= 0 for c in found)
        return found if fits and found is not None and len(found) == len(self.classes) else None

    @property
    def classes(self) -> list[str]:
        """The class names; numbered when the card does not hold as many as the outputs have columns."""
        named = self.texts("data.classes")
        width = next((o.logits.shape[1] for o in self.outputs.values()), len(named))
        return named if len(named) == width else [f"class {i}" for i in range(width)]


def read_run(folder: Path) -> Recorded:
    """Read a run folder.

    Raises:
        UsageError: there is no such folder, or nothing of a run in it.
        DamagedFile: a file is there but is not what a run writes.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the run folder that training wrote.")
    card, settings = _object(folder / "card.json"), _object(folder / "run.json")
    rows = list(json_rows(folder / "metrics.jsonl"))
    if not card and (begun := _object(folder / "data.json")):
        card = {"data": begun, "frozen": _object(folder / "frozen.json")}
    if not (card or settings or rows):
        raise UsageError(f"{folder} holds no card.json, run.json or metrics.jsonl; give the folder of a run.")
    strips = {int(path.stem[len("step-") :]): path.read_bytes() for path in folder.glob("learned/step-*[0-9].png")}
    name = folder.resolve().name
    return Recorded(name=name, card=card, settings=settings, rows=rows, outputs=_outputs(folder), strips=strips)


def leaves(values: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """``(dotted name, value as text)`` for every leaf of nested JSON values."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from leaves(value, f"{where}.{name}" if where else str(name))
    elif isinstance(values, list):
        yield where, ", ".join(v if isinstance(v, str) else json.dumps(v) for v in values) or "none"
    else:
        yield where, values if isinstance(values, str) else json.dumps(values)


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} is not the JSON object that a run writes; restore it or run the training again.")
    return value


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file with one on each line; none if there is no such file."""
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the line that a kill tore; the next one is whole again
        if isinstance(row, dict):
            yield row


def _outputs(folder: Path) -> dict[Split, Outputs]:
    path = folder / "outputs.safetensors"
    if not path.is_file():
        return {}
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read ({error}); evaluate the run again to write it anew.") from None
    names = _object(folder / "outputs.json")
    splits: tuple[Split, ...] = ("val", "test")
    return {s: _split(path, tensors, names.get(s), s) for s in splits if len(tensors.get(f"{s}_logits", ()))}


def _split(path: Path, tensors: dict[str, NDArray[Any]], names: Any, split: Split) -> Outputs:
    logits, labels = tensors[f"{split}_logits"], tensors.get(f"{split}_labels", np.zeros(0, np.int64))
    n = len(logits)
    names = [str(v) for v in names] if isinstance(names, list) else [f"{split} picture {i}" for i in range(n)]
    fits = logits.ndim == 2 and labels.shape == (n,) and len(names) == n and labels.max(initial=0) < logits.shape[1]
    if not fits or not np.isfinite(logits).all():
        raise DamagedFile(f"{path} does not fit outputs.json for {split}; evaluate the run again to write both anew.")
    known = np.flatnonzero(labels >= 0)
    return Outputs(logits=logits[known], labels=labels[known].astype(np.int64), names=[names[i] for i in known])
