"""What is chosen for learning without labels, whatever lies in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitreous.recipes import Wishes, choose, pretrain
from vitreous.run.methods import METHODS, Method
from vitreous.run.plan import TuneConfig
from vitreous.weights.pretrained import Published

USUAL = "vit_small_patch14_dinov2"


@pytest.fixture
def larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hundred pictures of 96 px, on a machine where all published weights lie in the cache."""
    rng = np.random.default_rng(0)
    for i in range(100):
        place = tmp_path / "data" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(place / f"{i}.png")
    monkeypatch.setattr(Published, "cached", lambda self: self._replace(sha256="0" * 64))
    monkeypatch.setattr(Published, "fetch", lambda self: (self._replace(sha256="0" * 64), tmp_path))
    return str(tmp_path / "data")


@pytest.mark.parametrize("method", ["mae", "simmim", "dino"])
@pytest.mark.parametrize("begun", [False, True])
def test_published_weights_are_begun_with_where_they_were_asked_for(larger: str, method: Method, begun: bool) -> None:
    assert choose(Wishes(data=larger))[0].network.model == USUAL, "the cache is not what it should be for this test"
    run, reasons = pretrain.choose(Wishes(data=larger, pretrained=begun), method)
    assert (run.weights is not None) == (run.network.model == USUAL) == begun
    said = "\n".join(reasons)
    assert begun == (USUAL in said) and "TrivialAugment" not in said and "tune" not in said
    optim = run.train.optim
    assert (optim.name, optim.layer_decay) == (("adamw", 0.5) if begun else ("muon", 1.0)) and optim.ema is None
    assert begun == ("AdamW at 0.001, and each block at 0.5" in said)
    assert run.tune == TuneConfig() and run.task.augment.policy == "none"


def test_few_pictures_make_small_batches_but_for_dino(larger: str) -> None:
    batches = {method: pretrain.choose(Wishes(data=larger), method)[0].train.batch for method in METHODS}
    assert batches == {"mae": 16, "simmim": 16, "dino": 64}


@pytest.mark.parametrize("method", ["mae", "simmim", "dino"])
def test_what_looks_like_a_picture_that_is_held_out_is_spared(method: Method) -> None:
    assert pretrain.choose(Wishes(data="digits"), method)[0].data.apart
    assert not choose(Wishes(data="digits"))[0].data.apart
