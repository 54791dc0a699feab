"""How accuracy grows with the number of training pictures, and what more of them would bring.

The error is fitted by ``a + b n^-c``, the power law of learning curves (Cortes et al. 1994; Hestness et al. 2017), with
``b`` at least 0, each point weighted by its variance. ``a`` may be negative: held at 0 or above, as an error that can
never be, it drew the curve flat where it is near 0, and 95 % intervals held the truth in 80 to 87 % of simulated cases
(tests/comparison/test_statistics.py). Fewer than four fractions cannot tell ``a`` from nothing, and with ``a`` held at
0 where it is 0.1 such intervals held the truth in 22 to 83 %: there the points stand for themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitreous.comparison.statistics import CONFIDENCE, Floats, Right, noise

_EXPONENTS = np.geomspace(0.03, 2.0, 40).tolist()
_REPLICATES = 2_000
_NOTHING = 0.001  # a tenth of a point
_FRACTIONS = 4  # that a law of three numbers needs at least


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law through a curve, and the gain that ``more`` pictures promise if it goes on.

    Attributes:
        floor, scale, exponent: a, b and c of the fit.
        gain: expected from ``more`` pictures beyond the most there were, as a share, with its 95 % interval.
    """

    floor: float
    scale: float
    exponent: float
    more: int
    gain: float
    low: float
    high: float

    def accuracy(self, pictures: float) -> float:
        """What the fit says of so many pictures."""
        return min(1.0, 1 - self.floor - self.scale * math.exp(-self.exponent * math.log(pictures)))


@dataclass(frozen=True, kw_only=True)
class Growth:
    """An arm's curve over training pictures.

    Attributes:
        pictures, accuracies: the points, from few pictures to many.
        seeds: of each point, the most.
        law: through them; None with too few of them.
    """

    name: str
    seeds: int
    pictures: tuple[int, ...]
    accuracies: tuple[float, ...]
    law: Law | None

    def sentence(self) -> str:
        """The extrapolation, or that there is none."""
        law = self.law
        if law is None:
            points = f"{len(self.pictures)} fractions do not tell what more training pictures would bring {self.name}"
            return f"{points}; give four or more, as in --fractions 0.1,0.25,0.5,1."
        what = f"{law.more:,} more training pictures for {self.name}"
        span = f"95 % interval {100 * law.low:.1f} to {100 * law.high:.1f}"
        if law.high < _NOTHING:
            return f"{what}: less than 0.1 points; its curve is flat."
        if law.low < _NOTHING:
            return f"{what}: its curve cannot tell what they would bring ({span} points){self.luck()}."
        return f"{what}: about +{100 * law.gain:.1f} points ({span}), if its curve goes on as it has{self.luck()}."

    def luck(self) -> str:
        """What is to be said of one seed, as the end of a sentence."""
        return "; one seed each, so luck of the seed is not in this interval" if self.seeds < 2 else ""


def growth(name: str, pictures: Sequence[int], right: Sequence[Right], *, seed: int = 0) -> Growth | None:
    """The curve through an arm's fractions; None with fewer than two of different sizes.

    Args:
        pictures: training pictures of each fraction, in any order.
        right: (s, n) of each, all on the same n test pictures.
        seed: of the bootstrap over test pictures, common to all fractions, and over seeds as in ``difference``.
    """
    order = np.argsort(pictures)
    sizes = np.array([pictures[i] for i in order], dtype=np.float64)
    if len(np.unique(sizes)) < max(2, len(sizes)):
        return None
    answers = [right[i] for i in order]
    errors = np.stack([1 - r.mean(axis=0) for r in answers], axis=1)  # (n, f)
    return Growth(
        name=name,
        seeds=max(map(len, answers)),
        pictures=tuple(int(v) for v in sizes),
        accuracies=tuple(float(v) for v in 1 - errors.mean(axis=0)),
        law=_law(sizes, errors, answers, np.random.default_rng(seed)) if len(sizes) >= _FRACTIONS else None,
    )


def _law(sizes: Floats, errors: Floats, answers: Sequence[Right], rng: np.random.Generator) -> Law:
    """The law through the means of (n, f) errors, and what it promises in each of many draws of them."""
    draws, variances = _draws(errors, answers, rng)
    more = _round(sizes[-1] / 4)
    fits = _fit(sizes, np.vstack([errors.mean(axis=0), draws]), 1 / variances)  # (1 + replicates, 3)
    gains = fits[:, 1] * (sizes[-1] ** -fits[:, 2] - (sizes[-1] + more) ** -fits[:, 2])
    low, high = np.quantile(gains[1:], (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    floor, scale, exponent = (float(v) for v in fits[0])
    return Law(
        floor=floor,
        scale=scale,
        exponent=exponent,
        more=more,
        gain=float(gains[0]),
        low=float(low),
        high=float(high),
    )


def _draws(errors: Floats, answers: Sequence[Right], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(replicates, f) mean errors as other pictures and other seeds might have given; (f,) their variances.

    Seeds are few, and differ the more the higher the error: their deviation is taken for a share of it, the same for
    all fractions.
    """
    n, mean = len(errors), errors.mean(axis=0)
    kinds, counts = np.unique(errors, axis=0, return_counts=True)
    draws = rng.multinomial(n, counts / n, size=_REPLICATES) @ kinds / n
    draws = mean + (draws - mean) * math.sqrt(n / (n - 1))
    variances = errors.var(axis=0, ddof=1) / n + 1 / n**2  # one picture is the least that may differ
    freedom = np.array([len(right) - 1 for right in answers])
    if freedom.any() and mean.any():
        between = np.array([noise(right)[0] for right in answers])
        share = max(0.0, float(freedom @ between / (freedom @ mean**2)))
        luck = share * mean**2 / np.array([len(right) for right in answers])
        draws += np.sqrt(luck) * rng.standard_t(freedom.sum(), draws.shape)
        variances = variances + luck
    return np.asarray(np.clip(draws, 0.0, 1.0)), variances


def _fit(sizes: Floats, errors: Floats, weights: Floats) -> Floats:
    """(r, f) errors -> (r, 3) of a, b, c: least squares, weighted by (f,), over a grid of c, b at least 0."""
    best = np.full(len(errors), np.inf)
    found = np.zeros((len(errors), 3))
    weights = weights / weights.sum()
    for exponent in _EXPONENTS:
        x = sizes**-exponent  # (f,)
        centred = x - weights @ x
        b = np.maximum(errors @ (weights * centred) / (weights @ centred**2), 0.0)  # 0: the curve is flat
        a = errors @ weights - b * (weights @ x)
        rest = (errors - a[:, None] - b[:, None] * x) ** 2 @ weights
        better = rest < best
        best[better] = rest[better]
        found[better] = np.stack([a, b, np.full(len(a), exponent)], axis=1)[better]
    return found


def _round(number: float) -> int:
    """One digit is all that such a number needs."""
    size = 10 ** max(0, math.floor(math.log10(max(number, 1.0))))
    return max(1, int(round(number / size) * size))
