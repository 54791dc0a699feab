"""From a folder to a run folder, and a run that is repeated, resumed, or fed with other data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

import vitreous as vt

Draw = Callable[..., Path]
MODEL = "vit_pico_patch4_32"
FAST = {"model": MODEL, "batch": 16, "quiet": True}


def weights(run: Path) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in load_file(run / "weights.safetensors").items()}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vitreous", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_finished_run_says_everything(trained: Path) -> None:
    present = {p.name for p in trained.iterdir()}
    assert present >= {"run.json", "card.json", "weights.safetensors", "manifest.json", "metrics.jsonl", "report.html"}
    card = json.loads((trained / "card.json").read_text())
    assert card["data"]["classes"] == ["long", "round"]
    assert {side: sum(c) for side, c in card["data"]["counts"].items()}["train"] > 30
    assert card["initialisation"] == "scratch"
    assert set(card["metrics"]) == {"val", "test"}
    assert card["cost"]["parameters"] > 1e6
    assert str(trained / "run.json") in card["command"]
    assert not [p for p in trained.rglob("*") if p.suffix in (".pkl", ".pt", ".pth", ".npy")]


def test_a_saved_run_repeats_itself_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    vt.train(trained / "run.json", out=tmp_path / "again", quiet=True)
    assert weights(tmp_path / "again") == weights(trained)
    for name in ("metrics.jsonl", "outputs.safetensors", "run.json"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_another_seed_and_another_worker_count(photos: Path, tmp_path: Path) -> None:
    options = {**FAST, "epochs": 1}
    for name, change in {"a": {}, "b": {"workers": 3}, "c": {"seed": 1}}.items():
        vt.train(photos, out=tmp_path / name, **options, **change)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_killed_and_resumed_is_never_stopped(photos: Path, tmp_path: Path) -> None:
    options = (
        "--model",
        MODEL,
        "--epochs",
        "8",
        "--batch",
        "16",
        "--set",
        "train.save.steps=2",
        "--quiet",
    )
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert start("train", photos, "--out", whole, *options).wait(120) == 0
    process = start("train", photos, "--out", torn, *options)
    deadline = time.monotonic() + 60
    while not list(torn.glob("checkpoints/step-0000000[4-9]")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait(30)
    assert not (torn / "manifest.json").exists(), "it was killed too late to test anything"
    assert start("resume", torn, "--quiet").wait(120) == 0
    assert weights(torn) == weights(whole)
    assert (torn / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_terminated_run_says_how_to_go_on(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("train", photos, "--out", run, "--model", MODEL, "--epochs", "500", "--quiet")
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert f"vitreous resume {run}" in " ".join(said.split())
    with pytest.raises(vt.UsageError, match="resume"):
        vt.load(run)


def test_a_second_process_is_refused(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start("train", photos, "--out", run, "--model", MODEL, "--epochs", "500", "--quiet")
    try:
        deadline = time.monotonic() + 60
        while not (run / "run.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = start("resume", run)
        _, said = second.communicate(timeout=60)
        assert second.returncode == 3
        assert "Traceback" not in said
    finally:
        first.kill()
        first.wait(30)


def test_resuming_on_other_pictures_is_refused(draw: Draw, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(12):
        draw(folder, "round", number)
        draw(folder, "long", number)
    run = tmp_path / "run"
    process = start("train", folder, "--out", run, "--model", MODEL, "--epochs", "400", "--quiet")
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    for number in range(100, 130):
        draw(folder, "round", number)
    with pytest.raises(vt.UsageError, match=r"counts\.train.*--force"):
        vt.resume(run, quiet=True)


def test_resuming_a_finished_run_only_opens_it(trained: Path) -> None:
    before = (trained / "manifest.json").read_bytes()
    assert vt.resume(trained, quiet=True).metrics["accuracy"] > 0.5
    assert (trained / "manifest.json").read_bytes() == before


def test_weights_of_a_run_are_where_another_starts(trained: Path, photos: Path, tmp_path: Path) -> None:
    run = vt.train(photos, weights=trained, epochs=0.4, out=tmp_path / "on", quiet=True, set=["train.optim.lr=0"])
    assert run.card["initialisation"] == f"weights of {trained}"
    assert run.network.config.model == MODEL
    assert run.metrics["accuracy"] == vt.load(trained).metrics["accuracy"], "a rate of 0 changes nothing"


def test_evaluate_on_its_own_and_on_other_pictures(trained: Path, draw: Draw, tmp_path: Path) -> None:
    own = vt.evaluate(trained, quiet=True)
    assert own.scores.summary() == vt.load(trained).metrics
    for number in range(200, 210):
        draw(tmp_path / "more", "round", number)
    other = vt.evaluate(trained, tmp_path / "more", quiet=True)
    assert (other.split, other.scores.count) == ("all", 10)
    assert other.scores.accuracy.value > 0.5
    os.rename(tmp_path / "more" / "round", tmp_path / "more" / "square")
    with pytest.raises(vt.UsageError, match="does not know the class square"):
        vt.evaluate(trained, tmp_path / "more", quiet=True)


def test_the_report_is_written_again(trained: Path, tmp_path: Path) -> None:
    place = vt.report(trained, out=tmp_path / "page.html")
    assert "<html" in place.read_text()
    vt.load(trained)  # the run folder is still whole


def test_a_bad_share_of_pictures_stops_unless_allowed(draw: Draw, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(20):
        draw(folder, "round", number)
        draw(folder, "long", number)
    for number in range(4):
        (folder / "long" / f"bad{number}.jpg").write_bytes(b"\xff\xd8\xff garbage")
    with pytest.raises(vt.BadData, match="allow-bad"):
        vt.train(folder, out=tmp_path / "run", epochs=1, **FAST)
    run = vt.train(folder, out=tmp_path / "run2", epochs=1, allow_bad=0.2, **FAST)
    assert len(run.card["data"]["unreadable"]) == 4
