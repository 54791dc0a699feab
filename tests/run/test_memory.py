"""What cannot be trained for want of memory is said before anything is built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitreous as vt
from vitreous import recipes
from vitreous.models import describe
from vitreous.run import memory


def test_what_is_needed_and_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = recipes.choose(recipes.Wishes(data="digits", model="vit_pico_patch4_32", recipe="scratch", epochs=1))
    weights = 4 * sum(p.numel() for p in vt.create("vit_pico_patch4_32", classes=10).parameters())
    run = replace(run, train=replace(run.train, batch=1))
    picture = describe.kept("vit_pico_patch4_32", 32) // 2  # in 16 bits
    copies = 4  # weights, gradients, Muon's momentum, the running average
    for there, fits in ((copies * weights / 0.85 - 2, False), ((copies * weights + picture) / 0.85 + 2, True)):
        monkeypatch.setattr(memory, "memory", lambda place, there=there: there)
        if fits:
            memory.require_memory(run)
        else:
            with pytest.raises(vt.UsageError, match="choose a smaller model"):
                memory.require_memory(run)


def test_a_giant_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory", lambda place: 24 * 10**9)
    with pytest.raises(vt.UsageError, match=r"gigantic.* takes 29 GB .* of 24 GB about 20 can be used"):
        vt.train("digits", model="vit_gigantic_patch14_224", epochs=1, size=28, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "size"),
    [("vit_pico_patch4_32", 32), ("vit_pico_patch4_32", 96), ("hybrid_tiny_32", 32), ("resnet20_cifar", 32)],
)
def test_what_a_picture_leaves_in_memory_is_at_most_what_autograd_holds(name: str, size: int) -> None:
    backbone, held = vt.create(name, classes=10, size=size).backbone.train(), {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: held.setdefault(tensor.untyped_storage().data_ptr(), tensor), lambda tensor: tensor
    ):
        features = backbone(torch.randn(2, 3, size, size))
    assert features.pooled.requires_grad
    own = {parameter.untyped_storage().data_ptr() for parameter in backbone.parameters()}
    bytes_ = sum(tensor.untyped_storage().nbytes() for place, tensor in held.items() if place not in own)
    assert 0.75 * bytes_ / 2 < describe.kept(name, size) <= 1.02 * bytes_ / 2


@pytest.mark.parametrize(
    ("wishes", "batch"),
    [
        ({"batch": 2_000_000}, 4096),
        ({"batch": 2_000_000, "set": ["train.accumulate=100"]}, 4096),
        ({"batch": 20_000}, 4096),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(
    wishes: dict, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "memory", lambda place: 4 * 10**9)
    about = {"model": "hybrid_tiny_32", "epochs": 1, "out": tmp_path / "run", "quiet": True}
    with pytest.raises(vt.UsageError, match=rf"at once takes more than .* choose --batch {batch} or less"):
        vt.train("digits", **about, **wishes)
    assert not (tmp_path / "run").exists()


def test_parts_are_what_has_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = recipes.choose(recipes.Wishes(data="digits", model="hybrid_tiny_32", epochs=1, batch=20_000))
    monkeypatch.setattr(memory, "memory", lambda place: 4 * 10**9)
    memory.require_memory(replace(run, train=replace(run.train, accumulate=4)))
    memory.require_memory(run, world=4)
    with pytest.raises(vt.UsageError, match="20,000 pictures at once"):
        memory.require_memory(run)
