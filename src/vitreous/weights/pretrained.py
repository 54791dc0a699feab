"""Networks that begin with published weights: a name of the ledger, its file on the hub, and the network, together.

A place ``hub:NAME.TAG@SHA256`` names such weights where a path could stand; tag and hash may be left out.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from vitreous import models
from vitreous.config import must_be
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.store.files import sha256_file
from vitreous.weights import foreign, hub, ledger
from vitreous.weights.files import constants, constants_among
from vitreous.weights.ledger import Weights

MOST_CHANNELS = 65_536
PREFIX = "hub:"
Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of the pixels, a channel
ELSEWHERE = {  # arguments of timm and transformers, and what they are called here
    "num_classes": "classes",
    "num_labels": "classes",
    "drop_path_rate": "drop_path",
    "img_size": "size",
    "image_size": "size",
    "in_chans": "channels",
    "num_channels": "channels",
    "checkpoint_path": "weights",
}
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

    def cached(self) -> Published | None:
        """The same with its hash, if its file is in the cache; the hub is not asked."""
        found = hub.cached(self.repository)
        return self._replace(sha256=found.sha256) if found and self.sha256 in (None, found.sha256) else None

    def fetch(self) -> tuple[Published, Path]:
        """(the same with its hash, the file); the hub is not asked for a file whose hash is known and that is here.

        Raises:
            DamagedFile: the file on the hub is no longer the one that was named.
        """
        here = hub.cached(self.repository) if self.sha256 else None
        if here is not None and here.sha256 == self.sha256:
            return self, here.path
        path, sha256 = hub.fetch(self.repository)
        if self.sha256 not in (None, sha256):
            raise DamagedFile(
                f"{self.repository} is another file today (SHA-256 {sha256[:12]}..., not {str(self.sha256)[:12]}...); "
                "give the file of that time (--weights FILE, in Python weights=FILE), or start a new run."
            )
        return self._replace(sha256=sha256), path

    def compared(self, file: str | Path) -> tuple[int, str]:
        """(level for the log, whether ``file`` is these weights, as far as is known); the hub is not asked."""
        known, own = self.sha256 or hub.known(self.repository), sha256_file(Path(file))
        if known is None:
            return logging.INFO, f"{file} is taken for {self.repository}; nothing on this machine says if it is"
        if known != own:
            differ = f"SHA-256 {own[:12]}..., not {known[:12]}..."
            return logging.WARNING, f"{file} is taken for {self.repository}, and is another file ({differ})"
        return logging.INFO, f"{file} is {self.repository}, by its SHA-256"


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


def refuse(misnamed: Iterable[str], known: Iterable[str]) -> None:
    """Refuse arguments that no model takes; ``known`` are those that one does.

    Raises:
        UsageError: there is one; says what to write instead, where it can be guessed.
    """
    meant = {name: name for name in known} | ELSEWHERE
    for name in misnamed:
        near = difflib.get_close_matches(name, meant, n=1, cutoff=0.75)
        hint = f"write {meant[near[0]]}" if near else "fields of the family's config go into options"
        raise UsageError(f"A model is created without {name}; {hint}.")


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
    options = {} if options is None else options
    must_be(Mapping, options=options)
    config: dict[str, Any] = {"classes": classes, "size": size, "drop_path": drop_path, "options": dict(options)}
    return build_network(NetworkConfig(model=name, mean=mean, std=std, **config))


def own(name: str, file: str | Path, *, classes: int | None = None, **more: Any) -> Network:
    """The model called ``name`` with the weights of a file of one's own; ``more`` as in ``fresh``.

    The classifier of the file stays if ``classes`` is None or as many as it has; otherwise there is a fresh one.

    Raises:
        VitreousError: as ``foreign.understand``, ``foreign.load`` and ``fresh``.
    """
    found = foreign.understand(file, name)
    outputs = _outputs(classes, found.classes, file)
    pair, why = stated(Path(file), name, found.translation.tensors)
    for key, value in _as_saved(name, found).items():
        more[key] = value if more.get(key) is None else more[key]
    network = _filled(fresh(name, classes=outputs, constants=pair, **more), found, str(file))
    _log.info("pixels of mean %s and deviation %s: %s.", *pair, why)
    return network


def _as_saved(name: str, found: foreign.Understood) -> dict[str, Any]:
    """What is not asked for otherwise: as in the network that the weights are of, as far as they say."""
    mean, config = found.translation.tensors.get("mean"), found.config
    saved: dict[str, Any] = {"channels": 3 if mean is None else mean.numel()}
    if config is not None and config.model == name:
        saved |= {"size": config.size, "options": config.options}
    return saved


def create(
    name: str,
    *,
    tag: str | None = None,
    file: str | Path | None = None,
    classes: int | None = None,
    size: int | None = None,
    **more: Any,
) -> Network:
    """The model called ``name`` with published weights and the preprocessing they were trained with.

    The classifier of the file stays if ``classes`` is None or as many as it has; otherwise there is a fresh one.

    Args:
        file: the weights, where they cannot be fetched.
        more: as in ``fresh``.

    Raises:
        VitreousError: as ``ledger.find``, ``hub.fetch``, ``foreign.understand`` and ``foreign.load``.
    """
    if file is not None and models.find(name) and not ledger.LEDGER.get(name):
        raise UsageError(f"No published weights of {name} are known; leave out pretrained to take {file} as your own.")
    published = Published(name, ledger.find(name, tag))
    weights = published.weights
    outputs = _outputs(classes, weights.classes or None, published.repository)
    size = weights.size if size is None else size
    network = fresh(name, classes=outputs, size=size, constants=weights.normalisation, **more)
    if weights.licence in ledger.RESTRICTED:
        _log.warning("%s: %s.", published.repository, published.terms)
    found = foreign.understand(published.fetch()[1] if file is None else file, name)
    if found.dialect.name.startswith(("torchvision", "Hugging Face")):
        raise UsageError(
            f"{file} holds {found.dialect.name} weights, not {published.repository}; leave out pretrained."
        )
    if file is not None:
        level, said = published.compared(file)
        _log.log(level, "%s.", said)
    return _filled(network, found, published.repository)


def _outputs(asked: int | None, held: int | None, place: str | Path) -> int:
    """Classes of the network: what is asked for, or else what the classifier of the weights has."""
    outputs = held if asked is None else asked
    if outputs is None:
        raise UsageError(f"{place} has no classifier; say how many classes a fresh one has: classes=N.")
    return outputs


def _filled(network: Network, found: foreign.Understood, place: str) -> Network:
    """``network`` with these weights, and their classifier if it has as many classes."""
    _log.info("%s: %s.", place, told(foreign.load(network, found, keep_head=None)))
    return network


def stated(file: Path, name: str, tensors: foreign.Tensors | None = None) -> tuple[Constants, str]:
    """(mean and deviation that go with a file of weights of ``name``, why these).

    Our own files say so; of others it is what all published weights of the model agree on, or else ImageNet's.

    Args:
        tensors: of the file, under our names, where they have been read.
    """
    said = constants(file) if tensors is None else constants_among(tensors)
    known = {weights.normalisation for weights in ledger.LEDGER.get(name, ())}
    if said is not None:
        return said, f"as {file.name} says"
    if len(known) == 1:
        return known.pop(), f"those of all published weights of {name}"
    differ = "; published weights differ in it, pretrained (--pretrained TAG) says which these are" if known else ""
    return ledger.IMAGENET, f"ImageNet's, as the file does not say{differ}"


def normalisation(pair: Constants, channels: int) -> Constants:
    """Mean and deviation for pictures of ``channels``: one channel gets the average, more repeat red, green, blue.

    This is what ``foreign.load`` does with the kernels that see the picture.
    """
    must_be(Integral, channels=channels)
    if channels < 1:
        raise UsageError(f"Pictures have at least 1 channel, not {channels}.")
    if channels > MOST_CHANNELS:
        raise UsageError(f"Pictures have at most {MOST_CHANNELS:,} channels, not {channels:,}.")
    if channels == 1:
        return (sum(pair[0]) / len(pair[0]),), (sum(pair[1]) / len(pair[1]),)
    return tuple(tuple(values[i % len(values)] for i in range(channels)) for values in pair)  # type: ignore[return-value]


def told(loaded: foreign.Loaded) -> str:
    """What was done with the tensors, in words."""
    said = [f"{loaded.tensors} tensors of {loaded.dialect}"]
    said += ["a fresh classifier"] if loaded.fresh else []
    said += [f"resampled {what}" for what in loaded.resampled]
    return ", ".join(said)
