from __future__ import annotations

import re

import pytest
import torch
from weights.renaming import Tensors, assert_comes_back, assert_same, build, refused, renamed, weights

from vitreous.network import Network
from vitreous.weights import foreign


def convnext(seed: int) -> Network:
    return build("convnext_tiny", seed, 32, depths=(2, 1, 1, 1), widths=(4, 8, 12, 16))


def as_timm(tensors: Tensors) -> Tensors:
    return renamed(
        tensors,
        (r"^head\.fc", "HEAD.fc"),
        (r"^backbone\.norm\.", "HEAD.norm."),
        (r"^backbone\.", ""),
        (r"^patches\.1\.", "stem.0."),
        (r"^patches\.2\.", "stem.1."),
        (r"downsample\.2\.", "downsample.1."),
        (r"scale\.gamma", "gamma"),
        ("HEAD", "head"),
    )


def as_timm_small(tensors: Tensors) -> Tensors:
    """atto to nano: the linear layers of a block are 1x1 convolutions."""
    return {k: t[..., None, None] if ".mlp." in k and t.ndim == 2 else t for k, t in as_timm(tensors).items()}


def as_released(tensors: Tensors) -> Tensors:
    return renamed(
        as_timm(tensors),
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^(stages\.\d)\.blocks\.", r"\1."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    )


def as_torchvision(tensors: Tensors) -> Tensors:
    def name(key: str) -> str:
        key = re.sub(r"^stem\.", "features.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", lambda m: f"features.{2 * int(m[1])}.", key)
        key = re.sub(r"^stages\.(\d)\.blocks\.", lambda m: f"features.{2 * int(m[1]) + 1}.", key)
        key = re.sub(r"(features\.\d\.\d)\.norm", r"\1.block.2", key)
        for ours, theirs in (("conv_dw", "block.0"), ("mlp.fc1", "block.3"), ("mlp.fc2", "block.5")):
            key = key.replace(ours, theirs)
        key = key.replace("head.norm", "classifier.0").replace("head.fc", "classifier.2")
        return key.replace("gamma", "layer_scale")

    return {name(k): t[:, None, None] if k.endswith("gamma") else t for k, t in as_timm(tensors).items()}


def as_hugging_face(tensors: Tensors) -> Tensors:
    return renamed(
        as_released(tensors),
        (r"^head\.", "classifier."),
        (r"^norm\.", "convnext.layernorm."),
        (r"^downsample_layers\.0\.0\.", "convnext.embeddings.patch_embeddings."),
        (r"^downsample_layers\.0\.1\.", "convnext.embeddings.layernorm."),
        (r"^downsample_layers\.(\d)\.", r"convnext.encoder.stages.\1.downsampling_layer."),
        (r"^stages\.(\d)\.(\d)\.", r"convnext.encoder.stages.\1.layers.\2."),
        (r"(layers\.\d)\.norm\.", r"\1.layernorm."),
        ("gamma", "layer_scale_parameter"),
    )


def without_prefix(tensors: Tensors) -> Tensors:
    """A file of transformers' bare model."""
    return {k.removeprefix("convnext."): t for k, t in as_hugging_face(tensors).items() if "classifier" not in k}


DIALECTS = {
    "timm ConvNeXt": as_timm,
    "ConvNeXt": as_released,
    "torchvision ConvNeXt": as_torchvision,
    "Hugging Face ConvNeXt": as_hugging_face,
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_gives_back_every_tensor(dialect: str) -> None:
    assert_comes_back(convnext(1), convnext(2), DIALECTS[dialect], dialect)


def test_linear_layers_written_as_convolutions() -> None:
    assert_comes_back(convnext(1), convnext(2), as_timm_small, "timm ConvNeXt")


def test_a_bare_model_fills_the_backbone() -> None:
    theirs, ours = convnext(1), convnext(2)
    foreign.load(ours, without_prefix(weights(theirs)), keep_head=False)
    assert_same(theirs, ours, but="head.")


def test_a_second_version_is_refused_by_name() -> None:
    """ConvNeXt V2 has the same names and a norm of responses instead of the scales."""
    tensors = as_released(weights(convnext(1))) | {"stages.0.0.grn.gamma": torch.zeros(1, 1, 1, 16)}
    refused(convnext(2), tensors, r"parts this architecture lacks: stages\.0\.0\.grn\.gamma")


def test_another_width_is_refused_by_name() -> None:
    tensors = as_timm(weights(convnext(1)))
    tensors["stages.3.blocks.0.gamma"] = torch.ones(17)
    refused(convnext(2), tensors, r"shape: stages\.3\.blocks\.0\.gamma \(17,\) instead of \(16,\)")
