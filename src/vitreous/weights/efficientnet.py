"""Names of EfficientNet's tensors in timm, torchvision, Hugging Face transformers and lukemelas/EfficientNet-PyTorch.

timm's ``tf_efficientnet_*`` have the names of ``efficientnet_*`` and cannot be told from them: build the network with
``padding="same", eps=1e-3`` for those. Hugging Face's padding is fixed to what TensorFlow's is at the published sizes;
ours follows the picture, so that the two agree there. torchvision's B0 to B4 need nothing; its B5 and larger, which are
no rows here, have an eps of 1e-3.
"""

from __future__ import annotations

from functools import partial

from vitreous.weights.dialect import Dialect, bricks
from vitreous.weights.inverted import TIMM_BLOCKS, numbered

_BLOCK = r"backbone.blocks.\1."
_TENSORFLOW = {"padding": "same", "eps": 1e-3}
_TV = r"features\.[2-7]\.(\d+)\.block\."
_TV_SE = r"features\.\d\.(\d+)\.block\.\d\."
_HF = r"(?:efficientnet\.)?"
_HF_BLOCK = _HF + r"encoder\.blocks\.(\d+)\."

DIALECTS = (
    Dialect(
        name="timm EfficientNet",
        family="efficientnet",
        marks=(r"conv_stem\.weight", r"blocks\.0\.0\.conv_dw\.weight", r"bn2\.weight"),
        prepare=numbered,
        rules=(
            *TIMM_BLOCKS,
            (r"conv_stem\.(.+)", r"backbone.conv_stem.conv.\1"),
            (r"bn1\.(.+)", r"backbone.conv_stem.norm.\1"),
            (r"conv_head\.(.+)", r"backbone.conv_head.conv.\1"),
            (r"bn2\.(.+)", r"backbone.conv_head.norm.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="torchvision EfficientNet",
        family="efficientnet",
        marks=(r"features\.1\.0\.block\.0\.0\.weight", r"features\.8\.0\.weight"),
        prepare=partial(numbered, place=r"features\.(\d+)\.(\d+)\.block\."),
        rules=(
            *bricks(
                "0",
                "1",
                (r"features\.0", r"backbone.conv_stem"),
                (r"features\.1\.(\d+)\.block\.0", _BLOCK + r"depthwise"),
                (r"features\.1\.(\d+)\.block\.2", _BLOCK + r"project"),
                (_TV + r"0", _BLOCK + r"expand"),
                (_TV + r"1", _BLOCK + r"depthwise"),
                (_TV + r"3", _BLOCK + r"project"),
                (r"features\.8", r"backbone.conv_head"),
            ),
            (_TV_SE + r"fc1\.(.+)", _BLOCK + r"squeeze.reduce.\2"),
            (_TV_SE + r"fc2\.(.+)", _BLOCK + r"squeeze.expand.\2"),
            (r"classifier\.1\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="Hugging Face EfficientNet",
        family="efficientnet",
        needs=_TENSORFLOW,
        marks=(_HF + r"encoder\.blocks\.0\.depthwise_conv\.depthwise_conv\.weight",),
        rules=(
            (_HF + r"embeddings\.convolution\.(.+)", r"backbone.conv_stem.conv.\1"),
            (_HF + r"embeddings\.batchnorm\.(.+)", r"backbone.conv_stem.norm.\1"),
            (_HF_BLOCK + r"expansion\.expand_conv\.(.+)", _BLOCK + r"expand.conv.\2"),
            (_HF_BLOCK + r"expansion\.expand_bn\.(.+)", _BLOCK + r"expand.norm.\2"),
            (_HF_BLOCK + r"depthwise_conv\.depthwise_conv\.(.+)", _BLOCK + r"depthwise.conv.\2"),
            (_HF_BLOCK + r"depthwise_conv\.depthwise_norm\.(.+)", _BLOCK + r"depthwise.norm.\2"),
            (_HF_BLOCK + r"squeeze_excite\.(reduce|expand)\.(.+)", _BLOCK + r"squeeze.\2.\3"),
            (_HF_BLOCK + r"projection\.project_conv\.(.+)", _BLOCK + r"project.conv.\2"),
            (_HF_BLOCK + r"projection\.project_bn\.(.+)", _BLOCK + r"project.norm.\2"),
            (_HF + r"encoder\.top_conv\.(.+)", r"backbone.conv_head.conv.\1"),
            (_HF + r"encoder\.top_bn\.(.+)", r"backbone.conv_head.norm.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="EfficientNet-PyTorch",
        family="efficientnet",
        needs=_TENSORFLOW,
        marks=(r"_conv_stem\.weight", r"_blocks\.0\._depthwise_conv\.weight"),
        rules=(
            (r"_conv_stem\.(.+)", r"backbone.conv_stem.conv.\1"),
            (r"_bn0\.(.+)", r"backbone.conv_stem.norm.\1"),
            (r"_blocks\.(\d+)\._expand_conv\.(.+)", _BLOCK + r"expand.conv.\2"),
            (r"_blocks\.(\d+)\._bn0\.(.+)", _BLOCK + r"expand.norm.\2"),
            (r"_blocks\.(\d+)\._depthwise_conv\.(.+)", _BLOCK + r"depthwise.conv.\2"),
            (r"_blocks\.(\d+)\._bn1\.(.+)", _BLOCK + r"depthwise.norm.\2"),
            (r"_blocks\.(\d+)\._se_(reduce|expand)\.(.+)", _BLOCK + r"squeeze.\2.\3"),
            (r"_blocks\.(\d+)\._project_conv\.(.+)", _BLOCK + r"project.conv.\2"),
            (r"_blocks\.(\d+)\._bn2\.(.+)", _BLOCK + r"project.norm.\2"),
            (r"_conv_head\.(.+)", r"backbone.conv_head.conv.\1"),
            (r"_bn1\.(.+)", r"backbone.conv_head.norm.\1"),
            (r"_fc\.(.+)", r"head.fc.\1"),
        ),
    ),
)
