"""Colour and geometry operations on a whole uint8 batch, each picture with its own number.

A plan is what one picture goes through: names of operations, one number for each. ``apply`` carries out the plans of
a batch stage by stage; in each stage the pictures that drew the same operation go through it together. All arithmetic
is element by element, or in integers where a sum is needed, so a picture comes out the same to the last bit whatever
its neighbours in the batch and however many threads work.

Colours follow Pillow's ``ImageEnhance`` and ``ImageOps``, which the papers were measured with. Knows nothing of how
plans are drawn (data/policy.py), of samples or of crops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255
"""The mask value of pixels that show nothing of the picture: losses and metrics leave them out."""

_TOGETHER = 4  # pictures that pass through an operation at once: their float32 planes then stay in the cache


class Step(NamedTuple):
    """One operation of a plan, with its own natural number: degrees, share of the side, factor, bits, level, sigma."""

    name: str
    value: float


Plan = Sequence[Step]


# ---------------------------------------------------------------- operations: (m, 3, h, w) uint8, (m,) float32


def brightness(image: Tensor, factor: Tensor) -> Tensor:
    """Towards black (0) and beyond the picture itself (1); as ``ImageEnhance.Brightness``."""
    return _cut(image * _each(factor))


def contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Towards the mean grey level (0) and beyond the picture (1); as ``ImageEnhance.Contrast``."""
    level = _luma(image)
    pixels = level.shape[-1] * level.shape[-2]
    total = level.sum((1, 2, 3), dtype=torch.int64)  # integers: the same sum in any order
    mean = torch.div(2 * total + pixels, 2 * pixels, rounding_mode="floor")
    return _blend(_each(mean.float()), image, factor)


def colour(image: Tensor, factor: Tensor) -> Tensor:
    """Towards grey (0) and beyond the picture (1); as ``ImageEnhance.Color``."""
    return _blend(_luma(image).float(), image, factor)


def sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Towards a 3x3 smoothing (0) and beyond the picture (1), borders kept; as ``ImageEnhance.Sharpness``."""
    if min(image.shape[-2:]) < 3:
        return image.clone()
    wide = image.to(torch.int16)
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    inner = wide[..., 1:-1, 1:-1]
    ring = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner  # weights 1, and 5 in the centre
    smooth = ring.float().div_(13).add_(0.5).floor_()
    out = image.clone()
    out[..., 1:-1, 1:-1] = _blend(smooth, inner, factor)
    return out


def posterise(image: Tensor, bits: Tensor) -> Tensor:
    """Keep the ``bits`` highest bits of each value; as ``ImageOps.posterize``."""
    kept = 256 - torch.pow(2, 8 - bits.round().clamp(1, 8)).to(torch.int16)
    return image & _each(kept.to(torch.uint8))


def solarise(image: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above ``threshold``, 0..256; as ``ImageOps.solarize``."""
    return image ^ ((image >= _each(threshold.to(torch.int16))).to(torch.uint8) * 255)  # 255 - x is x ^ 255


def autocontrast(image: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to 0..255; as ``ImageOps.autocontrast``."""
    low, high = (x.float() for x in (image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)))
    flat = high == low
    scale = 255 / torch.where(flat, 255, high - low)
    # the thousandth keeps exact products, 255 above all, from falling just below their integer
    return _cut((image - torch.where(flat, 0, low)).mul_(scale).add_(1e-3))


def equalise(image: Tensor, _: Tensor) -> Tensor:
    """Flatten the histogram of each channel; as ``ImageOps.equalize``."""
    planes = image.flatten(0, 1).flatten(1)  # (3m, h * w)
    count = torch.stack([torch.bincount(plane, minlength=256) for plane in planes])
    highest = planes.amax(1, keepdim=True).long()
    step = (count.sum(1, keepdim=True) - count.gather(1, highest)) // 255
    table = (step // 2 + count.cumsum(1) - count) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp(max=255), torch.arange(256))
    return table.to(torch.uint8).gather(1, planes.long()).view_as(image)


def grey(image: Tensor, _: Tensor) -> Tensor:
    """The grey picture in three equal channels; as ``ImageOps.grayscale``."""
    return _luma(image).to(torch.uint8).expand_as(image)


def blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with ``sigma`` in pixels; edges mirrored."""
    taps = [_gaussian(s, min(image.shape[-2:]) - 1) for s in sigma.tolist()]
    reach = max(map(len, taps)) - 1
    weight = torch.tensor([row + [0.0] * (reach + 1 - len(row)) for row in taps])  # (m, reach + 1), from the centre out
    padded = F.pad(image.float(), (reach,) * 4, mode="reflect")
    for axis in (-1, -2):
        length = image.shape[axis]
        smooth = padded.narrow(axis, reach, length) * _each(weight[:, 0])
        for tap in range(1, reach + 1):
            pair = padded.narrow(axis, reach - tap, length) + padded.narrow(axis, reach + tap, length)
            smooth.add_(pair.mul_(_each(weight[:, tap])))
        padded = smooth
    return _cut(padded.add_(0.5))


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colour": colour,
    "sharpness": sharpness,
    "posterise": posterise,
    "solarise": solarise,
    "autocontrast": autocontrast,
    "equalise": equalise,
    "grey": grey,
    "blur": blur,
}

Row = tuple[float, float, float]
GEOMETRY: dict[str, Callable[[float], tuple[Row, Row]]] = {
    # where the pixel at (x, y) of the result comes from, in half sides about the centre: the rows of (a, b, c)
    "rotate": lambda v: (
        (math.cos(math.radians(v)), -math.sin(math.radians(v)), 0),
        (math.sin(math.radians(v)), math.cos(math.radians(v)), 0),
    ),
    "shear_x": lambda v: ((1, v, 0), (0, 1, 0)),
    "shear_y": lambda v: ((1, 0, 0), (v, 1, 0)),
    "translate_x": lambda v: ((1, 0, -2 * v), (0, 1, 0)),
    "translate_y": lambda v: ((1, 0, 0), (0, 1, -2 * v)),
}


def warp(image: Tensor, rows: Sequence[tuple[Row, Row]], mode: str, fill: float) -> Tensor:
    """Resample square pictures; what comes from outside is ``fill``.

    Args:
        image: (m, c, s, s) uint8.
        rows: one affine map a picture, from the result back to the source (see ``GEOMETRY``).
        mode: ``"bilinear"`` for pictures, ``"nearest"`` for masks.
    """
    side = image.shape[-1]
    x = (torch.arange(side) * 2 + 1) / side - 1
    a = torch.tensor(rows, dtype=torch.float32)[:, :, :, None, None]  # (m, 2, 3, 1, 1)
    grid = a[:, :, 0] * x + a[:, :, 1] * x[:, None] + a[:, :, 2]  # (m, 2, s, s)
    # zeros outside become the fill when the fill is the origin
    moved = F.grid_sample(image.float().sub_(fill), grid.movedim(1, -1), mode, "zeros", align_corners=False)
    return _cut(moved.add_(fill + 0.5))


# ---------------------------------------------------------------- carrying out plans


def apply(image: Tensor, mask: Tensor | None, plans: Sequence[Plan], fill: int) -> None:
    """Carry out one plan a picture, in place.

    Geometry moves the mask too, by nearest neighbour, and exposes ``IGNORE``; colours leave it alone.

    Args:
        image: (b, 3, s, s) uint8.
        mask: (b, s, s) uint8, or None.
        fill: grey level of what geometry exposes.
    """
    for stage in range(max(map(len, plans), default=0)):
        drawn: dict[str, list[int]] = {}
        for i, plan in enumerate(plans):
            if stage < len(plan) and plan[stage].name != "identity":
                name = plan[stage].name
                drawn.setdefault("geometry" if name in GEOMETRY else name, []).append(i)
        for name, members in drawn.items():
            for start in range(0, len(members), _TOGETHER):
                where = members[start : start + _TOGETHER]
                steps = [plans[i][stage] for i in where]
                if name == "geometry":
                    _move(image, mask, where, steps, fill)
                else:
                    _put(
                        image,
                        where,
                        OPERATIONS[name](
                            _take(image, where), torch.tensor([s.value for s in steps], dtype=torch.float32)
                        ),
                    )


def _move(image: Tensor, mask: Tensor | None, where: list[int], steps: Plan, fill: int) -> None:
    rows = [GEOMETRY[step.name](step.value) for step in steps]
    _put(image, where, warp(_take(image, where), rows, "bilinear", fill))
    if mask is not None:
        _put(mask, where, warp(_take(mask, where)[:, None], rows, "nearest", IGNORE)[:, 0])


def _take(pixels: Tensor, where: list[int]) -> Tensor:
    return pixels.index_select(0, torch.tensor(where))


def _put(pixels: Tensor, where: list[int], changed: Tensor) -> None:
    for i, picture in zip(where, changed, strict=True):  # fifteen times as fast as one indexed assignment
        pixels[i] = picture


# ---------------------------------------------------------------- arithmetic they share


def _each(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def _cut(value: Tensor) -> Tensor:
    """Fraction dropped, range kept: how Pillow ends every enhancement."""
    return value.clamp_(0, 255).to(torch.uint8)


def _gaussian(sigma: float, longest: int) -> list[float]:
    """Weights from the centre out to three sigma; one by one, as a vectorised exp may round its tail otherwise."""
    sigma = max(sigma, 1e-3)
    half = [math.exp(-0.5 * (tap / sigma) ** 2) for tap in range(min(math.ceil(3 * sigma), longest) + 1)]
    return [weight / (2 * sum(half) - 1) for weight in half]


def _blend(base: Tensor, image: Tensor, factor: Tensor) -> Tensor:
    return _cut((image - base).mul_(_each(factor)).add_(base))


def _luma(image: Tensor) -> Tensor:
    """ITU-R 601 grey level as Pillow rounds it: (m, 1, h, w) int32 in 0..255."""
    level = image[:, :1].to(torch.int32).mul_(19595)
    level.add_(image[:, 1:2], alpha=38470).add_(image[:, 2:], alpha=7471)
    return level.add_(1 << 15).bitwise_right_shift_(16)
