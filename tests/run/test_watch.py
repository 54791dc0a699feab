"""What is looked at while a network learns without labels: each number against its own computation, each verdict."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from digits import Digits, Sides
from masked import CNN, mae, simmim
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from vitreous.data.loader import Loader
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Evaluate, Transform
from vitreous.run.watch import COLLAPSED, Watcher
from vitreous.tasks.task import Loss, SelfSupervised
from vitreous.training.device import Device
from vitreous.training.norms import remeasure
from vitreous.types import Batch, Features

CPU = Device(place=torch.device("cpu"))
SIZE = 8


def watcher(train: int = 0, val: int = 0, classes: int = 0, steps: int = 1_000) -> Watcher:
    """Of a run of so many steps, of which an epoch has 50 and the learning rate rises in a tenth."""
    size = Preprocess(size=SIZE, store=SIZE)
    asked = Sides(train, val, classes)
    return Watcher(asked, size, CPU, batch=16, least=50, progress=lambda step: step / steps, warmup=0.1)


def alone(tensor: Tensor) -> Tensor:
    return tensor


@pytest.mark.parametrize("frozen", [False, True])
def test_the_loss_is_that_of_training_though_norms_know_whole_pictures(frozen: bool) -> None:
    task, few = simmim(CNN), Digits(48)
    if frozen:  # whose norms are not of the batch in training either
        task.network.backbone.freeze()
    remeasure(task, None, Loader(few, Evaluate(task.preprocess), batch=16, train=False), CPU)
    kept = {name: buffer.clone() for name, buffer in task.network.named_buffers()}
    held_out = Loader(few, task.views(True), batch=16, train=False)
    with torch.no_grad():
        whole = np.mean([float(task.eval().loss(batch).total) for batch in held_out.evaluate()])
        task.watch = watcher()
        found = task.evaluate(held_out.evaluate(), alone)["loss"]
        assert not any(module.training for module in task.modules())
        changed = [name for name, buffer in task.network.named_buffers() if not torch.equal(buffer, kept[name])]
        assert not changed
        learned = np.mean([float(task.train().loss(batch).total) for batch in held_out.evaluate()])
    assert found == pytest.approx(learned, rel=1e-6)
    assert (found == pytest.approx(whole, rel=1e-5)) == frozen


# ------------------------------------------------------------ whether going on is of use


@pytest.mark.parametrize(("share", "expected"), [(0.0, "No progress: at step 250 the loss is"), (0.3, "")])
@pytest.mark.parametrize("normalise", [True, False])
def test_painting_every_hidden_patch_alike_is_no_progress(
    normalise: bool, share: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, few = mae(normalise=normalise), Digits(48)
    held_out = Loader(few, task.views(True), batch=16, train=False)
    asked = [task.target(task.network.normalise(x.image), x.hidden).flatten(0, 1) for x in held_out.evaluate()]
    same = torch.cat(asked).mean(dim=0)
    monkeypatch.setattr(task, "painted", lambda image, hidden: same.lerp(task.target(image, hidden), share))
    task.watch = watcher()
    task.after_step(249)
    with torch.no_grad():
        task.evaluate(held_out.evaluate(), alone)
    assert task.halted().startswith(expected) if expected else not task.halted()


@pytest.mark.parametrize(
    ("steps", "step", "expected"),
    [
        (1_000, 100, False),  # the learning rate has just risen
        (1_000, 199, False),
        (1_000, 200, True),
        (200, 60, False),  # of a short run, in which nobody could have learned anything yet
        (200, 100, True),
    ],
)
def test_progress_is_asked_for_when_there_was_time_to_make_it(steps: int, step: int, expected: bool) -> None:
    task = mae()
    task.watch = watcher(steps=steps)
    task.nothing.fill_(1.0)
    task.steps.fill_(step)
    task.watch._judge(task, {"loss": 1.0})
    assert task.halted().startswith("No progress") == expected


# ------------------------------------------------------------ the numbers


class Bare(nn.Module):
    """A network whose features are pixels: 64 of them."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.backbone, self.head = SimpleNamespace(width=64), nn.Linear(1, 1)
        self.register_buffer("mean", torch.zeros(1))
        self.scale = scale

    def features(self, image: Tensor) -> Features:
        return Features(maps=(), pooled=1.0 + self.scale * image[:, 0].flatten(1).float())


class Numbered(SelfSupervised):
    """Whose loss is the mean of the pictures' numbers."""

    def views(self, train: bool, done: float = 0.0) -> Transform:
        return Evaluate(Preprocess(size=8, store=8))

    def loss(self, batch: Batch) -> Loss:
        return Loss(batch.index.double().mean(), {})

    def show(self, batch: Batch) -> Tensor:
        raise NotImplementedError


def looked(watch: Watcher, *, scale: float = 1.0, by_loss: bool = True, step: int = 0) -> dict[str, float]:
    """What ``watch`` finds in 40 pictures, in batches of 16, 16 and 8."""
    task = Numbered(Bare(scale), watch).eval()
    task.by_loss = by_loss
    task.steps.fill_(step)
    held_out = Loader(Digits(40), task.views(False), batch=16, train=False)
    with torch.no_grad():
        return task.evaluate(held_out.evaluate(), alone)


def test_labelled_pictures_answer_through_the_features_and_are_the_score() -> None:
    watch = watcher(train=300, val=100, classes=10)
    found = looked(watch)
    train, val = Digits(300), Digits(100, 300)
    known, asked = (1.0 + side.pixels[:, 0].flatten(1).double().numpy() for side in (train, val))
    linear = [
        make_pipeline(StandardScaler(), LogisticRegression(C=1 / (penalty * 300), max_iter=1000))
        .fit(known, train.labels)
        .score(asked, val.labels)
        for penalty in (1, 1e-1, 1e-2, 1e-3, 1e-4)
    ]
    votes = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=lambda apart: np.exp(-apart / 0.07))
    assert found["linear"] == pytest.approx(max(linear), abs=0.011) and max(linear) > min(linear) + 0.03
    assert found["neighbours"] == pytest.approx(votes.fit(known, train.labels).score(asked, val.labels), abs=1e-9)
    assert 0.8 < found["neighbours"] < found["linear"] < 1
    assert found["score"] == (found["linear"] + found["neighbours"]) / 2
    shares = np.linalg.svd(asked, compute_uv=False)
    shares /= shares.sum()
    assert found["rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert "attention" not in found and not watch.halted()


def test_every_held_out_picture_counts_the_same_in_the_loss() -> None:
    assert looked(watcher())["loss"] == pytest.approx(np.arange(40).mean(), rel=1e-6)


@pytest.mark.parametrize("by_loss", [True, False])
def test_without_labels_the_loss_or_the_rank_is_the_score(by_loss: bool) -> None:
    watch = watcher(val=30)
    found = looked(watch, by_loss=by_loss)
    assert found["score"] == (-found["loss"] if by_loss else found["rank"]) and "linear" not in found
    named = "negative loss on validation" if by_loss else "effective rank on validation"
    assert watch.metric(SimpleNamespace(by_loss=by_loss)) == named


@pytest.mark.parametrize(("scale", "step", "expected"), [(1e-5, 50, True), (1e-5, 49, False), (1.0, 50, False)])
def test_features_that_are_all_the_same_are_a_collapse_after_an_epoch(scale: float, step: int, expected: bool) -> None:
    watch = watcher(val=30)
    found = looked(watch, scale=scale, step=step)
    assert (found["spread"] < COLLAPSED) == (scale < 1)
    assert watch.halted().startswith(f"Collapse: at step {step} all pictures have nearly the same") == expected
