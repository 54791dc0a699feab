from __future__ import annotations

import pytest
import torch
from weights.renaming import Tensors, assert_comes_back, build, refused, renamed, weights

from vitreous.network import Network


def efficientvit(seed: int) -> Network:
    options = {"widths": (8, 8, 16, 16, 32), "depths": (2, 2, 1, 1, 2), "head_dim": 8, "head": (24, 40)}
    return build("efficientvit_b0", seed, 64, **options)


def as_theirs(tensors: Tensors) -> Tensors:
    """What both have in common."""
    return renamed(
        tensors,
        (r"(stages\.[23]\.\d+(?:\.local)?)\.(expand|depthwise)\.", r"\1.\2.conv."),
        (r"local\.", "local_module.main."),
        (r"attn\.qkv\.", "context_module.main.qkv.conv."),
        (r"attn\.aggregate\.", "context_module.main.aggreg.0."),
        (r"attn\.proj\.", "context_module.main.proj."),
        (r"(stages\.\d\.\d+)\.(expand|depthwise|project)\.", r"\1.main.\2."),
        (r"(input_stem\.\d)\.(depthwise|project)\.", r"\1.main.\2."),
        (r"expand\.", "inverted_conv."),
        (r"depthwise\.", "depth_conv."),
        (r"project\.", "point_conv."),
    )


def as_timm(tensors: Tensors) -> Tensors:
    return renamed(
        as_theirs(tensors),
        (r"^head\.fc\.", "HEAD.classifier.4."),
        (r"^backbone\.widen\.", "HEAD.in_conv."),
        (r"^backbone\.fc\.", "HEAD.classifier.0."),
        (r"^backbone\.norm\.", "HEAD.classifier.1."),
        (r"^backbone\.input_stem\.0\.", "stem.in_conv."),
        (r"^backbone\.input_stem\.1\.", "stem.res0."),
        (r"^backbone\.input_stem\.2\.", "stem.res1."),
        (r"^backbone\.stages\.(\d)\.", r"stages.\1.blocks."),
        ("HEAD", "head"),
    )


def as_release(tensors: Tensors) -> Tensors:
    return renamed(
        as_theirs(tensors),
        (r"^head\.fc\.", "HEAD.op_list.3.linear."),
        (r"^backbone\.widen\.", "HEAD.op_list.0."),
        (r"^backbone\.fc\.", "HEAD.op_list.2.linear."),
        (r"^backbone\.norm\.", "HEAD.op_list.2.norm."),
        (r"^backbone\.input_stem\.", "backbone.input_stem.op_list."),
        (r"^backbone\.stages\.(\d)\.", r"backbone.stages.\1.op_list."),
        ("HEAD", "head"),
    )


DIALECTS = {"timm EfficientViT-B": as_timm, "MIT EfficientViT-B": as_release, "vitreous": lambda t: t}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_network(dialect: str) -> None:
    assert_comes_back(efficientvit(1), efficientvit(2), DIALECTS[dialect], dialect)


def test_names_are_those_of_the_files() -> None:
    """A few keys of each kind, written down from the published networks."""
    timm, release = (as_(weights(efficientvit(1))) for as_ in (as_timm, as_release))
    assert {
        "stem.in_conv.conv.weight",
        "stem.res0.main.depth_conv.norm.running_var",
        "stages.0.blocks.0.main.inverted_conv.conv.weight",
        "stages.2.blocks.0.main.inverted_conv.conv.bias",
        "stages.2.blocks.1.context_module.main.aggreg.0.1.weight",
        "stages.3.blocks.2.local_module.main.point_conv.norm.weight",
        "head.in_conv.norm.bias",
        "head.classifier.0.weight",
        "head.classifier.1.bias",
        "head.classifier.4.bias",
    } <= timm.keys()
    assert {
        "backbone.input_stem.op_list.0.conv.weight",
        "backbone.input_stem.op_list.1.main.depth_conv.conv.weight",
        "backbone.stages.2.op_list.0.main.depth_conv.conv.bias",
        "backbone.stages.2.op_list.1.context_module.main.qkv.conv.weight",
        "backbone.stages.3.op_list.2.local_module.main.inverted_conv.conv.bias",
        "head.op_list.0.norm.weight",
        "head.op_list.2.linear.weight",
        "head.op_list.2.norm.weight",
        "head.op_list.3.linear.bias",
    } <= release.keys()


def test_the_other_efficientvit_is_refused() -> None:
    words = r"holds timm EfficientViT-B weights; .* family EfficientViTMS, so choose"
    refused(build("efficientvit_m0", 2, 64), as_timm(weights(efficientvit(1))), words)


def test_the_release_with_attention_of_another_scale_is_refused() -> None:
    """The authors' code can have several scales; what has more than one is none of the published networks."""
    tensors = as_timm(weights(efficientvit(1)))
    tensors["stages.2.blocks.1.context_module.main.aggreg.1.0.weight"] = torch.zeros(48, 1, 3, 3)
    refused(efficientvit(2), tensors, r"parts this architecture lacks: .*aggreg\.1\.0\.weight")
