"""MAE: its loss against NumPy in float64, what is hidden from the encoder, and who gets a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked import Unwatched, batch, network, over, shaken, some
from torch import Tensor

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.errors import UsageError
from vitreous.tasks.mae import Mae, MaeConfig
from vitreous.types import Batch, Sample

VIT, SIZE, PATCH, N, M = "vit_pico_patch4_32", 16, 4, 16, 12


def made(name: str = VIT, size: int = SIZE, **config: object) -> Mae:
    task = Mae(
        network(name, size), MaeConfig(**config), Preprocess(size=size, store=size), AugmentConfig(), Unwatched()
    )
    shaken(task)
    return task.train()


def given(b: int = 3) -> Batch:
    return batch(b, SIZE, some(b, N, M))


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
    task, asked = made(normalise=normalise), given()
    single = float(task.loss(asked).total.detach())
    double = float(task.double().loss(asked).total.detach())
    assert by_hand(task, asked) == pytest.approx(double, rel=1e-12)
    assert single == pytest.approx(double, rel=1e-5)


def changed(asked: Batch, where: Tensor) -> Batch:
    """The batch with other pixels at some places."""
    return asked._replace(image=torch.where(where, 255 - asked.image, asked.image))


@pytest.mark.parametrize("name", [VIT, "cct_2_3x2_32"])
def test_the_encoder_sees_nothing_of_what_is_hidden(name: str) -> None:
    task = made(name, 32 if "cct" in name else SIZE).eval()
    side, size = task.grid[0], task.preprocess.size
    asked = batch(2, size, some(2, side * side, side * side // 2))
    assert asked.hidden is not None
    hidden = over(asked.hidden, task.patch, size)
    images = [task.network.normalise(x.image) for x in (asked, changed(asked, hidden), changed(asked, ~hidden))]
    as_before, without, other = (task.painted(image, asked.hidden) for image in images)
    assert torch.equal(as_before, without) and not torch.allclose(as_before, other, atol=1e-3)


def test_what_is_seen_counts_only_through_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    task, asked = made(), given()
    hidden = over(asked.hidden, PATCH, SIZE)
    fixed = task.painted(task.network.normalise(asked.image), asked.hidden).detach()
    monkeypatch.setattr(task, "painted", lambda image, hidden: fixed)
    losses = [float(task.loss(x).total.detach()) for x in (asked, changed(asked, ~hidden), changed(asked, hidden))]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("name", [VIT, "vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_every_parameter_learns_but_the_classifier(name: str) -> None:
    size = 16 if name == VIT else 64 if "patch16" in name else 56
    task = made(name, size)
    n = task.grid[0] ** 2
    task.loss(batch(2, size, some(2, n, n // 2))).total.backward()
    still = {name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == {"network.head.fc.weight", "network.head.fc.bias"}


def test_the_same_twice() -> None:
    task, asked = made(), given()
    losses = []
    for _ in range(2):
        task.zero_grad()
        loss = task.loss(asked)
        loss.total.backward()
        losses.append([loss.total.detach(), *(p.grad.clone() for p in task.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_autocast_costs_little_precision() -> None:
    task, asked = made(), given()
    exact = float(task.loss(asked).total.detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(asked).total
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(exact, rel=0.02)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_blank_picture_has_a_finite_loss_and_gradient(normalise: bool) -> None:
    task, asked = made(normalise=normalise), given()
    loss = task.loss(asked._replace(image=torch.full_like(asked.image, 7))).total
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


def test_views_hide_the_same_number_everywhere_and_follow_the_seed() -> None:
    task = made(mask=0.75)
    samples = [Sample(torch.randint(256, (3, 20, 18), dtype=torch.uint8), 0, i) for i in range(4)]
    drawn = [task.views(train)(samples, [np.random.default_rng(i) for i in range(4)]) for train in (True, True, False)]
    assert torch.equal(drawn[0].image, drawn[1].image) and torch.equal(drawn[0].hidden, drawn[1].hidden)
    assert all(d.image.shape == (4, 3, SIZE, SIZE) and d.hidden.sum(1).tolist() == [M] * 4 for d in drawn)
    assert len({tuple(row.tolist()) for row in drawn[0].hidden}) == 4


def test_it_learns_eight_pictures() -> None:
    task, asked = made(depth=1), given(8)
    blocks = torch.randint(256, (8, 3, 2, 2), dtype=torch.uint8).float()
    asked = asked._replace(image=torch.nn.functional.interpolate(blocks, (SIZE, SIZE), mode="bilinear").byte())
    optimiser = torch.optim.Adam(task.parameters(), lr=3e-3)
    for _ in range(200):
        optimiser.zero_grad()
        loss = task.loss(asked).total
        loss.backward()
        optimiser.step()
    assert task.nothing == 1.0 and float(loss.detach()) < 0.3


def test_panels_show_the_picture_what_was_seen_and_what_was_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    task, asked = made(normalise=False), given()
    hidden = over(asked.hidden, PATCH, SIZE)
    true, seen, painted = task.show(asked).unbind(1)
    torch.testing.assert_close(true, asked.image / 255)
    torch.testing.assert_close(seen, torch.where(hidden, task.network.mean, asked.image / 255))
    assert torch.equal(painted.masked_fill(hidden, 0), true.masked_fill(hidden, 0)) and not torch.equal(painted, true)


def test_painting_the_mean_is_having_learned_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = made(normalise=False)
    everything = [given(5)._replace(hidden=torch.ones(5, N, dtype=torch.bool)), given(3)]
    everything[1] = everything[1]._replace(hidden=torch.ones(3, N, dtype=torch.bool))
    assert task.nothing == float("inf")
    task.evaluate(everything, lambda x: x)
    pixels = np.concatenate([task.network.normalise(x.image).numpy() for x in everything]).astype(np.float64)
    best = ((pixels - pixels.mean((0, 2, 3), keepdims=True)) ** 2).mean()
    assert task.nothing == pytest.approx(best, rel=1e-5)


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
        made(**values).views(True)
