"""Names of ViT's tensors in timm, torchvision and Hugging Face transformers (4 and 5)."""

from __future__ import annotations

from vitreous.weights.dialect import Dialect

_TV = r"encoder\.layers\.encoder_layer_(\d+)\."
_HF = r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\."
_BLOCK = r"backbone.blocks.\1."

DIALECTS = (
    Dialect(
        name="timm ViT",
        family="vit",
        marks=(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\.weight"),
        rules=(
            (r"((?:cls_token|pos_embed|patch_embed\.|blocks\.|norm\.).*)", r"backbone.\1"),
            (r"head\.(weight|bias)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="torchvision ViT",
        family="vit",
        marks=(r"conv_proj\.weight",),
        rules=(
            (r"class_token", r"backbone.cls_token"),
            (r"encoder\.pos_embedding", r"backbone.pos_embed"),
            (r"conv_proj\.(.+)", r"backbone.patch_embed.proj.\1"),
            (_TV + r"ln_([12])\.(.+)", _BLOCK + r"norm\2.\3"),
            (_TV + r"self_attention\.in_proj_(.+)", _BLOCK + r"attn.qkv.\2"),
            (_TV + r"self_attention\.out_proj\.(.+)", _BLOCK + r"attn.proj.\2"),
            (_TV + r"mlp\.(?:0|linear_1)\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_TV + r"mlp\.(?:3|linear_2)\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (r"encoder\.ln\.(.+)", r"backbone.norm.\1"),
            (r"heads\.head\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="Hugging Face ViT",
        family="vit",
        marks=(r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.weight", r"(?:vit\.)?embeddings\.cls_token"),
        rules=(
            (r"(?:vit\.)?embeddings\.cls_token", r"backbone.cls_token"),
            (r"(?:vit\.)?embeddings\.position_embeddings", r"backbone.pos_embed"),
            (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
            (_HF + r"layernorm_before\.(.+)", _BLOCK + r"norm1.\2"),
            (_HF + r"layernorm_after\.(.+)", _BLOCK + r"norm2.\2"),
            (_HF + r"attention\.(?:attention\.query|q_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#0"),
            (_HF + r"attention\.(?:attention\.key|k_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#1"),
            (_HF + r"attention\.(?:attention\.value|v_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#2"),
            (_HF + r"attention\.(?:output\.dense|o_proj)\.(.+)", _BLOCK + r"attn.proj.\2"),
            (_HF + r"(?:intermediate\.dense|mlp\.fc1)\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_HF + r"(?:output\.dense|mlp\.fc2)\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (r"(?:vit\.)?layernorm\.(.+)", r"backbone.norm.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
)
