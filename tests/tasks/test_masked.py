"""What MAE and SimMIM have in common: hidden parts that nobody sees, a loss of them alone, panels to look at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from masked import CNN, FAMILIES, SWIN, VIT, changed, covered, given, mae, simmim

from vitreous.tasks.mae import Mae
from vitreous.tasks.simmim import Simmim
from vitreous.types import Sample

Make = Callable[..., Mae | Simmim]


def makers(*names: str) -> list[object]:
    """MAE, and SimMIM on the networks of those names; each takes the fields of its config."""

    def of(name: str) -> Make:
        return lambda **config: simmim(name, **config)

    return [pytest.param(mae, id="mae"), *(pytest.param(of(name), id=name) for name in names)]


@pytest.mark.parametrize(
    "task",
    [pytest.param(lambda: mae("cct_2_3x2_32", 32), id="mae-cct"), *makers(*FAMILIES)],
)
def test_no_backbone_sees_what_is_hidden(task: Make) -> None:
    made = task()
    asked = given(made)
    hidden = covered(made, asked)
    images = [made.network.normalise(x.image) for x in (asked, changed(asked, hidden), changed(asked, ~hidden))]
    as_before, without, other = (made.painted(image, asked.hidden) for image in images)
    assert torch.equal(as_before, without) and not torch.allclose(as_before, other, atol=1e-4)


@pytest.mark.parametrize("task", makers(VIT, SWIN, CNN))
def test_what_is_seen_counts_only_through_the_network(task: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task()
    asked = given(made)
    hidden = covered(made, asked)
    fixed = made.painted(made.network.normalise(asked.image), asked.hidden).detach()
    monkeypatch.setattr(made, "painted", lambda image, hidden: fixed)
    losses = [float(made.loss(x).total.detach()) for x in (asked, changed(asked, ~hidden), changed(asked, hidden))]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("task", makers(SWIN))
def test_the_same_twice(task: Make) -> None:
    made, losses = task(), []
    asked = given(made)
    for _ in range(2):
        made.zero_grad()
        loss = made.loss(asked)
        loss.total.backward()
        losses.append([loss.total.detach(), *(p.grad.clone() for p in made.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


@pytest.mark.parametrize("task", makers(VIT, SWIN, CNN, "hybrid_tiny_32"))
def test_autocast_costs_little_precision(task: Make) -> None:
    made = task()
    asked = given(made)
    exact = float(made.loss(asked).total.detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.loss(asked).total
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(exact, rel=0.02)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("task", [*makers(VIT), pytest.param(lambda: mae(normalise=False), id="mae-pixels")])
def test_a_blank_picture_has_a_finite_loss_and_gradient(task: Make) -> None:
    made = task()
    asked = given(made)
    loss = made.loss(asked._replace(image=torch.full_like(asked.image, 7))).total
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("mask", [0.5, 0.75])
@pytest.mark.parametrize("task", makers(CNN))
def test_views_hide_the_same_number_everywhere_and_follow_the_seed(task: Make, mask: float) -> None:
    made = task(mask=mask)
    size = made.preprocess.size
    samples = [Sample(torch.randint(256, (3, 20, 18), dtype=torch.uint8), 0, i) for i in range(4)]
    drawn = [made.views(train)(samples, [np.random.default_rng(i) for i in range(4)]) for train in (True, True, False)]
    assert torch.equal(drawn[0].image, drawn[1].image) and torch.equal(drawn[0].hidden, drawn[1].hidden)
    assert all(d.image.shape == (4, 3, size, size) for d in drawn)
    assert all((d.hidden.double().mean(1) == mask).all() for d in drawn)
    assert len({tuple(row.tolist()) for row in drawn[0].hidden}) == 4


@pytest.mark.parametrize("task", makers(VIT, CNN))
def test_it_learns_eight_pictures(task: Make) -> None:
    made = task()
    asked = given(made, 8)
    blocks = torch.randint(256, (8, 3, 2, 2), dtype=torch.uint8).float()
    smooth = torch.nn.functional.interpolate(blocks, (made.preprocess.size,) * 2, mode="bilinear").byte()
    asked = asked._replace(image=smooth)
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        loss = made.loss(asked).total
        loss.backward()
        optimiser.step()
    made.evaluate([asked], lambda x: x)
    assert float(loss.detach()) < 0.4 * made.nothing


@pytest.mark.parametrize("task", [pytest.param(lambda: mae(normalise=False), id="mae"), *makers(SWIN)[1:]])
def test_panels_show_the_picture_what_was_seen_and_what_was_painted(task: Make) -> None:
    made = task()
    asked = given(made)
    hidden = covered(made, asked)
    true, seen, painted = made.show(asked).unbind(1)
    torch.testing.assert_close(true, asked.image / 255)
    torch.testing.assert_close(seen, torch.where(hidden, made.network.mean, asked.image / 255))
    assert torch.equal(painted.masked_fill(hidden, 0), true.masked_fill(hidden, 0)) and not torch.equal(painted, true)
