"""Names of Swin's tensors in timm, torchvision, Hugging Face transformers (4 and 5) and the original release.

A merging of neighbours stands at the start of the stage after it in timm, as in ours, and at the end of the stage
before it in the original release and in transformers; there its number is one less.
"""

from __future__ import annotations

from vitreous.weights.dialect import Dialect, Rules

IGNORED = (r".*\.(?:relative_position_index|relative_coords_table|attn_mask)",)

_STEM: Rules = ((r"((?:absolute_pos_embed|patch_embed\.|norm\.).*)", r"backbone.\1"),)
_BLOCKS: Rules = ((r"(layers\.\d+\.blocks\..+)", r"backbone.\1"),)
_HEAD: Rules = ((r"head\.(?:fc\.)?(weight|bias)", r"head.fc.\1"),)

ORIGINAL: Rules = (*_STEM, *_BLOCKS, (r"layers\.(\d+)\.downsample\.(.+)", r"backbone.layers.\1+.downsample.\2"), *_HEAD)
TIMM: Rules = (*_STEM, *_BLOCKS, (r"(layers\.\d+\.downsample\..+)", r"backbone.\1"), *_HEAD)

TORCHVISION: Rules = (
    (r"features\.0\.0\.(.+)", r"backbone.patch_embed.proj.\1"),
    (r"features\.0\.2\.(.+)", r"backbone.patch_embed.norm.\1"),
    *(
        rule
        for stage in range(4)  # 1, 3, 5 and 7 are stages, 2, 4 and 6 what merges before the next
        for rule in (
            (rf"features\.{2 * stage}\.((?:norm|reduction)\..+)", rf"backbone.layers.{stage}.downsample.\1"),
            (rf"features\.{2 * stage + 1}\.(\d+)\.mlp\.0\.(.+)", rf"backbone.layers.{stage}.blocks.\1.mlp.fc1.\2"),
            (rf"features\.{2 * stage + 1}\.(\d+)\.mlp\.3\.(.+)", rf"backbone.layers.{stage}.blocks.\1.mlp.fc2.\2"),
            (rf"features\.{2 * stage + 1}\.(\d+\..+)", rf"backbone.layers.{stage}.blocks.\1"),
        )
    ),
    (r"(norm\..+)", r"backbone.\1"),
    *_HEAD,
)


def hugging_face(model: str, attention: Rules) -> Rules:
    """Their rules for ``model``, "swin" or "swinv2"; those for ``attention`` begin after a block's name."""
    block = rf"(?:{model}\.)?encoder\.layers\.(\d+)\.blocks\.(\d+)\."
    parts = (
        *attention,
        (r"attention\.(?:output\.dense|o_proj)\.(.+)", r"attn.proj.\3"),
        (r"layernorm_before\.(.+)", r"norm1.\3"),
        (r"layernorm_after\.(.+)", r"norm2.\3"),
        (r"(?:intermediate\.dense|mlp\.fc1)\.(.+)", r"mlp.fc1.\3"),
        (r"(?:output\.dense|mlp\.fc2)\.(.+)", r"mlp.fc2.\3"),
    )
    return (
        (rf"(?:{model}\.)?embeddings\.position_embeddings", r"backbone.absolute_pos_embed"),
        (rf"(?:{model}\.)?embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
        (rf"(?:{model}\.)?embeddings\.norm\.(.+)", r"backbone.patch_embed.norm.\1"),
        *((block + theirs, r"backbone.layers.\1.blocks.\2." + ours) for theirs, ours in parts),
        (rf"(?:{model}\.)?encoder\.layers\.(\d+)\.downsample\.(.+)", r"backbone.layers.\1+.downsample.\2"),
        (rf"(?:{model}\.)?layernorm\.(.+)", r"backbone.norm.\1"),
        (r"classifier\.(.+)", r"head.fc.\1"),
    )


_TABLE = r"relative_position_bias_table"
_ATTENTION: Rules = (
    (rf"attention\.(?:self|relative_position_bias)\.{_TABLE}", rf"attn.{_TABLE}"),
    (r"attention\.(?:self\.query|q_proj)\.(.+)", r"attn.qkv.\3#0"),
    (r"attention\.(?:self\.key|k_proj)\.(.+)", r"attn.qkv.\3#1"),
    (r"attention\.(?:self\.value|v_proj)\.(.+)", r"attn.qkv.\3#2"),
)

DIALECTS = (
    Dialect(
        name="original Swin",
        family="swin",
        marks=(rf"layers\.0\.blocks\.0\.attn\.{_TABLE}", r"layers\.0\.downsample\.reduction\.weight"),
        rules=ORIGINAL,
        ignored=IGNORED,
    ),
    Dialect(
        name="timm Swin",
        family="swin",
        marks=(rf"layers\.0\.blocks\.0\.attn\.{_TABLE}",),
        rules=TIMM,
        ignored=IGNORED,
    ),
    Dialect(
        name="torchvision Swin",
        family="swin",
        marks=(rf"features\.1\.0\.attn\.{_TABLE}",),
        rules=TORCHVISION,
        ignored=IGNORED,
    ),
    Dialect(
        name="Hugging Face Swin",
        family="swin",
        marks=(rf"(?:swin\.)?encoder\.layers\.0\.blocks\.0\.attention\..+\.{_TABLE}",),
        rules=hugging_face("swin", _ATTENTION),
        ignored=IGNORED,
    ),
)
