"""Names of Swin v2's tensors in timm, torchvision, Hugging Face transformers and the original release.

Offsets are measured in windows of the training, which no learned tensor shows. Files with tables of offsets are held
against the network (``SwinV2.measured``); of those without, as timm and transformers write them, it is taken that they
were measured as the row of the catalogue says (``trained``, or the window itself).
"""

from __future__ import annotations

from torch import Tensor

from vitreous.weights.dialect import Dialect, Rules
from vitreous.weights.swin import ORIGINAL, TIMM, TORCHVISION, hugging_face

IGNORED = (r".*\.(?:relative_position_index|attn_mask)",)


def _split(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's one bias for q, k and v, of which it uses the first and the last third."""
    parts: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key.endswith(".attn.qkv.bias") and tensor.ndim == 1 and len(tensor) % 3 == 0:
            q, _, v = tensor.chunk(3)
            parts |= {key.replace("qkv.bias", "q_bias"): q, key.replace("qkv.bias", "v_bias"): v}
        else:
            parts[key] = tensor
    return parts


_ATTENTION: Rules = (
    (r"attention\.self\.logit_scale", r"attn.logit_scale"),
    (r"attention\.self\.continuous_position_bias_mlp\.(.+)", r"attn.cpb_mlp.\3"),
    (r"attention\.self\.query\.weight", r"attn.qkv.weight#0"),
    (r"attention\.self\.key\.weight", r"attn.qkv.weight#1"),
    (r"attention\.self\.value\.weight", r"attn.qkv.weight#2"),
    (r"attention\.self\.query\.bias", r"attn.q_bias"),
    (r"attention\.self\.value\.bias", r"attn.v_bias"),
)

DIALECTS = (
    Dialect(
        name="original Swin v2",
        family="swinv2",
        marks=(r"layers\.0\.blocks\.0\.attn\.cpb_mlp\.0\.weight", r"layers\.0\.downsample\.reduction\.weight"),
        rules=ORIGINAL,
        ignored=IGNORED,
    ),
    Dialect(
        name="timm Swin v2",
        family="swinv2",
        marks=(r"layers\.0\.blocks\.0\.attn\.cpb_mlp\.0\.weight",),
        rules=TIMM,
        ignored=IGNORED,
    ),
    Dialect(
        name="torchvision Swin v2",
        family="swinv2",
        marks=(r"features\.1\.0\.attn\.cpb_mlp\.0\.weight",),
        rules=TORCHVISION,
        ignored=IGNORED,
        prepare=_split,
    ),
    Dialect(
        name="Hugging Face Swin v2",
        family="swinv2",
        marks=(r"(?:swinv2\.)?encoder\.layers\.0\.blocks\.0\.attention\.self\.logit_scale",),
        rules=hugging_face("swinv2", _ATTENTION),
        ignored=IGNORED,
    ),
)
