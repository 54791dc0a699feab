"""One way of naming the tensors of an architecture, as data. Knows no architecture and no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

Rules = tuple[tuple[str, str], ...]


class Translation(NamedTuple):
    """What a dialect makes of a file's tensors."""

    tensors: dict[str, Tensor]  # under our names
    names: Mapping[str, str]  # of ours, parts of joined tensors apart: the file's key
    unknown: list[str]  # keys that no rule explains, or that name again what another key has named

    def key(self, name: str) -> str:
        """What the file calls our ``name``; all its parts where several are joined, and ``name`` where it has none."""
        parts = (name, *(f"{name}#{i}" for i in range(3)))
        return " + ".join(self.names[part] for part in parts if part in self.names) or name


@dataclass(frozen=True, kw_only=True)
class Dialect:
    r"""How a library or a release names the tensors of one of our families.

    A rule is (regular expression for their whole key, our name); the first that matches counts. In our name ``\1`` is
    what a bracket caught, ``\1+`` that number plus one, and a closing ``#k`` marks the k-th of several tensors that are
    joined along their first axis, as separate q, k and v are.
    """

    name: str  # "timm ViT"
    family: str  # of ours: a key of models.FAMILIES
    marks: tuple[str, ...]  # regular expressions; each must match some key in full
    rules: Rules
    needs: Mapping[str, object] = field(default_factory=dict)  # of our config, where names do not show the difference
    ignored: tuple[str, ...] = ()  # keys of what is computed and not learned: index tables, masks
    prepare: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None  # before the rules, what names cannot say

    def speaks(self, keys: Mapping[str, Tensor]) -> bool:
        """Whether these are names of this dialect."""
        return all(any(re.fullmatch(mark, key) for key in keys) for mark in self.marks)

    def translate(self, tensors: Mapping[str, Tensor]) -> Translation:
        """``tensors`` under our names."""
        keys = {id(tensor): key for key, tensor in tensors.items()}  # ``prepare`` renames, and passes most tensors on
        ours: dict[str, Tensor] = {}
        names: dict[str, str] = {}
        unknown = []
        kept = {k: t for k, t in tensors.items() if not any(re.fullmatch(i, k) for i in self.ignored)}
        for key, tensor in (self.prepare(kept) if self.prepare else kept).items():
            name = self._rename(key)
            # by itself first, as two keys may share one tensor
            origin = key if tensors.get(key) is tensor else keys.get(id(tensor), key)
            if name is None or name in ours:
                unknown.append(origin)
            else:
                ours[name] = tensor
                names[name] = origin if origin in tensors else name
        return Translation(_joined(ours), names, unknown)

    def _rename(self, key: str) -> str | None:
        for theirs, ours in self.rules:
            match = re.fullmatch(theirs, key)
            if match:
                return re.sub(r"(\d+)\+", lambda m: str(int(m[1]) + 1), match.expand(ours))
        return None


def bricks(conv: str, norm: str, *names: tuple[str, str]) -> Rules:
    """Rules for every ``ConvNorm`` of (their name, ours), whose two parts they call ``conv`` and ``norm``.

    Brackets in their names count from 1 in ours, as ever.
    """
    parts = ((conv, "conv"), (norm, "norm"))
    return tuple(
        (rf"{theirs}\.{part}\.(?P<rest>.+)", rf"{ours}.{mine}.\g<rest>")
        for theirs, ours in names
        for part, mine in parts
    )


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts ``name#0``, ``name#1``, ``name#2`` as one tensor ``name``; what cannot be joined keeps its odd names."""
    whole = {key: t for key, t in tensors.items() if "#" not in key}
    for name in dict.fromkeys(key.partition("#")[0] for key in tensors if "#" in key):
        parts = {key: tensors[key] for key in (f"{name}#{i}" for i in range(3)) if key in tensors}
        alike = len({(t.shape[1:], t.is_floating_point()) for t in parts.values()}) == 1
        joins = len(parts) == 3 and alike and all(t.ndim for t in parts.values()) and name not in whole
        whole |= {name: torch.cat(list(parts.values()))} if joins else parts
    return whole
