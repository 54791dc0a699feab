"""Other people's weights in our names: timm, torchvision, Hugging Face, original releases, and our own earlier runs.

Every tensor of the file and every tensor of the network is accounted for; what does not fit is refused by name. The
tables of names lie beside this file, one a family. Knows nothing of where files come from.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vitreous import models
from vitreous.errors import DamagedFile, UsageError
from vitreous.network import Network
from vitreous.weights.dialect import Dialect
from vitreous.weights.files import read, refuse_unreadable

Tensors = Mapping[str, Tensor]

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


class Loaded(NamedTuple):
    """What ``load`` did."""

    dialect: str
    tensors: int  # how many of the network's tensors came from the file
    dropped: tuple[str, ...]  # keys of the file left out because a new head was asked for
    resampled: tuple[str, ...]  # what changed its shape or measure: "backbone.pos_embed (1, 197, 192) to (1, 50, 192)"


def dialects() -> list[Dialect]:
    """Every dialect known here, our own first."""
    tables = (importlib.import_module(f"vitreous.weights.{table}") for table in TABLES)
    return [OURS, *(dialect for table in tables for dialect in table.DIALECTS)]


def translate(tensors: Tensors, family: str = "") -> tuple[str, dict[str, Tensor]]:
    """(dialect, the same tensors under our names: ``backbone.*`` and ``head.*``).

    Where several dialects use the same names, that of ``family`` is taken.

    Raises:
        UsageError: no dialect is recognised, or keys that the dialect does not explain; they are named.
    """
    dialect, ours = _recognised(tensors, family)
    return dialect.name, ours


def _recognised(tensors: Tensors, family: str) -> tuple[Dialect, dict[str, Tensor]]:
    """``translate`` with the whole dialect."""
    tensors = _without_prefix(tensors)
    spoken = [dialect for dialect in dialects() if dialect.speaks(tensors)]
    if not spoken:
        raise UsageError(f"These weights are of no architecture known here: they begin with {_list(tensors)}.")
    dialect = next((d for d in spoken if d.family == family), spoken[0])
    ours, unknown = dialect.translate(tensors)
    if unknown:
        raise UsageError(f"These {dialect.name} weights have parts this architecture lacks: {_list(unknown)}.")
    return dialect, ours


def load(network: Network, source: str | Path | Tensors, *, keep_head: bool = True) -> Loaded:
    """Put foreign weights into ``network``, in place, all or nothing.

    What the family knows how to resample (positions of another grid) is resampled, and a stem for another number of
    channels is adapted; ``Loaded.resampled`` says what. Without ``keep_head`` the network's own classifier stays as it
    is. Counters of batches, which older files lack, may be missing.

    Raises:
        UsageError: the weights belong to another architecture or number of classes; every key is named.
        DamagedFile: the file is broken, or holds values that are not numbers.
    """
    tensors = source if isinstance(source, Mapping) else read(source)
    refuse_unreadable(tensors, "The set of weights")
    # as float32: for numbers of 8 bits torch lacks the question, and what float32 cannot hold is infinite in it
    broken = [k for k, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all())]
    if broken:
        raise DamagedFile(f"The weights hold values that are not finite numbers in {_list(broken)}; fetch them again.")
    family = models.find(network.config.model).family
    dialect, theirs = _recognised(tensors, family)
    if dialect.family == family:
        _refuse_other_arithmetic(dialect, network)
    resampled = _measured(theirs, network) if dialect.family == family else ()
    own = network.state_dict()
    dropped = () if keep_head else tuple(key for key in theirs if key.startswith("head."))
    theirs = {key: t for key, t in theirs.items() if key not in dropped}
    _refuse_other_numbers(dialect.name, theirs, own)
    resampled += _fit(theirs, network)
    wanted = own if keep_head else {key: t for key, t in own.items() if not key.startswith("head.")}
    _refuse_misfits(dialect.name, theirs, wanted)
    network.load_state_dict(own | theirs)
    return Loaded(dialect.name, len(theirs), dropped, resampled)


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
    found = {key: theirs.pop(key) for key in list(theirs) if key.endswith(f".{COMPUTED}")}
    said = {key: network.backbone.measured(key.removeprefix("backbone."), t) for key, t in found.items()}
    return tuple(f"{key.removesuffix(f'.{COMPUTED}')}: {what}" for key, what in said.items() if what)


def _refuse_other_arithmetic(dialect: Dialect, network: Network) -> None:
    """Raise UsageError unless the network computes as the weights' own did, which no shape would show."""
    config = getattr(network.backbone, "config", None)
    others = {key: value for key, value in dialect.needs.items() if getattr(config, key, None) != value}
    if others:
        raise UsageError(
            f"{dialect.name} weights were trained with other arithmetic than this network has; build it with "
            f"{', '.join(f'{key}={value!r}' for key, value in others.items())} among its options."
        )


def _refuse_other_numbers(dialect: str, theirs: Tensors, own: Tensors) -> None:
    """Raise UsageError where a cast would change what is meant: the integers of a quantised file are no weights."""
    others = [
        f"{k} {str(t.dtype).removeprefix('torch.')}"
        for k, t in theirs.items()
        if k in own and (t.is_complex() or t.is_floating_point() != own[k].is_floating_point())
    ]
    if others:
        raise UsageError(
            f"These {dialect} weights are of another kind of number than the network's: {_list(others)}; "
            "take a file that is not quantised, or convert it to floats."
        )


def _refuse_misfits(dialect: str, theirs: Tensors, wanted: Tensors) -> None:
    """Raise UsageError unless names and shapes agree."""
    optional = ("mean", "std")
    missing = [k for k in wanted if k not in theirs and k not in optional and not k.endswith("num_batches_tracked")]
    extra = [k for k in theirs if k not in wanted]
    wrong = [k for k in theirs if k in wanted and theirs[k].shape != wanted[k].shape]
    shapes = [f"{k} {tuple(theirs[k].shape)} instead of {tuple(wanted[k].shape)}" for k in wrong]
    constants = [k for k in optional if k in theirs and not _same(theirs[k], wanted[k])]
    if wrong and not missing and not extra and _for_other_classes(theirs, wanted, wrong):
        raise UsageError(
            f"The weights are for {len(theirs['head.fc.weight'])} classes and the network for "
            f"{len(wanted['head.fc.weight'])}; load them without their head (keep_head=False)."
        )
    problems = [
        f"{what}: {_list(found)}"
        for what, found in (
            ("missing", missing),
            ("not in this network", extra),
            ("of another shape", shapes),
            ("trained with other preprocessing", constants),
        )
        if found
    ]
    if problems:
        raise UsageError(
            f"These {dialect} weights do not fit; choose the model they were made for. {'; '.join(problems)}."
        )


def _for_other_classes(theirs: Tensors, wanted: Tensors, wrong: list[str]) -> bool:
    """Whether the number of rows of every part of the head is all that is wrong."""
    head = [key for key in wanted if key.startswith("head.")]
    rows = {theirs[key].shape[:1] for key in head}
    return set(wrong) == set(head) and len(rows) == 1 and all(theirs[k].shape[1:] == wanted[k].shape[1:] for k in head)


def _same(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.shape == ours.shape and torch.allclose(theirs.float(), ours.float())


def _list(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
