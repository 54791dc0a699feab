"""The command line: help, exit codes, one sentence for every mistake, and output that programs can read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from vitreous.cli.main import app, guarded, main
from vitreous.errors import BadData, DamagedFile, NoSpace, RunBusy, TrainingDiverged, Unreachable, UsageError

ROOT = Path(__file__).parents[1]


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


@pytest.mark.parametrize(
    "verb", ["check", "train", "compare", "resume", "eval", "predict", "report", "models", "trace"]
)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, "--help") == 0
    said = capsys.readouterr().out
    assert verb in said and len(said.splitlines()) > 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian", "x"], 'Did you mean "train"'),
        (["train"], "requires an argument"),
        (["train", "digits", "--epochs", "many"], "Invalid value"),
        (["train", "digits", "--epoch", "3"], "--epochs"),
        (["train", "digits", "--epochs", "3", "--budget", "5m"], "not both"),
        (["train", "digits", "--budget", "5"], "write 5s or 5m"),
        (["train", "digits", "--model", "vit_foo"], "did you mean vit_tiny_patch16_224"),
        (["train", "digits", "--model", "vit_smal_patch16_224"], "did you mean vit_small_patch16_224"),
        (["train", "digits", "--size", "2"], "--size must be at least"),
        (["train", "digits", "--set", "train.optim.lrr=1"], "did you mean lr?"),
        (["train", "digits", "--set", "nonsense"], "write NAME=VALUE"),
        (["train", "digit"], "did you mean the built-in set digits?"),
        (["train", "nowhere/at/all"], "There is no folder"),
        (["predict", "nowhere", "x.jpg"], "not a run folder"),
        (["eval", "nowhere"], "not a run folder"),
        (["resume", "nowhere"], "not a run folder"),
        (["report", "nowhere"], "not a run folder"),
        (["models", "alexnet"], "There is no model"),
    ],
)
def test_a_mistake_gets_one_sentence_and_2(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert sentence in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (RunBusy("x"), 3),
        (TrainingDiverged("x"), 4),
        (NoSpace("x"), 5),
        (DamagedFile("x"), 6),
        (BadData("x"), 7),
        (Unreachable("x"), 8),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 1),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), 1),
        (ZeroDivisionError("oh"), 1),
    ],
)
def test_errors_become_their_documented_codes(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail() -> int:
        raise error

    assert guarded(fail) == code
    said = capsys.readouterr().err
    assert said.strip() and "Traceback" not in said
    if code == 1 and isinstance(error, ZeroDivisionError):
        (log,) = tmp_path.iterdir()
        assert "ZeroDivisionError" in log.read_text() and log.name in said.replace("\n", "")


def test_terminated_where_nothing_waits_for_it_it_says_so(monkeypatch, capsys) -> None:
    def work(arguments: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        return 0

    monkeypatch.setattr("vitreous.cli.main._run", work)
    before = signal.getsignal(signal.SIGTERM)
    assert main([]) == 143
    assert capsys.readouterr().err.strip() == "Terminated." and signal.getsignal(signal.SIGTERM) == before


def test_the_readme_lists_every_code() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8):
        assert re.search(rf"^\| {code} \|", table, re.M), f"exit code {code} is not in the README"
    for verb in ("check", "train", "resume", "eval", "predict", "report", "models"):
        assert f"vitreous {verb}" in table
        assert verb in app


def test_predictions_can_be_read_by_programs(trained: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", trained, photos / "round", "--limit", 3, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert set(lines[0]["probabilities"]) == {"round", "long"}
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1)
    assert run("predict", trained, photos / "round", "--limit", 3, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [r["label"] for r in rows] == [line["label"] for line in lines]


def test_one_bad_picture_is_reported_and_the_rest_answered(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    assert run("predict", trained, bad, photos / "long" / "000.png", tmp_path / "gone.jpg", "--csv") == 7
    said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert [bool(r["error"]) for r in rows] == [True, False, True]
    assert "2 pictures could not be read" in said.err


def test_an_embedded_set_can_be_predicted(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", trained, "digits", "--limit", 2) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_evaluation_and_models_are_tables(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", trained, "--quiet") == 0
    assert re.search(r"test of .*accuracy \d+\.\d%.*95 % interval", capsys.readouterr().out)
    assert run("models", "resnet18*") == 0
    assert re.search(r"resnet18 +224 +11\.69M +1\.81G +71\.50 +Apache-2\.0\n", capsys.readouterr().out)


def test_the_doctor_prints_what_it_finds(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", photos, "--out", tmp_path / "found", "--quiet") == 0
    said = capsys.readouterr().out
    assert "120 pictures in 2 classes" in said
    assert run("check", photos / "round", "--out", tmp_path / "one", "--quiet") == 7
    assert "have no labels" in " ".join(capsys.readouterr().out.split())
    assert {p.name for p in (tmp_path / "found").iterdir()} == {"check.json", "quarantine.csv"}


def test_brackets_in_a_name_are_a_name(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(sorted(photos.rglob("*.png"))[0], tmp_path / "[1] cat.png")
    monkeypatch.chdir(tmp_path)
    assert run("predict", trained, "[1] cat.png") == 0
    assert "[1] cat.png" in capsys.readouterr().out


def test_a_place_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "digits", "--out", "/proc/x", "--epochs", "1", "--model", "vit_pico_patch4_32") == 2
    assert "cannot be created" in capsys.readouterr().err


def test_trace_prints_stages_and_operations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("trace", "vit_pico_patch4_32", "--out", tmp_path / "cuts.png") == 0
    said = capsys.readouterr().out
    assert "Block x 6" in said and "(1,64,128)" in said and "cuts.png" in said and (tmp_path / "cuts.png").exists()
    assert run("trace", "vit_pico_patch4_32", "--operations", "--batch", "2") == 0
    said = capsys.readouterr().out
    assert "scaled_dot_product_attention" in said and "(2,4,64,64)" in said
    (tmp_path / "a.pdf").write_text("%PDF")
    assert run("trace", "vit_pico_patch4_32", "--image", tmp_path / "a.pdf") == 7
    assert "a.pdf" in capsys.readouterr().err.replace("\n", "")
