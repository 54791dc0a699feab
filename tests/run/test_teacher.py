"""A teacher beside the labels: where it comes from, what is kept of it, and that nothing else is changed by it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import fake_hub
import numpy as np
import pytest
import safetensors.torch
import torch
from fake_hub import FakeHub
from safetensors.torch import load_file

import vitreous as vt
from vitreous.data.prepare import prepare
from vitreous.data.preprocess import fit
from vitreous.network import NetworkConfig, build_network
from vitreous.recipes import Wishes, adjust, choose
from vitreous.run import execution
from vitreous.run.execution import execute
from vitreous.run.find_teacher import named, open_teacher, own_run
from vitreous.run.plan import Run, read_run
from vitreous.run.teacher import TeacherConfig, earlier
from vitreous.run.wiring import build
from vitreous.store.checkpoint import RunFolder
from vitreous.training.device import open_device
from vitreous.types import Batch

STUDENT, CNN = "vit_pico_patch4_32", "resnet20_cifar"
FAST = {"model": STUDENT, "batch": 16, "epochs": 1, "quiet": True}
FP32 = ["train.precision=fp32"]
Draw = Callable[..., Path]


def weights(run: Path) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in load_file(run / "weights.safetensors").items()}


def card(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "card.json").read_text())
    return found


def planned(photos: Path, teacher: str, *changes: str, **wishes: object) -> Run:
    run, _ = choose(Wishes(data=str(photos), model=STUDENT, batch=16, epochs=1, teacher=teacher, **wishes))
    return adjust(run, [*FP32, *changes])


@pytest.fixture(scope="module")
def taught(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher was trained first. Do not change it."""
    out = tmp_path_factory.mktemp("taught") / "run"
    vt.train(photos, out=out, teacher=CNN, set=FP32, **{**FAST, "epochs": 5})
    return out


def test_a_teacher_trained_first_is_a_run_of_its_own(taught: Path) -> None:
    run, own = vt.load(taught), vt.load(taught / "teacher")
    assert own.network.config.model == CNN and run.network.config.model == STUDENT
    said = run.card["teacher"]
    assert said["accuracy"] == pytest.approx(own.card["metrics"]["val"]["accuracy"])
    assert said["says"] == "logits and features" and CNN in said["name"]
    assert own.card["train"]["epochs"] == pytest.approx(0.4 * run.card["train"]["epochs"], rel=0.1)
    assert own.card["augmentation"]["label_smoothing"] == 0
    assert own.card["cost"]["minutes"] <= said["minutes"] <= run.card["cost"]["minutes"]
    assert set(load_file(taught / "weights.safetensors")) == set(run.network.state_dict()), "no more than a network"
    assert not (taught / "teacher" / "report.html").exists(), "time that its pupil needs"
    assert CNN in (taught / "report.html").read_text()


def test_the_run_file_repeats_pupil_and_teacher(taught: Path, tmp_path: Path) -> None:
    vt.train(taught / "run.json", out=tmp_path / "again", quiet=True)
    for part in (".", "teacher"):
        assert weights(tmp_path / "again" / part) == weights(taught / part)
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (taught / "metrics.jsonl").read_bytes()
    longer = adjust(read_run(RunFolder(taught)), ["train.epochs=2"])
    assert longer.train.plan is None and longer.teacher is not None and longer.teacher.plan is None


def finish(*arguments: object) -> int:
    command = [sys.executable, "-m", "vitreous", *map(str, arguments), "--quiet"]
    return subprocess.run(command, capture_output=True, timeout=240, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "moment"), [("same", "teacher/checkpoints/step-*[1-9]"), ("whole", "checkpoints/step-*[2-9]")]
)
def test_killed_and_resumed_is_never_stopped(photos: Path, tmp_path: Path, view: str, moment: str) -> None:
    options = ("--model", STUDENT, "--teacher", CNN, "--epochs", "4", "--batch", "16")
    settings = ("--set", "train.save.steps=2", "--set", f"teacher.view={view}")
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert finish("train", photos, "--out", whole, *options, *settings) == 0
    command = [sys.executable, "-m", "vitreous", "train", photos, "--out", torn, *options, *settings, "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(torn.glob(moment)):
        assert process.poll() is None, "it ended too early to test anything"
        time.sleep(0.02)
    process.kill()
    process.wait(30)
    kept = torn / "teacher.safetensors"
    before = kept.stat().st_mtime_ns if kept.exists() else None
    assert not (torn / "manifest.json").exists()
    assert finish("resume", torn) == 0
    assert weights(torn) == weights(whole) and weights(torn / "teacher") == weights(whole / "teacher")
    assert (torn / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert before is None or kept.stat().st_mtime_ns == before, "what was kept is not asked for again"


def test_resuming_from_the_previous_checkpoint_holds_for_the_teacher_too(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn, settings = tmp_path / "torn", [*FP32, "train.save.steps=2"]
    train = partial(vt.train, photos, teacher=CNN, set=settings, **FAST)
    with monkeypatch.context() as patch:
        patch.setattr(execution, "_finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # the teacher has taken its last step, and nothing of it is sealed
            train(out=torn)
    *_, newest = sorted((torn / "teacher" / "checkpoints").glob("step-*"))
    damaged = max(newest.iterdir(), key=lambda file: file.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(vt.DamagedFile, match=r"teacher.*--previous"):
        vt.resume(torn, quiet=True)
    vt.resume(torn, previous=True, quiet=True)
    train(out=tmp_path / "whole")
    for part in (".", "teacher"):
        assert weights(torn / part) == weights(tmp_path / "whole" / part)


def test_what_is_kept_is_what_the_teacher_says(photos: Path, trained: Path, tmp_path: Path) -> None:
    run = planned(photos, str(trained), "teacher.view=whole")
    prepared, folder = prepare(run.data), RunFolder.create(tmp_path / "run")
    teacher = open_teacher(run, prepared, folder)
    assert teacher.network is not None
    with open_device("cpu", "fp32") as device:
        teacher.study(run, prepared, folder, device)
    pictures = prepared.train
    images = torch.stack([fit(pictures[i].image, run.data.preprocess) for i in range(len(pictures))])
    with torch.no_grad():
        sides = [teacher.network.features(view) for view in (images, images.flip(-1))]
        logits = sum(teacher.network.head(side).double().numpy() for side in sides) / 2
    pooled = sum(side.pooled.double().numpy() for side in sides) / 2
    standard = (pooled - pooled.mean(axis=0)) / np.maximum(pooled.std(axis=0), 1e-6)

    some = np.array([7, 0, 30])
    index = torch.from_numpy(pictures.indices[some])
    answers = teacher(Batch(images[some], torch.zeros(3, dtype=torch.int64), index))
    assert answers.logits is not None and not answers.features.requires_grad
    assert np.allclose(answers.logits.numpy(), logits[some], rtol=2e-3, atol=2e-3)
    assert np.allclose(answers.features.numpy()[:, :, 0, 0], standard[some], rtol=5e-3, atol=5e-3)

    again = open_teacher(run, prepared, folder, going_on=True)
    assert again.network is None, "the teacher may be gone by now"
    with open_device("cpu", "fp32") as device:
        again.study(run, prepared, folder, device)
    assert all(torch.equal(a, b) for a, b in zip(again(Batch(images[some], index, index)), answers, strict=True))

    damaged = bytearray((folder.path / "teacher.safetensors").read_bytes())
    damaged[-5] ^= 1
    (folder.path / "teacher.safetensors").write_bytes(damaged)
    with pytest.raises(vt.DamagedFile, match=r"teacher\.safetensors"), open_device("cpu", "fp32") as device:
        again.study(run, prepared, folder, device)


@pytest.mark.parametrize("at", ["pooled", "map"])
def test_a_teacher_sees_what_its_pupil_sees_and_learns_nothing(
    photos: Path, trained: Path, tmp_path: Path, at: str
) -> None:
    run = planned(photos, str(trained), f"teacher.distill.at={at}", "task.mix.mixup=0.8")  # mixed pictures too
    prepared, folder = prepare(run.data), RunFolder.create(tmp_path / "run")
    with open_device("cpu", "fp32") as device:
        teacher = open_teacher(run, prepared, folder)
        trainer = build(run, prepared, build_network(run.network), folder, device, teacher=teacher)
        teacher.study(run, prepared, folder, device)
        network = teacher.network
        assert network is not None
        teachers = {id(p) for p in network.parameters()}
        before = {name: t.clone() for name, t in network.state_dict().items()}
        assert not teachers & {id(p) for p in trainer.task.parameters()}
        batch = trainer.train.at(0)
        with torch.no_grad():
            seen = network.features(batch.image)
            assert torch.allclose(teacher(batch).logits, network.head(seen))  # type: ignore[arg-type]
        trainer.fit()
    assert not network.training and all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


def test_classes_in_another_order_and_other_classes(photos: Path, trained: Path, draw: Draw, tmp_path: Path) -> None:
    run = planned(photos, str(trained))
    prepared = prepare(run.data)
    source = prepared.source
    source.classes = source.classes[::-1]
    source.labels = 1 - source.labels
    assert open_teacher(run, prepared, RunFolder(tmp_path)).columns == [1, 0]
    for number in range(12):
        draw(tmp_path / "others", "round", number)
        draw(tmp_path / "others", "square", number)
    taught = vt.train(tmp_path / "others", out=tmp_path / "run", teacher=trained, **FAST)
    assert taught.card["teacher"]["says"] == "features" and "accuracy" not in taught.card["teacher"]
    assert any("knows other classes: its features teach" in notice for notice in taught.card["notices"])


def test_a_teacher_that_knows_pictures_that_are_to_measure_is_told_of(
    photos: Path, trained: Path, tmp_path: Path
) -> None:
    same = open_teacher(run := planned(photos, str(trained)), prepare(run.data), RunFolder(tmp_path))
    assert same.facts["notices"] == [], "validation that it was chosen on as well is no leak"
    other = adjust(run, ["data.split_salt=other"])
    teacher = open_teacher(other, prepare(other.data), RunFolder(tmp_path))
    test, val = teacher.facts["notices"]
    assert test.endswith("test pictures: the accuracy on them flatters.")
    assert val.endswith("validation pictures: the accuracy on those flatters.")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["teacher.view=whole", "task.mix.mixup=0.8"], "cannot answer for mixed ones; set teacher.view=same"),
        (["teacher.view=whole", "teacher.distill.at=map"], "set teacher.view=same"),
        (["teacher.share=1"], "between 0 and 1"),
        (["teacher.distill.logits=0", "teacher.distill.features=0"], "teaches nothing"),
    ],
)
def test_contradictions_are_refused(photos: Path, trained: Path, changes: list[str], words: str) -> None:
    with pytest.raises(vt.UsageError, match=words):
        planned(photos, str(trained), *changes)


def test_teachers_that_cannot_teach_are_refused(photos: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(vt.UsageError, match=r"'resnet20_cifr' is no run folder.* did you mean resnet20_cifar"):
        named("resnet20_cifr")
    with pytest.raises(vt.UsageError, match="not a run folder"):
        named(str(photos))
    run, prepared = planned(photos, str(trained)), prepare(planned(photos, str(trained)).data)
    assert run.teacher is not None
    other = replace(run, teacher=replace(run.teacher, sha256="0" * 64))
    with pytest.raises(vt.UsageError, match="holds other weights than the teacher had"):
        open_teacher(other, prepared, RunFolder(tmp_path))
    grey = replace(run, network=replace(run.network, mean=(0.5,), std=(0.5,)))
    with pytest.raises(vt.UsageError, match="reads pictures of 3 channels, not 1"):
        open_teacher(grey, prepared, RunFolder(tmp_path))
    shutil.copytree(trained, tmp_path / "old")
    before = weights(tmp_path / "old")
    with pytest.raises(vt.UsageError, match="lies where the run itself is to be"):
        vt.train(photos, out=tmp_path / "old", teacher=tmp_path / "old", overwrite=True, **FAST)
    assert weights(tmp_path / "old") == before


def test_a_pupils_time_begins_when_its_teachers_did(photos: Path, tmp_path: Path) -> None:
    pupil = execute(planned(photos, CNN, "train.budget_seconds=5"), tmp_path / "run", quiet=True)
    budget = read_run(RunFolder(tmp_path / "run" / "teacher")).train.budget_seconds
    assert budget is not None and 0 < budget < 0.4 * 5, "what preparing took is nobody's to share"
    took = 60 * vt.load(tmp_path / "run" / "teacher").card["cost"]["minutes"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines()]
    assert all(row["seconds"] > took for row in rows if "seconds" in row) and took > 0.5 * budget
    assert pupil.card["cost"]["minutes"] * 60 >= took and pupil.card["teacher"]["share_of_time"] < 1


def test_time_is_shared(photos: Path, taught: Path, tmp_path: Path) -> None:
    run = planned(photos, CNN, "train.budget_seconds=1000")
    first = own_run(run, left=900.0)
    assert first.train.budget_seconds == 360.0 and first.train.epochs is None and first.teacher is None
    assert earlier(RunFolder(taught)) == pytest.approx(60 * vt.load(taught).card["teacher"]["minutes"])
    assert earlier(RunFolder(tmp_path)) == 0
    shutil.copytree(taught / "teacher", tmp_path / "torn" / "teacher")
    assert earlier(RunFolder(tmp_path / "torn")) == 60 * vt.load(taught / "teacher").card["cost"]["minutes"]


def test_a_teacher_that_would_take_most_of_the_budget_is_refused(
    photos: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitreous.run.teacher.speed", lambda *_, **__: 10.0)
    old = shutil.copytree(trained, tmp_path / "old")
    wishes = {"teacher": trained, "out": old, "overwrite": True, **FAST, "epochs": None, "budget": "8s"}
    with pytest.raises(vt.UsageError, match=r"takes about .* longer --budget.*teacher\.view=same"):
        vt.train(photos, set=["teacher.view=whole", *FP32], **wishes)
    assert weights(old) == weights(trained), "what was there is lost to no refusal"


# ---------------------------------------------------------------- published weights

MODEL, TAG = "mobilenetv3_small_050", "lamb_in1k"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    import huggingface_hub

    torch.manual_seed(0)
    network = build_network(NetworkConfig(model=MODEL, classes=1000, size=224))
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with fake_hub.serving() as hub:
        fake_hub.point_client(monkeypatch, hub.endpoint, tmp_path / "home")
        hub.add(f"timm/{MODEL}.{TAG}", safetensors.torch.save(tensors))
        yield hub
        huggingface_hub.close_session()


@pytest.mark.slow
def test_published_weights_teach_with_their_features(hub: FakeHub, photos: Path, tmp_path: Path) -> None:
    taught = vt.train(photos, out=tmp_path / "run", teacher=f"hub:{MODEL}", **FAST)
    said = taught.card["teacher"]
    assert (said["says"], said["licence"]) == ("features", "Apache-2.0")
    assert said["settings"]["place"].startswith(f"hub:{MODEL}.{TAG}@") and said["settings"]["view"] == "whole"
    assert taught.card["initialisation"] == "scratch"
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert "teacher_features" in rows[0] and "teacher" not in rows[0]
    with pytest.raises(vt.UsageError, match="No published weights"):
        named(f"hub:{CNN}")


def test_execute_takes_a_teacher_like_any_other_setting(photos: Path, trained: Path, tmp_path: Path) -> None:
    run = replace(planned(photos, CNN, "train.epochs=0.3"), teacher=TeacherConfig(place=str(trained)))
    assert "teacher" in execute(run, tmp_path / "run", quiet=True).card
