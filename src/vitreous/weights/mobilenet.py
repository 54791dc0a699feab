"""Names of MobileNetV3's tensors in timm and torchvision.

timm's ``tf_mobilenetv3_*`` have the names of ``mobilenetv3_*`` and cannot be told from them: build the network with
``padding="same", eps=1e-3`` for those. torchvision's names are its own, so that its eps of 1e-3 is asked for.
"""

from __future__ import annotations

import re

from torch import Tensor

from vitreous.weights.dialect import Dialect, bricks
from vitreous.weights.inverted import TIMM_BLOCKS, numbered


def _timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Blocks counted through; the convolution that closes the last stage apart; the one behind the pooling a matrix."""
    last = next((key for key in tensors if re.fullmatch(r"blocks\.\d+\.0\.conv\.weight", key)), "none")
    stage = re.escape(last.removesuffix("conv.weight"))
    named = {re.sub(f"^{stage}", "last.", key): t for key, t in tensors.items()}
    head = named.get("conv_head.weight")
    if head is not None and head.ndim == 4:
        named["conv_head.weight"] = head.flatten(1)
    return numbered(named)


def _torchvision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layers of a block, which are counted there, by what they do: ``features.4.block.3.0.`` to ``3.project.0.``."""

    def role(match: re.Match[str]) -> str:
        units = [i for i in "0123" if f"features.{match[1]}.block.{i}.0.weight" in tensors]
        names = dict(zip(reversed(units), ("project", "depthwise", "expand"), strict=False))
        return f"{int(match[1]) - 1}.{names.get(match[2], 'squeeze')}."

    return {re.sub(r"^features\.(\d+)\.block\.(\d)\.", role, key): t for key, t in tensors.items()}


DIALECTS = (
    Dialect(
        name="timm MobileNetV3",
        family="mobilenet",
        marks=(r"conv_stem\.weight", r"blocks\.0\.0\.conv_dw\.weight", r"conv_head\.bias"),
        prepare=_timm,
        rules=(
            *TIMM_BLOCKS,
            (r"conv_stem\.(.+)", r"backbone.conv_stem.conv.\1"),
            (r"bn1\.(.+)", r"backbone.conv_stem.norm.\1"),
            (r"last\.conv\.(.+)", r"backbone.conv_last.conv.\1"),
            (r"last\.bn1\.(.+)", r"backbone.conv_last.norm.\1"),
            (r"conv_head\.(.+)", r"backbone.hidden.\1"),
            (r"classifier\.(.+)", r"head.fc.\1"),
        ),
    ),
    Dialect(
        name="torchvision MobileNetV3",
        family="mobilenet",
        needs={"eps": 1e-3},
        marks=(r"features\.0\.0\.weight", r"features\.1\.block\.0\.0\.weight"),
        prepare=_torchvision,
        rules=(
            *bricks(
                "0",
                "1",
                (r"features\.0", r"backbone.conv_stem"),
                (r"(\d+\.(?:expand|depthwise|project))", r"backbone.blocks.\1"),
                (r"features\.\d+", r"backbone.conv_last"),
            ),
            (r"(\d+\.squeeze)\.fc1\.(.+)", r"backbone.blocks.\1.reduce.\2"),
            (r"(\d+\.squeeze)\.fc2\.(.+)", r"backbone.blocks.\1.expand.\2"),
            (r"classifier\.0\.(.+)", r"backbone.hidden.\1"),
            (r"classifier\.3\.(.+)", r"head.fc.\1"),
        ),
    ),
)
