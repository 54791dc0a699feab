"""The catalogue of backbones: a dictionary that can be read, and what builds from it. Knows nothing of heads.

Names are timm's where timm has the model. Importing this file imports no family and no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitreous.config import from_dict
from vitreous.errors import UsageError

if TYPE_CHECKING:
    from vitreous.models.backbone import Backbone


@dataclass(frozen=True)
class Row:
    """One model: the family that builds it, the picture size it is meant for, and what its family's config says."""

    family: str
    size: int
    options: Mapping[str, Any]


FAMILIES = {
    # name: (module, backbone, config)
    "vit": ("vitreous.models.vit", "ViT", "ViTConfig"),
    "resnet": ("vitreous.models.resnet", "ResNet", "ResNetConfig"),
}

_PICO = {"width": 128, "depth": 6, "heads": 4, "pool": "avg", "position": "sincos"}
_NANO = {"width": 192, "depth": 9, "heads": 6, "pool": "avg", "position": "sincos"}
_TINY = {"width": 192, "depth": 12, "heads": 3}
_SMALL = {"width": 384, "depth": 12, "heads": 6}
_BASE = {"width": 768, "depth": 12, "heads": 12}
_LARGE = {"width": 1024, "depth": 24, "heads": 16}
_HUGE = {"width": 1280, "depth": 32, "heads": 16}
_CIFAR = {"widths": (16, 32, 64), "stem": "cifar", "shortcut": "pad", "zero_init": False}

CATALOGUE: dict[str, Row] = {
    # Dosovitskiy et al. 2021; Ti and S are Touvron et al. 2021's (DeiT)
    "vit_tiny_patch16_224": Row("vit", 224, {**_TINY, "patch": 16}),
    "vit_tiny_patch16_384": Row("vit", 384, {**_TINY, "patch": 16}),
    "vit_small_patch16_224": Row("vit", 224, {**_SMALL, "patch": 16}),
    "vit_small_patch16_384": Row("vit", 384, {**_SMALL, "patch": 16}),
    "vit_small_patch32_224": Row("vit", 224, {**_SMALL, "patch": 32}),
    "vit_base_patch16_224": Row("vit", 224, {**_BASE, "patch": 16}),
    "vit_base_patch16_384": Row("vit", 384, {**_BASE, "patch": 16}),
    "vit_base_patch32_224": Row("vit", 224, {**_BASE, "patch": 32}),
    "vit_large_patch16_224": Row("vit", 224, {**_LARGE, "patch": 16}),
    "vit_large_patch32_224": Row("vit", 224, {**_LARGE, "patch": 32}),
    "vit_huge_patch14_224": Row("vit", 224, {**_HUGE, "patch": 14}),
    "deit_tiny_patch16_224": Row("vit", 224, {**_TINY, "patch": 16}),
    "deit_small_patch16_224": Row("vit", 224, {**_SMALL, "patch": 16}),
    "deit_base_patch16_224": Row("vit", 224, {**_BASE, "patch": 16}),
    # ours, for small pictures: mean pooling and fixed positions, after Beyer et al. 2022
    "vit_pico_patch4_32": Row("vit", 32, {**_PICO, "patch": 4}),
    "vit_pico_patch8_64": Row("vit", 64, {**_PICO, "patch": 8}),
    "vit_pico_patch8_96": Row("vit", 96, {**_PICO, "patch": 8}),
    "vit_nano_patch4_32": Row("vit", 32, {**_NANO, "patch": 4}),
    "vit_nano_patch8_64": Row("vit", 64, {**_NANO, "patch": 8}),
    "vit_nano_patch8_96": Row("vit", 96, {**_NANO, "patch": 8}),
    "vit_nano_patch16_224": Row("vit", 224, {**_NANO, "patch": 16}),
    # He et al. 2016, for ImageNet
    "resnet18": Row("resnet", 224, {"block": "basic", "depths": (2, 2, 2, 2)}),
    "resnet34": Row("resnet", 224, {"block": "basic", "depths": (3, 4, 6, 3)}),
    "resnet50": Row("resnet", 224, {"block": "bottleneck", "depths": (3, 4, 6, 3)}),
    "resnet101": Row("resnet", 224, {"block": "bottleneck", "depths": (3, 4, 23, 3)}),
    # the same for small pictures: no stride and no max pooling in the stem
    "resnet18_cifar": Row("resnet", 32, {"block": "basic", "depths": (2, 2, 2, 2), "stem": "cifar"}),
    # He et al. 2016, section 4.2
    "resnet20_cifar": Row("resnet", 32, {**_CIFAR, "depths": (3, 3, 3)}),
    "resnet32_cifar": Row("resnet", 32, {**_CIFAR, "depths": (5, 5, 5)}),
    "resnet44_cifar": Row("resnet", 32, {**_CIFAR, "depths": (7, 7, 7)}),
    "resnet56_cifar": Row("resnet", 32, {**_CIFAR, "depths": (9, 9, 9)}),
}


def names(pattern: str = "*") -> list[str]:
    """The catalogue's names that match a shell pattern (``vit_*``), sorted."""
    return sorted(fnmatch.filter(CATALOGUE, pattern))


def find(name: str) -> Row:
    """The row called ``name``.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`vitreous models` lists what there is."
    raise UsageError(f"There is no model {name}; {hint}")


def create(
    name: str, *, size: int | None = None, drop_path: float | None = None, options: Mapping[str, Any] | None = None
) -> Backbone:
    """Build the backbone called ``name`` with fresh weights.

    Args:
        size: side of the pictures in pixels, where the family cares; the row's own by default.
        drop_path: stochastic depth, 0 to 1.
        options: further fields of the family's config (``pool``, ``layer_scale``, ...), checked by name and type.

    Raises:
        UsageError: an unknown name or option, or values that contradict each other.
    """
    row = find(name)
    for field in {"size", "drop_path"} & set(options or {}):
        raise UsageError(f"{field} of {name} is set beside the options, not among them; move it.")
    module, backbone, config = FAMILIES[row.family]
    family = importlib.import_module(module)
    cls = getattr(family, config)
    values = {**row.options, **(options or {})}
    if any(f.name == "size" for f in dataclasses.fields(cls)):
        values["size"] = row.size if size is None else size
    if drop_path is not None:
        values["drop_path"] = drop_path
    built: Backbone = getattr(family, backbone)(from_dict(cls, values, name))
    return built
