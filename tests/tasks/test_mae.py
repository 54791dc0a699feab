"""MAE: its loss against NumPy in float64, what counts as having learned nothing, and who gets a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked import batch, given, mae

from vitreous.errors import UsageError
from vitreous.tasks.mae import Mae
from vitreous.types import Batch

SIZE, PATCH, N = 16, 4, 16


def by_hand(task: Mae, asked: Batch) -> float:
    """The paper's loss, patch by patch in float64, from what the network painted."""
    image = task.network.double().normalise(asked.image)
    painted = task.double().painted(image, asked.hidden).detach().numpy()
    pixels, errors = image.permute(0, 2, 3, 1).numpy(), []
    for i, row in enumerate(asked.hidden.numpy()):
        for place, patch in enumerate(np.flatnonzero(row)):
            y, x = patch // (SIZE // PATCH) * PATCH, patch % (SIZE // PATCH) * PATCH
            true = pixels[i, y : y + PATCH, x : x + PATCH].ravel()
            if task.config.normalise:
                true = (true - true.mean()) / np.sqrt(true.var(ddof=1) + 1e-6)
            errors.append(np.mean((painted[i, place] - true) ** 2))
    return float(np.mean(errors))


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_the_papers(normalise: bool) -> None:
    task = mae(normalise=normalise)
    asked = given(task)
    assert asked.hidden.sum(1).tolist() == [12] * 3
    single = float(task.loss(asked).total.detach())
    double = float(task.double().loss(asked).total.detach())
    assert by_hand(task, asked) == pytest.approx(double, rel=1e-12)
    assert single == pytest.approx(double, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "size"), [("vit_pico_patch4_32", 16), ("vit_tiny_patch16_224", 64), ("vit_small_patch14_reg4_dinov2", 56)]
)
def test_every_parameter_learns_but_the_classifier(name: str, size: int) -> None:
    task = mae(name, size)
    task.loss(given(task)).total.backward()
    still = {name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {"network.head.fc.weight", "network.head.fc.bias"}


def test_painting_the_mean_is_having_learned_nothing() -> None:
    task = mae(normalise=False)
    everything = [batch(b, SIZE, torch.ones(b, N, dtype=torch.bool)) for b in (5, 3)]
    assert task.nothing == float("inf")
    task.evaluate(everything, lambda x: x)
    pixels = np.concatenate([task.network.normalise(x.image).numpy() for x in everything]).astype(np.float64)
    best = ((pixels - pixels.mean((0, 2, 3), keepdims=True)) ** 2).mean()
    assert task.nothing == pytest.approx(best, rel=1e-5)
    assert mae().nothing == 1.0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "swin_tiny_patch4_window7_224", "size": 32}, "simmim"),
        ({"name": "resnet20_cifar", "size": 16}, "simmim"),
        ({"mask": 0.99}, "leaves none to see"),
        ({"mask": 0.01}, "hides none"),
        ({"size": 4}, "--size 8"),
        ({"width": 30}, "mae.width"),
        ({"width": 64, "heads": 3}, "mae.width"),
        ({"mask": 1.0}, "mae.mask"),
        ({"depth": 0}, "mae.depth"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(values: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        mae(**values).views(True)
