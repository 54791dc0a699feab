"""Names of MobileViT's tensors in timm and in Hugging Face transformers, and the order of their colours.

The authors' first code read pictures with OpenCV, so their weights see blue, green, red. Hugging Face kept them and has
its processor turn the picture round; timm turned the kernels round, as its accuracy on plain RGB shows (78.3 % for
``mobilevit_s``, the paper 78.4 %). Pictures here are RGB: the first kernel of Hugging Face's weights is turned round as
it is read. Neither subtracts a mean or divides by a deviation (mean 0, std 1).

The authors' own files are left out: those of their later code were trained on RGB under the same names, so that the
names do not tell what the first kernel expects.
"""

from __future__ import annotations

from torch import Tensor

from vitreous.weights.dialect import Dialect, Rules, bricks

_STAGE = r"backbone.stages.\1."
_PARTS = (("expand_1x1", "expand"), ("conv_3x3", "depthwise"), ("reduce_1x1", "project"))

# rows of both versions
TIMM: Rules = (
    *bricks(
        "conv",
        "bn",
        (r"stem", r"backbone.conv_stem"),
        (r"(stages\.\d\.\d+)\.conv1_1x1", r"backbone.\1.expand"),
        (r"(stages\.\d\.\d+)\.conv2_kxk", r"backbone.\1.depthwise"),
        (r"(stages\.\d\.\d+)\.conv3_1x1", r"backbone.\1.project"),
        (r"(stages\.\d\.1\.conv_(?:kxk|proj))", r"backbone.\1"),
    ),
    (r"(stages\.\d\.1\.(?:conv_1x1|transformer|norm)\..+)", r"backbone.\1"),
    (r"head\.fc\.(.+)", r"head.fc.\1"),
)


def hugging_face(model: str, layer: Rules) -> Rules:
    """Their rows of ``model``, "mobilevit" or "mobilevitv2"; those of ``layer`` begin after a transformer's layer."""
    block = rf"(?:{model}\.)?encoder\.layer\.(\d)\."
    parts = (
        (r"layernorm_before\.(.+)", r"norm1.\3"),
        (r"layernorm_after\.(.+)", r"norm2.\3"),
        *layer,
    )
    return (
        *bricks(
            "convolution",
            "normalization",
            (rf"(?:{model}\.)?conv_stem", r"backbone.conv_stem"),
            *((block + rf"layer\.(\d+)\.{theirs}", _STAGE + rf"\2.{ours}") for theirs, ours in _PARTS),
            *((block + rf"downsampling_layer\.{theirs}", _STAGE + f"0.{ours}") for theirs, ours in _PARTS),
            (block + r"conv_kxk", _STAGE + "1.conv_kxk"),
            (block + r"conv_projection", _STAGE + "1.conv_proj"),
        ),
        (block + r"conv_1x1\.convolution\.(.+)", _STAGE + r"1.conv_1x1.\2"),
        *(
            (block + r"transformer\.layer\.(\d+)\." + theirs, _STAGE + r"1.transformer.\2." + ours)
            for theirs, ours in parts
        ),
        (block + r"layernorm\.(.+)", _STAGE + r"1.norm.\2"),
        (r"classifier\.(.+)", r"head.fc.\1"),
    )


_LAYER: Rules = (
    (r"attention\.attention\.query\.(.+)", r"attn.qkv.\3#0"),
    (r"attention\.attention\.key\.(.+)", r"attn.qkv.\3#1"),
    (r"attention\.attention\.value\.(.+)", r"attn.qkv.\3#2"),
    (r"attention\.output\.dense\.(.+)", r"attn.proj.\3"),
    (r"intermediate\.dense\.(.+)", r"mlp.fc1.\3"),
    (r"output\.dense\.(.+)", r"mlp.fc2.\3"),
)


def _rgb(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with the first kernel (d, 3, 3, 3) for red, green, blue instead of blue, green, red."""
    key = next((key for key in tensors if key.endswith("conv_stem.convolution.weight")), None)
    if key is None or tensors[key].shape[1:2] != (3,):
        return tensors
    return tensors | {key: tensors[key].flip(1)}


DIALECTS = (
    Dialect(
        name="timm MobileViT",
        family="mobilevit",
        marks=(r"stages\.\d\.1\.transformer\.0\.attn\.qkv\.weight",),
        rules=(
            *TIMM,
            *bricks("conv", "bn", (r"(stages\.\d\.1\.conv_fusion|final_conv)", r"backbone.\1")),
        ),
    ),
    Dialect(
        name="Hugging Face MobileViT",
        family="mobilevit",
        marks=(r"(?:mobilevit\.)?encoder\.layer\.\d\.transformer\.layer\.0\.attention\.attention\.query\.weight",),
        prepare=_rgb,
        rules=(
            *hugging_face("mobilevit", _LAYER),
            *bricks(
                "convolution",
                "normalization",
                (r"(?:mobilevit\.)?encoder\.layer\.(\d)\.fusion", _STAGE + "1.conv_fusion"),
                (r"(?:mobilevit\.)?conv_1x1_exp", r"backbone.final_conv"),
            ),
        ),
    ),
)
