"""Copies are found through saving, shrinking and brightening; other pictures are not taken for copies."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from vitreous.data.duplicates import difference_hash, exact_groups, near_groups, thumbnail, without_scenes


def cells_of(*images):
    return np.stack([thumbnail(np.asarray(image.convert("RGB")).transpose(2, 0, 1)) for image in images])


def groups_of(*images):
    cells = cells_of(*images)
    return near_groups(np.arange(len(images)), difference_hash(cells), cells).tolist()


def jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(
    "saved_again",
    [
        lambda image: jpeg(image, 30),
        lambda image: image.resize((100, 70), Image.Resampling.LANCZOS),
        lambda image: ImageEnhance.Brightness(image).enhance(1.05),
        lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE),
    ],
    ids=["jpeg", "resized", "brighter", "palette"],
)
def test_a_copy_saved_again_is_found(scene, saved_again):
    images = [scene(seed, 200, 140) for seed in range(30)]
    assert groups_of(*images, *(saved_again(image) for image in images)) == [*range(30), *range(30)]


def test_other_pictures_stay_apart(scene):
    assert groups_of(*(scene(seed) for seed in range(300))) == list(range(300))


def test_flat_pictures_share_a_hash_but_are_no_copies():
    pages = [Image.new("RGB", (60, 60), (level, level, level)) for level in range(200, 256)]
    assert len(set(difference_hash(cells_of(*pages)).tolist())) == 1
    assert groups_of(*pages) == list(range(len(pages)))


def test_another_thing_in_one_corner_is_another_picture(scene):
    plain = scene(0, 180, 160)
    other = plain.copy()
    ImageDraw.Draw(other).rectangle((0, 0, 39, 39), fill=(255, 0, 255))
    assert groups_of(plain, other) == [0, 1]


def test_likeness_is_handed_on(scene):
    a, b = (np.asarray(scene(seed, 90, 80)).astype(float) for seed in (1, 2))
    film = [Image.fromarray((a + (b - a) * t).astype(np.uint8)) for t in np.linspace(0, 1, 60)]
    assert set(groups_of(*film)) == {0}
    assert groups_of(film[0], film[-1]) == [0, 1]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (9, 8), (10, 9), (63, 64)])
def test_the_thumbnail_is_the_mean_of_its_cells(size):
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    cells = thumbnail(pixels)
    assert cells.shape == (3, 8, 9)
    for row, column in ((0, 0), (3, 4), (7, 8)):
        top, left = row * height // 8, column * width // 9
        bottom, right = max((row + 1) * height // 8, top + 1), max((column + 1) * width // 9, left + 1)
        mean = pixels[:, top:bottom, left:right].mean(axis=(1, 2))
        assert np.abs(cells[:, row, column] - mean).max() <= 0.5 + 1e-9


def test_the_search_agrees_with_comparing_everything(scene):
    rng = np.random.default_rng(0)
    base = cells_of(*(scene(seed) for seed in range(150)))
    noisy = np.clip(base + rng.normal(0, 6, base.shape), 0, 255).astype(np.uint8)
    cells = np.concatenate([base, noisy])
    hashes = difference_hash(cells)
    found = near_groups(np.arange(300), hashes, cells)
    distance = np.array([bin(int(hashes[i] ^ hashes[i + 150])).count("1") for i in range(150)])
    assert (found[150:][distance <= 7] == np.arange(150)[distance <= 7]).all()
    assert (distance <= 7).sum() > 50
    assert (found[150:][distance > 7] == np.arange(150, 300)[distance > 7]).all()


def test_exact_copies_are_found_by_digest():
    usable = np.array([True, True, True, False, True])
    assert exact_groups(["a", "b", "a", "a", "b"], usable).tolist() == [0, 1, 0, -1, 1]


def test_unusable_pictures_stay_out_of_every_group(scene):
    cells = cells_of(scene(0), scene(0), scene(0))
    assert near_groups(np.array([0, -1, 2]), difference_hash(cells), cells).tolist() == [0, -1, 0]


def test_a_class_of_one_scene_keeps_only_its_exact_copies_together():
    exact = np.array([0, 0, 2, 3, 4, 5, 6, -1])
    near = np.array([0, 0, 0, 0, 4, 4, 6, -1])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    groups, scenes = without_scenes(exact, near, labels)
    assert groups.tolist() == exact.tolist()
    assert scenes == [0, 1]
    groups, scenes = without_scenes(exact, near, np.array([0, 0, 0, 0, 0, 0, 0, 0]))
    assert groups.tolist() == near.tolist()  # three groups: enough for three sides
    assert scenes == []


def test_fifty_thousand_pictures_take_seconds(scene):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (50_000, 3, 4, 5)).repeat(2, axis=2).repeat(2, axis=3)[..., :9]
    cells = np.clip(coarse + rng.integers(-9, 10, (50_000, 3, 8, 9)), 0, 255).astype(np.uint8)
    cells[1::100] = cells[::100]
    start = time.perf_counter()
    groups = near_groups(np.arange(50_000), difference_hash(cells), cells)
    assert time.perf_counter() - start < 20  # 0.5 s on two idle cores
    assert (groups[1::100] == groups[::100]).all()
    assert len(np.unique(groups)) == 49_500
