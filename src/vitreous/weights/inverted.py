"""What the names of inverted residuals have in common, in timm: for the tables of MobileNetV3 and EfficientNet."""

from __future__ import annotations

import re

from torch import Tensor

from vitreous.weights.dialect import Rules

_BLOCK = r"backbone.blocks.\1."

# after `numbered`; in stage 0 nothing is expanded, and the same names stand for the later layers
TIMM_BLOCKS: Rules = (
    (r"blocks\.\d+\.(\d+)\.conv_dw\.(.+)", _BLOCK + r"depthwise.conv.\2"),
    (r"blocks\.\d+\.(\d+)\.se\.conv_(reduce|expand)\.(.+)", _BLOCK + r"squeeze.\2.\3"),
    (r"blocks\.0\.(\d+)\.bn1\.(.+)", _BLOCK + r"depthwise.norm.\2"),
    (r"blocks\.0\.(\d+)\.conv_pw\.(.+)", _BLOCK + r"project.conv.\2"),
    (r"blocks\.0\.(\d+)\.bn2\.(.+)", _BLOCK + r"project.norm.\2"),
    (r"blocks\.\d+\.(\d+)\.conv_pw\.(.+)", _BLOCK + r"expand.conv.\2"),
    (r"blocks\.\d+\.(\d+)\.bn1\.(.+)", _BLOCK + r"expand.norm.\2"),
    (r"blocks\.\d+\.(\d+)\.bn2\.(.+)", _BLOCK + r"depthwise.norm.\2"),
    (r"blocks\.\d+\.(\d+)\.conv_pwl\.(.+)", _BLOCK + r"project.conv.\2"),
    (r"blocks\.\d+\.(\d+)\.bn3\.(.+)", _BLOCK + r"project.norm.\2"),
)


def numbered(tensors: dict[str, Tensor], place: str = r"blocks\.(\d+)\.(\d+)\.") -> dict[str, Tensor]:
    """Keys whose blocks are counted through all stages: the first of stage 1 after two others is ``blocks.1.2.``.

    ``place`` is how a key of a block begins; its brackets catch the stage and the block within it.
    """
    found = (re.match(place, key) for key in tensors)
    order = sorted({(int(match[1]), int(match[2])) for match in found if match})
    count = {pair: n for n, pair in enumerate(order)}

    def counted(match: re.Match[str]) -> str:
        start, end = match.start(2) - match.start(), match.end(2) - match.start()
        return f"{match[0][:start]}{count[int(match[1]), int(match[2])]}{match[0][end:]}"

    return {re.sub(f"^{place}", counted, key): t for key, t in tensors.items()}
