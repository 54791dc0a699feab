"""Other people's weights in our names: timm, torchvision, Hugging Face, original releases, and our own earlier runs.

Every tensor of the file and every tensor of the network is accounted for; what does not fit is refused by name. The
tables of names lie beside this file, one a family. Knows nothing of where files come from.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitreous import models
from vitreous.config import from_dict
from vitreous.errors import DamagedWeights, Unfit
from vitreous.network import NOTE, Network, NetworkConfig
from vitreous.weights.dialect import Dialect, Translation
from vitreous.weights.files import note, read, refuse_unreadable

Tensors = Mapping[str, Tensor]

ANYHOW = ("size", "channels", "drop_path", "zero_init", "layer_scale")  # fields that weights do not depend on
CONSTANTS = ("mean", "std")  # of the pixels, which our own files have
_log = logging.getLogger(__name__)

OURS = Dialect(
    name="vitreous", family="", marks=(r"backbone\..+",), rules=((r"(backbone\..+|head\..+|mean|std)", r"\1"),)
)
TABLES = (
    # modules beside this one, each with its DIALECTS
    "cct",
    "convnext",
    "efficientnet",
    "efficientvit",
    "efficientvit_ms",
    "mobilenet",
    "mobilevit",
    "mobilevitv2",
    "resnet",
    "swin",
    "swinv2",
    "vit",
)


class Understood(NamedTuple):
    """Weights whose every tensor has one of our names. Whether they fit a network is another matter."""

    dialect: Dialect
    translation: Translation
    made: Any = None  # the family's config of the network that they are of, where it is known
    config: NetworkConfig | None = None  # of that network

    @property
    def classes(self) -> int | None:
        """Of the classifier among them; None without one."""
        head = self.translation.tensors.get("head.fc.weight")
        return None if head is None or head.ndim != 2 else head.shape[0]


class Loaded(NamedTuple):
    """What ``load`` did."""

    dialect: str
    tensors: int  # how many of the network's tensors came from the file
    dropped: tuple[str, ...]  # our names of what was left out because a new head was asked for
    resampled: tuple[str, ...]  # what changed its shape or measure: "backbone.pos_embed (1, 197, 192) to (1, 50, 192)"
    fresh: bool  # whether the network's own classifier stayed


def dialects() -> list[Dialect]:
    """Every dialect known here, our own first."""
    tables = (importlib.import_module(f"vitreous.weights.{table}") for table in TABLES)
    return [OURS, *(dialect for table in tables for dialect in table.DIALECTS)]


def translate(tensors: Tensors, family: str = "") -> tuple[Dialect, Translation]:
    """(dialect, the same tensors under our names: ``backbone.*`` and ``head.*``).

    Where several dialects use the same names, that of ``family`` is taken.

    Raises:
        Unfit: no dialect is recognised.
    """
    tensors = _without_prefix(tensors)
    spoken = [dialect for dialect in dialects() if dialect.speaks(tensors)]
    if not spoken:
        raise Unfit(f"These weights are of no architecture known here: they begin with {_list(tensors)}.", tensors)
    dialect = next((d for d in spoken if d.family == family), spoken[0])
    return dialect, dialect.translate(tensors)


def about(config: NetworkConfig) -> dict[str, str]:
    """What one of our own files says beside its tensors: the network that they are of, which shapes do not show."""
    return config.note()


def understand(source: str | Path | Tensors, model: str, made: NetworkConfig | None = None) -> Understood:
    """The weights in a file, or with such names, as those of the model called ``model``.

    Args:
        made: the network that they are of, where the source does not say so.

    Raises:
        Unfit: they belong to another architecture, or have parts that it lacks.
        DamagedWeights: the file is broken, or holds values that are not numbers.
        UsageError: no such file.
    """
    place, tensors = ("The state dict", source) if isinstance(source, Mapping) else (source, read(source))
    refuse_unreadable(tensors, str(place))
    # as float32: for numbers of 8 bits torch lacks the question, and what float32 cannot hold is infinite in it
    broken = [k for k, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all())]
    if broken:
        raise DamagedWeights(
            f"{place} holds values that are not finite numbers in {_list(broken)}; take a sound file.", broken
        )
    family = models.find(model).family
    dialect, translation = translate(tensors, family)
    if dialect.family not in ("", family):
        raise Unfit(
            f"{place} holds {dialect.name} weights; {model} is of the family {models.FAMILIES[family][1]}, so choose "
            "the model they were made for.",
            tensors,
        )
    if translation.unknown:
        raise Unfit(
            f"These {dialect.name} weights have parts this architecture lacks: {_list(translation.unknown)}.",
            translation.unknown,
        )
    if made is None and not isinstance(source, Mapping):
        made = _stated(Path(source))
    if made is not None and models.find(made.model).family != family:
        raise Unfit(f"{place} holds weights of {made.model}, not of {model}; choose that model.", tensors)
    if made is None and dialect is OURS:
        _log.warning("%s does not say which network its weights are of; they are taken for those of %s.", place, model)
    return Understood(dialect, translation, None if made is None else _settled(made), made)


def _stated(file: Path) -> NetworkConfig | None:
    """The network that one of our own files says its weights are of."""
    said = note(file, NOTE)
    try:
        return None if said is None else from_dict(NetworkConfig, json.loads(said), f"The network in {file}")
    except (ValueError, RecursionError) as error:
        raise DamagedWeights(f"{file} does not say plainly which network its weights are of ({error}).") from None


def _settled(config: NetworkConfig) -> Any:
    """The config of the family, with all that the catalogue and the family add."""
    return models.configured(
        config.model, size=config.size, channels=len(config.mean), drop_path=config.drop_path, options=config.options
    )


def load(network: Network, source: str | Path | Tensors | Understood, *, keep_head: bool | None = True) -> Loaded:
    """Put foreign weights into ``network``, in place, all or nothing.

    What the family knows how to resample (positions of another grid) is resampled, and a stem for another number of
    channels is adapted; ``Loaded.resampled`` says what. Counters of batches, which older files lack, may be missing.

    Args:
        keep_head: whether the file's classifier comes along, or the network's own stays as it is; None: it comes along
            if it has as many classes.

    Raises:
        Unfit: the weights belong to another architecture or number of classes; names the keys.
        UsageError, DamagedWeights: as ``understand``.
    """
    if not isinstance(source, Understood):
        source = understand(source, network.config.model)
    dialect, translation, made, _ = source
    if keep_head is None:
        keep_head = source.classes == network.config.classes
    _refuse_other_arithmetic(source, network)
    own, theirs = network.state_dict(), dict(translation.tensors)
    resampled = tuple(network.backbone.adapted(made)) if made is not None else ()
    resampled += _measured(theirs, network) if dialect.family else ()
    dropped = () if keep_head else tuple(key for key in theirs if key.startswith("head."))
    theirs = {key: t for key, t in theirs.items() if key not in dropped}
    _refuse_other_numbers(source, theirs, own)
    resampled += _fit(theirs, network)
    wanted = own if keep_head else {key: t for key, t in own.items() if not key.startswith("head.")}
    _refuse_misfits(source, theirs, wanted)
    network.load_state_dict(own | theirs)
    return Loaded(dialect.name, len(theirs), dropped, resampled, not keep_head)


def _without_prefix(tensors: Tensors) -> Tensors:
    """Names without what parallel and compiled wrappers put before all of them."""
    for prefix in ("module.", "_orig_mod."):
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): t for key, t in tensors.items()}
    return tensors


def _fit(theirs: dict[str, Tensor], network: Network) -> tuple[str, ...]:
    """Bring tensors of another shape into the network's, in place, where a stated rule exists; what was done."""
    own = network.state_dict()
    done = []
    for key, tensor in theirs.items():
        if key in CONSTANTS and key in own and tensor.ndim == own[key].ndim and tensor.numel() == tensor.shape[1]:
            theirs[key] = for_channels(tensor, own[key].shape[1])
        if key not in own or own[key].shape == tensor.shape or not key.startswith("backbone."):
            continue
        name = key.removeprefix("backbone.")
        fitted = network.backbone.fitted(name, tensor)
        if name == f"{network.backbone.stem}.weight":
            fitted = _for_channels(tensor if fitted is None else fitted, own[key])
        if fitted is not None and fitted.shape == own[key].shape:
            theirs[key] = fitted
            done.append(f"{key} {tuple(tensor.shape)} to {tuple(fitted.shape)}")
    return tuple(done)


def for_channels(constants: Tensor, new: int) -> Tensor:
    """Mean or deviation (1, c, 1, 1) for ``new`` channels: the average for one, else repeated, as the kernels are."""
    if constants.shape[1] in (0, new):
        return constants
    if new == 1:
        return constants.mean(dim=1, keepdim=True)
    return constants.repeat(1, -(-new // constants.shape[1]), 1, 1)[:, :new]


def _for_channels(kernel: Tensor, like: Tensor) -> Tensor | None:
    """A stem's kernel (d, c, p, q) for another c: summed to one channel, else repeated and scaled by old / new."""
    if kernel.ndim != 4 or kernel.shape[0] != like.shape[0] or kernel.shape[2:] != like.shape[2:]:
        return None
    old, new = kernel.shape[1], like.shape[1]
    if new == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel.repeat(1, -(-new // old), 1, 1)[:, :new] * (old / new)


COMPUTED = "relative_coords_table"  # of Swin v2: not learned, but it shows how the weights were trained


def _measured(theirs: dict[str, Tensor], network: Network) -> tuple[str, ...]:
    """Take out, in place, what is computed and not learned; what changes for the weights that came with it."""
    parts = {f"{name}.{COMPUTED}" for name, _ in network.named_modules()}
    found = {key: theirs.pop(key) for key in list(theirs) if key in parts}
    said = {key: network.backbone.measured(key.removeprefix("backbone."), t) for key, t in found.items()}
    return tuple(f"{key.removesuffix(f'.{COMPUTED}')}: {what}" for key, what in said.items() if what)


def _refuse_other_arithmetic(source: Understood, network: Network) -> None:
    """Raise Unfit unless the network computes as the weights' own did, which no shape would show."""
    config = getattr(network.backbone, "config", None)
    needs = dict(source.dialect.needs)
    if source.made is not None:
        free = (*ANYHOW, *network.backbone.adapts)
        needs |= {key: value for key, value in vars(source.made).items() if key not in free}
    others = {key: value for key, value in needs.items() if getattr(config, key, None) != value}
    if others:
        raise Unfit(
            f"These {source.dialect.name} weights were trained with other arithmetic than this network has; build it "
            f"with {', '.join(f'{key}={value!r}' for key, value in others.items())} among its options."
        )


def _refuse_other_numbers(source: Understood, theirs: Tensors, own: Tensors) -> None:
    """Raise Unfit where a cast would change what is meant: the integers of a quantised file are no weights."""
    others = {
        source.translation.key(k): str(t.dtype).removeprefix("torch.")
        for k, t in theirs.items()
        if k in own and (t.is_complex() or t.is_floating_point() != own[k].is_floating_point())
    }
    if others:
        raise Unfit(
            f"These {source.dialect.name} weights are of another kind of number than the network's: "
            f"{_list(f'{k} {kind}' for k, kind in others.items())}; take a file that is not quantised, or convert it "
            "to floats.",
            others,
        )


def _refuse_misfits(source: Understood, theirs: Tensors, wanted: Tensors) -> None:
    """Raise Unfit unless names and shapes agree."""
    key = source.translation.key
    missing = [k for k in wanted if k not in theirs and k not in CONSTANTS and not k.endswith("num_batches_tracked")]
    extra = [key(k) for k in theirs if k not in wanted]
    wrong = [k for k in theirs if k in wanted and theirs[k].shape != wanted[k].shape]
    shapes = {key(k): f"{key(k)} {tuple(theirs[k].shape)} instead of {tuple(wanted[k].shape)}" for k in wrong}
    constants = [k for k in CONSTANTS if k in theirs and not _same(theirs[k], wanted[k])]
    if wrong and not missing and not extra and _for_other_classes(theirs, wanted, wrong):
        raise Unfit(
            f"The weights are for {len(theirs['head.fc.weight'])} classes and the network for "
            f"{len(wanted['head.fc.weight'])}; load them without their head (keep_head=False).",
            shapes,
        )
    problems = [
        f"{what}: {_list(found)}"
        for what, found in (
            ("missing", missing),
            ("not in this network", extra),
            ("of another shape", shapes.values()),
            ("trained with other preprocessing", constants),
        )
        if found
    ]
    if problems:
        raise Unfit(
            f"These {source.dialect.name} weights do not fit; choose the model they were made for. "
            f"{'; '.join(problems)}.",
            [*missing, *extra, *shapes, *constants],
        )


def _for_other_classes(theirs: Tensors, wanted: Tensors, wrong: list[str]) -> bool:
    """Whether the number of rows of every part of the head is all that is wrong."""
    head = [key for key in wanted if key.startswith("head.")]
    rows = {theirs[key].shape[:1] for key in head}
    return set(wrong) == set(head) and len(rows) == 1 and all(theirs[k].shape[1:] == wanted[k].shape[1:] for k in head)


def _same(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.shape == ours.shape and torch.allclose(theirs.float(), ours.float())


def _list(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
