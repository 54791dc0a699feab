"""Names of ViT's tensors elsewhere: timm, torchvision, Hugging Face transformers (4 and 5), and original releases."""

from __future__ import annotations

import torch
from torch import Tensor

from vitreous.weights.dialect import Dialect

_TV = r"encoder\.layers\.encoder_layer_(\d+)\."
_HF = r"(?:(?:vit|deit)\.)?"
_HF_BLOCK = _HF + r"(?:encoder\.layer|layers)\.(\d+)\."
_HF2 = r"(?:dinov2(?:_with_registers)?\.)?"
_HF2_BLOCK = _HF2 + r"encoder\.layer\.(\d+)\."
_META_BLOCK = r"blocks\.(?:\d+\.)?(\d+)\."  # trained in chunks of blocks, whose number comes before the block's own
_BLOCK = r"backbone.blocks.\1."


def _dinov2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gate and value of SwiGLU in one matrix; beside registers, the class token's position added to the token.

    timm keeps no position for the class token where there are registers, and so do we.
    """
    tensors = dict(tensors)
    for gate in [key for key in tensors if ".mlp.gate_proj." in key]:
        value = tensors.get(gate.replace("gate_proj", "up_proj"))
        if value is not None and value.shape == tensors[gate].shape:
            tensors[gate.replace("gate_proj", "weights_in")] = torch.cat([tensors.pop(gate), value])
            del tensors[gate.replace("gate_proj", "up_proj")]
    if any(key.endswith("register_tokens") for key in tensors):
        token = next((key for key in tensors if key.endswith("cls_token")), None)
        places = next((key for key in tensors if key.endswith(("pos_embed", "position_embeddings"))), None)
        if token and places and tensors[places].ndim == 3 and tensors[places][:, :1].shape == tensors[token].shape:
            tensors[token] = tensors[token] + tensors[places][:, :1]
            tensors[places] = tensors[places][:, 1:]
    return tensors


# what matches several is what stands first: the more particular before the plain
DIALECTS = (
    Dialect(
        name="DINOv2",  # the original release
        family="vit",
        marks=(r"mask_token", r"patch_embed\.proj\.weight", _META_BLOCK + r"ls1\.gamma"),
        rules=(
            (r"register_tokens", r"backbone.reg_token"),
            (r"(cls_token|pos_embed|patch_embed\..+|norm\..+)", r"backbone.\1"),
            (_META_BLOCK + r"mlp\.w12\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_META_BLOCK + r"mlp\.w3\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (_META_BLOCK + r"((?:norm|ls|attn|mlp).+)", _BLOCK + r"\2"),
        ),
        ignored=(r"mask_token",),
        prepare=_dinov2,
    ),
    Dialect(
        name="MAE",  # the original release with its decoder, which pretraining alone needs
        family="vit",
        marks=(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\.weight", r"decoder_embed\.weight"),
        rules=((r"((?:cls_token|pos_embed|patch_embed\.|blocks\.|norm\.).*)", r"backbone.\1"),),
        ignored=(r"mask_token", r"decoder_.+"),
    ),
    Dialect(
        name="timm ViT",  # and the original releases of DeiT, DeiT III, DINO and fine-tuned MAE
        family="vit",
        marks=(r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.qkv\.weight"),
        rules=(
            (r"(blocks\.\d+)\.gamma_([12])", r"backbone.\1.ls\2.gamma"),
            (
                r"((?:cls_token|dist_token|reg_token|pos_embed|patch_embed\.|blocks\.|norm\.|fc_norm\.).*)",
                r"backbone.\1",
            ),
            (r"head\.(weight|bias)", r"head.fc.\1"),
            (r"head_dist\.(weight|bias)", r"head.fc_dist.\1"),
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
        name="Hugging Face DINOv2",
        family="vit",
        marks=(_HF2 + r"embeddings\.cls_token", _HF2_BLOCK + r"layer_scale1\.lambda1"),
        rules=(
            (_HF2 + r"embeddings\.cls_token", r"backbone.cls_token"),
            (_HF2 + r"embeddings\.register_tokens", r"backbone.reg_token"),
            (_HF2 + r"embeddings\.position_embeddings", r"backbone.pos_embed"),
            (_HF2 + r"embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
            (_HF2_BLOCK + r"(norm[12]\..+)", _BLOCK + r"\2"),
            (_HF2_BLOCK + r"layer_scale([12])\.lambda1", _BLOCK + r"ls\2.gamma"),
            (_HF2_BLOCK + r"attention\.(?:attention\.query|q_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#0"),
            (_HF2_BLOCK + r"attention\.(?:attention\.key|k_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#1"),
            (_HF2_BLOCK + r"attention\.(?:attention\.value|v_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#2"),
            (_HF2_BLOCK + r"attention\.(?:output\.dense|o_proj)\.(.+)", _BLOCK + r"attn.proj.\2"),
            (_HF2_BLOCK + r"mlp\.(?:fc1|weights_in)\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_HF2_BLOCK + r"mlp\.(?:fc2|weights_out|down_proj)\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (_HF2 + r"layernorm\.(.+)", r"backbone.norm.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
        ignored=(_HF2 + r"embeddings\.mask_token",),
        prepare=_dinov2,
    ),
    Dialect(
        name="Hugging Face ViT",  # and DeiT; of ViT-MAE the encoder
        family="vit",
        marks=(_HF + r"embeddings\.patch_embeddings\.projection\.weight", _HF + r"embeddings\.cls_token"),
        rules=(
            (_HF + r"embeddings\.cls_token", r"backbone.cls_token"),
            (_HF + r"embeddings\.distillation_token", r"backbone.dist_token"),
            (_HF + r"embeddings\.position_embeddings", r"backbone.pos_embed"),
            (_HF + r"embeddings\.patch_embeddings\.projection\.(.+)", r"backbone.patch_embed.proj.\1"),
            (_HF_BLOCK + r"layernorm_before\.(.+)", _BLOCK + r"norm1.\2"),
            (_HF_BLOCK + r"layernorm_after\.(.+)", _BLOCK + r"norm2.\2"),
            (_HF_BLOCK + r"attention\.(?:attention\.query|q_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#0"),
            (_HF_BLOCK + r"attention\.(?:attention\.key|k_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#1"),
            (_HF_BLOCK + r"attention\.(?:attention\.value|v_proj)\.(.+)", _BLOCK + r"attn.qkv.\2#2"),
            (_HF_BLOCK + r"attention\.(?:output\.dense|o_proj)\.(.+)", _BLOCK + r"attn.proj.\2"),
            (_HF_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\.(.+)", _BLOCK + r"mlp.fc1.\2"),
            (_HF_BLOCK + r"(?:output\.dense|mlp\.fc2)\.(.+)", _BLOCK + r"mlp.fc2.\2"),
            (_HF + r"layernorm\.(.+)", r"backbone.norm.\1"),
            (r"(?:cls_)?classifier\.(.+)", r"head.fc.\1"),
            (r"distillation_classifier\.(.+)", r"head.fc_dist.\1"),
        ),
        # what pretraining alone needs, and a layer that no classifier of theirs has seen
        ignored=(_HF + r"embeddings\.mask_token", r"decoder\..+", _HF + r"pooler\.dense\..+"),
    ),
)
