"""What every model of the catalogue costs at its own size, as a table, so that a list of models needs no torch.

``describe`` works the numbers out; ``bench/costs.py`` writes the table with it, and a test holds one against the other.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Cost(NamedTuple):
    """With a classifier of 1000 classes, for one square picture of the model's own size."""

    params: int
    macs: int


@cache
def costs() -> dict[str, Cost]:
    """Every name of the catalogue with its cost."""
    table = json.loads(files("vitreous.models").joinpath("costs.json").read_text("utf-8"))
    return {name: Cost(*numbers) for name, numbers in table.items()}
