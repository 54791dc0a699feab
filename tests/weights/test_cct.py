from __future__ import annotations

import torch
from weights.renaming import Tensors, assert_comes_back, build, refused, weights

from vitreous.layers.position import resample
from vitreous.network import Network
from vitreous.weights import foreign


def cct(seed: int, size: int = 32) -> Network:
    return build("cct_7_3x1_32", seed, size, width=16, depth=2, heads=2, convolutions=2)


def released(tensors: Tensors) -> Tensors:
    """The same under the names of the authors' release, written down one by one."""
    t = {key.removeprefix("backbone."): tensor for key, tensor in tensors.items()}
    names = {
        "tokenizer.conv_layers.0.0.weight": "tokenizer.0.conv.weight",
        "tokenizer.conv_layers.1.0.weight": "tokenizer.1.conv.weight",
        "classifier.positional_emb": "pos_embed",
        "classifier.attention_pool.weight": "pool.score.weight",
        "classifier.norm.weight": "norm.weight",
        "classifier.norm.bias": "norm.bias",
        "classifier.fc.weight": "head.fc.weight",
        "classifier.fc.bias": "head.fc.bias",
    }
    parts = {
        "pre_norm.weight": "norm1.weight",
        "pre_norm.bias": "norm1.bias",
        "self_attn.qkv.weight": "attn.qkv.weight",
        "self_attn.proj.weight": "attn.proj.weight",
        "self_attn.proj.bias": "attn.proj.bias",
        "norm1.weight": "norm2.weight",
        "norm1.bias": "norm2.bias",
        "linear1.weight": "mlp.fc1.weight",
        "linear1.bias": "mlp.fc1.bias",
        "linear2.weight": "mlp.fc2.weight",
        "linear2.bias": "mlp.fc2.bias",
    }
    names |= {f"classifier.blocks.{i}.{a}": f"blocks.{i}.{b}" for i in range(2) for a, b in parts.items()}
    return {theirs: t[ours] for theirs, ours in names.items()} | {"classifier.attention_pool.bias": torch.randn(1)}


def test_the_authors_release_gives_the_same_network() -> None:
    assert_comes_back(cct(1), cct(2), released, "CCT")


def test_positions_of_another_size_are_resampled() -> None:
    theirs, ours = cct(1, size=32), cct(2, size=48)
    assert foreign.load(ours, released(weights(theirs))).resampled == (
        "backbone.pos_embed (1, 64, 16) to (1, 144, 16)",
    )
    assert torch.equal(ours.backbone.pos_embed, resample(theirs.backbone.pos_embed, (8, 8), (12, 12)))


def test_what_does_not_fit_is_named() -> None:
    tensors = released(weights(cct(1)))
    refused(
        cct(2),
        tensors | {"classifier.class_emb": torch.zeros(1, 1, 16)},
        r"parts this architecture lacks: classifier\.class_emb",
    )
    del tensors["classifier.blocks.1.norm1.bias"]
    refused(cct(2), tensors, r"missing: backbone\.blocks\.1\.norm2\.bias")
