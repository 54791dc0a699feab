from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from weights.renaming import Tensors, assert_comes_back, assert_same, build, refused, renamed, weights

from vitreous.network import Network
from vitreous.weights import foreign


def efficientvit(seed: int, size: int = 224) -> Network:
    options = {"widths": (16, 24, 32), "depths": (2, 1, 2), "heads": (2, 3, 2), "key": 4}
    return build("efficientvit_m0", seed, size, **options)


PARTS = (  # within a block
    (r"attn\.proj\.", "mixer.m.attn.proj.1."),
    (r"(?<!m\.)attn\.", "mixer.m.attn."),
    (r"before\.dw\.", "dw0.m."),
    (r"before\.pw", "ffn0.m.pw"),
    (r"after\.dw\.", "dw1.m."),
    (r"after\.pw", "ffn1.m.pw"),
    (r"se\.reduce", "se.fc1"),
    (r"se\.expand", "se.fc2"),
)


def as_timm(tensors: Tensors) -> Tensors:
    tensors = renamed(
        tensors,
        (r"^head\.fc\.", "head.linear."),
        (r"^backbone\.norm\.", "head.bn."),
        (r"\.norm\.", ".bn."),
        *((rf"^backbone\.patch_embed\.{i}\.", f"patch_embed.conv{i + 1}.") for i in range(4)),
        (r"^backbone\.stages\.0\.", "stages.0.blocks."),
        *PARTS,
        (r"^backbone\.stages\.(\d)\.0\.(conv|se)", r"stages.\1.downsample.patchmerge.\2"),
        (r"^backbone\.stages\.(\d)\.0\.dw(\d)\.", r"stages.\1.downsample.res\2.0."),
        (r"^backbone\.stages\.(\d)\.0\.ffn(\d)\.", r"stages.\1.downsample.res\2.1."),
        (r"downsample\.res1", "downsample.res2"),
        (r"downsample\.res0", "downsample.res1"),
    )
    for i in range(1, 4):
        tensors = renamed(tensors, (rf"^backbone\.stages\.([12])\.{i}\.", rf"stages.\1.blocks.{i - 1}."))
    return tensors


def as_release(tensors: Tensors) -> Tensors:
    tensors = renamed(
        tensors,
        (r"^head\.fc\.", "head.l."),
        (r"^backbone\.norm\.", "head.bn."),
        (r"\.norm\.", ".bn."),
        (r"\.conv\.weight$", ".c.weight"),
        *((rf"^backbone\.patch_embed\.{i}\.", f"patch_embed.{2 * i}.") for i in range(4)),
        (r"^backbone\.stages\.0\.", "blocks1."),
        *PARTS,
        *((rf"^backbone\.stages\.{i}\.0\.(conv|se)", rf"blocks{i + 1}.1.\1") for i in (1, 2)),
        *((rf"^backbone\.stages\.{i}\.0\.dw0\.", f"blocks{i + 1}.0.0.") for i in (1, 2)),
        *((rf"^backbone\.stages\.{i}\.0\.ffn0\.", f"blocks{i + 1}.0.1.") for i in (1, 2)),
        *((rf"^backbone\.stages\.{i}\.0\.dw1\.", f"blocks{i + 1}.2.0.") for i in (1, 2)),
        *((rf"^backbone\.stages\.{i}\.0\.ffn1\.", f"blocks{i + 1}.2.1.") for i in (1, 2)),
        *((rf"^backbone\.stages\.{i}\.{j}\.", f"blocks{i + 1}.{j + 2}.") for i in (1, 2) for j in (1, 2)),
    )
    indices = {key.replace("biases", "bias_idxs"): torch.zeros(2, 2).long() for key in tensors if "biases" in key}
    return tensors | indices  # computed, and yet in their files


DIALECTS = {"timm EfficientViT-M": as_timm, "Microsoft EfficientViT-M": as_release, "vitreous": lambda t: t}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_network(dialect: str) -> None:
    assert_comes_back(efficientvit(1), efficientvit(2), DIALECTS[dialect], dialect)


def test_names_are_those_of_the_files() -> None:
    """A few keys of each kind, written down from the published networks."""
    timm, release = (as_(weights(efficientvit(1))) for as_ in (as_timm, as_release))
    assert {
        "patch_embed.conv4.bn.weight",
        "stages.0.blocks.1.mixer.m.attn.dws.0.conv.weight",
        "stages.0.blocks.0.mixer.m.attn.proj.1.bn.weight",
        "stages.0.blocks.0.mixer.m.attn.attention_biases",
        "stages.1.downsample.res1.0.m.conv.weight",
        "stages.1.downsample.res2.1.m.pw2.bn.weight",
        "stages.2.downsample.patchmerge.se.fc1.bias",
        "stages.2.downsample.patchmerge.conv3.conv.weight",
        "stages.2.blocks.1.ffn1.m.pw1.conv.weight",
        "head.bn.running_mean",
        "head.linear.weight",
    } <= timm.keys()
    assert {
        "patch_embed.6.bn.weight",
        "blocks1.1.mixer.m.attn.dws.0.c.weight",
        "blocks1.0.mixer.m.attn.attention_bias_idxs",
        "blocks2.0.0.m.c.weight",
        "blocks2.2.1.m.pw2.bn.weight",
        "blocks3.1.se.fc1.bias",
        "blocks3.1.conv3.c.weight",
        "blocks3.4.ffn1.m.pw1.c.weight",
        "head.bn.running_mean",
        "head.l.weight",
    } <= release.keys()


def test_kernels_of_one_cell_may_be_matrices() -> None:
    theirs, ours = efficientvit(1), efficientvit(2)
    tensors = as_release(weights(theirs))
    flat = {
        key: t.flatten(1) if t.ndim == 4 and t.shape[1] > 1 and t.shape[2:] == (1, 1) else t
        for key, t in tensors.items()
    }
    assert sum(tensors[key].shape != t.shape for key, t in flat.items()) > 10
    foreign.load(ours, flat)
    assert_same(theirs, ours)


def test_biases_for_windows_of_another_side_are_resampled_and_told() -> None:
    theirs, ours = efficientvit(1), efficientvit(2, size=448)
    tensors = as_timm(weights(theirs))
    done = foreign.load(ours, tensors).resampled
    assert done == tuple(f"backbone.stages.2.{block}.attn.attention_biases (2, 16) to (2, 49)" for block in (1, 2))
    table = tensors["stages.2.blocks.1.mixer.m.attn.attention_biases"]
    expected = F.interpolate(table.view(1, 2, 4, 4), size=(7, 7), mode="bicubic", antialias=True).view(2, 49)
    torch.testing.assert_close(ours.backbone.stages[2][2].attn.attention_biases, expected)


def test_a_second_classifier_is_not_dropped_silently() -> None:
    """Their code can train with one; no published network has it."""
    tensors = as_release(weights(efficientvit(1)))
    tensors["head_dist.l.weight"] = torch.zeros(5, 32)
    refused(efficientvit(2), tensors, r"parts this architecture lacks: head_dist\.l\.weight")


def test_the_other_efficientvit_is_refused() -> None:
    words = r"holds timm EfficientViT-M weights; .* family EfficientViT, so choose"
    refused(build("efficientvit_b0", 2, 64), as_timm(weights(efficientvit(1))), words)
