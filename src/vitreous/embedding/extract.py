"""Features of every picture, written as they come: memory does not grow with their number, but for their names.

Knows where pictures come from and what a network is; what becomes of the rows is ``store.pieces``'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitreous.data.dataset import Source
from vitreous.data.image import decode, fit
from vitreous.data.listing import printable
from vitreous.data.prepare import quarantine_of
from vitreous.embedding.result import Embedding
from vitreous.embedding.weights import Eye
from vitreous.errors import BadData
from vitreous.network import Network
from vitreous.store.pieces import pieces
from vitreous.types import UNLABELLED

SAVED = 16  # batches between two marks of how far it has come
_LOOKAHEAD = 2  # threads that decode while the network looks

Seen = Tensor | str
"""(3, size, size) uint8, or why there is nothing."""


def extract(
    eye: Eye, source: Source, spec: str, out: Path, *, patches: bool, batch: int, progress: Callable[[int, int], None]
) -> Embedding:
    """Write the features of ``source`` to ``out``, going on where an earlier call was stopped.

    Args:
        spec: what ``source`` was opened with.
        patches: also those of the last map, (d, h, w) float16 a picture.
        progress: told ``(done, in all)``.

    Raises:
        BadData: no picture can be read.
        VitreousError: as ``pieces``.
    """
    n, network = len(source), eye.network.optimise()
    shapes: dict[str, tuple[tuple[int, ...], str]] = {"pooled": ((network.backbone.width,), "float32")}
    if patches:
        blank = torch.zeros(1, 3, eye.preprocess.size, eye.preprocess.size, dtype=torch.uint8)
        shapes["patches"] = (tuple(_look(network, blank)[1].shape[1:]), "float16")
    with pieces(out, {**eye.identity, **_about(source), "patches": patches}, n, shapes) as written:
        start, empty = written.done()
        fresh: dict[int, str] = {}  # since the last mark
        left_out = quarantine_of(spec)
        for number, (first, seen) in enumerate(_batches(source, eye, left_out, start, batch)):
            found = {first + i: x for i, x in enumerate(seen) if isinstance(x, Tensor)}
            fresh |= {first + i: x for i, x in enumerate(seen) if isinstance(x, str)}
            if found:
                rows, answers = list(found), _look(network, torch.stack(list(found.values())))
                for name, values in zip(written.arrays, answers, strict=False):
                    written.arrays[name][rows] = values.numpy()
            if number % SAVED == SAVED - 1:
                written.mark(first + len(seen), fresh)
                empty |= fresh
                fresh = {}
            progress(first + len(seen), n)
        written.mark(n, fresh)
        empty |= fresh
        if len(empty) == n:
            written.discard()
            why = next(iter(empty.values()), "there is none")
            raise BadData(f"None of the {n:,} pictures of {printable(source.root)} can be used ({why}); mend them.")
        left = {source.name(i): why for i, why in sorted(empty.items())}
        written.finish(_told(source, out, empty), empty, {"left_out": _pairs(left)})
    return Embedding(out, left, {name: (n - len(empty), *shape) for name, (shape, _) in shapes.items()})


@torch.inference_mode()
def _look(network: Network, image: Tensor) -> tuple[Tensor, Tensor]:
    """(b, 3, s, s) -> pooled (b, d) float32 and the last map (b, d, h, w) float16."""
    features = network.features(image.to(network.mean.device))
    return features.pooled.float().cpu(), features.maps[-1].half().cpu()


def _batches(
    source: Source, eye: Eye, left_out: dict[str, str], start: int, batch: int
) -> Iterator[tuple[int, list[Seen]]]:
    """The number of the first picture, and the pixels of so many; the next ones are decoded meanwhile."""

    def see(i: int) -> Seen:
        reason = left_out.get(source.name(i))
        if reason is not None:
            return f"in quarantine: {reason}"
        try:
            return fit(decode(source.read(i), eye.preprocess).pixels, eye.preprocess)
        except BadData as error:
            return str(error)

    with ThreadPoolExecutor(_LOOKAHEAD) as pool:
        places = [(i, min(i + batch, len(source))) for i in range(start, len(source), batch)]
        ahead = [pool.submit(see, i) for i in range(*places[0])] if places else []
        for number, (first, _) in enumerate(places):
            seen = [future.result() for future in ahead]
            following = places[number + 1] if number + 1 < len(places) else (0, 0)
            ahead = [pool.submit(see, i) for i in range(*following)]
            yield first, seen


def _about(source: Source) -> dict[str, Any]:
    """What tells the list of pictures from every other."""
    digest = hashlib.sha256()
    for i in range(len(source)):
        digest.update(f"{source.name(i)}\0{source.labels[i]}\0".encode("utf-8", "surrogateescape"))
    return {"root": printable(source.root), "pictures": len(source), "names": digest.hexdigest()}


def _told(source: Source, out: Path, empty: dict[int, str]) -> dict[str, list[str]]:
    """Names and labels of the rows."""
    kept = [i for i in range(len(source)) if i not in empty]
    classes = ("", *source.classes)
    names, labels = [source.name(i) for i in kept], [classes[source.labels[i] - UNLABELLED] for i in kept]
    if out.suffix == ".parquet":  # its texts are UTF-8, which names of files need not be
        names, labels = ([printable(text) for text in column] for column in (names, labels))
    return {"name": names, "label": labels}


def _pairs(values: Mapping[str, str]) -> np.ndarray:
    return np.array(list(values.items()), dtype=np.str_).reshape(-1, 2)
