from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from weights.renaming import Tensors, assert_comes_back, build, refused, weights

from vitreous.network import Network

STAGES = {"large": (1, 2, 3, 4, 2, 3), "small": (1, 2, 3, 2, 3)}  # blocks in timm's, without the closing convolution


def network(seed: int, table: str, **options: object) -> Network:
    return build(f"mobilenetv3_{table}_100", seed, 64, multiplier=0.25, **options)


def as_timm(tensors: Tensors, table: str) -> Tensors:
    """Our names to theirs by a table of words: the opposite way to the rules under test."""
    places = [(stage, block) for stage, blocks in enumerate(STAGES[table]) for block in range(blocks)]
    closing = f"blocks.{len(STAGES[table])}.0"
    first = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
    later = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    out = {}
    for key, t in tensors.items():
        part, *rest = key.removeprefix("backbone.").split(".")
        if part == "blocks":
            stage, block = places[int(rest[0])]
            role, which, leaf = rest[1:]
            if role == "squeeze":
                out[f"blocks.{stage}.{block}.se.conv_{which}.{leaf}"] = t
            else:
                conv, norm = (later if stage else first)[role]
                out[f"blocks.{stage}.{block}.{conv if which == 'conv' else norm}.{leaf}"] = t
        elif part == "hidden":
            out[f"conv_head.{rest[0]}"] = t[..., None, None] if rest[0] == "weight" else t
        elif part == "head":
            out[f"classifier.{rest[1]}"] = t
        else:
            conv, norm = ("conv_stem", "bn1") if part == "conv_stem" else (f"{closing}.conv", f"{closing}.bn1")
            out[f"{conv if rest[0] == 'conv' else norm}.{rest[1]}"] = t
    return out


def as_torchvision(tensors: Tensors, table: str) -> Tensors:
    """Layers of a block are counted there, so their numbers depend on which of them it has."""
    count = sum(STAGES[table])
    out = {}
    for key, t in tensors.items():
        part, *rest = key.removeprefix("backbone.").split(".")
        if part == "blocks":
            roles = ("expand", "depthwise", "squeeze", "project")
            has = [r for r in roles if any(k.startswith(f"backbone.blocks.{rest[0]}.{r}.") for k in tensors)]
            leaf = {"conv": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}[rest[2]]
            out[f"features.{int(rest[0]) + 1}.block.{has.index(rest[1])}.{leaf}.{rest[3]}"] = t
        elif part in ("conv_stem", "conv_last"):
            layer = 0 if part == "conv_stem" else count + 1
            out[f"features.{layer}.{0 if rest[0] == 'conv' else 1}.{rest[1]}"] = t
        else:
            out[f"classifier.{'0' if part == 'hidden' else '3'}.{rest[-1]}"] = t
    return out


@pytest.mark.parametrize("table", ["large", "small"])
@pytest.mark.parametrize("dialect", ["timm MobileNetV3", "torchvision MobileNetV3"])
def test_every_dialect_gives_the_same_network(dialect: str, table: str) -> None:
    options = {"eps": 1e-3} if dialect.startswith("torchvision") else {}
    names = partial(as_timm if dialect.startswith("timm") else as_torchvision, table=table)
    assert_comes_back(network(1, table, **options), network(2, table, **options), names, dialect)


def test_weights_that_need_another_eps_are_refused_by_name() -> None:
    tensors = as_torchvision(weights(network(1, "small", eps=1e-3)), "small")
    words = r"torchvision MobileNetV3 .* build it with eps=0\.001 among its options"
    refused(network(2, "small"), tensors, words)


def test_large_and_small_are_not_taken_for_each_other() -> None:
    for rename, options in ((as_timm, {}), (as_torchvision, {"eps": 1e-3})):
        tensors = rename(weights(network(2, "large", **options)), "large")
        refused(network(1, "small", **options), tensors, "do not fit; choose the model")


def test_a_tensor_of_the_wrong_shape_is_named() -> None:
    tensors = as_timm(weights(network(1, "small")), "small") | {"conv_head.weight": torch.zeros(3)}
    refused(network(2, "small"), tensors, r"shape: conv_head\.weight \(3,\) instead of")


def test_parts_of_its_relatives_are_named() -> None:
    tensors = as_timm(weights(network(1, "small")), "small")
    refused(
        network(2, "small"),
        tensors | {"norm_head.weight": torch.zeros(1024)},
        r"parts this architecture lacks: norm_head\.weight",
    )
    v4 = {re.sub("conv_dw", "dw_start.conv", key): t for key, t in tensors.items()}
    refused(network(2, "small"), v4, "no architecture known here")
