"""Drawings over a picture: grids, tinted areas, panels with captions, as PNG. Knows pixels, no models."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the picture's sides
RGB = tuple[int, int, int]

SIDE, GAP, CAPTION = 300, 20, 44  # of a panel, between panels, below a panel: pixels
COLUMNS = 4
PAPER: RGB = (255, 255, 255)
INK: RGB = (40, 44, 52)
THIN: RGB = (255, 255, 255)
BOLD: RGB = (222, 76, 30)


class Panel(NamedTuple):
    """The picture once, with lines and tints over it. All places are shares of the side, 0 to 1."""

    title: str
    caption: str
    thin: Sequence[float] = ()  # a fine grid: the same places across and down
    bold: Sequence[float] = ()  # a strong grid over it
    tints: Sequence[tuple[Box, RGB]] = ()
    apart: int = 0  # pieces a side into which the picture is pulled apart


def sheet(pixels: Tensor, panels: Sequence[Panel]) -> bytes:
    """(3, h, w) uint8, square -> a PNG with one drawing a panel, side by side and in rows."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (columns * (SIDE + GAP) + GAP, rows * (SIDE + CAPTION + GAP) + GAP)
    page = Image.new("RGB", size, PAPER)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        corner = (GAP + column * (SIDE + GAP), GAP + row * (SIDE + CAPTION + GAP))
        page.paste(_drawn(picture, panel), corner)
        _write(page, panel, corner)
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()


def _drawn(picture: Image.Image, panel: Panel) -> Image.Image:
    if panel.apart:
        return _pulled_apart(picture, panel.apart)
    image = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    for box, colour in panel.tints:
        left, top, right, bottom = (round(edge * SIDE) for edge in box)
        area = image.crop((left, top, right, bottom))
        image.paste(Image.blend(area, Image.new("RGB", area.size, colour), 0.45), (left, top))
    if panel.thin and len(panel.thin) <= SIDE // 4:  # closer lines would hide the picture
        faint = image.copy()
        _lines(faint, panel.thin, THIN, 1)
        image = Image.blend(image, faint, 0.6)
    _lines(image, panel.bold, BOLD, 2)
    return image


def _lines(image: Image.Image, places: Sequence[float], colour: RGB, width: int) -> None:
    draw = ImageDraw.Draw(image)
    for place in places:
        at = min(round(place * SIDE), SIDE - 1)
        draw.line([(at, 0), (at, SIDE)], fill=colour, width=width)
        draw.line([(0, at), (SIDE, at)], fill=colour, width=width)


def _pulled_apart(picture: Image.Image, pieces: int) -> Image.Image:
    """The picture as its patches, with paper between them."""
    gap = max(1, SIDE // (8 * pieces))
    side = (SIDE - gap * (pieces - 1)) // pieces
    image = Image.new("RGB", (SIDE, SIDE), PAPER)
    whole = picture.resize((side * pieces, side * pieces), Image.Resampling.BICUBIC)
    for y in range(pieces):
        for x in range(pieces):
            piece = whole.crop((x * side, y * side, (x + 1) * side, (y + 1) * side))
            image.paste(piece, (x * (side + gap), y * (side + gap)))
    return image


def _write(page: Image.Image, panel: Panel, corner: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(page)
    x, y = corner[0], corner[1] + SIDE + 6
    draw.text((x, y), panel.title, fill=INK, font=ImageFont.load_default(15))
    draw.text((x, y + 19), panel.caption, fill=(110, 116, 126), font=ImageFont.load_default(12))
