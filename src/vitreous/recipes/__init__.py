"""Functions that return a complete run. What a user leaves open is chosen here, from the data, with the reason."""

from __future__ import annotations

from vitreous.recipes.auto import choose
from vitreous.recipes.saved import adjust, repeat
from vitreous.recipes.scratch import transformer
from vitreous.recipes.wishes import Wishes, named

__all__ = ["Wishes", "adjust", "choose", "named", "repeat", "transformer"]
