"""SimMIM: its loss against NumPy in float64, what stands for hidden parts, and who gets a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked import CNN, FAMILIES, SWIN, VIT, covered, given, simmim
from torch import Tensor

from vitreous.errors import UsageError
from vitreous.models.backbone import TokenBackbone
from vitreous.tasks.simmim import Simmim, unit_side
from vitreous.types import Batch


def by_hand(task: Simmim, asked: Batch) -> float:
    """The paper's equation 1, pixel by pixel in float64, from what the network painted."""
    image = task.network.double().normalise(asked.image)
    painted = task.double().painted(image, asked.hidden).detach().numpy()
    hidden = covered(task, asked).expand_as(image).numpy()
    return float(np.mean([np.abs(p - x)[h].mean() for p, x, h in zip(painted, image.numpy(), hidden, strict=True)]))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loss_is_the_papers_for_every_family(name: str) -> None:
    task = simmim(name)
    asked = given(task)
    single = float(task.loss(asked).total.detach())
    double = float(task.double().loss(asked).total.detach())
    assert by_hand(task, asked) == pytest.approx(double, rel=1e-12)
    assert single == pytest.approx(double, rel=1e-4 if task.grain == 1 else 1e-5)


def test_tokens_stand_for_patches_and_a_colour_for_pixels() -> None:
    vit, cnn, cct = simmim(VIT), simmim(CNN), simmim("cct_2_3x2_32")
    assert vit.grain == 4 and vit.hidden.shape == (vit.network.backbone.dims[0],)
    assert cnn.grain == cct.grain == 1 and cnn.hidden.shape == cct.hidden.shape == (3,)
    asked, colour = given(cnn), torch.tensor([0.1, -0.2, 0.3])
    seen: list[Tensor] = []
    cnn.network.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        cnn.hidden.copy_(colour)
    image = cnn.network.normalise(asked.image)
    cnn.painted(image, asked.hidden)
    hidden = covered(cnn, asked)
    assert torch.equal(seen[0], torch.where(hidden, colour.view(3, 1, 1), image))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_before_the_last_map_learns(name: str) -> None:
    task = simmim(name)
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


@pytest.mark.parametrize("size", [17, 30, 37])
@pytest.mark.parametrize("name", [SWIN, CNN, "hybrid_tiny_32"])
def test_sizes_that_nothing_divides(name: str, size: int) -> None:
    task = simmim(name, size)
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


def test_painting_the_median_is_having_learned_nothing() -> None:
    task = simmim(CNN)
    everything = [given(task, 5), given(task, 3)]
    everything = [x._replace(image=(x.image.float() ** 1.7 / 50).clamp(0, 255).byte()) for x in everything]
    task.evaluate(everything, lambda x: x)
    pixels = np.concatenate([task.network.normalise(x.image).numpy() for x in everything]).astype(np.float64)
    best = np.abs(pixels - np.median(pixels, axis=(0, 2, 3), keepdims=True)).mean()
    assert float(task.nothing) == pytest.approx(best, rel=1e-5)


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
        simmim(name, size, **values).views(True)
