"""Many views of one picture: pure in (seed, epoch, sample), each view another, of the sizes that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitreous.data.loader import Loader
from vitreous.data.preprocess import Preprocess
from vitreous.data.transforms import Augment, AugmentConfig
from vitreous.data.views import Masked, MultiCrop
from vitreous.types import Batch, Sample


class Pictures:
    """Noise in memory."""

    labels = np.zeros(40, dtype=np.int64)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> Sample:
        noise = torch.randint(0, 256, (3, 24, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        return Sample(noise, 0, i)


def crops(counts: tuple[int, int] = (2, 3)) -> MultiCrop:
    large = Augment(AugmentConfig(crop_scale=(0.5, 1.0)), Preprocess(size=16))
    small = Augment(AugmentConfig(crop_scale=(0.1, 0.3)), Preprocess(size=8))
    return MultiCrop(large, small, counts)


def masked() -> Masked:
    return Masked(Augment(AugmentConfig(), Preprocess(size=16)), 16, 0.75)


def loader(views: MultiCrop | Masked, **options: int) -> Loader:
    return Loader(Pictures(), views, train=True, **{"batch": 8, "workers": 0, "seed": 3} | options)


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(one, other, strict=True)
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def test_the_sizes_are_those_that_were_asked_for() -> None:
    batch = loader(crops()).at(0)
    assert batch.image.shape == (8, 3, 16, 16)
    assert batch.views is not None and batch.views.shape == (8, 1, 3, 16, 16)
    assert batch.crops is not None and batch.crops.shape == (8, 3, 3, 8, 8)
    assert loader(crops((4, 0))).at(0).crops is None
    assert loader(crops((4, 0))).at(0).views.shape == (8, 3, 3, 16, 16)


def test_no_view_is_another_one() -> None:
    batch = loader(crops()).at(0)
    for first, second in ((batch.image, batch.views[:, 0]), (batch.crops[:, 0], batch.crops[:, 1])):
        assert (first != second).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("make", [crops, masked])
@pytest.mark.parametrize("workers", [1, 3])
def test_views_are_the_same_for_any_number_of_workers(make, workers: int) -> None:
    alone, together = loader(make()), loader(make(), workers=workers)
    steps = zip(alone.train(0, 12), together.train(0, 12), strict=True)
    assert all(same(a, b) for a, b in steps)


@pytest.mark.parametrize("make", [crops, masked])
def test_a_view_is_a_function_of_seed_epoch_and_sample(make) -> None:
    """Not of the other pictures of its batch, nor of the process that makes it."""
    whole, halves = loader(make()).at(7), [loader(make(), rank=rank, world=2).at(7) for rank in (0, 1)]
    joined = Batch(*(None if a is None else torch.cat([a, b]) for a, b in zip(*halves, strict=True)))
    assert same(joined, whole)
    epochs = [loader(make()).at(step) for step in (0, 5)]
    common = {int(i) for i in epochs[0].index} & {int(i) for i in epochs[1].index}
    assert common, "the sample is drawn in both epochs"
    for i in common:
        first, second = (batch.image[batch.index == i] for batch in epochs)
        assert not torch.equal(first, second)
    assert not same(loader(make(), seed=4).at(7), whole)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_as_many_patches_are_hidden_in_every_picture(share: float) -> None:
    views = Masked(Augment(AugmentConfig(), Preprocess(size=16)), 16, share)
    hidden = loader(views).at(0).hidden
    assert hidden is not None and hidden.dtype == torch.bool
    assert set(hidden.sum(dim=1).tolist()) == {round(share * 16)}
