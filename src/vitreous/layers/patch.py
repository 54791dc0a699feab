"""A picture as patches and patches as a picture. Knows nothing of positions or of what the tokens are for.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", section 3.1:
x in R^(h w c) -> x_p in R^(n (p^2 c)), with n = h w / p^2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitreous.layers.visible import visible


def patchify(image: Tensor, patch: int) -> Tensor:
    """(b, c, h, w) -> (b, n, p*p*c): patches in reading order, each with its pixels in reading order, channels last."""
    return rearrange(image, "b c (y p) (x q) -> b (y x) (p q c)", p=patch, q=patch)


def unpatchify(patches: Tensor, patch: int, grid: tuple[int, int]) -> Tensor:
    """(b, n, p*p*c) -> (b, c, h, w): the inverse of ``patchify`` for a ``grid`` of (rows, columns) of patches."""
    y, x = grid
    return rearrange(patches, "b (y x) (p q c) -> b c (y p) (x q)", y=y, x=x, p=patch, q=patch)


class PatchEmbed(nn.Module):
    """One linear map of every patch to a token, written as a convolution whose step is its kernel; perhaps a norm."""

    def __init__(self, patch: int, dim: int, channels: int = 3, norm: bool = False) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(dim) if norm else None

    def reset_parameters(self) -> None:
        """LeCun normal, bias zero: a token has the variance of a pixel, as in the paper's code."""
        fan_in = self.proj.weight[0].numel()
        nn.init.normal_(self.proj.weight, std=math.sqrt(1 / fan_in))
        assert self.proj.bias is not None
        nn.init.zeros_(self.proj.bias)
        if self.norm is not None:
            self.norm.reset_parameters()

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, c, h, w) -> tokens (b, n, d) in reading order; zeros fill up patches at the right and at the bottom.

        Of patches that ``mask`` (b, n) hides, the same number in every row, none is computed: (b, m, d).
        """
        h, w = image.shape[-2:]
        if h % self.patch or w % self.patch:
            image = F.pad(image, (0, -w % self.patch, 0, -h % self.patch))
        if mask is None:
            plane: Tensor = self.proj(image)  # (b, d, h / p, w / p)
            tokens = plane.flatten(2).transpose(1, 2)  # (b, n, d)
        else:
            kernel = self.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (d, p p c)
            tokens = F.linear(visible(patchify(image, self.patch), mask), kernel, self.proj.bias)
        return tokens if self.norm is None else self.norm(tokens)

    def grid(self, image: Tensor) -> tuple[int, int]:
        """Rows and columns of patches that ``image`` has, begun ones included."""
        return -(-image.shape[-2] // self.patch), -(-image.shape[-1] // self.patch)


def resample_kernel(kernel: Tensor, patch: int) -> Tensor:
    """The kernel (d, c, p, q) for patches of another size (d, c, patch, patch), computed in float64.

    With B the matrix that resizes a patch, of the new kernels w' the one that gives B x the token of x is wanted:
    x' B' w' = x' w for every x. Larger patches keep it exactly, smaller ones in the mean over x (Beyer et al. 2023,
    "FlexiViT", section 3.4). Patches are resized as position tables are, bicubic with antialias.
    """
    p, q = kernel.shape[2:]
    if (p, q) == (patch, patch):
        return kernel
    units = torch.eye(p * q, dtype=torch.float64, device=kernel.device).view(p * q, 1, p, q)
    resized = F.interpolate(units, size=(patch, patch), mode="bicubic", antialias=True)
    solve: Tensor = torch.linalg.pinv(resized.flatten(1))  # of B' (p q, patch patch): gives w' for w
    moved: Tensor = kernel.double().flatten(2) @ solve.T  # (d, c, patch patch)
    return moved.to(kernel.dtype).view(*kernel.shape[:2], patch, patch)
