"""DINO: its loss against NumPy in float64, who follows whom, what is kept, and what of collapses is noticed."""

from __future__ import annotations

import math
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from masked import FAMILIES
from pretext_program import Views, task
from scipy.special import erf
from sklearn.datasets import load_digits
from torch import Tensor, nn

from vitreous.config import override
from vitreous.data.loader import Loader
from vitreous.errors import UsageError
from vitreous.store.checkpoint import RunFolder
from vitreous.tasks.dino import Dino, DinoConfig, Head
from vitreous.training.config import TrainConfig
from vitreous.training.device import Device
from vitreous.training.interrupt import Interrupted
from vitreous.training.optim import OptimConfig, Optimiser, members
from vitreous.training.schedule import warmup_cosine
from vitreous.training.state import State
from vitreous.training.step import Stepper
from vitreous.training.trainer import Trainer
from vitreous.types import Batch, Sample

SEEDS = range(int(os.environ.get("VITREOUS_SEEDS", "2")))  # 20 were measured: docs/pretrain.md
CPU = Device(place=torch.device("cpu"))


def stepper(made: Dino, **optim: object) -> Stepper:
    config = OptimConfig(**{"name": "adamw", "ema": None, "warmup": 0.0} | optim)
    return Stepper(State(made, Optimiser(made, config), None), CPU, accumulate=1, seed=0)


# ------------------------------------------------------------ the loss


def answered(head: Head, pooled: Tensor, made: Dino) -> np.ndarray:
    """What a head says of pooled vectors, in float64."""
    weight = {name: p.detach().double().numpy() for name, p in head.state_dict().items()}
    x = (pooled.detach().double().numpy() - made.mean.double().numpy()) / np.sqrt(made.variance.double().numpy() + 1e-6)
    for name in ("first", "second", "third"):
        x = x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]
        x = x if name == "third" else x * (1 + erf(x / math.sqrt(2))) / 2
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    prototypes = weight["prototypes.weight"]
    return x @ (prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)).T


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def by_hand(made: Dino, batch: Batch, temperature: float) -> float:
    """Algorithm 1 of the paper, pair by pair."""
    large = [made.network.normalise(x) for x in (batch.image, *batch.views.unbind(1))]
    small = [made.network.normalise(x) for x in batch.crops.unbind(1)]
    centre = made.centre.double().numpy()
    wanted = [
        softmax((answered(made.teacher_head, made.network.backbone(x).pooled, made) - centre) / temperature)
        for x in large
    ]
    found = [softmax(answered(made.head, made.student(x).pooled, made) / made.config.student) for x in large + small]
    pairs = [(p, q) for i, p in enumerate(wanted) for j, q in enumerate(found) if i != j]
    return float(np.mean([-(p * np.log(q)).sum(axis=1).mean() for p, q in pairs]))


@pytest.mark.parametrize(("done", "temperature"), [(0.0, 0.04), (0.15, 0.055), (0.9, 0.07)])
def test_the_loss_is_the_papers(done: float, temperature: float) -> None:
    made = task(teacher=(0.04, 0.07))
    with torch.no_grad():
        made.centre.normal_(std=0.1)
        made.mean.normal_(std=0.1)
        made.variance.uniform_(0.5, 2.0)
        for p in made.head.parameters():
            p.add_(torch.randn_like(p) * 0.02)
    made.done.fill_(done)
    batch = Views().at(0)
    assert made.loss(batch).total.item() == pytest.approx(by_hand(made, batch, temperature), rel=1e-6)


# ------------------------------------------------------------ the teacher, and what it knows


def test_the_teacher_gets_no_gradient_and_moves_by_its_average_alone() -> None:
    made = task()
    step, teacher = stepper(made), {n: p.clone() for n, p in made.network.backbone.named_parameters()}
    heads = {n: p.clone() for n, p in made.teacher_head.named_parameters()}
    step.update(Views().at(0), 0, 1.0)
    assert not any(p.requires_grad for p in (*made.network.parameters(), *made.teacher_head.parameters()))
    weight = made.config.weight(0.0, 1 / 20)
    for before, now, student in ((teacher, made.network.backbone, made.student), (heads, made.teacher_head, made.head)):
        ahead = dict(student.named_parameters())
        for name, p in now.named_parameters():
            assert torch.allclose(p, before[name] + weight * (ahead[name] - before[name]), atol=1e-7), name
            assert not torch.equal(ahead[name], before[name]) or name == "prototypes.weight", name


def test_student_and_teacher_begin_from_the_weights_that_were_loaded() -> None:
    made = task()
    pairs = zip(made.student.state_dict().items(), made.network.backbone.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert all(x is not y for x, y in zip(made.student.parameters(), made.network.backbone.parameters(), strict=True))


def test_the_students_matrices_are_treated_as_those_of_a_network() -> None:
    made = task()
    treated = {m.name: m for m in members(made, OptimConfig(name="muon"))}
    assert {n.split(".")[0] for n in treated} == {"student", "head"}
    assert treated["student.blocks.0.attn.qkv.weight"].rule == "muon"
    assert treated["student.patch_embed.proj.weight"].rule == "adamw"
    assert treated["head.second.weight"].rule == "adamw" and treated["student.norm.weight"].decay == 0


def test_schedules_are_the_published_ones() -> None:
    config = DinoConfig(teacher=(0.04, 0.07), warmup=0.3)
    assert [config.temperature(x) for x in (0, 0.15, 0.3, 1)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    long = [1 - config.weight(done, 1e-5) for done in (0, 0.25, 0.5, 1)]
    paper = [1 - 0.004 * (math.cos(math.pi * done) + 1) / 2 for done in (0, 0.25, 0.5, 1)]
    assert long == pytest.approx(paper, rel=1e-12)
    assert config.weight(0.0, 1 / 1_000) == pytest.approx(0.03) and config.weight(0.0, 0.1) == pytest.approx(0.04)
    assert DinoConfig(momentum=1.0).weight(0.0, 0.1) == 0


def test_the_prototypes_stay_as_drawn_until_they_are_set_free() -> None:
    made = task(freeze=0.1)
    step, drawn = stepper(made), made.head.prototypes.weight.clone()
    for i in range(2):
        step.update(Views().at(i), i, 1.0)
        assert torch.equal(made.head.prototypes.weight, drawn)
    step.update(Views().at(2), 2, 1.0)
    assert not torch.equal(made.head.prototypes.weight, drawn)


def test_centre_and_spread_follow_what_the_teacher_said() -> None:
    made = task()
    batch = Views().at(0)
    large = made.network.normalise(torch.cat([batch.image, batch.views[:, 0]]))
    with torch.no_grad():
        pooled = made.network.backbone(large).pooled
        logits = made.teacher_head(made._even(pooled))
        answers = (logits / 0.04).softmax(1).double().numpy()
    made.loss(batch)
    made.after_step(0)
    assert torch.allclose(made.centre, 0.1 * logits.mean(0), atol=1e-6)
    assert torch.allclose(made.mean, pooled.mean(0), atol=1e-5)
    assert torch.allclose(made.variance, pooled.var(0, correction=0), rtol=1e-4, atol=1e-6)
    mean = answers.mean(0)
    together = -(mean * np.log(mean)).sum()
    told = together + (answers * np.log(answers)).sum(1).mean()
    assert float(made.entropy) == pytest.approx(0.8 * math.log(32) + 0.2 * together, abs=1e-5)
    assert float(made.information) == pytest.approx(0.8 + 0.2 * told, abs=1e-5)


def test_batch_norms_of_the_teacher_measure_what_passes_through_it_and_nothing_is_dropped() -> None:
    made = task(name="resnet20_cifar", size=0)
    norms = [m for m in made.network.modules() if isinstance(m, nn.BatchNorm2d)]
    others = [m for m in made.network.modules() if isinstance(m, (nn.Dropout, nn.Linear))]
    assert all(m.training for m in norms) and not any(m.training for m in others)
    before, students = norms[0].running_mean.clone(), made.student.state_dict()
    stepper(made).update(Views().at(0), 0, 1.0)
    name = next(n for n in students if n.endswith("running_mean"))
    assert not torch.equal(norms[0].running_mean, before)
    assert not torch.equal(norms[0].running_mean, made.student.state_dict()[name])  # which also saw small views
    assert not any(m.training for m in made.eval().network.modules())


def test_a_step_that_is_not_finite_leaves_no_trace() -> None:
    made = task(name="resnet20_cifar", size=0)
    step = stepper(made)
    step.update(Views().at(0), 0, 1.0)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    bad = Views().at(1)
    bad.image[0, 0, 0, 0] = math.nan
    assert not step.update(bad, 1, 1.0).finite
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    assert not made.tally.any()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_learns_and_shows_where_it_looks(name: str) -> None:
    made = task(name=name, size=0)
    size = made.preprocess.size
    samples = [Sample(torch.randint(256, (3, size + 8, size), dtype=torch.uint8), 0, i) for i in range(4)]
    batch = made.views(True)(samples, [np.random.default_rng(i) for i in range(4)])
    assert batch.crops.shape[-1] % made.network.backbone.strides[-1] == 0
    assert stepper(made).update(batch, 0, 1.0).finite
    shown = made.eval().show(batch)
    assert shown.shape == (4, 2, 3, size, size) and shown.isfinite().all()
    assert shown.min() >= 0 and shown.max() <= 1 and not torch.equal(shown[:, 0], shown[:, 1])


def test_the_class_token_looks_where_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    made = task(name="vit_tiny_patch16_224", size=0).eval()
    with torch.no_grad():
        attention = made.network.backbone.blocks[-1].attn
        attention.qkv.weight.zero_()
        attention.qkv.bias.zero_()
        looked = made._looked(torch.randn(2, 3, 64, 64))
    assert torch.allclose(looked, torch.full((2, 4, 4), 1 / 17))  # of equal weights each cell has its share


# ------------------------------------------------------------ kept, and shared


def test_stopped_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    def trainer(place: Path, stop_at: int | None = None) -> Trainer:
        data = Views()
        if stop_at is not None:
            serve = data.at
            data.at = lambda s: (s == stop_at and os.kill(os.getpid(), signal.SIGTERM), serve(s))[1]
        folder = RunFolder(place) if place.exists() else RunFolder.create(place)
        made = task(teacher=(0.04, 0.07), freeze=0.2)
        config = TrainConfig(steps=10, evaluate_every=5, precision="fp32", optim=OptimConfig(ema=None))
        return Trainer(made, config, train=data, val=None, folder=folder, device=CPU)

    torch.set_num_threads(1)
    whole = trainer(tmp_path / "whole").fit().weights
    for stop in (2, 6):
        with pytest.raises(Interrupted):
            trainer(tmp_path / "parts", stop).fit(resume=True)
    parts = trainer(tmp_path / "parts").fit(resume=True).weights
    states = [RunFolder(tmp_path / name).latest().tensors for name in ("whole", "parts")]
    kept = {"centre", "done", "entropy", "information", "network.backbone.norm.weight"}
    assert {f"task.{name}" for name in kept} <= set(states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


# ------------------------------------------------------------ collapses


class Digits:
    """Handwritten digits in memory."""

    pixels = torch.tensor(load_digits().images[:1440] * 15, dtype=torch.uint8)[:, None].expand(-1, 3, -1, -1)
    labels = np.zeros(1440, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Sample:
        return Sample(self.pixels[i], 0, i)


EPOCH, BEGIN = 90, 30  # steps


def course(seed: int, injected: str) -> str:
    """Why training was ended within an epoch of what was ``injected``; empty if it was not."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    made = task(prototypes=256, hidden=64, bottleneck=32)
    made.progress = lambda step: step / 300
    loader = Loader(Digits(), made.views(True), batch=16, train=True, seed=seed, workers=0)
    step, boost = stepper(made, name="muon", lr=5e-4, muon_lr=0.01), 1.0
    for i, batch in enumerate(loader.train(0, BEGIN + EPOCH)):
        if i == BEGIN and injected == "temperature":
            made.config = replace(made.config, teacher=(1.0, 1.0))
        elif i == BEGIN and injected == "no centring":
            made.config = replace(made.config, centre=1.0)
            made.centre.zero_()
        elif i == BEGIN and injected == "learning rate":
            boost = 100.0
        step.update(batch, i, warmup_cosine(i / 300, 0.1, 0.0) * boost)
        if made.halted():
            return made.halted()
    return ""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("injected", "what", "remedy"),
    [
        ("temperature", "is spread evenly over its 256 prototypes", "--set pretrain.dino.teacher=0.04,0.04"),
        ("no centring", "of its 256 prototypes", "--set pretrain.dino.centre=0.9"),
        ("learning rate", "", "train.optim.muon_lr tenfold"),  # which of the two it becomes is luck
    ],
)
def test_a_collapse_is_named_as_what_it_is_within_an_epoch(injected: str, what: str, remedy: str, seed: int) -> None:
    why = course(seed, injected)
    assert why.startswith("Collapse: ") and what in why and remedy in why and "lower train.optim.lr" in why


@pytest.mark.parametrize(
    ("together", "told", "expected"),
    [
        (0.99 * math.log(32), 0.05, "spread evenly over its 32"),
        (math.log(2), 0.6, "spread over 2.0 of its 32"),  # two that are told apart, and will not be for long
        (2.0, 0.05, "0.050 nats about its picture"),
        (2.0, 0.2, ""),
        (math.log(32), math.log(32), ""),  # the most that can be: one prototype for each picture
    ],
)
def test_what_the_entropies_mean(together: float, told: float, expected: str) -> None:
    made = task()
    made.entropy.fill_(together)
    made.information.fill_(told)
    why = made.halted()
    assert expected in why if expected else not why
    advised = re.findall(r"--set pretrain\.dino\.(\w+)=(\S+[^\s,.])", why)
    assert override(DinoConfig(), dict(advised)) == DinoConfig(), "what is advised can be typed, and is the default"
    assert bool(advised) == bool(why)


def test_pictures_that_are_not_learned_from_come_as_they_are() -> None:
    made = task()
    side = made.preprocess.size
    image = torch.arange(3 * side * side).reshape(3, side, side).to(torch.uint8)
    seen = made.views(False)([Sample(image=image, label=0, index=0)], [np.random.default_rng(0)])
    assert torch.equal(seen.image[0], image) and seen.views is None and seen.crops is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_healthy_course_is_never_stopped(seed: int) -> None:
    assert course(seed, "") == ""


@pytest.mark.parametrize(
    "wrong",
    [{"large": 1}, {"small": -1}, {"small_size": 0}, {"student": 0.0}, {"teacher": (0.04, -1.0)}, {"momentum": 1.5}],
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        DinoConfig(**wrong)
