"""Drawings over a picture: grids, tinted areas, panels with captions, as PNG. Knows pixels, no models."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the picture's sides
RGB = tuple[int, int, int]

SIDE, GAP, CAPTION = 300, 20, 44  # the longer one of a panel, between panels, below a panel: pixels
COLUMNS = 4
CLOSEST = 4  # pixels between lines; closer ones would hide the picture
PAPER: RGB = (255, 255, 255)
INK: RGB = (40, 44, 52)
FAINT: RGB = (110, 116, 126)
BOLD: RGB = (222, 76, 30)


class Lines(NamedTuple):
    """A grid: places of its lines, as shares of the picture's height and width."""

    rows: Sequence[float] = ()
    columns: Sequence[float] = ()


class Panel(NamedTuple):
    """The picture once, with lines and tints over it."""

    title: str
    caption: str
    thin: Lines = Lines()
    bold: Lines = Lines()  # a strong grid over the fine one
    tints: Sequence[tuple[Box, RGB]] = ()
    apart: bool = False  # pulled apart at the thin lines


def sheet(pixels: Tensor, panels: Sequence[Panel]) -> bytes:
    """(3, h, w) uint8 -> a PNG with one drawing a panel, side by side and in rows."""
    picture = _scaled(Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())))
    rows = -(-len(panels) // COLUMNS)
    columns = -(-len(panels) // rows)  # rows are as even as can be
    width, height = SIDE + GAP, picture.height + CAPTION + GAP  # captions are as wide as a square picture
    page = Image.new("RGB", (columns * width + GAP, rows * height + GAP), PAPER)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        x, y = GAP + column * width, GAP + row * height
        page.paste(_drawn(picture, panel), (x, y))
        _write(page, panel, x, y + picture.height + 6)
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()


def _scaled(picture: Image.Image) -> Image.Image:
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _drawn(picture: Image.Image, panel: Panel) -> Image.Image:
    if panel.apart:
        return _pulled_apart(picture, panel.thin)
    image = picture.copy()
    for box, colour in panel.tints:
        sides = (picture.width, picture.height) * 2
        left, top, right, bottom = (round(edge * side) for edge, side in zip(box, sides, strict=True))
        area = image.crop((left, top, right, bottom))
        image.paste(Image.blend(area, Image.new("RGB", area.size, colour), 0.45), (left, top))
    if not _too_fine(panel):
        ruled = Image.new("L", image.size)
        _lines(ruled, panel.thin, 150, 1)
        image.paste(_contrast(picture), mask=ruled)  # as if untinted: lines go on as they began
    _lines(image, panel.bold, BOLD, 2)
    return image


def _too_fine(panel: Panel) -> bool:
    return max(map(len, panel.thin)) * CLOSEST > SIDE


def _contrast(image: Image.Image) -> Image.Image:
    """What a line is drawn with to be seen: white, and dark where the picture is bright for some way around."""
    around = image.convert("L").filter(ImageFilter.BoxBlur(8))
    return Image.composite(Image.new("RGB", image.size, INK), Image.new("RGB", image.size, PAPER), around.point(_dark))


def _dark(level: int) -> int:
    return 255 if level > 170 else 0


def _lines(image: Image.Image, grid: Lines, colour: RGB | int, width: int) -> None:
    draw = ImageDraw.Draw(image)
    for place in grid.columns:
        x = min(round(place * image.width), image.width - 1)
        draw.line([(x, 0), (x, image.height)], fill=colour, width=width)
    for place in grid.rows:
        y = min(round(place * image.height), image.height - 1)
        draw.line([(0, y), (image.width, y)], fill=colour, width=width)


def _pulled_apart(picture: Image.Image, grid: Lines) -> Image.Image:
    """The picture as the pieces of a grid, with paper between them; outlined, for a piece may be as white as paper."""
    gap = max(1, SIDE // (8 * (1 + max(map(len, grid)))))
    image = Image.new("RGB", picture.size, PAPER)
    draw = ImageDraw.Draw(image)
    for top, bottom, y, height in _pieces(grid.rows, picture.height, gap):
        for left, right, x, width in _pieces(grid.columns, picture.width, gap):
            piece = picture.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
            image.paste(piece, (x, y))
            draw.rectangle((x, y, x + width - 1, y + height - 1), outline=FAINT if gap > 1 else None)
    return image


def _pieces(cuts: Sequence[float], side: int, gap: int) -> list[tuple[float, float, int, int]]:
    """(from, to, where, how long): each piece of a side, in the picture, and where the gaps have moved it."""
    edges = [0.0, *cuts, 1.0]
    free = side - gap * len(cuts)
    moved = [round(edge * free) for edge in edges]
    spans = zip(edges, edges[1:], moved, moved[1:], strict=False)
    return [(a * side, b * side, c + i * gap, max(1, d - c)) for i, (a, b, c, d) in enumerate(spans)]


def _write(page: Image.Image, panel: Panel, x: int, y: int) -> None:
    draw = ImageDraw.Draw(page)
    draw.text((x, y), panel.title, fill=INK, font=ImageFont.load_default(15))
    caption = f"{panel.caption}, not drawn" if _too_fine(panel) else panel.caption
    draw.text((x, y + 19), caption, fill=FAINT, font=ImageFont.load_default(12))
