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

from vitreous.weights.dialect import Dialect, bricks

_HF = r"(?:mobilevit\.)?encoder\.layer\.(\d)\."
_HF_LAYER = _HF + r"transformer\.layer\.(\d+)\."
_STAGE = r"backbone.stages.\1."
_LAYER = _STAGE + r"1.transformer.\2."
_PARTS = (("expand_1x1", "expand"), ("conv_3x3", "depthwise"), ("reduce_1x1", "project"))


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
            *bricks(
                "conv",
                "bn",
                (r"stem", r"backbone.conv_stem"),
                (r"(stages\.\d\.\d+)\.conv1_1x1", r"backbone.\1.expand"),
                (r"(stages\.\d\.\d+)\.conv2_kxk", r"backbone.\1.depthwise"),
                (r"(stages\.\d\.\d+)\.conv3_1x1", r"backbone.\1.project"),
                (r"(stages\.\d\.1\.conv_(?:kxk|proj|fusion)|final_conv)", r"backbone.\1"),
            ),
            (r"(stages\.\d\.1\.(?:conv_1x1|transformer|norm)\..+)", r"backbone.\1"),
            (r"head\.fc\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="Hugging Face MobileViT",
        family="mobilevit",
        marks=(_HF + r"transformer\.layer\.0\.attention\.attention\.query\.weight",),
        prepare=_rgb,
        rules=(
            *bricks(
                "convolution",
                "normalization",
                (r"(?:mobilevit\.)?conv_stem", r"backbone.conv_stem"),
                *((_HF + rf"layer\.(\d+)\.{theirs}", _STAGE + rf"\2.{ours}") for theirs, ours in _PARTS),
                *((_HF + rf"downsampling_layer\.{theirs}", _STAGE + f"0.{ours}") for theirs, ours in _PARTS),
                (_HF + r"conv_kxk", _STAGE + "1.conv_kxk"),
                (_HF + r"conv_projection", _STAGE + "1.conv_proj"),
                (_HF + r"fusion", _STAGE + "1.conv_fusion"),
                (r"(?:mobilevit\.)?conv_1x1_exp", r"backbone.final_conv"),
            ),
            (_HF + r"conv_1x1\.convolution\.(.+)", _STAGE + r"1.conv_1x1.\2"),
            (_HF_LAYER + r"layernorm_before\.(.+)", _LAYER + r"norm1.\3"),
            (_HF_LAYER + r"layernorm_after\.(.+)", _LAYER + r"norm2.\3"),
            (_HF_LAYER + r"attention\.attention\.query\.(.+)", _LAYER + r"attn.qkv.\3#0"),
            (_HF_LAYER + r"attention\.attention\.key\.(.+)", _LAYER + r"attn.qkv.\3#1"),
            (_HF_LAYER + r"attention\.attention\.value\.(.+)", _LAYER + r"attn.qkv.\3#2"),
            (_HF_LAYER + r"attention\.output\.dense\.(.+)", _LAYER + r"attn.proj.\3"),
            (_HF_LAYER + r"intermediate\.dense\.(.+)", _LAYER + r"mlp.fc1.\3"),
            (_HF_LAYER + r"output\.dense\.(.+)", _LAYER + r"mlp.fc2.\3"),
            (_HF + r"layernorm\.(.+)", _STAGE + r"1.norm.\2"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
)
