"""Why a file is not a picture, in a few words that a person can act on. Looks at the first bytes; decodes nothing.

Knows nothing of Pillow beyond the words of its errors.
"""

from __future__ import annotations

import struct

from vitreous.errors import UnreadableImage

_TEXTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the picture: run `git lfs pull`"),
    (b"<!doctype html", "an HTML page saved as a picture"),
    (b"<html", "an HTML page saved as a picture"),
    (b"<svg", "an SVG drawing: export it as PNG"),
    (b"<?xml", "an XML text saved as a picture"),
    (b"{", "a JSON text saved as a picture"),
    (b"%!ps", "format EPS is not accepted: export it as PNG"),
)
_MAGICS = (  # offset, bytes, format
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (4, b"ftyp", "MP4 or another video"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "PSD"),
    (0, b"SIMPLE  =", "FITS"),
    (128, b"DICM", "DICOM"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (8, b"AVI ", "AVI video"),
)
_KNOWN = (
    (0, b"\xff\xd8", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (1, b"PNG\r\n", "PNG"),
    (8, b"WEBP", "WEBP"),
    (4, b"ftypavi", "AVIF"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"BM", "BMP"),
)


def refuse_at_sight(data: bytes, limit: int) -> None:
    """Raise ``UnreadableImage`` for an empty file, and for one of more than ``limit`` bytes."""
    if not data:
        raise UnreadableImage("an empty file")
    if len(data) > limit:
        raise UnreadableImage(f"too large: {len(data):,} bytes, the limit is {limit:,}")


def explain(data: bytes, error: Exception) -> str:
    """The reason, in a few words, why decoding ``data`` ended with ``error``."""
    words = str(error).lower()
    if "decompressionbomb" in type(error).__name__.lower():
        return "too large: more pixels than the limit"
    if isinstance(error, MemoryError):
        return "too large: not enough memory to decode it"
    if "decompressed data too large" in words or "too much memory used in text" in words:
        return "a text inside the file unpacks to an absurd size"
    if not data.strip(b"\x00"):
        return "a file of zero bytes only, as a failed copy leaves it"
    kind = next((name for offset, magic, name in _KNOWN if data.startswith(magic, offset)), None)
    if kind is not None:
        cut = "truncated" in words or "ended prematurely" in words or "not enough" in words
        return f"truncated: the {kind} ends too early" if cut else f"a damaged or unsupported {kind}"
    return _guess(data)


def _guess(data: bytes) -> str:
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, reason in _TEXTS:
        if head.startswith(start):
            return "an SVG drawing: export it as PNG" if b"<svg" in head else reason
    for offset, magic, name in _MAGICS:
        if data.startswith(magic, offset):
            return f"format {name} is not accepted: export it as JPEG or PNG"
    return "an HTML page saved as a picture" if b"<html" in head else "not a picture"


def jpeg_lacks_only_its_end(data: bytes) -> bool:
    """Whether a JPEG may be complete but for its end marker: one whose parts cannot be missing unnoticed.

    With restart markers, or with a scan for each colour, a file that is cut between two of them looks whole.
    """
    colours, progressive = 0, False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", data, position)
        body = data[position + 4 : position + 2 + length]
        if marker in (0xC0, 0xC1, 0xC2) and len(body) > 5:
            colours, progressive = body[5], marker == 0xC2
        if marker == 0xDD and any(body):
            return False
        if marker == 0xDA:
            return bool(body) and (progressive or body[0] == colours)
        position += 2 + length
    return False
