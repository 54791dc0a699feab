"""What the runs themselves say against the verdict: too little learned, or a machine that had other things to do.

Pure: numbers in, words out.
"""

from __future__ import annotations

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
    below = [arm.name for arm in arms if over_pictures(arm.right)[1] < floor]
    alike = [arm.name for arm in arms if over_pictures(arm.right)[0] <= floor and arm.name not in below]
    said = f"A linear classifier on thumbnails of 8 x 9 pixels is right on {floor:.1%} of the test pictures"
    if below:
        return f"{said}, more often than {', '.join(below)}: too little was learned there to be judged."
    if alike and floor:
        why = "either these pictures ask for no more, or more --budget is needed"
        return f"{said}, and {', '.join(alike)} cannot be shown to be better: {why}."
    return ""


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
