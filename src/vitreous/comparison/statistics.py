"""How sure a comparison is: intervals over seeds and over pictures, paired differences, and what would tell.

``right`` is always (s, n) bool: whether the run of each seed answered each picture of the test part rightly. All arms
answer the same pictures; their seeds have nothing to do with each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from vitreous.analyse.scores import wilson

Right = NDArray[np.bool_]
Floats = NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
POWER = 0.8
REPLICATES = 20_000
_Z = NormalDist().inv_cdf


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean accuracy of one arm less that of another, on the same pictures.

    Attributes:
        value: the difference, from -1 to 1.
        low, high: 95 % interval over pictures, and over seeds where each arm has two or more.
        by_picture: variance of one picture's difference, averaged over the seeds at hand.
        by_answer: the part of it, for one seed, that further seeds would average away.
        by_seed: variance of one seed's accuracy beyond that of its single answers, of both arms together.
        pictures, seeds: how many there were; of seeds the smaller number.
    """

    value: float
    low: float
    high: float
    by_picture: float
    by_answer: float
    by_seed: float
    pictures: int
    seeds: int

    @property
    def told(self) -> bool:
        """Whether the data tells the two apart."""
        return self.low > 0 or self.high < 0

    def reversed(self) -> Difference:
        """The same with the arms changed over."""
        rest = (self.by_picture, self.by_answer, self.by_seed, self.pictures, self.seeds)
        names = ("by_picture", "by_answer", "by_seed", "pictures", "seeds")
        return Difference(value=-self.value, low=-self.high, high=-self.low, **dict(zip(names, rest, strict=True)))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What would tell two arms apart, four times in five, if they differ by as much as they seem to.

    ``None`` where that alone would never do.
    """

    pictures: int | None  # of the test part, in all
    seeds: int | None  # an arm, in all


def over_seeds(accuracies: Floats | list[float]) -> Interval | None:
    """Student's t interval of the mean over seeds; None with a single one."""
    values = np.asarray(accuracies, dtype=np.float64)
    if len(values) < 2:
        return None
    mean, half = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    half *= float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2))
    return max(0.0, mean - half), min(1.0, mean + half)


def over_pictures(right: Right) -> Interval:
    """Wilson's interval of the mean accuracy, for as many pictures as the answers of all seeds amount to.

    Seeds that answer alike add nothing to one of them, seeds that err at random make the pictures count for more: the
    number is that at which one seed would have the variance seen (Korn and Graubard 1998).
    """
    shares = right.mean(axis=0)
    mean, spread = float(shares.mean()), float(shares.var())
    count = right.shape[1] * (mean * (1 - mean) / spread if spread > 0 else 1.0)
    return wilson(mean * count, count)


def difference(a: Right, b: Right, *, replicates: int = REPLICATES, seed: int = 0) -> Difference:
    """The paired bootstrap: ``a`` less ``b``.

    Pictures are drawn with replacement, the same ones for both arms. To them come one picture that only ``a`` answers
    and one that only ``b`` does (Bonett and Price 2012): arms that never disagreed on a few pictures are not
    thereby equal. A few seeds are too few to be drawn from. Where they differ by more than their single answers explain
    (two-way analysis of variance), the luck of seed and answer is drawn from Student's distribution instead, with each
    arm's own variance of the mean over seeds (Welch 1947), and the pictures' draws keep what is left. An arm with one
    seed has the variance of the other's.

    Args:
        a, b: (s, n) and (t, n).
        replicates: draws; the interval's ends are their 2.5 % and 97.5 % quantiles.
        seed: of the draws.
    """
    n = a.shape[1]
    rng = np.random.default_rng(seed)
    gains = np.append(a.mean(axis=0) - b.mean(axis=0), (1.0, -1.0))  # (n + 2,)
    draws = _means(gains, replicates, rng)
    first, second = _luck(a if len(a) > 1 else b), _luck(b if len(b) > 1 else a)
    between, answer = first.between + second.between, first.answer + second.answer
    if between > 0:
        known = np.array([first.answer / (n * len(a)), second.answer / (n * len(b))])  # the pictures' draws hold it too
        means = known + np.array([first.between / len(a), second.between / len(b)])  # variances of the means over seeds
        freedom = means.sum() ** 2 / (means**2 / (first.freedom, second.freedom)).sum()
        left = max(0.0, 1 - known.sum() * len(gains) / float(gains.var(ddof=1)))
        draws = gains.mean() + math.sqrt(left) * (draws - gains.mean())
        draws += math.sqrt(means.sum()) * rng.standard_t(freedom, replicates)
    low, high = np.quantile(draws, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return Difference(
        value=float(gains[:n].mean()),
        low=max(-1.0, float(low)),
        high=min(1.0, float(high)),
        by_picture=float(gains.var(ddof=1)),
        by_answer=answer,
        by_seed=between,
        pictures=n,
        seeds=min(len(a), len(b)),
    )


class _Luck(NamedTuple):
    """Why one arm's seeds differ."""

    between: float  # variance of a seed's accuracy that single answers do not explain, at least 0
    answer: float  # variance of a single answer
    freedom: int


def _luck(right: Right) -> _Luck:
    between, answer = noise(right)
    return _Luck(max(0.0, between), answer, max(1, len(right) - 1))


def needed(found: Difference) -> Needed:
    """How many pictures, or seeds, would tell (normal approximation, two-sided at 5 %, power 80 %)."""
    enough = (found.value / (_Z(0.5 + CONFIDENCE / 2) + _Z(POWER))) ** 2  # variance at which it would
    from_seeds = found.by_seed / found.seeds
    pictures = found.by_picture / (enough - from_seeds) if enough > from_seeds else math.inf
    lasting = max(0.0, found.by_picture - found.by_answer / found.seeds) / found.pictures
    falling = found.by_seed + found.by_answer / found.pictures
    seeds = falling / (enough - lasting) if enough > lasting and falling > 0 else math.inf
    return Needed(pictures=_whole(pictures), seeds=_whole(seeds))


def _whole(number: float) -> int | None:
    return math.ceil(number) if number < 1e9 else None


def _means(values: Floats, replicates: int, rng: np.random.Generator) -> Floats:
    """Means of ``values`` drawn with replacement, spread by what n - 1 degrees of freedom lack."""
    kinds, counts = np.unique(values, return_counts=True)
    n = len(values)
    means = rng.multinomial(n, counts / n, size=replicates) @ kinds / n
    return np.asarray(values.mean() + (means - values.mean()) * math.sqrt(n / (n - 1)))


def noise(right: Right) -> tuple[float, float]:
    """(variance between seeds that single answers do not explain, variance of a single answer).

    The first is an estimate without bias, and so may be negative.
    """
    s, n = right.shape
    if s < 2:
        return 0.0, 0.0
    by_seed, by_picture = right.mean(axis=1), right.mean(axis=0)
    rest = right - by_seed[:, None] - by_picture[None] + right.mean()
    answer = float((rest**2).sum()) / ((s - 1) * (n - 1)) if n > 1 else 0.0
    return float(by_seed.var(ddof=1)) - answer / n, answer
