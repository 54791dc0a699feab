"""From samples to batches: crops, mirror images, masks, erasing, and independence of batch mates."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from vitreous.config import from_dict, to_dict
from vitreous.data.preprocess import Preprocess, fit
from vitreous.data.transforms import (
    IGNORE,
    POLICIES,
    Augment,
    AugmentConfig,
    Evaluate,
    erase,
    fit_mask,
    random_box,
    resize,
)
from vitreous.errors import UsageError
from vitreous.types import Sample

SMALL = Preprocess(size=48, store=64)


def generators(n: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(n)]


def make_samples(n: int, masks: bool = False) -> list[Sample]:
    g = torch.Generator().manual_seed(0)
    samples = []
    for i in range(n):
        h, w = 64 + 3 * (i % 3), 64 + 7 * (i % 5)
        image = torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=g)
        mask = torch.randint(0, 4, (h, w), dtype=torch.uint8, generator=g) if masks else None
        samples.append(Sample(image, i % 3, 100 + i, mask))
    return samples


def test_policy_and_erasing_end_where_crops_and_mirrors_stay() -> None:
    config = AugmentConfig(policy="trivial", erase=0.5, pad=2, flip=0.3, off_after=0.8)
    assert config.at(0.79) == config
    assert config.at(0.8) == AugmentConfig(policy="none", erase=0.0, pad=2, flip=0.3, off_after=0.8)
    assert AugmentConfig(policy="trivial").at(0.99).policy == "trivial"


def test_evaluate_is_fit_and_nothing_else() -> None:
    samples = make_samples(5)
    batch = Evaluate(SMALL)(samples, generators(5))
    assert batch.image.dtype == torch.uint8 and batch.image.shape == (5, 3, 48, 48)
    assert all(torch.equal(batch.image[i], fit(s.image, SMALL)) for i, s in enumerate(samples))
    assert batch.label.tolist() == [0, 1, 2, 0, 1] and batch.index.tolist() == [100, 101, 102, 103, 104]
    assert batch.mask is None and batch.target is None


@pytest.mark.parametrize("policy", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (40, 40), (30, 50)])
def test_masks_fit_as_pictures_do(policy: str, shape: tuple[int, int]) -> None:
    blocks = torch.arange(4, dtype=torch.uint8).view(2, 2)
    mask = torch.nn.functional.interpolate(blocks[None, None], shape, mode="nearest")[0, 0]
    rules = Preprocess(size=32, policy=policy, crop=0.9, fill=250)
    levels = torch.tensor([3, 60, 131, 240], dtype=torch.uint8)  # no mean of two is a third
    picture = fit(levels[mask.long()].expand(3, -1, -1).contiguous(), rules)[0]
    fitted = fit_mask(mask, rules)
    shown = [(picture == level) & (picture != rules.fill) for level in levels]
    assert sum(s.float().mean() for s in shown) > (0.5 if policy == "letterbox" else 0.8)
    assert all((fitted[where] == label).all() for label, where in enumerate(shown))
    assert ((fitted == IGNORE) == (picture == rules.fill)).all()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("pad", [0, 4])
def test_a_sample_never_depends_on_its_batch_mates(policy: str, masks: bool, pad: int) -> None:
    augment = Augment(AugmentConfig(policy=policy, erase=0.5, pad=pad), SMALL)
    samples = make_samples(8, masks)
    together = augment(samples, generators(8))
    for i, sample in enumerate(samples):
        alone = augment([sample], [generators(8)[i]])
        for a, b in zip(alone, together, strict=True):
            assert (a is None and b is None) or torch.equal(a[0], b[i])


def test_thread_count_changes_nothing() -> None:
    augment = Augment(AugmentConfig(policy="randaugment", erase=0.5), Preprocess(size=128))
    samples, own, results = make_samples(8), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(augment(samples, generators(8)).image)
    finally:
        torch.set_num_threads(own)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_inputs_are_left_as_they_were() -> None:
    samples = make_samples(6, masks=True)
    before = [(s.image.clone(), s.mask.clone()) for s in samples]
    Augment(AugmentConfig(policy="trivial", erase=1.0), SMALL)(samples, generators(6))
    assert all(torch.equal(s.image, i) and torch.equal(s.mask, m) for s, (i, m) in zip(samples, before, strict=True))


@pytest.mark.parametrize("pad", [0, 6])
@pytest.mark.parametrize("policy", ["none", "randaugment"])
def test_image_and_mask_move_together(pad: int, policy: str) -> None:
    # large even blocks: wherever a pixel is not blended, the picture tells what the mask must say
    blocks = torch.arange(4, dtype=torch.uint8).view(2, 2).repeat_interleave(40, 0).repeat_interleave(40, 1)
    samples = [Sample((blocks * 60)[None].repeat(3, 1, 1), 0, i, blocks) for i in range(16)]
    config = AugmentConfig(pad=pad, policy="none", crop_scale=(0.3, 1.0))
    batch = Augment(config, SMALL)(samples, generators(16))
    assert batch.mask is not None and batch.mask.dtype == torch.int64
    picture, clear = batch.image[:, 0].long(), batch.image[:, 0] % 60 == 0
    shown = clear & (batch.mask != IGNORE)
    assert shown.float().mean() > 0.6
    assert torch.equal(picture[shown], batch.mask[shown] * 60)
    assert bool((batch.mask == IGNORE).any()) == (pad > 0)


def test_resize_is_antialiased_as_in_pillow_whatever_the_layout() -> None:
    g = torch.Generator().manual_seed(0)
    planes = torch.randint(0, 256, (3, 90, 70), dtype=torch.uint8, generator=g)
    interleaved = planes.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for side in (32, 64, 112):
        ours = resize(planes, side)
        assert torch.equal(ours, resize(interleaved, side))
        assert torch.equal(resize(planes[:, 5:60, 3:50], side), resize(interleaved[:, 5:60, 3:50], side))
        picture = Image.fromarray(interleaved.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        assert (ours.int() - expected.int()).abs().max() <= 1


def test_crops_keep_the_configured_area_and_shape() -> None:
    config, rng = AugmentConfig(crop_scale=(0.2, 0.6)), np.random.default_rng(0)
    boxes = [random_box(200, 300, config, rng) for _ in range(500)]
    area = np.array([b.height * b.width / 60000 for b in boxes])
    ratio = np.array([b.width / b.height for b in boxes])
    assert 0.19 < area.min() < 0.25 and 0.55 < area.max() < 0.61
    assert 0.74 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.35
    assert all(b.top >= 0 and b.left >= 0 and b.top + b.height <= 200 and b.left + b.width <= 300 for b in boxes)
    assert min(b.top for b in boxes) < 5 and max(b.left + b.width for b in boxes) > 295


@pytest.mark.parametrize("policy", ["letterbox", "squash"])
@pytest.mark.parametrize("upright", [False, True])
def test_crops_of_an_elongated_picture_see_all_of_it_where_the_policy_does(policy: str, upright: bool) -> None:
    shape = (256, 64) if upright else (64, 256)
    line = torch.arange(256).view(-1, 1) if upright else torch.arange(256)
    place = line.expand(shape).to(torch.uint8)  # each pixel says how far along the longer side it lies
    samples = [Sample(place[None].repeat(3, 1, 1), 0, i, place // 4) for i in range(200)]
    rules = Preprocess(size=56, store=64, policy=policy, fill=0)
    batch = Augment(AugmentConfig(flip=0.0), rules)(samples, generators(200))
    assert batch.mask is not None
    seen = batch.mask[batch.mask != IGNORE].unique()
    assert seen.tolist() == list(range(64)), "every stretch of four pixels is in some crop"
    content = batch.mask != IGNORE
    far = (batch.image[:, 0].long() // 4 - batch.mask).abs()[content]
    assert (far <= 2).float().mean() > 0.9, "the mask is cut where the picture is"


@pytest.mark.parametrize("policy", ["letterbox", "squash"])
def test_what_lies_at_the_end_of_an_elongated_picture_is_learned(policy: str) -> None:
    """4:1 pictures whose class is the colour of a square at their left end: trained on crops, tested as declared."""
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(60, 200, (160, 1, 24, 96), dtype=torch.uint8, generator=g).repeat(1, 3, 1, 1)
    label = torch.arange(160) % 2
    for i in range(160):
        pictures[i, :, 6:18, 2:14] = torch.tensor([[230, 20, 20], [20, 20, 230]][i % 2])[:, None, None]
    samples = [Sample(picture, int(k), i) for i, (picture, k) in enumerate(zip(pictures, label, strict=True))]
    rules = Preprocess(size=32, store=36, policy=policy)
    augment, shown = Augment(AugmentConfig(), rules), Evaluate(rules)(samples, generators(160)).image
    torch.manual_seed(0)
    conv = [torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()]
    network = torch.nn.Sequential(*conv, torch.nn.Linear(8, 2))
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.02)
    for epoch in range(6):
        views = augment(samples[:120], generators(120, epoch)).image
        for part in torch.arange(120).chunk(4):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(views[part] / 255), label[part]).backward()
            optimiser.step()
    assert (network(shown[120:] / 255).argmax(1) == label[120:]).float().mean() == 1.0


@pytest.mark.parametrize("policy", ["letterbox", "squash"])
def test_the_whole_crop_is_the_declared_view_of_the_stored_size(policy: str) -> None:
    rules = Preprocess(size=48, store=48, policy=policy)
    config = AugmentConfig(flip=0.0, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    samples = make_samples(6, masks=True)
    declared, whole = Evaluate(rules)(samples, generators(6)), Augment(config, rules)(samples, generators(6))
    assert torch.equal(declared.image, whole.image) and torch.equal(declared.mask, whole.mask)


def test_the_crop_policy_cuts_the_stored_pixels_themselves() -> None:
    samples, config = make_samples(6, masks=True), AugmentConfig(flip=0.0)
    batch = Augment(config, SMALL)(samples, generators(6))
    for i, (sample, rng) in enumerate(zip(samples, generators(6), strict=True)):
        box = random_box(*sample.image.shape[-2:], config, rng)
        assert torch.equal(batch.image[i], resize(box.of(sample.image), 48))


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1), (2, 3), (5, 400)])
def test_extreme_shapes_still_give_a_crop(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        box = random_box(*shape, AugmentConfig(), rng)
        assert 1 <= box.height <= shape[0] and 1 <= box.width <= shape[1]
        assert box.top + box.height <= shape[0] and box.left + box.width <= shape[1]
    image = torch.zeros(3, *shape, dtype=torch.uint8)
    augment = Augment(AugmentConfig(policy="randaugment", erase=1.0), Preprocess(size=16))
    assert augment([Sample(image, 0, 0)], generators(1)).image.shape == (1, 3, 16, 16)


def test_flip_is_a_mirror_image() -> None:
    samples = make_samples(1)
    views = [Augment(AugmentConfig(flip=flip), SMALL)(samples, [np.random.default_rng(3)]).image for flip in (0.0, 1.0)]
    assert torch.equal(views[0].flip(-1), views[1])


def test_padding_shows_the_declared_fill_and_moves_by_at_most_pad() -> None:
    image = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    rules = Preprocess(size=32, fill=7)
    batch = Augment(AugmentConfig(pad=4, flip=0.0), rules)([Sample(image, 0, i) for i in range(64)], generators(64))
    assert set(batch.image.unique().tolist()) == {7, 200}
    assert (batch.image[:, :, 4:-4, 4:-4] == 200).all()
    assert len({tuple(row) for row in (batch.image[:, 0] == 200).flatten(1).tolist()}) > 30  # of 81 places


def test_erasing_covers_a_rectangle_with_noise() -> None:
    rng, shares = np.random.default_rng(0), []
    for _ in range(60):
        image, mask = torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(64, 64, dtype=torch.uint8)
        erase(image, mask, 1.0, rng)
        ys, xs = torch.nonzero(mask == IGNORE, as_tuple=True)
        box = image[:, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        assert len(ys) == box[0].numel(), "one full rectangle"
        assert (image.amax(0) > 0).sum() <= len(ys)
        shares.append(len(ys) / 64**2)
        assert box.float().mean() == pytest.approx(127.5, abs=25)
    assert 0.01 < min(shares) < 0.1 and 0.3 < max(shares) < 0.42
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    erase(image, None, 0.0, rng)
    assert not image.any()


def test_config_survives_json_and_names_what_is_wrong() -> None:
    config = AugmentConfig(policy="trivial", crop_scale=(0.08, 1.0), erase=0.25)
    assert from_dict(AugmentConfig, json.loads(json.dumps(to_dict(config)))) == config
    wrong = {"crop_scale": (0.5, 0.2), "crop_ratio": (0.0, 1.0), "pad": -1, "flip": 2.0}
    wrong |= {"magnitude": 11.0, "num_ops": 0, "erase": -0.1, "policy": "trival"}
    for name, value in wrong.items():
        with pytest.raises(UsageError, match=name):
            AugmentConfig(**{name: value})


def test_import_brings_no_model_and_no_decoder() -> None:
    rooms = ("vitreous.models", "vitreous.tasks", "vitreous.training", "PIL")
    code = f"import sys, vitreous.data.loader; print([m for m in sys.modules if m.startswith({rooms})])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
