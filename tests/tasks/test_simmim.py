"""SimMIM: its loss against NumPy in float64, what is hidden from any backbone, and who gets a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked import FAMILIES, Unwatched, batch, network, over, shaken, some
from torch import Tensor

from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import AugmentConfig
from vitreous.errors import UsageError
from vitreous.models.backbone import TokenBackbone
from vitreous.tasks.simmim import Simmim, SimmimConfig, unit_side
from vitreous.types import Batch, Sample

VIT, SWIN, CNN = "vit_pico_patch4_32", "swin_tiny_patch4_window7_224", "resnet20_cifar"


def made(name: str, size: int = 0, **config: object) -> Simmim:
    found = network(name, size)
    size = found.config.size
    task = Simmim(found, SimmimConfig(**config), Preprocess(size=size, store=size), AugmentConfig(), Unwatched())
    shaken(task)
    return task.train()


def given(task: Simmim, b: int = 3) -> Batch:
    n = task.side**2
    return batch(b, task.preprocess.size, some(b, n, max(round(0.6 * n), 1)))


def by_hand(task: Simmim, asked: Batch) -> float:
    """The paper's equation 1, pixel by pixel in float64, from what the network painted."""
    image = task.network.double().normalise(asked.image)
    painted = task.double().painted(image, asked.hidden).detach().numpy()
    hidden = over(asked.hidden, task.unit, task.preprocess.size).expand_as(image).numpy()
    return float(np.abs(painted - image.numpy())[hidden].mean())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_is_the_papers_for_every_family(name: str) -> None:
    task = made(name)
    asked = given(task)
    single = float(task.loss(asked).total.detach())
    double = float(task.double().loss(asked).total.detach())
    assert by_hand(task, asked) == pytest.approx(double, rel=1e-12)
    assert single == pytest.approx(double, rel=1e-4 if task.grain == 1 else 1e-5)


def changed(asked: Batch, where: Tensor) -> Batch:
    """The batch with other pixels at some places."""
    return asked._replace(image=torch.where(where, 255 - asked.image, asked.image))


@pytest.mark.parametrize("name", FAMILIES)
def test_no_backbone_sees_what_is_hidden(name: str) -> None:
    task = made(name)
    asked = given(task)
    hidden = over(asked.hidden, task.unit, task.preprocess.size)
    images = [task.network.normalise(x.image) for x in (asked, changed(asked, hidden), changed(asked, ~hidden))]
    as_before, without, other = (task.painted(image, asked.hidden) for image in images)
    assert torch.equal(as_before, without) and not torch.allclose(as_before, other, atol=1e-4)


@pytest.mark.parametrize("name", [VIT, SWIN, CNN])
def test_what_is_seen_counts_only_through_the_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made(name)
    asked = given(task)
    hidden = over(asked.hidden, task.unit, task.preprocess.size)
    fixed = task.painted(task.network.normalise(asked.image), asked.hidden).detach()
    monkeypatch.setattr(task, "painted", lambda image, hidden: fixed)
    losses = [float(task.loss(x).total) for x in (asked, changed(asked, ~hidden), changed(asked, hidden))]
    assert losses[0] == losses[1] != losses[2]


def test_tokens_stand_for_patches_and_a_colour_for_pixels() -> None:
    vit, cnn, cct = made(VIT), made(CNN), made("cct_2_3x2_32")
    assert vit.grain == 4 and vit.hidden.shape == (vit.network.backbone.dims[0],)
    assert cnn.grain == cct.grain == 1 and cnn.hidden.shape == cct.hidden.shape == (3,)
    asked, colour = given(cnn), torch.tensor([0.1, -0.2, 0.3])
    seen: list[Tensor] = []
    cnn.network.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        cnn.hidden.copy_(colour)
    image = cnn.network.normalise(asked.image)
    cnn.painted(image, asked.hidden)
    hidden = over(asked.hidden, cnn.unit, cnn.preprocess.size)
    assert torch.equal(seen[0], torch.where(hidden, colour.view(3, 1, 1), image))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_before_the_last_map_learns(name: str) -> None:
    task = made(name)
    task.loss(given(task)).total.backward()
    still = {n for n, p in task.named_parameters() if p.grad is None or not p.grad.any()}
    backbone = task.network.backbone
    if isinstance(backbone, TokenBackbone) and not backbone.overlaps:
        expected = {n for n in still if "pool." in n}
    else:
        image = torch.randn(2, 3, task.preprocess.size, task.preprocess.size)
        backbone.zero_grad()
        backbone(image).maps[-1].square().sum().backward()
        expected = {f"network.backbone.{n}" for n, p in backbone.named_parameters() if p.grad is None}
    assert still - expected == {"network.head.fc.weight", "network.head.fc.bias"}
    assert len(expected) <= 12


def test_the_same_twice() -> None:
    task = made(SWIN)
    asked, losses = given(task), []
    for _ in range(2):
        task.zero_grad()
        loss = task.loss(asked)
        loss.total.backward()
        losses.append([loss.total.detach(), *(p.grad.clone() for p in task.parameters() if p.grad is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


@pytest.mark.parametrize("name", [VIT, SWIN, CNN, "hybrid_tiny_32"])
def test_autocast_costs_little_precision(name: str) -> None:
    task = made(name)
    asked = given(task)
    exact = float(task.loss(asked).total.detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss = task.loss(asked).total
    assert loss.dtype == torch.float32 and float(loss.detach()) == pytest.approx(exact, rel=0.02)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


@pytest.mark.parametrize("size", [17, 30, 37])
@pytest.mark.parametrize("name", [SWIN, CNN, "hybrid_tiny_32"])
def test_sizes_that_nothing_divides(name: str, size: int) -> None:
    task = made(name, size)
    asked = given(task)
    assert task.painted(task.network.normalise(asked.image), asked.hidden).shape == (3, 3, size, size)
    loss = float(task.loss(asked).total.detach())
    assert by_hand(task, asked) == pytest.approx(loss, rel=1e-4)


def test_units_are_32_pixels_at_the_papers_sizes_and_in_proportion_elsewhere() -> None:
    assert [unit_side(size, 4) for size in (192, 224, 256, 384, 96, 64, 32)] == [32, 32, 32, 64, 16, 8, 4]
    assert [unit_side(size, grain) for size, grain in ((224, 16), (224, 1), (224, 14), (32, 1), (28, 1))] == [
        32, 32, 28, 4, 4,
    ]  # fmt: skip
    for grain in (1, 4, 8, 14, 16):
        for size in range(grain * 2, 400, 7):
            unit = unit_side(size, grain)
            assert unit % grain == 0 and (size / unit >= 6 or unit == grain) and size / unit < max(12, 800 / grain)


def test_views_hide_the_same_number_everywhere_and_follow_the_seed() -> None:
    task = made(CNN, mask=0.5)
    samples = [Sample(torch.randint(256, (3, 20, 18), dtype=torch.uint8), 0, i) for i in range(4)]
    drawn = [task.views(train)(samples, [np.random.default_rng(i) for i in range(4)]) for train in (True, True, False)]
    assert torch.equal(drawn[0].image, drawn[1].image) and torch.equal(drawn[0].hidden, drawn[1].hidden)
    assert all(d.hidden.sum(1).tolist() == [task.side**2 // 2] * 4 for d in drawn)


@pytest.mark.parametrize("name", [VIT, CNN])
def test_it_learns_eight_pictures(name: str) -> None:
    task = made(name)
    asked = given(task, 8)
    blocks = torch.randint(256, (8, 3, 2, 2), dtype=torch.uint8).float()
    smooth = torch.nn.functional.interpolate(blocks, (task.preprocess.size,) * 2, mode="bilinear").byte()
    asked = asked._replace(image=smooth)
    optimiser = torch.optim.Adam(task.parameters(), lr=3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        loss = task.loss(asked).total
        loss.backward()
        optimiser.step()
    task.evaluate([asked], lambda x: x)
    assert float(loss.detach()) < 0.4 * task.nothing


def test_panels_show_the_picture_what_was_seen_and_what_was_painted() -> None:
    task = made(SWIN)
    asked = given(task)
    hidden = over(asked.hidden, task.unit, task.preprocess.size)
    true, seen, painted = task.show(asked).unbind(1)
    torch.testing.assert_close(true, asked.image / 255)
    torch.testing.assert_close(seen, torch.where(hidden, task.network.mean, asked.image / 255))
    assert torch.equal(painted.masked_fill(hidden, 0), true.masked_fill(hidden, 0)) and not torch.equal(painted, true)


def test_painting_the_median_is_having_learned_nothing() -> None:
    task = made(CNN)
    everything = [given(task, 5), given(task, 3)]
    everything = [x._replace(image=(x.image.float() ** 1.7 / 50).clamp(0, 255).byte()) for x in everything]
    task.evaluate(everything, lambda x: x)
    pixels = np.concatenate([task.network.normalise(x.image).numpy() for x in everything]).astype(np.float64)
    best = np.abs(pixels - np.median(pixels, axis=(0, 2, 3), keepdims=True)).mean()
    assert task.nothing == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "values", "named"),
    [
        (SWIN, 32, {"unit": 6}, "take 8"),
        (VIT, 32, {"unit": 32}, "larger --size"),
        (VIT, 4, {}, "larger --size"),
        (CNN, 16, {"mask": 0.999}, "leaves none to see"),
        (CNN, 16, {"mask": 0.0}, "simmim.mask"),
        (CNN, 16, {"unit": 0}, "simmim.unit"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(name: str, size: int, values: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        made(name, size, **values).views(True)
