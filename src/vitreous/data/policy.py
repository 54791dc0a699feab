"""The published augmentation policies: which operations a picture goes through, and how strongly.

A policy draws one picture's plan from its generator; data/augment.py carries plans out. Knows nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vitreous.data.augment import Plan, Step

Policy = Callable[[np.random.Generator], Plan]


class Range(NamedTuple):
    """How a strength in 0..1 becomes an operation's number: ``about +- (least + strength * (most - least))``."""

    least: float = 0.0
    most: float = 0.0
    about: float = 0.0
    signed: bool = False

    def at(self, strength: float, rng: np.random.Generator) -> float:
        size = self.least + strength * (self.most - self.least)
        return self.about + (-size if self.signed and rng.random() < 0.5 else size)


def _ranges(shear: float, translate: float, rotate: float, enhance: float, bits: int) -> dict[str, Range]:
    enhanced = Range(0, enhance, about=1, signed=True)
    return {
        "identity": Range(),
        "autocontrast": Range(),
        "equalise": Range(),
        "rotate": Range(0, rotate, signed=True),
        "solarise": Range(256, 0),
        "colour": enhanced,
        "posterise": Range(8, bits),
        "contrast": enhanced,
        "brightness": enhanced,
        "sharpness": enhanced,
        "shear_x": Range(0, shear, signed=True),
        "shear_y": Range(0, shear, signed=True),
        "translate_x": Range(0, translate, signed=True),
        "translate_y": Range(0, translate, signed=True),
    }


def randaugment(count: int, magnitude: float) -> Policy:
    """RandAugment (Cubuk et al. 2020, section 3): ``count`` of 14 operations, all at one magnitude of 0..10.

    Ranges are those of AutoAugment (Cubuk et al. 2019, appendix, list of transformations); shears keep the centre.
    """
    table = list(_ranges(shear=0.3, translate=150 / 331, rotate=30, enhance=0.9, bits=4).items())

    def draw(rng: np.random.Generator) -> Plan:
        chosen = (table[i] for i in rng.integers(len(table), size=count))
        return [Step(name, allowed.at(magnitude / 10, rng)) for name, allowed in chosen]

    return draw


def trivialaugment(side: int) -> Policy:
    """TrivialAugment, wide (Müller & Hutter 2021, section 3): one operation at one of 31 strengths.

    Translations reach 32 pixels whatever the picture's ``side``, as in the paper.
    """
    table = list(_ranges(shear=0.99, translate=min(1.0, 32 / side), rotate=135, enhance=0.99, bits=2).items())

    def draw(rng: np.random.Generator) -> Plan:
        name, allowed = table[rng.integers(len(table))]
        return [Step(name, allowed.at(rng.integers(31) / 30, rng))]

    return draw


def three_augment(rng: np.random.Generator) -> Plan:
    """3-Augment (Touvron et al. 2022, "DeiT III", section 3): grey, solarise or blur; then colour jitter of 0.3."""
    first = (Step("grey", 0.0), Step("solarise", 128.0), Step("blur", rng.uniform(0.1, 2.0)))[rng.integers(3)]
    jitter = [Step(name, rng.uniform(0.7, 1.3)) for name in ("brightness", "contrast", "colour")]
    return [first, *(jitter[i] for i in rng.permutation(3))]
