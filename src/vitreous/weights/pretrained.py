"""Networks that begin with published weights: a name of the ledger, its file on the hub, and the network, together.

A place ``hub:NAME.TAG@SHA256`` names such weights where a path could stand; tag and hash may be left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

from torch import Tensor

from vitreous import models
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign, hub, ledger
from vitreous.weights.files import constants, read
from vitreous.weights.ledger import Weights

PREFIX = "hub:"
Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of the pixels, a channel
_log = logging.getLogger(__name__)


class Published(NamedTuple):
    """Weights of the ledger, and the file they are if that is known."""

    model: str
    weights: Weights
    sha256: str | None = None

    @property
    def repository(self) -> str:
        """Where they lie on the hub."""
        return ledger.repository(self.model, self.weights)

    @property
    def place(self) -> str:
        """What ``parse`` reads."""
        end = f"@{self.sha256}" if self.sha256 else ""
        return f"{PREFIX}{self.model}.{self.weights.tag}{end}"

    @property
    def terms(self) -> str:
        """The licence, and in words what is unusual about it."""
        limits = ledger.RESTRICTED.get(self.weights.licence)
        return f"{self.weights.licence} ({limits})" if limits else self.weights.licence

    def fetch(self) -> tuple[Published, Path]:
        """(the same with its hash, the file).

        Raises:
            DamagedFile: the file on the hub is no longer the one that was named.
        """
        path, sha256 = hub.fetch(self.repository)
        if self.sha256 not in (None, sha256):
            raise DamagedFile(
                f"{self.repository} is another file today (SHA-256 {sha256[:12]}..., not {str(self.sha256)[:12]}...); "
                "give the file of that time with --weights, or start a new run."
            )
        return self._replace(sha256=sha256), path


def parse(place: str) -> Published | None:
    """What a place names; None if it is a path.

    Raises:
        UsageError: no such model or weights.
    """
    if not place.startswith(PREFIX):
        return None
    name, _, sha256 = place.removeprefix(PREFIX).partition("@")
    model, _, tag = name.partition(".")
    return Published(model, ledger.find(model, tag or None), sha256 or None)


def fresh(
    name: str,
    *,
    classes: int,
    size: int | None = None,
    channels: int = 3,
    drop_path: float = 0.0,
    options: Mapping[str, Any] | None = None,
    constants: Constants = ledger.IMAGENET,
) -> Network:
    """The model called ``name`` with fresh weights, for pictures normalised by ``constants``.

    Raises:
        UsageError: an unknown model or option, or values that contradict each other.
    """
    mean, std = normalisation(constants, channels)
    size = models.find(name).size if size is None else size
    config: dict[str, Any] = {"classes": classes, "size": size, "drop_path": drop_path, "options": dict(options or {})}
    return build_network(NetworkConfig(model=name, mean=mean, std=std, **config))


def own(name: str, file: str | Path, *, classes: int | None = None, **more: Any) -> Network:
    """The model called ``name`` with the weights of a file of one's own; ``more`` as in ``fresh``.

    The classifier of the file stays if ``classes`` is None or as many as it has; otherwise there is a fresh one.

    Raises:
        VitreousError: as ``read``, ``foreign.load`` and ``fresh``.
    """
    tensors = read(file)
    _, head = classifier(tensors, name)
    outputs = head if classes is None else classes
    if outputs is None:
        raise UsageError(f"{file} has no classifier; say how many classes a fresh one has: classes=N.")
    pair, why = stated(Path(file), name)
    network = fresh(name, classes=outputs, constants=pair, **more)
    same = head == network.config.classes
    _log.info("%s: %s.", file, told(foreign.load(network, tensors, keep_head=same), fresh=not same))
    _log.info("pixels of mean %s and deviation %s: %s.", *pair, why)
    return network


def classifier(tensors: Mapping[str, Tensor], name: str) -> tuple[str, int | None]:
    """(dialect, classes of the file's classifier if it has one)."""
    dialect, theirs = foreign.translate(tensors, models.find(name).family)
    head = theirs.get("head.fc.weight")
    return dialect, None if head is None or head.ndim != 2 else head.shape[0]


def stated(file: Path, name: str) -> tuple[Constants, str]:
    """(mean and deviation that go with a file of weights of ``name``, why these).

    Our own files say so; of others it is what all published weights of the model agree on, or else ImageNet's.
    """
    said = constants(file)
    known = {weights.normalisation for weights in ledger.LEDGER.get(name, ())}
    if said is not None:
        return said, f"as {file.name} says"
    if len(known) == 1:
        return known.pop(), f"those of all published weights of {name}"
    differ = "; published weights differ in it, --pretrained TAG says which these are" if known else ""
    return ledger.IMAGENET, f"ImageNet's, as the file does not say{differ}"


def create(
    name: str,
    *,
    tag: str | None = None,
    file: str | Path | None = None,
    classes: int | None = None,
    size: int | None = None,
    channels: int = 3,
    drop_path: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> Network:
    """The model called ``name`` with published weights and the preprocessing they were trained with.

    The classifier of the file stays if ``classes`` is None or as many as it has; otherwise there is a fresh one.

    Args:
        file: the weights, where they cannot be fetched.

    Raises:
        VitreousError: as ``ledger.find``, ``hub.fetch`` and ``foreign.load``.
    """
    published = Published(name, ledger.find(name, tag))
    weights = published.weights
    if classes is None and not weights.classes:
        raise UsageError(f"{published.repository} has no classifier; say how many classes a fresh one has: classes=N.")
    mean, std = normalisation(weights.normalisation, channels)
    config: dict[str, Any] = {"classes": weights.classes if classes is None else classes, "drop_path": drop_path}
    config |= {"size": weights.size if size is None else size, "options": dict(options or {})}
    network = build_network(NetworkConfig(model=name, mean=mean, std=std, **config))
    if weights.licence in ledger.RESTRICTED:
        _log.warning("%s: %s.", published.repository, published.terms)
    tensors = read(published.fetch()[1] if file is None else file)
    dialect, head = classifier(tensors, name)
    if dialect.startswith(("torchvision", "Hugging Face")):
        raise UsageError(f"{file} holds {dialect} weights, not {published.repository}; leave out pretrained.")
    same = head == network.config.classes
    loaded = foreign.load(network, tensors, keep_head=same)
    _log.info("%s: %s.", published.repository, told(loaded, fresh=not same))
    return network


def normalisation(pair: Constants, channels: int) -> Constants:
    """Mean and deviation for pictures of ``channels``: one channel gets the average, more repeat red, green, blue.

    This is what ``foreign.load`` does with the kernels that see the picture.
    """
    if not isinstance(channels, SupportsIndex):
        raise UsageError(f"channels must be a whole number, not {channels!r}.")
    if channels < 1:
        raise UsageError(f"Pictures have at least 1 channel, not {channels}.")
    if channels == 1:
        return (sum(pair[0]) / len(pair[0]),), (sum(pair[1]) / len(pair[1]),)
    return tuple(tuple(values[i % len(values)] for i in range(channels)) for values in pair)  # type: ignore[return-value]


def told(loaded: foreign.Loaded, *, fresh: bool) -> str:
    """What was done with the tensors, in words."""
    said = [f"{loaded.tensors} tensors of {loaded.dialect}"]
    said += ["a fresh classifier"] if fresh else []
    said += [f"resampled {what}" for what in loaded.resampled]
    return ", ".join(said)
