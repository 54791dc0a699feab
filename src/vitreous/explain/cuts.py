"""How a model cuts a picture up: its patches, windows, shifted windows and cells, drawn over a picture.

The cuts are read off the built network, not off its name. Knows no terminal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vitreous import models
from vitreous.data.builtin import shapes
from vitreous.data.image import decode
from vitreous.data.preprocess import Preprocess, fit
from vitreous.errors import UnreadableImage, UsageError
from vitreous.explain.render import RGB, Box, Panel, sheet
from vitreous.layers.patch import PatchEmbed
from vitreous.layers.window import Layout, WindowBlock, WindowStage
from vitreous.models.backbone import Backbone
from vitreous.store.files import write_atomic

DRAWN = 448  # pixels of the picture that is drawn on
SIDES: RGB = (66, 133, 244)
ENDS: RGB = (251, 188, 5)
CORNERS: RGB = (52, 168, 83)


def draw(model: str, place: str | Path, *, size: int | None = None, image: str | Path | None = None) -> Path:
    """Draw the cuts of ``model`` over a picture (an embedded one by default) and write them as PNG; the path.

    Raises:
        UsageError: an unknown model, a size it cannot take, no such picture, or no folder to write to.
        UnreadableImage: the picture cannot be decoded.
        NoSpace: the disk is full.
    """
    _refuse_place(Path(place))
    side = models.find(model).size if size is None else size
    with torch.device("meta"):
        backbone = models.create(model, size=side).eval()
    write_atomic(place, sheet(_pixels(image), list(panels(backbone, side))))
    return Path(place)


def refuse(place: str | Path, image: str | Path | None) -> None:
    """Raise what ``draw`` would because of the place or the picture, and write nothing."""
    _refuse_place(Path(place))
    _pixels(image)


def panels(backbone: Backbone, side: int) -> Iterator[Panel]:
    """One panel for each way in which ``backbone`` cuts a square picture of ``side`` pixels."""
    patches = next((m for m in backbone.modules() if isinstance(m, PatchEmbed)), None)
    if patches is not None:
        count = -(-side // patches.patch)
        tokens = f"{count} x {count} = {count * count} tokens"
        yield Panel(f"patches of {patches.patch} x {patches.patch} pixels", tokens, thin=_grid(side, patches.patch))
        if count <= 64 and len(backbone.strides) == 1:
            yield Panel("each becomes one token", f"{backbone.dims[0]} numbers each", apart=count)
    windows = _windows(backbone, side)
    for stage, (stride, width) in enumerate(zip(backbone.strides, backbone.dims, strict=True), 1):
        if windows and stage - 1 in windows:
            yield from _windowed(windows[stage - 1], stage, stride, width, side)
        elif patches is None or len(backbone.strides) > 1:
            count = -(-side // stride)
            caption = f"{count} x {count} cells of {stride} pixels, {width} channels"
            yield Panel(f"map {stage}", caption, thin=_grid(side, stride))


def _windows(backbone: Backbone, side: int) -> dict[int, list[Layout]]:
    """The different ways in which each stage lays windows over its grid, by the number of the stage."""
    stages = [m for m in backbone.modules() if isinstance(m, WindowStage)]
    found: dict[int, list[Layout]] = {}
    for number, stage in enumerate(stages):
        cells = -(-side // backbone.strides[number])
        blocks = (block for block in stage.blocks if isinstance(block, WindowBlock))
        layouts = (Layout.of((cells, cells), block.window, block.shifted) for block in blocks)
        found[number] = list(dict.fromkeys(layouts))
    return found


def _windowed(layouts: list[Layout], stage: int, stride: int, width: int, side: int) -> Iterator[Panel]:
    """A panel for the windows of a stage, and one for its shifted windows if it has them."""
    for layout in layouts:
        cells, window, shift = layout.grid[0], layout.window[0], layout.shift[0]
        thin = _grid(side, stride) if stage > 1 else ()
        bold = _grid(side, window * stride, shift * stride)
        if shift:
            caption = "same tint: one rolled window, masked apart"
            yield Panel(f"stage {stage}: shifted by {shift} cells", caption, thin, bold, _rolled(layout, side / stride))
        else:
            made = "tokens" if stage == 1 else "cells, merged two by two"
            caption = f"{cells} x {cells} {made}, {width} channels"
            yield Panel(f"stage {stage}: windows of {window} x {window} cells", caption, thin, bold)


def _rolled(layout: Layout, across: float) -> list[tuple[Box, RGB]]:
    """The strips at opposite edges that the roll puts into one window, and the four corners.

    Where what fills the grid up takes the far strip's whole place, the near strip has that window to itself.

    Args:
        across: cells that the picture is wide; the last of the grid may reach over its edge.
    """
    cells, window, shift = layout.grid[0], layout.window[0], layout.shift[0]
    start = shift + (layout.counts[0] - 1) * window  # the first cell of the last window
    first, last = min(shift / across, 1.0), min(start / across, 1.0) if start < cells else 1.0
    strips = [(0.0, first)] + ([(last, 1.0)] if last < 1 else [])
    tints: list[tuple[Box, RGB]] = []
    for low, high in strips:
        tints += [((low, first, high, last), SIDES), ((first, low, last, high), ENDS)]
        tints += [((low, a, high, b), CORNERS) for a, b in strips]
    return tints


def _refuse_place(place: Path) -> None:
    if place.is_dir():
        raise UsageError(f"{place} is a folder; name a file for the drawing, such as {place / 'trace.png'}.")
    if not place.parent.is_dir():
        raise UsageError(f"There is no folder {place.parent} for {place.name}; make it, or name another.")
    if not os.access(place.parent, os.W_OK):
        raise UsageError(f"{place.parent} cannot be written to; name another folder for {place.name}.")


def _pixels(image: str | Path | None) -> Tensor:
    """The picture to draw on, a centred square: (3, h, w) uint8."""
    if image is None:
        data = shapes(count=1, side=DRAWN, seed=4).read(0)
    else:
        try:
            data = Path(image).read_bytes()
        except OSError as error:
            raise UsageError(f"{image} cannot be read ({error.strerror}); give a picture file.") from None
    try:
        return fit(decode(data).pixels, Preprocess(size=DRAWN))
    except UnreadableImage as error:
        raise UnreadableImage(f"{image}: {error}") from None


def _grid(side: int, step: int, start: int = 0) -> list[float]:
    """Places of lines every ``step`` pixels, as shares of the side; without the two edges."""
    return [place / side for place in range(start or step, side, step)]
