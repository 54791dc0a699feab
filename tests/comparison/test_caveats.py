"""What runs say against a verdict, over constructed cases."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vitreous.comparison import caveats


def arm(name, steps, epochs=5.0, *, is_frozen=False, accuracy=0.8, floor=0.5, pictures=1000):
    runs = tuple(SimpleNamespace(steps=each, floor=floor) for each in steps)
    mean = {"epochs": epochs}.__getitem__
    right = (np.arange(pictures) < accuracy * pictures)[None].repeat(len(steps), axis=0).astype(float)
    return SimpleNamespace(name=name, runs=runs, is_frozen=is_frozen, mean=mean, right=right, accuracy=accuracy)


def test_what_went_well_is_not_spoken_of():
    assert caveats.of([arm("a", [100, 120]), arm("b", [7]), arm("c", [0, 0], 0.0, is_frozen=True)], timed=True) == []
    assert caveats.of([], timed=True) == []


def test_less_than_one_pass_is_named_with_its_share():
    (said,) = caveats.of([arm("a", [3, 3], 0.26), arm("b", [30, 30])], timed=False)
    assert "a (0.3)" in said and " b (" not in said and "more --budget" in said


@pytest.mark.parametrize(("timed", "count"), [(True, 1), (False, 0)])
def test_unequal_steps_in_equal_time_are_said_by_the_worst_arm(timed, count):
    said = caveats.of([arm("a", [100, 130]), arm("b", [100, 220, 150])], timed=timed)
    assert len(said) == count and all("b made 100 to 220 steps" in sentence for sentence in said)


def test_who_is_worse_than_what_hardly_sees_is_named():
    (said,) = caveats.of([arm("a", [9], accuracy=0.4), arm("b", [9]), arm("c", [9], accuracy=0.1)], timed=True)
    assert "50.0% of the test pictures" in said and "more often than a, c, so" in said and "too little" in said
    assert caveats.of([arm("a", [9], accuracy=0.1, floor=0.0)], timed=True) == []


def test_who_is_hardly_better_or_worse_is_not_called_so():
    (said,) = caveats.of([arm("a", [9], accuracy=0.49), arm("b", [9]), arm("c", [9], accuracy=0.52)], timed=True)
    assert "not clearly less often than a, c, so" in said and "too little" not in said
    few = [arm("a", [9], accuracy=0.6, pictures=50), arm("b", [9], accuracy=0.6)]
    assert "not clearly less often than a, so" in caveats.of(few, timed=True)[0]
