"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real pictures and weights that lies beside a development checkout; tests skip without it."""
    place = Path(os.environ.get("VITREOUS_SHARED", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not place.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return place
