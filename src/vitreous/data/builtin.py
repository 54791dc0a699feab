"""Data sets that need no download: real handwritten digits, and generated shapes with masks.

The shapes come under three class rules, so that what a network is biased towards can be shown:

    shapes         shape x texture of one object: needs both its outline and its surface
    shapes-local   texture alone: any small patch of the object tells
    shapes-global  whether two objects have the same shape: no patch tells, they must be compared

Colours are drawn afresh for object, texture and background, so the mean colour tells nothing. Generated from a fixed
seed, the same on every machine. Knows nothing of files.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from vitreous.data.dataset import ArraySource
from vitreous.errors import UsageError

SHAPES = ("cross", "disc", "square", "triangle")
TEXTURES = ("checks", "dots", "stripes")

_Plane = NDArray[np.float64]


def open_builtin(name: str) -> ArraySource:
    """The built-in set called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    if name == "digits":
        return digits()
    rules = {"shapes": "both", "shapes-local": "local", "shapes-global": "global"}
    if name not in rules:
        raise UsageError(f"{name} is no built-in set; use digits, {', '.join(rules)}.")
    return shapes(rule=rules[name])


@lru_cache(maxsize=1)
def digits() -> ArraySource:
    """1,797 handwritten digits of the UCI repository (8 x 8, 17 levels), enlarged smoothly to 32 x 32 grey."""
    from sklearn.datasets import load_digits

    table = load_digits()
    small = torch.from_numpy(table.images).float()[:, None] * (255 / 16)  # (n, 1, 8, 8)
    large = F.interpolate(small, (32, 32), mode="bicubic", align_corners=False).clamp(0, 255).round()
    images = large[:, 0].to(torch.uint8).numpy()
    return ArraySource(images, table.target, [str(i) for i in range(10)], root="digits")


@lru_cache(maxsize=3)
def shapes(*, rule: str = "both", count: int = 2000, side: int = 64, seed: int = 0) -> ArraySource:
    """``count`` pictures of textured shapes before clutter, ``side`` pixels square, as even over the classes as can be.

    Masks hold 0 for background and 1 + the number of the shape in ``SHAPES``.

    Args:
        rule: ``both``, ``local`` or ``global``, as the head of this file says.
        count: number of pictures.
        side: pixels, at least 32.
        seed: another seed, other pictures.
    """
    classes, draw = {
        "both": (tuple(f"{shape} {texture}" for shape in SHAPES for texture in TEXTURES), _draw_one),
        "local": (TEXTURES, _draw_one),
        "global": (("different", "same"), _draw_two),
    }[rule]
    images = np.empty((count, side, side, 3), np.uint8)
    masks = np.empty((count, side, side), np.uint8)
    labels = np.arange(count) % len(classes)
    for i in range(count):
        rng = np.random.Generator(np.random.Philox(key=[seed, i]))
        images[i], masks[i] = draw(rng, side, int(labels[i]), len(classes))
    name = "shapes" if rule == "both" else f"shapes-{rule}"
    return ArraySource(images, labels, classes, root=name, masks=masks)


# ---------------------------------------------------------------- one picture


def _draw_one(
    rng: np.random.Generator, side: int, label: int, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    texture = label % len(TEXTURES)
    shape = label // len(TEXTURES) if classes == len(SHAPES) * len(TEXTURES) else _choose(rng, len(SHAPES))
    picture, mask = _background(rng, side), np.zeros((side, side), np.uint8)
    radius = side * _between(rng, 0.22, 0.34)
    _place(rng, picture, mask, shape=shape, texture=texture, centre=_spot(rng, side, radius), radius=radius)
    return _finish(rng, picture), mask


def _draw_two(
    rng: np.random.Generator, side: int, label: int, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first = _choose(rng, len(SHAPES))
    second = first if label == 1 else (first + 1 + _choose(rng, len(SHAPES) - 1)) % len(SHAPES)
    picture, mask = _background(rng, side), np.zeros((side, side), np.uint8)
    centres: list[_Plane] = []
    for shape in (first, second):
        radius = side * _between(rng, 0.15, 0.2)
        centre = _spot(rng, side, radius)
        while any(np.hypot(*(centre - other)) < 0.42 * side for other in centres):
            centre = _spot(rng, side, radius)
        centres.append(centre)
        texture = _choose(rng, len(TEXTURES))
        _place(rng, picture, mask, shape=shape, texture=texture, centre=centre, radius=radius)
    return _finish(rng, picture), mask


def _place(
    rng: np.random.Generator,
    picture: _Plane,
    mask: NDArray[np.uint8],
    *,
    shape: int,
    texture: int,
    centre: _Plane,
    radius: float,
) -> None:
    """Paint one object into ``picture`` (h, w, 3) and ``mask`` (h, w), with softened edges."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    u, v = _turned(x - centre[1], y - centre[0], _between(rng, 0, 2 * np.pi))
    cover = np.clip(0.5 - _distance(shape, u / radius, v / radius) * radius, 0, 1)[..., None]  # (h, w, 1)
    weave = _weave(rng, texture, x, y)[..., None]
    dark, light = _two_colours(rng)
    picture += cover * (dark + weave * (light - dark) - picture)
    mask[cover[..., 0] > 0.5] = shape + 1


def _distance(shape: int, u: _Plane, v: _Plane) -> _Plane:
    """Signed distance to the outline, roughly, in units of the radius. All shapes cover about the same area."""
    if SHAPES[shape] == "disc":
        return np.hypot(u, v) - 0.8
    if SHAPES[shape] == "square":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) - 0.71)
    if SHAPES[shape] == "triangle":
        return np.asarray(np.maximum(np.abs(u) * np.sqrt(3) / 2 + v / 2, -v) - 0.62)
    along, across = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.asarray(np.maximum(along - 0.92, across - 0.33))


def _weave(rng: np.random.Generator, texture: int, x: _Plane, y: _Plane) -> _Plane:
    """A pattern of 0 to 1 at a scale of a few pixels."""
    period = _between(rng, 5.0, 7.5)
    u, v = _turned(x, y, _between(rng, 0, 2 * np.pi))
    u = u / period + _between(rng, 0, 1)
    v = v / period + _between(rng, 0, 1)
    wave, cross = np.sin(2 * np.pi * u), np.sin(2 * np.pi * v)
    pattern = {"stripes": wave, "checks": 1.6 * wave * cross, "dots": 1.4 * (wave + cross) - 0.4}[TEXTURES[texture]]
    return np.asarray(np.clip(0.5 + 1.5 * pattern, 0, 1))


# ---------------------------------------------------------------- ground and chance


def _background(rng: np.random.Generator, side: int) -> _Plane:
    """A slope between two colours, with bars and blobs before it that are of no class."""
    y, x = np.mgrid[:side, :side] + 0.5
    one, two = _two_colours(rng)
    slope, _ = _turned(x - side / 2, y - side / 2, _between(rng, 0, 2 * np.pi))
    picture = one + np.clip(0.5 + slope / side, 0, 1)[..., None] * (two - one)
    for _ in range(6):
        u, v = _turned(x - _between(rng, 0, side), y - _between(rng, 0, side), _between(rng, 0, 2 * np.pi))
        length, width = side * _between(rng, 0.05, 0.3), side * _between(rng, 0.02, 0.06)
        cover = np.clip(0.5 - np.hypot(u / length, v / width) * width + width, 0, 1)[..., None]
        picture += 0.6 * cover * (rng.random(3) * 255 - picture)
    return picture


def _finish(rng: np.random.Generator, picture: _Plane) -> NDArray[np.uint8]:
    noise = (rng.random(picture.shape) + rng.random(picture.shape) - 1) * _between(rng, 8, 28)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def _two_colours(rng: np.random.Generator) -> tuple[_Plane, _Plane]:
    """Two random colours that are told apart at a glance, in either order."""
    while True:
        one, two = rng.random(3) * 255, rng.random(3) * 255
        if abs(float((one - two).mean())) > 60:
            return one, two


def _spot(rng: np.random.Generator, side: int, radius: float) -> _Plane:
    return radius + rng.random(2) * (side - 2 * radius)


def _turned(x: _Plane, y: _Plane, angle: float) -> tuple[_Plane, _Plane]:
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _choose(rng: np.random.Generator, count: int) -> int:
    return int(rng.random() * count)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + rng.random() * (high - low)
