"""What the runs themselves say against the verdict: too little learned, or a machine that had other things to do.

Pure: numbers in, words out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitreous.comparison.standing import Standing
from vitreous.comparison.statistics import over_pictures

_UNEVEN = 1.25  # ratio of two seeds' steps in the same time above which the machine was not the same for both


def of(arms: Sequence[Standing], *, timed: bool) -> list[str]:
    """Sentences, where there is something to be said.

    Args:
        arms: with finished runs, that all learned from all pictures.
        timed: that the same time was to be the same chance; else unequal steps were asked for.
    """
    trained = [arm for arm in arms if not arm.is_frozen]
    said = [_short(trained), _blind(arms)]
    if timed:
        said.append(_uneven(trained))
    return [sentence for sentence in said if sentence]


def _short(arms: Sequence[Standing]) -> str:
    """That some arms did not see every picture once."""
    short = [f"{arm.name} ({arm.mean('epochs'):.1f})" for arm in arms if arm.mean("epochs") < 1]
    if not short:
        return ""
    return f"Too short to judge what made less than one pass over the pictures: {', '.join(short)}; give more --budget."


def _blind(arms: Sequence[Standing]) -> str:
    """That some arms are no better than what hardly sees."""
    floor = max((run.floor for arm in arms for run in arm.runs), default=0.0)
    if not floor:
        return ""
    below, alike = [], []
    for arm in arms:
        low, high = over_pictures(arm.right)  # the floor is as uncertain, so their difference 1.4 times as much
        if floor > arm.accuracy + math.sqrt(2) * (high - arm.accuracy):
            below.append(arm.name)
        elif floor > arm.accuracy - math.sqrt(2) * (arm.accuracy - low):
            alike.append(arm.name)
    said = []
    if below:
        said.append(f"more often than {', '.join(below)}, so too little was learned there to be judged")
    if alike:
        said.append(f"not clearly less often than {', '.join(alike)}, so see if more --budget helps")
    known = f"A linear classifier on thumbnails of 8 x 9 pixels is right on {floor:.1%} of the test pictures"
    return f"{known}, {'; '.join(said)}." if said else ""


def _uneven(arms: Sequence[Standing]) -> str:
    """That seeds of one arm had unequal chances, by the arm where that is worst."""
    spread = {arm.name: sorted(run.steps for run in arm.runs) for arm in arms}
    name, steps = max(spread.items(), key=lambda item: item[1][-1] / max(item[1][0], 1), default=("", [1]))
    if steps[-1] <= _UNEVEN * steps[0]:
        return ""
    return (
        f"The machine had other things to do: {name} made {steps[0]:,} to {steps[-1]:,} steps in the same time, so the "
        "arms did not all have the same chance; repeat it on a quiet machine, or with --equal steps."
    )
