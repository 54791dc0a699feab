"""What is chosen for which pictures, and that every choice is said."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vitreous.data.dataset import open_source
from vitreous.errors import BadData, UsageError
from vitreous.network import IMAGENET_MEAN, IMAGENET_STD, NetworkConfig, build_network
from vitreous.recipes import Wishes, adjust, choose
from vitreous.recipes.auto import glance
from vitreous.recipes.scratch import expected_epochs
from vitreous.weights import foreign
from vitreous.weights.pretrained import Published


@pytest.fixture
def folder(tmp_path: Path):
    """A function that writes a folder of two classes with pictures of one size."""

    def write(width: int, height: int, count: int = 12) -> Path:
        rng = np.random.default_rng(0)
        for i in range(count):
            place = tmp_path / "data" / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(place / f"{i}.png")
        return tmp_path / "data"

    return write


@pytest.mark.parametrize(
    ("side", "size", "model"),
    [
        (28, 32, "hybrid_tiny_32"),
        (64, 64, "hybrid_tiny_64"),
        (120, 96, "hybrid_tiny_96"),
        (500, 96, "hybrid_tiny_96"),
    ],
)
def test_size_and_model_follow_the_pictures(folder, side: int, size: int, model: str) -> None:
    run, reasons = choose(Wishes(data=str(folder(side, side))))
    assert (run.data.preprocess.size, run.network.size, run.network.model) == (size, size, model)
    assert run.network.classes == 2
    assert any(r.startswith(f"size {size}") for r in reasons) and any(r.startswith(f"model {model}") for r in reasons)


@pytest.mark.parametrize(
    ("wishes", "training", "width"),
    [
        ({"epochs": 200}, 2000, "small"),
        ({"epochs": 199}, 2000, "tiny"),
        ({"epochs": 200}, 1999, "tiny"),
        ({"budget": "20s"}, 5000, "tiny"),
        ({"budget": "2h"}, 5000, "small"),
        ({"set": ["train.steps=20000"]}, 5000, "small"),  # 64 pictures each
        ({"epochs": 500, "recipe": "plain"}, 2000, "small"),
        ({"epochs": 500, "model": "hybrid_tiny_96"}, 2000, "tiny"),
        ({"epochs": 500, "set": ["network.model=hybrid_tiny_96"]}, 2000, "tiny"),
    ],
)
def test_much_time_on_many_pictures_takes_the_wider_network(folder, wishes, training: int, width: str) -> None:
    source = open_source(str(folder(96, 96)))
    seen = replace(glance(source), pictures=2 * training, training=training)
    run, reasons = choose(Wishes(data=source.root, **wishes), source, seen=seen)
    assert run.network.model == f"hybrid_{width}_96"
    assert any("instead" in reason for reason in reasons) == (width == "small")


def test_a_model_that_was_asked_for_is_taken_at_a_size_it_can_use(folder) -> None:
    place = str(folder(200, 180))
    assert choose(Wishes(data=place, model="resnet18"))[0].network.size == 160
    assert choose(Wishes(data=place, model="resnet18", size=128))[0].network.size == 128
    assert choose(Wishes(data=place, model="resnet20_cifar"))[0].network.size == 96


@pytest.mark.parametrize(("width", "policy"), [(100, "crop"), (179, "crop"), (300, "letterbox")])
def test_elongated_pictures_are_not_cropped(folder, width: int, policy: str) -> None:
    run, reasons = choose(Wishes(data=str(folder(width, 100))))
    assert run.data.preprocess.policy == policy
    assert any("elongated" in r for r in reasons) == (policy == "letterbox")
    assert choose(Wishes(data=run.data.source, resize="squash"))[0].data.preprocess.policy == "squash"


def test_digits_are_not_mirrored_and_other_pictures_are(folder) -> None:
    run, reasons = choose(Wishes(data="digits"))
    assert run.task.augment.flip == 0 and any("mirror" in r for r in reasons)
    assert choose(Wishes(data=str(folder(40, 40))))[0].task.augment.flip == 0.5


@pytest.mark.parametrize(("count", "batch"), [(12, 4), (200, 16), (3000, 64)])
def test_batches_grow_with_the_data(folder, count: int, batch: int) -> None:
    assert choose(Wishes(data=str(folder(8, 8, count))))[0].train.batch == batch


@pytest.mark.parametrize(
    ("model", "mean", "std", "why"),
    [
        ("vit_tiny_patch16_224", 0.5, 0.5, "all published weights of vit_tiny"),
        ("mobilevit_xs", 0.0, 1.0, "all published weights of mobilevit_xs"),
        ("swin_tiny_patch4_window7_224", 0.485, 0.229, "all published weights"),
        ("vit_base_patch16_224", 0.485, 0.229, "differ in it, pretrained"),  # augreg and DINO
        ("resnet20_cifar", 0.485, 0.229, "the file does not say"),
    ],
)
def test_weights_of_a_file_get_the_constants_of_their_model(
    folder, tmp_path: Path, model: str, mean: float, std: float, why: str
) -> None:
    file = tmp_path / "w.safetensors"
    file.touch()
    run, reasons = choose(Wishes(data=str(folder(32, 32)), model=model, weights=str(file)))
    assert (run.network.mean[0], run.network.std[0]) == (mean, std)
    assert [why in r for r in reasons if r.startswith(f"pixels of mean ({mean}, ")] == [True]


def test_no_model_is_chosen_for_the_weights_of_a_file(folder, tmp_path: Path) -> None:
    (tmp_path / "resnet18.pth").touch()
    with pytest.raises(UsageError, match=r"resnet18\.pth does not say which model .* --model"):
        choose(Wishes(data=str(folder(32, 32)), weights=str(tmp_path / "resnet18.pth")))


def test_a_file_of_ours_says_its_constants(folder, tmp_path: Path) -> None:
    network = build_network(NetworkConfig(model="vit_tiny_patch16_224", classes=2, size=32))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    wishes = Wishes(data=str(folder(32, 32)), model="vit_tiny_patch16_224", size=32)
    run, reasons = choose(replace(wishes, weights=str(tmp_path / "w.safetensors")))
    assert (run.network.mean, run.network.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert any("as w.safetensors says" in r for r in reasons)
    foreign.load(build_network(run.network), tmp_path / "w.safetensors")


@pytest.mark.parametrize(("side", "size"), [(60, 98), (150, 126), (500, 224)])
def test_a_size_that_is_chosen_is_one_of_whole_patches(folder, side: int, size: int) -> None:
    run, _ = choose(Wishes(data=str(folder(side, side)), model="vit_large_patch14_224"))
    assert run.network.size == run.data.preprocess.size == size


def test_time_is_limited_unless_epochs_are_asked_for(folder) -> None:
    place = str(folder(32, 32))
    run, reasons = choose(Wishes(data=place))
    assert run.train.budget_seconds == 600 and any("--budget" in r for r in reasons)
    run, reasons = choose(Wishes(data=place, epochs=3))
    assert (run.train.epochs, run.train.budget_seconds) == (3, None) and not any("--budget" in r for r in reasons)
    assert choose(Wishes(data=place, budget="90s"))[0].train.budget_seconds == 90


def test_places_are_kept_so_that_they_lead_there_from_elsewhere(folder, monkeypatch) -> None:
    place = folder(32, 32)
    monkeypatch.chdir(place.parent)
    (place.parent / "w.safetensors").touch()
    run, _ = choose(Wishes(data="data", model="resnet18", weights="w.safetensors"))
    assert run.data.source == str(place) and run.weights == str(place.parent / "w.safetensors")
    (place.parent / "digits").mkdir()
    assert choose(Wishes(data="digits"))[0].data.source == "digits"  # the embedded set, whatever lies here
    os.chdir("/")
    assert choose(Wishes(data=run.data.source))[0].network.classes == 2


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"model": "resnet19"}, "did you mean"),
        ({"size": 7}, "--size must be at least 8"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"epochs": 0}, "--epochs must be more than 0"),
        ({"epochs": float("nan")}, "--epochs must be more than 0"),
        ({"budget": "soon"}, "soon"),
        ({"recipe": "best"}, "--recipe is one of auto, scratch, plain"),
        ({"recipe": "scratch", "pretrained": True}, "--recipe scratch begins from scratch"),
        ({"recipe": "plain", "weights": "runs/a"}, "--recipe plain begins from scratch"),
        ({"recipe": "scratch", "set": ["weights=runs/a"]}, "--recipe scratch begins from scratch"),
        ({"recipe": "plain", "teacher": "resnet18"}, "without a teacher"),
        ({"set": ["train.epochs"]}, "write NAME=VALUE"),
    ],
)
def test_wishes_that_cannot_be_are_refused_before_any_work(wish: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose(Wishes(data="digits", **wish))


def test_pictures_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"not a picture")
    with pytest.raises(BadData, match="can be read; `vitreous check`"):
        choose(Wishes(data=str(tmp_path)))


def test_pictures_that_are_seen_often_are_varied_more(folder) -> None:
    place = str(folder(40, 40))
    for epochs, policy in ((10, "none"), (100, "trivial")):
        run, reasons = choose(Wishes(data=place, epochs=epochs))
        assert run.task.augment.policy == policy
        assert any("TrivialAugment" in reason for reason in reasons) == (policy == "trivial")
    assert choose(Wishes(data="digits", epochs=100))[0].task.augment.policy == "none"


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        (["train.epochs=10"], "none"),
        (["train.epochs=100"], "trivial"),
        (["train.steps=100"], "none"),  # 40 pass through in batches of 4: ten times each
        (["train.steps=1000"], "trivial"),
        (["train.steps=100", "train.batch=40"], "trivial"),
        (["train.epochs=100", "task.augment.policy=three"], "three"),
        (["train.epochs=100", "task.augment.flip=0"], "none"),
    ],
)
def test_variation_follows_the_length_that_was_set(folder, changes: list[str], policy: str) -> None:
    """Whatever the default budget would have asked for."""
    place = str(folder(40, 40, 57))  # 40 of them to learn from
    run, reasons = choose(Wishes(data=place, batch=4, set=changes))
    assert run.task.augment.policy == policy
    assert any("TrivialAugment" in reason for reason in reasons) == (policy == "trivial")
    assert not any("--budget" in reason for reason in reasons), "that default is not what holds"
    if len(changes) == 1 and "epochs" in changes[0]:
        assert run == choose(Wishes(data=place, batch=4, epochs=float(changes[0].split("=")[1])))[0]


def test_the_textbook_control_is_what_its_name_says() -> None:
    novice = ["train.optim.name=adamw", "train.optim.ema=none", "task.label_smoothing=0", "task.augment.policy=none"]
    for wishes in ({"data": "digits"}, {"data": "shapes", "model": "vit_pico_patch4_32", "size": 32, "epochs": 100}):
        plain, reasons = choose(Wishes(recipe="plain", **wishes))
        assert plain == adjust(choose(Wishes(**wishes))[0], novice)
        assert any(reason.startswith("recipe plain: AdamW") for reason in reasons)
    changed, _ = choose(Wishes(data="digits", recipe="plain", set=["train.optim.name=sgd"]))
    assert changed.train.optim.name == "sgd", "what was set counts more"


@pytest.fixture
def at_hand(folder, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pictures of 96 px, on a machine where the usual published weights lie in the cache."""
    monkeypatch.setattr(Published, "cached", lambda self: self._replace(sha256="0" * 64))
    monkeypatch.setattr(Published, "fetch", lambda self: (self._replace(sha256="0" * 64), Path()))
    return str(folder(96, 96))


def test_from_scratch_takes_no_weights_and_says_so(at_hand: str) -> None:
    assert choose(Wishes(data=at_hand))[0].weights is not None
    run, reasons = choose(Wishes(data=at_hand, recipe="scratch"))
    assert run.weights is None and run.network.model == "hybrid_tiny_96"
    assert any(reason.startswith("recipe scratch") for reason in reasons)


@pytest.mark.parametrize(
    ("change", "begins"),
    [
        ("train.budget_seconds=0.01", False),  # no more than --budget would
        ("train.budget_seconds=600", True),
        ("train.epochs=1", True),
        ("train.optim.lr=0.02", False),  # a rate is meant for a way to begin, and without a cache that is from scratch
        ("train.optim.ema=none", False),
        ("tune.guard=off", False),
        ("train.batch=8", True),
    ],
)
def test_what_was_set_means_the_same_with_a_cache_and_without(
    at_hand: str, monkeypatch: pytest.MonkeyPatch, change: str, begins: bool
) -> None:
    run, _ = choose(Wishes(data=at_hand, set=[change]))
    assert (run.weights is not None) == begins
    monkeypatch.setattr(Published, "cached", lambda self: None)
    without, _ = choose(Wishes(data=at_hand, set=[change]))
    assert begins or without == run


def test_nothing_is_said_of_variation_that_tuning_does_not_have(folder, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.touch()
    for tune in ("full", "plain"):
        run, reasons = choose(
            Wishes(data=str(folder(40, 40)), model="resnet18", weights=str(file), epochs=100, tune=tune)
        )
        assert run.task.augment.policy == "none" and not any("TrivialAugment" in reason for reason in reasons)


def test_the_threads_of_who_asks_change_no_run(folder) -> None:
    wishes, before = Wishes(data=str(folder(40, 40)), model="resnet20_cifar"), torch.get_num_threads()
    times = {}
    try:
        for threads in (1, 8):
            torch.set_num_threads(threads)
            chosen = [choose(replace(wishes, budget=f"{2**i / 100:g}s"))[0] for i in range(14)]
            times[threads] = [run.task.augment.policy for run in chosen]
    finally:
        torch.set_num_threads(before)
    assert times[1] == times[8] and {"none", "trivial"} == set(times[1])


def test_a_teacher_that_is_trained_first_takes_time_from_what_is_seen(folder) -> None:
    def times(**more: object) -> float:
        _, reasons = choose(Wishes(data=str(folder(40, 40)), budget="1h", recipe="scratch", **more))
        (said,) = (reason for reason in reasons if reason.startswith("TrivialAugment"))
        return float(re.findall(r"about (\d+) times", said)[0])

    alone = times()
    assert times(teacher="resnet20_cifar") == pytest.approx(0.6 * alone, rel=1e-3)
    assert times(teacher="resnet20_cifar", set=["teacher.share=0.2"]) == pytest.approx(0.8 * alone, rel=1e-3)


@pytest.mark.parametrize(
    ("given", "test", "training"), [("", 0.15, 140), ("", 0.0, 170), ("test", 0.15, 85), ("val", 0.15, 100)]
)
def test_pictures_to_learn_from_are_those_that_nothing_else_needs(
    folder, given: str, test: float, training: int
) -> None:
    source = open_source(str(folder(8, 8, 200)))
    if given:
        source.split = np.repeat(np.array([0, {"val": 1, "test": 2}[given]], np.int8), 100)
    assert glance(source, test).training == training


def test_more_time_means_more_passes() -> None:
    once, twice = (expected_epochs("hybrid_tiny_32", 32, 1000, seconds) for seconds in (60, 120))
    assert twice == pytest.approx(2 * once)
    assert expected_epochs("hybrid_tiny_32", 64, 1000, 60) == pytest.approx(once / 4, rel=0.2)  # four times the pixels
