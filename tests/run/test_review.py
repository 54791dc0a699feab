"""A finished run on pictures that it knows, and its page where the pictures are gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import vitreous as vt

Draw = Callable[..., Path]


def test_pictures_that_the_run_knows_do_not_count(trained: Path, photos: Path, draw: Draw, tmp_path: Path) -> None:
    """Under other names, in another folder, among new ones."""
    counts = {side: sum(c) for side, c in vt.load(trained).card["data"]["counts"].items()}
    for place in photos.rglob("*.png"):
        (tmp_path / "more" / place.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(place, tmp_path / "more" / place.parent.name / f"x{place.name}")
    own = vt.evaluate(trained, quiet=True)
    found = vt.evaluate(trained, tmp_path / "more", quiet=True)
    assert found.scores.summary() == own.scores.summary(), "only the test side is new to it"
    known = f"{counts['train']} were trained on and {counts['val']} chose the checkpoint and do not count"
    assert len(found.notices) == 1 and f"Of 120 pictures, {known} here; with them" in found.notices[0]
    for number in range(300, 310):
        draw(tmp_path / "more", "long", number)
    assert vt.evaluate(trained, tmp_path / "more", quiet=True).scores.count == own.scores.count + 10


def test_nothing_but_known_pictures_is_measured_and_said(trained: Path, photos: Path, tmp_path: Path) -> None:
    counts = vt.load(trained).card["data"]["counts"]
    for side, words in (("train", "were trained on"), ("val", "chose the checkpoint")):
        found = vt.evaluate(trained, split=side, quiet=True)
        n = sum(counts[side])
        assert found.scores.count == n
        assert found.notices == (
            f"Of {n} pictures, {n} {words}: this tells how well it knows them, not how it does on others.",
        )
    everything = vt.evaluate(trained, split="all", quiet=True)
    assert everything.scores.count == 120 and "flatter" not in everything.notices[0]


def test_how_other_data_would_be_divided_is_no_news(trained: Path, photos: Path, draw: Draw, tmp_path: Path) -> None:
    for number in range(400, 404):
        draw(tmp_path / "more" / "test", "round", number)
        draw(tmp_path / "more" / "train", "round", number)
    (tmp_path / "more" / "train" / "round" / "bad.png").write_bytes(b"?")
    found = vt.evaluate(trained, tmp_path / "more", allow_bad=0.5, quiet=True)
    assert found.scores.count == 8
    assert len(found.notices) == 1 and "cannot be used" in found.notices[0]


def test_a_page_keeps_its_pictures_when_the_data_is_gone(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    run = tmp_path / "run"
    vt.train(tmp_path / "photos", model="vit_pico_patch4_32", epochs=0.3, batch=16, out=run, quiet=True)
    before = (run / "report.html").read_text()
    pictures = re.findall(r'<img src="(data:[^"]+)"', before)
    capfd.readouterr()
    vt.report(run)
    assert capfd.readouterr().err == "" and (run / "report.html").read_text() == before
    (tmp_path / "photos").rename(tmp_path / "moved")
    vt.report(run)
    assert re.findall(r'<img src="(data:[^"]+)"', (run / "report.html").read_text()) == pictures != []
    said = capfd.readouterr().err
    assert re.fullmatch(r"\d+ pictures cannot be read any more and came from the page that was there\.\n", said)
    vt.load(run)
    (run / "report.html").unlink()
    vt.report(run, out=tmp_path / "page.html")
    assert "the page shows the names alone" in capfd.readouterr().err
    assert "no picture" in (tmp_path / "page.html").read_text()


def test_the_page_of_an_unfinished_run_says_so_where_it_is_asked_for(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "data.json", "metrics.jsonl"):
        shutil.copy(trained / name, run)
    assert vt.report(run).exists()
    assert f"has not finished: the page shows how far it came. vitreous resume {run} goes on" in capfd.readouterr().err
