"""Operations and policies against Pillow, SciPy, algebra and bitwise repetition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from vitreous.data.augment import GEOMETRY, IGNORE, OPERATIONS, Step, apply, warp
from vitreous.data.policy import randaugment, three_augment, trivialaugment

REFERENCE = {
    # operation: its Pillow counterpart, values to compare at, largest difference allowed
    "brightness": (lambda p, v: ImageEnhance.Brightness(p).enhance(v), (0.0, 0.3, 1.0, 1.9), 0),
    "contrast": (lambda p, v: ImageEnhance.Contrast(p).enhance(v), (0.0, 0.3, 1.0, 1.9), 1),
    "colour": (lambda p, v: ImageEnhance.Color(p).enhance(v), (0.0, 0.3, 1.0, 1.9), 0),
    "sharpness": (lambda p, v: ImageEnhance.Sharpness(p).enhance(v), (0.0, 0.3, 1.0, 1.9), 1),
    "posterise": (lambda p, v: ImageOps.posterize(p, int(v)), (1, 2, 4, 8), 0),
    "solarise": (lambda p, v: ImageOps.solarize(p, int(v)), (0, 1, 128, 255, 256), 0),
    "autocontrast": (lambda p, _: ImageOps.autocontrast(p), (0,), 1),
    "equalise": (lambda p, _: ImageOps.equalize(p), (0,), 0),
    "grey": (lambda p, _: ImageOps.grayscale(p).convert("RGB"), (0,), 0),
}


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """(8, 3, 33, 33) uint8: noise, soft noise, flat, black, white, two levels, narrow range, a gradient."""
    rng = np.random.default_rng(0)
    noise = rng.integers(256, size=(3, 33, 33)).astype(float)
    gradient = np.broadcast_to(np.linspace(0, 255, 33), (3, 33, 33))
    kinds = [
        noise,
        gaussian_filter(noise, (0, 2, 2)),
        np.full_like(noise, 77),
        np.zeros_like(noise),
        np.full_like(noise, 255),
        (noise > 128) * 200,
        100 + noise / 16,
        gradient,
    ]
    return torch.from_numpy(np.stack(kinds).astype(np.uint8))


def as_pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def difference(a: torch.Tensor, b: torch.Tensor | np.ndarray) -> int:
    b = b if isinstance(b, torch.Tensor) else torch.from_numpy(b.astype(np.int32))
    return int((a.int() - b.int()).abs().max())


@pytest.mark.parametrize("name", REFERENCE)
def test_colours_agree_with_pillow(name: str, pictures: torch.Tensor) -> None:
    reference, values, tolerance = REFERENCE[name]
    for value in values:
        ours = OPERATIONS[name](pictures, torch.full((len(pictures),), float(value)))
        for picture, result in zip(pictures, ours, strict=True):
            expected = np.asarray(reference(as_pillow(picture), value)).transpose(2, 0, 1)
            assert difference(result, expected) <= tolerance, (name, value)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_the_gaussian_of_scipy(sigma: float, pictures: torch.Tensor) -> None:
    ours = OPERATIONS["blur"](pictures, torch.full((len(pictures),), sigma))
    radius = int(np.ceil(3 * np.float32(sigma)))
    expected = gaussian_filter(
        pictures.numpy().astype(float), (0, 0, sigma, sigma), mode="mirror", radius=(0, 0, radius, radius)
    )
    assert difference(ours, np.floor(expected + 0.5)) <= 1
    assert difference(OPERATIONS["blur"](pictures, torch.zeros(len(pictures))), pictures) == 0


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("side", [1, 2, 5])
def test_tiny_pictures_pass_every_operation(name: str, side: int) -> None:
    image = torch.arange(3 * side * side, dtype=torch.uint8).view(1, 3, side, side)
    assert OPERATIONS[name](image, torch.tensor([1.3])).shape == image.shape


def test_a_quarter_turn_is_rot90(pictures: torch.Tensor) -> None:
    turned = warp(pictures, [GEOMETRY["rotate"](90.0)] * len(pictures), "bilinear", 0)
    assert difference(turned, pictures.rot90(1, (-2, -1))) <= 1


def test_rotation_agrees_with_pillow(pictures: torch.Tensor) -> None:
    ours = warp(pictures[1:2], [GEOMETRY["rotate"](25.0)], "bilinear", 9)[0]
    expected = as_pillow(pictures[1]).rotate(25, Image.Resampling.BILINEAR, fillcolor=(9, 9, 9))
    inside = np.s_[:, 8:-8, 8:-8]  # at the rim Pillow does not blend with the fill
    assert difference(ours[inside], np.asarray(expected).transpose(2, 0, 1)[inside]) <= 2
    assert ours[:, 0, 0].tolist() == [9, 9, 9]


def test_translation_shifts_whole_pixels(pictures: torch.Tensor) -> None:
    moved = warp(pictures, [GEOMETRY["translate_x"](4 / 33)] * len(pictures), "bilinear", 5)
    assert difference(moved[..., 4:], pictures[..., :-4]) == 0
    assert (moved[..., :4] == 5).all()
    moved = warp(pictures, [GEOMETRY["translate_y"](-4 / 33)] * len(pictures), "bilinear", 5)
    assert difference(moved[..., :-4, :], pictures[..., 4:, :]) == 0


def test_shear_moves_rows_in_proportion_to_their_height() -> None:
    image = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    image[..., 16] = 255
    sheared = warp(image, [GEOMETRY["shear_x"](0.5)], "nearest", 0)[0, 0]
    column = sheared.int().argmax(1)
    assert abs(int(column[0] - column[32])) == 16 and column[16] == 16


@pytest.mark.parametrize("name", GEOMETRY)
def test_image_and_mask_move_together(name: str) -> None:
    mask = torch.randint(0, 2, (1, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    mask = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    image = (mask * 200)[:, None].repeat(1, 3, 1, 1)
    apply(image, mask, [[Step(name, 0.3 if name != "rotate" else 30.0)]], fill=100)
    assert (mask == IGNORE).any()
    sure = (image[:, 0] == 0) | (image[:, 0] == 200)  # not blended at an edge
    shown = sure & (mask != IGNORE)
    assert shown.float().mean() > 0.4
    assert torch.equal(image[:, 0][shown], mask[shown] * 200)
    assert set(mask.unique().tolist()) <= {0, 1, IGNORE}


@pytest.mark.parametrize("name", OPERATIONS)
def test_colours_leave_the_mask_alone(name: str, pictures: torch.Tensor) -> None:
    mask = torch.arange(33 * 33).view(1, 33, 33).to(torch.uint8)
    before = mask.clone()
    apply(pictures[:1].clone(), mask, [[Step(name, 1.5)]], fill=0)
    assert torch.equal(mask, before)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_picture_never_depends_on_its_batch_or_on_threads(threads: int) -> None:
    images = torch.randint(0, 256, (11, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    names = [*OPERATIONS, *GEOMETRY]
    for shift in range(0, len(names), 3):
        # eleven pictures in turn draw each operation with values of their own, and the first one three times
        plans = [
            [Step(names[(shift + max(0, i - 2)) % len(names)], 0.2 + 0.13 * i), Step("blur", 0.3 + 0.1 * i)]
            for i in range(11)
        ]
        together = images.clone()
        own = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            apply(together, None, plans, fill=114)
        finally:
            torch.set_num_threads(own)
        for i, plan in enumerate(plans):
            alone = images[i : i + 1].clone()
            apply(alone, None, [plan], fill=114)
            assert torch.equal(alone[0], together[i]), plan


def test_plans_of_different_length_and_identity() -> None:
    image = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    before = image.clone()
    apply(image, None, [[], [Step("identity", 0.0)], [Step("identity", 0.0), Step("solarise", 0.0)]], fill=0)
    assert torch.equal(image[:2], before[:2])
    assert torch.equal(image[2], 255 - before[2])


# ---------------------------------------------------------------- policies


def test_randaugment_draws_within_the_published_ranges() -> None:
    policy, rng = randaugment(3, 10.0), np.random.default_rng(0)
    drawn: dict[str, set[float]] = {}
    for _ in range(400):
        plan = policy(rng)
        assert len(plan) == 3
        for name, value in plan:
            drawn.setdefault(name, set()).add(round(value, 4))
    assert len(drawn) == 14
    assert drawn["rotate"] == {-30.0, 30.0} and drawn["shear_x"] == {-0.3, 0.3}
    assert drawn["colour"] == {0.1, 1.9} and drawn["posterise"] == {4.0} and drawn["solarise"] == {0.0}
    assert drawn["translate_y"] == {-0.4532, 0.4532}
    for name, value in randaugment(50, 0.0)(rng):
        assert value == {"solarise": 256, "posterise": 8}.get(name, 1 if name in OPERATIONS and value else 0), name


def test_randaugment_of_magnitude_zero_changes_nothing_but_contrast_stretches() -> None:
    image = torch.randint(0, 256, (40, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    policy, rng = randaugment(1, 0.0), np.random.default_rng(0)
    plans = [policy(rng) for _ in range(40)]
    apply(image, None, plans, fill=0)
    for plan, old, new in zip(plans, before, image, strict=True):
        if plan[0].name not in ("autocontrast", "equalise"):
            assert difference(old, new) <= (1 if plan[0].name in GEOMETRY else 0), plan


def test_trivialaugment_draws_one_operation_at_one_of_31_strengths() -> None:
    policy, rng = trivialaugment(224), np.random.default_rng(0)
    plans = [policy(rng) for _ in range(6000)]
    assert {len(plan) for plan in plans} == {1}
    rotations = {abs(round(p[0].value, 3)) for p in plans if p[0].name == "rotate"}
    assert rotations == {round(135 * i / 30, 3) for i in range(31)}
    assert max(abs(p[0].value) for p in plans if p[0].name == "translate_x") == pytest.approx(32 / 224)
    assert min(p[0].value for p in plans if p[0].name == "posterise") == 2


def test_three_augment_is_one_of_three_then_jitter() -> None:
    rng = np.random.default_rng(0)
    firsts, orders = set(), set()
    for _ in range(200):
        first, *jitter = three_augment(rng)
        firsts.add(first.name)
        orders.add(tuple(step.name for step in jitter))
        assert all(0.7 <= step.value <= 1.3 for step in jitter)
    assert firsts == {"grey", "solarise", "blur"}
    assert len(orders) == 6


def test_policies_are_functions_of_their_generator() -> None:
    for policy in (randaugment(2, 9.0), trivialaugment(32), three_augment):
        assert policy(np.random.default_rng(5)) == policy(np.random.default_rng(5))
