"""What answers look like: the result for one picture, ready for a screen, a table or JSON.

Knows nothing of networks or of how an answer was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Classes:
    """What one picture was taken for, or why it could not be read.

    Attributes:
        name: the picture's path or name, as it was given.
        classes: the k names the model knows.
        probabilities: (k,) float, sums to 1; None when the picture could not be read.
        error: the reason, when there is no answer.
        notices: what a careful reader should know, such as "only the first of 12 frames was used".
    """

    name: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]] | None = None
    error: str | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.probabilities is None) == (self.error is None):
            raise ValueError("a result has either probabilities or an error.")
        if self.probabilities is not None and self.probabilities.shape != (len(self.classes),):
            raise ValueError(f"{self.probabilities.shape} probabilities do not fit {len(self.classes)} classes.")

    @property
    def label(self) -> str | None:
        """The most probable class, or None when the picture could not be read."""
        return None if self.probabilities is None else self.classes[int(self.probabilities.argmax())]

    @property
    def confidence(self) -> float | None:
        """The probability of ``label``."""
        return None if self.probabilities is None else float(self.probabilities.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The ``k`` most probable classes with their probabilities, best first; empty without an answer."""
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``probabilities`` maps every class to its probability."""
        known = {} if self.probabilities is None else dict(self.top(len(self.classes)))
        return {
            "name": self.name,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": known,
            "error": self.error,
            "notices": list(self.notices),
        }

    @staticmethod
    def header(classes: Sequence[str]) -> list[str]:
        """The column names that `row` fills."""
        return ["name", "label", "confidence", "error", "notices", *(safe_cell(c) for c in classes)]

    def row(self) -> list[str]:
        """Cells for a CSV writer: safe to open in a spreadsheet, and always encodable as UTF-8."""
        empty = [""] * len(self.classes)
        numbers = empty if self.probabilities is None else [f"{p:.6f}" for p in self.probabilities]
        sure = "" if self.confidence is None else f"{self.confidence:.6f}"
        texts = [safe_cell(t) for t in (self.name, self.label or "", self.error or "", "; ".join(self.notices))]
        return [texts[0], texts[1], sure, texts[2], texts[3], *numbers]

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<{self.name}: unreadable, {self.error}>"
        return f"<{self.name}: " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in self.top(3)) + ">"


def safe_cell(text: str) -> str:
    """``text`` so that no spreadsheet takes it for a formula; bytes of a name that are not UTF-8 show as escapes."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "'" + clean if clean.startswith(FORMULA) else clean
