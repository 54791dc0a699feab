"""How a model cuts a picture up: its patches, windows, shifted windows and cells, drawn over a picture.

The cuts are read off the built network, not off its name. Knows no terminal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vitreous import models
from vitreous.data.builtin import shapes
from vitreous.data.image import decode
from vitreous.errors import UnreadableImage, UsageError
from vitreous.explain.render import RGB, Box, Lines, Panel, sheet
from vitreous.explain.trace import Sides, built, sides
from vitreous.layers.patch import PatchEmbed
from vitreous.layers.window import Grid, Layout, WindowBlock, WindowStage
from vitreous.models.backbone import Backbone
from vitreous.models.efficientvit_ms import CascadedAttention
from vitreous.models.mobilevit import MobileViTBlock
from vitreous.models.mobilevitv2 import MobileViTv2Block
from vitreous.store.files import write_atomic

DRAWN = 448  # pixels of the embedded picture
SIDES: RGB = (66, 133, 244)
ENDS: RGB = (251, 188, 5)
CORNERS: RGB = (52, 168, 83)

Span = tuple[float, float]  # from, to


def draw(
    model: str,
    place: str | Path,
    *,
    size: int | Sides | str | None = None,
    image: str | Path | None = None,
    pixels: Tensor | None = None,
) -> Path:
    """Draw the cuts of ``model`` over a picture (an embedded one by default) and write them as PNG; the path.

    Args:
        pixels: of the picture, where ``opened`` has read them.

    Raises:
        UsageError: an unknown model, a size it cannot take, no such picture, or no folder to write to.
        UnreadableImage: the picture cannot be decoded.
        NoSpace: the disk is full.
    """
    pixels = opened(place, image) if pixels is None else pixels
    seen = sides(model, size)
    with torch.device("meta"):
        backbone = models.create(model, size=built(model, seen)).eval()
    write_atomic(place, sheet(_cropped(pixels, seen), list(panels(backbone, seen))))
    return Path(place)


def opened(place: str | Path, image: str | Path | None) -> Tensor:
    """(3, h, w): the picture to draw on, once it is sure that ``place`` can take the drawing; raises as ``draw``."""
    _refuse_place(Path(place))
    return _pixels(image)


def panels(backbone: Backbone, seen: Sides) -> Iterator[Panel]:
    """One panel for each way in which ``backbone`` cuts a picture of ``seen`` (rows, columns) pixels."""
    patches = next((m for m in backbone.modules() if isinstance(m, PatchEmbed)), None)
    if patches is not None:
        grid, (rows, columns) = _grid(seen, patches.patch), _cells(seen, patches.patch)
        tokens = f"{rows} x {columns} = {rows * columns} tokens"
        yield Panel(f"patches of {patches.patch} x {patches.patch} pixels", tokens, thin=grid)
        if max(rows, columns) <= 64 and len(backbone.strides) == 1:
            yield Panel("each becomes one token", f"{backbone.dims[0]} numbers each", thin=grid, apart=True)
    windows, parted = _windows(backbone, seen), _parted(backbone, seen)
    for stage, (stride, width) in enumerate(zip(backbone.strides, backbone.dims, strict=True), 1):
        if windows:
            yield from _windowed(windows[stage - 1], stage, stride, width, seen)
        elif patches is None or len(backbone.strides) > 1:
            cells = _cells(seen, stride)
            thin, caption = _grid(seen, stride), f"{_by(cells)} cells of {stride} pixels, {width} channels"
            if cells in parted:
                name, side = parted[cells]
                yield Panel(f"map {stage}: {name} of {_by(side)} cells", caption, thin, _grid(seen, stride, side))
            else:
                yield Panel(f"map {stage}", caption, thin)


def _windows(backbone: Backbone, seen: Sides) -> list[list[Layout]]:
    """The different ways in which each stage of a Swin lays windows over its grid."""
    stages = [m for m in backbone.modules() if isinstance(m, WindowStage)]
    found = []
    for stride, stage in zip(backbone.strides, stages, strict=False):
        blocks = (block for block in stage.blocks if isinstance(block, WindowBlock))
        layouts = (Layout.of(_cells(seen, stride), block.window, block.shifted) for block in blocks)
        found.append(list(dict.fromkeys(layouts)))
    return found


def _parted(backbone: Backbone, seen: Sides) -> dict[Grid, tuple[str, Grid]]:
    """What parts a map into squares of cells, by the map's grid: MobileViT's patches, EfficientViT-M's windows."""
    found: dict[Grid, tuple[str, Grid]] = {}

    def note(module: nn.Module, args: tuple[Tensor]) -> None:
        grid = (args[0].shape[-2], args[0].shape[-1])
        if isinstance(module, CascadedAttention):
            found[grid] = ("windows", (min(module.window, grid[0]), min(module.window, grid[1])))
        elif isinstance(module, (MobileViTBlock, MobileViTv2Block)):
            found[grid] = ("patches", (module.patch, module.patch))

    kinds = (CascadedAttention, MobileViTBlock, MobileViTv2Block)
    hooks = [m.register_forward_pre_hook(note) for m in backbone.modules() if isinstance(m, kinds)]
    if hooks:
        with torch.no_grad():
            backbone(torch.empty(1, 3, *seen, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def _windowed(layouts: list[Layout], stage: int, stride: int, width: int, seen: Sides) -> Iterator[Panel]:
    """A panel for the windows of a stage, and one for its shifted windows if it has them."""
    for layout in layouts:
        thin = _grid(seen, stride) if stage > 1 else Lines()
        bold = _grid(seen, stride, layout.window, layout.shift)
        if any(layout.shift):
            shift = _by(layout.shift) if layout.shift[0] != layout.shift[1] else layout.shift[0]
            caption = "same tint: one rolled window, masked apart"
            tints = _rolled(layout, (seen[0] / stride, seen[1] / stride))
            yield Panel(f"stage {stage}: shifted by {shift} cells", caption, thin, bold, tints)
        else:
            made = "tokens" if stage == 1 else "cells, merged two by two"
            caption = f"{_by(layout.grid)} {made}, {width} channels"
            yield Panel(f"stage {stage}: windows of {_by(layout.window)} cells", caption, thin, bold)


def _rolled(layout: Layout, across: tuple[float, float]) -> list[tuple[Box, RGB]]:
    """The strips at opposite edges that the roll puts into one window, and the four corners.

    Args:
        across: rows and columns of cells that the picture has; the last of the grid may reach over its edge.
    """
    (top, bottom), high = _strips(layout, across, 0)
    (left, right), wide = _strips(layout, across, 1)
    tints = [((a, top, b, bottom), SIDES) for a, b in wide] + [((left, a, right, b), ENDS) for a, b in high]
    return tints + [((a, c, b, d), CORNERS) for a, b in wide for c, d in high]


def _strips(layout: Layout, across: tuple[float, float], axis: int) -> tuple[Span, list[Span]]:
    """Of one axis: what lies between the strips, and the strips; shares of the picture's side.

    Where what fills the grid up takes the far strip's whole place, the near strip has that window to itself.
    """
    cells, window, shift = layout.grid[axis], layout.window[axis], layout.shift[axis]
    if not shift:
        return (0.0, 1.0), []
    start = shift + (layout.counts[axis] - 1) * window  # the first cell of the last window
    first = min(shift / across[axis], 1.0)
    last = min(start / across[axis], 1.0) if start < cells else 1.0
    return (first, last), [(0.0, first)] + ([(last, 1.0)] if last < 1 else [])


def _refuse_place(place: Path) -> None:
    if place.is_dir():
        raise UsageError(f"{place} is a folder; name a file for the drawing, such as {place / 'trace.png'}.")
    if place.suffix.lower() != ".png":
        raise UsageError(f"The drawing is a PNG file, so {place} must be called {place.with_suffix('.png').name}.")
    if not place.parent.is_dir():
        raise UsageError(f"There is no folder {place.parent} for {place.name}; make it, or name another.")
    if not os.access(place.parent, os.W_OK):
        raise UsageError(f"{place.parent} cannot be written to; name another folder for {place.name}.")


def _pixels(image: str | Path | None) -> Tensor:
    """The picture to draw on: (3, h, w) uint8."""
    if image is None:
        data = shapes(count=1, side=DRAWN, seed=4).read(0)
    else:
        try:
            data = Path(image).read_bytes()
        except OSError as error:
            raise UsageError(f"{image} cannot be read ({error.strerror}); give a picture file.") from None
    try:
        return decode(data).pixels
    except UnreadableImage as error:
        raise UnreadableImage(f"{image}: {error}") from None


def _cropped(pixels: Tensor, seen: Sides) -> Tensor:
    """(3, h, w) -> its largest centred part that has the shape of ``seen``."""
    height, width = pixels.shape[-2:]
    scale = min(height / seen[0], width / seen[1])
    h, w = max(1, round(seen[0] * scale)), max(1, round(seen[1] * scale))
    top, left = (height - h) // 2, (width - w) // 2
    return pixels[:, top : top + h, left : left + w]


def _cells(seen: Sides, stride: int) -> Grid:
    return -(-seen[0] // stride), -(-seen[1] // stride)


def _by(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]}"


def _grid(seen: Sides, stride: int, window: Grid = (1, 1), shift: Grid = (0, 0)) -> Lines:
    """Lines between windows of cells of ``stride`` pixels; without the edges of the picture."""
    rows, columns = (
        [place / side for place in range((start or step) * stride, side, step * stride)]
        for side, step, start in zip(seen, window, shift, strict=True)
    )
    return Lines(rows, columns)
