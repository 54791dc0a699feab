"""Names of the tensors of MIT's EfficientViT-B in timm, and in the authors' release (mit-han-lab/efficientvit)."""

from __future__ import annotations

from vitreous.weights.dialect import Dialect, Rules


def _residual(theirs: str, ours: str, inner: str = "") -> Rules:
    """An inverted residual; ``inner`` stands in their names only, after the two convolutions that may lack a norm."""
    parts = (("inverted_conv" + inner, "expand"), ("depth_conv" + inner, "depthwise"), ("point_conv", "project"))
    return tuple((rf"{theirs}\.{part}\.(?P<rest>.+)", rf"{ours}.{name}.\g<rest>") for part, name in parts)


def _stages(stages: str, blocks: str) -> Rules:
    """The four stages, whose blocks are called ``stages.NUMBER.blocks.NUMBER``."""
    theirs = rf"{stages}\.(?P<stage>\d)\.{blocks}\.(?P<block>\d+)"
    later = rf"{stages}\.(?P<stage>[23])\.{blocks}\.(?P<block>\d+)"  # have attention, and fewer norms
    ours = r"backbone.stages.\g<stage>.\g<block>"
    attn = rf"{theirs}\.context_module\.main"
    return (
        *_residual(rf"{later}\.main", ours, r"\.conv"),
        *_residual(rf"{theirs}\.main", ours),
        *_residual(rf"{theirs}\.local_module\.main", rf"{ours}.local", r"\.conv"),
        (rf"{attn}\.qkv\.conv\.(?P<rest>.+)", rf"{ours}.attn.qkv.\g<rest>"),
        (rf"{attn}\.aggreg\.0\.(?P<rest>.+)", rf"{ours}.attn.aggregate.\g<rest>"),
        (rf"{attn}\.proj\.(?P<rest>.+)", rf"{ours}.attn.proj.\g<rest>"),
    )


DIALECTS = (
    Dialect(
        name="timm EfficientViT-B",
        family="efficientvit",
        marks=(r"stem\.in_conv\.conv\.weight", r"stages\.2\.blocks\.1\.context_module\.main\.qkv\.conv\.weight"),
        rules=(
            (r"stem\.in_conv\.(.+)", r"backbone.input_stem.0.\1"),
            (r"stem\.res(\d+)\.main\.depth_conv\.(.+)", r"backbone.input_stem.\1+.depthwise.\2"),
            (r"stem\.res(\d+)\.main\.point_conv\.(.+)", r"backbone.input_stem.\1+.project.\2"),
            *_stages("stages", "blocks"),
            (r"head\.in_conv\.(.+)", r"backbone.widen.\1"),
            (r"head\.classifier\.0\.(.+)", r"backbone.fc.\1"),
            (r"head\.classifier\.1\.(.+)", r"backbone.norm.\1"),
            (r"head\.classifier\.4\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="MIT EfficientViT-B",
        family="efficientvit",
        marks=(r"backbone\.input_stem\.op_list\.0\.conv\.weight",),
        rules=(
            (r"backbone\.input_stem\.op_list\.0\.(.+)", r"backbone.input_stem.0.\1"),
            (r"backbone\.input_stem\.op_list\.(\d+)\.main\.depth_conv\.(.+)", r"backbone.input_stem.\1.depthwise.\2"),
            (r"backbone\.input_stem\.op_list\.(\d+)\.main\.point_conv\.(.+)", r"backbone.input_stem.\1.project.\2"),
            *_stages(r"backbone\.stages", "op_list"),
            (r"head\.op_list\.0\.(.+)", r"backbone.widen.\1"),
            (r"head\.op_list\.2\.linear\.(.+)", r"backbone.fc.\1"),
            (r"head\.op_list\.2\.norm\.(.+)", r"backbone.norm.\1"),
            (r"head\.op_list\.3\.linear\.(.+)", r"head.fc.\1"),
        ),
    ),
)
