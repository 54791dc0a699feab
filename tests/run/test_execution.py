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
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vitreous", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def wait_until(something: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not something():
        assert process.poll() is None, "it ended too early to test anything"
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
    options = ("--model", MODEL, "--epochs", "3", "--batch", "16", "--set", "train.save.steps=2", "--quiet")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert finish("train", photos, "--out", whole, *options).returncode == 0
    process = start("train", photos, "--out", torn, *options)
    wait_until(lambda: list(torn.glob("checkpoints/step-0000000[4-9]")), process)
    process.kill()
    process.wait(30)
    assert not (torn / "manifest.json").exists(), "it was killed too late to test anything"
    assert finish("resume", torn, "--quiet").returncode == 0
    assert weights(torn) == weights(whole)
    assert (torn / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


def test_a_stopped_run_can_go_on_and_lets_nobody_else_in(draw: Draw, tmp_path: Path) -> None:
    folder, run = tmp_path / "photos", tmp_path / "run"
    for number in range(12):
        draw(folder, "round", number)
        draw(folder, "long", number)
    process = start("train", folder, "--out", run, "--model", MODEL, "--epochs", "2000", "--quiet")
    try:
        wait_until(lambda: list(run.glob("checkpoints/step-*")), process)
        second = finish("resume", run)
        assert (second.returncode, "Traceback" in second.stderr) == (3, False)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait(30)
    with pytest.raises(vt.UsageError, match="resume"):
        vt.load(run)
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
