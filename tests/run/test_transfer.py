"""Weights to begin with: what frozen features are worth, what becomes of them, and what would destroy them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vitreous as vt
from vitreous.analyse.probe import logistic
from vitreous.data.prepare import Prepared, prepare
from vitreous.network import Network, build_network
from vitreous.recipes import Wishes, adjust, choose
from vitreous.run import frozen, rates, start
from vitreous.run.outcome import answer
from vitreous.run.plan import Run
from vitreous.training.device import open_device
from vitreous.training.interrupt import Interrupted
from vitreous.training.log import Log

TINY = ["network.options.depth=2", "network.options.width=48", "network.options.heads=3", "train.precision=fp32"]
FAST: dict[str, Any] = {"batch": 32, "quiet": True, "set": ["train.precision=fp32"]}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT that knows digits a little. Do not change it."""
    out = tmp_path_factory.mktemp("known") / "run"
    vt.train("digits", model="vit_pico_patch4_32", size=16, batch=32, epochs=6, out=out, set=TINY, quiet=True)
    return out


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 digits of six classes that are called otherwise."""
    from PIL import Image

    from vitreous.data.dataset import open_source
    from vitreous.data.image import decode
    from vitreous.data.preprocess import Preprocess

    folder, source = tmp_path_factory.mktemp("few"), open_source("digits")
    for i in [i for i in range(len(source)) if source.labels[i] < 6][:400:2]:
        place = folder / f"d{source.labels[i]}" / f"{i}.png"
        place.parent.mkdir(exist_ok=True)
        pixels = decode(source.read(i), Preprocess(size=32, store=32)).pixels
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(place)
    return folder


def begun(data: Path, weights: Path, *changes: str, **wishes: Any) -> tuple[Run, Network, Prepared, start.Start]:
    """The start of a run that nothing is trained of."""
    run, _ = choose(Wishes(data=str(data), weights=str(weights), batch=32, **({"epochs": 2, "tune": "full"} | wishes)))
    run = adjust(run, ["train.precision=fp32", *changes])
    prepared = prepare(run.data)
    with open_device("cpu", "fp32") as device:
        found = start.begin(run, prepared, device, Log(None))
    return run, found.network, prepared, found


def card(run: Path) -> dict[str, Any]:
    return json.loads((run / "card.json").read_text())


def test_the_classifier_begins_with_scikit_learns_solution(digits: Path, few: Path) -> None:
    _, network, prepared, found = begun(few, digits)
    train, val = answer(network, prepared.train), answer(network, prepared.val)
    held = (val.pooled.numpy(), val.labels.numpy())
    solved = logistic(train.pooled.numpy(), train.labels.numpy(), held, classes=6)
    np.testing.assert_allclose(val.logits.numpy(), solved.logits(held[0]), rtol=1e-3, atol=1e-3)
    assert found.baseline is not None and found.baseline.head == "logistic regression"
    assert found.baseline.logistic == float((val.logits.argmax(1) == val.labels).double().mean()) > 0.7
    assert found.baseline.pictures == len(prepared.train) == found.run.tune.pictures


def test_two_summaries_share_the_solution(few: Path) -> None:
    run, _ = choose(Wishes(data=str(few), model="deit_tiny_distilled_patch16_224", size=32, epochs=1))
    options = ["network.options.depth=1", "network.options.width=24", "network.options.heads=2"]
    run = adjust(run, options)
    prepared = prepare(run.data)
    torch.manual_seed(0)
    network = build_network(run.network)
    seen = answer(network, prepared.train)
    solved = logistic(seen.pooled.numpy(), seen.labels.numpy(), None, classes=network.config.classes)
    frozen.take(network, solved)
    again = answer(network, prepared.train)
    np.testing.assert_allclose(again.logits.numpy(), solved.logits(seen.pooled.numpy()), rtol=1e-3, atol=1e-3)


def test_a_run_is_never_below_its_frozen_baseline(digits: Path, few: Path, tmp_path: Path) -> None:
    for name, changes in {"tuned": [], "spoiled": ["train.optim.lr=0.3", "tune.guard=off"]}.items():
        vt.train(
            few, weights=digits, tune="full", epochs=2, out=tmp_path / name, **FAST | {"set": [*FAST["set"], *changes]}
        )
        told = card(tmp_path / name)
        assert told["frozen"]["logistic"] == json.loads((tmp_path / name / "frozen.json").read_text())["logistic"]
        assert told["metrics"]["val"]["accuracy"] >= told["frozen"]["logistic"]
    assert told["selection"]["step"] == 0 and "nothing of them was trained" in told["notices"][-1]
    assert "logistic regression" in (tmp_path / "spoiled" / "report.html").read_text()


def test_frozen_trains_nothing(digits: Path, few: Path, tmp_path: Path) -> None:
    run = vt.train(few, weights=digits, tune="frozen", out=tmp_path / "run", **FAST)
    before, after = load_file(digits / "weights.safetensors"), load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    assert run.card["train"]["steps"] == 0 and run.card["frozen"]["neighbours"] > 0.7
    assert run.card["metrics"]["val"]["accuracy"] == run.card["frozen"]["logistic"]
    vt.train(tmp_path / "run" / "run.json", out=tmp_path / "again", quiet=True)
    again = load_file(tmp_path / "again" / "weights.safetensors")
    assert all(torch.equal(after[name], again[name]) for name in after)


def test_lora_ships_a_plain_network_and_repeats_and_resumes(digits: Path, few: Path, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    # the weights at the beginning are not to be chosen: then nothing would be shown
    settings = [*FAST["set"], "train.evaluate_first=false"]
    wishes = {"weights": digits, "tune": "lora", "epochs": 4, **FAST, "set": settings}
    vt.train(few, out=whole, **wishes)
    before, after = load_file(digits / "weights.safetensors"), load_file(whole / "weights.safetensors")
    assert set(before) == set(after)
    moved = {name for name in before if name.startswith("backbone.") and not torch.equal(before[name], after[name])}
    assert moved == {f"backbone.blocks.{i}.attn.{part}.weight" for i in (0, 1) for part in ("qkv", "proj")}

    def stop(self: Any, batch: Any, step: int, *rest: Any) -> Any:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, batch, step, *rest)

    from vitreous.training.step import Stepper

    update = Stepper.update
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Stepper, "update", stop)
        vt.train(few, out=torn, **wishes | {"set": [*settings, "tune.guard=off"]})
    vt.resume(torn, quiet=True)
    resumed = load_file(torn / "weights.safetensors")
    assert all(torch.equal(resumed[name], after[name]) for name in after)
    assert card(torn)["frozen"]["logistic"] == card(whole)["frozen"]["logistic"]


def test_a_rate_that_destroys_is_refused_or_lowered(digits: Path, few: Path, tmp_path: Path) -> None:
    with pytest.raises(
        vt.UsageError, match=r"rate of 0\.3 destroys .*train\.optim\.lr=0\.\d+.*tune\.guard=off"
    ) as told:
        changes = [*FAST["set"], "train.optim.lr=0.3"]
        vt.train(few, weights=digits, tune="full", epochs=1, out=tmp_path / "a", **FAST | {"set": changes})
    assert not (tmp_path / "a").exists()
    sound = float(str(told.value).split("train.optim.lr=")[1].split(",")[0])
    run, _, _, found = begun(few, digits, "train.optim.lr=0.3", "tune.guard=lower")
    assert found.run.train.optim.rate == sound < run.train.optim.rate and found.run.tune.guard == "refuse"
    _, _, _, kept = begun(few, digits)
    assert kept.run.train.optim == choose(Wishes(data=str(few), weights=str(digits), tune="full"))[0].train.optim


def test_looking_for_a_rate_changes_nothing(digits: Path, few: Path) -> None:
    _, with_look, _, _ = begun(few, digits, "train.optim.lr=0.3", "tune.guard=lower")
    _, without, _, _ = begun(few, digits, "tune.guard=off")
    ours, theirs = with_look.state_dict(), without.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_classes_keep_a_classifier_that_is_better(digits: Path) -> None:
    _, network, _, found = begun(Path("digits"), digits, "tune.pictures=20")
    assert found.baseline is not None and found.baseline.classifier is not None
    assert found.baseline.head == "its own"  # twenty pictures teach a regression little
    theirs = load_file(digits / "weights.safetensors")
    assert torch.equal(network.state_dict()["head.fc.weight"], theirs["head.fc.weight"])


def test_weights_that_know_the_test_pictures_are_told_of(digits: Path) -> None:
    run, _ = choose(Wishes(data="digits", weights=str(digits), batch=32, epochs=1, tune="plain"))
    for salt, leaks in ((run.data.split_salt, False), ("other", True)):
        changed = adjust(run, ["train.precision=fp32", "tune.guard=off", f"data.split_salt={salt}"])
        with open_device("cpu", "fp32") as device:
            start.begin(changed, prepare(changed.data), device, log := Log(None))
        who = f"The weights of {digits} were trained"
        assert [notice.startswith(who) for notice in log.notices] == [True, True] * leaks  # test, and validation


class Machine:
    """A clock on which time passes by forward passes alone, whatever else the machine does."""

    def __init__(self, pictures_a_second: float) -> None:
        self.rate, self.seconds = pictures_a_second, 0.0

    def slow(self, network: torch.nn.Module) -> None:
        """``network`` and its copies take this machine's time."""
        network.register_forward_pre_hook(self._pass)

    def _pass(self, module: torch.nn.Module, args: Any) -> None:
        self.seconds += len(args[0]) / self.rate

    def __deepcopy__(self, memo: Any) -> Machine:
        return self


def test_a_short_budget_holds_what_comes_before_the_first_step(
    digits: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a network that sees 200 pictures a second: unbounded it takes 1 s to look, 9 s to try."""
    machine = Machine(200)

    def build(config: Any) -> Network:
        network = build_network(config)
        machine.slow(network.backbone)
        return network

    monkeypatch.setattr(start, "build_network", build)
    run, _ = choose(Wishes(data=str(few), weights=str(digits), batch=32, budget="5s", tune="full"))
    run = adjust(run, ["train.precision=fp32", "train.optim.lr=0.3"])
    prepared = prepare(run.data)
    monkeypatch.setattr(time, "monotonic", lambda: machine.seconds)
    monkeypatch.setattr(time, "perf_counter", lambda: machine.seconds)
    with open_device("cpu", "fp32") as device:
        found = start.begin(run, prepared, device, log := Log(None))
    assert 0 < machine.seconds < 0.5 * 5
    assert found.baseline is not None and found.baseline.pictures == found.run.tune.pictures
    assert found.run.tune.penalty == found.baseline.penalty
    assert "too short to try whether a learning rate of 0.3" in log.notices[0] and found.run.tune.guard == "off"
    with pytest.raises(vt.UsageError, match=r"of validation takes about .* give a longer --budget"):
        begun(few, digits, epochs=None, budget="0.2s")


def test_less_time_means_fewer_pictures_of_a_trial(digits: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 256 pictures a second a trial takes 5 s, at most 3 s are allowed: it is made with 60 %."""
    monkeypatch.setattr(start, "speed", lambda *_, **__: 256.0)
    asked: list[tuple[int, int]] = []

    def attempt(task: Any, optim: Any, train: Any, look: Any, *rest: Any, **more: Any) -> Any:
        asked.append((train.batch, len(look()[1])))
        assert more["seconds"] == 6
        return tried(task, optim, train, look, *rest, **more)

    tried = rates.attempt
    monkeypatch.setattr(rates, "attempt", attempt)
    _, _, prepared, found = begun(few, digits, epochs=None, budget="30s")
    assert asked == [(19, min(154, len(prepared.train)))] and found.run.tune.guard == "off", (
        "what was settled with fewer is not tried again"
    )


def test_no_trial_is_begun_that_ends_too_late(digits: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[rates.Found] = []

    def attempt(*args: Any, **more: Any) -> Any:
        found.append(tried(*args, **more | {"seconds": 0.0}))
        return found[0]

    tried = rates.attempt
    monkeypatch.setattr(rates, "attempt", attempt)
    with pytest.raises(vt.UsageError, match="keep them frozen"):
        begun(few, digits, "train.optim.lr=0.3", "tune.guard=lower")
    assert len(found[0].trials) == 1


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"tune": "lora"}, "give --weights or --pretrained"),
        ({"tune": "frozen", "weights": "w", "epochs": 3}, "--tune frozen trains nothing"),
        ({"set": ["tune.lora=4"]}, "give --weights or --pretrained"),
    ],
)
def test_what_has_no_meaning_is_refused(few: Path, tmp_path: Path, wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(vt.UsageError, match=words):
        vt.train(few, out=tmp_path / "run", **{"quiet": True} | wishes)


def test_lora_needs_attention_with_linear_layers(few: Path, tmp_path: Path) -> None:
    small = ["network.options.depths=1,1,1", "train.precision=fp32"]
    vt.train(few, model="resnet20_cifar", epochs=0.3, batch=32, out=tmp_path / "cnn", set=small, quiet=True)
    with pytest.raises(vt.UsageError, match="resnet20_cifar has no attention"):
        vt.train(few, weights=tmp_path / "cnn", tune="lora", epochs=1, out=tmp_path / "run", quiet=True)
