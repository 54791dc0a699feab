"""Learning without labels from the command's side: what it says, keeps, refuses, and goes on with after a kill."""

from __future__ import annotations

import html
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretext_program import task as dino
from safetensors.torch import load_file

import vitreous as vt
from vitreous.network import NetworkConfig, build_network
from vitreous.run import execution
from vitreous.run.methods import advised
from vitreous.run.strips import GAP, KEPT, SIDE, crowded, strip
from vitreous.run.watch import attention_entropy, told

MODEL = "vit_pico_patch4_32"
FAST = {"model": MODEL, "batch": 16, "quiet": True, "method": "mae"}
Draw = Callable[..., Path]


def many(draw: Draw, folder: Path, number: int, first: int = 0) -> Path:
    for i in range(first, first + number // 2):
        draw(folder, "round", i)
        draw(folder, "long", i)
    return folder


def flattened(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.rglob("*.png"):
        shutil.copy(path, to / f"{path.parent.name}-{path.name}")
    return to


@pytest.fixture(scope="module")
def flat(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flattened(photos, tmp_path_factory.mktemp("flat") / "photos")


@pytest.fixture(scope="module")
def nameless(flat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on pictures without labels. Do not change it."""
    out = tmp_path_factory.mktemp("nameless") / "run"
    vt.pretrain(flat, epochs=2, out=out, **FAST)
    return out


def values(run: Path) -> list[dict[str, float]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["val"] for row in rows if "val" in row]


# ---------------------------------------------------------------- strips


def test_too_many_strips_are_thinned_evenly_and_alike_however_often_it_is_asked() -> None:
    kept: list[int] = []
    for step in range(0, 4000, 7):
        kept.append(step)
        for gone in crowded(kept):
            kept.remove(gone)
        assert crowded(kept) == []
    assert len(kept) == KEPT and kept[0] == 0 and kept[-1] == 3997
    gaps = np.diff(kept[:-1])
    assert gaps.max() <= 2.5 * gaps.min()


@pytest.mark.parametrize("side", [8, 32, 200])
def test_a_strip_holds_every_panel_where_it_belongs(side: int) -> None:
    shown = torch.rand(3, 2, 3, 1, 1).expand(-1, -1, -1, side, side)
    drawn = strip(shown)
    cell = (drawn.shape[2] + GAP) // 3
    assert drawn.shape[1:] == (2 * cell - GAP, 3 * cell - GAP) and cell - GAP <= SIDE
    for column in range(3):
        for row in range(2):
            inside = drawn[:, row * cell : (row + 1) * cell - GAP, column * cell : (column + 1) * cell - GAP]
            assert (inside[3] == 255).all()
            assert (inside[:3].float() / 255 - shown[column, row, :, :1, :1]).abs().max() < 0.01
    assert drawn[3].min() == 0


def test_strips_are_of_the_same_pictures_and_lie_under_the_manifest(nameless: Path) -> None:
    drawn = sorted(nameless.glob("learned/*.png"))
    assert [p.stem for p in drawn] == ["step-00000000", "step-00000005", "step-00000010"]
    cells = [
        np.asarray(Image.open(path))[: 2 * (SIDE + GAP)] for path in drawn
    ]  # the picture, and what is hidden of it
    assert all(np.array_equal(cells[0], other) for other in cells)
    assert not np.array_equal(Image.open(drawn[0]), Image.open(drawn[-1]))
    vt.load(nameless)
    listed = json.loads((nameless / "manifest.json").read_text())["files"]
    assert {f"learned/{path.name}" for path in drawn} <= set(listed)


# ---------------------------------------------------------------- attention, sentences


def test_the_entropy_of_attention_is_that_of_its_weights() -> None:
    network = build_network(NetworkConfig(model=MODEL, classes=2, size=32)).eval()
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "qkv.weight" in name:
                parameter.mul_(8)
    found = attention_entropy(network, image)
    expected = []
    tokens = network.backbone.embed(network.normalise(image))

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].double()
        b, n, d = x.shape
        qkv = (x @ module.qkv.weight.double().T + module.qkv.bias.double()).view(b, n, 3, module.heads, -1)
        q, k = qkv[:, :, 0].transpose(1, 2).detach().numpy(), qkv[:, :, 1].transpose(1, 2).detach().numpy()
        weights = np.exp(q @ k.swapaxes(-1, -2) / math.sqrt(d // module.heads))
        weights /= weights.sum(-1, keepdims=True)
        expected.append(float(-(weights * np.log(weights)).sum(-1).mean() / math.log(n)))

    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if hasattr(m, "attend")]
    network.backbone.encode(tokens)
    assert len(hooks) == len(expected) > 2
    assert found == pytest.approx(np.mean(expected), abs=1e-5) and 0.1 < found < 0.99


@pytest.mark.parametrize(
    ("before", "after", "asked", "step", "expected"),
    [
        (0.5, 0.8, 200, 9, "became better"),
        (0.5, 0.55, 200, 9, "not clearly better"),
        (0.8, 0.5, 200, 9, "became worse"),
        (0.8, 0.8, 200, 0, "No step made"),
    ],
)
def test_what_is_told_of_the_features(before: float, after: float, asked: int, step: int, expected: str) -> None:
    first, kept = ({"linear": share, "neighbours": share} for share in (before, after))
    said = told(first, kept, asked, "of the untrained network", step)
    assert expected in said and said.endswith(".")


def test_features_are_judged_by_the_mean_of_both_probes_as_they_are_chosen() -> None:
    first, kept = {"linear": 0.9, "neighbours": 0.4}, {"linear": 0.8, "neighbours": 0.8}
    said = told(first, kept, 500, "of the untrained network", 9)
    assert "became better" in said and "80.0% of the time, before 90.0%" in said and "80.0%, before 40.0%" in said


# ---------------------------------------------------------------- with and without labels


def test_without_labels_it_works_and_says_what_it_cannot_say(nameless: Path, flat: Path, photos: Path) -> None:
    assert all({"loss", "rank", "spread", "attention"} <= set(v) and "linear" not in v for v in values(nameless))
    page = (nameless / "report.html").read_text()
    assert "Without labels nobody can tell" in page and "What it learned" in page and "It learned from" in page
    assert "Where it errs" not in page and page.count("data:image/png") == 3
    run = vt.load(nameless)
    assert run.card["learned"]["method"] == "mae" and run.card["selection"]["metric"] == "negative loss on validation"
    for ask in (
        lambda: run.predict(flat),
        lambda: vt.evaluate(nameless, photos, quiet=True),
        lambda: vt.evaluate(nameless),
    ):
        with pytest.raises(vt.UsageError, match=r"no classifier; give it one with vitreous train .* --weights"):
            ask()


def test_the_page_holds_what_the_teacher_says_against_what_says_nothing(
    nameless: Path, flat: Path, tmp_path: Path
) -> None:
    vt.pretrain(flat, epochs=2, out=tmp_path / "run", **FAST | {"method": "dino", "batch": 16})
    said = html.unescape((tmp_path / "run" / "report.html").read_text())
    assert "Teacher's answers, nats" in said and "all alike: ln K" in said
    assert "Teacher's answers" not in html.unescape((nameless / "report.html").read_text())


def test_a_run_with_labels_begins_with_one_without(nameless: Path, photos: Path, tmp_path: Path) -> None:
    trained = vt.train(photos, weights=nameless, model=MODEL, epochs=0.5, batch=16, quiet=True, out=tmp_path / "run")
    assert str(nameless) in trained.card["initialisation"] and trained.classes == ("long", "round")


def test_pictures_of_one_class_teach_without_labels(draw: Draw, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for number in range(110):
        draw(folder, "round", number)
    run = vt.pretrain(folder, epochs=0.5, out=tmp_path / "run", **FAST)
    assert run.classes == () and "linear" not in run.card["learned"]["kept"]


def test_a_table_with_some_labels_missing_measures_by_those_there_are(photos: Path, tmp_path: Path) -> None:
    rows = [
        f"{path},{path.parent.name if number % 4 < 2 else ''}"
        for number, path in enumerate(sorted(photos.rglob("*.png"), key=lambda path: path.name))
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label", *rows]))
    run = vt.pretrain(table, epochs=0.5, out=tmp_path / "run", **FAST)
    pictures = run.card["data"]["pictures"]
    assert pictures["unlabelled"] > 40
    assert "linear" in run.card["learned"]["kept"]


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"size": 8, "model": "vit_pico_patch8_64"}, vt.UsageError, r"whole patches of 8 px.*--size"),
        ({"set": ["pretrain.mae.mask=0.999"]}, vt.UsageError, r"mask"),
        ({"set": ["pretrain.mae.mask=0.001"]}, vt.UsageError, "hides none of 64 patches; take 0.6"),
        ({"method": "simmim", "set": ["pretrain.simmim.mask=0.999"]}, vt.UsageError, "leaves none to see"),
        ({"method": "simmim", "size": 8, "model": "vit_pico_patch8_64"}, vt.UsageError, "larger --size"),
        ({"method": "dino", "size": 8, "model": "vit_pico_patch8_64"}, vt.UsageError, r"2 patches of 8 px.*--size 32"),
        ({"method": "dino", "batch": 7}, vt.UsageError, r"batch of 7 is too small for dino.*--batch 64"),
        ({"method": "simmim", "model": "resnet20_cifar", "batch": 1}, vt.UsageError, r"batch norms.*larger --batch"),
        ({"unlabelled": "nowhere"}, vt.UsageError, "nowhere"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    photos: Path, tmp_path: Path, changes: dict[str, object], kind: type[vt.VitreousError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        vt.pretrain(photos, epochs=1, out=tmp_path / "run", **(FAST | changes))
    assert not (tmp_path / "run").exists()


def test_99_pictures_are_too_few(draw: Draw, tmp_path: Path) -> None:
    folder = many(draw, tmp_path / "photos", 98)
    draw(folder, "round", 1000)
    with pytest.raises(vt.BadData, match=r"99 pictures are too few.*--unlabelled"):
        vt.pretrain(folder, epochs=1, out=tmp_path / "run", **FAST)


def test_pictures_of_less_than_two_patches_are_too_small(tmp_path: Path) -> None:
    for i in range(100):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (7, 20, 3), np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(vt.BadData, match=r"7 px at the median, less than two patches.*8 px or more"):
        vt.pretrain(tmp_path, epochs=1, out=tmp_path / "run", **FAST)


@pytest.mark.parametrize(
    ("name", "batch", "world", "accumulate", "expected"),
    [
        ("vit_pico_patch4_32", 64, 1, 64, ""),
        ("vit_pico_patch4_32", 63, 1, 1, "A batch of 63 is small for dino"),
        ("resnet20_cifar", 64, 2, 16, ""),
        ("resnet20_cifar", 64, 2, 32, None),  # one picture in each part
        ("resnet20_cifar", 65, 1, 4, ""),  # 17, 17, 17 and 14
        ("resnet20_cifar", 73, 1, 9, None),  # eight parts of 9, and 1 is left
    ],
)
def test_what_speaks_against_a_batch(name: str, batch: int, world: int, accumulate: int, expected: str | None) -> None:
    asked = dino(name=name, size=0)
    if expected is None:
        with pytest.raises(vt.UsageError, match="batch norms"):
            advised(asked, batch, world=world, accumulate=accumulate)
    else:
        assert advised(asked, batch, world=world, accumulate=accumulate)[: len(expected) or None] == expected


def test_broken_pictures_are_left_out_or_refused(draw: Draw, tmp_path: Path) -> None:
    folder = many(draw, tmp_path / "photos", 104)
    for path in sorted(folder.rglob("*.png"))[:5]:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(vt.BadData, match=r"5 of 104 pictures cannot be used.*--allow-bad"):
        vt.pretrain(folder, epochs=1, out=tmp_path / "run", **FAST)
    run = vt.pretrain(folder, epochs=0.3, out=tmp_path / "run", allow_bad=0.1, **FAST)
    assert len(run.card["data"]["unreadable"]) == 5


# ---------------------------------------------------------------- kill and resume


@pytest.mark.parametrize(("method", "model"), [("mae", MODEL), ("simmim", "resnet20_cifar"), ("dino", MODEL)])
def test_killed_and_resumed_is_never_stopped(method: str, model: str, photos: Path, draw: Draw, tmp_path: Path) -> None:
    flattened(many(draw, tmp_path / "more", 40, first=500), tmp_path / "flat")
    options = ["pretrain", photos, "--unlabelled", "flat", "--method", method, "--model", model, "--epochs", "2"]
    options += ["--batch", "16", "--set", "train.save.steps=2", "--quiet"]
    command = [sys.executable, "-m", "vitreous"]
    for place in ("whole", "torn"):
        process = subprocess.Popen([*command, *map(str, options), "--out", place], cwd=tmp_path)
        if place == "whole":
            assert process.wait(200) == 0
            continue
        deadline = time.monotonic() + 120
        while not list((tmp_path / place).glob("checkpoints/step-000000[1-9]*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
        process.wait(30)
    assert not (tmp_path / "torn" / "manifest.json").exists(), "it was killed too late to test anything"
    assert subprocess.run([*command, "resume", tmp_path / "torn", "--quiet"], timeout=200, check=False).returncode == 0
    whole, torn = (
        {n: t.numpy().tobytes() for n, t in load_file(tmp_path / run / "weights.safetensors").items()}
        for run in ("whole", "torn")
    )
    assert whole == torn
    for name in (
        "metrics.jsonl",
        "outputs.safetensors",
        *(f"learned/{p.name}" for p in tmp_path.glob("whole/learned/*")),
    ):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(list(tmp_path.glob("torn/learned/*"))) == len(list(tmp_path.glob("whole/learned/*")))
    assert json.loads((tmp_path / "torn" / "card.json").read_text())["data"]["pictures"]["unlabelled"] == 40


def test_resumed_after_its_last_step_it_still_knows_what_was_measured(
    nameless: Path, flat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(execution, "_finish", killed)
        vt.pretrain(flat, epochs=2, out=tmp_path / "run", **FAST)
    resumed = vt.resume(tmp_path / "run", quiet=True).card["learned"]
    assert resumed == vt.load(nameless).card["learned"] and resumed["nothing"] > 0.1
