"""Names of ViT and its relatives, ours to theirs: the opposite way to the table under test."""

from __future__ import annotations

from weights.renaming import Tensors, renamed, split


def as_timm(tensors: Tensors) -> Tensors:
    return renamed(tensors, (r"^backbone\.", ""), (r"^head\.fc_dist", "head_dist"), (r"^head\.fc", "head"))


def in_transformers(new: bool) -> tuple[str, ...]:
    """Names of q, k and v, in its version 5 or 4."""
    if new:
        return "attention.q_proj", "attention.k_proj", "attention.v_proj"
    return "attention.attention.query", "attention.attention.key", "attention.attention.value"


def as_hugging_face(tensors: Tensors, new: bool, prefix: str = "vit.") -> Tensors:
    tensors = renamed(
        tensors,
        (r"^backbone\.cls_token", f"{prefix}embeddings.cls_token"),
        (r"^backbone\.dist_token", f"{prefix}embeddings.distillation_token"),
        (r"^backbone\.pos_embed", f"{prefix}embeddings.position_embeddings"),
        (r"^backbone\.patch_embed\.proj", f"{prefix}embeddings.patch_embeddings.projection"),
        (r"^backbone\.norm", f"{prefix}layernorm"),
        (r"^backbone\.blocks", f"{prefix}layers" if new else f"{prefix}encoder.layer"),
        (r"norm1", "layernorm_before"),
        (r"norm2", "layernorm_after"),
        (r"attn\.proj", "attention.o_proj" if new else "attention.output.dense"),
        (r"mlp\.fc1", "mlp.fc1" if new else "intermediate.dense"),
        (r"mlp\.fc2", "mlp.fc2" if new else "output.dense"),
        (r"^head\.fc_dist", "distillation_classifier"),
        (r"^head\.fc", "cls_classifier" if "head.fc_dist.weight" in tensors else "classifier"),
    )
    return split(tensors, "attn.qkv", in_transformers(new))
