"""What a classifier that hardly sees would get on the same pictures: the floor that a network has to clear.

A logistic regression on thumbnails of 8 x 9 pixels knows colours and the coarsest shapes alone. A network that is no
better has not learned to see: it wants more time, or is too large for so few pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitreous.analyse import probe
from vitreous.data.prepare import Prepared, Side

_MOST = 2_000  # training pictures; more would cost more time than they tell
_CLASSES = 200  # beyond which it would take too long
_PENALTIES = probe.PENALTIES[:3]  # the weaker ones take longest; no clock ends it, so that a run repeats bit for bit


def floor(prepared: Prepared) -> dict[str, Any]:
    """``{"side", "accuracy", "pictures"}``: where it was asked, how often it was right, and of how many it learned.

    The thumbnails are those by which copies were looked for, so no picture is opened. Validation chooses the penalty.
    Empty where nothing is held out, where there are hundreds of classes, or where all that it may learn is of one.
    """
    held: list[Side] = [side for side in ("test", "val") if len(prepared.indices(side))]
    train, known = _seen(prepared, "train")
    classes = len(prepared.classes)
    if not held or classes > _CLASSES or len(np.unique(known)) < 2:
        return {}
    chooses = _seen(prepared, "val") if len(prepared.indices("val")) else None
    solved = probe.logistic(train, known, chooses, classes=classes, penalties=_PENALTIES)
    asked, true = _seen(prepared, held[0], most=None)
    return {"side": held[0], "accuracy": probe.right(solved.logits(asked), true), "pictures": len(known)}


def _seen(prepared: Prepared, side: Side, most: int | None = _MOST) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """((n, d) thumbnails from 0 to 1, (n,) labels); which of the pictures hangs on their contents alone."""
    numbers = prepared.indices(side)[:most]
    pixels = prepared.survey.thumbnails[numbers].reshape(len(numbers), -1)
    return pixels / 255.0, prepared.source.labels[numbers]
