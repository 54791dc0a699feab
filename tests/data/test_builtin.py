"""The built-in sets: real, deterministic, and not to be had cheaply."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from vitreous.data.builtin import SHAPES, TEXTURES, digits, open_builtin, shapes
from vitreous.data.dataset import BUILTIN, open_source
from vitreous.data.image import decode
from vitreous.errors import UsageError


def test_every_name_opens():
    for name in BUILTIN:
        source = open_source(name)
        pixels = decode(source.read(0)).pixels
        assert source.root == name and len(source) > 1000
        assert pixels.shape == ((3, 32, 32) if name == "digits" else (3, 64, 64))
    with pytest.raises(UsageError):
        open_builtin("letters")


def test_digits_are_the_real_ones():
    source, table = digits(), load_digits()
    assert len(source) == 1797 and source.classes == tuple("0123456789")
    assert np.array_equal(source.labels, table.target)
    small = source.images.reshape(-1, 8, 4, 8, 4).mean((2, 4))
    assert np.corrcoef(small.ravel(), table.images.ravel())[0, 1] > 0.97


def test_shapes_are_the_same_everywhere():
    first = shapes(count=6)
    assert np.array_equal(first.images, shapes(count=9).images[:6])
    assert not np.array_equal(first.images, shapes(count=6, seed=1).images)
    coarse = (first.images // 64).tobytes()  # the last bit may depend on the sine of the machine
    assert hashlib.sha256(coarse).hexdigest()[:16] == "08a2c991cf86719e"


@pytest.mark.parametrize("rule", ["both", "local", "global"])
def test_labels_masks_and_classes_agree(rule):
    source = shapes(rule=rule, count=120)
    counts = np.bincount(source.labels, minlength=len(source.classes))
    assert counts.min() == counts.max()
    for i in range(len(source)):
        mask = source.mask(i)
        assert mask.dtype == np.uint8 and mask.shape == (64, 64)
        found = set(np.unique(mask)) - {0}
        name = source.classes[source.labels[i]]
        if rule == "both":
            assert found == {SHAPES.index(name.split()[0]) + 1} and name.split()[1] in TEXTURES
        elif rule == "local":
            assert len(found) == 1
        else:
            assert len(found) == (1 if name == "same" else 2)
        assert 0.05 < (mask > 0).mean() < 0.45


@pytest.mark.parametrize("rule", ["both", "local", "global"])
def test_colours_alone_tell_nothing(rule):
    source = shapes(rule=rule, count=1200)
    flat = source.images.reshape(len(source), -1, 3).astype(float)
    colours = np.concatenate([flat.mean(1), flat.std(1), flat.min(1), flat.max(1)], 1)
    forest = RandomForestClassifier(60, random_state=0).fit(colours[:900], source.labels[:900])
    assert forest.score(colours[900:], source.labels[900:]) < 1 / len(source.classes) + 0.1
