"""What the comparisons in bench/ say of themselves."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


def test_a_side_says_how_many_repeats_were_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    side = importlib.import_module("duel").Side
    calm, loud = [1.0, 3.0, 100.0], [2.0, 9.0, 120.0]
    assert side.of([calm, loud, calm], 1.4, 5.0) == side([3.0, 3.0], 2, 5.0, 100.0)
    none = side.of([loud, loud], 1.4, 5.0)
    assert none.undisturbed == 0 and none.median == 9.0  # all count, and it is told
