"""What to type next: the commands that use the arm that a comparison recommends, and that train it for longer."""

from __future__ import annotations

import shlex

from vitreous import duration
from vitreous.comparison.question import AUTO
from vitreous.comparison.standing import Standing
from vitreous.recipes.wishes import LENGTHS, named

_LONGER = 4  # times what it had


def onward(arm: Standing) -> dict[str, str]:
    """``predict`` with the seed that is best on validation, and ``train`` with the recipe for a longer time."""
    best = max(arm.runs, key=lambda run: run.validation)
    found = {"predict": shlex.join(["vitreous", "predict", str(best.folder), "YOUR-PICTURE.jpg"])}
    if arm.arm.wishes is not None and not arm.is_frozen:
        found["train"] = shlex.join(["vitreous", "train", *_words(arm)])
    return found


def _words(arm: Standing) -> list[str]:
    """The wishes of the arm as words of a command line."""
    wishes, run = arm.arm.wishes, arm.arm.run
    assert wishes is not None and run is not None
    words = [wishes.data]
    for option, value, usual in (
        ("--model", wishes.model, AUTO),
        ("--recipe", wishes.recipe, "auto"),
        ("--size", wishes.size, None),
        ("--weights", wishes.weights, None),
        ("--teacher", wishes.teacher, None),
    ):
        if value != usual:
            words += [option, str(value)]
    if wishes.pretrained:
        words.append("--pretrained")
    changes = {name: value for name, value in named(wishes.set).items() if name not in LENGTHS}
    if wishes.weights is None:  # which say for themselves what network they are of
        own = {f"network.options.{name}": str(value) for name, value in run.network.options.items()}
        changes = {**{k: v for k, v in own.items() if (k, v) != ("network.options.mixer", "attention")}, **changes}
    for name, value in changes.items():
        words += ["--set", f"{name}={value}"]
    took = max(each.minutes for each in arm.runs)
    return [*words, "--budget", duration.show(_LONGER * 60 * took)]
