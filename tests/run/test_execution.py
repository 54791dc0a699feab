"""From a folder to a run folder, and a run that is repeated, resumed, or fed with other data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

import vitreous as vt
from vitreous import recipes
from vitreous.run import execution
from vitreous.run.methods import PretrainConfig
from vitreous.tasks.simmim import SimmimConfig

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


def test_where_a_run_goes_that_was_given_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan, _ = recipes.choose(recipes.Wishes(data="digits", model=MODEL))
    assert execution._place(plan) == Path("runs", f"digits-{MODEL}")
    unlabelled = replace(plan, pretrain=PretrainConfig(simmim=SimmimConfig()))
    assert execution._place(unlabelled) == Path("runs", f"digits-simmim-{MODEL}")
    Path("runs", f"digits-simmim-{MODEL}").mkdir(parents=True)
    assert execution._place(unlabelled) == Path("runs", f"digits-simmim-{MODEL}-2")


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


def test_augmentation_ends_where_its_setting_says(photos: Path, tmp_path: Path) -> None:
    plain, trivial = "task.augment.policy=none", "task.augment.policy=trivial"
    off = {name: f"task.augment.off_after={share}" for name, share in {"never": 1, "half": 0.5, "at once": 0}.items()}
    settings = {"plain": [plain], **{name: [trivial, value] for name, value in off.items()}}
    for name, values in settings.items():
        vt.train(photos, out=tmp_path / name, set=values, epochs=1, **FAST)
    assert weights(tmp_path / "at once") == weights(tmp_path / "plain")
    assert len({str(weights(tmp_path / name)) for name in ("plain", "half", "never")}) == 3


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


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("mistake", "kind"),
    [
        ({"size": 30}, vt.UsageError),  # no multiple of the patch: known when the network is built
        ({"data": "nowhere"}, vt.UsageError),
        ({"set": ["train.optim.rate=1"]}, vt.UsageError),
        ({"weights": "nothing.pt"}, vt.UsageError),
    ],
)
def test_a_mistake_costs_neither_the_old_run_nor_the_new_folder(
    trained: Path, photos: Path, tmp_path: Path, mistake: dict[str, object], kind: type[Exception]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(trained, old)
    before = everything(old)
    for place, overwrite in ((old, True), (new, False)):
        with pytest.raises(kind):
            vt.train(**({"data": photos, "out": place, "overwrite": overwrite, "epochs": 1, **FAST} | mistake))
    assert everything(old) == before and not new.exists()
    vt.train(photos, out=new, epochs=0.3, **FAST)  # the same place, put right


def test_overwriting_begins_afresh(trained: Path, photos: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained, old)
    with pytest.raises(vt.UsageError, match="--overwrite"):
        vt.train(photos, out=old, epochs=0.3, **FAST)
    run = vt.train(photos, out=old, epochs=0.3, overwrite=True, **FAST)
    assert run.card["train"]["epochs"] < 0.5
    assert len((old / "metrics.jsonl").read_text().splitlines()) <= 4


def test_a_run_file_is_not_outvoted_in_silence(trained: Path, tmp_path: Path) -> None:
    file = trained / "run.json"
    with pytest.raises(vt.UsageError, match=r"--epochs and --seed would do nothing.* --set"):
        vt.train(file, seed=7, epochs=1, out=tmp_path / "a")
    run = vt.train(file, set=["seed=7", "train.epochs=0.4"], out=tmp_path / "b", quiet=True)
    assert run.card["seed"] == 7 and run.card["train"]["epochs"] < 0.6


def test_repeating_on_other_data_is_said(draw: Draw, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    for number in range(30):
        draw(folder, "round", number)
        draw(folder, "long", number)
    vt.train(folder, out=tmp_path / "one", epochs=0.3, **FAST)
    options = {"out": tmp_path / "two", "overwrite": True}
    vt.train(tmp_path / "one" / "run.json", **options)
    assert "not what" not in capfd.readouterr().err
    draw(folder, "long", 30)
    vt.train(tmp_path / "one" / "run.json", **options)
    assert "is not what" in capfd.readouterr().err


def test_a_run_goes_on_from_its_checkpoint_alone(trained: Path, photos: Path, tmp_path: Path) -> None:
    """What it began with may be gone by then."""
    start_from = tmp_path / "start.safetensors"
    shutil.copy(trained / "weights.safetensors", start_from)
    options = ("--model", MODEL, "--epochs", "4", "--batch", "16", "--weights", start_from, "--quiet")
    process = start("train", photos, *options, "--set", "train.save.steps=2", "--out", tmp_path / "run")
    wait_until(lambda: len(list((tmp_path / "run").glob("checkpoints/step-*"))) > 1, process)
    process.send_signal(signal.SIGTERM)
    process.wait()
    start_from.unlink()
    done = finish("resume", tmp_path / "run", "--quiet")
    assert done.returncode == 0, done.stderr


def test_resuming_a_finished_run_only_opens_it(trained: Path) -> None:
    before = (trained / "manifest.json").read_bytes()
    assert vt.resume(trained, quiet=True).metrics["accuracy"] > 0.5
    assert (trained / "manifest.json").read_bytes() == before


def test_a_class_without_a_usable_picture_is_no_output(draw: Draw, tmp_path: Path) -> None:
    for number in range(20):
        draw(tmp_path / "photos", "round", number)
        draw(tmp_path / "photos", "long", number)
    (tmp_path / "photos" / "bad").mkdir()
    (tmp_path / "photos" / "bad" / "1.png").write_bytes(b"?")
    (tmp_path / "photos" / "empty").mkdir()
    run = vt.train(tmp_path / "photos", out=tmp_path / "run", epochs=0.5, allow_bad=0.1, **FAST)
    assert run.classes == ("long", "round") and run.network.config.classes == 2
    assert any("no picture of them can be used: class bad" in notice for notice in run.card["data"]["notices"])
    vt.train(tmp_path / "run" / "run.json", out=tmp_path / "again", quiet=True)
    assert weights(tmp_path / "again") == weights(tmp_path / "run")


def test_weights_of_a_run_are_where_another_starts(trained: Path, photos: Path, tmp_path: Path) -> None:
    run = vt.train(photos, weights=trained, epochs=0.4, out=tmp_path / "on", quiet=True, set=["train.optim.lr=0"])
    assert run.card["initialisation"].startswith(f"weights of {trained}")
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


def test_a_page_inside_the_run_is_part_of_it(trained: Path, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for place in (None, run / "report.html", run / "other.html", run / ".." / "run" / "report.html"):
        (run / "report.html").unlink(missing_ok=True)
        with pytest.raises(vt.DamagedFile, match=f"write it again with vitreous report {run}"):
            vt.load(run)
        vt.report(run, out=place)
        if place is not None and place.name == "other.html":
            vt.report(run)
        vt.load(run)
    with pytest.raises(vt.UsageError, match="cannot be written"):
        vt.report(run, out=run)
    with pytest.raises(vt.UsageError, match="cannot be written"):
        vt.report(run, out=run / "run.json" / "x.html")
    vt.load(run)


def test_nothing_held_out_is_nothing_measured(photos: Path, tmp_path: Path) -> None:
    done = finish(
        "train", photos, "--model", MODEL, "--epochs", "0.3", "--batch", "16", "--quiet", "--out", tmp_path / "run",
        "--set", "data.val=0", "--set", "data.test=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not measured" in done.stdout


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
    with pytest.raises(vt.BadData, match="allow-bad"):
        vt.evaluate(run.folder, folder, allow_bad=0.01, quiet=True)
    found = vt.evaluate(run.folder, folder, allow_bad=0.2, split="all", quiet=True)
    assert f"Of 40 pictures, {sum(run.card['data']['counts']['train'])} were trained on and " in found.notices[-1]
