"""The one declared preprocessing: what happens to a picture between its file and the network.

Two steps, both on uint8. Step 1 (``shrink``) is done once and cached; step 2 (``fit``) gives the square that the
network sees. Training, evaluation, prediction and serving share them. Knows nothing of files and formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import UsageError

LONGEST = 8
"""Step 1 caps the longer side at this many times ``store``; a 1 x 65000 scan would otherwise stay 65000 long."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How pictures become network inputs. Stored with the model and never guessed again.

    Attributes:
        size: side in pixels of the square the network sees.
        store: step 1 reduces the shorter side to this many pixels; smaller pictures are left as they are.
        policy: step 2. ``crop`` takes the central square, ``letterbox`` keeps all and pads, ``squash`` stretches.
        crop: share of the shorter side that the central square keeps (``crop`` only).
        fill: grey level of the bars (``letterbox`` only).
        background: colour that transparent pixels are laid on.
        max_pixels: larger pictures are refused from their header; WEBP and AVIF, which cost several times the memory,
            at a quarter of it. Pillow refuses more than 178,956,970 pixels by itself.

    Raises:
        UsageError: a value outside its range.
    """

    size: int = 224
    store: int = 256
    policy: Literal["crop", "letterbox", "squash"] = "crop"
    crop: float = 1.0
    fill: int = 114
    background: tuple[int, int, int] = (255, 255, 255)
    max_pixels: int = 128_000_000

    def __post_init__(self) -> None:
        bounds = {
            "size": (1, 8192),
            "store": (1, 8192),
            "crop": (0.01, 1.0),
            "fill": (0, 255),
            "max_pixels": (1, 2**40),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} = {getattr(self, name)} is out of range; give a value from {low} to {high}.")
        if self.policy not in ("crop", "letterbox", "squash"):
            raise UsageError(f"policy = {self.policy!r} is not known; use crop, letterbox or squash.")
        if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
            raise UsageError(f"background = {self.background} is not a colour; give three levels from 0 to 255.")


def stored_size(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    """``(height, width)`` in pixels after step 1: never larger than before, never less than 1."""
    short, long = min(height, width), max(height, width)
    scale = min(1.0, preprocess.store / short, LONGEST * preprocess.store / long)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Step 1: (3, h, w) uint8 -> (3, h', w') uint8, contiguous, antialiased, never enlarged."""
    height, width = pixels.shape[-2:]
    return _resize(pixels, *stored_size(height, width, preprocess))


def fit(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """Step 2: (3, h, w) uint8 -> (3, size, size) uint8, contiguous, by ``preprocess.policy``."""
    size = preprocess.size
    height, width = pixels.shape[-2:]
    if preprocess.policy == "squash":
        return _resize(pixels, size, size)
    if preprocess.policy == "letterbox":
        return _letterbox(pixels, size, preprocess.fill)
    side = max(1, round(min(height, width) * preprocess.crop))
    top, left = (height - side) // 2, (width - side) // 2
    return _resize(pixels[:, top : top + side, left : left + side], size, size)


def _letterbox(pixels: Tensor, size: int, fill: int) -> Tensor:
    height, width = pixels.shape[-2:]
    scale = size / max(height, width)
    inner = _resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))  # (3, h, w), one side is size
    top, left = (size - inner.shape[1]) // 2, (size - inner.shape[2]) // 2
    canvas = torch.full((3, size, size), fill, dtype=torch.uint8)
    canvas[:, top : top + inner.shape[1], left : left + inner.shape[2]] = inner
    return canvas


def _resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bilinear resampling in uint8. Interleaved (channels last) input takes torch's fastest path."""
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels.contiguous()
    resized = F.interpolate(pixels[None], (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized[0].contiguous()
