"""Names of ConvNeXt's tensors in timm, torchvision, Hugging Face transformers and the authors' release."""

from __future__ import annotations

from torch import Tensor

from vitreous.weights.dialect import Dialect

_HF = r"(?:convnext\.)?encoder\.stages\.(\d+)\."
_STAGE = r"backbone.stages.\1."
_BLOCK = r"backbone.stages.\1.blocks.\2."
# torchvision counts stages and what lies between them in one list: 0 stem, 1 stage, 2 between, 3 stage, ...
_TV_STAGES = tuple((2 * i + 1, i) for i in range(4))


def _as_linear(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of timm's smaller rows the linear layers, which are 1x1 convolutions there; of torchvision scales (d, 1, 1)."""
    flat = {}
    for key, t in tensors.items():
        conv = t.ndim == 4 and t.shape[2:] == (1, 1) and ".mlp." in key
        flat[key] = t.flatten(1) if conv else t.flatten() if key.endswith("layer_scale") else t
    return flat


DIALECTS = (
    Dialect(
        name="timm ConvNeXt",
        family="convnext",
        marks=(r"stem\.0\.weight", r"stages\.0\.blocks\.0\.conv_dw\.weight"),
        rules=(
            (r"stem\.0\.(.+)", r"backbone.patches.1.\1"),
            (r"stem\.1\.(.+)", r"backbone.patches.2.\1"),
            (r"stages\.(\d+)\.downsample\.0\.(.+)", _STAGE + r"downsample.0.\2"),
            (r"stages\.(\d+)\.downsample\.1\.(.+)", _STAGE + r"downsample.2.\2"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.gamma", _BLOCK + r"scale.gamma"),
            (r"stages\.(\d+)\.blocks\.(\d+)\.((?:conv_dw|norm|mlp\.fc[12])\..+)", _BLOCK + r"\3"),
            (r"head\.norm\.(.+)", r"backbone.norm.\1"),
            (r"head\.fc\.(.+)", r"head.fc.\1"),
        ),
        prepare=_as_linear,
    ),
    Dialect(
        name="ConvNeXt",  # facebookresearch/ConvNeXt
        family="convnext",
        marks=(r"downsample_layers\.0\.0\.weight", r"stages\.0\.0\.dwconv\.weight"),
        rules=(
            (r"downsample_layers\.0\.0\.(.+)", r"backbone.patches.1.\1"),
            (r"downsample_layers\.0\.1\.(.+)", r"backbone.patches.2.\1"),
            (r"downsample_layers\.(\d+)\.0\.(.+)", _STAGE + r"downsample.0.\2"),
            (r"downsample_layers\.(\d+)\.1\.(.+)", _STAGE + r"downsample.2.\2"),
            (r"stages\.(\d+)\.(\d+)\.dwconv\.(.+)", _BLOCK + r"conv_dw.\3"),
            (r"stages\.(\d+)\.(\d+)\.norm\.(.+)", _BLOCK + r"norm.\3"),
            (r"stages\.(\d+)\.(\d+)\.pwconv([12])\.(.+)", _BLOCK + r"mlp.fc\3.\4"),
            (r"stages\.(\d+)\.(\d+)\.gamma", _BLOCK + r"scale.gamma"),
            (r"norm\.(.+)", r"backbone.norm.\1"),
            (r"head\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="torchvision ConvNeXt",
        family="convnext",
        marks=(r"features\.0\.0\.weight", r"features\.1\.0\.block\.0\.weight", r"features\.1\.0\.layer_scale"),
        rules=(
            (r"features\.0\.0\.(.+)", r"backbone.patches.1.\1"),
            (r"features\.0\.1\.(.+)", r"backbone.patches.2.\1"),
            *(
                (rf"features\.{place}\.(\d+)\.{theirs}", rf"backbone.stages.{i}.blocks.\1.{ours}")
                for place, i in _TV_STAGES
                for theirs, ours in (
                    (r"block\.0\.(.+)", r"conv_dw.\2"),
                    (r"block\.2\.(.+)", r"norm.\2"),
                    (r"block\.3\.(.+)", r"mlp.fc1.\2"),
                    (r"block\.5\.(.+)", r"mlp.fc2.\2"),
                    (r"layer_scale", r"scale.gamma"),
                )
            ),
            *(
                (rf"features\.{place - 1}\.{theirs}\.(.+)", rf"backbone.stages.{i}.downsample.{ours}.\1")
                for place, i in _TV_STAGES[1:]
                for theirs, ours in ((0, 0), (1, 2))
            ),
            (r"classifier\.0\.(.+)", r"backbone.norm.\1"),
            (r"classifier\.2\.(.+)", r"head.fc.\1"),
        ),
        prepare=_as_linear,
    ),
    Dialect(
        name="Hugging Face ConvNeXt",
        family="convnext",
        marks=(r"(?:convnext\.)?encoder\.stages\.0\.layers\.0\.dwconv\.weight",),
        rules=(
            (r"(?:convnext\.)?embeddings\.patch_embeddings\.(.+)", r"backbone.patches.1.\1"),
            (r"(?:convnext\.)?embeddings\.layernorm\.(.+)", r"backbone.patches.2.\1"),
            (_HF + r"downsampling_layer\.0\.(.+)", _STAGE + r"downsample.0.\2"),
            (_HF + r"downsampling_layer\.1\.(.+)", _STAGE + r"downsample.2.\2"),
            (_HF + r"layers\.(\d+)\.dwconv\.(.+)", _BLOCK + r"conv_dw.\3"),
            (_HF + r"layers\.(\d+)\.layernorm\.(.+)", _BLOCK + r"norm.\3"),
            (_HF + r"layers\.(\d+)\.pwconv([12])\.(.+)", _BLOCK + r"mlp.fc\3.\4"),
            (_HF + r"layers\.(\d+)\.layer_scale_parameter", _BLOCK + r"scale.gamma"),
            (r"(?:convnext\.)?layernorm\.(.+)", r"backbone.norm.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
)
