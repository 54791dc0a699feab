"""Bytes to pixels: the only decoder of the house, made for files that strangers wrote.

Whatever the bytes are, the answer is a (3, h, w) uint8 tensor or an ``UnreadableImage`` with one short reason. The
size is read from the header and checked before any pixel is decoded. Embedded colour profiles are not applied.
Knows nothing of folders, labels or networks.
"""

from __future__ import annotations

import importlib.metadata
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeGuard

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from vitreous.data.preprocess import Preprocess, fit, shrink, stored_size
from vitreous.data.quiet import quiet
from vitreous.data.refusal import explain, jpeg_lacks_only_its_end, refuse_at_sight
from vitreous.errors import UnreadableImage

__all__ = [
    "Decoded",
    "Facts",
    "Preprocess",
    "decode",
    "encode_jpeg",
    "encode_png",
    "fit",
    "from_pixels",
    "shrink",
    "step_one",
]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM") + (("AVIF",) if features.check("avif") else ())
"""Pillow formats that are tried at all (MPO comes with JPEG); the rest of its list has a history of holes."""

MAX_BYTES = 512 << 20
"""Larger files are refused unread."""

_CANVASES = {"WEBP": 4, "AVIF": 4}  # decoders that hold several copies of the picture reach the limit the sooner
_ORIENTATION = 0x0112  # EXIF tag
_BAND = 1 << 22  # pixels converted at a time when a big picture is reduced
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # modes of more than eight bits


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the file says about itself. Every field is a JSON value.

    Attributes:
        format: Pillow's name of the format, found from the contents and not from the file name.
        mode: Pillow's colour mode as stored (``RGB``, ``L``, ``P``, ``CMYK``, ``I;16``, ...).
        width, height: pixels, after the EXIF orientation.
        orientation: EXIF orientation as stored, 1 to 8.
        frames: 1, or 2 where there is more than one; counting them all would mean reading them all.
        bits: bits a channel as stored.
        alpha: has an alpha channel or a transparent colour.
        notices: what the user may want to know, one sentence each.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    bits: int = 8
    alpha: bool = False
    notices: tuple[str, ...] = ()


class Decoded(NamedTuple):
    """One decoded picture."""

    pixels: Tensor  # (3, h, w) uint8
    facts: Facts


def decode(data: bytes, preprocess: Preprocess | None = None) -> Decoded:
    """Decode one picture; with ``preprocess``, step 1 is applied as well and JPEGs are decoded at reduced scale.

    EXIF orientation is applied, transparency is laid on the background, of an animation the first frame is taken.
    16-bit containers are divided by 257. 32-bit floats in [0, 1] are multiplied by 255; all other floats and 32-bit
    integers are stretched from the picture's own minimum and maximum. Nothing is clipped.

    Raises:
        UnreadableImage: with the reason in a few words. Nothing else is raised for any bytes whatever.
    """
    refuse_at_sight(data, MAX_BYTES)
    with quiet():
        try:
            return _decode(data, preprocess)
        except UnreadableImage:
            raise
        except Exception as error:
            reason = explain(data, error)
        if reason.startswith("truncated: the JPEG") and jpeg_lacks_only_its_end(data):
            return _decode_endless(data, preprocess, reason)
        raise UnreadableImage(reason)


def from_pixels(pixels: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Step 1 of (h, w) or (h, w, 3) uint8 that come from no file: what ``decode`` makes of a lossless file of them."""
    return _pixels(Image.fromarray(pixels), preprocess)[0]


def encode_png(pixels: Tensor) -> bytes:
    """(3, h, w) or (1, h, w) uint8 -> a PNG file, lossless."""
    return _encode(pixels, "PNG", compress_level=1)


def encode_jpeg(pixels: Tensor, quality: int = 85) -> bytes:
    """(3, h, w) or (1, h, w) uint8 -> a JPEG file of ``quality`` 1 to 95."""
    return _encode(pixels, "JPEG", quality=quality)


def is_opened(picture: object) -> TypeGuard[Image.Image]:
    """Whether somebody else has opened this picture with Pillow."""
    return isinstance(picture, Image.Image)


def encode_opened(image: Image.Image) -> bytes:
    """A picture opened with Pillow as a file again, nothing lost, so that it is decoded like any other.

    Raises:
        UnreadableImage: it is damaged; that shows only now.
    """
    file = io.BytesIO()
    plain = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    try:
        (image if plain else image.convert("RGB")).save(file, "PNG", exif=image.getexif(), compress_level=1)
    except Exception as error:  # what a damaged picture raises is anybody's guess
        raise UnreadableImage(f"Pillow cannot load it ({type(error).__name__}).") from None
    return file.getvalue()


def step_one(preprocess: Preprocess) -> str:
    """All that the pixels of step 1 depend on beside the file, as one line: what cached pixels are filed under."""
    colour = ",".join(map(str, preprocess.background))
    versions = " ".join(f"{name}={importlib.metadata.version(name)}" for name in ("pillow", "torch"))
    return f"step-one=1 store={preprocess.store} background={colour} {versions}"


# ---------------------------------------------------------------- decoding


def _decode(data: bytes, preprocess: Preprocess | None) -> Decoded:
    rules = preprocess or Preprocess()
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if min(image.size) < 1:
        raise UnreadableImage("it has no pixels")
    limit = rules.max_pixels // _CANVASES.get(image.format or "", 1)
    if math.prod(image.size) > limit:
        raise UnreadableImage(f"too large: {image.width} x {image.height} pixels, the limit is {limit:,} pixels")
    facts = _facts(image)
    clear = image.info.get("transparency")
    if facts.bits == 16 and isinstance(clear, tuple):  # Pillow keeps the high bytes of the pixels, but not of this
        image.info["transparency"] = tuple(level >> 8 for level in clear)
    pixels, remark = _pixels(image, preprocess, facts.orientation)
    return Decoded(pixels, replace(facts, notices=facts.notices + remark))


def _pixels(image: Image.Image, preprocess: Preprocess | None, orientation: int = 1) -> tuple[Tensor, tuple[str, ...]]:
    """(3, h, w) uint8 of an opened picture, step 1 applied where there is a ``preprocess``; what there is to say."""
    background = (preprocess or Preprocess()).background
    reduction = _load(image, preprocess)
    low, high, remark = _range(image)
    levels = np.concatenate(
        [_levels(band, low, high, background, reduction) for band in _bands(image, reduction)]
    )  # (h, w) or (h, w, 3)
    if image.format != "TIFF":  # Pillow turns TIFFs itself
        levels = _upright(levels, orientation)
    pixels = torch.from_numpy(np.ascontiguousarray(levels))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    if preprocess:
        pixels = shrink(pixels, preprocess)
    return pixels.expand(3, -1, -1).contiguous(), remark


def _decode_endless(data: bytes, preprocess: Preprocess | None, reason: str) -> Decoded:
    """A JPEG without its end marker: whole if what is put in place of the end does not show in the pixels."""
    data = data.removesuffix(b"\xff")
    tails = (b"", b"\x55" * 64, b"\xaa" * 64)
    try:
        first, *others = (_decode(data + tail + b"\xff\xd9", preprocess) for tail in tails)
    except Exception:
        raise UnreadableImage(reason) from None
    if not all(torch.equal(first.pixels, other.pixels) for other in others):
        raise UnreadableImage(reason)
    return first._replace(facts=replace(first.facts, notices=(*first.facts.notices, "The end marker is missing.")))


def _load(image: Image.Image, preprocess: Preprocess | None) -> int:
    """Decode, at reduced scale where the format can; returns the whole factor by which to reduce further.

    Both leave at least what step 1 needs, the factor twice as much, so that step 1 decides the sharpness.
    """
    if preprocess is None:
        image.load()
        return 1
    height, width = stored_size(image.height, image.width, preprocess)
    image.draft(None, (width, height))
    image.load()
    return max(1, min(image.height // (2 * height), image.width // (2 * width)))


def _bands(image: Image.Image, reduction: int) -> Iterator[Image.Image]:
    """``image`` in horizontal bands, so that converting a big picture never holds a second one."""
    rows = max(1, _BAND // (image.width * reduction)) * reduction
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


# ---------------------------------------------------------------- colours


def _range(image: Image.Image) -> tuple[float, float, tuple[str, ...]]:
    """The stored values that become black and white, and what there is to say about that choice."""
    if image.mode == "F":
        finite = [v[np.isfinite(v)] for v in map(np.asarray, _bands(image, 1))]
        low = min((float(v.min()) for v in finite if v.size), default=0.0)
        high = max((float(v.max()) for v in finite if v.size), default=0.0)
        if low >= 0 and high <= 1:
            return 0.0, 1.0, ()
    elif image.mode == "I" and image.format != "PPM":  # PPM holds 16 bits in this mode
        low, high = (float(v) for v in image.getextrema())  # type: ignore[arg-type]
    else:
        return 0.0, 65535.0, ()
    return low, high, (f"Values from {low:g} to {high:g} were stretched to black and white.",)


def _levels(band: Image.Image, low: float, high: float, background: tuple[int, int, int], reduction: int) -> np.ndarray:
    """(h, w) or (h, w, 3) uint8 of one band, reduced by averaging ``reduction`` x ``reduction`` pixels."""
    if band.mode in _DEEP:
        band = _eight_bits(band, low, high)
    if band.has_transparency_data:
        colours = band.convert("RGBA")
        band = Image.new("RGB", band.size, background)
        band.paste(colours, mask=colours.getchannel("A"))
    elif band.mode not in ("L", "RGB"):
        band = band.convert("L" if band.mode == "1" else "RGB")
    return np.asarray(band.reduce(reduction) if reduction > 1 else band)


def _eight_bits(band: Image.Image, low: float, high: float) -> Image.Image:
    values = np.asarray(band).astype(np.float64 if band.mode == "I" else np.float32)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255.0 / ((high - low) or 1.0))
    grey = Image.fromarray(np.rint(scaled).astype(np.uint8))
    clear = band.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    return Image.merge("LA", (grey, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))))


def _upright(levels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF ``orientation`` (1 to 8) of (h, w) or (h, w, 3) pixels."""
    if orientation >= 5:
        levels = levels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        levels = levels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        levels = levels[::-1]
    return levels


# ---------------------------------------------------------------- facts


def _facts(image: Image.Image) -> Facts:
    """What the header says; read before the pixels are, since a TIFF forgets its orientation then."""
    notices = []
    bits = _bits(image)  # first: reading the EXIF of a PNG decodes it
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        orientation = 1
        notices.append("The EXIF data are damaged and were ignored.")
    orientation = orientation if 1 <= orientation <= 8 else 1
    frames = 2 if _is_animated(image) else 1
    if frames > 1 and image.format != "MPO":  # the second picture of an MPO is a preview or a depth map
        notices.append("Only the first of several frames is used.")
    turned = orientation >= 5 and image.format != "TIFF"
    width, height = image.size[::-1] if turned else image.size
    return Facts(
        format=image.format or "",
        mode=image.mode,
        width=width,
        height=height,
        orientation=orientation,
        frames=frames,
        bits=bits,
        alpha=image.has_transparency_data,
        notices=tuple(notices),
    )


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame does not spoil the first
        return False


def _bits(image: Image.Image) -> int:
    tiles = getattr(image, "tile", None)
    packing = str(tiles[0][3]) if tiles else ""
    if ";16" in packing or image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return 16
    return {"1": 1, "I": 32, "F": 32}.get(image.mode, 8)


def _encode(pixels: Tensor, kind: str, **options: int) -> bytes:
    levels = pixels.permute(1, 2, 0).contiguous().numpy()  # (h, w, c)
    file = io.BytesIO()
    Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).save(file, kind, **options)
    return file.getvalue()
