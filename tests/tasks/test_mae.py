"""MAE: its loss against NumPy in float64, what counts as having learned nothing, and who gets a gradient."""

from __future__ import annotations

import numpy as np
import pytest
from masked import given, mae

from vitreous.errors import UsageError
from vitreous.tasks.mae import Mae
from vitreous.types import Batch

SIZE, PATCH = 16, 4


def hidden_patches(task: Mae, asked: Batch) -> np.ndarray:
    """What is to be painted, patch by patch in float64."""
    pixels, found = task.network.double().normalise(asked.image).permute(0, 2, 3, 1).numpy(), []
    for i, row in enumerate(asked.hidden.numpy()):
        for patch in np.flatnonzero(row):
            y, x = patch // (SIZE // PATCH) * PATCH, patch % (SIZE // PATCH) * PATCH
            true = pixels[i, y : y + PATCH, x : x + PATCH].ravel()
            found.append((true - true.mean()) / np.sqrt(true.var(ddof=1) + 1e-6) if task.config.normalise else true)
    return np.stack(found)


def by_hand(task: Mae, asked: Batch) -> float:
    """The paper's loss from what the network painted."""
    image = task.network.double().normalise(asked.image)
    painted = task.double().painted(image, asked.hidden).detach().flatten(0, 1).numpy()
    return float(np.mean((painted - hidden_patches(task, asked)) ** 2))


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


@pytest.mark.parametrize("normalise", [True, False])
def test_painting_the_same_everywhere_is_having_learned_nothing(normalise: bool) -> None:
    task = mae(normalise=normalise)
    batches = [given(task, 5), given(task, 3)]
    for asked in batches:  # some patches of which have little contrast, and one has none
        asked.image[:, :, :4] = asked.image[:, :, :4] // 100 + 7
        asked.image[0, :, :4, :4] = 9
    assert task.nothing.isinf()
    task.evaluate(batches, lambda x: x)
    wanted = np.concatenate([hidden_patches(task, asked) for asked in batches])
    assert float(task.nothing) == pytest.approx(wanted.var(axis=0).mean(), rel=1e-5)
    assert task.nothing < (PATCH**2 * 3 - 1) / (PATCH**2 * 3) or not normalise


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
