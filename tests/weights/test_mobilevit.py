from __future__ import annotations

import pytest
import torch
from small_models import small
from weights.renaming import Tensors, assert_comes_back, assert_same, build, refused, renamed, split, weights

from vitreous.models import CATALOGUE
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign


def mobilevit(model: str, seed: int) -> Network:
    size, options = small(CATALOGUE[model])
    return build(model, seed, size, **options)


def as_timm(tensors: Tensors) -> Tensors:
    return renamed(
        tensors,
        (r"^backbone\.", ""),
        (r"^conv_stem\.", "stem."),
        (r"\.expand\.", ".conv1_1x1."),
        (r"\.depthwise\.", ".conv2_kxk."),
        (r"\.project\.", ".conv3_1x1."),
        (r"(stem|conv1_1x1|conv2_kxk|conv3_1x1|conv_kxk|conv_proj|conv_fusion|final_conv)\.norm\.", r"\1.bn."),
    )


def as_hugging_face(tensors: Tensors) -> Tensors:
    """What both versions have in common there."""
    tensors = renamed(
        tensors,
        (r"^head\.fc", "classifier"),
        (r"(conv_(?:stem|kxk|proj|fusion)|expand|depthwise|project|final_conv)\.norm\.", r"\1.normalization."),
        (r"(conv_(?:stem|kxk|proj|fusion)|expand|depthwise|project|final_conv)\.conv\.", r"\1.convolution."),
        (r"\.expand\.", ".expand_1x1."),
        (r"\.depthwise\.", ".conv_3x3."),
        (r"\.project\.", ".reduce_1x1."),
        (r"^backbone\.stages\.([01])\.(\d)\.", r"encoder.layer.\1.layer.\2."),
        (r"^backbone\.stages\.(\d)\.0\.", r"encoder.layer.\1.downsampling_layer."),
        (r"^backbone\.stages\.(\d)\.1\.", r"encoder.layer.\1."),
        (r"^backbone\.", ""),
        (r"\.conv_1x1\.", ".conv_1x1.convolution."),
        (r"conv_proj", "conv_projection"),
        (r"conv_fusion", "fusion"),
        (r"final_conv", "conv_1x1_exp"),
        (r"\.transformer\.(\d)\.norm1", r".transformer.layer.\1.layernorm_before"),
        (r"\.transformer\.(\d)\.norm2", r".transformer.layer.\1.layernorm_after"),
        (r"(layer\.\d)\.norm\.", r"\1.layernorm."),
        (r"\.transformer\.(\d)\.", r".transformer.layer.\1."),
    )  # fmt: skip
    return tensors


def as_hugging_face_v1(tensors: Tensors) -> Tensors:
    out = renamed(
        as_hugging_face(tensors),
        (r"attn\.proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"^(?!classifier)", "mobilevit."),
    )
    out = split(out, "attn.qkv", tuple(f"attention.attention.{part}" for part in ("query", "key", "value")))
    stem = "mobilevit.conv_stem.convolution.weight"
    out[stem] = out[stem][:, [2, 1, 0]]  # they see blue, green, red
    return out


def as_hugging_face_v2(tensors: Tensors) -> Tensors:
    return renamed(
        as_hugging_face(tensors),
        (r"attn\.(qkv|out)_proj\.", r"attention.\1_proj.convolution."),
        (r"mlp\.fc([12])\.", r"ffn.conv\1.convolution."),
        (r"^(?!classifier)", "mobilevitv2."),
    )


def as_released_v2(tensors: Tensors) -> Tensors:
    tensors = renamed(
        tensors,
        (r"^head\.fc", "classifier.1"),
        (r"(conv_stem|expand|depthwise|project|conv_kxk|conv_proj)\.(conv|norm)\.", r"\1.block.\2."),
        (r"^backbone\.conv_stem", "conv_1"),
        (r"\.expand\.", ".block.exp_1x1."),
        (r"\.depthwise\.", ".block.conv_3x3."),
        (r"\.project\.", ".block.red_1x1."),
        (r"\.conv_kxk\.", ".local_rep.0."),
        (r"\.conv_1x1\.", ".local_rep.1.block.conv."),
        (r"\.norm1\.", ".pre_norm_attn.0."),
        (r"\.norm2\.", ".pre_norm_ffn.0."),
        (r"\.attn\.(\w+)\.", r".pre_norm_attn.1.\1.block.conv."),
        (r"\.mlp\.fc1\.", ".pre_norm_ffn.1.block.conv."),
        (r"\.mlp\.fc2\.", ".pre_norm_ffn.3.block.conv."),
        (r"\.transformer\.", ".global_rep."),
    )
    for i, layers in enumerate((0, 0, 1, 2, 1)):  # the last norm is counted with the layers; stages from 1
        tensors = renamed(
            tensors,
            (rf"^backbone\.stages\.{i}\.1\.norm\.", rf"backbone.stages.{i}.1.global_rep.{layers}."),
            (rf"^backbone\.stages\.{i}\.", f"layer_{i + 1}."),
        )
    return tensors


DIALECTS = {
    "timm MobileViT": ("mobilevit_xs", as_timm),
    "Hugging Face MobileViT": ("mobilevit_xs", as_hugging_face_v1),
    "timm MobileViT v2": ("mobilevitv2_050", as_timm),
    "Hugging Face MobileViT v2": ("mobilevitv2_050", as_hugging_face_v2),
    "MobileViT v2": ("mobilevitv2_050", as_released_v2),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_gives_back_every_tensor(dialect: str) -> None:
    model, rename = DIALECTS[dialect]
    assert_comes_back(mobilevit(model, 1), mobilevit(model, 2), rename, dialect)


@pytest.mark.parametrize("dialect", [d for d in DIALECTS if d.startswith("Hugging Face")])
def test_a_bare_model_fills_the_backbone(dialect: str) -> None:
    model, rename = DIALECTS[dialect]
    theirs, ours = mobilevit(model, 1), mobilevit(model, 2)
    tensors = {key.partition(".")[2]: t for key, t in rename(weights(theirs)).items() if "classifier" not in key}
    foreign.load(ours, tensors, keep_head=False)
    assert_same(theirs, ours, but="head.")


def test_red_is_red_whoever_the_weights_are_from() -> None:
    """The same picture gives the same answer: to Hugging Face's network as BGR, to ours as RGB."""
    theirs, ours = mobilevit("mobilevit_xs", 1), mobilevit("mobilevit_xs", 2)
    foreign.load(ours, as_hugging_face_v1(weights(theirs)))
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image)) and not torch.allclose(ours(image.flip(1)), theirs(image))


def test_only_three_channels_are_colours_in_another_order() -> None:
    size, options = small(CATALOGUE["mobilevit_xs"])
    ours = build_network(
        NetworkConfig(model="mobilevit_xs", classes=5, size=size, options=options, mean=(0.5,) * 4, std=(1.0,) * 4)
    )
    tensors = as_hugging_face_v1(weights(mobilevit("mobilevit_xs", 1)))
    key = "mobilevit.conv_stem.convolution.weight"
    tensors[key] = torch.randn(tensors[key].shape[0], 4, 3, 3)
    foreign.load(ours, tensors)
    assert torch.equal(ours.backbone.conv_stem.conv.weight, tensors[key])


def test_a_stem_that_is_a_single_number_is_named() -> None:
    tensors = as_hugging_face_v1(weights(mobilevit("mobilevit_xxs", 1)))
    stem = next(key for key in tensors if key.endswith("conv_stem.convolution.weight"))
    refused(
        mobilevit("mobilevit_xxs", 2),
        tensors | {stem: torch.tensor(0.0)},
        r"of another shape: mobilevit\.conv_stem\.convolution\.weight \(\) instead",
    )


def test_the_versions_are_not_taken_for_each_other() -> None:
    for theirs, ours in (("mobilevit_xs", "mobilevitv2_050"), ("mobilevitv2_050", "mobilevit_xs")):
        refused(
            mobilevit(ours, 2),
            as_timm(weights(mobilevit(theirs, 1))),
            r"holds timm MobileViT.* weights; .* is of the family MobileViT",
        )


def test_what_is_no_classifier_is_named() -> None:
    tensors = as_hugging_face_v1(weights(mobilevit("mobilevit_xs", 1)))
    tensors["segmentation_head.classifier.convolution.weight"] = torch.zeros(1)
    refused(mobilevit("mobilevit_xs", 2), tensors, r"parts this architecture lacks: segmentation_head\.classifier")
