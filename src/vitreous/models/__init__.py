"""Backbones by name: what the catalogue lists, and what builds from it. Knows nothing of heads.

Importing this file imports no family and no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import importlib
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from vitreous.config import from_dict, must_be
from vitreous.errors import UsageError
from vitreous.models.catalogue import CATALOGUE, FAMILIES, Row

if TYPE_CHECKING:
    from vitreous.models.backbone import Backbone

__all__ = ["CATALOGUE", "FAMILIES", "Row", "configured", "create", "find", "names"]


def names(pattern: str = "*") -> list[str]:
    """The catalogue's names that match a shell pattern (``vit_*``) in letters of either case, sorted."""
    must_be(str, pattern=pattern)
    return sorted(fnmatch.filter(CATALOGUE, pattern.lower()))


def find(name: str) -> Row:
    """The row called ``name``.

    Raises:
        UsageError: there is none; the nearest names are given, or how to ask for the weights of timm's NAME.TAG.
    """
    must_be(str, model=name)
    if name in CATALOGUE:
        return CATALOGUE[name]
    if not name.strip():
        raise UsageError("A model needs a name; `vitreous models` lists what there is.")
    known, _, tag = name.rpartition("/")[2].partition(".")
    if known in CATALOGUE and tag:
        raise UsageError(f"There is no model {name}; say {known}, and give the tag of its weights as pretrained.")
    near = _nearest(name)
    hint = f"did you mean {' or '.join(near)}?" if near else "`vitreous models` lists what there is."
    raise UsageError(f"There is no model {name}; {hint}")


def create(
    name: str,
    *,
    size: int | None = None,
    channels: int = 3,
    drop_path: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Backbone:
    """Build the backbone called ``name`` with fresh weights.

    Args:
        size: side of the pictures in pixels, where the family cares; the row's own by default.
        channels: of the pictures.
        drop_path: stochastic depth, 0 to 1.
        options: further fields of the family's config (``pool``, ``layer_scale``, ...), checked by name and type.

    Raises:
        UsageError: an unknown name or option, or values that contradict each other.
    """
    config = configured(name, size=size, channels=channels, drop_path=drop_path, options=options)
    module, backbone, _ = FAMILIES[find(name).family]
    built: Backbone = getattr(importlib.import_module(module), backbone)(config)
    return built


def configured(
    name: str,
    *,
    size: int | None = None,
    channels: int = 3,
    drop_path: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """The family's config that ``create`` builds from; the same arguments, the same errors."""
    row = find(name)
    must_be(Mapping, options={} if options is None else options)
    for field in sorted({"size", "channels", "drop_path"} & set(options or {})):
        raise UsageError(f"{field} of {name} is set beside the options, not among them; move it.")
    module, _, config = FAMILIES[row.family]
    cls = getattr(importlib.import_module(module), config)
    values = {**row.options, **(options or {}), "channels": channels}
    if any(f.name == "size" for f in dataclasses.fields(cls)):
        values["size"] = row.size if size is None else size
    if drop_path is not None:
        must_be(Real, drop_path=drop_path)
        if not 0 <= drop_path < 1:
            raise UsageError(f"drop_path lies in [0, 1), not {drop_path}.")
        values["drop_path"] = drop_path
    return from_dict(cls, values, name)


def _nearest(name: str) -> list[str]:
    """Up to three names like this one, most alike first; among equals each family once, then the catalogue's order.

    The last is one that ends as this one does, if there is any: whoever asks for efficientvit_xs may mean mobilevit_xs.
    """
    name = name.lower().replace("-", "_")
    alike = {known: difflib.SequenceMatcher(None, known, name).ratio() for known in CATALOGUE}
    alike |= {known: 1.0 for known in CATALOGUE if known.startswith(name)}
    stem = f"{name.partition('_')[0]}_"
    alike |= {known: max(alike[known], 0.5) for known in CATALOGUE if known.startswith(stem)}  # vit_foo is some ViT
    near = sorted((known for known in CATALOGUE if alike[known] >= 0.5), key=alike.__getitem__, reverse=True)
    first = {CATALOGUE[known].family: known for known in reversed(near)}.values()
    near.sort(key=lambda known: (-alike[known], known not in first))
    ends = [known for known in near if known.endswith(f"_{name.rpartition('_')[2]}")]
    return near[:3] if not ends or ends[0] in near[:3] else [*near[:2], ends[0]]
