"""The result of a comparison, for programs: every arm, the differences that were tested, and the sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitreous.comparison.efficiency import Growth
from vitreous.comparison.onward import onward
from vitreous.comparison.question import Question
from vitreous.comparison.standing import Standing
from vitreous.comparison.statistics import Difference


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of a comparison.

    Attributes:
        arms: best on validation first, those that failed last; smaller fractions of the pictures come after.
        verdict: one sentence: which to use, by how much and at what cost, or that the data cannot tell.
        remarks: further sentences, such as whether attention earned its time.
        use: the arm that the verdict says to take; None where it recommends none.
        pairs: the differences that these speak of: (name, name, first less second).
        equal: what all arms had the same of, in words.
        growth: over the fractions of the training pictures, the best arm first; empty without fractions.
        folder: where the runs, comparison.json and comparison.html lie.
    """

    question: Question
    arms: tuple[Standing, ...]
    verdict: str
    remarks: tuple[str, ...]
    use: Standing | None
    pairs: tuple[tuple[str, str, Difference], ...]
    equal: str
    growth: tuple[Growth, ...]
    data: dict[str, Any]
    folder: Path

    @property
    def whole(self) -> tuple[Standing, ...]:
        """The arms that learned from the largest fraction of the pictures."""
        most = max(self.question.fractions)
        return tuple(arm for arm in self.arms if arm.arm.fraction == most)

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "comparison.html"

    @property
    def onward(self) -> dict[str, str]:
        """What to type next: ``predict``, and to train longer ``train``; empty where no arm is recommended."""
        return onward(self.use) if self.use else {}

    def __repr__(self) -> str:
        done = sum(bool(arm.runs) for arm in self.arms)
        return f"<comparison of {done} arms in {self.folder}: {self.verdict}>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values: what comparison.json holds."""
        return {
            "question": asdict(self.question),
            "data": self.data,
            "equal": self.equal,
            "verdict": self.verdict,
            "remarks": list(self.remarks),
            "use": None if self.use is None else {"name": self.use.name, **self.onward},
            "method": METHOD,
            "pairs": [{"first": a, "second": b, **asdict(found)} for a, b, found in self.pairs],
            "growth": [asdict(curve) for curve in self.growth],
            "arms": [arm.to_dict() for arm in self.arms],
        }


METHOD = (
    "Arms are ranked by their accuracy on the validation part and measured on the test part, which chose nothing. "
    "Intervals are 95 %: over seeds Student's t; over pictures Wilson's, for the number of pictures that the answers "
    "of all seeds amount to. Differences are paired by picture: 20,000 bootstrap draws of the pictures, with one added "
    "for each side (Bonett and Price 2012), and Student's t for the luck of the seeds, with each arm's own variance "
    "(Welch 1947), where it goes beyond that of single answers. Where arms vary unlike each other the interval misses "
    "the truth in 6 to 7 % of cases with three seeds, and in 8 to 9 % with two. "
    "What would tell is worked out for a power of 80 %."
)
