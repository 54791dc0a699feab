"""Which network looks at the pictures: a run folder, or published weights by name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from vitreous import models
from vitreous.data.preprocess import Preprocess
from vitreous.errors import UsageError
from vitreous.network import Network
from vitreous.predictor import Predictor
from vitreous.store.checkpoint import WEIGHTS
from vitreous.weights import ledger, pretrained
from vitreous.weights.pretrained import Published


class Eye(NamedTuple):
    """A network in eval mode with the preprocessing that belongs to it, and what tells it from every other."""

    network: Network
    preprocess: Preprocess
    identity: dict[str, object]


def open_network(place: str, published: bool = False) -> Eye:
    """The network that ``place`` names.

    Args:
        place: a run folder, ``hub:NAME``, ``hub:NAME.TAG``, or with ``published`` a name of the catalogue.

    Raises:
        UsageError: neither of them, or a name without ``published``.
        DamagedFile: not what was saved.
        Unreachable: it cannot be fetched.
    """
    if Path(place).is_dir():
        if published:
            raise UsageError(f"{place} is a run with weights of its own; leave out --pretrained.")
        run = Predictor.load(place)
        return _eye(run.network, run.preprocess, run.card["files"][WEIGHTS]["sha256"])
    found = pretrained.parse(place)
    if found is None:
        if len(Path(place).parts) > 1:  # no name of a model has a slash
            raise UsageError(f"There is no run folder {place}; give one, or weights as hub:NAME.")
        models.find(place)
        if not published:
            raise UsageError(f"{place} is a model without weights; add --pretrained, or give a run folder.")
        found = Published(place, ledger.find(place, None))
    return _published(found)


def _published(found: Published) -> Eye:
    """Weights of the ledger, and the square picture that its row says they were measured with."""
    fetched, path = found.fetch()
    weights = found.weights
    size = weights.usual_size
    classes = weights.classes or 1  # the features are looked at, whatever follows them
    network = pretrained.create(found.model, tag=weights.tag, file=path, classes=classes, size=size)
    rules = Preprocess(size=size, store=round(size / weights.crop), crop=weights.crop)
    return _eye(network.eval(), rules, str(fetched.sha256))


def _eye(network: Network, preprocess: Preprocess, sha256: str) -> Eye:
    config = network.config
    known: dict[str, object] = {"model": config.model, "size": config.size, "weights": sha256}
    return Eye(network, preprocess, {**known, "preprocess": asdict(preprocess)})
