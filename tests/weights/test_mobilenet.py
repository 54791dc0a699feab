from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign

STAGES = {"large": (1, 2, 3, 4, 2, 3), "small": (1, 2, 3, 2, 3)}  # blocks in timm's, without the closing convolution


def network(seed: int, table: str, **options: object) -> Network:
    torch.manual_seed(seed)
    given = {"multiplier": 0.25, **options}
    name = f"mobilenetv3_{table}_100"
    return build_network(NetworkConfig(model=name, classes=5, size=64, options=given)).eval()


def weights(network: Network) -> dict[str, Tensor]:
    return {key: t.clone() for key, t in network.state_dict().items() if key not in ("mean", "std")}


def as_timm(tensors: dict[str, Tensor], table: str) -> dict[str, Tensor]:
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


def as_torchvision(tensors: dict[str, Tensor], table: str) -> dict[str, Tensor]:
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
    theirs, ours = network(1, table, **options), network(2, table, **options)
    rename = as_timm if dialect.startswith("timm") else as_torchvision
    loaded = foreign.load(ours, rename(weights(theirs), table))
    assert loaded.dialect == dialect and loaded.resampled == ()
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[key]), key


def test_weights_that_need_another_eps_are_refused_by_name() -> None:
    theirs, ours = network(1, "small", eps=1e-3), network(2, "small")
    before = weights(ours)
    with pytest.raises(UsageError, match=r"torchvision MobileNetV3 .* build it with eps=0\.001 among its options"):
        foreign.load(ours, as_torchvision(weights(theirs), "small"))
    assert all(torch.equal(t, before[key]) for key, t in weights(ours).items())


def test_large_and_small_are_not_taken_for_each_other() -> None:
    for rename, options in ((as_timm, {}), (as_torchvision, {"eps": 1e-3})):
        with pytest.raises(UsageError, match="do not fit; choose the model"):
            foreign.load(network(1, "small", **options), rename(weights(network(2, "large", **options)), "large"))


def test_a_tensor_of_the_wrong_shape_is_named() -> None:
    tensors = as_timm(weights(network(1, "small")), "small") | {"conv_head.weight": torch.zeros(3)}
    with pytest.raises(UsageError, match=r"shape: conv_head\.weight \(3,\) instead of"):
        foreign.load(network(2, "small"), tensors)


def test_parts_of_its_relatives_are_named() -> None:
    tensors = as_timm(weights(network(1, "small")), "small")
    with pytest.raises(UsageError, match=r"parts this architecture lacks: norm_head\.weight"):
        foreign.load(network(2, "small"), tensors | {"norm_head.weight": torch.zeros(1024)})
    v4 = {re.sub("conv_dw", "dw_start.conv", key): t for key, t in tensors.items()}
    with pytest.raises(UsageError, match="no architecture known here"):
        foreign.load(network(2, "small"), v4)
