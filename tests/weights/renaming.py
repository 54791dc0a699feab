"""What the tests of names share. The tables lead from others' names to ours; tests write down the way back by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign

Tensors = dict[str, Tensor]
CONSTANTS = ("mean", "std")


def build(model: str, seed: int, size: int, *, classes: int = 5, **options: object) -> Network:
    """A small network, of whose weights and statistics no two are alike."""
    torch.manual_seed(seed)
    network = build_network(NetworkConfig(model=model, classes=classes, size=size, options=options)).eval()
    for key, t in network.state_dict().items():
        if t.is_floating_point() and key not in CONSTANTS:
            t.add_(0.1 * torch.rand_like(t))  # upwards, as variances are positive
    return network


def weights(network: Network) -> Tensors:
    """What files of others hold too: all but the constants of the pixels."""
    return {key: t.clone() for key, t in network.state_dict().items() if key not in CONSTANTS}


def renamed(tensors: Tensors, *rules: tuple[str, str]) -> Tensors:
    """With substitutions in their keys, one rule after another."""
    for ours, theirs in rules:
        tensors = {re.sub(ours, theirs, key): t for key, t in tensors.items()}
    return tensors


def split(tensors: Tensors, name: str, parts: tuple[str, ...]) -> Tensors:
    """Every tensor whose key holds ``name`` as its equal parts."""
    out: Tensors = {}
    for key, t in tensors.items():
        pieces = zip(parts, t.chunk(len(parts)), strict=True) if name in key else [(name, t)]
        out |= {key.replace(name, part): piece for part, piece in pieces}
    return out


def assert_same(one: Network, two: Network, but: str = "") -> None:
    """Every tensor, bit for bit, except those whose names begin with ``but``."""
    for key, tensor in one.state_dict().items():
        assert (but and key.startswith(but)) or torch.equal(tensor, two.state_dict()[key]), key


def assert_comes_back(theirs: Network, ours: Network, names: Callable[[Tensors], Tensors], dialect: str) -> None:
    """Under others' ``names`` the weights of ``theirs`` make ``ours`` the same network, and their dialect is known."""
    loaded = foreign.load(ours, names(weights(theirs)))
    assert (loaded.dialect, loaded.resampled, loaded.dropped) == (dialect, (), ())
    assert loaded.tensors == len(weights(theirs))
    assert_same(theirs, ours)


def refused(network: Network, tensors: Tensors, words: str, kind: type[Exception] = UsageError) -> None:
    """With these words, and without a change."""
    before = weights(network)
    with pytest.raises(kind, match=words):
        foreign.load(network, tensors)
    assert all(torch.equal(t, before[key]) for key, t in weights(network).items())
