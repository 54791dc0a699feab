"""Whether learning without labels was worth it: the network that did, against itself from scratch.

Two questions, each with its own interval: what it brings where fine-tuning takes as long as training from scratch; and
what is left of that when the time of learning without labels is given to training from scratch. The seeds are those of
what followed: how much another run of learning without labels would have brought, nobody knows, and it is said. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vitreous.comparison.statistics import Difference, difference
from vitreous.comparison.verdict import Contender, Pair, gap, of_seeds

_HELPED = {1: "helped", 0: "did not help, as far as {:,} test pictures can tell", -1: "did harm"}
_ONE_RUN = "; of one run of pretraining, whose own luck is not in any interval here"
_WORTH = {1: "was worth its time", 0: "did not show that it was worth its time", -1: "was not worth its time"}


class Learner(Contender, Protocol):
    """What this verdict needs to know of an arm besides; see ``arms.Arm``."""

    @property
    def unlearned(self) -> str: ...
    @property
    def longer(self) -> str: ...
    @property
    def is_frozen(self) -> bool: ...


def worth(ranked: Sequence[Learner]) -> tuple[str, list[Pair]]:
    """The sentence and the differences that it speaks of; nothing where no weights were learned without labels.

    Args:
        ranked: arms, best on validation first. The best that began with such weights, trained or frozen, is judged.
    """
    best = next((arm for arm in ranked if arm.unlearned), None)
    named = {arm.name: arm for arm in ranked}
    if best is None or best.unlearned not in named:
        return "", []
    pairs = [_pair(best, named[best.unlearned])]
    if best.longer in named:
        pairs.append(_pair(best, named[best.longer]))
    alone = "the same network from scratch with as much fine-tuning"
    if best.is_frozen:
        alone = "the same network trained from scratch (these weights were not trained further)"
    against = (alone, "it with the time of pretraining on top")
    said = [f"{gap(p.found, signed=True)} against {words}" for p, words in zip(pairs, against, strict=False)]
    text = f"{_told(pairs)}: {best.name} gets {best.accuracy:.1%} of the test pictures right, {' and '.join(said)}"
    return f"{text}{_ONE_RUN}{of_seeds(pairs[0].found)}.", pairs


def _pair(best: Contender, other: Contender) -> Pair:
    return Pair(best, other, difference(best.right, other.right))


def _told(pairs: Sequence[Pair]) -> str:
    """What the differences amount to, in the order of ``worth``."""
    gain, *rest = (_sign(p.found) for p in pairs)
    text = f"Pretraining {_HELPED[gain].format(pairs[0].found.pictures)}"
    if not rest:
        return f"{text}; its own time is not counted here"
    if gain <= 0 <= rest[0]:  # where longer training from scratch did harm, the numbers say so
        return text
    return f"{text}{' and' if gain == rest[0] == 1 else ', but' if gain > 0 else ', and'} {_WORTH[rest[0]]}"


def _sign(found: Difference) -> int:
    """1 where the interval lies above nothing, -1 below, 0 where it holds it."""
    return (found.low > 0) - (found.high < 0)
