"""The inverted residual: the block of MobileNetV2 and V3, EfficientNet and MobileViT.

Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", section 3. A classical bottleneck joins
wide maps and computes in a narrow one; this one joins narrow maps and computes in a wide one, which a depthwise
convolution makes cheap. What joins the shortcut is linear: an activation there would lose information that a narrow map
cannot spare (section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from vitreous.layers.conv import ConvNorm
from vitreous.layers.norm import DropPath
from vitreous.layers.squeeze import SqueezeExcite


class InvertedResidual(nn.Module):
    """Expand 1x1, filter each channel, squeeze and excite if asked, project 1x1; add x where the shapes agree.

    Where ``hidden`` equals ``inputs`` there is nothing to expand, and the first convolution is left out.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        activation: Callable[[], nn.Module],
        kernel: int = 3,
        stride: int = 1,
        squeeze: SqueezeExcite | None = None,
        eps: float = 1e-5,
        same: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.expand = (
            ConvNorm(inputs, hidden, 1, eps=eps, activation=activation()) if hidden != inputs else nn.Identity()
        )
        self.depthwise = ConvNorm(
            hidden, hidden, kernel, stride, groups=hidden, eps=eps, same=same, activation=activation()
        )
        self.squeeze = squeeze if squeeze is not None else nn.Identity()
        self.project = ConvNorm(hidden, outputs, 1, eps=eps)
        self.residual = stride == 1 and inputs == outputs
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h / stride, w / stride)"""
        y: Tensor = self.expand(x)  # (b, hidden, h, w)
        y = self.depthwise(y)  # (b, hidden, h / stride, w / stride)
        y = self.squeeze(y)
        y = self.project(y)
        if self.residual:
            y = self.drop_path(y).add_(x)
        return y


def divisible(width: float, by: int = 8) -> int:
    """The multiple of ``by`` nearest to ``width``, or the next one where that would take away more than a tenth."""
    nearest = max(by, int(width + by / 2) // by * by)
    return nearest if nearest >= 0.9 * width else nearest + by


def reset_mobile(network: nn.Module) -> None:
    """Fresh weights as the authors' code has them: He normal by the outputs of a group, norms one and zero."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            groups = module.groups if isinstance(module, nn.Conv2d) else 1
            fan_out = module.weight[:, 0].numel() // groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
