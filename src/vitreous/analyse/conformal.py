"""Sets of classes that hold the right one as often as was asked for, whatever the model: split conformal prediction.

The score is LAC's: what the model gives the right class (Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued
Classifiers With Bounded Error Levels", section 2). A set holds every class that is given at least a threshold, the
lowest that held-out pictures allow with the finite-sample correction of Vovk et al. 2005 (Romano, Sesia and Candès
2020, Theorem 1). LAC rather than APS or RAPS because its sets are the smallest on average of all with one coverage
(Sadinle, Theorem 1), because it needs neither a random draw nor numbers of its own to be tuned, and because the tail
of small probabilities, which few pictures calibrate badly, does not enlarge them. Its price: pictures that are hard
are covered less often than easy ones, and its sets may be empty. The first answer is therefore always taken in, which
can only raise the coverage.

Knows probabilities and labels; nothing of classes' names or of pictures.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse.calibration import Floats, Numbers
from vitreous.errors import UsageError


def conformity(probabilities: Numbers, labels: Numbers) -> Floats:
    """(n,) what (n, k) ``probabilities`` give the right class of each picture, rising."""
    return np.sort(np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels])


def pictures_needed(coverage: float) -> int:
    """The fewest held-out pictures with which sets of this coverage can be had at all: n >= 1 / (1 - coverage) - 1.

    Raises:
        UsageError: the coverage does not lie between 0 and 1.
    """
    share = _exact(coverage)
    return math.ceil(share / (1 - share))


def threshold(scores: Floats, coverage: float) -> float:
    """The probability from which on a class belongs to the set.

    On pictures that are exchangeable with the ``n`` held-out ones, a set holds the right class with a probability of
    at least ``coverage``: it is the ceil((n + 1) coverage)-th largest of their scores, for the new picture's own is as
    likely to have any of the n + 1 ranks as any other.

    Args:
        scores: (n,) from `conformity`, rising.
        coverage: between 0 and 1.

    Raises:
        UsageError: the coverage does not lie between 0 and 1, or asks for more held-out pictures than there are.
    """
    n, needed = len(scores), pictures_needed(coverage)
    if n < needed:
        most = f"ask for at most {math.floor(1000 * n / (n + 1)) / 1000:g}, or " if n else ""
        raise UsageError(
            f"Sets with a coverage of {coverage:g} need {needed:,} validation pictures and this run has {n:,}; "
            f"{most}train with more of them, as with --set data.val=0.3."
        )
    rank = math.ceil((n + 1) * _exact(coverage))
    return float(scores[n - rank])


def prediction_sets(probabilities: Numbers, lowest: float) -> NDArray[np.bool_]:
    """(n, k) which classes belong to the set of each picture: all of at least ``lowest``, and always the first answer.

    Args:
        probabilities: (n, k), at the temperature of the scores.
        lowest: from `threshold`.
    """
    likely: NDArray[Any] = np.asarray(probabilities)
    held = likely >= lowest
    if len(likely):
        held[np.arange(len(likely)), likely.argmax(axis=1)] = True
    return held


def _exact(coverage: float) -> Fraction:
    """The share as it was written: 0.9 is nine tenths, so that no rounding asks for one picture more.

    Raises:
        UsageError: it does not lie between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise UsageError(f"A coverage lies between 0 and 1, not at {coverage:g}; 0.9 is common.")
    return Fraction(repr(float(coverage)))
