"""Distillation against the same formulas in NumPy float64, and against what must not move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.errors import UsageError
from vitreous.tasks.distill import Answers, Distill, DistillConfig, distance, divergence
from vitreous.tasks.task import Loss
from vitreous.types import Batch, Features


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_is_the_one_on_paper(temperature: float) -> None:
    teacher, student = 3 * noise(5, 7), 3 * noise(5, 7, seed=1)
    p, q = (softmax(x.numpy().astype(np.float64) / temperature) for x in (teacher, student))
    wanted = temperature**2 * (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
    assert divergence(teacher, student, temperature).item() == pytest.approx(wanted, rel=1e-5)
    assert divergence(teacher, teacher + 3.0, temperature).item() == pytest.approx(0, abs=1e-5)


def test_at_high_temperature_its_gradient_is_that_of_matching_logits() -> None:
    # Hinton et al. 2015, equation 4: (z - v) / k for logits of zero mean, times our T squared and over the batch
    teacher, student = (x - x.mean(1, keepdim=True) for x in (noise(4, 6), noise(4, 6, seed=1)))
    student.requires_grad_()
    divergence(teacher, student, 1000.0).backward()
    assert torch.allclose(student.grad, (student - teacher).detach() / 6 / 4, atol=1e-4)


@pytest.mark.parametrize(("own", "other"), [((1, 1), (1, 1)), ((4, 4), (2, 2)), ((2, 2), (4, 4)), ((6, 4), (3, 8))])
def test_the_distance_is_one_less_the_cosine_of_averaged_cells(own: tuple[int, int], other: tuple[int, int]) -> None:
    student, teacher, projector = noise(3, 5, *own), noise(3, 8, *other, seed=1), nn.Linear(5, 8)
    rows, columns = min(own[0], other[0]), min(own[1], other[1])

    def cells(x: torch.Tensor) -> np.ndarray:  # (b, rows, columns, d)
        b, d, h, w = x.shape
        pooled = x.double().numpy().reshape(b, d, rows, h // rows, columns, w // columns).mean(axis=(3, 5))
        return pooled.transpose(0, 2, 3, 1)

    weight, bias = (p.detach().double().numpy() for p in projector.parameters())
    found, wanted = cells(student) @ weight.T + bias, cells(teacher)
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(wanted, axis=-1)
    cosine = (found * wanted).sum(axis=-1) / norms
    assert distance(projector, student, teacher).item() == pytest.approx(1 - cosine.mean(), rel=1e-5)


BATCH = Batch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4) % 3, torch.arange(4))
OWN = Loss(torch.tensor(2.0), {"cross_entropy": torch.tensor(2.0)})


def make(asked: list[Batch] | None = None, speaks: bool = True, **options: object) -> tuple[Distill, Answers]:
    answers = Answers(noise(4, 3, seed=3) if speaks else None, noise(4, 6, 1, 1, seed=4))

    def ask(batch: Batch) -> Answers:
        if asked is not None:
            asked.append(batch)
        return answers

    return Distill(DistillConfig(**options), (5, 6), ask, lambda step: min(1.0, step / 10)), answers


def test_the_parts_add_up() -> None:
    guide, answers = make(logits=0.25, features=2.0, temperature=3.0)
    logits, features = noise(4, 3), Features((), noise(4, 5, seed=2))
    found = guide(OWN, logits, features, BATCH)
    told = divergence(answers.logits, logits, 3.0)
    shown = distance(guide.projector, features.pooled[:, :, None, None], answers.features)
    assert found.total.item() == pytest.approx((0.75 * OWN.total + 0.25 * told + 2 * shown).item(), rel=1e-6)
    assert set(found.parts) == {"cross_entropy", "teacher", "teacher_features"}
    assert not any(value.requires_grad for value in found.parts.values())


def test_a_teacher_of_other_classes_leaves_the_labels_their_weight() -> None:
    guide, answers = make(speaks=False)
    features = Features((), noise(4, 5, seed=2))
    shown = distance(guide.projector, features.pooled[:, :, None, None], answers.features)
    assert guide(OWN, noise(4, 3), features, BATCH).total.item() == pytest.approx((2 + shown).item(), rel=1e-6)


def test_features_fade_and_a_teacher_with_nothing_to_say_is_not_asked() -> None:
    asked: list[Batch] = []
    guide, _ = make(asked, logits=0.0, fade=0.5)
    weights = [float(guide.weight)]
    for step in range(10):
        guide.after_step(step)
        weights.append(float(guide.weight))
    assert weights == pytest.approx([max(0.0, 1 - step / 5) for step in range(11)])
    assert guide(OWN, noise(4, 3), Features((), noise(4, 5)), BATCH) is OWN and not asked


def test_the_weight_is_part_of_the_state_and_the_teacher_is_not() -> None:
    guide, _ = make()
    guide.after_step(2)
    other, _ = make()
    other.load_state_dict(guide.state_dict())
    assert float(other.weight) == float(guide.weight) == pytest.approx(0.5)
    assert set(guide.state_dict()) == {"weight", "projector.weight", "projector.bias"}


@pytest.mark.parametrize(
    "wrong",
    [{"logits": 1.1}, {"temperature": 0.0}, {"features": -1.0}, {"fade": 0.0}, {"logits": 0.0, "features": 0.0}],
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        DistillConfig(**wrong)
