"""What cannot be trained for want of memory is said before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

import vitreous as vt
from vitreous import recipes
from vitreous.run import memory


def test_what_is_needed_and_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = recipes.choose(recipes.Wishes(data="digits", model="vit_pico_patch4_32", recipe="scratch", epochs=1))
    weights = 4 * sum(p.numel() for p in vt.create("vit_pico_patch4_32", classes=10).parameters())
    copies = 4  # weights, gradients, Muon's momentum, the running average
    for there, fits in ((copies * weights - 1, False), (copies * weights, True)):
        monkeypatch.setattr(memory, "memory", lambda place, there=there: there)
        if fits:
            memory.require_memory(run)
        else:
            with pytest.raises(vt.UsageError, match="choose a smaller model"):
                memory.require_memory(run)


def test_a_giant_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory", lambda place: 24 * 10**9)
    with pytest.raises(vt.UsageError, match=r"gigantic.* takes 29 GB .* there are 24 GB"):
        vt.train("digits", model="vit_gigantic_patch14_224", epochs=1, size=28, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
