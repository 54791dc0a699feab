"""How both Swins are held against their papers, which their tests write down with one attention over all cells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vitreous.layers import window
from vitreous.models.backbone import Backbone

Reference = Callable[[Backbone, Tensor], tuple[list[Tensor], Tensor]]  # (map (h, w, d) of each stage, pooled)


def assert_equals_reference(
    swin: Backbone, reference: Reference, size: tuple[int, int], tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, with all windows at once and in pieces."""
    swin, images = swin.double(), torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        whole = swin(images)
        monkeypatch.setattr(window, "_PIECE", 1)
        pieces = swin(images)
        for i, image in enumerate(images):
            maps, pooled = reference(swin, image)
            for features in (whole, pieces):
                torch.testing.assert_close(features.pooled[i], pooled, atol=tolerance, rtol=tolerance)
                for x, y in zip(features.maps, maps, strict=True):
                    torch.testing.assert_close(x[i].permute(1, 2, 0), y, atol=tolerance, rtol=tolerance)
