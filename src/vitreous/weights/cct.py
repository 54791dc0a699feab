"""Names of CCT's tensors in the authors' release."""

from __future__ import annotations

from vitreous.weights.dialect import Dialect

_THEIRS = r"classifier\.blocks\.(\d+)\."
_BLOCK = r"backbone.blocks.\1."

DIALECTS = (
    Dialect(
        name="CCT",
        family="cct",
        marks=(r"tokenizer\.conv_layers\.0\.0\.weight", r"classifier\.attention_pool\.weight"),
        rules=(
            (r"tokenizer\.conv_layers\.(\d+)\.0\.weight", r"backbone.tokenizer.\1.conv.weight"),
            (r"classifier\.positional_emb", r"backbone.pos_embed"),
            (_THEIRS + r"pre_norm\.(.+)", _BLOCK + r"norm1.\2"),
            (_THEIRS + r"self_attn\.(.+)", _BLOCK + r"attn.\2"),
            (_THEIRS + r"norm1\.(.+)", _BLOCK + r"norm2.\2"),
            (_THEIRS + r"linear([12])\.(.+)", _BLOCK + r"mlp.fc\2.\3"),
            (r"classifier\.norm\.(.+)", r"backbone.norm.\1"),
            (r"classifier\.attention_pool\.weight", r"backbone.pool.score.weight"),
            (r"classifier\.fc\.(.+)", r"head.fc.\1"),
        ),
        ignored=(r"classifier\.attention_pool\.bias",),  # shifts every score alike, which a softmax does not see
    ),
)
