"""Pictures for the tests of the data room, made and broken on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photo() -> Callable[..., Image.Image]:
    """``photo(width, height)``: a smooth RGB picture without any symmetry."""

    def make(width: int = 96, height: int = 64) -> Image.Image:
        y, x = np.mgrid[:height, :width] / max(height, width)
        levels = np.stack([x + y * 0.3, 0.5 + 0.5 * np.sin(9 * x + 4 * y), y**2 + 0.2 * np.cos(7 * x)], -1)
        return Image.fromarray((levels * 255).clip(0, 255).astype(np.uint8))

    return make


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """``encoded(image, "PNG", ...)``: the file of a Pillow image."""

    def encode(image: Image.Image, kind: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def scene() -> Callable[..., Image.Image]:
    """``scene(seed, width, height)``: a smooth picture of random colours, unlike that of any other seed."""

    def make(seed: int, width: int = 64, height: int = 48) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def album(tmp_path: Path, scene: Callable[..., Image.Image], encoded: Callable[..., bytes]) -> Callable[..., Path]:
    """``album({"cat/1.png": 7, "cat/bad.png": b"..."})``: a folder of scenes, by seed, and of files, by contents."""

    def make(files: Mapping[str, int | bytes], name: str = "album") -> Path:
        root = tmp_path / name
        for path, what in files.items():
            place = root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(what if isinstance(what, bytes) else encoded(scene(what), "PNG"))
        return root

    return make
