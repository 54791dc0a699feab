"""Mixup and cutmix: exact shares, exact pixels, and randomness that is a function of its generator."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vitreous.config import from_dict, to_dict
from vitreous.data.mix import MixConfig, Mixer, mix, one_hot
from vitreous.errors import UsageError
from vitreous.types import UNLABELLED, Batch

MIXUP, CUTMIX = MixConfig(mixup=0.8, cutmix=0.0), MixConfig(mixup=0.0, cutmix=1.0)


@pytest.fixture
def batch() -> Batch:
    g = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (6, 3, 20, 30), dtype=torch.uint8, generator=g)
    return Batch(image, torch.tensor([0, 1, 2, 3, 0, 1]), torch.arange(6))


@pytest.mark.parametrize("floating", [False, True])
def test_mixup_is_a_weighted_mean_with_the_picture_before(batch: Batch, floating: bool) -> None:
    if floating:
        batch = batch._replace(image=batch.image / 255)
    mixed = mix(batch, 4, MIXUP, np.random.default_rng(1))
    assert mixed.target is not None
    share = float(mixed.target[0, 0])
    assert 0 < share < 1
    exact = share * batch.image.double() + (1 - share) * batch.image.roll(1, 0).double()
    assert mixed.image.dtype == batch.image.dtype
    assert (mixed.image.double() - exact).abs().max() <= (1e-6 if floating else 0.5001)
    expected = share * one_hot(batch.label, 4) + (1 - share) * one_hot(batch.label.roll(1), 4)
    assert torch.allclose(mixed.target, expected)
    assert torch.equal(mixed.label, batch.label) and torch.equal(mixed.index, batch.index)


def test_cutmix_target_is_the_share_of_pixels_after_clipping(batch: Batch) -> None:
    # every picture is its own number, so that pixels can be counted
    image = torch.arange(1, 7, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 20, 30).contiguous()
    batch = batch._replace(image=image, label=torch.arange(6))
    shares = []
    for seed in range(60):
        mixed = mix(batch, 6, CUTMIX, np.random.default_rng(seed))
        assert mixed.target is not None
        for i in range(6):
            own = (mixed.image[i] == i + 1).float().mean()
            other = (mixed.image[i] == (i - 1) % 6 + 1).float().mean()
            assert own + other == pytest.approx(1.0)
            assert float(mixed.target[i, i]) == pytest.approx(float(own), abs=1e-6)
            assert float(mixed.target[i, (i - 1) % 6]) == pytest.approx(float(other), abs=1e-6)
        ys, xs = torch.nonzero(mixed.image[0, 0] != 1, as_tuple=True)
        if len(ys):
            assert len(ys) == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1), "one full rectangle"
        shares.append(1 - len(ys) / 600)
    assert min(shares) < 0.3 and max(shares) > 0.95


def test_targets_are_distributions_and_the_input_is_left_alone(batch: Batch) -> None:
    before = batch.image.clone()
    for seed in range(20):
        mixed = mix(batch, 4, MixConfig(), np.random.default_rng(seed))
        assert mixed.target is not None and mixed.target.dtype == torch.float32
        assert torch.allclose(mixed.target.sum(1), torch.ones(6)) and (mixed.target >= 0).all()
    assert torch.equal(batch.image, before) and batch.target is None


def test_unlabelled_pictures_bring_no_target(batch: Batch) -> None:
    unlabelled = batch._replace(label=torch.full((6,), UNLABELLED))
    mixed = mix(unlabelled, 4, MIXUP, np.random.default_rng(0))
    assert mixed.target is not None and not mixed.target.any()


def test_prob_and_alphas_decide_what_happens(batch: Batch) -> None:
    def kinds(config: MixConfig) -> list[str]:
        found = []
        for seed in range(200):
            mixed = mix(batch, 4, config, np.random.default_rng(seed))
            kept = (mixed.image == batch.image).all(1).float().mean()
            borrowed = (mixed.image == batch.image.roll(1, 0)).all(1).float().mean()
            found.append("none" if kept == 1 else "cutmix" if kept + borrowed >= 0.999 else "mixup")
        return found

    assert kinds(MixConfig(prob=0.0)) == ["none"] * 200
    assert kinds(MixConfig(mixup=0.0, cutmix=0.0)) == ["none"] * 200
    assert kinds(MixConfig(mixup=4.0, cutmix=0.0)) == ["mixup"] * 200
    drawn = kinds(MixConfig(mixup=4.0, cutmix=1.0, prob=0.5))
    assert 70 < drawn.count("none") < 130 and 30 < drawn.count("mixup") < 70 and 30 < drawn.count("cutmix") < 70


def test_one_generator_gives_one_batch(batch: Batch) -> None:
    for seed in range(8):
        first, second = (mix(batch, 4, MixConfig(), np.random.default_rng(seed)) for _ in range(2))
        assert torch.equal(first.image, second.image) and torch.equal(first.target, second.target)


def test_a_single_picture_is_its_own_partner(batch: Batch) -> None:
    one = Batch(*(x[:1] if x is not None else None for x in batch))
    mixed = mix(one, 4, CUTMIX, np.random.default_rng(0))
    assert torch.equal(mixed.image, one.image) and torch.allclose(mixed.target, one_hot(one.label, 4))


def test_mixer_stops_for_the_last_part_of_training(batch: Batch) -> None:
    mixer = Mixer(MixConfig(mixup=4.0, cutmix=0.0, off_after=0.8), 4, lambda step: step / 10)
    for step in range(12):
        mixed = mixer(batch, step, np.random.default_rng(step))
        assert torch.equal(mixed.image, batch.image) == (step >= 8)
        assert torch.equal(mixed.target, one_hot(batch.label, 4)) == (step >= 8)


def test_masks_are_refused_and_settings_checked(batch: Batch) -> None:
    with pytest.raises(UsageError, match="masks"):
        mix(batch._replace(mask=torch.zeros(6, 20, 30, dtype=torch.int64)), 4, MIXUP, np.random.default_rng(0))
    for wrong in ({"mixup": -1.0}, {"cutmix": -0.1}, {"prob": 1.5}, {"off_after": -0.5}):
        with pytest.raises(UsageError):
            MixConfig(**wrong)
    assert from_dict(MixConfig, json.loads(json.dumps(to_dict(MixConfig(prob=0.5))))) == MixConfig(prob=0.5)
