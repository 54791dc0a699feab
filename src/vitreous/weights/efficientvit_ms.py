"""Names of the tensors of Microsoft's EfficientViT-M in timm, and in the authors' release (microsoft/Cream)."""

from __future__ import annotations

import re
from functools import partial

from torch import Tensor

from vitreous.weights.dialect import Dialect, Rules, bricks

_bricks = partial(bricks, "conv", "bn")


def _slice(dw: str, ffn: str, ours: str) -> Rules:
    """A slice of bread, of which they have the depthwise part and the rest under separate names."""
    return _bricks((rf"{dw}\.m", rf"{ours}.dw"), (rf"{ffn}\.m\.pw(?P<layer>[12])", rf"{ours}.pw\g<layer>"))


def _block(theirs: str, ours: str) -> Rules:
    """A sandwich with attention."""
    attn = rf"{theirs}\.mixer\.m\.attn"
    return (
        *_slice(rf"{theirs}\.dw0", rf"{theirs}\.ffn0", f"{ours}.before"),
        *_bricks(
            (rf"{attn}\.(?P<part>qkvs|dws)\.(?P<head>\d+)", rf"{ours}.attn.\g<part>.\g<head>"),
            (rf"{attn}\.proj\.1", rf"{ours}.attn.proj"),
        ),
        (rf"{attn}\.attention_biases", rf"{ours}.attn.attention_biases"),
        *_slice(rf"{theirs}\.dw1", rf"{theirs}\.ffn1", f"{ours}.after"),
    )


def _subsample(theirs: str, ours: str) -> Rules:
    """A sandwich that halves the map."""
    return (
        *_slice(rf"{theirs}\.res1\.0", rf"{theirs}\.res1\.1", f"{ours}.before"),
        *_bricks((rf"{theirs}\.patchmerge\.conv(?P<layer>[123])", rf"{ours}.conv\g<layer>")),
        (rf"{theirs}\.patchmerge\.se\.fc1\.(?P<rest>.+)", rf"{ours}.se.reduce.\g<rest>"),
        (rf"{theirs}\.patchmerge\.se\.fc2\.(?P<rest>.+)", rf"{ours}.se.expand.\g<rest>"),
        *_slice(rf"{theirs}\.res2\.0", rf"{theirs}\.res2\.1", f"{ours}.after"),
    )


RULES: Rules = (
    *_bricks(*((rf"patch_embed\.conv{i + 1}", f"backbone.patch_embed.{i}") for i in range(4))),
    *_block(r"stages\.0\.blocks\.(?P<block>\d+)", r"backbone.stages.0.\g<block>"),
    # from the second stage on, ours counts what halves the map as block 0
    *_subsample(r"stages\.(?P<stage>\d)\.downsample", r"backbone.stages.\g<stage>.0"),
    *_block(r"stages\.(?P<stage>\d)\.blocks\.(?P<block>\d+)", r"backbone.stages.\g<stage>.\g<block>+"),
    (r"head\.bn\.(.+)", r"backbone.norm.\1"),
    (r"head\.linear\.(.+)", r"head.fc.\1"),
)


def _as_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' names in timm's. Like their loader, this takes kernels of 1x1 that are stored as matrices."""
    matrices = (".c.weight", ".fc1.weight", ".fc2.weight")
    return {
        _timm_name(key): t[:, :, None, None] if t.ndim == 2 and key.endswith(matrices) else t
        for key, t in tensors.items()
    }


def _timm_name(key: str) -> str:
    name = re.sub(r"\.c\.(\w+)$", r".conv.\1", key)
    name = re.sub(r"^head\.l\.", "head.linear.", name)
    name = re.sub(r"^patch_embed\.(\d)", lambda match: f"patch_embed.conv{int(match[1]) // 2 + 1}", name)
    return re.sub(r"^blocks(\d)\.(\d+)", _place, name)


def _place(match: re.Match[str]) -> str:
    """A block of theirs; from the second stage on, their first three are what halves the map."""
    stage, block = int(match[1]) - 1, int(match[2])
    if stage == 0:
        return f"stages.0.blocks.{block}"
    if block < 3:
        return f"stages.{stage}.downsample.{('res1', 'patchmerge', 'res2')[block]}"
    return f"stages.{stage}.blocks.{block - 3}"


DIALECTS = (
    Dialect(
        name="timm EfficientViT-M",
        family="efficientvit_ms",
        marks=(r"patch_embed\.conv1\.conv\.weight", r"stages\.0\.blocks\.0\.mixer\.m\.attn\.qkvs\.0\.conv\.weight"),
        rules=RULES,
        ignored=(r".+\.attention_bias_idxs",),
    ),
    Dialect(
        name="Microsoft EfficientViT-M",
        family="efficientvit_ms",
        marks=(r"blocks1\.0\.mixer\.m\.attn\.qkvs\.0\.c\.weight",),
        rules=RULES,
        ignored=(r".+\.attention_bias_idxs",),
        prepare=_as_timm,
    ),
)
