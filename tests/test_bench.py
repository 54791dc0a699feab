"""What the comparisons in bench/ say of themselves."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

BENCH = Path(__file__).resolve().parents[1] / "bench"


def test_a_side_says_how_many_repeats_were_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    side = importlib.import_module("duel").Side
    calm, loud = [1.0, 3.0, 100.0], [2.0, 9.0, 120.0]
    assert side.of([calm, loud, calm], 1.4, 5.0) == side([3.0, 3.0], 2, 5.0, 100.0)
    none = side.of([loud, loud], 1.4, 5.0)
    assert none.undisturbed == 0 and none.median == 9.0  # all count, and it is told


def test_a_map_is_compared_with_the_last_of_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that ended one layer early would have a likeness among the layers of the peer."""
    for peer in ("pairs", "pretexts", "transformers"):  # what is tested needs none of them
        monkeypatch.setitem(sys.modules, peer, MagicMock())
    map_error = runpy.run_path(str(BENCH / "parity.py"), run_name="parity")["map_error"]
    early, last, coarse = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 2.0), torch.ones(1, 4, 2, 2)
    assert map_error((last, coarse), (early, last, coarse)) == 0
    assert map_error((early, coarse), (early, last, coarse)) == 0.5
