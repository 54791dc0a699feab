"""Runs that learn beside the labels from pictures without one: repeated, stopped, and measured without those."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import vitreous as vt
from vitreous.data.loader import Loader
from vitreous.run.outcome import fingerprints
from vitreous.store.tensors import read_tensors
from vitreous.training.interrupt import Interrupted

STUDENT = "vit_pico_patch4_32"
SETTINGS = ["train.steps=8", "train.precision=fp32", "train.save.steps=2", "pseudo.sure=0.4"]


@pytest.fixture
def further(draw, tmp_path: Path) -> Path:
    """A folder of 40 pictures without class folders."""
    for number in range(200, 220):
        for kind in ("round", "long"):
            shutil.move(draw(tmp_path / "drawn", kind, number), tmp_path / "drawn" / f"{kind}-{number}.png")
    return tmp_path / "drawn"


def train(photos: Path, further: Path, out: Path, *changes: str, **fields: object) -> None:
    settings = [*SETTINGS, *changes]
    vt.train(photos, model=STUDENT, batch=16, unlabelled=further, out=out, set=settings, quiet=True, **fields)


def interrupted(monkeypatch: pytest.MonkeyPatch, begin: Callable[[], None]) -> None:
    """Run ``begin`` until the batch of step 5 is asked for."""
    serve, sent = Loader._drawn, []

    def drawn(own: Loader, step: int) -> object:
        if step == 5 and not sent:  # a second signal would end it at once
            sent.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return serve(own, step)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Loader, "_drawn", drawn)
        begin()


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


def test_stopped_and_resumed_is_never_stopped(photos: Path, further: Path, tmp_path: Path, monkeypatch) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    train(photos, further, whole)
    interrupted(monkeypatch, lambda: train(photos, further, torn))
    assert not (torn / "manifest.json").exists()
    vt.resume(torn, quiet=True)
    assert weights(torn) == weights(whole)
    assert (torn / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    rows = [json.loads(row) for row in (whole / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("sure", 0) > 0 for row in rows), "otherwise nothing was tested"
    train(photos, further, tmp_path / "threads", workers=2)
    assert weights(tmp_path / "threads") == weights(whole), "how many threads prepare them is of no account"


def test_other_further_pictures_are_other_data(photos: Path, further: Path, tmp_path: Path, monkeypatch, draw) -> None:
    interrupted(monkeypatch, lambda: train(photos, further, tmp_path / "run"))
    draw(further, "round", 300)
    with pytest.raises(vt.UsageError, match="data is not what"):
        vt.resume(tmp_path / "run", quiet=True)


def test_it_is_measured_without_them(photos: Path, further: Path, tmp_path: Path) -> None:
    train(photos, further, tmp_path / "run", "train.steps=2")
    seen = read_tensors(tmp_path / "run" / "outputs.safetensors")["train_seen"].tolist()
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in further.glob("*.png")]
    assert len(digests) == 40 and set(fingerprints(digests).tolist()) <= set(seen), "they test nothing any more"
    shutil.rmtree(further)
    found = vt.evaluate(tmp_path / "run", quiet=True)
    assert not any("has changed" in notice for notice in found.notices), found.notices
    assert vt.report(tmp_path / "run", out=tmp_path / "page.html").exists()


def test_labels_move_no_picture_and_the_labelled_ones_learn_as_before(
    photos: Path, further: Path, tmp_path: Path
) -> None:
    """With a weight of nearly nothing the run is that without further pictures, but for rounding."""
    train(photos, further, tmp_path / "with", "train.steps=2", "pseudo.weight=1e-12")
    settings = [*SETTINGS[1:3], "train.steps=2"]
    vt.train(photos, model=STUDENT, batch=16, out=tmp_path / "without", set=settings, quiet=True)
    own, other = (vt.load(tmp_path / name).network.state_dict() for name in ("with", "without"))
    assert all(torch.allclose(own[name], other[name], atol=1e-4) for name in own)
