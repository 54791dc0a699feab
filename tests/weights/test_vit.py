"""Names of ViT and its relatives elsewhere."""

from __future__ import annotations

import re

import pytest
import torch
from weights.renaming import (
    Tensors,
    assert_comes_back,
    assert_same,
    build,
    refused,
    renamed,
    split,
    weights,
)
from weights.vit_names import as_hugging_face, as_timm, in_transformers

from vitreous.layers.patch import resample_kernel
from vitreous.layers.position import resample
from vitreous.network import Network, NetworkConfig, build_network
from vitreous.weights import foreign

DISTILLED = {"pool": "distilled"}
DINOV2 = {"layer_scale": 0.1}
REGISTERS = {"layer_scale": 0.1, "registers": 3, "class_position": False}
SWIGLU = {"mlp": "swiglu"}


def vit(seed: int, size: int = 32, **options: object) -> Network:
    options = {"width": 16, "depth": 3, "heads": 2, "patch": 8} | options
    return build("vit_tiny_patch16_224", seed, size, **options)


def as_torchvision(tensors: Tensors) -> Tensors:
    return renamed(
        tensors,
        (r"^backbone\.", ""),
        (r"^head\.fc", "heads.head"),
        (r"^cls_token", "class_token"),
        (r"^pos_embed", "encoder.pos_embedding"),
        (r"^patch_embed\.proj", "conv_proj"),
        (r"^norm", "encoder.ln"),
        (r"attn\.qkv\.", "self_attention.in_proj_"),
        (r"attn\.proj", "self_attention.out_proj"),
        (r"mlp\.fc1", "mlp.0"),
        (r"mlp\.fc2", "mlp.3"),
        (r"^blocks\.(\d+)\.norm", r"blocks.\1.ln_"),
        (r"^blocks\.", "encoder.layers.encoder_layer_"),
    )


def as_hugging_face_dinov2(tensors: Tensors, new: bool, prefix: str, swiglu: bool = False) -> Tensors:
    tensors = renamed(
        tensors,
        (r"^backbone\.cls_token", f"{prefix}embeddings.cls_token"),
        (r"^backbone\.reg_token", f"{prefix}embeddings.register_tokens"),
        (r"^backbone\.pos_embed", f"{prefix}embeddings.position_embeddings"),
        (r"^backbone\.patch_embed\.proj", f"{prefix}embeddings.patch_embeddings.projection"),
        (r"^backbone\.norm", f"{prefix}layernorm"),
        (r"^backbone\.blocks", f"{prefix}encoder.layer"),
        (r"ls([12])\.gamma", r"layer_scale\1.lambda1"),
        (r"attn\.proj", "attention.o_proj" if new else "attention.output.dense"),
        (r"^head\.fc", "classifier"),
    )
    if swiglu:
        tensors = renamed(tensors, (r"mlp\.fc1", "mlp.weights_in"), (r"mlp\.fc2", "mlp.weights_out"))
    if swiglu and new:
        tensors = renamed(split(tensors, "weights_in", ("gate_proj", "up_proj")), ("weights_out", "down_proj"))
    tensors[f"{prefix}embeddings.mask_token"] = torch.randn(1, 16)
    return split(tensors, "attn.qkv", in_transformers(new))


def as_meta_dinov2(tensors: Tensors, chunked: bool = False, swiglu: bool = False) -> Tensors:
    tensors = renamed(as_timm(tensors), ("reg_token", "register_tokens"))
    tensors = {key: t for key, t in tensors.items() if not key.startswith("head")}
    if swiglu:
        tensors = renamed(tensors, (r"mlp\.fc1", "mlp.w12"), (r"mlp\.fc2", "mlp.w3"))
    if chunked:  # chunks of two blocks: 0.0, 0.1, 1.2
        tensors = {
            re.sub(r"^blocks\.(\d)", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}", k): t for k, t in tensors.items()
        }
    return tensors | {"mask_token": torch.randn(1, 16)}


VIT_DIALECTS = {
    "timm ViT": as_timm,
    "torchvision ViT": as_torchvision,
    "Hugging Face ViT, new": lambda t: as_hugging_face(t, new=True),
    "Hugging Face ViT": lambda t: as_hugging_face(t, new=False),
    "vitreous": lambda t: t,
}


@pytest.mark.parametrize("dialect", VIT_DIALECTS)
def test_every_dialect_gives_the_same_network(dialect: str) -> None:
    assert_comes_back(vit(1), vit(2), VIT_DIALECTS[dialect], dialect.partition(",")[0])


@pytest.mark.parametrize("library", ["timm", "Hugging Face", "Hugging Face, new", "Hugging Face, bare"])
def test_distilled_deit(library: str) -> None:
    theirs, ours = vit(1, **DISTILLED), vit(2, **DISTILLED)
    if library == "timm":
        tensors = as_timm(weights(theirs))
        assert {"dist_token", "head_dist.weight", "head.bias"} <= set(tensors)
    else:
        bare = library.endswith("bare")
        tensors = as_hugging_face(weights(theirs), library.endswith("new"), "" if bare else "deit.")
    foreign.load(ours, tensors)
    assert_same(theirs, ours)


def test_deit_3_calls_its_scales_otherwise() -> None:
    options = {"layer_scale": 0.1, "class_position": False}
    theirs, ours = vit(1, **options), vit(2, **options)
    tensors = renamed(as_timm(weights(theirs)), (r"ls([12])\.gamma", r"gamma_\1"))
    assert foreign.load(ours, tensors).dialect == "timm ViT"
    assert_same(theirs, ours)


@pytest.mark.parametrize("pool", ["mae", "both"])
def test_other_poolings(pool: str) -> None:
    theirs, ours = vit(1, pool=pool), vit(2, pool=pool)
    foreign.load(ours, as_timm(weights(theirs)))
    assert_same(theirs, ours)


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("dialect", ["timm", "meta", "meta, chunked", "Hugging Face", "Hugging Face, new"])
def test_dinov2(dialect: str, swiglu: bool) -> None:
    """Hugging Face's classifier reads class token and mean; the original release has none."""
    options = DINOV2 | (SWIGLU if swiglu else {}) | {"pool": "both"}
    theirs, ours = vit(1, **options), vit(2, **options)
    if dialect == "timm":
        tensors = as_timm(weights(theirs))
    elif dialect.startswith("meta"):
        tensors = as_meta_dinov2(weights(theirs), "chunked" in dialect, swiglu)
    else:
        tensors = as_hugging_face_dinov2(weights(theirs), "new" in dialect, "dinov2.", swiglu)
    headless = dialect.startswith("meta")
    loaded = foreign.load(ours, tensors, keep_head=not headless)
    assert loaded.dialect == {"t": "timm ViT", "m": "DINOv2", "H": "Hugging Face DINOv2"}[dialect[0]]
    assert_same(theirs, ours, but="head." if headless else "")


@pytest.mark.parametrize("dialect", ["meta", "Hugging Face", "Hugging Face, bare"])
def test_beside_registers_the_position_of_the_class_token_moves_into_it(dialect: str) -> None:
    theirs, ours = vit(1, **REGISTERS | {"class_position": True}), vit(2, **REGISTERS)
    tensors = weights(theirs)
    if dialect == "meta":
        tensors = as_meta_dinov2(tensors)
    else:
        prefix = "" if dialect.endswith("bare") else "dinov2_with_registers."
        tensors = as_hugging_face_dinov2(tensors, False, prefix)
    foreign.load(ours, tensors, keep_head=False)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for a, b in zip(ours.features(image).maps, theirs.features(image).maps, strict=True):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(ours.features(image).pooled, theirs.features(image).pooled)


def test_registers_in_timms_own_layout() -> None:
    theirs, ours = vit(1, **REGISTERS), vit(2, **REGISTERS)
    assert foreign.load(ours, as_timm(weights(theirs))).dialect == "timm ViT"
    assert_same(theirs, ours)


@pytest.mark.parametrize("library", ["original", "Hugging Face"])
def test_of_a_masked_autoencoder_the_encoder_is_taken(library: str) -> None:
    theirs, ours = vit(1), vit(2)
    tensors = {key: t for key, t in weights(theirs).items() if not key.startswith("head.")}
    if library == "original":
        tensors = as_timm(tensors) | {
            "mask_token": torch.randn(1, 1, 8),
            "decoder_pos_embed": torch.randn(1, 17, 8),
            "decoder_embed.weight": torch.randn(8, 16),
            "decoder_blocks.0.attn.qkv.weight": torch.randn(24, 8),
        }
    else:
        tensors = as_hugging_face(tensors, new=True, prefix="vit.") | {
            "decoder.mask_token": torch.randn(1, 1, 8),
            "decoder.decoder_layers.0.attention.q_proj.weight": torch.randn(8, 8),
        }
    loaded = foreign.load(ours, tensors, keep_head=False)
    assert loaded.dialect == {"original": "MAE", "Hugging Face": "Hugging Face ViT"}[library]
    assert_same(theirs, ours, but="head.")


def test_a_pooler_that_no_classifier_saw_is_left_out() -> None:
    theirs, ours = vit(1), vit(2)
    tensors = {key: t for key, t in weights(theirs).items() if not key.startswith("head.")}
    tensors = as_hugging_face(tensors, new=False, prefix="") | {"pooler.dense.weight": torch.randn(16, 16)}
    foreign.load(ours, tensors, keep_head=False)
    assert_same(theirs, ours, but="head.")


def test_patches_of_another_size_are_resampled_with_channels_and_positions() -> None:
    theirs, ours = vit(1, size=32, patch=8), vit(2, size=48, patch=16)
    done = foreign.load(ours, as_timm(weights(theirs))).resampled
    assert sorted(done) == [
        "backbone.patch_embed.proj.weight (16, 3, 8, 8) to (16, 3, 16, 16)",
        "backbone.pos_embed (1, 17, 16) to (1, 10, 16)",
    ]
    kernel = resample_kernel(theirs.backbone.patch_embed.proj.weight, 16)
    assert torch.equal(ours.backbone.patch_embed.proj.weight, kernel)
    assert torch.equal(ours.backbone.pos_embed, resample(theirs.backbone.pos_embed, (4, 4), (3, 3)))
    grey = build_network(
        NetworkConfig(
            model="vit_tiny_patch16_224", classes=5, size=48, mean=(0.5,), std=(0.5,),
            options={"width": 16, "depth": 3, "heads": 2, "patch": 16},
        )
    )  # fmt: skip
    foreign.load(grey, as_timm(weights(theirs)))
    assert torch.equal(grey.backbone.patch_embed.proj.weight, kernel.sum(1, keepdim=True))


def test_relatives_are_not_taken_for_each_other() -> None:
    plain, distilled, scaled = vit(1), vit(1, **DISTILLED), vit(1, **DINOV2)
    refused(
        vit(2),
        as_timm(weights(distilled)),
        r"not in this network: dist_token, .*pos_embed \(1, 18, 16\) instead of \(1, 17, 16\)",
    )
    refused(vit(2, **DISTILLED), as_timm(weights(plain)), r"missing: .*dist_token.*head\.fc_dist\.weight")
    refused(vit(2), as_timm(weights(scaled)), r"not in this network: blocks\.0\.ls1\.gamma, .* and 3 more")
    refused(vit(2, **SWIGLU), as_timm(weights(plain)), r"mlp\.fc1\.weight \(64, 16\) instead of")
    refused(vit(2, class_position=False), as_timm(weights(plain)), r"\(1, 17, 16\) instead of \(1, 16, 16\)")
    refused(vit(2, pool="mae"), as_timm(weights(plain)), r"missing: backbone\.fc_norm\.weight")


def test_halves_that_do_not_belong_together_are_named() -> None:
    theirs = vit(1, **DINOV2, **SWIGLU)
    tensors = as_hugging_face_dinov2(weights(theirs), True, "dinov2.", swiglu=True)
    del tensors["dinov2.encoder.layer.1.mlp.up_proj.bias"]
    refused(vit(2, **DINOV2, **SWIGLU), tensors, r"parts this architecture lacks: .*layer\.1\.mlp\.gate_proj\.bias")
    tensors = as_meta_dinov2(weights(vit(1, **REGISTERS | {"class_position": True})))
    del tensors["pos_embed"]
    refused(vit(2, **REGISTERS), tensors, r"missing: .*backbone\.pos_embed")
