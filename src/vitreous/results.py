"""What answers look like: the result for one picture, ready for a screen, a table or JSON.

Knows nothing of networks or of how an answer was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNFAMILIAR = 0.99
"""The share of validation pictures beyond which one is called unfamiliar: one in a hundred is so for no reason."""

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
        covering: the classes that hold the right one as often as was asked for, the most probable first; None where
            no coverage was asked for.
        unfamiliar: the share of the run's validation pictures that are more like its training pictures; None where
            the run cannot tell.
    """

    name: str
    classes: tuple[str, ...]
    probabilities: NDArray[np.floating[Any]] | None = None
    error: str | None = None
    notices: tuple[str, ...] = ()
    covering: tuple[str, ...] | None = None
    unfamiliar: float | None = None

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

    @property
    def is_unfamiliar(self) -> bool:
        """Whether the picture is unlike what the run was trained on, so that its answer means little."""
        return self.unfamiliar is not None and self.unfamiliar >= UNFAMILIAR

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
            "covering": None if self.covering is None else list(self.covering),
            "unfamiliar": self.unfamiliar,
            "error": self.error,
            "notices": list(self.notices),
        }

    @staticmethod
    def header(classes: Sequence[str]) -> list[str]:
        """The column names that `row` fills."""
        return [
            "name",
            "label",
            "confidence",
            "covering",
            "unfamiliar",
            "error",
            "notices",
            *(safe_cell(c) for c in classes),
        ]

    def row(self) -> list[str]:
        """Cells for a CSV writer: safe to open in a spreadsheet, and always encodable as UTF-8."""
        empty = [""] * len(self.classes)
        numbers = empty if self.probabilities is None else [f"{p:.6f}" for p in self.probabilities]
        sure = "" if self.confidence is None else f"{self.confidence:.6f}"
        strange = "" if self.unfamiliar is None else f"{self.unfamiliar:.6f}"
        held = "; ".join(self.covering or ())
        name, label, covering, error, notices = (
            safe_cell(t) for t in (self.name, self.label or "", held, self.error or "", "; ".join(self.notices))
        )
        return [name, label, sure, covering, strange, error, notices, *numbers]

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<{self.name}: unreadable, {self.error}>"
        return f"<{self.name}: " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in self.top(3)) + ">"


def safe_cell(text: str) -> str:
    """``text`` so that no spreadsheet takes it for a formula; bytes of a name that are not UTF-8 show as escapes."""
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "'" + clean if clean.startswith(FORMULA) else clean
