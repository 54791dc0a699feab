"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures and weights that lies beside a development checkout; tests skip without it."""
    place = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not place.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return place


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from, or left in, the caches of the person who runs the tests."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "hub"))  # read when the client is imported


def draw(folder: Path, kind: str, number: int, side: int = 24) -> Path:
    """One small picture: a bright disc (``round``) or bar (``long``) on noise, so that the classes can be learned."""
    rng = np.random.default_rng([number, len(kind), *kind.encode()])
    pixels = rng.integers(0, 90, (side, side, 3), dtype=np.uint8)
    y, x = np.ogrid[:side, :side]
    top, left = rng.integers(6, side - 6, 2)
    shape = (
        (y - top) ** 2 + (x - left) ** 2 < 20 if kind == "round" else np.broadcast_to(abs(y - top) < 2, (side, side))
    )
    pixels[shape] = rng.integers(160, 256, 3, dtype=np.uint8)
    place = folder / kind / f"{number:03d}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place)
    return place


@pytest.fixture(scope="session", name="draw")
def draw_fixture() -> Callable[..., Path]:
    """``draw(folder, "round" | "long", number)`` adds one picture to a class folder."""
    return draw


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two class folders with 60 small pictures each. Do not change it."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(60):
        draw(folder, "round", number)
        draw(folder, "long", number)
    return folder


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder on ``photos``. Do not change it."""
    import vitreous as vt

    out = tmp_path_factory.mktemp("run") / "photos"
    precision = ["train.precision=fp32"]
    vt.train(photos, model="vit_pico_patch4_32", epochs=12, batch=16, out=out, set=precision, quiet=True)
    return out
