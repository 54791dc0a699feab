from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from weights.renaming import Tensors, assert_comes_back, assert_same, build, refused, weights

from vitreous.network import Network
from vitreous.weights import foreign

STAGES = (1, 1, 1, 2, 2, 2, 1)  # blocks of each when half as deep as B0
PLACES = [(stage, block) for stage, blocks in enumerate(STAGES) for block in range(blocks)]
TENSORFLOW = {"padding": "same", "eps": 1e-3}

Place = Callable[[int, str, str], str]


def network(seed: int, **options: object) -> Network:
    return build("efficientnet_b0", seed, 64, **{"wider": 0.25, "deeper": 0.5} | options)


def renamed(tensors: Tensors, stem: tuple[str, str], top: tuple[str, str], fc: str, block: Place) -> dict:
    """Our names to theirs, the opposite way to the rules under test; ``block`` names (number, role, part)."""
    out = {}
    for key, t in tensors.items():
        part, *rest = key.removeprefix("backbone.").split(".")
        if part == "blocks":
            out[f"{block(int(rest[0]), rest[1], rest[2])}.{rest[3]}"] = t
        elif part == "head":
            out[f"{fc}.{rest[1]}"] = t
        else:
            conv, norm = stem if part == "conv_stem" else top
            out[f"{conv if rest[0] == 'conv' else norm}.{rest[1]}"] = t
    return out


def as_timm(tensors: Tensors) -> Tensors:
    def block(number: int, role: str, part: str) -> str:
        stage, index = PLACES[number]
        start = f"blocks.{stage}.{index}"
        if role == "squeeze":
            return f"{start}.se.conv_{part}"
        first = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
        later = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
        return f"{start}.{(later if stage else first)[role][part == 'norm']}"

    return renamed(tensors, ("conv_stem", "bn1"), ("conv_head", "bn2"), "classifier", block)


def as_torchvision(tensors: Tensors) -> Tensors:
    def block(number: int, role: str, part: str) -> str:
        stage, index = PLACES[number]
        layer = ("expand", "depthwise", "squeeze", "project").index(role) - (stage == 0)
        leaf = {"conv": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}[part]
        return f"features.{stage + 1}.{index}.block.{layer}.{leaf}"

    return renamed(tensors, ("features.0.0", "features.0.1"), ("features.8.0", "features.8.1"), "classifier.1", block)


def as_hugging_face(tensors: Tensors) -> Tensors:
    names = {
        ("expand", "conv"): "expansion.expand_conv",
        ("expand", "norm"): "expansion.expand_bn",
        ("depthwise", "conv"): "depthwise_conv.depthwise_conv",
        ("depthwise", "norm"): "depthwise_conv.depthwise_norm",
        ("squeeze", "reduce"): "squeeze_excite.reduce",
        ("squeeze", "expand"): "squeeze_excite.expand",
        ("project", "conv"): "projection.project_conv",
        ("project", "norm"): "projection.project_bn",
    }
    return renamed(
        tensors,
        ("efficientnet.embeddings.convolution", "efficientnet.embeddings.batchnorm"),
        ("efficientnet.encoder.top_conv", "efficientnet.encoder.top_bn"),
        "classifier",
        lambda number, role, part: f"efficientnet.encoder.blocks.{number}.{names[role, part]}",
    )


def as_lukemelas(tensors: Tensors) -> Tensors:
    names = {
        ("expand", "conv"): "_expand_conv",
        ("expand", "norm"): "_bn0",
        ("depthwise", "conv"): "_depthwise_conv",
        ("depthwise", "norm"): "_bn1",
        ("squeeze", "reduce"): "_se_reduce",
        ("squeeze", "expand"): "_se_expand",
        ("project", "conv"): "_project_conv",
        ("project", "norm"): "_bn2",
    }
    return renamed(
        tensors,
        ("_conv_stem", "_bn0"),
        ("_conv_head", "_bn1"),
        "_fc",
        lambda number, role, part: f"_blocks.{number}.{names[role, part]}",
    )


DIALECTS = {
    "timm EfficientNet": (as_timm, {}),
    "torchvision EfficientNet": (as_torchvision, {}),
    "Hugging Face EfficientNet": (as_hugging_face, TENSORFLOW),
    "EfficientNet-PyTorch": (as_lukemelas, TENSORFLOW),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_network(dialect: str) -> None:
    rename, options = DIALECTS[dialect]
    assert_comes_back(network(1, **options), network(2, **options), rename, dialect)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"build it with padding='same', eps=0\.001 among its options"),
        ({"padding": "same"}, r"build it with eps=0\.001 among its options"),
    ],
)
@pytest.mark.parametrize("rename", [as_hugging_face, as_lukemelas])
def test_weights_from_tensorflow_ask_for_its_arithmetic(rename: Callable, options: dict, words: str) -> None:
    refused(network(2, **options), rename(weights(network(1, **TENSORFLOW))), words)


def test_a_bare_hugging_face_model_has_no_prefix() -> None:
    theirs, ours = network(1, **TENSORFLOW), network(2, **TENSORFLOW)
    tensors = {key.removeprefix("efficientnet."): t for key, t in as_hugging_face(weights(theirs)).items()}
    bare = {key: t for key, t in tensors.items() if not key.startswith("classifier")}
    foreign.load(ours, bare, keep_head=False)
    assert_same(theirs, ours, but="head.")


def test_another_depth_is_refused() -> None:
    words = r"missing: .*do not fit|do not fit; .*missing: backbone\.blocks"
    refused(network(1, deeper=1.0), as_timm(weights(network(2))), words)


def test_mobilenets_are_told_apart_though_they_share_timms_names() -> None:
    mobile = {"conv_head.bias": torch.zeros(4)}
    efficient = as_timm(weights(network(1)))
    assert foreign.translate(efficient)[0].name == "timm EfficientNet"
    assert foreign.translate({k: t for k, t in (efficient | mobile).items() if not k.startswith("bn2")})[0].name == (
        "timm MobileNetV3"
    )
