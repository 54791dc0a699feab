"""Names of MobileViT v2's tensors in timm, in Hugging Face transformers and in the authors' release.

All three hold the same weights, which were trained on RGB with mean 0 and std 1: of this model the authors read
pictures with Pillow, not with OpenCV as for the first MobileViT. The processor that Hugging Face ships with them turns
the picture to BGR nevertheless; the weights do not ask for it, and no kernel is turned round here.
"""

from __future__ import annotations

from vitreous.weights.dialect import Dialect, Rules, bricks
from vitreous.weights.mobilevit import TIMM, hugging_face

_LAYER: Rules = (
    (r"attention\.(qkv_proj|out_proj)\.convolution\.(.+)", r"attn.\3.\4"),
    (r"ffn\.conv([12])\.convolution\.(.+)", r"mlp.fc\3.\4"),
)


def _original(theirs: str, ours: str) -> Rules:
    """Rules for one stage of the authors' release."""
    block = rf"{theirs}\.1\."
    layer, attn, ffn = block + r"global_rep\.(\d+)\.", r"pre_norm_attn\.", r"pre_norm_ffn\."
    return (
        *bricks(
            r"block\.conv",
            r"block\.norm",
            (rf"{theirs}\.(\d+)\.block\.exp_1x1", rf"{ours}.\1.expand"),
            (rf"{theirs}\.(\d+)\.block\.conv_3x3", rf"{ours}.\1.depthwise"),
            (rf"{theirs}\.(\d+)\.block\.red_1x1", rf"{ours}.\1.project"),
            (block + r"local_rep\.0", f"{ours}.1.conv_kxk"),
            (block + r"conv_proj", f"{ours}.1.conv_proj"),
        ),
        (block + r"local_rep\.1\.block\.conv\.(.+)", rf"{ours}.1.conv_1x1.\1"),
        (layer + attn + r"0\.(.+)", rf"{ours}.1.transformer.\1.norm1.\2"),
        (layer + attn + r"1\.(qkv_proj|out_proj)\.block\.conv\.(.+)", rf"{ours}.1.transformer.\1.attn.\2.\3"),
        (layer + ffn + r"0\.(.+)", rf"{ours}.1.transformer.\1.norm2.\2"),
        (layer + ffn + r"1\.block\.conv\.(.+)", rf"{ours}.1.transformer.\1.mlp.fc1.\2"),
        (layer + ffn + r"3\.block\.conv\.(.+)", rf"{ours}.1.transformer.\1.mlp.fc2.\2"),
        (block + r"global_rep\.\d+\.(weight|bias)", rf"{ours}.1.norm.\1"),
    )


DIALECTS = (
    Dialect(
        name="timm MobileViT v2",
        family="mobilevitv2",
        marks=(r"stages\.\d\.1\.transformer\.0\.attn\.qkv_proj\.weight",),
        rules=TIMM,
    ),
    Dialect(
        name="Hugging Face MobileViT v2",
        family="mobilevitv2",
        marks=(
            r"(?:mobilevitv2\.)?encoder\.layer\.\d\.transformer\.layer\.0\.attention\.qkv_proj\.convolution\.weight",
        ),
        rules=hugging_face("mobilevitv2", _LAYER),
    ),
    Dialect(
        name="MobileViT v2",  # apple/ml-cvnets
        family="mobilevitv2",
        marks=(r"layer_\d\.1\.global_rep\.0\.pre_norm_attn\.1\.qkv_proj\.block\.conv\.weight",),
        rules=(
            *bricks(r"block\.conv", r"block\.norm", ("conv_1", "backbone.conv_stem")),
            *(rule for i in range(5) for rule in _original(f"layer_{i + 1}", f"backbone.stages.{i}")),
            (r"classifier\.1\.(.+)", r"head.fc.\1"),
        ),
    ),
)
